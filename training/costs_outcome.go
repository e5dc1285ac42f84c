package training

import (
	"context"
	"math"
	"slices"

	"vaglio"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// planSegments finds pairs by segment. They share the reviewers: each review is made dearer by the same amount until the capacity
// suffices (a Lagrange multiplier: what another review would be worth).
func (p *CostPlan) planSegments(cases []Case, costs *policy.Costs) {
	parts := map[string][]Case{}
	for _, c := range cases {
		parts[c.Segment] = append(parts[c.Segment], c)
	}
	names := make([]string, 0, len(parts))
	frauds := map[string]int{}
	for name, part := range parts {
		for i := range part {
			if part[i].Fraud {
				frauds[name]++
			}
		}
		if name != "" && frauds[name] >= fewestInSegment && len(part)-frauds[name] >= fewestInSegment {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	names = append(names, "")
	for name, part := range parts { // too small a segment is treated as the rest
		if !slices.Contains(names, name) {
			parts[""] = append(parts[""], part...)
			frauds[""] += frauds[name]
		}
	}
	bands, pairs := make([]*band, len(names)), make([][2]int, len(names))
	for i, name := range names {
		bands[i] = newBand(parts[name], costs)
	}
	bands = slices.DeleteFunc(bands, func(b *band) bool { return len(b.at) == 0 }) // only the last can be empty
	load := func(without int) *hours {
		h := newHours(cases, costs.Review.PerHour)
		for i, b := range bands {
			for at := b.at[pairs[i][0]]; at < b.at[pairs[i][1]] && i != without; at++ {
				h.add(b.cases[at].At, 1)
			}
		}
		return h
	}
	fits := func(price float64) bool {
		for i, b := range bands {
			pairs[i] = b.priced(price)
		}
		return !load(-1).tooMany()
	}
	if !fits(0) {
		p.ReviewPrice = leastPrice(fits)
		fits(p.ReviewPrice)
		for range 2 { // prices move a segment in leaps: what they leave of the capacity is dealt out one by one
			for i, b := range bands {
				b.reach = b.within(load(i))
				pairs[i][0], pairs[i][1] = b.best()
			}
		}
	}
	for i, b := range bands {
		p.Segments = append(p.Segments, SegmentThresholds{Segment: names[i], Requests: len(b.cases), Frauds: frauds[names[i]],
			Thresholds: models.Thresholds{ApproveBelow: b.value[pairs[i][0]], DenyFrom: b.value[pairs[i][1]]}})
	}
}

// leastPrice is about the least that fits, where 0 does not.
func leastPrice(fits func(float64) bool) float64 {
	low, high := 0.0, 1.0
	for ; !fits(high) && high < 1e15; high *= 2 {
		low = high
	}
	for range 40 {
		if middle := (low + high) / 2; fits(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// priced is the best pair when each review costs so much more.
func (b *band) priced(price float64) [2]int {
	least, second := math.Inf(1), len(b.at)-1
	var pair [2]int
	for k := len(b.at) - 1; k >= 0; k-- { // second is the best one from k on
		cost := func(first, second int) float64 {
			return b.below[first] + b.above[second] + price*float64(b.at[second]-b.at[first])
		}
		if b.above[k]+price*float64(b.at[k]) <= b.above[second]+price*float64(b.at[second]) {
			second = k
		}
		if c := cost(k, second); c <= least {
			least, pair = c, [2]int{k, second}
		}
	}
	return pair
}

// decide is the verdict of a probability by thresholds, as policies take it.
func decide(probability float64, t models.Thresholds) vaglio.Verdict {
	switch {
	case probability < t.ApproveBelow && probability < t.DenyFrom:
		return vaglio.Approve
	case probability >= t.DenyFrom:
		return vaglio.Deny
	default:
		return vaglio.Review
	}
}

// thresholdsOf are the pair for a request's segment.
func (p *CostPlan) thresholdsOf(segment string) models.Thresholds {
	for _, name := range []string{segment, ""} {
		if i := slices.IndexFunc(p.Segments, func(s SegmentThresholds) bool { return s.Segment == name }); i >= 0 {
			return p.Segments[i].Thresholds
		}
	}
	return p.Thresholds
}

// judge measures the ways to decide and what the plan's saves.
func (p *CostPlan) judge(ctx context.Context, cases []Case, o CostOptions) error {
	measure := func(way string, verdict func(*Case) vaglio.Verdict) {
		p.Outcomes = append(p.Outcomes, outcomeOf(way, cases, &o.Costs, verdict))
	}
	if len(p.Segments) > 0 {
		measure(BySegments, func(c *Case) vaglio.Verdict { return decide(c.Probability, p.thresholdsOf(c.Segment)) })
	}
	measure(ByThresholds, func(c *Case) vaglio.Verdict { return decide(c.Probability, p.Thresholds) })
	measure(ByLeastCost, func(c *Case) vaglio.Verdict { return o.Costs.Segment(c.Segment).Best(c.Probability, c.Stake) })
	if o.Current != nil {
		measure(ByCurrent, func(c *Case) vaglio.Verdict { return decide(c.Probability, *o.Current) })
	}
	measure(ByApproval, func(*Case) vaglio.Verdict { return vaglio.Approve })
	var err error
	p.Savings, err = savings(ctx, cases, &p.Outcomes[0], p.Outcomes[1:], o.Seed)
	return err
}

// savings are what one way to decide the cases cost less than others, with paired resamples of customers.
func savings(ctx context.Context, cases []Case, own *Outcome, others []Outcome, seed uint64) ([]Saving, error) {
	cluster, clusters := clustersOfCases(cases)
	saved := make([][]float64, len(others)) // by outcome and customer
	for i := range others {
		saved[i] = make([]float64, clusters)
		for row, c := range cluster {
			saved[i][c] += others[i].costs[row] - own.costs[row]
		}
	}
	b := Bootstrap{Resamples: 1000, Level: intervalLevel, Seed: seed}
	values, err := b.resample(ctx, clusters, len(saved), func() func([]uint8, []float64) {
		return func(counts []uint8, into []float64) {
			for i := range saved {
				into[i] = 0
				for c, n := range counts {
					into[i] += float64(n) * saved[i][c]
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]Saving, len(others))
	for i := range others {
		out[i] = Saving{Against: others[i].Way, Amount: others[i].Cost - own.Cost}
		if between, ok := intervalOf(values[i]); ok {
			out[i].Interval = &between
		}
	}
	return out, nil
}

func outcomeOf(way string, cases []Case, costs *policy.Costs, verdict func(*Case) vaglio.Verdict) Outcome {
	out := Outcome{Way: way, costs: make([]float64, len(cases))}
	load := newHours(cases, costs.Review.PerHour)
	total := 0.0
	for i := range cases {
		c := &cases[i]
		approve, review, deny := hindsight(c, costs)
		switch verdict(c) {
		case vaglio.Approve:
			out.Approved++
			out.costs[i] = approve
			if c.Fraud {
				out.FraudsPaid++
			}
		case vaglio.Deny:
			out.Denied++
			out.costs[i] = deny
			if !c.Fraud {
				out.HonestHit++
			}
		default:
			out.Reviewed++
			out.costs[i] = review
			load.add(c.At, 1)
		}
		total += out.costs[i]
	}
	out.Cost, out.BusyHours = int64(math.Round(total)), load.busyShare()
	return out
}

func clustersOfCases(cases []Case) (cluster []int32, clusters int) {
	rows := make([]Row, len(cases))
	for i := range cases {
		rows[i].Customer = cases[i].Customer
	}
	return clustersOf(rows)
}
