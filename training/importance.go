package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/models"
)

// importanceRows is how many rows are explained at most: the mean of 20,000 is as good as that of millions.
const importanceRows = 20_000

// FeatureImportance is what a model makes of one feature.
type FeatureImportance struct {
	Name   string  `json:"name"`
	Splits int     `json:"splits"` // in all trees
	Gain   float64 `json:"gain"`   // sum of LightGBM's gains of these splits, on the rows it was trained on
	// MeanContribution is the mean of |contribution| over the rows, in log-odds: exact Shapley values.
	MeanContribution float64 `json:"mean_contribution"`
	Share            float64 `json:"share"` // of all features' MeanContribution
	// RecyclesPolicy marks a feature that is made of denials or labels: what an earlier policy decided comes back as evidence.
	RecyclesPolicy bool     `json:"recycles_policy"`
	MadeOf         []string `json:"made_of,omitempty"` // the kinds of events that make it one: refund_denied, fraud_confirmed, fraud_cleared
	// ShareOfOthers is the share among the features that don't recycle policy, 0 for one that does.
	ShareOfOthers float64 `json:"share_of_others"`
}

// Importance is a model's use of its features on the rows of a matrix.
type Importance struct {
	Rows     int    `json:"rows"`      // explained
	SampleOf int    `json:"sample_of"` // rows that there were; of more than 20,000 a random sample is explained
	Seed     uint64 `json:"seed"`      // of the sample
	// RecycledShare is the Share of all features that recycle policy.
	RecycledShare float64             `json:"recycled_share"`
	Features      []FeatureImportance `json:"features"` // by falling MeanContribution
}

// MeasureImportance explains the rows of a matrix, or 20,000 of them drawn by the seed. The matrix has the model's features.
func MeasureImportance(ctx context.Context, model *models.Model, m *Matrix, seed uint64) (Importance, error) {
	if !slices.Equal(model.Names(), m.Names) {
		return Importance{}, fmt.Errorf("importance: the model has other features than the matrix")
	}
	rows := drawRows(len(m.Rows), importanceRows, seed)
	out := Importance{Rows: len(rows), SampleOf: len(m.Rows), Seed: seed, Features: make([]FeatureImportance, len(m.Names))}
	contributions, err := meanContributions(ctx, model, m, rows)
	if err != nil {
		return Importance{}, err
	}
	use, recycled := model.TreeUse(), RecyclesPolicy(m.Catalogue)
	var all, others float64
	for i, v := range contributions {
		out.Features[i] = FeatureImportance{Name: m.Names[i], Splits: use[i].Splits, Gain: use[i].Gain, MeanContribution: v, RecyclesPolicy: recycled[i],
			MadeOf: policyBehind(m.Catalogue, i)}
		all += v
		if !recycled[i] {
			others += v
		}
	}
	for i := range out.Features {
		f := &out.Features[i]
		f.Share = shareOf(f.MeanContribution, all)
		if f.RecyclesPolicy {
			out.RecycledShare += f.Share
		} else {
			f.ShareOfOthers = shareOf(f.MeanContribution, others)
		}
	}
	slices.SortStableFunc(out.Features, func(a, b FeatureImportance) int {
		return cmp.Or(cmp.Compare(b.MeanContribution, a.MeanContribution), cmp.Compare(b.Gain, a.Gain))
	})
	return out, nil
}

// Importances replays a period and measures a bundle on its requests, labelled or not.
func Importances(ctx context.Context, h *history.Store, b *models.Bundle, p Period, seed uint64, progress func(Progress)) (Importance, error) {
	if err := p.check("importance"); err != nil {
		return Importance{}, err
	}
	catalogue := b.Catalogue()
	m, err := replay(ctx, h, catalogue, &learner{of: catalogue}, p, progress)
	if err != nil {
		return Importance{}, err
	}
	if len(m.Rows) == 0 {
		return Importance{}, fmt.Errorf("importance: no refund request in [%v, %v)", p.From, p.Until)
	}
	return MeasureImportance(ctx, b.Model, m, seed)
}

// policyKinds are the events that an earlier policy, or what was then found out, has left: denials and labels.
var policyKinds = []string{vaglio.KindRefundDenied, vaglio.KindFraudConfirmed, vaglio.KindFraudCleared}

// RecyclesPolicy tells by feature whether it is made of denials or labels, itself or through what its expression reads.
func RecyclesPolicy(catalogue *features.Catalogue) []bool {
	recycled := make([]bool, len(catalogue.Features()))
	for i := range recycled {
		recycled[i] = len(policyBehind(catalogue, i)) > 0
	}
	return recycled
}

// policyBehind are the policyKinds of which a feature is made.
func policyBehind(catalogue *features.Catalogue, feature int) []string {
	return slices.DeleteFunc(slices.Clone(policyKinds), func(kind string) bool { return !slices.Contains(catalogue.KindsBehind(feature), kind) })
}

func shareOf(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole
}

// drawRows draws at most limit of n rows, in ascending order.
func drawRows(n, limit int, seed uint64) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if n > limit {
		random := rand.New(rand.NewPCG(seed, 0))
		random.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:limit]
		slices.Sort(all)
	}
	return all
}

// meanContributions is the mean of |contribution| by feature over some rows, in log-odds. Rows are added up in blocks of
// fixed size, so that the outcome does not depend on the number of processors.
func meanContributions(ctx context.Context, model *models.Model, m *Matrix, rows []int) ([]float64, error) {
	const block = 256
	cols := len(m.Names)
	sums := make([][]float64, (len(rows)+block-1)/block)
	err := inParallel(ctx, len(sums), func(b int) error {
		sum, phi := make([]float64, cols), make([]float64, cols)
		for _, row := range rows[b*block : min((b+1)*block, len(rows))] {
			if _, err := model.Contributions(phi, m.vector(row)); err != nil {
				return fmt.Errorf("explain request %s: %w", m.Rows[row].ID, err)
			}
			for i, v := range phi {
				sum[i] += math.Abs(v)
			}
		}
		sums[b] = sum
		return nil
	})
	if err != nil {
		return nil, err
	}
	mean := make([]float64, cols)
	for _, sum := range sums {
		for i, v := range sum {
			mean[i] += v / float64(len(rows))
		}
	}
	return mean, nil
}

// inParallel does n pieces of work on all processors, until the first error or the context's end.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range n {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(i)
		})
	}
	return group.Wait()
}
