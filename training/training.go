// Package training makes models from history. [Train] is the whole way: requests replayed into a matrix as of their own
// moments (replay.go), labels by what was known at the cut (labels.go), LightGBM in a child process (package
// training/lightgbm; params.go, folds.go, tune.go), calibration, thresholds, an evaluation on a later period (evaluate.go),
// and a bundle that package models opens.
package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
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

// Default thresholds on the calibrated probability, until an analyst derives them from costs.
var defaultThresholds = models.Thresholds{ApproveBelow: 0.06, DenyFrom: 0.75}

// Options of a training.
type Options struct {
	History   *history.Store
	Catalogue *features.Catalogue // nil: the default one, or that of Matrix
	Train     Period
	Test      Period
	// Matrix are files of [WriteDataset], as Parquet, which together cover both periods; they stand for the replay. Labels are
	// those of History all the same, so they follow the cut. nil: requests are replayed.
	Matrix []string
	// LabelsUntil is the cut of knowledge for training: labels learned later are not used. 0: the end of Train, as on the
	// day on which such a model would have been trained.
	LabelsUntil vaglio.Instant
	Maturity    vaglio.Instant // age from which a request without a label counts as clean; 0: DefaultMaturity
	// RailMaturity is that of rails that need more; nil: none, or DefaultRailMaturity when Maturity is 0, too.
	RailMaturity map[string]vaglio.Instant
	// Gap separates the requests that trees are fitted on from later ones that validate them: as long as labels take, since on
	// the day of the first validated request those of the gap would have had none. 0: DefaultMaturity, of a short training period
	// a tenth; below 0: none. Between
	// the training and the test period the labels' own maturity makes the gap.
	Gap vaglio.Instant
	// Folds, when not 0, is how many later parts validate models of what came before them; else the last fifth does.
	Folds int
	// NoRefit keeps the model of the validated split. Otherwise, with as many rounds, one is grown on all rows of the training
	// period: the newest fraud is learnt too.
	NoRefit bool
	// CustomerGuard leaves the customers of the fitted rows out of validation, those of the training period out of the test.
	CustomerGuard bool
	Params        map[string]string // over DefaultParams, by main names: see ParseParams
	Rounds        int               // 0: 500, with early stopping after 50
	Tune          int               // trials of parameters that Params does not set; 0: none
	TuneFile      string            // where they are recorded; "": beside Dir, under a name that the data and settings give
	Network       *lightgbm.Network // of machines that train together; only the first makes a bundle. nil: this one alone
	Seed          uint64
	// InversePropensity lets requests that exploration let through count for their like, and leaves the others of their kind out.
	InversePropensity bool
	Finish            Finish
	Name              string           // of the model; "" is "refund"
	Version           string           // "" is made of the time of training
	Dir               string           // where the bundle goes; must not exist
	Now               func() time.Time // nil: time.Now
	Progress          func(Progress)   // may be nil

	files   []matrixFile // of Matrix
	boosted int          // how many trainings there were
}

// Progress tells how far a long step is.
type Progress struct {
	Step        string // replay or read, labels, tune, validate or fold 1…, train, evaluate
	Done, Total int    // rows or rounds; Total 0: unknown
	Note        string
}

// Train makes a bundle in o.Dir and returns it opened, with the evaluation of its test period. Ended by its context while it
// grows the last trees, it makes a bundle of those that there are, marked as interrupted, and returns it with an error that
// wraps the context's cause. Where only what o.Finish asks for can't be written, the bundle is returned with the error. Any other
// error leaves nothing in o.Dir. On machines of a network but the first the bundle is nil.
func Train(ctx context.Context, o Options) (*models.Bundle, Evaluation, error) {
	if err := o.prepare(ctx); err != nil {
		return nil, Evaluation{}, err
	}
	// The training side may know only what was known at its cut; the test is judged by all that is known today.
	train, err := o.labelled(ctx, o.Train, o.LabelsUntil, newLearner(o.Catalogue))
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("training period: %w", err)
	}
	o.Catalogue = train.Catalogue // with the categories of the training period
	test, err := o.labelled(ctx, o.Test, vaglio.InstantOf(o.Now()), &learner{of: o.Catalogue})
	if err == nil {
		if o.CustomerGuard {
			test = test.without(train)
		}
		err = test.bothClasses()
	}
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("test period: %w", err)
	}
	parts, err := o.splits(train)
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("training period: %w", err)
	}
	params := o.params()
	if o.Tune > 0 {
		if params, err = o.tune(ctx, parts[len(parts)-1], params); err != nil {
			return nil, Evaluation{}, err
		}
	}
	f, err := o.train(ctx, train, parts, params)
	if err != nil || o.Network != nil && o.Network.Self > 0 {
		return nil, Evaluation{}, err
	}
	return o.bundle(ctx, f, test, params)
}

// bundle evaluates a fitted model and writes it.
func (o *Options) bundle(ctx context.Context, f fitted, test *Matrix, params map[string]string) (*models.Bundle, Evaluation, error) {
	thresholds := defaultThresholds
	working := context.WithoutCancel(ctx) // an interrupted training still leaves its model
	plan, err := o.plan(working, &f, test)
	if err != nil {
		return nil, Evaluation{}, err
	}
	if plan != nil {
		thresholds = plan.Thresholds
	}
	p, err := score(working, f.model, &f.calibration, test)
	if err != nil {
		return nil, Evaluation{}, err
	}
	evaluation, err := Measure(working, test.Rows, p, MeasureOptions{Thresholds: thresholds, Currency: o.History.BaseCurrency(), New: test.newCustomers(),
		InversePropensity: o.InversePropensity})
	if err != nil {
		return nil, Evaluation{}, err
	}
	evaluation.From, evaluation.Until = o.Test.From, o.Test.Until
	catalogue, err := o.Catalogue.YAML()
	if err != nil {
		return nil, Evaluation{}, fmt.Errorf("write the catalogue: %w", err)
	}
	f.calibrated.From, f.calibrated.Until = o.Train.From, o.Train.Until
	manifest := models.Manifest{Name: o.Name, Version: o.Version, CreatedAt: vaglio.InstantOf(o.Now()),
		Training: window(o.Train, f.fit), Calibration: f.calibrated, Test: window(o.Test, test), Folds: f.folds, Interrupted: f.interrupted != nil,
		Metrics: evaluation.metrics(), Reliability: f.reliability, Parameters: params,
		Libraries:  map[string]string{"lightgbm": f.Version, "vaglio": vaglio.Version},
		Thresholds: thresholds, Population: population(f.fit), BaseCurrency: o.History.BaseCurrency()}
	manifest.Metrics["best_iteration"] = float64(f.BestIteration)
	foldMetrics(f.folds, manifest.Metrics)
	contents := models.Contents{Manifest: manifest, Model: f.Model, Catalogue: catalogue, Calibration: f.calibration}
	cols := len(test.Names)
	for i, raw := range f.GoldenRaw {
		contents.Golden = append(contents.Golden, models.NewGolden(f.golden[i*cols:(i+1)*cols], raw, f.GoldenContributions[i]))
	}
	if err := models.Write(o.Dir, contents); err != nil {
		return nil, Evaluation{}, err
	}
	bundle, err := models.Open(o.Dir)
	if err == nil && f.interrupted != nil {
		return bundle, evaluation, fmt.Errorf("interrupted after %d rounds, of which the model has %d: %w", len(f.Rounds), f.BestIteration, f.interrupted)
	}
	if err == nil {
		err = o.finish(ctx, bundle, &f, test, plan)
	}
	return bundle, evaluation, err
}

// prepare fills in and checks what can be checked before the work.
func (o *Options) prepare(ctx context.Context) error {
	if len(o.Matrix) > 0 {
		files, catalogue, err := openMatrix(o.Matrix, o.History.BaseCurrency())
		if err != nil {
			return err
		}
		if o.Catalogue != nil {
			if asked, err := o.Catalogue.YAML(); err != nil || string(asked) != files[0].Catalogue {
				return errors.Join(err, fmt.Errorf("matrix %s has other features than the catalogue that was asked for", files[0].path))
			}
		}
		o.files, o.Catalogue = files, catalogue
	}
	o.fill()
	if err := errors.Join(o.Train.check("training"), o.Test.check("test")); err != nil {
		return err
	}
	now := vaglio.InstantOf(o.Now())
	switch {
	case o.Test.From < o.Train.Until:
		return fmt.Errorf("the test period begins at %v, within the training period until %v", o.Test.From, o.Train.Until)
	case o.LabelsUntil > now:
		return fmt.Errorf("labels until %v are from the future: it is %v; end the training period earlier", o.LabelsUntil, now)
	case o.Test.From >= now:
		return fmt.Errorf("the test period begins at %v, in the future: it is %v; choose requests that have happened", o.Test.From, now)
	case o.Rounds < 1 || o.Rounds > lightgbm.MaxRounds:
		return fmt.Errorf("%d rounds: want 1 to %d", o.Rounds, lightgbm.MaxRounds)
	case o.NoRefit && o.Folds > 0:
		return errors.New("a model without refit is that of one split: do without folds")
	case o.Folds < 0 || o.Folds == 1 || o.Folds > 50:
		return fmt.Errorf("%d folds: want 2 to 50, or 0 for none", o.Folds)
	case o.Tune < 0 || o.Tune > 10_000:
		return fmt.Errorf("%d trials: want up to 10000", o.Tune)
	case o.Network != nil && (len(o.Network.Machines) < 2 || o.Network.Self < 0 || o.Network.Self >= len(o.Network.Machines)):
		return fmt.Errorf("this is machine %d of %d: want two or more, counted from 0", o.Network.Self, len(o.Network.Machines))
	case o.Tune > 0 && o.Network != nil:
		return errors.New("tune on one machine, then train on several with the parameters that it found")
	}
	if err := errors.Join(models.CheckName("name", o.Name), models.CheckName("version", o.Version)); err != nil {
		return err
	}
	if o.Dir == "" {
		return errors.New("write the bundle: no folder is named")
	}
	if _, err := os.Stat(o.Dir); err == nil {
		return fmt.Errorf("write the bundle: %s exists already", o.Dir)
	}
	return o.checkParams(ctx, o.Catalogue)
}

// labelled are the requests of a period whose label is settled by what was known at the cut.
func (o *Options) labelled(ctx context.Context, p Period, cut vaglio.Instant, learnt *learner) (*Matrix, error) {
	labels, err := ReadLabels(ctx, o.History, p.From, cut)
	if err != nil {
		return nil, err
	}
	var matrix *Matrix
	if o.files != nil {
		matrix, err = readMatrix(ctx, o.files, learnt, p, o.Progress)
	} else {
		matrix, err = replay(ctx, o.History, o.Catalogue, learnt, p, o.Progress)
	}
	if err != nil {
		return nil, err
	}
	replayed := len(matrix.Rows)
	if replayed == 0 {
		return nil, fmt.Errorf("there are no requests in [%v, %v): import their events, or choose another period", p.From, p.Until)
	}
	held := 0
	if o.InversePropensity {
		explored, err := readPropensities(ctx, o.History, p)
		if err != nil {
			return nil, err
		}
		matrix, held = explored.apply(matrix)
	}
	labelled, left := matrix.label(labels, cut, maturityOf(o.Maturity, o.RailMaturity))
	left.held = held
	o.Progress(Progress{"labels", len(labelled.Rows), replayed, left.String()})
	if len(labelled.Rows) == 0 {
		return nil, fmt.Errorf("%d requests in [%v, %v), none old enough at %v to have a settled label (maturity %d days, of some rails more)",
			replayed, p.From, p.Until, cut, cmp.Or(o.Maturity, DefaultMaturity)/vaglio.Day)
	}
	if labelled.positives() == 0 {
		return nil, fmt.Errorf("0 frauds among %d labelled requests: both classes are needed; %s", len(labelled.Rows), labels.advice())
	}
	return labelled, nil
}

func window(p Period, m *Matrix) models.Window {
	return models.Window{From: p.From, Until: p.Until, Rows: len(m.Rows), Positives: m.positives()}
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

// gap is Gap with its default.
func (o *Options) gap() vaglio.Instant {
	return max(0, cmp.Or(o.Gap, min(DefaultMaturity, (o.Train.Until-o.Train.From)/10)))
}

func (o *Options) fill() {
	if o.Catalogue == nil {
		o.Catalogue = features.Default()
	}
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
