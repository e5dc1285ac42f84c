package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"vaglio"
	"vaglio/history"
)

// DefaultMaturity is how long a request must have aged before silence means that it was clean.
const DefaultMaturity = 30 * vaglio.Day

// DefaultRailMaturity is what rails need on which the customer can take a payment back for long.
var DefaultRailMaturity = map[string]vaglio.Instant{"card": 90 * vaglio.Day, "direct_debit": 90 * vaglio.Day}

// maturity is the age from which a request's label, or the lack of one, counts: that of its rail, and no less than base.
type maturity struct {
	base   vaglio.Instant
	byRail map[string]vaglio.Instant
}

// maturityOf is what was asked for: 0 and nil together mean the defaults. Whoever names one age for all means all rails.
func maturityOf(base vaglio.Instant, byRail map[string]vaglio.Instant) maturity {
	if base == 0 && byRail == nil {
		byRail = DefaultRailMaturity
	}
	return maturity{cmp.Or(base, DefaultMaturity), byRail}
}

func (m maturity) of(rail string) vaglio.Instant { return max(m.base, m.byRail[rail]) }

// settled tells whether a request is old enough at the cut for its label, or the lack of one, to count.
func (r *Row) settled(cut vaglio.Instant, m maturity) bool { return r.At+m.of(r.Rail) <= cut }

// Verdict is what is known of a request at a cut.
type Verdict uint8

// The verdicts.
const (
	Silent     Verdict = iota // nothing was said: clean, once the request is mature
	Unlabelled                // what was said tells nothing, and neither does silence
	Clean
	Fraud
)

// Label is what evidence says of a request.
type Label struct {
	Verdict   Verdict
	Weight    float64 // in training, 0 to 1; 0 is left out
	FraudType string  // "" if clean or unknown
}

// labelRule is one row of the table of what an event says of a request. Of the rows of a kind the first that fits holds.
type labelRule struct {
	kind    string
	sources []string // of attributes.source; nil: any, or none
	ofType  string   // attributes.fraud_type must be this; "": anything
	after   string   // the request must have been paid (refund_paid) or denied (refund_denied) before; "": whatever became of it
	reason  string   // the request must have claimed this; "": anything
	says    Verdict
	weight  float64
	means   string // the fraud type, unless the event says another
}

// labelRules is the table of docs/models.md, Labels. The second spelling of a source is the simulator's.
var labelRules = []labelRule{
	{kind: vaglio.KindFraudConfirmed, sources: []string{vaglio.SourceReview, "reviewer"}, says: Fraud, weight: 0.5},
	{kind: vaglio.KindFraudConfirmed, sources: []string{vaglio.SourceVictimReport}, says: Fraud, weight: 1, means: "third_party"},
	{kind: vaglio.KindFraudConfirmed, says: Fraud, weight: 1},
	{kind: vaglio.KindFraudCleared, sources: []string{vaglio.SourceReview, "reviewer"}, says: Clean, weight: 0.8},
	{kind: vaglio.KindFraudCleared, says: Clean, weight: 1},
	{kind: vaglio.KindRecallRequested, ofType: "mule", says: Fraud, weight: 1, means: "mule"},
	{kind: vaglio.KindChargeback, after: vaglio.KindRefundPaid, says: Fraud, weight: 1, means: "first_party"},
	{kind: vaglio.KindPaymentReturned, after: vaglio.KindRefundPaid, says: Fraud, weight: 1, means: "first_party"},
	{kind: vaglio.KindChargeback, after: vaglio.KindRefundDenied, says: Unlabelled},
	{kind: vaglio.KindPaymentReturned, after: vaglio.KindRefundDenied, says: Unlabelled},
	{kind: vaglio.KindDisputeWon, reason: "unauthorised", says: Fraud, weight: 1, means: "first_party"},
	{kind: vaglio.KindDisputeLost, after: vaglio.KindRefundDenied, says: Clean, weight: 1},
}

// labelKinds are the events that the table reads.
var labelKinds = func() (kinds []string) {
	for i := range labelRules {
		if !slices.Contains(kinds, labelRules[i].kind) {
			kinds = append(kinds, labelRules[i].kind)
		}
	}
	return kinds
}()

// evidence is one event that says something of a request, if the request fits the rows of the table that its event fits.
type evidence struct {
	at        vaglio.Instant
	id        string
	rules     []*labelRule // those that are left to the request's reason
	weight    float64      // of the event; NaN: of the rule
	fraudType string
}

// Labels are what was known of requests at a cut.
type Labels struct {
	of map[string][]evidence // by request id, the newest last
	// Late counts labels that became known after the cut, and BadWeights those whose weight is no number from 0 to 1: they
	// weigh what their source usually does.
	Late, BadWeights int
}

// Of is what is known of a request: the newest evidence by (occurred_at, id) that says fraud or clean holds, so a
// fraud_cleared takes a fraud_confirmed back. Of evidence that says nothing there is Unlabelled, of none Silent.
func (l *Labels) Of(row *Row) Label {
	all := l.of[row.ID]
	label := Label{}
	for i := len(all) - 1; i >= 0; i-- {
		e := &all[i]
		at := slices.IndexFunc(e.rules, func(r *labelRule) bool { return r.reason == "" || r.reason == row.Reason })
		if at < 0 {
			continue
		}
		r := e.rules[at]
		if r.says == Unlabelled {
			label.Verdict = Unlabelled
			continue
		}
		label = Label{Verdict: r.says, Weight: r.weight}
		if !math.IsNaN(e.weight) {
			label.Weight = e.weight
		}
		if r.says == Fraud {
			label.FraudType = cmp.Or(e.fraudType, r.means)
		}
		return label
	}
	return label
}

// advice is for who finds no fraud.
func (l *Labels) advice() string {
	if l.Late > 0 {
		return fmt.Sprintf("%d labels became known only after the cut: end the period earlier, or move the cut of the labels", l.Late)
	}
	return fmt.Sprintf("history says fraud or clean of %d requests: import labels (%s), or choose a longer period", len(l.of), vaglio.KindFraudConfirmed)
}

// outcome is when a request was paid and denied, 0 if never.
type outcome struct {
	payment      string
	paid, denied vaglio.Instant
}

// ReadLabels reads what says fraud or clean of requests from a moment on, as far as it was known at the cut. A dispute is
// about the request that it names, else about those of its payment that were paid or denied before it. A label that names
// another event in attributes.clears takes just that back, and says nothing itself.
func ReadLabels(ctx context.Context, h *history.Store, from, cut vaglio.Instant) (*Labels, error) {
	l := &Labels{of: map[string][]evidence{}}
	var disputes []vaglio.Fact // what depends on the outcome of requests
	asked, payments := map[string]outcome{}, map[string][]string{}
	cleared := map[string]bool{} // ids of events
	err := h.Scan(ctx, labelKinds, from, math.MaxInt64, func(f vaglio.Fact) error {
		switch request, payment := f.Entities.Get(vaglio.EntityRequest), f.Entities.Get(vaglio.EntityPayment); {
		case f.KnownAt > cut:
			if f.IsLabel() {
				l.Late++
			}
		case f.IsLabel() && f.Attributes.Get(vaglio.AttributeClears) != "":
			cleared[strings.Clone(f.Attributes.Get(vaglio.AttributeClears))] = true
		case f.IsLabel() || f.Kind == vaglio.KindRecallRequested && request != "":
			l.add(strings.Clone(request), outcome{}, &f)
		case request != "":
			asked[strings.Clone(request)] = outcome{}
			disputes = append(disputes, slim(&f))
		case payment != "":
			payments[strings.Clone(payment)] = nil
			disputes = append(disputes, slim(&f))
		}
		return nil
	})
	if err == nil && len(disputes) > 0 {
		err = h.Scan(ctx, []string{vaglio.KindRefundPaid, vaglio.KindRefundDenied}, from, math.MaxInt64, func(f vaglio.Fact) error {
			if f.KnownAt <= cut {
				addOutcome(asked, payments, &f)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the labels: %w", err)
	}
	for i := range disputes {
		f := &disputes[i]
		if request := f.Entities.Get(vaglio.EntityRequest); request != "" {
			l.add(request, asked[request], f)
			continue
		}
		for _, request := range payments[f.Entities.Get(vaglio.EntityPayment)] {
			if o := asked[request]; o.paid != 0 && o.paid <= f.OccurredAt || o.denied != 0 && o.denied <= f.OccurredAt {
				l.add(request, o, f)
			}
		}
	}
	for request, all := range l.of {
		if all = slices.DeleteFunc(all, func(e evidence) bool { return cleared[e.id] }); len(all) == 0 {
			delete(l.of, request)
			continue
		}
		l.of[request] = all
		slices.SortFunc(all, func(a, b evidence) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	}
	return l, nil
}

// slim is what a dispute says, without the event's memory.
func slim(f *vaglio.Fact) vaglio.Fact {
	out := vaglio.Fact{Event: vaglio.Event{ID: strings.Clone(f.ID), Kind: strings.Clone(f.Kind), OccurredAt: f.OccurredAt}}
	for _, name := range []string{vaglio.EntityRequest, vaglio.EntityPayment} {
		if value := f.Entities.Get(name); value != "" {
			out.Entities = out.Entities.With(name, strings.Clone(value))
		}
	}
	for _, name := range []string{vaglio.AttributeSource, vaglio.AttributeFraudType, vaglio.AttributeWeight} {
		if value := f.Attributes.Get(name); value != "" {
			out.Attributes = out.Attributes.With(name, strings.Clone(value))
		}
	}
	return out
}

// addOutcome notes a refund_paid or refund_denied of a request that is disputed, or whose payment is.
func addOutcome(asked map[string]outcome, payments map[string][]string, f *vaglio.Fact) {
	request, payment := f.Entities.Get(vaglio.EntityRequest), f.Entities.Get(vaglio.EntityPayment)
	o, known := asked[request]
	_, disputed := payments[payment]
	if request == "" || !known && !disputed {
		return
	}
	request = strings.Clone(request)
	if disputed && o.payment == "" {
		o.payment = strings.Clone(payment)
		payments[o.payment] = append(payments[o.payment], request)
	}
	at := &o.paid
	if f.Kind == vaglio.KindRefundDenied {
		at = &o.denied
	}
	if *at == 0 || f.OccurredAt < *at {
		*at = f.OccurredAt
	}
	asked[request] = o
}

// add notes what an event says of a request.
func (l *Labels) add(request string, o outcome, f *vaglio.Fact) {
	source, fraudType := f.Attributes.Get(vaglio.AttributeSource), f.Attributes.Get(vaglio.AttributeFraudType)
	e := evidence{at: f.OccurredAt, weight: math.NaN()}
	for i := range labelRules {
		r := &labelRules[i]
		var before vaglio.Instant
		switch r.after {
		case vaglio.KindRefundPaid:
			before = o.paid
		case vaglio.KindRefundDenied:
			before = o.denied
		}
		if r.kind == f.Kind && (r.sources == nil || slices.Contains(r.sources, source)) && (r.ofType == "" || r.ofType == fraudType) &&
			(r.after == "" || before != 0 && before <= f.OccurredAt) {
			e.rules = append(e.rules, r)
			if r.reason == "" {
				break
			}
		}
	}
	if e.rules == nil {
		return
	}
	e.id, e.fraudType = strings.Clone(f.ID), knownFraudType(fraudType)
	if text := f.Attributes.Get(vaglio.AttributeWeight); text != "" {
		if weight, err := strconv.ParseFloat(text, 64); err == nil && weight >= 0 && weight <= 1 {
			e.weight = weight
		} else {
			l.BadWeights++
		}
	}
	l.of[request] = append(l.of[request], e)
}

// knownFraudType is the type without the event's memory; the set is open.
func knownFraudType(fraudType string) string {
	if at := slices.Index(vaglio.FraudTypes, fraudType); at >= 0 {
		return vaglio.FraudTypes[at]
	}
	return strings.Clone(fraudType)
}

// label keeps the rows whose label is settled at the cut: of requests old enough to be mature, fraud or clean as the labels
// say, clean if nothing was said. Younger requests are left out whatever their label: keeping only the labelled ones among
// them would keep mostly frauds. It uses m up: there is room for one matrix.
func (m *Matrix) label(labels *Labels, cut vaglio.Instant, mature maturity) (*Matrix, leftOut) {
	out, left := *m, leftOut{badWeights: labels.BadWeights}
	out.Rows, out.X = m.Rows[:0], m.X[:0]
	for i := range m.Rows {
		row := m.Rows[i]
		if !row.settled(cut, mature) {
			left.young++
			continue
		}
		if label := labels.Of(&row); !label.apply(&row) {
			left.unlabelled++
			continue
		}
		out.Rows = append(out.Rows, row)
		out.X = append(out.X, m.vector(i)...)
	}
	return &out, left
}

// apply labels a mature row; false where nothing can be known of it.
func (l Label) apply(row *Row) bool {
	if l.Verdict == Silent {
		l = Label{Verdict: Clean, Weight: 1}
	}
	if l.Verdict == Unlabelled || l.Weight == 0 {
		return false
	}
	row.Fraud, row.Weight, row.FraudType = l.Verdict == Fraud, l.Weight, l.FraudType
	return true
}

// leftOut counts the requests of a period that are not trained on, and labels whose own weight could not be read.
type leftOut struct{ young, unlabelled, badWeights, held int }

func (l leftOut) String() string {
	text := fmt.Sprintf("left out: %d too young, %d of which nothing can be known", l.young, l.unlabelled)
	if l.held > 0 {
		text += fmt.Sprintf(", %d for which explored ones stand", l.held)
	}
	if l.badWeights > 0 {
		text += fmt.Sprintf("; %d labels have a weight that is no number from 0 to 1 and weigh what is usual", l.badWeights)
	}
	return text
}
