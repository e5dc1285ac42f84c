package policy

import (
	"math"
	"slices"
	"time"

	"vaglio"
	"vaglio/expression"
	"vaglio/models"
)

// The rules that hold whatever a policy says.
const (
	RuleOverCaptured   = "over_captured"
	RulePaymentUnknown = "payment_unknown"
	RulePaymentForeign = "payment_of_another_customer"
	RuleCaps           = "customer_caps"
	RuleDuplicate      = "duplicate_request"
	RuleGuard          = "guard"
	RuleCapacity       = "review_capacity"
)

// builtinReasons are the reason codes of those rules.
var builtinReasons = map[string]string{RuleOverCaptured: "OVER_CAPTURED", RulePaymentUnknown: "PAYMENT_UNKNOWN",
	RulePaymentForeign: "PAYMENT_UNKNOWN", RuleCaps: "REFUND_VELOCITY", RuleDuplicate: "REFUND_VELOCITY"}

// Lists answers whether a value was on a list at a moment.
type Lists interface {
	Contains(list, value string, at vaglio.Instant) bool
}

// Input is what is known of a request before the decision's transaction. Request and Fact are required.
type Input struct {
	Request     *vaglio.Request
	Fact        *vaglio.Fact      // the request as history keeps it: entities completed, amount in the base currency
	Vector      []float64         // of the bound catalogue; nil when history is gone: all features are missing
	Probability float64           // of fraud; NaN without a model
	RiskScore   float64           // likewise
	Thresholds  models.Thresholds // of the model; the zero value is none: then the score alone decides nothing
	Moment      vaglio.Instant
	Lists       Lists // nil: nothing is known of lists
}

// Counters are the customer's other requests of the last hour and day, and what was approved of them automatically, in minor
// units of the base currency.
type Counters struct {
	Requests1h, Requests24h   int
	Approvals1h, Approvals24h int
	Approved1h, Approved24h   int64
}

// Situation is what only the decision's own transaction knows, and the state of the service.
type Situation struct {
	Counters        Counters
	RefundableMinor int64 // what is left of the payment, in the request's currency
	RefundableKnown bool
	Foreign         bool    // the payment is another customer's
	Degraded        bool    // decided without what it should rest on
	QueueLoad       float64 // open reviews to capacity; NaN: unknown
	Duplicate       bool    // of an open request on the same payment and amount
	Guard           GuardState
}

// GuardState is what the guards have stopped. They become reviews.
type GuardState struct {
	Review  bool   // approvals
	Denials bool   // denials as well
	Reason  string // for people; the policy does not read it
}

// Outcome is what a policy says. Its slices belong to the evaluation and hold until its next use.
type Outcome struct {
	Verdict           vaglio.Verdict
	Rules             []vaglio.RuleHit
	Actions           []string // required, each once
	Codes             []string // reason codes of the rules that fired and hold, each once
	Segment           string   // "" for none
	ApprovalValid     time.Duration
	ReviewWithin      time.Duration
	ExpectedLossMinor int64          // of an approval, in the request's currency; 0 without a probability
	ByScore           vaglio.Verdict // what the score alone said
	Explorable        bool           // only the score is against an approval, and exploration may give it
}

// Evaluation is the part of a decision that needs no transaction. It can be used again and again, by one goroutine at a time.
type Evaluation struct {
	in        Input
	texts     []string
	hashes    []uint64
	segment   string
	treatment *Treatment
	stake     Stake
	byScore   vaglio.Verdict
	fired     []*rule
	counters  Counters // of the Conclude under way

	hits    []vaglio.RuleHit
	actions []string
	codes   []string
}

// Segment is the name of the segment that the request is in, "" for none.
func (ev *Evaluation) Segment() string { return ev.segment }

// Stake is what is at risk in the request.
func (ev *Evaluation) Stake() Stake { return ev.stake }

// Evaluate does all that needs no counters and no exposure. in is not kept beyond the last Conclude.
func (b *Bound) Evaluate(in *Input, into *Evaluation) {
	ev := into
	ev.in = *in
	ev.texts, ev.hashes = slices.Grow(ev.texts[:0], len(b.texts)), slices.Grow(ev.hashes[:0], len(b.texts))
	for _, text := range b.texts {
		value := text(in.Fact)
		ev.texts, ev.hashes = append(ev.texts, value), append(ev.hashes, expression.Hash(value))
	}
	ev.segment, ev.treatment = "", &b.policy.Treatment
	for i, when := range b.segments {
		if holds(when(ev)) {
			ev.segment, ev.treatment = b.policy.segments[i].name, &b.policy.segments[i].treatment
			break
		}
	}
	ev.stake = stakeOf(in.Request, in.Fact, in.Moment)
	ev.byScore = ev.treatment.byScore(ev)
	ev.fired = ev.fired[:0]
	ev.fire(b.rules)
}

func (ev *Evaluation) fire(rules []boundRule) {
	for i := range rules {
		if r := &rules[i]; r.validAt(ev.in.Moment) && holds(r.when(ev)) {
			ev.fired = append(ev.fired, r.rule)
		}
	}
}

func holds(condition float64) bool { return condition == condition && condition != 0 }

// byScore is the verdict of the probability alone. Whatever is missing or not a number ends in review.
func (t *Treatment) byScore(ev *Evaluation) vaglio.Verdict {
	p := ev.in.Probability
	if !(p >= 0 && p <= 1) {
		return vaglio.Review
	}
	if t.Costs != nil {
		if !ev.in.Fact.BaseKnown {
			return vaglio.Review
		}
		return t.Costs.Best(p, ev.stake)
	}
	approveBelow, denyFrom := ev.in.Thresholds.ApproveBelow, ev.in.Thresholds.DenyFrom
	if ev.in.Thresholds == (models.Thresholds{}) {
		approveBelow, denyFrom = math.NaN(), math.NaN()
	}
	if t.ApproveBelow != nil {
		approveBelow = *t.ApproveBelow
	}
	if t.DenyFrom != nil {
		denyFrom = *t.DenyFrom
	}
	switch {
	case p < approveBelow && p < denyFrom:
		return vaglio.Approve
	case p >= denyFrom:
		return vaglio.Deny
	default:
		return vaglio.Review
	}
}

// stricter is the stricter of two verdicts.
func stricter(a, b vaglio.Verdict) vaglio.Verdict {
	switch {
	case a == vaglio.Deny || b == vaglio.Deny:
		return vaglio.Deny
	case a == vaglio.Approve && b == vaglio.Approve:
		return vaglio.Approve
	default:
		return vaglio.Review
	}
}

// ruling is what the rules that fired say together.
type ruling struct {
	strictest vaglio.Verdict // of them; approve if none asks for more
	mandatory vaglio.Verdict // of those that hold against allow-lists
	allowed   bool           // an allow-list fired
	ceiling   bool
	due       time.Duration // the shortest; 0: none
}

// Conclude gives the verdict. The order of precedence, each step with the last word over those before it:
//
//  1. the score: thresholds or least expected cost of the segment; without a probability, review
//  2. a full queue: the low end of what only the score sends to review is approved, if the policy says so
//  3. rules: the strictest of the score and of every active rule that fired
//  4. an allow-list (approve with override) sets aside 1 to 3, but for mandatory rules
//  5. a guard that tripped: approvals, and if it says so denials, become reviews
//  6. the customer's caps, and duplicates: an approval becomes a review
//  7. the payment: over what is left, deny; another customer's or unknown, an approval becomes a review
//  8. at_most: a denial, whoever asks for it, becomes a review
//  9. a degraded decision is a review
//
// It may be called several times for one evaluation, with different situations.
func (b *Bound) Conclude(ev *Evaluation, s Situation) Outcome {
	p, t := b.policy, ev.treatment
	ev.hits, ev.actions, ev.codes = ev.hits[:0], ev.actions[:0], ev.codes[:0]
	ev.counters = s.Counters
	early := len(ev.fired)
	ev.fire(b.late)
	r := ev.rule()
	ev.fired = ev.fired[:early]

	verdict := ev.byScore
	narrowed := p.Capacity.narrows(ev, s.QueueLoad)
	if narrowed {
		verdict = vaglio.Approve
	}
	verdict = stricter(verdict, r.strictest)
	if r.allowed {
		verdict, narrowed = r.mandatory, false
	}
	if narrowed && verdict == vaglio.Approve {
		ev.hit(RuleCapacity, vaglio.Approve)
	}
	asked := verdict
	if !s.Degraded {
		verdict = ev.guard(verdict, &s)
		verdict = ev.hold(verdict, &s, t)
		verdict = ev.pay(verdict, &s, p.RequirePayment)
	}
	if s.Degraded || r.ceiling && verdict == vaglio.Deny {
		verdict = vaglio.Review
	}
	if ev.in.Request.Type == "cancellation" {
		ev.require("return_to_source")
	}
	out := Outcome{Verdict: verdict, Rules: ev.hits, Actions: ev.actions, Codes: ev.codes, Segment: ev.segment, ApprovalValid: p.ApprovalValid,
		ReviewWithin: t.ReviewWithin, ByScore: ev.byScore, ExpectedLossMinor: ev.expectedLoss()}
	if r.due > 0 {
		out.ReviewWithin = r.due
	}
	out.Explorable = p.Exploration.Share > 0 && asked != vaglio.Approve && asked == ev.byScore && r.strictest == vaglio.Approve &&
		!s.Degraded && ev.known() && ev.in.Fact.BaseKnown && ev.in.Fact.BaseAmount <= p.Exploration.MaxAmount && ev.harmless(&s, t, p.RequirePayment)
	return out
}

// Forbids reports whether nothing of this amount is approved in a situation, whatever rules and score say.
func (b *Bound) Forbids(s Situation, amountMinor int64) bool {
	return s.Degraded || s.Guard.Review || s.Duplicate || s.Foreign || s.RefundableKnown && amountMinor > s.RefundableMinor ||
		!s.RefundableKnown && b.policy.RequirePayment
}

// RulesOnly is what the rules say without any score: the strictest of those that fired, approve if none did. What the ledger
// knows, such as caps and what is left of the payment, is taken to stand against nothing.
func (b *Bound) RulesOnly(in *Input, ev *Evaluation) vaglio.Verdict {
	b.Evaluate(in, ev)
	ev.byScore = vaglio.Approve
	ev.treatment = &Treatment{Caps: Caps{Unlimited, Unlimited, Unlimited, Unlimited, Unlimited}}
	return b.Conclude(ev, Situation{RefundableMinor: math.MaxInt64, RefundableKnown: true, QueueLoad: math.NaN()}).Verdict
}

// known reports whether there is a probability.
func (ev *Evaluation) known() bool { return ev.in.Probability >= 0 && ev.in.Probability <= 1 }

// rule reports the rules that fired and sums them up.
func (ev *Evaluation) rule() ruling {
	sum := ruling{strictest: vaglio.Approve, mandatory: vaglio.Approve}
	for _, r := range ev.fired {
		if r.State == Shadow {
			continue
		}
		switch verdict := vaglio.Verdict(r.Then); verdict {
		case vaglio.Review, vaglio.Deny:
			sum.strictest = stricter(sum.strictest, verdict)
			if r.Mandatory {
				sum.mandatory = stricter(sum.mandatory, verdict)
			}
		case vaglio.Approve:
			sum.allowed = sum.allowed || r.Override
		}
		sum.ceiling = sum.ceiling || r.AtMost
	}
	for _, r := range ev.fired {
		ev.hits = append(ev.hits, vaglio.RuleHit{Name: r.Name, Action: r.Action(), State: r.State})
		setAside := sum.allowed && !r.Mandatory && (r.Then == string(vaglio.Review) || r.Then == string(vaglio.Deny))
		if r.State == Shadow || setAside {
			continue
		}
		for _, action := range r.Actions {
			ev.require(action)
		}
		ev.say(r.Reason)
		if r.Due != (Due{}) {
			if due := r.Due.from(ev.in.Moment); sum.due == 0 || due < sum.due {
				sum.due = due
			}
		}
	}
	return sum
}

func (ev *Evaluation) require(action string) {
	if !slices.Contains(ev.actions, action) {
		ev.actions = append(ev.actions, action)
	}
}

func (ev *Evaluation) say(code string) {
	if code != "" && !slices.Contains(ev.codes, code) {
		ev.codes = append(ev.codes, code)
	}
}

// hit reports a built-in rule, unless a rule of the policy of that name said the same.
func (ev *Evaluation) hit(name string, verdict vaglio.Verdict) {
	h := vaglio.RuleHit{Name: name, Action: string(verdict), State: Active}
	if !slices.Contains(ev.hits, h) {
		ev.hits = append(ev.hits, h)
	}
	ev.say(builtinReasons[name])
}

// narrows reports whether a full queue lets this request go, which only the score would have sent to review.
func (c *Capacity) narrows(ev *Evaluation, load float64) bool {
	return c.Narrow && load >= c.From && ev.byScore == vaglio.Review && ev.in.Probability >= 0 && ev.in.Probability < c.ApproveBelow &&
		ev.in.Fact.BaseKnown && ev.in.Fact.BaseAmount <= c.MaxAmount
}

func (ev *Evaluation) guard(verdict vaglio.Verdict, s *Situation) vaglio.Verdict {
	if s.Guard.Review && verdict == vaglio.Approve || s.Guard.Denials && verdict == vaglio.Deny {
		ev.hit(RuleGuard, vaglio.Review)
		return vaglio.Review
	}
	return verdict
}

// hold stops bursts.
func (ev *Evaluation) hold(verdict vaglio.Verdict, s *Situation, t *Treatment) vaglio.Verdict {
	if verdict == vaglio.Deny {
		return verdict
	}
	if t.Caps.exceeded(&s.Counters, ev.in.Fact) {
		ev.hit(RuleCaps, vaglio.Review)
		verdict = vaglio.Review
	}
	if s.Duplicate {
		ev.hit(RuleDuplicate, vaglio.Review)
		verdict = vaglio.Review
	}
	return verdict
}

func (c *Caps) exceeded(n *Counters, fact *vaglio.Fact) bool {
	over := func(others int, limit int64) bool { return int64(others) >= limit }
	if over(n.Requests1h, c.Requests1h) || over(n.Requests24h, c.Requests24h) || over(n.Approvals1h, c.Approvals1h) ||
		over(n.Approvals24h, c.Approvals24h) {
		return true
	}
	return c.Approved24h != Unlimited && (!fact.BaseKnown || n.Approved24h > c.Approved24h-fact.BaseAmount)
}

// pay never lets more leave than there is.
func (ev *Evaluation) pay(verdict vaglio.Verdict, s *Situation, requirePayment bool) vaglio.Verdict {
	switch {
	case s.RefundableKnown && ev.in.Request.Amount > s.RefundableMinor:
		ev.hit(RuleOverCaptured, vaglio.Deny)
		return vaglio.Deny
	case s.Foreign && verdict != vaglio.Deny:
		ev.hit(RulePaymentForeign, vaglio.Review)
		return vaglio.Review
	case !s.RefundableKnown && requirePayment && verdict != vaglio.Deny:
		ev.hit(RulePaymentUnknown, vaglio.Review)
		return vaglio.Review
	default:
		return verdict
	}
}

// harmless reports whether nothing but the score stands against an approval.
func (ev *Evaluation) harmless(s *Situation, t *Treatment, requirePayment bool) bool {
	return !s.Guard.Review && !s.Duplicate && !t.Caps.exceeded(&s.Counters, ev.in.Fact) && !s.Foreign &&
		(s.RefundableKnown && ev.in.Request.Amount <= s.RefundableMinor || !s.RefundableKnown && !requirePayment)
}

// expectedLoss is what an approval is expected to lose of the money, in minor units of the request's currency.
func (ev *Evaluation) expectedLoss() int64 {
	if !ev.known() {
		return 0
	}
	lost := 1.0
	if costs := ev.treatment.Costs; costs != nil {
		lost = costs.lost(ev.stake)
	}
	return int64(math.Round(ev.in.Probability * lost * float64(ev.in.Request.Amount)))
}
