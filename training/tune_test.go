package training_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/training"
)

func tuned(t *testing.T, trials int) training.Options {
	t.Helper()
	o := options(t, plantedHistory(t))
	o.Train.From = o.Train.Until - 80*vaglio.Day
	o.Gap, o.Rounds, o.Tune, o.TuneFile = vaglio.Day, 30, trials, filepath.Join(t.TempDir(), "trials.jsonl")
	return o
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTuningTakesTheBestTrialAndGoesOnWhereItStopped(t *testing.T) {
	whole := tuned(t, 14)
	var last training.Progress
	whole.Progress = func(p training.Progress) {
		if p.Step == "tune" {
			last = p
		}
	}
	m, _ := trained(t, whole)
	if last.Done != 14 || last.Total != 14 || !strings.Contains(last.Note, "best 0.") {
		t.Errorf("progress %+v", last)
	}
	trials := read(t, whole.TuneFile)
	lines := bytes.Split(bytes.TrimSpace(trials), []byte("\n"))
	if len(lines) != 15 || !bytes.Contains(lines[1], []byte(`"params":{}`)) || !bytes.Contains(trials, []byte(`"pruned":true`)) {
		t.Errorf("%d lines of trials:\n%s", len(lines), trials)
	}
	type trial struct {
		Params           map[string]string `json:"params"`
		AveragePrecision float64           `json:"average_precision"`
	}
	var best trial
	for _, line := range lines[1:] {
		var r trial
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if r.AveragePrecision > best.AveragePrecision {
			best = r
		}
	}
	want := maps.Clone(training.DefaultParams)
	maps.Copy(want, best.Params)
	want["seed"] = "1"
	if !maps.Equal(m.Parameters, want) {
		t.Errorf("trained with %v, the best trial had %v", m.Parameters, want)
	}

	// Stopped in its tenth trial, with half a line on the disk.
	halved := tuned(t, 14)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	halved.Progress = func(p training.Progress) {
		if p.Step == "tune" && p.Done >= 9 {
			cancel()
		}
	}
	if _, _, err := training.Train(ctx, halved); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "after 9 of 14 trials; the best so far: 0.") {
		t.Errorf("stopped: %v", err)
	}
	if _, err := os.Stat(halved.Dir); !os.IsNotExist(err) {
		t.Errorf("it left a bundle: %v", err)
	}
	file, err := os.OpenFile(halved.TuneFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"trial":9,"pla`)
	file.Close()
	halved.Progress = nil
	again, _ := trained(t, halved)
	if !bytes.Equal(read(t, halved.TuneFile), trials) || !maps.Equal(again.Parameters, m.Parameters) {
		t.Error("the trials of a tuning that was stopped differ from those of one that was not")
	}

	other := tuned(t, 2)
	other.TuneFile, other.Seed = whole.TuneFile, 2
	if _, _, err := training.Train(t.Context(), other); err == nil || !strings.Contains(err.Error(), "other rows, parameters or seed") {
		t.Errorf("another seed: %v", err)
	}
}

func TestWhatIsGivenIsNotTuned(t *testing.T) {
	o := tuned(t, 3)
	o.TuneFile = ""
	o.Params = map[string]string{"max_bin": "63", "num_leaves": "7"}
	m, _ := trained(t, o)
	if m.Parameters["max_bin"] != "63" || m.Parameters["num_leaves"] != "7" {
		t.Errorf("trained with %v", m.Parameters)
	}
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(o.Dir), ".tune-*.jsonl"))
	if err != nil || len(beside) != 1 || bytes.Contains(read(t, beside[0]), []byte(`"max_bin"`)) {
		t.Errorf("files %v, %v", beside, err)
	}
}

func TestAFullDiskEndsTheTuningInWords(t *testing.T) {
	o := tuned(t, 3)
	o.TuneFile = "/dev/full"
	_, _, err := training.Train(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "no space left on device: make room") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(o.Dir); !os.IsNotExist(err) {
		t.Errorf("it left a bundle: %v", err)
	}
}
