package lightgbm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/go-json-experiment/json"
)

// RungMetric is what rungs are about.
const RungMetric = "average_precision"

// Rung ends a trial after an iteration by which [RungMetric] has not been AtLeast so much.
type Rung struct {
	Iteration int     `json:"iteration"`
	AtLeast   float64 `json:"at_least"`
}

// Trial is one boosting among many on the same rows.
type Trial struct {
	Params        map[string]string // over those of the job
	Rounds        int
	EarlyStopping int
	Require       []Rung
}

// Tried is what came of a trial.
type Tried struct {
	Rounds        []Round
	BestIteration int
	Pruned        bool // by a rung
}

// Trials is a child that holds the rows of one job and trains on them again and again. Not for concurrent use.
type Trials struct {
	job     Job
	dir     string
	process *process
}

// binning are the parameters that belong to a data set: trials that agree in them share one.
var binning = []string{"bin_construct_sample_cnt", "categorical_feature", "data_random_seed", "enable_bundle", "feature_pre_filter",
	"forcedbins_filename", "is_enable_sparse", "max_bin", "max_bin_by_feature", "min_data_in_bin", "use_missing", "zero_as_missing"}

// OpenTrials hands the rows of a job over to a child. Of the job Params counts, for each trial; there must be validation rows.
// The end of the context ends the child after its current round. Close must be called.
func OpenTrials(ctx context.Context, job Job) (*Trials, error) {
	if job.Valid.Rows == 0 {
		return nil, errors.New("open trials: there are no validation rows")
	}
	job.Rounds, job.EarlyStopping, job.Golden, job.Network = 1, 0, nil, nil
	if job.Params == nil {
		job.Params = map[string]string{}
	}
	if err := job.validate(); err != nil {
		return nil, fmt.Errorf("open trials: %w", err)
	}
	t := task{Trials: true, Cols: len(job.Train.Names), Train: &training{Names: job.Train.Names, Rows: job.Train.Rows, ValidRows: job.Valid.Rows}}
	dir, err := t.folder(job.matrices(), nil)
	if err != nil {
		return nil, fmt.Errorf("open trials: %w", err)
	}
	p, err := start(ctx, dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("open trials: %w", err)
	}
	job.Train.X, job.Train.Label, job.Train.Weight = nil, nil, nil
	job.Valid.X, job.Valid.Label, job.Valid.Weight = nil, nil, nil
	return &Trials{job, dir, p}, nil
}

// Try boosts once. After an error there are no more trials. A cancelled context is an error that wraps its cause.
func (t *Trials) Try(trial Trial, progress func(Round)) (Tried, error) {
	job := t.job
	job.Params = maps.Clone(t.job.Params)
	maps.Copy(job.Params, trial.Params)
	params := job.params()
	if err := t.process.ctx.Err(); err != nil {
		return Tried{}, fmt.Errorf("trial: %w", context.Cause(t.process.ctx))
	}
	order, err := json.Marshal(order{Params: params, DatasetParams: job.paramString(func(name string) bool { return slices.Contains(binning, name) }),
		Rounds: trial.Rounds, EarlyStopping: trial.EarlyStopping, Metrics: job.metricCount(), Require: trial.Require})
	if err != nil {
		return Tried{}, fmt.Errorf("trial: %w", err)
	}
	if _, err := t.process.orders.Write(append(order, '\n')); err != nil {
		return Tried{}, fmt.Errorf("trial: %w", t.process.wait())
	}
	out, err := t.process.follow(progress)
	if errors.Is(err, errSilent) || t.process.ctx.Err() != nil {
		err = t.process.wait()
	}
	if err != nil {
		return Tried{}, fmt.Errorf("trial: %w", err)
	}
	return Tried{out.rounds, out.best, out.pruned}, nil
}

// Close ends the child and removes its folder.
func (t *Trials) Close() error {
	defer os.RemoveAll(t.dir)
	defer t.process.close()
	if t.process.child.ProcessState != nil {
		return nil // an error of Try told of its end
	}
	_, written := t.process.orders.Write([]byte(orderEnd))
	if ended := t.process.child.Wait(); ended != nil && written == nil && t.process.ctx.Err() == nil && t.process.finished {
		return fmt.Errorf("end the trials: %w", ended)
	}
	return nil
}
