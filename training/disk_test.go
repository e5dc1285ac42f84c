package training_test

import (
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vaglio/files/filestest"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

// In LightGBM's child, too, a file that may not grow is an error.
func init() { signal.Ignore(syscall.SIGXFSZ) }

// The disk becomes full in a step of a training: that says what to do, leaves nothing that looks like a bundle, and nothing in the
// way of the next run.
func TestADiskThatIsFullStopsATrainingCleanly(t *testing.T) {
	if !filestest.Alone(t) {
		return
	}
	registry := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	costs := policy.DefaultCosts()
	o := options(t, plantedHistory(t))
	o.Dir, o.TuneFile, o.Tune, o.Rounds = filepath.Join(registry, "v1"), filepath.Join(t.TempDir(), "trials.jsonl"), 2, 60
	o.Finish = training.Finish{Report: true, Costs: &costs}
	fullIn := func(step string, bytes uint64, wants ...string) *models.Bundle {
		t.Helper()
		usual, full := func() {}, false
		o.Progress = func(p training.Progress) {
			if !full && p.Step == step {
				usual, full = filestest.Limit(t, bytes), true
			}
		}
		bundle, _, err := training.Train(t.Context(), o)
		usual()
		if err == nil {
			t.Fatalf("it was trained on a disk that was full in step %s", step)
		}
		for _, want := range append(wants, "file too large: raise the limit on the size of files (ulimit -f), or ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("full in step %s: %v: want it to say %q", step, err, want)
			}
		}
		if entries, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(entries) > 0 {
			t.Errorf("full in step %s, it left %v, %v", step, entries, err)
		}
		return bundle
	}
	left := func() (names []string) {
		t.Helper()
		err := filepath.WalkDir(registry, func(_ string, e fs.DirEntry, err error) error {
			if !e.IsDir() {
				names = append(names, e.Name())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	fullIn("labels", 10_000, "hand the matrix over", "name another folder in TMPDIR")
	fullIn("tune", 300, "record a trial", "run the same again")
	fullIn("tune", 75_000, "name another folder in TMPDIR") // where the child writes its model
	fullIn("train", 10_000, "write model bundle "+o.Dir, "name another folder")
	if entries, err := os.ReadDir(registry); err != nil || len(entries) > 0 {
		t.Errorf("the registry has %v, %v", entries, err)
	}
	bundle := fullIn("evaluate", 100_000, "report", "write it elsewhere")
	if bundle == nil || !slices.Contains(left(), "model.txt") || strings.Contains(strings.Join(left(), " "), "report") {
		t.Errorf("with a report that could not be written there is %v", left())
	}
	o.Progress = nil
	o.Dir = filepath.Join(registry, "v2")
	if _, _, err := training.Train(t.Context(), o); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for _, file := range []string{"report.html", "policy.yaml", "model.txt"} {
		if _, err := os.Stat(filepath.Join(registry, "v2", file)); err != nil {
			t.Error(err)
		}
	}
}
