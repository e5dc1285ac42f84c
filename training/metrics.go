package training

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Ranking is what the order of predictions alone tells.
type Ranking struct {
	ROCAUC, AveragePrecision float64
	ranked                   *ranked
}

// Rank orders predictions by probability and measures the order; ties count as one step. It needs both classes and
// probabilities that are numbers.
func Rank(predictions []Prediction) (Ranking, error) {
	probability, fraud, cluster := make([]float64, len(predictions)), make([]bool, len(predictions)), make([]int32, len(predictions))
	n := 0
	for i, p := range predictions {
		if math.IsNaN(p.Probability) {
			return Ranking{}, fmt.Errorf("request %s has no probability", p.RequestID)
		}
		probability[i], fraud[i], cluster[i] = p.Probability, p.Fraud, int32(i)
		if p.Fraud {
			n++
		}
	}
	if n == 0 || n == len(predictions) {
		return Ranking{}, errors.New("rank: both classes are needed")
	}
	r := newRanked(probability, fraud, nil, cluster, len(predictions))
	o := r.measure(once(r.clusters()), nil, nil)
	return Ranking{ROCAUC: o.rocAUC, AveragePrecision: o.averagePrecision, ranked: r}, nil
}

// RecallAt is the largest share of frauds found at no more than this rate of false positives.
func (r *Ranking) RecallAt(falsePositiveRate float64) float64 {
	return r.ranked.measure(once(r.ranked.clusters()), []float64{falsePositiveRate}, nil).recall[0]
}

// Operating is what a threshold on the score does: everything from Threshold on is flagged.
type Operating struct {
	Threshold, Recall, FalsePositiveRate, Precision float64
}

// Curve lists what thresholds do, from the highest to the lowest: at most about most of them, and of neighbours with the same
// recall the last. The first step flags nothing and has the threshold +Inf and precision 1.
func (r *Ranking) Curve(most int) []Operating { return r.ranked.curve(most) }

// ranked is requests by falling score, sorted once: what the order tells of any resampling of them is one pass. A request
// belongs to a cluster, which is drawn as a whole. It is immutable once made and safe for concurrent use.
type ranked struct {
	score              []float64 // from here on by row
	weight             []float64
	cluster            []int32
	fraud              []bool
	groups             []group   // of equal score, those with frauds
	positive, negative []float64 // weight of frauds and of honest requests, by cluster
}

// group is rows [from, until).
type group struct{ from, until int32 }

func (r *ranked) clusters() int { return len(r.positive) }

// newRanked takes scores that are numbers; weight may be nil.
func newRanked(score []float64, fraud []bool, weight []float64, cluster []int32, clusters int) *ranked {
	return rankedInOrder(byFallingScore(score), score, fraud, weight, cluster, clusters)
}

// rankedInOrder takes the rows of an order by falling score.
func rankedInOrder(order []int32, score []float64, fraud []bool, weight []float64, cluster []int32, clusters int) *ranked {
	n := len(order)
	r := &ranked{score: make([]float64, n), weight: make([]float64, n), cluster: make([]int32, n), fraud: make([]bool, n),
		positive: make([]float64, clusters), negative: make([]float64, clusters)}
	for k, i := range order {
		r.score[k], r.weight[k], r.cluster[k], r.fraud[k] = score[i], 1, cluster[i], fraud[i]
		if weight != nil {
			r.weight[k] = weight[i]
		}
		of := r.negative
		if fraud[i] {
			of = r.positive
		}
		of[cluster[i]] += r.weight[k]
	}
	for from, until := 0, 0; from < n; from = until {
		if until = r.tied(from); slices.Contains(r.fraud[from:until], true) {
			r.groups = append(r.groups, group{int32(from), int32(until)})
		}
	}
	return r
}

// tied is the end of the rows that have the score of the row from.
func (r *ranked) tied(from int) (until int) {
	for until = from + 1; until < len(r.score) && r.score[until] == r.score[from]; until++ {
	}
	return until
}

func byFallingScore(score []float64) []int32 {
	order := make([]int32, len(score))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(score[b], score[a]), cmp.Compare(a, b)) })
	return order
}

// order is what an order tells; NaN is what can't be measured.
type order struct {
	rocAUC           float64   // chance that a fraud scores above an honest request, ties half
	averagePrecision float64   // Σ (recall step) × precision, as scikit-learn defines it
	recall           []float64 // the largest at no more than each rate of false positives
	top              []topmost // the requests of highest score, by count
}

type topmost struct {
	precision float64 // the share of fraud among them
	recall    float64 // the share of all frauds that is among them
}

// totals are the weights of both classes.
func (r *ranked) totals(counts []uint8) (positives, negatives float64) {
	for c, n := range counts {
		positives += float64(n) * r.positive[c]
		negatives += float64(n) * r.negative[c]
	}
	return positives, negatives
}

// weighs is the weight of rows [from, until).
func (r *ranked) weighs(counts []uint8, from, until int) float64 {
	weight, cluster := r.weight[from:until], r.cluster[from:until]
	var even, odd float64 // two sums: each addition waits for the one before
	k := 0
	for ; k+1 < len(weight); k += 2 {
		even += float64(counts[cluster[k]]) * weight[k]
		odd += float64(counts[cluster[k+1]]) * weight[k+1]
	}
	if k < len(weight) {
		even += float64(counts[cluster[k]]) * weight[k]
	}
	return even + odd
}

// measure counts each cluster counts[cluster] times. False positive rates and top counts ascend. All but the counts of the top
// is weighted.
func (r *ranked) measure(counts []uint8, fpr, top []float64) order {
	out := order{rocAUC: math.NaN(), averagePrecision: math.NaN(), recall: make([]float64, len(fpr)), top: r.topmost(counts, top)}
	positives, negatives := r.totals(counts)
	for i := range out.recall {
		out.recall[i] = math.NaN()
	}
	if positives == 0 || negatives == 0 {
		return out
	}
	limit := 0
	var tp, fp, area, ap float64
	at := 0
	for _, g := range r.groups {
		fp += r.weighs(counts, at, int(g.from))
		at = int(g.until)
		hits, misses := 0.0, 0.0
		for k := g.from; k < g.until; k++ {
			w := float64(counts[r.cluster[k]]) * r.weight[k]
			if r.fraud[k] {
				hits += w
			} else {
				misses += w
			}
		}
		for ; limit < len(fpr) && fp+misses > fpr[limit]*negatives*(1+1e-12); limit++ { // 0.07·100 is above 7
			out.recall[limit] = tp / positives
		}
		if hits > 0 {
			area += hits * (negatives - fp - misses/2)
			ap += hits * (tp + hits) / (tp + hits + fp + misses)
		}
		tp, fp = tp+hits, fp+misses
	}
	for ; limit < len(fpr); limit++ {
		out.recall[limit] = 1
	}
	out.rocAUC, out.averagePrecision = area/(positives*negatives), ap/positives
	return out
}

// topmost measures the rows of highest score, by ascending counts of rows. Where a count ends within a tie, the tied rows
// count in part, as if their order were drawn by lot.
func (r *ranked) topmost(counts []uint8, top []float64) []topmost {
	out := make([]topmost, 0, len(top))
	if len(top) == 0 {
		return out
	}
	positives, _ := r.totals(counts)
	var tp, fp, seen float64
	for from := 0; from < len(r.score) && len(out) < len(top); {
		until := r.tied(from)
		hits, misses, count := 0.0, 0.0, 0.0
		for k := from; k < until; k++ {
			n := float64(counts[r.cluster[k]])
			count += n
			if r.fraud[k] {
				hits += n * r.weight[k]
			} else {
				misses += n * r.weight[k]
			}
		}
		for count > 0 && len(out) < len(top) && top[len(out)] <= seen+count {
			part := (top[len(out)] - seen) / count
			found := tp + part*hits
			out = append(out, topmost{found / (found + fp + part*misses), found / positives})
		}
		tp, fp, seen, from = tp+hits, fp+misses, seen+count, until
	}
	for len(out) < len(top) {
		out = append(out, topmost{math.NaN(), math.NaN()})
	}
	return out
}

func (r *ranked) curve(most int) []Operating {
	counts := once(r.clusters())
	positives, negatives := r.totals(counts)
	curve := []Operating{{Threshold: math.Inf(1), Precision: 1}}
	var tp, fp float64
	step := 3 / float64(max(3, most)) // along each axis; a third of the points are the first
	for from, until := 0, 0; from < len(r.score); from = until {
		until = r.tied(from)
		for k := from; k < until; k++ {
			if r.fraud[k] {
				tp += r.weight[k]
			} else {
				fp += r.weight[k]
			}
		}
		if tp+fp == 0 {
			continue
		}
		here := Operating{r.score[from], tp / positives, fp / negatives, tp / (tp + fp)}
		kept := curve[len(curve)-1]
		if here.Recall-kept.Recall >= step || here.FalsePositiveRate-kept.FalsePositiveRate >= step || until == len(r.score) || len(curve) <= most/3 {
			curve = append(curve, here)
		}
	}
	return curve
}

// thresholdAt is the lowest score from which at most this rate of honest requests would be flagged; +Inf where that is none.
func (r *ranked) thresholdAt(falsePositiveRate float64) float64 {
	_, negatives := r.totals(once(r.clusters()))
	threshold, fp := math.Inf(1), 0.0
	for from, until := 0, 0; from < len(r.score); from = until {
		until = r.tied(from)
		for k := from; k < until; k++ {
			if !r.fraud[k] {
				fp += r.weight[k]
			}
		}
		if fp > falsePositiveRate*negatives*(1+1e-12) {
			break
		}
		threshold = r.score[from]
	}
	return threshold
}

// once counts every cluster once.
func once(clusters int) []uint8 {
	counts := make([]uint8, clusters)
	for i := range counts {
		counts[i] = 1
	}
	return counts
}
