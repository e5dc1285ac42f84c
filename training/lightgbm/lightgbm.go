// Package lightgbm trains LightGBM models of one binary objective through LightGBM's own C library, in a child process of
// this very program: a fault in C then ends the child, not the caller. [Main] turns a process into that child, [Train]
// and [Predict] start one. process.go holds the parent's side, child.go the child's, library.go the C functions.
package lightgbm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Limits of one training.
const (
	maxRows   = math.MaxInt32
	maxCols   = 4096
	MaxRounds = 10_000
)

// Metrics are computed on the validation rows after each round unless Job.Params names others under "metric". The first
// of them decides which round is the best.
const Metrics = "binary_logloss,average_precision,auc"

// Dataset is a matrix with its labels. Slices are read only.
type Dataset struct {
	Names       []string  // of the columns: letters, digits and _, each once, at least two
	Categorical []bool    // by column: the value is a category's code, -1 for an unknown one; nil when none is
	Rows        int       //
	X           []float64 // row-major, Rows × len(Names); NaN is a missing value
	Label       []float64 // 1 fraud, 0 not; both must occur
	Weight      []float64 // finite and above 0; nil for all 1
}

// Job is one training. The same job gives the same model, byte for byte, whatever the number of threads.
type Job struct {
	Params map[string]string // LightGBM's own names; one that it does not know is an error
	Rounds int
	// EarlyStopping ends training after so many rounds without a better first metric on Valid and keeps the best round;
	// 0 keeps all rounds. With boosting=dart it must be 0: later rounds change the earlier trees.
	EarlyStopping int
	Train, Valid  Dataset   // Valid may have no rows; its names and categories are Train's
	Golden        []float64 // rows × columns, to be predicted by the finished model
	Network       *Network  // nil: this machine alone
}

// Round is what one round of boosting reached on the validation rows.
type Round struct {
	Iteration int                `json:"iteration"` // from 1
	Metrics   map[string]float64 `json:"metrics,omitempty"`
	Best      int                `json:"best"` // the best iteration so far
}

// Result is a finished model.
type Result struct {
	Model               []byte // LightGBM's text format, the best iteration's trees
	BestIteration       int
	Rounds              []Round
	GoldenRaw           []float64   // log-odds by LightGBM's own reading of Model
	GoldenContributions [][]float64 // by LightGBM: one entry a column, then the base value
	Version             string      // of the library: a release, or its file's "sha256:…" when it is no known one
	Warnings            []string    // LightGBM's, each once, but for the one about unknown categories
}

// Train trains in a child process and waits for it. progress, which may be nil, is called on the caller's goroutine
// after each round. A cancelled context ends the child after the current round: then the error wraps the context's, and
// the Result holds the best model so far, or none when the child had to be killed or had finished no round.
func Train(ctx context.Context, job Job, progress func(Round)) (Result, error) {
	if err := job.validate(); err != nil {
		return Result{}, fmt.Errorf("train: %w", err)
	}
	cols := len(job.Train.Names)
	params := job.params()
	t := task{Train: &training{order: order{Params: params, DatasetParams: params, Rounds: job.Rounds, EarlyStopping: job.EarlyStopping,
		Metrics: job.metricCount()}, Names: job.Train.Names, Rows: job.Train.Rows, ValidRows: job.Valid.Rows},
		Cols: cols, Rows: len(job.Golden) / cols, Raw: true, Contributions: true}
	if job.Network != nil {
		var err error
		if t.Train.Network, err = job.Network.resolve(ctx); err != nil {
			return Result{}, fmt.Errorf("train: %w", err)
		}
	}
	matrices := job.matrices()
	matrices[fileRows] = job.Golden
	out, err := t.run(ctx, progress, matrices, nil)
	result := Result{Model: out.model, BestIteration: out.best, Rounds: out.rounds, GoldenRaw: out.raw,
		GoldenContributions: out.contributions, Version: out.version, Warnings: out.warnings}
	if err != nil {
		return result, fmt.Errorf("train: %w", err)
	}
	return result, nil
}

func (j *Job) matrices() map[string][]float64 {
	return map[string][]float64{fileTrain: j.Train.X, fileTrainLabel: j.Train.Label, fileTrainWeight: j.Train.Weight,
		fileValid: j.Valid.X, fileValidLabel: j.Valid.Label, fileValidWeight: j.Valid.Weight}
}

// Predict lets LightGBM read a model and score rows of cols columns, in log-odds.
func Predict(ctx context.Context, model []byte, x []float64, cols int) ([]float64, error) {
	out, err := predict(ctx, task{Cols: cols, Raw: true}, model, x)
	return out.raw, err
}

// Contributions lets LightGBM explain rows of cols columns: by row one entry a column, then the base value, in log-odds.
// It costs about a millisecond a row for 200 trees, and loses its precision on trees deeper than 12 or so.
func Contributions(ctx context.Context, model []byte, x []float64, cols int) ([][]float64, error) {
	out, err := predict(ctx, task{Cols: cols, Contributions: true}, model, x)
	return out.contributions, err
}

func predict(ctx context.Context, t task, model []byte, x []float64) (answer, error) {
	if t.Cols < 1 || t.Cols > maxCols || len(x) == 0 || len(x)%t.Cols != 0 || len(x)/t.Cols > maxRows {
		return answer{}, fmt.Errorf("predict: %d values are not rows of %d columns", len(x), t.Cols)
	}
	t.Rows = len(x) / t.Cols
	out, err := t.run(ctx, nil, map[string][]float64{fileRows: x}, model)
	if err != nil {
		return answer{}, fmt.Errorf("predict: %w", err)
	}
	return out, nil
}

func (j *Job) validate() error {
	if err := j.Train.validate(); err != nil {
		return fmt.Errorf("training rows: %w", err)
	}
	if j.Valid.Rows > 0 {
		if err := j.Valid.validate(); err != nil {
			return fmt.Errorf("validation rows: %w", err)
		}
		if !slices.Equal(j.Valid.Names, j.Train.Names) || !slices.Equal(j.Valid.Categorical, j.Train.Categorical) {
			return errors.New("validation rows have other columns than training rows")
		}
	}
	switch {
	case j.Rounds < 1 || j.Rounds > MaxRounds:
		return fmt.Errorf("%d rounds: want 1 to %d", j.Rounds, MaxRounds)
	case j.EarlyStopping < 0:
		return fmt.Errorf("early stopping after %d rounds", j.EarlyStopping)
	case j.EarlyStopping > 0 && j.Valid.Rows == 0:
		return errors.New("early stopping needs validation rows")
	case j.EarlyStopping > 0 && j.Params["boosting"] == "dart":
		return errors.New("early stopping does not work with boosting=dart: its later rounds change the earlier trees")
	case j.Network != nil && (len(j.Network.Machines) < 2 || j.Network.Self < 0 || j.Network.Self >= len(j.Network.Machines)):
		return fmt.Errorf("this is machine %d of %d: want two or more, counted from 0", j.Network.Self, len(j.Network.Machines))
	case len(j.Golden)%len(j.Train.Names) != 0:
		return fmt.Errorf("%d golden values are not rows of %d columns", len(j.Golden), len(j.Train.Names))
	}
	for _, name := range slices.Sorted(maps.Keys(j.Params)) {
		value := j.Params[name]
		if Owned(name) {
			return fmt.Errorf("parameter %s is set by this program", name)
		}
		if !isPlain(name) || value != "" && !isPlain(value) {
			return fmt.Errorf("parameter %q=%q: want no spaces, quotes or =", name, value)
		}
	}
	return nil
}

func (d *Dataset) validate() error {
	cols := len(d.Names)
	switch {
	case d.Rows < 1:
		return errors.New("there are none")
	case d.Rows > maxRows:
		return fmt.Errorf("%d rows are more than %d", d.Rows, maxRows)
	case cols < 2 || cols > maxCols:
		return fmt.Errorf("%d columns: want 2 to %d", cols, maxCols)
	case len(d.X) != d.Rows*cols:
		return fmt.Errorf("%d values are not %d rows of %d columns", len(d.X), d.Rows, cols)
	case len(d.Label) != d.Rows:
		return fmt.Errorf("%d labels for %d rows", len(d.Label), d.Rows)
	case d.Weight != nil && len(d.Weight) != d.Rows:
		return fmt.Errorf("%d weights for %d rows", len(d.Weight), d.Rows)
	case d.Categorical != nil && len(d.Categorical) != cols:
		return fmt.Errorf("%d marks of categories for %d columns", len(d.Categorical), cols)
	}
	seen := make(map[string]bool, cols)
	for _, name := range d.Names {
		if !isColumnName(name) {
			return fmt.Errorf("column %q: want a name of letters, digits and _", name)
		}
		if seen[name] {
			return fmt.Errorf("column %s is given twice", name)
		}
		seen[name] = true
	}
	var fraud int
	for i, y := range d.Label {
		switch y {
		case 1:
			fraud++
		case 0:
		default:
			return fmt.Errorf("row %d: label %v is neither 0 nor 1", i, y)
		}
	}
	if fraud == 0 || fraud == d.Rows {
		return fmt.Errorf("all %d labels are %v: both classes are needed", d.Rows, d.Label[0])
	}
	for i, w := range d.Weight {
		if !(w > 0 && w <= math.MaxFloat32) {
			return fmt.Errorf("row %d: weight %v is not finite and above 0", i, w)
		}
	}
	return nil
}

// fixedParams make training repeatable and its model readable by package models. LightGBM's threads don't change the
// result under deterministic and force_row_wise.
var fixedParams = map[string]string{"objective": "binary", "linear_tree": "false", "deterministic": "true", "force_row_wise": "true",
	"verbosity": "0", "feature_pre_filter": "false"}

// ownedParams are set from the job, or would read or write files beside it.
var ownedParams = strings.Fields("categorical_feature early_stopping_round num_iterations num_class num_machines machines machine_list_filename " +
	"local_listen_port time_out tree_learner pre_partition force_col_wise config task data valid input_model output_model output_result " +
	"convert_model convert_model_language snapshot_freq save_binary header label_column weight_column group_column ignore_column " +
	"two_round parser_config_file precise_float_parser predict_raw_score predict_leaf_index predict_contrib predict_disable_shape_check " +
	"start_iteration_predict num_iteration_predict pred_early_stop pred_early_stop_freq pred_early_stop_margin")

// Owned tells whether a parameter of LightGBM, by its main name, is this package's to set.
func Owned(name string) bool {
	_, fixed := fixedParams[name]
	return fixed || slices.Contains(ownedParams, name)
}

// params is LightGBM's parameter string, for data sets and boosters alike: binning and categories belong to the former.
func (j *Job) params() string { return j.paramString(func(string) bool { return true }) }

func (j *Job) paramString(wanted func(name string) bool) string {
	all := map[string]string{"seed": "1"}
	maps.Copy(all, j.Params)
	maps.Copy(all, fixedParams)
	all["metric"] = j.metrics()
	if j.Network != nil {
		all["num_machines"], all["tree_learner"] = strconv.Itoa(len(j.Network.Machines)), "data"
	}
	var categorical []string
	for i, is := range j.Train.Categorical {
		if is {
			categorical = append(categorical, fmt.Sprint(i))
		}
	}
	if categorical != nil {
		all["categorical_feature"] = strings.Join(categorical, ",")
	}
	parts := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if wanted(name) {
			parts = append(parts, name+"="+all[name])
		}
	}
	return strings.Join(parts, " ")
}

func (j *Job) metrics() string { return cmp.Or(j.Params["metric"], Metrics) }

func (j *Job) metricCount() int { return strings.Count(j.metrics(), ",") + 1 }

func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '=' || c == '"' || c == '#' {
			return false
		}
	}
	return s != ""
}

func isColumnName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}
