package training

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"vaglio"
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

// LabelSource is who, or what, says fraud or clean of a request.
type LabelSource uint8

// The sources: those of labels' attributes.source, and what else the table reads.
const (
	FromSilence       LabelSource = iota // nothing was said by maturity
	FromUnnamed                          // a label that names no source
	FromOther                            // a label that names one of yours
	FromInvestigation                    // from here on as [vaglio.SourceInvestigation] and its like
	FromChargeback                       // a label, or the event itself, as with the next ones
	FromPaymentReturned
	FromRecall
	FromDispute
	FromVictimReport
	FromReview
	FromAudit
)

var labelSources = [...]string{"silence", "unnamed", "other", vaglio.SourceInvestigation, vaglio.SourceChargeback, vaglio.SourcePaymentReturned,
	vaglio.SourceRecall, vaglio.SourceDispute, vaglio.SourceVictimReport, vaglio.SourceReview, vaglio.SourceAudit}

func (s LabelSource) String() string { return labelSources[s] }

// sourceOf tells who says what an event says. The simulator has words of its own.
func sourceOf(f *vaglio.Fact) LabelSource {
	switch f.Kind {
	case vaglio.KindChargeback:
		return FromChargeback
	case vaglio.KindPaymentReturned:
		return FromPaymentReturned
	case vaglio.KindRecallRequested:
		return FromRecall
	case vaglio.KindDisputeWon, vaglio.KindDisputeLost:
		return FromDispute
	}
	switch name := f.Attributes.Get(vaglio.AttributeSource); name {
	case "":
		return FromUnnamed
	case "reviewer":
		return FromReview
	case "return":
		return FromPaymentReturned
	default:
		if at := slices.Index(labelSources[FromInvestigation:], name); at >= 0 {
			return FromInvestigation + LabelSource(at)
		}
		return FromOther
	}
}

// Label is what evidence says of a request.
type Label struct {
	Verdict   Verdict
	Source    LabelSource
	Weight    float64 // in training, 0 to 1; 0 is left out
	FraudType string  // "" if clean or unknown
}

// labelRule is one row of the table of what an event says of a request. Of the rows of a kind the first that fits holds.
type labelRule struct {
	kind   string
	source LabelSource // the label must come from there; 0: from anywhere
	ofType string      // attributes.fraud_type must be this; "": anything
	after  string      // the request must have been paid (refund_paid) or denied (refund_denied) before; "": whatever became of it
	twice  bool        // with what was refunded before, the event must take back more of the payment than came in
	reason string      // the request must have claimed this; "": anything
	says   Verdict
	weight float64
	means  string // the fraud type, unless the event says another
}

// labelRules is the table of docs/models.md, Labels.
var labelRules = []labelRule{
	{kind: vaglio.KindFraudConfirmed, source: FromReview, says: Fraud, weight: 0.5},
	{kind: vaglio.KindFraudConfirmed, source: FromVictimReport, says: Fraud, weight: 1, means: "third_party"},
	{kind: vaglio.KindFraudConfirmed, says: Fraud, weight: 1},
	{kind: vaglio.KindFraudCleared, source: FromReview, says: Clean, weight: 0.8},
	{kind: vaglio.KindFraudCleared, says: Clean, weight: 1},
	{kind: vaglio.KindRecallRequested, ofType: "mule", says: Fraud, weight: 1, means: "mule"},
	{kind: vaglio.KindChargeback, after: vaglio.KindRefundPaid, twice: true, says: Fraud, weight: 1, means: "first_party"},
	{kind: vaglio.KindPaymentReturned, after: vaglio.KindRefundPaid, twice: true, says: Fraud, weight: 1, means: "first_party"},
	{kind: vaglio.KindChargeback, after: vaglio.KindRefundDenied, says: Unlabelled},
	{kind: vaglio.KindPaymentReturned, after: vaglio.KindRefundDenied, says: Unlabelled},
	{kind: vaglio.KindRefundDenied, says: Unlabelled},
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
	source    LabelSource
	rules     []*labelRule // those that are left to the request's reason
	weight    float64      // of the event; NaN: of the rule
	fraudType string
}

// judges reports whether the evidence may say fraud or clean.
func (e evidence) judges() bool {
	return slices.ContainsFunc(e.rules, func(r *labelRule) bool { return r.says != Unlabelled })
}

// Labels are what was known of requests at a cut.
type Labels struct {
	of       map[string][]evidence // by request id, the newest last
	labelled int                   // requests of which something may say fraud or clean; 0: nobody labels, and silence says nothing
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
		label = Label{Verdict: r.says, Source: e.source, Weight: r.weight}
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
	return fmt.Sprintf("history says fraud or clean of %d requests: import labels (%s), or choose a longer period", l.labelled, vaglio.KindFraudConfirmed)
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
	row.Fraud, row.Source, row.Weight, row.FraudType = l.Verdict == Fraud, l.Source, l.Weight, l.FraudType
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
