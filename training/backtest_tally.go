package training

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"vaglio"
	"vaglio/scoring/policy"
)

// hit is a request on its way into the report.
type hit struct {
	label  string
	amount int64 // 0 if it is not known
	costs  [3]float64
}

func (s *Share) add(h *hit) {
	s.Requests.add(h.label, 1)
	s.Amount.add(h.label, h.amount)
}

// verdicts in the order of reports.
var verdicts = [3]vaglio.Verdict{vaglio.Approve, vaglio.Review, vaglio.Deny}

func verdictAt(v vaglio.Verdict) int {
	switch v {
	case vaglio.Approve:
		return 0
	case vaglio.Deny:
		return 2
	default:
		return 1
	}
}

// summed is the confusion matrix of a part of the requests, with what it cost.
type summed struct {
	by      [3]Share
	cost    float64
	settled bool
}

func (s *summed) add(h *hit, verdict int) {
	s.by[verdict].add(h)
	if h.label != labelUnsettled {
		s.cost += h.costs[verdict]
		s.settled = true
	}
}

func (s *summed) shares() (rows []VerdictShare) {
	for i := range s.by {
		rows = append(rows, VerdictShare{verdicts[i], s.by[i]})
	}
	return rows
}

func (s *summed) money(withCosts bool) BacktestMoney {
	approve, review, deny := &s.by[0].Amount, &s.by[1].Amount, &s.by[2].Amount
	m := BacktestMoney{Approved: approve.Total(), FraudApproved: approve.Fraud, FraudStopped: review.Fraud + deny.Fraud, HonestHeld: review.Clean,
		HonestDenied: deny.Clean}
	if withCosts && s.settled {
		m.Cost = rounded(s.cost)
	}
	return m
}

func rounded(v float64) *int64 {
	n := int64(math.Round(v))
	return &n
}

// tally is what a contender's decisions add up to.
type tally struct {
	all      summed
	rules    map[vaglio.RuleHit]*RuleShare
	segments map[string]*SegmentShare
	changes  [3][3]BacktestChange // from, to
	day      vaglio.Instant
	today    int // reviews
	busiest  int
}

// labelOf is what is known of a request. Silence means clean only where somebody labels.
func labelOf(labels *Labels, row *Row, cut vaglio.Instant, mature maturity) string {
	if labels.labelled == 0 || !row.settled(cut, mature) {
		return labelUnsettled
	}
	judged := *row
	switch known := labels.Of(row).apply(&judged); {
	case !known:
		return labelUnsettled
	case judged.Fraud:
		return labelFraud
	default:
		return labelClean
	}
}

// note enters what the contenders have just decided.
func (r *BacktestReport) note(row *Row, in *policy.Input, contenders []*contender) {
	h := hit{label: labelOf(r.labels, row, r.cut, r.maturity)}
	if row.BaseKnown {
		h.amount = row.BaseAmount
	} else {
		r.Unknown++
	}
	if r.Requests == 0 {
		r.first = row.At
	}
	r.Requests++
	r.last = row.At
	r.Labels.add(h.label, 1)
	base := contenders[0]
	for i, t := range contenders {
		if r.costs != nil && row.BaseKnown && h.label != labelUnsettled {
			c := Case{Fraud: h.label == labelFraud, Stake: t.ev.Stake(), Segment: t.out.Segment}
			h.costs[0], h.costs[1], h.costs[2] = hindsight(&c, r.costs)
		}
		t.result.note(row, &h, &t.out)
		if i > 0 {
			t.result.compare(row, &h, in.Probability, &base.out, &t.out, r.examples)
		}
	}
}

func (t *tally) note(row *Row, h *hit, out *policy.Outcome) {
	verdict := verdictAt(out.Verdict)
	t.all.add(h, verdict)
	segment := t.segments[out.Segment]
	if segment == nil {
		segment = &SegmentShare{Segment: out.Segment}
		t.segments[out.Segment] = segment
	}
	segment.sum.add(h, verdict)
	if day := row.At / vaglio.Day; day != t.day {
		t.day, t.today = day, 0
	}
	if out.Verdict == vaglio.Review {
		t.today++
		t.busiest = max(t.busiest, t.today)
	}
	noteRules(t.rules, h, out.Verdict, out.Rules)
}

// noteRules counts the rules that fired on a request.
func noteRules(into map[vaglio.RuleHit]*RuleShare, h *hit, verdict vaglio.Verdict, fired []vaglio.RuleHit) {
	active := 0
	for i := range fired {
		if fired[i].State == policy.Active {
			active++
		}
	}
	for _, rule := range fired {
		r := into[rule]
		if r == nil {
			r = &RuleShare{Rule: rule.Name, Action: rule.Action, State: rule.State}
			into[rule] = r
		}
		r.add(h)
		if active == 0 || active == 1 && rule.State == policy.Active {
			r.Exclusive.add(h)
		}
		r.Verdicts.add(verdict)
		if h.label != labelUnsettled {
			r.cost += h.costs[verdictAt(verdict)]
		}
	}
}

// rulesOf lists rules, the most frequent first.
func rulesOf(all map[vaglio.RuleHit]*RuleShare, withCosts bool) []RuleShare {
	out := []RuleShare{}
	for _, r := range all {
		r.Precision = r.Requests.precision()
		if withCosts && r.Precision != nil {
			r.Cost = rounded(r.cost)
		}
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b RuleShare) int {
		return cmp.Or(cmp.Compare(b.Requests.Total(), a.Requests.Total()), strings.Compare(a.Rule, b.Rule), strings.Compare(a.State, b.State),
			strings.Compare(a.Action, b.Action))
	})
	return out
}

// compare enters a decision beside the base's.
func (t *tally) compare(row *Row, h *hit, probability float64, base, own *policy.Outcome, examples int) {
	c := &t.changes[verdictAt(base.Verdict)][verdictAt(own.Verdict)]
	c.add(h)
	if base.Verdict == own.Verdict || examples == 0 {
		return
	}
	if n := len(c.Examples); n == examples {
		if least := c.Examples[n-1].Amount; !row.BaseKnown || least != nil && *least >= row.BaseAmount {
			return
		}
		c.Examples = c.Examples[:n-1]
	}
	e := BacktestExample{RequestID: row.ID, At: row.At, Label: h.label, RulesBefore: activeRules(base), Rules: activeRules(own)}
	if probability >= 0 {
		e.Probability = &probability
	}
	if row.BaseKnown {
		e.Amount = &row.BaseAmount
	}
	place, _ := slices.BinarySearchFunc(c.Examples, &e, func(a BacktestExample, b *BacktestExample) int {
		switch {
		case a.Amount == nil && b.Amount != nil:
			return 1
		case b.Amount == nil || *a.Amount >= *b.Amount:
			return -1
		default:
			return 1
		}
	})
	c.Examples = slices.Insert(c.Examples, place, e)
}

func activeRules(out *policy.Outcome) []string {
	names := []string{}
	for i := range out.Rules {
		if out.Rules[i].State == policy.Active {
			names = append(names, out.Rules[i].Name)
		}
	}
	return names
}

func (t *tally) changed(own, base *BacktestMoney) *BacktestChanges {
	c := &BacktestChanges{Moved: []BacktestChange{}, Money: own.minus(base)}
	for from := range verdicts {
		for to := range verdicts {
			cell := t.changes[from][to]
			switch n := cell.Requests.Total(); {
			case from == to:
				c.Same += int(n)
			case n > 0:
				cell.From, cell.To = verdicts[from], verdicts[to]
				cell.Examples = append([]BacktestExample{}, cell.Examples...)
				c.Moved = append(c.Moved, cell)
			}
		}
	}
	return c
}
