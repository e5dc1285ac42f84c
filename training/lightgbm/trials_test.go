package lightgbm_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"vaglio/training/lightgbm"
)

func trials(t *testing.T, job lightgbm.Job) *lightgbm.Trials {
	t.Helper()
	open, err := lightgbm.OpenTrials(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := open.Close(); err != nil {
			t.Error(err)
		}
	})
	return open
}

func TestATrialIsTheTrainingThatItStandsFor(t *testing.T) {
	job := smallJob()
	open := trials(t, job)
	for _, params := range []map[string]string{{"max_bin": "15"}, {"max_bin": "255", "min_data_in_leaf": "100"}, {"max_bin": "15", "num_leaves": "7"}} {
		tried, err := open.Try(lightgbm.Trial{Params: params, Rounds: job.Rounds, EarlyStopping: job.EarlyStopping}, nil)
		if err != nil {
			t.Fatal(err)
		}
		whole := smallJob()
		for name, value := range params {
			whole.Params[name] = value
		}
		trained, err := lightgbm.Train(t.Context(), whole, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tried.BestIteration != trained.BestIteration || len(tried.Rounds) != len(trained.Rounds) || tried.Pruned {
			t.Fatalf("%v: the trial's best of %d is %d, training's best of %d is %d", params, len(tried.Rounds), tried.BestIteration,
				len(trained.Rounds), trained.BestIteration)
		}
		for i := range tried.Rounds {
			if a, b := tried.Rounds[i].Metrics[lightgbm.RungMetric], trained.Rounds[i].Metrics[lightgbm.RungMetric]; a != b {
				t.Fatalf("%v: round %d has %v in the trial, %v in training", params, i+1, a, b)
			}
		}
	}
}

func TestATrialThatMissesARungEndsThere(t *testing.T) {
	open := trials(t, smallJob())
	try := func(rungs ...lightgbm.Rung) lightgbm.Tried {
		t.Helper()
		tried, err := open.Try(lightgbm.Trial{Rounds: 20, Require: rungs}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tried
	}
	if tried := try(lightgbm.Rung{Iteration: 5, AtLeast: 0.01}, lightgbm.Rung{Iteration: 10, AtLeast: 2}); !tried.Pruned || len(tried.Rounds) != 10 {
		t.Errorf("pruned %v after %d rounds", tried.Pruned, len(tried.Rounds))
	}
	if tried := try(); tried.Pruned || len(tried.Rounds) != 20 {
		t.Errorf("pruned %v after %d rounds without a rung", tried.Pruned, len(tried.Rounds))
	}
}

func TestTrialsEndWithTheirContextAndLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open, err := lightgbm.OpenTrials(ctx, smallJob())
	if err != nil {
		t.Fatal(err)
	}
	_, err = open.Try(lightgbm.Trial{Rounds: 10_000}, func(lightgbm.Round) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := open.Try(lightgbm.Trial{Rounds: 1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := open.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAParameterThatATrialCannotHaveIsSaid(t *testing.T) {
	open := trials(t, smallJob())
	if _, err := open.Try(lightgbm.Trial{Params: map[string]string{"num_leaves": "1"}, Rounds: 1}, nil); err == nil ||
		!strings.Contains(err.Error(), "LightGBM: Check failed: (num_leaves) > (1)") {
		t.Errorf("got %v", err)
	}
	job := smallJob()
	job.Valid = lightgbm.Dataset{}
	if _, err := lightgbm.OpenTrials(t.Context(), job); err == nil || !strings.Contains(err.Error(), "no validation rows") {
		t.Errorf("got %v", err)
	}
}

func TestParametersAreThoseOfTheLibrary(t *testing.T) {
	main, err := lightgbm.Parameters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"num_leaves": "num_leaves", "max_leaves": "num_leaves", "eta": "learning_rate", "shrinkage_rate": "learning_rate",
		"subsample": "bagging_fraction", "num_leafs": "", "scale_pos_weight": "scale_pos_weight", "lambda": "lambda_l2", "": ""} {
		if main[name] != want {
			t.Errorf("%q is %q, want %q", name, main[name], want)
		}
	}
	for name, want := range map[string]bool{"objective": true, "num_machines": true, "data": true, "num_leaves": false, "max_bin": false, "seed": false} {
		if lightgbm.Owned(name) != want {
			t.Errorf("%s: owned is %v", name, !want)
		}
	}
}
