package training_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

// even is requests at a thousand probabilities, a hundred of each, of which as many are fraud as the probability says: one an hour,
// for a constant amount.
func even() []training.Case {
	var cases []training.Case
	for k := range 1000 {
		for j := range 100 {
			p := (float64(k) + 0.5) / 1000
			id := len(cases)
			cases = append(cases, training.Case{RequestID: fmt.Sprint("r", id), At: t0 + vaglio.Instant(id)*vaglio.Hour, Customer: fmt.Sprint("c", id%500),
				Probability: p, Fraud: float64(j)+0.5 < 100*p, Stake: fifty})
		}
	}
	return cases
}

var fifty = policy.Stake{AmountMinor: 5000, Reversibility: policy.RecallOnly, ToSource: true}

func plan(t *testing.T, cases []training.Case, o training.CostOptions) training.CostPlan {
	t.Helper()
	p, err := training.PlanCosts(t.Context(), cases, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestThresholdsOfEvenProbabilitiesAreThoseOfTheFormula(t *testing.T) {
	for _, change := range []func(*policy.Costs){
		func(*policy.Costs) {},
		func(c *policy.Costs) { c.Review.Cost = 600 },
		func(c *policy.Costs) { c.FraudFee, c.Review.Catch = 9000, 0.95 },
		func(c *policy.Costs) { c.Review.Cost = 5000 }, // reviews never pay: one threshold
	} {
		costs := policy.DefaultCosts()
		change(&costs)
		want := costs.Thresholds(fifty)
		p := plan(t, even(), training.CostOptions{Costs: costs})
		if math.Abs(p.Thresholds.ApproveBelow-want.ApproveBelow) > 0.006 || math.Abs(p.Thresholds.DenyFrom-want.DenyFrom) > 0.006 {
			t.Errorf("%+v, want %+v", p.Thresholds, want)
		}
		byWay := map[string]training.Outcome{}
		for _, o := range p.Outcomes {
			byWay[o.Way] = o
		}
		if own, least := byWay[training.ByThresholds], byWay[training.ByLeastCost]; own.Cost > least.Cost || float64(own.Cost) < 0.999*float64(least.Cost) {
			t.Errorf("one pair costs %d, the best verdict of each %d", own.Cost, least.Cost)
		}
		frauds, amount := 50_000.0, 5000*0.9+float64(costs.FraudFee)
		if all := byWay[training.ByApproval]; math.Abs(float64(all.Cost)-frauds*amount) > 1 || all.FraudsPaid != 50_000 {
			t.Errorf("approving all costs %d, want %v", all.Cost, frauds*amount)
		}
	}
}

func TestDearerReviewsNarrowTheMiddleBand(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	cases := even()
	random.Shuffle(len(cases), func(i, j int) { cases[i].At, cases[j].At = cases[j].At, cases[i].At })
	before := math.Inf(1)
	for _, cost := range []int64{0, 50, 100, 250, 500, 1000, 2000} {
		costs := policy.DefaultCosts()
		costs.Review.Cost = cost
		p := plan(t, cases, training.CostOptions{Costs: costs})
		if width := p.Thresholds.DenyFrom - p.Thresholds.ApproveBelow; width > before {
			t.Errorf("a review at %d: the band %+v is wider than at less", cost, p.Thresholds)
		} else {
			before = width
		}
	}
}

// crowded is a year of requests, twenty an hour, whose probability is true.
func crowded(hours int) []training.Case {
	random := rand.New(rand.NewPCG(5, 6))
	var cases []training.Case
	for i := range hours * 20 {
		p := math.Pow(random.Float64(), 4)
		segment := ""
		if i%3 == 0 {
			segment = "wallet"
		}
		cases = append(cases, training.Case{RequestID: fmt.Sprint("r", i), At: t0 + vaglio.Instant(i)*vaglio.Hour/20, Customer: fmt.Sprint("c", i%5000),
			Probability: p, Fraud: random.Float64() < p, Stake: policy.Stake{AmountMinor: 100 + random.Int64N(20_000), Reversibility: policy.RecallOnly, ToSource: true}, Segment: segment})
	}
	return cases
}

// reviewsByHour counts what thresholds send to review.
func reviewsByHour(cases []training.Case, of func(*training.Case) models.Thresholds) (over, hours int) {
	counts := map[vaglio.Instant]int{}
	for i := range cases {
		c := &cases[i]
		if th := of(c); c.Probability >= th.ApproveBelow && c.Probability < th.DenyFrom {
			counts[c.At/vaglio.Hour]++
		} else {
			counts[c.At/vaglio.Hour] += 0
		}
	}
	for _, n := range counts {
		if n > 3 {
			over++
		}
	}
	return over, len(counts)
}

func TestReviewersCapacityBinds(t *testing.T) {
	cases := crowded(500)
	free := plan(t, cases, training.CostOptions{Costs: policy.DefaultCosts()})
	costs := policy.DefaultCosts()
	costs.Review.PerHour = 3
	bound := plan(t, cases, training.CostOptions{Costs: costs, Current: &free.Thresholds})
	over, hours := reviewsByHour(cases, func(*training.Case) models.Thresholds { return bound.Thresholds })
	if float64(over) > 0.05*float64(hours) || float64(over) < 0.02*float64(hours) {
		t.Errorf("%d of %d hours have more than 3 reviews", over, hours)
	}
	if before, now := free.Thresholds.DenyFrom-free.Thresholds.ApproveBelow, bound.Thresholds.DenyFrom-bound.Thresholds.ApproveBelow; now >= before {
		t.Errorf("%+v is no narrower than %+v", bound.Thresholds, free.Thresholds)
	}
	saved := map[string]training.Saving{}
	for _, s := range bound.Savings {
		saved[s.Against] = s
	}
	if s := saved[training.ByCurrent]; s.Amount >= 0 { // what the capacity costs
		t.Errorf("%+v", s)
	}
	if s := saved[training.ByApproval]; s.Amount <= 0 || s.Interval == nil || s.Interval.Low > float64(s.Amount) || s.Interval.High < float64(s.Amount) || s.Interval.Low <= 0 {
		t.Errorf("%+v, interval %+v", s, s.Interval)
	}
	for _, o := range bound.Outcomes {
		if o.Approved+o.Reviewed+o.Denied != len(cases) {
			t.Errorf("%+v", o)
		}
		if o.Way == training.ByThresholds && o.BusyHours != float64(over)/float64(hours) {
			t.Errorf("busy hours %v, counted %d of %d", o.BusyHours, over, hours)
		}
	}
	if bound.JudgedOn != "the same requests" || plan(t, cases, training.CostOptions{Costs: costs, Judge: cases[:5000]}).JudgedOn != "later requests" {
		t.Error("what the savings were measured on is not told")
	}
}

func TestNoPairOfThresholdsIsCheaper(t *testing.T) {
	cases := crowded(60)
	costs := policy.DefaultCosts()
	costs.Review.PerHour = 3
	cost := func(th models.Thresholds) (total float64) {
		for i := range cases {
			truth := 0.0
			if cases[i].Fraud {
				truth = 1
			}
			approve, review, deny := costs.Expected(truth, cases[i].Stake)
			switch p := cases[i].Probability; {
			case p < th.ApproveBelow:
				total += approve
			case p >= th.DenyFrom:
				total += deny
			default:
				total += review
			}
		}
		return total
	}
	p := plan(t, cases, training.CostOptions{Costs: costs})
	own := cost(p.Thresholds)
	random := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		a, d := random.Float64(), random.Float64()
		th := models.Thresholds{ApproveBelow: min(a, d), DenyFrom: max(a, d)}
		over, hours := reviewsByHour(cases, func(*training.Case) models.Thresholds { return th })
		if float64(over) <= 0.05*float64(hours) && cost(th) < own-1e-6 {
			t.Fatalf("%+v costs %v, the plan's %+v %v", th, cost(th), p.Thresholds, own)
		}
	}
	for _, curve := range [][]training.CostPoint{p.ByApproveBelow, p.ByDenyFrom} {
		if len(curve) < 10 || !slices.IsSortedFunc(curve, func(a, b training.CostPoint) int { return int(math.Copysign(1, a.Threshold-b.Threshold)) }) {
			t.Errorf("curve %+v", curve)
		}
		for _, point := range curve {
			th := models.Thresholds{ApproveBelow: min(point.Threshold, point.Other), DenyFrom: max(point.Threshold, point.Other)}
			if got := cost(th); math.Abs(got-point.Cost) > 1e-3 || point.Cost < own-1e-3 {
				t.Errorf("%+v costs %v, the best %v", point, got, own)
			}
		}
	}
}

func TestSegmentsShareTheReviewers(t *testing.T) {
	cases := crowded(500)
	costs, err := policy.ParseCosts([]byte("review: {per_hour: 3}\nsegments:\n  wallet: {fraud_fee: 0, recovery: {reversible: 0.9, recall_only: 0.9}, review: {cost: 900}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, cases, training.CostOptions{Costs: costs})
	if len(p.Segments) != 2 || p.Segments[0].Segment != "wallet" || p.Segments[1].Segment != "" || p.ReviewPrice <= 0 {
		t.Fatalf("%+v, price %v", p.Segments, p.ReviewPrice)
	}
	if p.Segments[0].ApproveBelow <= p.Segments[1].ApproveBelow {
		t.Errorf("where fraud costs little, more is approved: %+v", p.Segments)
	}
	over, hours := reviewsByHour(cases, func(c *training.Case) models.Thresholds {
		if c.Segment == "wallet" {
			return p.Segments[0].Thresholds
		}
		return p.Segments[1].Thresholds
	})
	if float64(over) > 0.05*float64(hours) || float64(over) < 0.02*float64(hours) {
		t.Errorf("%d of %d hours have more than 3 reviews", over, hours)
	}
	if p.Outcomes[0].Way != training.BySegments || p.Savings[0].Against != training.ByThresholds || p.Savings[0].Amount <= 0 {
		t.Errorf("outcomes %+v, savings %+v", p.Outcomes[:2], p.Savings[0])
	}
}

func TestCostsNeedBothClassesAndProbabilities(t *testing.T) {
	honest := []training.Case{{RequestID: "r1", Probability: 0.1}}
	unknown := []training.Case{{RequestID: "r2", Probability: math.NaN(), Fraud: true}, {RequestID: "r1", Probability: 0.1}}
	for want, cases := range map[string][]training.Case{"both classes": honest, "r2": unknown, "0 frauds": nil} {
		if _, err := training.PlanCosts(t.Context(), cases, training.CostOptions{Costs: policy.DefaultCosts()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestTheExampleOfCostsIsReadAndWrongOnesAreRefused(t *testing.T) {
	example, err := os.ReadFile("../examples/costs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.ParseCosts(example); err != nil {
		t.Error(err)
	}
	for wrong, want := range map[string]string{
		"":                                      "empty",
		"- 1":                                   "line 1",
		"fraud_fee: 12.5":                       "fraud_fee",
		"review: {catch: 2}":                    "catch",
		"review: {per_hours: 2}":                "per_hours",
		"a: &a [1]\nb: *a":                      "anchor",
		"recovery: {recall_only: 0.9}":          "recovery",
		strings.Repeat("# too long\n", 100_000): "bytes",
	} {
		if _, err := policy.ParseCosts([]byte(wrong)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %q is not in %v", wrong, want, err)
		}
	}
}
