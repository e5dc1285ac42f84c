package lightgbm_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"vaglio/training/lightgbm"
)

func TestMain(m *testing.M) {
	lightgbm.Main()
	os.Exit(m.Run())
}

func TestTrainingLearnsAndTheSameSeedGivesTheSameBytes(t *testing.T) {
	job := smallJob()
	var seen []lightgbm.Round
	first, err := lightgbm.Train(t.Context(), job, func(r lightgbm.Round) { seen = append(seen, r) })
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != len(first.Rounds) || len(seen) == 0 {
		t.Fatalf("told of %d rounds of %d", len(seen), len(first.Rounds))
	}
	best := first.Rounds[first.BestIteration-1]
	if auc := best.Metrics["auc"]; auc < 0.8 {
		t.Errorf("AUC %v of a signal that is nearly the label", auc)
	}
	for _, r := range first.Rounds {
		if r.Metrics["binary_logloss"] < best.Metrics["binary_logloss"] {
			t.Errorf("round %d is better than the best, %d", r.Iteration, best.Iteration)
		}
	}
	if got, want := strings.Count(string(first.Model), "\nTree="), first.BestIteration; got != want {
		t.Errorf("%d trees for %d iterations", got, want)
	}
	if first.Version != "4.7.0" {
		t.Errorf("library %s", first.Version)
	}
	for i, row := range first.GoldenContributions {
		var sum float64
		for _, c := range row {
			sum += c
		}
		if math.Abs(sum-first.GoldenRaw[i]) > 1e-9 {
			t.Errorf("golden row %d: contributions add up to %v, not %v", i, sum, first.GoldenRaw[i])
		}
	}
	job.Params["num_threads"] = "1"
	second, err := lightgbm.Train(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	trees := func(model []byte) []byte { before, _, _ := bytes.Cut(model, []byte("\nparameters:")); return before }
	if !bytes.Equal(trees(first.Model), trees(second.Model)) {
		t.Error("one thread and many gave other trees")
	}
	job.Params["num_threads"] = "0"
	delete(job.Params, "num_threads")
	third, err := lightgbm.Train(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Model, third.Model) {
		t.Error("the same job gave another model")
	}
	raw, err := lightgbm.Predict(t.Context(), first.Model, job.Golden, len(job.Train.Names))
	if err != nil {
		t.Fatal(err)
	}
	contributions, err := lightgbm.Contributions(t.Context(), first.Model, job.Golden, len(job.Train.Names))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		if raw[i] != first.GoldenRaw[i] || contributions[i][0] != first.GoldenContributions[i][0] {
			t.Errorf("row %d: predicted anew %v, %v", i, raw[i], contributions[i][0])
		}
	}
}

func TestABadJobIsRefusedInWords(t *testing.T) {
	refused := func(want string, spoil func(*lightgbm.Job)) {
		t.Helper()
		job := smallJob()
		spoil(&job)
		if _, err := lightgbm.Train(t.Context(), job, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	refused("training rows: there are none", func(j *lightgbm.Job) { j.Train = lightgbm.Dataset{} })
	refused("row 7: label NaN", func(j *lightgbm.Job) { j.Train.Label[7] = math.NaN() })
	refused("label 2 is neither 0 nor 1", func(j *lightgbm.Job) { j.Valid.Label[3] = 2 })
	refused("both classes are needed", func(j *lightgbm.Job) { clear(j.Train.Label) })
	refused("weight NaN", func(j *lightgbm.Job) { j.Train.Weight[0] = math.NaN() })
	refused("weight 0", func(j *lightgbm.Job) { j.Train.Weight[0] = 0 })
	refused("are not 4000 rows of", func(j *lightgbm.Job) { j.Train.X = j.Train.X[1:] })
	refused("given twice", func(j *lightgbm.Job) { j.Train.Names[1] = j.Train.Names[0]; j.Valid.Names = j.Train.Names })
	refused(`column "a b"`, func(j *lightgbm.Job) { j.Train.Names[1] = "a b" })
	refused("other columns", func(j *lightgbm.Job) { j.Valid.Names = append([]string{"x"}, j.Valid.Names[1:]...) })
	refused("needs validation rows", func(j *lightgbm.Job) { j.Valid = lightgbm.Dataset{} })
	refused("boosting=dart", func(j *lightgbm.Job) { j.Params["boosting"] = "dart" })
	refused("parameter objective is set", func(j *lightgbm.Job) { j.Params["objective"] = "regression" })
	refused("parameter linear_tree is set", func(j *lightgbm.Job) { j.Params["linear_tree"] = "true" })
	refused("want no spaces", func(j *lightgbm.Job) { j.Params["seed"] = "1 objective=regression" })
	refused("LightGBM: Unknown parameter: num_leafs", func(j *lightgbm.Job) { j.Params["num_leafs"] = "31" })
	refused("LightGBM: Check failed: (num_leaves) > (1)", func(j *lightgbm.Job) { j.Params["num_leaves"] = "1" })
	refused("2 metrics were asked for, LightGBM knows of them: auc", func(j *lightgbm.Job) { j.Params["metric"] = "auc,nonsense" })
}

func TestAFaultInCEndsOnlyTheChild(t *testing.T) {
	result, err := lightgbm.Train(t.Context(), smallJob(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// LightGBM trusts the numbers of a model's text: a child far outside the tree makes it read foreign memory.
	var broken []string
	for line := range strings.Lines(string(result.Model)) {
		switch {
		case strings.HasPrefix(line, "tree_sizes="):
			continue
		case strings.HasPrefix(line, "left_child="), strings.HasPrefix(line, "right_child="):
			name, values, _ := strings.Cut(line, "=")
			line = name + "=" + strings.Repeat("-2000000000 ", len(strings.Fields(values))) + "\n"
		}
		broken = append(broken, line)
	}
	_, err = lightgbm.Predict(t.Context(), []byte(strings.Join(broken, "")), smallJob().Golden, 4)
	if err == nil || !strings.Contains(err.Error(), "the child process died") || !strings.Contains(err.Error(), "segmentation ") { // "fault", or "violation"
		t.Errorf("got %v", err)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestAModelThatLightGBMCannotReadIsItsOwnError(t *testing.T) {
	_, err := lightgbm.Predict(t.Context(), []byte("tree\nversion=v4\n"), []float64{1, 2}, 2)
	if err == nil || !strings.Contains(err.Error(), "LightGBM: ") {
		t.Errorf("got %v", err)
	}
}

func TestACancelledTrainingKeepsItsBestModel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job := smallJob()
	job.Rounds, job.EarlyStopping = 10_000, 0
	result, err := lightgbm.Train(ctx, job, func(r lightgbm.Round) {
		if r.Iteration == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if result.BestIteration < 3 || result.BestIteration == job.Rounds || !bytes.Contains(result.Model, []byte("end of trees")) {
		t.Errorf("best iteration %d, %d bytes", result.BestIteration, len(result.Model))
	}
	if _, err := lightgbm.Train(ctx, job, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context trained: %v", err)
	}
}

func TestColumnsWithoutInformationGiveAConstantModel(t *testing.T) {
	job := smallJob()
	clear(job.Train.X)
	clear(job.Valid.X)
	result, err := lightgbm.Train(t.Context(), job, nil)
	if err != nil {
		t.Fatal(err)
	}
	if result.GoldenRaw[0] != result.GoldenRaw[1] || len(result.Warnings) == 0 {
		t.Errorf("raw %v, warnings %q", result.GoldenRaw[:2], result.Warnings)
	}
}

func TestNothingIsLeftInTheTemporaryFolder(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if _, err := lightgbm.Train(t.Context(), smallJob(), nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// smallJob has two informative columns of four, one of them categorical, and missing values.
func smallJob() lightgbm.Job {
	rng := rand.New(rand.NewPCG(1, 2))
	set := func(rows int) lightgbm.Dataset {
		d := lightgbm.Dataset{Names: []string{"amount", "kind", "noise", "age"}, Categorical: []bool{false, true, false, false}, Rows: rows}
		for range rows {
			x := []float64{rng.ExpFloat64(), float64(rng.IntN(8)), rng.Float64(), rng.NormFloat64()}
			y := 0.0
			if rng.Float64() < 1/(1+math.Exp(3-2*x[0]-2*float64(int(x[1])%2))) {
				y = 1
			}
			if rng.IntN(5) == 0 {
				x[3] = math.NaN()
			}
			d.X = append(d.X, x...)
			d.Label = append(d.Label, y)
			d.Weight = append(d.Weight, 0.5+rng.Float64())
		}
		return d
	}
	job := lightgbm.Job{Params: map[string]string{"num_leaves": "15", "learning_rate": "0.2"}, Rounds: 100, EarlyStopping: 10,
		Train: set(4000), Valid: set(1000)}
	job.Golden = job.Valid.X[:40]
	return job
}
