package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Ctrl-C while a training replays, tunes, and writes its report.
func TestAnInterruptedTrainingSaysWhatIsLeft(t *testing.T) {
	data, temporary, dir := installed(t), t.TempDir(), t.TempDir()
	bundle, trials := filepath.Join(dir, "bundle"), filepath.Join(dir, "trials.jsonl")
	interrupted := func(when func(said string) bool, args ...string) (said string, failed bool) {
		t.Helper()
		cmd := vaglioCommand(t.Context(), append([]string{"train", "--data", data, "--from", "2025-09-01", "--until", "2026-03-01", "--test-from", "2026-03-01",
			"--test-until", "2026-04-01", "--out", bundle, "--version", "interrupted"}, args...)...)
		cmd.Env = append(cmd.Env, "TMPDIR="+temporary)
		output := &logged{}
		cmd.Stderr = output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-time.After(10 * time.Millisecond):
				if when != nil && when(output.String()) {
					when = nil
					if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Fatal(err)
					}
				}
			}
		}
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitFailed) {
			t.Errorf("it ended with %v: %s", err, output)
		}
		if left, err := filepath.Glob(filepath.Join(temporary, "*lightgbm*")); err != nil || len(left) > 0 {
			t.Errorf("it left %v, %v", left, err)
		}
		return output.String(), err != nil
	}
	names := func() (names []string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	said, _ := interrupted(func(said string) bool { return strings.Contains(said, "settled label") }, "--folds", "8") // of which none is the model
	if !strings.Contains(said, "interrupted before there was a model: ") {
		t.Errorf("while it replays: %s", said)
	}
	if left := names(); len(left) > 0 {
		t.Errorf("while it replays it left %v", left)
	}
	tried := func(string) bool {
		text, _ := os.ReadFile(trials) // not there until there are trials
		return bytes.Count(text, []byte("\n")) > 2
	}
	tune := []string{"--tune", "1000", "--rounds", "10", "--tune-file", trials}
	said, _ = interrupted(tried, tune...)
	if !strings.Contains(said, "of 1000 trials; the best so far: ") || !strings.Contains(said, "run the same again to go on from "+trials) {
		t.Errorf("while it tunes: %s", said)
	}
	if left := names(); !slices.Equal(left, []string{"trials.jsonl"}) {
		t.Errorf("while it tunes it left %v", left)
	}
	written := func(string) bool { _, err := os.Stat(filepath.Join(bundle, "manifest.json")); return err == nil }
	said, failed := interrupted(written, "--rounds", "10", "--report")
	if failed && !strings.Contains(said, "interrupted: the model is whole") || !strings.Contains(said, "model interrupted is in "+bundle) {
		t.Errorf("while it reports: %s", said)
	}
	if _, err := os.Stat(filepath.Join(bundle, "report.html")); failed && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a report: %v", err)
	}
	for _, left := range names() {
		if left != "bundle" && left != "trials.jsonl" {
			t.Errorf("while it reports it left %s", left)
		}
	}
}
