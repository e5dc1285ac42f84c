package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"vaglio/models"
)

// DropOptions say how features are left out.
type DropOptions struct {
	Groups   [][]string        // features to leave out together; nil: each on its own
	Params   map[string]string // of the model, over DefaultParams
	Rounds   int               // of each training; 0: 60
	Seeds    int               // trainings of each group, 0: 3
	Rows     int               // at most, of both parts together; 0: 50,000: all frauds, honest requests thinned evenly
	Seed     uint64
	Progress func(Progress) // may be nil
}

// Dropped is what becomes of validation when some features are left out.
type Dropped struct {
	Features         []string `json:"features"`
	RecyclesPolicy   bool     `json:"recycles_policy"`   // one of them does
	AveragePrecision float64  `json:"average_precision"` // without them, mean over the seeds
	Loss             float64  `json:"loss"`              // of average precision by leaving them out
	Interval         Interval `json:"interval"`          // of Loss: seeds and requests drawn anew
	// Verdict is "pays" where the interval lies above 0, "hurts" where it lies below, "" where the loss is noise.
	Verdict string `json:"verdict,omitzero"`
}

// DropCheck is a model's worth without each of its features, at the same parameters and with few rounds.
type DropCheck struct {
	Rows             int       `json:"rows"` // trained on, thinned
	ValidRows        int       `json:"valid_rows"`
	ValidFrauds      int       `json:"valid_frauds"`
	Rounds           int       `json:"rounds"`
	Seeds            int       `json:"seeds"`
	AveragePrecision float64   `json:"average_precision"` // with all features, on the thinned later part
	Dropped          []Dropped `json:"dropped"`           // by falling Loss
}

// DropOne trains on the earlier part of a period with and without each group of features, and compares the average precision on
// the later part. A feature whose information another one carries too costs nothing on its own: see [Correlate], whose
// groups can be left out together.
func DropOne(ctx context.Context, fit, valid *Matrix, o DropOptions) (DropCheck, error) {
	groups, err := o.columns(fit)
	if err != nil {
		return DropCheck{}, err
	}
	if err := errors.Join(fit.bothClasses(), valid.bothClasses()); err != nil {
		return DropCheck{}, fmt.Errorf("leave features out: %w", err)
	}
	limit := cmp.Or(o.Rows, 50_000)
	share := float64(len(fit.Rows)) / float64(len(fit.Rows)+len(valid.Rows))
	fit, valid = fit.thinned(int(share*float64(limit))), valid.thinned(int((1-share)*float64(limit)))
	t := trial{params: o.Params, rounds: cmp.Or(o.Rounds, 60), seeds: cmp.Or(o.Seeds, 3), seed: o.Seed}
	progress := func(done int, note string) {
		if o.Progress != nil {
			o.Progress(Progress{Step: "leave out", Done: done, Total: len(groups) + 1, Note: note})
		}
	}
	progress(0, "")
	whole, err := t.run(ctx, fit, valid)
	if err != nil {
		return DropCheck{}, err
	}
	out := DropCheck{Rows: len(fit.Rows), ValidRows: len(valid.Rows), ValidFrauds: valid.positives(), Rounds: t.rounds, Seeds: t.seeds,
		AveragePrecision: meanPrecision(whole)}
	recycled := RecyclesPolicy(fit.Catalogue)
	for i, cols := range groups {
		restoreFit, restoreValid := fit.mask(cols), valid.mask(cols)
		without, err := t.run(ctx, fit, valid)
		restoreFit()
		restoreValid()
		if err != nil {
			return DropCheck{}, err
		}
		d := Dropped{AveragePrecision: meanPrecision(without)}
		for _, col := range cols {
			d.Features = append(d.Features, fit.Names[col])
			d.RecyclesPolicy = d.RecyclesPolicy || recycled[col]
		}
		if d.Loss, d.Interval, err = gainOf(ctx, without, whole, o.Seed); err != nil {
			return DropCheck{}, fmt.Errorf("leave features out: %w", err)
		}
		switch {
		case d.Interval.Low > 0:
			d.Verdict = "pays"
		case d.Interval.High < 0:
			d.Verdict = "hurts"
		}
		out.Dropped = append(out.Dropped, d)
		progress(i+2, fmt.Sprintf("average precision %.4f without %s, %.4f with it", d.AveragePrecision, d.Features[0], out.AveragePrecision))
	}
	slices.SortStableFunc(out.Dropped, func(a, b Dropped) int { return cmp.Compare(b.Loss, a.Loss) })
	return out, nil
}

// columns finds the features of the groups.
func (o *DropOptions) columns(m *Matrix) ([][]int, error) {
	var groups [][]int
	if o.Groups == nil {
		for col := range m.Names {
			groups = append(groups, []int{col})
		}
		return groups, nil
	}
	for _, names := range o.Groups {
		var cols []int
		for _, name := range names {
			col := slices.Index(m.Names, name)
			if col < 0 {
				return nil, fmt.Errorf("leave features out: there is no feature %s", name)
			}
			cols = append(cols, col)
		}
		if len(cols) > 0 {
			groups = append(groups, cols)
		}
	}
	return groups, nil
}

// CheckFeatures replays the training period of a bundle, finds its correlated features, and leaves each of them out, the groups of
// correlated ones together, and last all that recycle past policy, unless d.Groups says which: at the bundle's own parameters,
// split as for training.
// o says History, LabelsUntil, Maturity, Now and Progress.
func CheckFeatures(ctx context.Context, b *models.Bundle, o Options, d DropOptions) (DropCheck, Correlations, error) {
	manifest := b.Manifest()
	o.Catalogue, o.Train = b.Catalogue(), Period{manifest.Training.From, manifest.Training.Until}
	o.fill()
	m, err := o.labelled(ctx, o.Train, o.LabelsUntil, &learner{of: o.Catalogue})
	if err != nil {
		return DropCheck{}, Correlations{}, err
	}
	alike, err := Correlate(ctx, m, DefaultCorrelation, d.Seed)
	if err != nil {
		return DropCheck{}, Correlations{}, err
	}
	if d.Groups == nil {
		d.Groups = dropGroups(m, alike.Groups)
	}
	if d.Params == nil {
		d.Params = manifest.Parameters
	}
	d.Progress = o.Progress
	fit, valid := m.splitByTime(0.8)
	check, err := DropOne(ctx, fit, valid, d)
	return check, alike, err
}

// dropGroups are each feature on its own, the correlated ones together, and all that recycle past policy.
func dropGroups(m *Matrix, alike [][]string) [][]string {
	var groups [][]string
	for _, name := range m.Names {
		groups = append(groups, []string{name})
	}
	groups = append(groups, alike...)
	var recycling []string
	for col, recycles := range RecyclesPolicy(m.Catalogue) {
		if recycles {
			recycling = append(recycling, m.Names[col])
		}
	}
	if len(recycling) > 1 {
		groups = append(groups, recycling)
	}
	return groups
}
