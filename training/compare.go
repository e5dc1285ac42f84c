package training

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
)

// Comparison is the difference of one way of deciding from another on the same requests, by paired resamples: both are
// measured on each.
type Comparison struct {
	With        string       `json:"with"` // what the model is compared with
	Differences []Difference `json:"differences"`
}

// Difference is that of one metric. Nil is what could not be measured.
type Difference struct {
	Metric     string    `json:"metric"`
	Model      *float64  `json:"model"`
	Other      *float64  `json:"other"`
	Difference *float64  `json:"difference"` // model − other
	Interval   *Interval `json:"interval"`   // 95 %, of the difference
	Verdict    string    `json:"verdict"`
}

// The verdicts of a difference: whether the interval leaves 0 out, and on which side.
const (
	DifferenceBetter  = "better"
	DifferenceWorse   = "worse"
	DifferenceUnclear = "unclear"
)

// Baseline decides the rows of a matrix without a model; anything but approve and deny counts as review.
type Baseline func(row int) vaglio.Verdict

// Rules make a baseline for a matrix.
type Rules func(context.Context, *Matrix) (Baseline, error)

// opponent is what a model is compared with: a score by row, which for rules is how strict their verdict is.
type opponent struct {
	name          string
	score         []float64
	verdicts      []vaglio.Verdict
	probabilities bool
}

func rulesOnly(baseline Baseline, rows int) opponent {
	o := opponent{name: "rules", score: make([]float64, rows), verdicts: make([]vaglio.Verdict, rows)}
	for i := range rows {
		switch v := baseline(i); v {
		case vaglio.Approve:
			o.verdicts[i] = v
		case vaglio.Deny:
			o.score[i], o.verdicts[i] = 1, v
		default:
			o.score[i], o.verdicts[i] = 0.5, vaglio.Review
		}
	}
	return o
}

// rival measures an opponent, and the model at the opponent's load: how much of the fraud it finds when it holds up as many
// requests, those of its highest scores.
type rival struct {
	name          string
	own, other    *board
	probabilities bool
	held          []uint32 // requests that the opponent holds up, by cluster
}

const atSameLoad = "frauds_stopped_at_its_load"

func (g *ground) rival(own *board, o *opponent) *rival {
	r := &rival{o.name, own, g.board(o.score, o.verdicts, o.probabilities), o.probabilities, make([]uint32, g.clusters)}
	for i, v := range o.verdicts {
		if v != vaglio.Approve {
			r.held[g.cluster[i]]++
		}
	}
	return r
}

// size is that of the opponent's metrics, and one for the model at the opponent's load.
func (r *rival) size() int { return r.other.size() + 1 }

func (r *rival) measure(counts []uint8, into []float64) {
	r.other.measure(counts, into[:r.other.size()])
	load := 0.0
	for c, n := range counts {
		load += float64(n) * float64(r.held[c])
	}
	into[r.other.size()] = 0
	if load > 0 {
		into[r.other.size()] = r.own.ranked.measure(counts, nil, []float64{load}).top[0].recall
	}
}

// told compares with what the model's own board measured on the same resamples.
func (r *rival) told(ownPoint, point []float64, ownDrawn, drawn [][]float64) Comparison {
	c := Comparison{With: r.name, Differences: []Difference{}}
	for i, name := range r.other.names {
		lower := false
		if i < len(metricKinds) {
			lower = metricKinds[i].lower
			if metricKinds[i].probabilities && !r.probabilities {
				continue
			}
		}
		c.Differences = append(c.Differences, difference(name, lower, ownPoint[i], point[i], ownDrawn[i], drawn[i]))
		if name == "frauds_stopped" {
			last := r.other.size()
			c.Differences = append(c.Differences, difference(atSameLoad, false, point[last], point[i], drawn[last], drawn[i]))
		}
	}
	return c
}

func difference(name string, lower bool, model, other float64, modelDrawn, otherDrawn []float64) Difference {
	d := Difference{Metric: name, Model: known(model), Other: known(other), Difference: known(model - other), Verdict: DifferenceUnclear}
	drawn := make([]float64, len(modelDrawn))
	for i := range drawn {
		drawn[i] = modelDrawn[i] - otherDrawn[i]
	}
	interval, ok := intervalOf(drawn)
	if !ok || d.Difference == nil {
		return d
	}
	d.Interval = &interval
	switch above, below := interval.Low > 0, interval.High < 0; {
	case above && !lower, below && lower:
		d.Verdict = DifferenceBetter
	case above, below:
		d.Verdict = DifferenceWorse
	}
	return d
}

// CompareOptions say on which requests two models are compared.
type CompareOptions struct {
	History *history.Store
	Period
	Cut      vaglio.Instant // labels learned later are not used
	Maturity vaglio.Instant // 0: DefaultMaturity
	Measure  MeasureOptions // as for Examine
	Most     int            // changes that are explained; 0: 10
	Progress func(Progress) // may be nil
}

// Compared is model B beside model A on the same labelled requests: each difference is B − A.
type Compared struct {
	From        vaglio.Instant       `json:"from"`
	Until       vaglio.Instant       `json:"until"`
	Rows        int                  `json:"rows"`
	Frauds      int                  `json:"frauds"`
	A           vaglio.ModelIdentity `json:"a"`
	B           vaglio.ModelIdentity `json:"b"`
	ThresholdsA models.Thresholds    `json:"thresholds_a"`
	ThresholdsB models.Thresholds    `json:"thresholds_b"`
	Differences []Difference         `json:"differences"`
	Bootstrap   Bootstrap            `json:"bootstrap"`
	Decisions   []DecisionChange     `json:"decisions"` // by each model's own thresholds, unchanged ones too
	Changes     []ScoreChange        `json:"changes"`   // of the largest difference in log-odds of the probability first
}

// DecisionChange counts requests by what the two models' thresholds make of them.
type DecisionChange struct {
	A        vaglio.Verdict `json:"a"`
	B        vaglio.Verdict `json:"b"`
	Requests int            `json:"requests"`
	Frauds   int            `json:"frauds"`
	Amount   int64          `json:"amount"` // minor units of the base currency
}

// ScoreChange is one request that the models see differently, and by what.
type ScoreChange struct {
	RequestID    string              `json:"request_id"`
	At           vaglio.Instant      `json:"at"`
	Fraud        bool                `json:"fraud"`
	ProbabilityA float64             `json:"probability_a"`
	ProbabilityB float64             `json:"probability_b"`
	VerdictA     vaglio.Verdict      `json:"decision_a"`
	VerdictB     vaglio.Verdict      `json:"decision_b"`
	Features     []ContributionShift `json:"features"` // the largest first, at most 5
}

// ContributionShift is what a feature contributes in each model, in log-odds, exactly; nil where a model lacks it.
type ContributionShift struct {
	Feature string   `json:"feature"`
	Reason  string   `json:"reason"`
	Value   string   `json:"value"`
	A       *float64 `json:"a"`
	B       *float64 `json:"b"`
}

// Compare puts two models side by side on the labelled requests of a period.
func Compare(ctx context.Context, a, b *models.Bundle, o CompareOptions) (Compared, error) {
	c, s, err := compare(ctx, a, b, o)
	if err != nil {
		return c, err
	}
	c.Changes, err = largestChanges(a, b, s.sets, s.a, s.b, verdictsOf(s.a, c.ThresholdsA), verdictsOf(s.b, c.ThresholdsB), cmp.Or(o.Most, 10))
	return c, err
}

// sides are what two models say of the same rows.
type sides struct {
	sets []*Matrix // by each one's features
	a, b []float64 // probabilities by row
}

// compare is Compare without the changes.
func compare(ctx context.Context, a, b *models.Bundle, o CompareOptions) (Compared, sides, error) {
	c := Compared{From: o.From, Until: o.Until, A: a.Identity(), B: b.Identity(), ThresholdsA: a.Manifest().Thresholds, ThresholdsB: b.Manifest().Thresholds}
	x := ExamineOptions{History: o.History, Period: o.Period, Cut: o.Cut, Maturity: o.Maturity, Measure: o.Measure, Progress: o.Progress}
	sets, err := x.matrices(ctx, a, b)
	if err != nil {
		return c, sides{}, err
	}
	s := sides{sets: sets}
	if s.a, err = probabilities(ctx, a, sets[0]); err != nil {
		return c, s, err
	}
	if s.b, err = probabilities(ctx, b, sets[1]); err != nil {
		return c, s, err
	}
	m := o.Measure
	m.Thresholds, m.Currency = c.ThresholdsB, o.History.BaseCurrency()
	rows, va, vb := sets[1].Rows, verdictsOf(s.a, c.ThresholdsA), verdictsOf(s.b, c.ThresholdsB)
	e, err := measure(ctx, rows, s.b, m, []opponent{{c.A.Version, s.a, va, true}})
	if err != nil {
		return c, s, err
	}
	c.Rows, c.Frauds, c.Bootstrap, c.Differences = e.Rows, e.Frauds, e.Bootstrap, e.Against[0].Differences
	c.Decisions = decisionChanges(rows, va, vb)
	return c, s, nil
}

func decisionChanges(rows []Row, va, vb []vaglio.Verdict) []DecisionChange {
	counts := map[[2]vaglio.Verdict]*DecisionChange{}
	var out []DecisionChange
	for _, a := range []vaglio.Verdict{vaglio.Approve, vaglio.Review, vaglio.Deny} {
		for _, b := range []vaglio.Verdict{vaglio.Approve, vaglio.Review, vaglio.Deny} {
			counts[[2]vaglio.Verdict{a, b}] = &DecisionChange{A: a, B: b}
		}
	}
	for i := range rows {
		c := counts[[2]vaglio.Verdict{va[i], vb[i]}]
		c.Requests++
		if rows[i].Fraud {
			c.Frauds++
		}
		if rows[i].BaseKnown {
			c.Amount += rows[i].BaseAmount
		}
	}
	for _, pair := range slices.SortedFunc(maps.Keys(counts), func(x, y [2]vaglio.Verdict) int {
		return cmp.Or(strictness(x[0])-strictness(y[0]), strictness(x[1])-strictness(y[1]))
	}) {
		out = append(out, *counts[pair])
	}
	return out
}

func strictness(v vaglio.Verdict) int {
	return slices.Index([]vaglio.Verdict{vaglio.Approve, vaglio.Review, vaglio.Deny}, v)
}

func largestChanges(a, b *models.Bundle, sets []*Matrix, pa, pb []float64, va, vb []vaglio.Verdict, most int) ([]ScoreChange, error) {
	apart := func(i int) float64 { return math.Abs(logit(pb[i]) - logit(pa[i])) }
	order := make([]int, len(pa))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(cmp.Compare(apart(j), apart(i)), cmp.Compare(i, j)) })
	out := []ScoreChange{}
	for _, i := range order[:min(most, len(order))] {
		row := &sets[0].Rows[i]
		shifts, err := contributionShifts(a, b, sets[0].vector(i), sets[1].vector(i))
		if err != nil {
			return nil, fmt.Errorf("explain request %s: %w", row.ID, err)
		}
		out = append(out, ScoreChange{row.ID, row.At, row.Fraud, pa[i], pb[i], va[i], vb[i], shifts[:min(5, len(shifts))]})
	}
	return out, nil
}

// contributionShifts are sorted by how far the two models are apart.
func contributionShifts(a, b *models.Bundle, xa, xb []float64) ([]ContributionShift, error) {
	shifts := map[string]*ContributionShift{}
	for _, side := range []struct {
		bundle *models.Bundle
		vector []float64
		into   func(*ContributionShift) **float64
	}{{a, xa, func(s *ContributionShift) **float64 { return &s.A }}, {b, xb, func(s *ContributionShift) **float64 { return &s.B }}} {
		phi := make([]float64, len(side.vector))
		if _, err := side.bundle.Contributions(phi, side.vector); err != nil {
			return nil, err
		}
		currency := side.bundle.Manifest().BaseCurrency
		for i, f := range side.bundle.Catalogue().Features() {
			s := shifts[f.Name]
			if s == nil {
				s = &ContributionShift{Feature: f.Name}
				shifts[f.Name] = s
			}
			s.Reason, s.Value = f.Reason, side.bundle.Catalogue().Shown(i, side.vector[i], vaglio.Languages[0], currency, currency)
			*side.into(s) = &phi[i]
		}
	}
	apart := func(s ContributionShift) float64 {
		of := func(v *float64) float64 {
			if v == nil {
				return 0
			}
			return *v
		}
		return math.Abs(of(s.B) - of(s.A))
	}
	out := make([]ContributionShift, 0, len(shifts))
	for _, name := range slices.Sorted(maps.Keys(shifts)) {
		out = append(out, *shifts[name])
	}
	slices.SortStableFunc(out, func(x, y ContributionShift) int { return cmp.Compare(apart(y), apart(x)) })
	return out, nil
}

// logit keeps certain probabilities finite.
func logit(p float64) float64 {
	const tiny = 1e-6
	p = min(max(p, tiny), 1-tiny)
	return math.Log(p / (1 - p))
}
