package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"vaglio"
)

// falsePositiveRates of the recalls, ascending.
var falsePositiveRates = []float64{0.001, 0.005, 0.01, 0.05}

// metricKinds are the metrics of a board, in its order; those of the top k follow. A lower log loss is a better one.
var metricKinds = []struct {
	name          string
	lower         bool
	probabilities bool // makes no sense for verdicts alone
}{
	{name: "roc_auc"}, {name: "average_precision"},
	{name: "recall_at_0_1pct_fpr"}, {name: "recall_at_0_5pct_fpr"}, {name: "recall_at_1pct_fpr"}, {name: "recall_at_5pct_fpr"},
	{name: "log_loss", lower: true, probabilities: true}, {name: "brier", lower: true, probabilities: true},
	{name: "frauds_stopped"}, {name: "honest_held_up", lower: true}, {name: "fraud_amount_stopped"}, {name: "honest_amount_held_up", lower: true},
}

// Places in metricKinds: the recalls and, up to the last, the ratios.
const (
	firstRecall = 2
	firstRatio  = 6
	lastRatio   = 12
)

// ground is labelled rows with what all that is measured on them shares.
type ground struct {
	rows     []Row
	weight   []float64
	fraud    []bool
	cluster  []int32
	clusters int
	o        *MeasureOptions
}

func newGround(rows []Row, weight []float64, o *MeasureOptions) *ground {
	g := &ground{rows: rows, weight: weight, fraud: make([]bool, len(rows)), o: o}
	for i := range rows {
		g.fraud[i] = rows[i].Fraud
	}
	g.cluster, g.clusters = clustersOf(rows)
	return g
}

// measured is what a resample can measure: boards, segments, rivals. It is safe for concurrent use.
type measured interface {
	size() int
	measure(counts []uint8, into []float64)
}

// measureAll measures the parts on the rows as they are, and on the same resamples.
func (g *ground) measureAll(ctx context.Context, b *Bootstrap, parts []measured, progress func(done, total int)) (point [][]float64,
	drawn [][][]float64, err error) {
	all := 0
	for _, p := range parts {
		point = append(point, make([]float64, p.size()))
		p.measure(once(g.clusters), point[len(point)-1])
		all += p.size()
	}
	var done atomic.Int64
	values, err := b.resample(ctx, g.clusters, all, func() func([]uint8, []float64) {
		return func(counts []uint8, into []float64) {
			for _, p := range parts {
				p.measure(counts, into[:p.size()])
				into = into[p.size():]
			}
			if n := int(done.Add(1)); progress != nil && n == b.Resamples {
				progress(n, b.Resamples)
			}
		}
	})
	for _, p := range parts {
		drawn = append(drawn, values[:p.size()])
		values = values[p.size():]
	}
	return point, drawn, err
}

// board measures one score.
type board struct {
	names    []string
	score    []float64 // by row
	order    []int32   // of the rows, by falling score
	ranked   *ranked
	sums     []ratios // by cluster
	days     [][]customerDay
	dailyK   int
	topK     []float64
	card     int // place of the card precision
	firstTop int // place of the precisions at k
}

// ratios are the metrics that are quotients of sums.
type ratios struct {
	above, below [lastRatio - firstRatio]float64
}

// customerDay is a customer's highest score of a day.
type customerDay struct {
	score   float64
	cluster int32
	fraud   bool // among the customer's requests of the day
}

// board takes what each row would be decided. Of scores that are no probabilities, NaN stands for the losses.
func (g *ground) board(score []float64, verdicts []vaglio.Verdict, probabilities bool) *board {
	b := &board{score: score, order: byFallingScore(score), dailyK: g.o.DailyK, days: g.days(score)}
	b.ranked = rankedInOrder(b.order, score, g.fraud, g.weight, g.cluster, g.clusters)
	for _, k := range metricKinds {
		b.names = append(b.names, k.name)
	}
	b.card = len(b.names)
	b.names = append(b.names, fmt.Sprintf("card_precision_at_%d", b.dailyK))
	b.firstTop = len(b.names)
	for _, k := range g.o.TopK {
		b.names, b.topK = append(b.names, fmt.Sprintf("precision_at_%d", k)), append(b.topK, float64(k))
	}
	b.sums = make([]ratios, g.clusters)
	for i := range g.rows {
		row, w, c := &g.rows[i], g.weight[i], g.cluster[i]
		add := func(metric int, weight, share float64) {
			b.sums[c].above[metric] += weight * share
			b.sums[c].below[metric] += weight
		}
		truth, held := 0.0, 0.0
		if row.Fraud {
			truth = 1
		}
		if verdicts[i] != vaglio.Approve {
			held = 1
		}
		if probabilities {
			const tiny = 1e-15
			add(0, w, -math.Log(math.Max(tiny, math.Abs(1-truth-score[i]))))
			add(1, w, (score[i]-truth)*(score[i]-truth))
		}
		byCount, byMoney := 2, 4
		if !row.Fraud {
			byCount, byMoney = 3, 5
		}
		add(byCount, w, held)
		if row.BaseKnown {
			add(byMoney, w*float64(row.BaseAmount), held)
		}
	}
	return b
}

// days are the customers of each day by falling score.
func (g *ground) days(score []float64) [][]customerDay {
	order := make([]int32, len(g.rows))
	for i := range order {
		order[i] = int32(i)
	}
	day := func(i int32) int64 { return int64(g.rows[i].At) / int64(vaglio.Day) }
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(day(a), day(b)), cmp.Compare(g.cluster[a], g.cluster[b]), cmp.Compare(a, b))
	})
	var days [][]customerDay
	for k := 0; k < len(order); {
		var today []customerDay
		for first := order[k]; k < len(order) && day(order[k]) == day(first); {
			c := customerDay{math.Inf(-1), g.cluster[order[k]], false}
			for ; k < len(order) && day(order[k]) == day(first) && g.cluster[order[k]] == c.cluster; k++ {
				c.score, c.fraud = max(c.score, score[order[k]]), c.fraud || g.rows[order[k]].Fraud
			}
			today = append(today, c)
		}
		slices.SortStableFunc(today, func(a, b customerDay) int { return cmp.Compare(b.score, a.score) })
		days = append(days, today)
	}
	return days
}

// fullDays counts those with more than k customers.
func (b *board) fullDays() int {
	n := 0
	for _, day := range b.days {
		if len(day) > b.dailyK {
			n++
		}
	}
	return n
}

func (b *board) cardPrecision(counts []uint8) float64 {
	sum, days := 0.0, 0.0
	for _, day := range b.days {
		seen, hits := 0, 0
		for _, c := range day {
			n := int(counts[c.cluster])
			if c.fraud {
				hits += min(n, max(0, b.dailyK-seen))
			}
			if seen += n; seen > b.dailyK {
				sum += float64(hits) / float64(b.dailyK)
				days++
				break
			}
		}
	}
	return sum / days
}

func (b *board) size() int { return len(b.names) }

func (b *board) measure(counts []uint8, into []float64) {
	o := b.ranked.measure(counts, falsePositiveRates, b.topK)
	into[0], into[1] = o.rocAUC, o.averagePrecision
	copy(into[firstRecall:], o.recall)
	var total ratios
	for c, n := range counts {
		times, sums := float64(n), &b.sums[c]
		for i := range sums.above {
			total.above[i] += times * sums.above[i]
			total.below[i] += times * sums.below[i]
		}
	}
	for i := range total.above {
		into[firstRatio+i] = total.above[i] / total.below[i]
	}
	into[b.card] = b.cardPrecision(counts)
	for i := range o.top {
		into[b.firstTop+i] = o.top[i].precision
	}
}
