package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"vaglio"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// Case is a request whose outcome is known, with what was at stake in it.
type Case struct {
	RequestID   string
	At          vaglio.Instant
	Customer    string
	Probability float64 // calibrated
	Fraud       bool
	Stake       policy.Stake
	Segment     string // of the policy, "" for none
}

// busyHours is the share of hours, of those in which requests come, in which more reviews may come than reviewers can do: work may
// wait a little, so that a single busy hour of the year does not set the thresholds.
const busyHours = 0.05

// fewestInSegment is how many frauds, and how many honest requests, a segment must have for thresholds of its own.
const fewestInSegment = 20

// CostPlan is what costs ask for: thresholds, what they cost and what they save. Money is in minor units of the base currency.
type CostPlan struct {
	Requests       int               `json:"requests"` // chosen on
	Frauds         int               `json:"frauds"`
	UnknownAmounts int               `json:"unknown_amounts"` // requests without a rate of the day, left out
	Thresholds     models.Thresholds `json:"thresholds"`      // the one pair of least cost within the capacity
	// Segments have pairs of their own, found together within the capacity; the last, without a name, is of all other requests. Empty
	// where no segment has 20 frauds and 20 honest requests.
	Segments []SegmentThresholds `json:"segments"`
	// PerHour is the reviewers' capacity, 0 for none: in 95 of 100 hours with requests no more reviews come.
	PerHour float64 `json:"reviews_per_hour"`
	// ReviewPrice is what one more review costs besides, for the capacity to suffice, where segments share it.
	ReviewPrice float64 `json:"review_price"`

	JudgedOn string    `json:"judged_on"` // "later requests", or "the same requests" as the thresholds were chosen on: then savings flatter
	Outcomes []Outcome `json:"outcomes"`
	Savings  []Saving  `json:"savings"` // of the thresholds against each other outcome

	ByApproveBelow []CostPoint `json:"by_approve_below"` // cost by the first threshold, each with its best second one
	ByDenyFrom     []CostPoint `json:"by_deny_from"`     // and the reverse; points beyond the capacity are left out
}

// SegmentThresholds are those of the requests of one segment.
type SegmentThresholds struct {
	Segment           string `json:"segment"`
	models.Thresholds `json:"thresholds"`
	Requests          int `json:"requests"`
	Frauds            int `json:"frauds"`
}

// The ways to decide that are compared.
const (
	ByThresholds = "thresholds"  // one pair
	BySegments   = "segments"    // pairs by segment
	ByLeastCost  = "least_cost"  // the verdict of least expected cost, request by request, without regard to the capacity
	ByCurrent    = "current"     // the thresholds in force
	ByApproval   = "approve_all" // no check at all
)

// Outcome is what a way to decide has cost, by what the requests turned out to be.
type Outcome struct {
	Way        string  `json:"way"`
	Cost       int64   `json:"cost"`
	Approved   int     `json:"approved"`
	Reviewed   int     `json:"reviewed"`
	Denied     int     `json:"denied"`
	FraudsPaid int     `json:"frauds_approved"`
	HonestHit  int     `json:"honest_denied"`
	BusyHours  float64 `json:"busy_hours"` // share of the hours with requests that have more reviews than the capacity
	costs      []float64
}

// Saving is what the thresholds cost less than another way.
type Saving struct {
	Against  string    `json:"against"`
	Amount   int64     `json:"amount"`
	Interval *Interval `json:"interval"` // 95 %, customers drawn anew; nil of too few requests
}

// CostPoint is a threshold, the best other one beside it, and what the two cost.
type CostPoint struct {
	Threshold float64 `json:"threshold"`
	Other     float64 `json:"other"`
	Cost      float64 `json:"cost"`
}

// CostOptions say how thresholds are chosen.
type CostOptions struct {
	Costs   policy.Costs
	Current *models.Thresholds // in force; nil: none to compare with
	// Judge are later requests to measure outcomes on; nil: those that the thresholds are chosen on.
	Judge []Case
	Seed  uint64
}

// PlanCosts chooses thresholds on requests whose outcome is known: a paid fraud, a denied customer and a review cost what they
// then did cost, by [policy.Costs.Expected] at the probability that hindsight gives, 1 or 0.
func PlanCosts(ctx context.Context, cases []Case, o CostOptions) (CostPlan, error) {
	for i := range cases {
		if p := cases[i].Probability; !(p >= 0 && p <= 1) {
			return CostPlan{}, fmt.Errorf("thresholds from costs: request %s has the probability %v", cases[i].RequestID, p)
		}
	}
	plan := CostPlan{Requests: len(cases), PerHour: o.Costs.Review.PerHour, JudgedOn: "later requests"}
	for i := range cases {
		if cases[i].Fraud {
			plan.Frauds++
		}
	}
	if plan.Frauds == 0 || plan.Frauds == len(cases) {
		return CostPlan{}, fmt.Errorf("thresholds from costs: %d frauds among %d requests: both classes are needed", plan.Frauds, len(cases))
	}
	b := newBand(cases, &o.Costs)
	b.reach = b.within(newHours(cases, o.Costs.Review.PerHour))
	i, j := b.best()
	plan.Thresholds = models.Thresholds{ApproveBelow: b.value[i], DenyFrom: b.value[j]}
	plan.ByApproveBelow, plan.ByDenyFrom = b.curves()
	plan.planSegments(cases, &o.Costs)
	judge := o.Judge
	if judge == nil {
		judge, plan.JudgedOn = cases, "the same requests"
	}
	return plan, plan.judge(ctx, judge, o)
}

// band is requests by rising probability with what the verdicts cost below and above each threshold.
type band struct {
	cases  []Case    // sorted
	at     []int     // by threshold: how many requests are below it
	value  []float64 // by threshold: a probability
	below  []float64 // by threshold: what approving all below costs more than reviewing them
	above  []float64 // by threshold: what denying all from there costs more than reviewing them
	review float64   // what reviewing all costs
	reach  []int     // by threshold: the last one up to which all can be reviewed within the capacity
}

func newBand(cases []Case, costs *policy.Costs) *band {
	b := &band{cases: slices.Clone(cases)}
	slices.SortStableFunc(b.cases, func(x, y Case) int { return cmp.Compare(x.Probability, y.Probability) })
	n := len(b.cases)
	for i := range b.cases {
		if i == 0 || b.cases[i].Probability != b.cases[i-1].Probability {
			b.at, b.value = append(b.at, i), append(b.value, b.between(i))
		}
	}
	if n > 0 && b.cases[n-1].Probability < 1 { // else nothing can be above all
		b.at, b.value = append(b.at, n), append(b.value, 1)
	}
	b.below, b.above = make([]float64, len(b.at)), make([]float64, len(b.at))
	approve, review, deny := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range b.cases {
		approve[i], review[i], deny[i] = hindsight(&b.cases[i], costs)
		b.review += review[i]
	}
	for k := 1; k < len(b.at); k++ {
		b.below[k] = b.below[k-1]
		for i := b.at[k-1]; i < b.at[k]; i++ {
			b.below[k] += approve[i] - review[i]
		}
	}
	after := n
	for k := len(b.at) - 1; k >= 0; k-- {
		if k+1 < len(b.at) {
			b.above[k] = b.above[k+1]
		}
		for i := b.at[k]; i < after; i++ {
			b.above[k] += deny[i] - review[i]
		}
		after = b.at[k]
	}
	return b
}

// between is the shortest number that parts the requests before a place from the others.
func (b *band) between(place int) float64 {
	if place == 0 {
		return 0
	}
	low, high := b.cases[place-1].Probability, b.cases[place].Probability
	for digits := range 17 {
		if v, err := strconv.ParseFloat(strconv.FormatFloat((low+high)/2, 'f', digits, 64), 64); err == nil && low < v && v <= high {
			return v
		}
	}
	return high
}

// hindsight is what the verdicts cost for a request whose outcome is known.
func hindsight(c *Case, costs *policy.Costs) (approve, review, deny float64) {
	truth := 0.0
	if c.Fraud {
		truth = 1
	}
	return costs.Segment(c.Segment).Expected(truth, c.Stake)
}

// within finds, for each first threshold, the last second one whose reviews are within the capacity, beside those that load has
// already: both rise together. It leaves the load as it was.
func (b *band) within(load *hours) []int {
	reach := make([]int, len(b.at))
	review := func(k, n int) { // what lies between two neighbouring thresholds
		for i := b.at[k]; i < b.at[k+1]; i++ {
			load.add(b.cases[i].At, n)
		}
	}
	end := 0
	for k := range reach {
		if k > 0 && end > k-1 {
			review(k-1, -1)
		}
		for end = max(end, k); end+1 < len(b.at); end++ {
			if review(end, 1); load.tooMany() {
				review(end, -1)
				break
			}
		}
		reach[k] = end
	}
	return reach
}

func (b *band) cost(first, second int) float64 { return b.review + b.below[first] + b.above[second] }

// best is the pair of thresholds of least cost within the capacity, of equal ones the first. It keeps the places of falling minima of
// above that are within reach: the ends of the window only rise.
func (b *band) best() (first, second int) {
	least := math.Inf(1)
	var minima []int
	next := 0
	for k := range b.at {
		for ; next <= b.reach[k]; next++ {
			for len(minima) > 0 && b.above[minima[len(minima)-1]] > b.above[next] {
				minima = minima[:len(minima)-1]
			}
			minima = append(minima, next)
		}
		for minima[0] < k {
			minima = minima[1:]
		}
		if cost := b.cost(k, minima[0]); cost < least {
			least, first, second = cost, k, minima[0]
		}
	}
	return first, second
}

// curveSteps is how many thresholds a curve has, denser near 0 where most requests are.
const curveSteps = 64

func (b *band) curves() (byFirst, bySecond []CostPoint) {
	thresholds, places := make([]float64, 0, curveSteps), make([]int, 0, curveSteps)
	for k := range curveSteps {
		x := float64(k) / (curveSteps - 1)
		place, _ := slices.BinarySearchFunc(b.at, x*x, func(at int, x float64) int {
			if at == len(b.cases) || b.cases[at].Probability >= x {
				return 1
			}
			return -1
		})
		if place < len(b.at) {
			thresholds, places = append(thresholds, x*x), append(places, place)
		}
	}
	curve := func(pair func(k, other int) (first, second int)) (points []CostPoint) {
		for k := range places {
			least := CostPoint{Threshold: thresholds[k], Cost: math.Inf(1)}
			for other := range places {
				first, second := pair(k, other)
				if first > second || places[second] > b.reach[places[first]] {
					continue
				}
				if cost := b.cost(places[first], places[second]); cost < least.Cost {
					least.Other, least.Cost = thresholds[other], cost
				}
			}
			if !math.IsInf(least.Cost, 1) {
				points = append(points, least)
			}
		}
		return points
	}
	return curve(func(k, other int) (int, int) { return k, other }), curve(func(k, other int) (int, int) { return other, k })
}

// hours count reviews by hour, UTC, in the hours in which some request comes.
type hours struct {
	place   map[vaglio.Instant]int
	reviews []int
	perHour float64 // 0: no bound
	busy    int     // hours with more reviews than that
}

func newHours(cases []Case, perHour float64) *hours {
	h := &hours{place: map[vaglio.Instant]int{}, perHour: perHour}
	for i := range cases {
		hour := cases[i].At / vaglio.Hour
		if _, known := h.place[hour]; !known {
			h.place[hour] = len(h.place)
		}
	}
	h.reviews = make([]int, len(h.place))
	return h
}

// add counts one review more, or one less.
func (h *hours) add(at vaglio.Instant, n int) {
	place := h.place[at/vaglio.Hour]
	before := float64(h.reviews[place]) > h.perHour
	h.reviews[place] += n
	if after := float64(h.reviews[place]) > h.perHour; after != before {
		h.busy += n
	}
}

func (h *hours) tooMany() bool {
	return h.perHour > 0 && float64(h.busy) > busyHours*float64(len(h.reviews))
}

func (h *hours) busyShare() float64 {
	if h.perHour == 0 {
		return 0
	}
	return shareOf(float64(h.busy), float64(len(h.reviews)))
}
