package training

import (
	"context"
	"fmt"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// Cases are the labelled rows of a matrix with what was at stake and the policy's segment, as a decision at the row's moment
// would have found them. probability is by row. Requests whose amount has no rate of the day are left out and counted.
func Cases(ctx context.Context, h *history.Store, m *Matrix, probability []float64, in *policy.Bound) (cases []Case, unknownAmounts int, err error) {
	if len(m.Rows) == 0 {
		return nil, 0, nil
	}
	cases = make([]Case, len(m.Rows))
	var ev policy.Evaluation
	err = eachRequest(ctx, h, m, func(i int, f *vaglio.Fact) {
		request := vaglio.RequestOf(&f.Event)
		in.Evaluate(&policy.Input{Request: &request, Fact: f, Vector: m.vector(i), Probability: probability[i], Moment: f.OccurredAt}, &ev)
		cases[i] = Case{RequestID: m.Rows[i].ID, At: f.OccurredAt, Customer: m.Rows[i].Customer, Probability: probability[i], Fraud: m.Rows[i].Fraud,
			Stake: ev.Stake(), Segment: ev.Segment()}
	})
	if err != nil {
		return nil, 0, fmt.Errorf("what was at stake: %w", err)
	}
	known := cases[:0]
	for i := range cases {
		if m.Rows[i].BaseKnown {
			known = append(known, cases[i])
		} else {
			unknownAmounts++
		}
	}
	return known, unknownAmounts, nil
}

// RecommendOptions say what thresholds to look for.
type RecommendOptions struct {
	Costs  policy.Costs
	Policy *policy.Policy // in force: its segments, and its thresholds to compare with; nil: the default one
	Seed   uint64
}

// Scored are labelled requests, by the features of a model, and what it says of them.
type Scored struct {
	Matrix      *Matrix   // nil: none
	Probability []float64 // calibrated, by row
}

// Recommend plans thresholds on some requests and judges them on later ones, of which there may be none.
func Recommend(ctx context.Context, h *history.Store, choose, judge Scored, current models.Thresholds, o RecommendOptions) (CostPlan, error) {
	if o.Policy == nil {
		o.Policy = policy.Default()
	}
	bound, _ := o.Policy.BindLoose(choose.Matrix.Catalogue)
	cases, unknown, err := Cases(ctx, h, choose.Matrix, choose.Probability, bound)
	if err != nil {
		return CostPlan{}, err
	}
	if o.Policy.ApproveBelow != nil {
		current.ApproveBelow = *o.Policy.ApproveBelow
	}
	if o.Policy.DenyFrom != nil {
		current.DenyFrom = *o.Policy.DenyFrom
	}
	options := CostOptions{Costs: o.Costs, Seed: o.Seed}
	if o.Policy.Costs == nil {
		options.Current = &current
	}
	if judge.Matrix != nil {
		if options.Judge, _, err = Cases(ctx, h, judge.Matrix, judge.Probability, bound); err != nil {
			return CostPlan{}, err
		}
	}
	plan, err := PlanCosts(ctx, cases, options)
	plan.UnknownAmounts = unknown
	return plan, err
}

// RecommendFor plans thresholds for a bundle on the labelled requests of a period: the earlier half chooses, the later half judges.
// The period lies behind the model's training. o says History, LabelsUntil, Maturity, Now and Progress.
func RecommendFor(ctx context.Context, b *models.Bundle, p Period, o Options, r RecommendOptions) (CostPlan, error) {
	if err := p.check("judged"); err != nil {
		return CostPlan{}, err
	}
	if until := b.Manifest().Training.Until; p.From < until {
		return CostPlan{}, fmt.Errorf("the period begins at %v, but the model was trained on requests until %v: there it flatters itself; begin then or later",
			p.From, until)
	}
	o.Catalogue, o.Train = b.Catalogue(), p
	o.fill()
	m, err := o.labelled(ctx, p, o.LabelsUntil, &learner{of: o.Catalogue})
	if err != nil {
		return CostPlan{}, err
	}
	s := Scored{Matrix: m}
	if s.Probability, err = probabilities(ctx, b, m); err != nil {
		return CostPlan{}, err
	}
	return RecommendWithin(ctx, o.History, s, b.Manifest().Thresholds, r)
}

// RecommendWithin plans thresholds on the earlier half of labelled requests and judges them on the later half.
func RecommendWithin(ctx context.Context, h *history.Store, s Scored, current models.Thresholds, r RecommendOptions) (CostPlan, error) {
	var earlier, later Scored
	earlier.Matrix, later.Matrix = s.Matrix.splitByTime(0.5)
	cut := len(earlier.Matrix.Rows)
	earlier.Probability, later.Probability = s.Probability[:cut], s.Probability[cut:]
	for name, half := range map[string]*Matrix{"earlier": earlier.Matrix, "later": later.Matrix} {
		if err := half.bothClasses(); err != nil {
			return CostPlan{}, fmt.Errorf("%s half of the period: %w", name, err)
		}
	}
	return Recommend(ctx, h, earlier, later, current, r)
}
