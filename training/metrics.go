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
// belongs to a cluster, which is drawn as a whole. It is immutable after newRanked and safe for concurrent use.
type ranked struct {
	rows               []scored
	scores             []float64 // by row
	positive, negative []float64 // weight of frauds and honest requests, by cluster
}

type scored struct {
	weight  float64
	cluster int32
	fraud   bool
	last    bool // of the rows with this score
}

func (r *ranked) clusters() int { return len(r.positive) }

// newRanked takes scores that are numbers; weight may be nil.
func newRanked(score []float64, fraud []bool, weight []float64, cluster []int32, clusters int) *ranked {
	return rankedInOrder(byFallingScore(score), score, fraud, weight, cluster, clusters)
}

func rankedInOrder(order []int32, score []float64, fraud []bool, weight []float64, cluster []int32, clusters int) *ranked {
	r := &ranked{rows: make([]scored, 0, len(score)), scores: make([]float64, 0, len(score)),
		positive: make([]float64, clusters), negative: make([]float64, clusters)}
	for _, i := range order {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		r.add(score[i], scored{weight: w, cluster: cluster[i], fraud: fraud[i]})
	}
	return r
}

func byFallingScore(score []float64) []int32 {
	order := make([]int32, len(score))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(score[b], score[a]), cmp.Compare(a, b)) })
	return order
}

// add takes the next row, whose score is at most the last one's.
func (r *ranked) add(score float64, row scored) {
	if n := len(r.rows); n > 0 && r.scores[n-1] == score {
		r.rows[n-1].last = false
	}
	row.last = true
	r.rows, r.scores = append(r.rows, row), append(r.scores, score)
	if row.fraud {
		r.positive[row.cluster] += row.weight
	} else {
		r.negative[row.cluster] += row.weight
	}
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

// measure counts each cluster counts[cluster] times. False positive rates and top counts ascend. Where a top count ends within
// a tie, the tied rows count in part, as if their order were drawn by lot. A row counts once for a top count, whatever its
// weight; all else is weighted.
func (r *ranked) measure(counts []uint8, fpr, top []float64) order {
	out := order{rocAUC: math.NaN(), averagePrecision: math.NaN(), recall: make([]float64, len(fpr)), top: make([]topmost, len(top))}
	positives, negatives := 0.0, 0.0
	for c, n := range counts {
		positives += float64(n) * r.positive[c]
		negatives += float64(n) * r.negative[c]
	}
	limits := make([]float64, len(fpr), len(fpr)+1)
	for i := range fpr {
		out.recall[i], limits[i] = 1, fpr[i]*negatives*(1+1e-12) // 0.07·100 is above 7
	}
	limits = append(limits, math.Inf(1))
	limit, next := 0, 0
	var tp, fp, seen, area, ap, hits, misses, count float64
	for i := range r.rows {
		row := &r.rows[i]
		n := float64(counts[row.cluster])
		if row.fraud {
			hits += n * row.weight
		} else {
			misses += n * row.weight
		}
		count += n
		if !row.last || count == 0 {
			continue
		}
		for ; next < len(top) && top[next] <= seen+count; next++ {
			part := (top[next] - seen) / count
			found := tp + part*hits
			out.top[next] = topmost{found / (found + fp + part*misses), found / positives}
		}
		for fp+misses > limits[limit] {
			out.recall[limit] = tp / positives
			limit++
		}
		area += misses * (tp + hits/2)
		if hits > 0 {
			ap += hits * (tp + hits) / (tp + hits + fp + misses)
		}
		tp, fp, seen = tp+hits, fp+misses, seen+count
		hits, misses, count = 0, 0, 0
	}
	for ; next < len(top); next++ {
		out.top[next] = topmost{math.NaN(), math.NaN()}
	}
	if positives == 0 || negatives == 0 {
		for i := range out.recall {
			out.recall[i] = math.NaN()
		}
		return out
	}
	out.rocAUC, out.averagePrecision = area/(positives*negatives), ap/positives
	return out
}

func (r *ranked) curve(most int) []Operating {
	positives, negatives := 0.0, 0.0
	for c := range r.positive {
		positives += r.positive[c]
		negatives += r.negative[c]
	}
	curve := []Operating{{Threshold: math.Inf(1), Precision: 1}}
	var tp, fp float64
	step := 1 / float64(max(1, most/2)) // along each axis
	for i, row := range r.rows {
		if row.fraud {
			tp += row.weight
		} else {
			fp += row.weight
		}
		if !row.last || tp+fp == 0 {
			continue
		}
		here := Operating{r.scores[i], tp / positives, fp / negatives, tp / (tp + fp)}
		kept := curve[len(curve)-1]
		if far := here.Recall-kept.Recall >= step || here.FalsePositiveRate-kept.FalsePositiveRate >= step; far || i == len(r.rows)-1 || i < most/4 {
			curve = append(curve, here)
		}
	}
	return curve
}

// thresholdAt is the lowest score from which at most this rate of honest requests would be flagged; +Inf where that is none.
func (r *ranked) thresholdAt(falsePositiveRate float64) float64 {
	negatives := 0.0
	for _, w := range r.negative {
		negatives += w
	}
	threshold, fp := math.Inf(1), 0.0
	for i, row := range r.rows {
		if !row.fraud {
			fp += row.weight
		}
		if fp > falsePositiveRate*negatives*(1+1e-12) {
			break
		}
		if row.last {
			threshold = r.scores[i]
		}
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
