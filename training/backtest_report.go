package training

import (
	"cmp"
	"fmt"
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

func (b *ByAction) add(v vaglio.Verdict) { *[3]*int64{&b.Approve, &b.Review, &b.Deny}[verdictAt(v)]++ }

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

func newBacktestReport(o *BacktestOptions, contenders []*contender, labels *Labels) BacktestReport {
	r := BacktestReport{From: o.From, Until: o.Until, BaseCurrency: o.History.BaseCurrency(), Warnings: []string{}, labels: labels,
		maturity: maturityOf(o.Maturity, o.RailMaturity), cut: o.Cut, costs: o.Costs, examples: o.Examples}
	if o.Bundle != nil {
		r.Model = o.Bundle.Manifest().Version
		if learnt := o.Bundle.Manifest().Training; learnt.Until > o.From {
			r.warn("the model has learnt from requests until %v, which are in the period: there it flatters itself", learnt.Until)
		}
	} else {
		r.warn("rules alone: without a model nothing is approved but by allow-lists")
	}
	if labels.labelled == 0 {
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
