package training

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"vaglio/models"
	"vaglio/training/lightgbm"
)

// trial is a training that is repeated with and without some features, to see what they are worth.
type trial struct {
	params map[string]string
	rounds int
	seeds  int
	seed   uint64
}

// run trains once a seed on fit and ranks the rows of valid by each model.
func (t *trial) run(ctx context.Context, fit, valid *Matrix) ([]*ranked, error) {
	out := make([]*ranked, t.seeds)
	for i := range out {
		model, err := t.train(ctx, fit, uint64(i))
		if err != nil {
			return nil, err
		}
		scores := make([]float64, len(valid.Rows))
		const block = 1024
		err = inParallel(ctx, (len(scores)+block-1)/block, func(b int) error {
			for row := b * block; row < min((b+1)*block, len(scores)); row++ {
				var err error
				if scores[row], err = model.LogOdds(valid.vector(row)); err != nil {
					return fmt.Errorf("score request %s: %w", valid.Rows[row].ID, err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out[i] = valid.rankedBy(scores)
	}
	return out, nil
}

func (t *trial) train(ctx context.Context, fit *Matrix, repetition uint64) (*models.Model, error) {
	params := maps.Clone(DefaultParams)
	maps.Copy(params, t.params)
	params["seed"] = strconv.FormatUint((t.seed+repetition)%math.MaxInt32, 10)
	result, err := lightgbm.Train(ctx, lightgbm.Job{Params: params, Rounds: t.rounds, Train: fit.dataset()}, nil)
	if err != nil {
		return nil, err
	}
	return models.ReadModel(result.Model)
}

// rankedBy orders the rows by a model's scores, each weighing as its label does.
func (m *Matrix) rankedBy(scores []float64) *ranked {
	fraud, weight := make([]bool, len(m.Rows)), make([]float64, len(m.Rows))
	for i := range m.Rows {
		fraud[i], weight[i] = m.Rows[i].Fraud, m.Rows[i].Weight
	}
	cluster, clusters := clustersOf(m.Rows)
	return newRanked(scores, fraud, weight, cluster, clusters)
}

func meanPrecision(trials []*ranked) float64 {
	sum := 0.0
	for _, r := range trials {
		sum += r.measure(once(r.clusters()), nil, nil).averagePrecision
	}
	return sum / float64(len(trials))
}

// resamples of a comparison of two trials.
const resamples = 200

// gainOf is how much more average precision the second trial has, mean over the seeds, and its interval: customers are drawn anew,
// and each seed's own gain is as likely, so it holds the chance of the requests and that of the training.
func gainOf(ctx context.Context, first, second []*ranked, seed uint64) (gain float64, between Interval, err error) {
	b := Bootstrap{Resamples: resamples, Level: intervalLevel, Seed: seed}
	values, err := b.resample(ctx, first[0].clusters(), len(first), func() func([]uint8, []float64) {
		return func(counts []uint8, into []float64) {
			for i := range first {
				into[i] = second[i].measure(counts, nil, nil).averagePrecision - first[i].measure(counts, nil, nil).averagePrecision
			}
		}
	})
	if err != nil {
		return 0, Interval{}, err
	}
	between, ok := intervalOf(slices.Concat(values...))
	if !ok {
		return 0, Interval{}, errors.New("too few frauds to tell a gain from noise; choose a longer period")
	}
	return meanPrecision(second) - meanPrecision(first), between, nil
}

// thinned keeps at most limit rows, in order: all frauds if they are at most half of that, and honest requests evenly over time.
// The copy is the caller's own.
func (m *Matrix) thinned(limit int) *Matrix {
	frauds := m.positives()
	keep := func(of, most int) func() bool { // of so many, most, evenly
		seen := 0
		return func() bool {
			seen++
			return of <= most || seen*most/of > (seen-1)*most/of
		}
	}
	keepFraud := keep(frauds, max(limit/2, limit-(len(m.Rows)-frauds)))
	keepHonest := keep(len(m.Rows)-frauds, limit-min(frauds, limit/2))
	out := *m
	out.Rows, out.X = nil, nil
	for i := range m.Rows {
		if m.Rows[i].Fraud && keepFraud() || !m.Rows[i].Fraud && keepHonest() {
			out.Rows = append(out.Rows, m.Rows[i])
			out.X = append(out.X, m.vector(i)...)
		}
	}
	return &out
}

// mask makes columns missing everywhere, which is as good as leaving them out, until restore.
func (m *Matrix) mask(cols []int) (restore func()) {
	width := len(m.Names)
	kept := make([][]float64, len(cols))
	for i, col := range cols {
		missing := math.NaN()
		if m.Categorical[col] {
			missing = -1
		}
		kept[i] = make([]float64, len(m.Rows))
		for row := range m.Rows {
			kept[i][row], m.X[row*width+col] = m.X[row*width+col], missing
		}
	}
	return func() {
		for i, col := range cols {
			for row, v := range kept[i] {
				m.X[row*width+col] = v
			}
		}
	}
}
