package training

import (
	"context"
	"fmt"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// GateOptions say by what a model is held against the champion.
type GateOptions struct {
	History  *history.Store // nil: there is none at hand, so nothing can be measured
	Cut      vaglio.Instant // now: labels learned later are not used
	Maturity vaglio.Instant // 0: DefaultMaturity
	Policy   *policy.Policy // in force: what mistakes cost, and its segments; nil: the default one, or what it does not say
	Measure  MeasureOptions // Resamples and Seed
	Progress func(Progress) // may be nil
}

// Gated is what a gate found.
type Gated struct {
	Against  []error        // empty: nothing speaks against the promotion
	Champion string         // compared with; "" without a comparison
	From     vaglio.Instant // of the requests that neither has learnt from
	Until    vaglio.Instant
	Requests int
	Frauds   int
	Ranking  Difference // of the average precision, model − champion
	Money    Saving     // what the model's thresholds would have cost less than the champion's, minor units of the base currency
}

// Err is nil when nothing speaks against a promotion; otherwise it wraps [models.ErrGate].
func (g *Gated) Err(version string, stage models.Stage) error {
	return models.Refusal(version, stage, g.Against)
}

func (g *Gated) no(format string, args ...any) {
	g.Against = append(g.Against, fmt.Errorf(format, args...))
}

// Gate finds what speaks against a promotion: what the manifest tells and, of a champion to be, being worse than the present one
// beyond noise, in average precision or in money, on the newest labelled requests that neither has learnt from. What can't be
// measured speaks against it too. champion may be nil: then there is nothing to be worse than. The error is for what ended the
// work itself.
func Gate(ctx context.Context, model, champion *models.Bundle, stage models.Stage, o GateOptions) (Gated, error) {
	manifest := model.Manifest()
	g := Gated{Against: manifest.Against(stage)}
	if stage != models.Champion || champion == nil || champion.Identity() == model.Identity() {
		return g, nil
	}
	g.Champion = champion.Manifest().Version
	g.From, g.Until = max(manifest.Training.Until, champion.Manifest().Training.Until), o.Cut
	unmeasured := fmt.Sprintf("whether it is worse than the champion %s can't be measured", g.Champion)
	switch {
	case o.History == nil:
		g.no("%s: there is no history at hand", unmeasured)
		return g, nil
	case g.From >= g.Until:
		g.no("%s: both have learnt from all requests until %v", unmeasured, g.From)
		return g, nil
	}
	err := g.compare(ctx, model, champion, o)
	switch {
	case ctx.Err() != nil:
		return g, context.Cause(ctx)
	case err != nil:
		g.no("%s on the requests from %v to %v: %w", unmeasured, g.From, g.Until, err)
		return g, nil
	}
	frauds := fmt.Sprintf("on %d requests with %d frauds", g.Requests, g.Frauds)
	switch d := g.Ranking; {
	case d.Interval == nil:
		g.no("%s in average precision: %s there are too few to tell anything from noise", unmeasured, frauds)
	case d.Verdict == DifferenceWorse:
		g.no("it is worse than the champion %s %s: average precision %+.4f (95 %%: %+.4f to %+.4f)", g.Champion, frauds, *d.Difference, d.Interval.Low,
			d.Interval.High)
	}
	switch s := g.Money; {
	case s.Interval == nil:
		g.no("%s in money: %s there are too few to tell anything from noise", unmeasured, frauds)
	case s.Interval.High < 0:
		g.no("its thresholds cost more than those of the champion %s %s: %d minor units (95 %%: %.0f to %.0f)", g.Champion, frauds, -s.Amount,
			-s.Interval.High, -s.Interval.Low)
	}
	return g, nil
}

func (g *Gated) compare(ctx context.Context, model, champion *models.Bundle, o GateOptions) error {
	compared, sides, err := compare(ctx, champion, model, CompareOptions{History: o.History, Period: Period{g.From, g.Until}, Cut: o.Cut, Maturity: o.Maturity,
		Measure: o.Measure, Progress: o.Progress})
	if err != nil {
		return err
	}
	g.Requests, g.Frauds = compared.Rows, compared.Frauds
	for _, d := range compared.Differences {
		if d.Metric == "average_precision" {
			g.Ranking = d
		}
	}
	in, costs := o.Policy, policy.DefaultCosts()
	if in == nil {
		in = policy.Default()
	}
	if in.Costs != nil {
		costs = *in.Costs
	}
	bound, _ := in.BindLoose(sides.sets[1].Catalogue)
	cases, _, err := Cases(ctx, o.History, sides.sets[1], sides.b, bound)
	if err != nil {
		return err
	}
	theirs := make(map[string]float64, len(sides.a))
	for i, p := range sides.a {
		theirs[sides.sets[0].Rows[i].ID] = p
	}
	own := outcomeOf("model", cases, &costs, func(c *Case) vaglio.Verdict { return decide(c.Probability, compared.ThresholdsB) })
	other := outcomeOf("champion", cases, &costs, func(c *Case) vaglio.Verdict { return decide(theirs[c.RequestID], compared.ThresholdsA) })
	saved, err := savings(ctx, cases, &own, []Outcome{other}, o.Measure.Seed)
	if err == nil {
		g.Money = saved[0]
	}
	return err
}
