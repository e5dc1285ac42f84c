package policy

import (
	"fmt"
	"math"
	"slices"

	"vaglio"
	"vaglio/document"
	"vaglio/models"
)

// How money could be had back once it has left.
const (
	Reversible   = "reversible"   // at will: from an own wallet, or while the payment can still be reversed
	RecallOnly   = "recall_only"  // by a recall or a dispute, if the receiver or a bank agrees
	Irreversible = "irreversible" // not, as far as is known
)

// Costs say what each verdict costs, right or wrong. Money is in minor units of the base currency, shares are 0 to 1. They are
// the one definition of what a mistake costs: policies decide by it, training derives its thresholds from it.
type Costs struct {
	Recovery    Recovery
	Returned    float64 // share of paid frauds whose payment is then pulled back as well, where its payer has that right
	FraudFee    int64   // of a paid fraud beside the money itself: fees of schemes, work on the case
	WrongDenial WrongDenial
	Review      ReviewCosts
	segments    map[string]Costs
}

// Recovery is the share of a paid fraud that comes back, by reversibility.
type Recovery struct {
	Reversible, RecallOnly, Irreversible float64
	Elsewhere                            float64 // how much of that share is left when the money did not go back to its source
}

// WrongDenial is what it costs to turn an honest customer away.
type WrongDenial struct {
	Margin float64 // lost margin, as a share of the amount
	Churn  int64   // value of the customer times the chance to lose him, and his complaints
}

// ReviewCosts are those of a person's look at a request.
type ReviewCosts struct {
	Cost    int64   // of the look itself
	Catch   float64 // share of frauds that reviewers deny
	Wrong   float64 // share of honest requests that reviewers deny
	PerHour float64 // reviews that the team can do; 0: as many as come
}

// DefaultCosts are starting points from practice, in EUR cents: replace them with your own.
func DefaultCosts() Costs {
	return Costs{
		Recovery:    Recovery{Reversible: 0.8, RecallOnly: 0.1, Irreversible: 0, Elsewhere: 0.5},
		Returned:    0.05,
		FraudFee:    1500,
		WrongDenial: WrongDenial{Margin: 0.2, Churn: 3000},
		Review:      ReviewCosts{Cost: 250, Catch: 0.8, Wrong: 0.05},
	}
}

// maxCostsBytes bounds a file of costs.
const maxCostsBytes = 64 << 10

// ParseCosts reads a file of costs (YAML), as `costs:` of a policy holds it; what it leaves out is of [DefaultCosts].
func ParseCosts(content []byte) (Costs, error) {
	root, err := document.Parse(content, maxCostsBytes)
	if err != nil {
		return Costs{}, fmt.Errorf("read the costs: %w", err)
	}
	costs := readCosts(root.Value, DefaultCosts(), true)
	if err := root.Err(); err != nil {
		return Costs{}, fmt.Errorf("read the costs: %w", err)
	}
	return costs, nil
}

// readCosts reads costs that override given ones.
func readCosts(v document.Value, c Costs, withSegments bool) Costs {
	share := func(into *float64) func(document.Value) {
		return func(v document.Value) { *into = v.Number(0, 1) }
	}
	money := func(into *int64) func(document.Value) {
		return func(v document.Value) { *into = v.Whole(0, vaglio.MaxAmount) }
	}
	nested := func(table map[string]func(document.Value)) func(document.Value) {
		return func(v document.Value) { v.Fields(table) }
	}
	var segments *document.Value
	c.segments = nil
	table := map[string]func(document.Value){
		"recovery": nested(map[string]func(document.Value){
			"reversible": share(&c.Recovery.Reversible), "recall_only": share(&c.Recovery.RecallOnly),
			"irreversible": share(&c.Recovery.Irreversible), "elsewhere": share(&c.Recovery.Elsewhere)}),
		"returned":  share(&c.Returned),
		"fraud_fee": money(&c.FraudFee),
		"wrong_denial": nested(map[string]func(document.Value){
			"margin": share(&c.WrongDenial.Margin), "churn": money(&c.WrongDenial.Churn)}),
		"review": nested(map[string]func(document.Value){
			"cost": money(&c.Review.Cost), "catch": share(&c.Review.Catch), "wrong": share(&c.Review.Wrong),
			"per_hour": func(v document.Value) { c.Review.PerHour = v.Number(0, 1e6) }}),
	}
	if withSegments {
		table["segments"] = func(v document.Value) { segments = &v }
	}
	v.Fields(table)
	if r := c.Recovery; r.Reversible < r.RecallOnly || r.RecallOnly < r.Irreversible {
		v.Failf("recovery: reversible money comes back at least as often as recall_only, and that as irreversible")
	}
	if segments != nil {
		c.segments = map[string]Costs{}
		segments.Each(func(name string, v document.Value) { c.segments[name] = readCosts(v, c, false) })
	}
	return c
}

// Segment is the costs of a segment: its own where they are given, otherwise these.
func (c *Costs) Segment(name string) *Costs {
	if own, ok := c.segments[name]; ok {
		return &own
	}
	return c
}

// Stake is what is at risk in one request.
type Stake struct {
	AmountMinor   int64 // in the base currency
	Reversibility string
	ToSource      bool // it would go back where it came from
	Returnable    bool // the payer can pull the payment itself back as well, so that the money leaves twice
}

// lost is the share of the amount that a paid fraud costs: what does not come back, and what is pulled back besides.
func (c *Costs) lost(s Stake) float64 {
	recovered := c.Recovery.Irreversible // of a word that is none of the three, too
	switch s.Reversibility {
	case Reversible:
		recovered = c.Recovery.Reversible
	case RecallOnly:
		recovered = c.Recovery.RecallOnly
	}
	if !s.ToSource {
		recovered *= c.Recovery.Elsewhere
	}
	lost := 1 - recovered
	if s.Returnable {
		lost += c.Returned
	}
	return lost
}

// mistakes are what a paid fraud and a denied honest request cost.
func (c *Costs) mistakes(s Stake) (paidFraud, wrongDenial float64) {
	amount := float64(s.AmountMinor)
	return amount*c.lost(s) + float64(c.FraudFee), amount*c.WrongDenial.Margin + float64(c.WrongDenial.Churn)
}

// Expected is what each verdict is expected to cost at a probability of fraud, in minor units of the base currency:
//
//	approve   p · paidFraud
//	deny      (1 − p) · wrongDenial
//	review    cost + p · (1 − catch) · paidFraud + (1 − p) · wrong · wrongDenial
//
// where paidFraud = amount · (1 − recovered + returned) + fraud_fee and wrongDenial = amount · margin + churn. An unknown
// probability (NaN) has unknown costs.
func (c *Costs) Expected(probability float64, s Stake) (approve, review, deny float64) {
	paidFraud, wrongDenial := c.mistakes(s)
	p, honest := probability, 1-probability
	return p * paidFraud,
		float64(c.Review.Cost) + p*(1-c.Review.Catch)*paidFraud + honest*c.Review.Wrong*wrongDenial,
		honest * wrongDenial
}

// Best is the verdict with the least expected cost; of equal ones, and of what is not a number, a review.
func (c *Costs) Best(probability float64, s Stake) vaglio.Verdict {
	approve, review, deny := c.Expected(probability, s)
	switch {
	case approve < review && approve < deny:
		return vaglio.Approve
	case deny < review && deny < approve:
		return vaglio.Deny
	default:
		return vaglio.Review
	}
}

// Thresholds are the probabilities between which [Costs.Best] changes its mind: approve below the first, deny from the second.
// They are one where a review never pays.
func (c *Costs) Thresholds(s Stake) models.Thresholds {
	paidFraud, wrongDenial := c.mistakes(s)
	// Each is where two lines of Expected cross: from·p = to.
	cross := func(to, from float64) float64 {
		if from == 0 { // the lines are parallel: one is the lower one everywhere
			if to < 0 {
				return 0
			}
			return 1
		}
		return math.Min(math.Max(to/from, 0), 1)
	}
	cost, catch, wrong := float64(c.Review.Cost), c.Review.Catch, c.Review.Wrong
	direct := cross(wrongDenial, paidFraud+wrongDenial)
	approve := cross(cost+wrong*wrongDenial, catch*paidFraud+wrong*wrongDenial)
	deny := cross((1-wrong)*wrongDenial-cost, (1-catch)*paidFraud+(1-wrong)*wrongDenial)
	if approve >= deny {
		approve, deny = direct, direct
	}
	return models.Thresholds{ApproveBelow: approve, DenyFrom: deny}
}

// ReversibilityOf says how money could be had back once it has left. An own wallet can be debited again, other rails know
// recalls, which need the receiver's consent or a dispute; of an unknown rail the worst is assumed.
func ReversibilityOf(r *vaglio.Request, at vaglio.Instant) string {
	if r.Payment == nil {
		return Irreversible
	}
	switch {
	case r.Payment.ReversibleUntil > at, r.Payment.Rail == "wallet":
		return Reversible
	case r.Payment.Rail != "":
		return RecallOnly
	default:
		return Irreversible
	}
}

// returnableRails let the payer pull a payment back: by chargeback, or by the return of a debit.
var returnableRails = []string{"card", "direct_debit", "ach"}

// stakeOf is what is at risk in a request, with its amount as history keeps it.
func stakeOf(r *vaglio.Request, fact *vaglio.Fact, at vaglio.Instant) Stake {
	payout := fact.Entities.Get(vaglio.EntityPayoutInstrument)
	s := Stake{AmountMinor: fact.BaseAmount, Reversibility: ReversibilityOf(r, at),
		ToSource: payout == "" || payout == fact.Entities.Get(vaglio.EntityInstrument)}
	if p := r.Payment; p != nil {
		s.Returnable = p.State != "returned" && slices.Contains(returnableRails, p.Rail)
	}
	return s
}
