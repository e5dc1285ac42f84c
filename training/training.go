// Package training makes models from history. [Train] is the whole way: requests replayed into a matrix as of their own
// moments (replay.go), labels by what was known at the cut (labels.go), LightGBM in a child process (package
// training/lightgbm), calibration, thresholds, an evaluation on a later period (evaluate.go), and a bundle that package
// models opens.
package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/gonum/stat"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/models"
	"vaglio/training/lightgbm"
)

// Period is a half-open span of requests' moments.
type Period struct{ From, Until vaglio.Instant }

func (p Period) check(name string) error {
	if p.From >= p.Until {
		return fmt.Errorf("the %s period ends at %v, before it begins at %v", name, p.Until, p.From)
	}
	return nil
}

// DefaultMaturity is how long a request must have aged before silence means that it was clean.
const DefaultMaturity = 30 * vaglio.Day

// Default thresholds on the calibrated probability, until an analyst derives them from costs.
var defaultThresholds = models.Thresholds{ApproveBelow: 0.06, DenyFrom: 0.75}

// DefaultParams are LightGBM's parameters unless Options name others.
var DefaultParams = map[string]string{
	"learning_rate": "0.05", "num_leaves": "31", "max_depth": "8", "min_data_in_leaf": "20", "max_bin": "512",
	"feature_fraction": "0.8", "bagging_fraction": "0.9", "bagging_freq": "1", "lambda_l2": "5",
}

// Options of a training.
type Options struct {
	History   *history.Store
	Catalogue *features.Catalogue // nil: the default one
	Train     Period
	Test      Period
	// LabelsUntil is the cut of knowledge for training: labels learned later are not used. 0: the end of Train, as on the
	// day on which such a model would have been trained.
	LabelsUntil vaglio.Instant
	Maturity    vaglio.Instant    // 0: DefaultMaturity
	Params      map[string]string // over DefaultParams
	Rounds      int               // 0: 500, with early stopping after 50
	Seed        uint64
	Name        string           // of the model; "" is "refund"
	Version     string           // "" is made of the time of training
	Dir         string           // where the bundle goes; must not exist
	Now         func() time.Time // nil: time.Now
	Progress    func(Progress)   // may be nil
}

// Progress tells how far a long step is.
type Progress struct {
	Step        string // replay, train, evaluate
	Done, Total int    // rows or rounds; Total 0: unknown
	Note        string
}

// Train makes a bundle in o.Dir and returns it opened, with the evaluation of its test period.
func Train(ctx context.Context, o Options) (*models.Bundle, Evaluation, error) {
	o.fill()
	if err := errors.Join(o.Train.check("training"), o.Test.check("test")); err != nil {
		return nil, Evaluation{}, err
	}
	if o.Test.From < o.Train.Until {
		return nil, Evaluation{}, fmt.Errorf("the test period begins at %v, within the training period until %v", o.Test.From, o.Train.Until)
	}
	if err := errors.Join(models.CheckName("name", o.Name), models.CheckName("version", o.Version)); err != nil {
		return nil, Evaluation{}, err
	}
	if o.Dir == "" {
		return nil, Evaluation{}, errors.New("write the bundle: no folder is named")
	}
	if _, err := os.Stat(o.Dir); err == nil {
		return nil, Evaluation{}, fmt.Errorf("write the bundle: %s exists already", o.Dir)
	}
	// The training side may know only what was known at its cut; the test is judged by all that is known today.
	train, err := o.labelled(ctx, o.Train, o.LabelsUntil, newLearner(o.Catalogue))
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("training period: %w", err)
	}
	o.Catalogue = train.Catalogue // with the categories of the training period
	test, err := o.labelled(ctx, o.Test, vaglio.InstantOf(o.Now()), &learner{of: o.Catalogue})
	if err == nil {
		err = test.bothClasses()
	}
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("test period: %w", err)
	}
	fit, valid := train.splitByTime(0.8)
	if err := fit.bothClasses(); err != nil {
		return nil, Evaluation{}, fmt.Errorf("earlier part of the training period: %w", err)
	}
	if err := valid.bothClasses(); err != nil {
		return nil, Evaluation{}, fmt.Errorf("later part of the training period: %w", err)
	}
	golden := goldenRows(fit)
	params := maps.Clone(DefaultParams)
	maps.Copy(params, o.Params)
	params["seed"] = strconv.FormatUint(o.Seed, 10)
	job := lightgbm.Job{Params: params, Rounds: o.Rounds, EarlyStopping: 50, Train: fit.dataset(), Valid: valid.dataset(), Golden: golden}
	result, err := lightgbm.Train(ctx, job, func(r lightgbm.Round) {
		o.Progress(Progress{"train", r.Iteration, o.Rounds, fmt.Sprintf("average precision %.4f, best round %d", r.Metrics["average_precision"], r.Best)})
	})
	if err != nil {
		return nil, Evaluation{}, err
	}
	model, err := models.ReadModel(result.Model)
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("read what LightGBM wrote: %w", err)
	}
	calibration, reliability, err := calibrate(model, valid)
	if err != nil {
		return nil, Evaluation{}, err
	}
	evaluation, err := evaluate(model, &calibration, test)
	if err != nil {
		return nil, Evaluation{}, err
	}
	evaluation.From, evaluation.Until = o.Test.From, o.Test.Until
	catalogue, err := o.Catalogue.YAML()
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("write the catalogue: %w", err)
	}
	manifest := models.Manifest{Name: o.Name, Version: o.Version, CreatedAt: vaglio.InstantOf(o.Now()),
		Training: window(o.Train, fit), Calibration: window(o.Train, valid), Test: window(o.Test, test),
		Metrics: evaluation.metrics(), Reliability: reliability, Parameters: params,
		Libraries:  map[string]string{"lightgbm": result.Version, "vaglio": vaglio.Version},
		Thresholds: defaultThresholds, Population: population(fit), BaseCurrency: o.History.BaseCurrency()}
	manifest.Metrics["best_iteration"] = float64(result.BestIteration)
	contents := models.Contents{Manifest: manifest, Model: result.Model, Catalogue: catalogue, Calibration: calibration}
	cols := len(train.Names)
	for i, raw := range result.GoldenRaw {
		contents.Golden = append(contents.Golden, models.NewGolden(golden[i*cols:(i+1)*cols], raw, result.GoldenContributions[i]))
	}
	if err := models.Write(o.Dir, contents); err != nil {
		return nil, Evaluation{}, err
	}
	bundle, err := models.Open(o.Dir)
	return bundle, evaluation, err
}

// labelled replays a period and keeps the requests whose label is settled by what was known at the cut.
func (o *Options) labelled(ctx context.Context, p Period, cut vaglio.Instant, learnt *learner) (*Matrix, error) {
	labels, err := ReadLabels(ctx, o.History, p.From, cut)
	if err != nil {
		return nil, err
	}
	matrix, err := replay(ctx, o.History, o.Catalogue, learnt, p, o.Progress)
	if err != nil {
		return nil, err
	}
	labelled := matrix.label(labels, cut, o.Maturity)
	if len(labelled.Rows) == 0 {
		return nil, fmt.Errorf("%d requests in [%v, %v), none old enough at %v to have a settled label (maturity %d days)",
			len(matrix.Rows), p.From, p.Until, cut, o.Maturity/vaglio.Day)
	}
	return labelled, nil
}

func window(p Period, m *Matrix) models.Window {
	return models.Window{From: p.From, Until: p.Until, Rows: len(m.Rows), Positives: m.positives()}
}

// calibrate fits probabilities and percentiles on rows that the trees have not seen.
func calibrate(model *models.Model, m *Matrix) (models.Calibration, models.Reliability, error) {
	logOdds, fraud := make([]float64, len(m.Rows)), make([]bool, len(m.Rows))
	for i := range m.Rows {
		var err error
		if logOdds[i], err = model.LogOdds(m.vector(i)); err != nil {
			return models.Calibration{}, models.Reliability{}, fmt.Errorf("calibrate on request %s: %w", m.Rows[i].ID, err)
		}
		fraud[i] = m.Rows[i].Fraud
	}
	return models.FitCalibration(logOdds, fraud, nil)
}

// goldenCount is how many vectors a bundle carries with LightGBM's own answers.
const goldenCount = 64

// goldenRows picks vectors evenly over time, and one in which everything is missing.
func goldenRows(m *Matrix) []float64 {
	cols := len(m.Names)
	rows := make([]float64, 0, goldenCount*cols)
	for i := range goldenCount - 1 {
		rows = append(rows, m.vector(i*len(m.Rows)/(goldenCount-1))...)
	}
	for i := range cols {
		missing := math.NaN()
		if m.Categorical[i] {
			missing = -1
		}
		rows = append(rows, missing)
	}
	return rows
}

// population describes what is usual of each numeric feature among the training requests.
func population(m *Matrix) []models.FeatureQuantiles {
	var out []models.FeatureQuantiles
	for col, name := range m.Names {
		if m.Categorical[col] {
			continue
		}
		var known []float64
		for i := range m.Rows {
			if v := m.vector(i)[col]; !math.IsNaN(v) && !math.IsInf(v, 0) {
				known = append(known, v)
			}
		}
		if len(known) == 0 {
			continue
		}
		slices.Sort(known)
		q := func(p float64) float64 { return stat.Quantile(p, stat.Empirical, known, nil) }
		out = append(out, models.FeatureQuantiles{Name: name, Q05: q(.05), Q25: q(.25), Q50: q(.5), Q75: q(.75), Q95: q(.95)})
	}
	return out
}

func (o *Options) fill() {
	if o.Catalogue == nil {
		o.Catalogue = features.Default()
	}
	o.Maturity = cmp.Or(o.Maturity, DefaultMaturity)
	o.LabelsUntil = cmp.Or(o.LabelsUntil, o.Train.Until)
	o.Rounds = cmp.Or(o.Rounds, 500)
	o.Name = cmp.Or(o.Name, "refund")
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Version = cmp.Or(o.Version, o.Now().UTC().Format("20060102-150405"))
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
}
