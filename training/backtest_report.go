package training

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"vaglio"
	"vaglio/scoring/policy"
)

// BacktestReport says what policies make of the requests of a period. Money is in minor units of the base currency.
type BacktestReport struct {
	From         vaglio.Instant `json:"from"`
	Until        vaglio.Instant `json:"until"`
	Model        string         `json:"model"` // version; "": rules alone
	BaseCurrency string         `json:"base_currency"`
	Requests     int            `json:"requests"`
	Labels       ByLabel        `json:"labels"`          // of the requests
	Unknown      int            `json:"unknown_amounts"` // requests without a rate of the day: in counts, not in money
	Days         float64        `json:"days"`            // between the first and the last request, at least 1
	Warnings     []string       `json:"warnings"`
	Policies     []Backtested   `json:"policies"` // the first is the base

	labels      *Labels
	maturity    maturity
	cut         vaglio.Instant
	costs       *policy.Costs // nil: none are known
	examples    int
	first, last vaglio.Instant // requests
}

// ByLabel is a number of requests, or their money, by what is known of them: unsettled ones are too young, or of evidence that
// says neither.
type ByLabel struct {
	Fraud     int64 `json:"fraud"`
	Clean     int64 `json:"clean"`
	Unsettled int64 `json:"unsettled"`
}

// Total is all of it.
func (b *ByLabel) Total() int64 { return b.Fraud + b.Clean + b.Unsettled }

// precision is the share of frauds among what is settled; nil if nothing is.
func (b *ByLabel) precision() *float64 {
	if b.Fraud+b.Clean == 0 {
		return nil
	}
	share := float64(b.Fraud) / float64(b.Fraud+b.Clean)
	return &share
}

func (b *ByLabel) add(label string, n int64) {
	switch label {
	case labelFraud:
		b.Fraud += n
	case labelClean:
		b.Clean += n
	default:
		b.Unsettled += n
	}
}

// What is known of a request.
const (
	labelFraud     = "fraud"
	labelClean     = "clean"
	labelUnsettled = "unsettled"
)

// Share is a part of the requests, with their money.
type Share struct {
	Requests ByLabel `json:"requests"`
	Amount   ByLabel `json:"amount"`
}

func (s *Share) add(h *hit) {
	s.Requests.add(h.label, 1)
	s.Amount.add(h.label, h.amount)
}

// hit is a request on its way into the report.
type hit struct {
	label  string
	amount int64 // 0 if it is not known
	costs  [3]float64
}

// Backtested is what one policy makes of the period.
type Backtested struct {
	Policy        string           `json:"policy"`        // version
	LeftOut       []string         `json:"left_out"`      // rules of the embedded policy without their features
	Verdicts      []VerdictShare   `json:"verdicts"`      // approve, review, deny
	Money         BacktestMoney    `json:"money"`         // of them
	ReviewsPerDay float64          `json:"reviews_a_day"` // on average
	BusiestDay    int              `json:"reviews_on_the_busiest_day"`
	Rules         []RuleShare      `json:"rules"`    // the most frequent first
	Segments      []SegmentShare   `json:"segments"` // of the policy, the largest first; without a name: requests in none
	Changes       *BacktestChanges `json:"changes"`  // against the base; nil of the base
}

// VerdictShare are the requests that got a verdict: a row of the confusion matrix.
type VerdictShare struct {
	Verdict vaglio.Verdict `json:"decision"`
	Share
}

// BacktestMoney sums up what verdicts mean for money.
type BacktestMoney struct {
	Approved      int64  `json:"approved"`
	FraudApproved int64  `json:"fraud_approved"` // lost
	FraudStopped  int64  `json:"fraud_stopped"`  // in review, or denied
	HonestHeld    int64  `json:"honest_held"`    // in review
	HonestDenied  int64  `json:"honest_denied"`
	Cost          *int64 `json:"cost"` // of the settled requests, in hindsight; nil without costs, or where nothing is settled
}

func (m *BacktestMoney) minus(b *BacktestMoney) BacktestMoney {
	d := BacktestMoney{m.Approved - b.Approved, m.FraudApproved - b.FraudApproved, m.FraudStopped - b.FraudStopped, m.HonestHeld - b.HonestHeld,
		m.HonestDenied - b.HonestDenied, nil}
	if m.Cost != nil && b.Cost != nil {
		cost := *m.Cost - *b.Cost
		d.Cost = &cost
	}
	return d
}

// RuleShare are the requests on which a rule fired. Rules in shadow are told apart by their state.
type RuleShare struct {
	Rule   string `json:"rule"`
	Action string `json:"action"`
	State  string `json:"state"`
	Share
	Precision *float64 `json:"precision"` // share of frauds among its settled hits; nil without any
	Exclusive Share    `json:"exclusive"` // where no other active rule fired
	Verdicts  ByAction `json:"decisions"` // that its hits got
	Cost      *int64   `json:"cost"`      // of those decisions on its settled hits, in hindsight; nil without costs
	cost      float64
}

// ByAction counts verdicts.
type ByAction struct {
	Approve int64 `json:"approve"`
	Review  int64 `json:"review"`
	Deny    int64 `json:"deny"`
}

func (b *ByAction) add(v vaglio.Verdict) { *[]*int64{&b.Approve, &b.Review, &b.Deny}[verdictAt(v)]++ }

// SegmentShare are the requests of a segment of the policy.
type SegmentShare struct {
	Segment  string         `json:"segment"`
	Verdicts []VerdictShare `json:"verdicts"`
	Money    BacktestMoney  `json:"money"`
	sum      summed
}

// BacktestChanges are the decisions that differ from those of the base.
type BacktestChanges struct {
	Same  int              `json:"same"`
	Moved []BacktestChange `json:"moved"` // in order of verdicts
	Money BacktestMoney    `json:"money"` // of this policy minus that of the base
}

// BacktestChange are the requests whose verdict changes in one way.
type BacktestChange struct {
	From vaglio.Verdict `json:"from"`
	To   vaglio.Verdict `json:"to"`
	Share
	Examples []BacktestExample `json:"examples"` // of the largest amounts
}

// BacktestExample is a request whose verdict changes.
type BacktestExample struct {
	RequestID   string         `json:"request_id"`
	At          vaglio.Instant `json:"at"`
	Probability *float64       `json:"probability"`
	Amount      *int64         `json:"amount"` // nil without a rate of the day
	Label       string         `json:"label"`
	RulesBefore []string       `json:"rules_before"` // active ones, of the base
	Rules       []string       `json:"rules"`
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

func newBacktestReport(o *BacktestOptions, contenders []*contender, labels *Labels) BacktestReport {
	r := BacktestReport{From: o.From, Until: o.Until, BaseCurrency: o.History.BaseCurrency(), Warnings: []string{}, labels: labels,
		maturity: maturity{o.Maturity, o.RailMaturity}, cut: o.Cut, costs: o.Costs, examples: o.Examples}
	if o.Bundle != nil {
		r.Model = o.Bundle.Manifest().Version
		if learnt := o.Bundle.Manifest().Training; learnt.Until > o.From {
			r.warn("the model has learnt from requests until %v, which are in the period: there it flatters itself", learnt.Until)
		}
	} else {
		r.warn("rules alone: without a model nothing is approved but by allow-lists")
	}
	if len(labels.of) == 0 {
		r.warn("no label says fraud or clean of any request: there is money, but nothing of right and wrong")
	}
	for _, t := range contenders {
		t.result.rules, t.result.segments = map[vaglio.RuleHit]*RuleShare{}, map[string]*SegmentShare{}
		p := t.policy
		if limits := p.Guards.Limits; limits.Approvals < policy.Unlimited || limits.Approved < policy.Unlimited || len(p.Guards.Segments) > 0 {
			r.warn("policy %s: its guards on approvals do not act here", p.Version())
		}
		if p.Capacity.Narrow {
			r.warn("policy %s: its review queue is never full here", p.Version())
		}
		if p.Exploration.Share > 0 {
			r.warn("policy %s: it does not explore here", p.Version())
		}
	}
	return r
}

func (r *BacktestReport) warn(format string, args ...any) {
	if warning := fmt.Sprintf(format, args...); !slices.Contains(r.Warnings, warning) {
		r.Warnings = append(r.Warnings, warning)
	}
}

// labelOf is what is known of a request. Silence means clean only where somebody labels.
func labelOf(labels *Labels, row *Row, cut vaglio.Instant, mature maturity) string {
	if len(labels.of) == 0 || !row.settled(cut, mature) {
		return labelUnsettled
	}
	switch label := labels.Of(row); {
	case label.Verdict == Silent:
		return labelClean
	case label.Verdict == Unlabelled || label.Weight == 0:
		return labelUnsettled
	case label.Verdict == Fraud:
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

// finish sums up.
func (r *BacktestReport) finish(o *BacktestOptions, contenders []*contender) {
	r.Days = max(1, float64(r.last-r.first)/float64(vaglio.Day))
	withCosts := r.costs != nil
	for i, t := range contenders {
		b := Backtested{Policy: t.policy.Version(), LeftOut: append([]string{}, t.dropped...), Verdicts: t.result.all.shares(), Money: t.result.all.money(withCosts),
			ReviewsPerDay: float64(t.result.all.by[1].Requests.Total()) / r.Days, BusiestDay: t.result.busiest, Rules: rulesOf(t.result.rules, withCosts),
			Segments: []SegmentShare{}}
		for _, s := range t.result.segments {
			s.Verdicts, s.Money = s.sum.shares(), s.sum.money(withCosts)
			b.Segments = append(b.Segments, *s)
		}
		size := func(s *SegmentShare) (n int64) {
			for i := range s.Verdicts {
				n += s.Verdicts[i].Requests.Total()
			}
			return n
		}
		slices.SortFunc(b.Segments, func(x, y SegmentShare) int {
			return cmp.Or(cmp.Compare(size(&y), size(&x)), strings.Compare(x.Segment, y.Segment))
		})
		if i > 0 {
			b.Changes = t.result.changed(&b.Money, &r.Policies[0].Money)
		}
		r.Policies = append(r.Policies, b)
	}
	o.Progress(Progress{Step: "decide", Done: r.Requests, Total: r.Requests})
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
