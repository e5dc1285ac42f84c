package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sort"
	"strings"

	"gonum.org/v1/gonum/stat"

	"vaglio"
	"vaglio/models"
	"vaglio/training/lightgbm"
)

// split is a part to fit on and a later one to validate on.
type split struct{ fit, valid *Matrix }

// rows is a part of the matrix, with the same memory.
func (m *Matrix) rows(from, until int) *Matrix {
	p := *m
	p.Rows, p.X = m.Rows[from:until:until], m.X[from*len(m.Names):until*len(m.Names)]
	return &p
}

// place is where the row after a share of the rows stands; requests of one moment stay together.
func (m *Matrix) place(share float64) int {
	cut := int(share * float64(len(m.Rows)))
	for cut > 0 && cut < len(m.Rows) && m.Rows[cut].At == m.Rows[cut-1].At {
		cut++
	}
	return cut
}

// without leaves out the rows of customers that the other part has; requests that name no customer stay.
func (m *Matrix) without(other *Matrix) *Matrix {
	seen := map[string]bool{"": false}
	for i := range other.Rows {
		if customer := other.Rows[i].Customer; customer != "" {
			seen[customer] = true
		}
	}
	out := *m
	out.Rows, out.X = nil, nil
	for i := range m.Rows {
		if !seen[m.Rows[i].Customer] {
			out.Rows, out.X = append(out.Rows, m.Rows[i]), append(out.X, m.vector(i)...)
		}
	}
	return &out
}

// split validates on the rows [from, until) of m and fits on those that are older by the gap.
func (o *Options) split(m *Matrix, from, until int) (split, error) {
	valid := m.rows(from, until)
	if len(valid.Rows) == 0 {
		return split{}, fmt.Errorf("%d labelled requests are too few to validate on: choose a longer period", len(m.Rows))
	}
	begin := valid.Rows[0].At
	fit := m.rows(0, sort.Search(from, func(i int) bool { return m.Rows[i].At > begin-o.gap() }))
	if o.CustomerGuard {
		valid = valid.without(fit)
	}
	if err := fit.bothClasses(); err != nil {
		return split{}, fmt.Errorf("requests to fit on, those before %v (the gap is %d days): %w, or a shorter gap", begin-o.gap(), o.gap()/vaglio.Day, err)
	}
	if err := valid.bothClasses(); err != nil {
		if o.CustomerGuard {
			err = fmt.Errorf("%w, or do without the guard of customers", err)
		}
		return split{}, fmt.Errorf("requests to validate on, those from %v on: %w", begin, err)
	}
	return split{fit, valid}, nil
}

// splits are the last fifth to validate on, or with folds as many blocks of equally many rows, each to validate a model of
// what came before it (prequential, by Dawid 1984): the first block is only fitted on.
func (o *Options) splits(m *Matrix) ([]split, error) {
	if o.Folds == 0 {
		s, err := o.split(m, m.place(0.8), len(m.Rows))
		return []split{s}, err
	}
	out := make([]split, o.Folds)
	blocks := float64(o.Folds + 1)
	for i := range out {
		var err error
		if out[i], err = o.split(m, m.place(float64(i+1)/blocks), m.place(float64(i+2)/blocks)); err != nil {
			return nil, fmt.Errorf("fold %d of %d: %w, or fewer folds", i+1, o.Folds, err)
		}
	}
	return out, nil
}

// fitted is a model that is not in a bundle yet.
type fitted struct {
	lightgbm.Result
	model       *models.Model
	fit         *Matrix
	golden      []float64
	calibration models.Calibration
	reliability models.Reliability
	calibrated  models.Window
	folds       []models.Fold
	unseen      predictions // behind the calibration
	interrupted error       // by the context, after so many rounds that there is a model
}

// train finds the number of rounds and the calibration on rows that the trees have not seen, and then grows trees on all rows,
// the newest too, for as many rounds as the splits took on average; they get the calibration of the splits' predictions. With
// NoRefit, and when it is interrupted in its only split, the model is that of the split.
func (o *Options) train(ctx context.Context, m *Matrix, parts []split, params map[string]string) (f fitted, err error) {
	var unseen predictions
	var folds []models.Fold
	var rounds float64
	for i, part := range parts {
		step := "validate"
		if o.Folds > 0 {
			step = fmt.Sprintf("fold %d", i+1)
		}
		if f, err = o.boost(ctx, step, part.fit, lightgbm.Job{Params: params, Rounds: o.Rounds, EarlyStopping: earlyStopping(params),
			Valid: part.validation(params)}); err != nil {
			return f, err
		}
		if o.Folds > 0 && f.interrupted != nil {
			return f, fmt.Errorf("interrupted in fold %d of %d, before there was a model of all requests: %w", i+1, o.Folds, f.interrupted)
		}
		if err := unseen.add(f.model, part.valid); err != nil {
			return f, err
		}
		rounds += float64(f.BestIteration) / float64(len(parts))
		folds = append(folds, models.Fold{Training: span(part.fit), Validation: span(part.valid), BestIteration: f.BestIteration,
			Metrics: metricsAt(f.Rounds, f.BestIteration)})
	}
	if !o.NoRefit && f.interrupted == nil {
		if f, err = o.boost(ctx, "train", m, lightgbm.Job{Params: params, Rounds: max(1, int(math.Round(rounds)))}); err != nil {
			return f, err
		}
	}
	f.folds, f.calibrated, f.unseen = folds, unseen.window, unseen
	f.calibration, f.reliability, err = models.FitCalibration(unseen.logOdds, unseen.fraud, unseen.weight)
	if err != nil && f.interrupted != nil {
		err = fmt.Errorf("interrupted after %d rounds, too few to calibrate: %w", f.BestIteration, err)
	}
	return f, err
}

// share is what this machine fits on: of several, every n-th row.
func (o *Options) share(m *Matrix) *Matrix {
	if o.Network == nil {
		return m
	}
	out := *m
	out.Rows, out.X = nil, nil
	for i := o.Network.Self; i < len(m.Rows); i += len(o.Network.Machines) {
		out.Rows, out.X = append(out.Rows, m.Rows[i]), append(out.X, m.vector(i)...)
	}
	return &out
}

// boost trains once on rows.
func (o *Options) boost(ctx context.Context, step string, fit *Matrix, job lightgbm.Job) (fitted, error) {
	job.Train, job.Golden = o.share(fit).dataset(), goldenRows(fit)
	if o.Network != nil {
		network := *o.Network
		network.Shift += o.boosted
		job.Network = &network
	}
	o.boosted++
	result, err := lightgbm.Train(ctx, job, func(r lightgbm.Round) {
		note := ""
		if ap, known := r.Metrics["average_precision"]; known {
			note = fmt.Sprintf("average precision %.4f, best round %d", ap, r.Best)
		}
		o.Progress(Progress{step, r.Iteration, job.Rounds, note})
	})
	f := fitted{Result: result, fit: fit, golden: job.Golden}
	switch {
	case err != nil && (ctx.Err() == nil || result.Model == nil || result.GoldenRaw == nil):
		return f, err
	case err != nil:
		f.interrupted = context.Cause(ctx)
	case len(result.Rounds) == 0:
		return f, fmt.Errorf("LightGBM found nothing to split among %d requests (%s): give it more labels, more features at once (feature_fraction: 1) "+
			"or less regularisation (lambda_l2)", len(fit.Rows), strings.Join(result.Warnings, "; "))
	}
	if f.model, err = models.ReadModel(result.Model); err != nil {
		return f, fmt.Errorf("read what LightGBM wrote: %w", err)
	}
	return f, nil
}

// metricsAt is what an iteration reached on the validation; nothing if LightGBM found nothing to split.
func metricsAt(rounds []lightgbm.Round, iteration int) map[string]float64 {
	if iteration > len(rounds) {
		return nil
	}
	return rounds[iteration-1].Metrics
}

// predictions are of rows that the trees have not seen.
type predictions struct {
	logOdds, weight []float64
	fraud           []bool
	window          models.Window
	parts           []*Matrix
}

func (p *predictions) add(model *models.Model, m *Matrix) error {
	for i := range m.Rows {
		logOdds, err := model.LogOdds(m.vector(i))
		if err != nil {
			return fmt.Errorf("calibrate on request %s: %w", m.Rows[i].ID, err)
		}
		row := &m.Rows[i]
		p.logOdds, p.weight, p.fraud = append(p.logOdds, logOdds), append(p.weight, row.Weight/row.Propensity), append(p.fraud, row.Fraud)
	}
	p.parts = append(p.parts, m)
	w := span(m)
	p.window = models.Window{From: cmp.Or(p.window.From, w.From), Until: w.Until, Rows: p.window.Rows + w.Rows, Positives: p.window.Positives + w.Positives}
	return nil
}

// foldMetrics are the mean of each metric over the folds and its standard deviation among them, under its name with _folds_mean
// and _folds_sd.
func foldMetrics(folds []models.Fold, into map[string]float64) {
	if len(folds) < 2 {
		return
	}
	for name := range folds[0].Metrics {
		values := make([]float64, len(folds))
		for i := range folds {
			values[i] = folds[i].Metrics[name]
		}
		into[name+"_folds_mean"], into[name+"_folds_sd"] = stat.MeanStdDev(values, nil)
	}
}

// span is a set of rows with its own bounds: from the first to just after the last.
func span(m *Matrix) models.Window {
	w := models.Window{Rows: len(m.Rows), Positives: m.positives()}
	if len(m.Rows) > 0 {
		w.From, w.Until = m.Rows[0].At, m.Rows[len(m.Rows)-1].At+1
	}
	return w
}
