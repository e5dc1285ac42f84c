package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vaglio"
)

func TestRailsHaveTheirOwnMaturity(t *testing.T) {
	got, err := parseRails("card=90d,wallet=0d")
	if err != nil || !maps.Equal(got, map[string]vaglio.Instant{"card": 90 * vaglio.Day, "wallet": 0}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"card", "card=", "card=90", "cart=90d", "card=90d;wallet=1d"} {
		if got, err := parseRails(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

// The parameters are refused before history is opened.
func TestTrainRefusesWhatItCantDo(t *testing.T) {
	dir := t.TempDir()
	params := filepath.Join(dir, "params.yaml")
	if err := os.WriteFile(params, []byte("num_leafs: 31\nobjective: regression\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(code int, want string, args ...string) {
		t.Helper()
		args = append([]string{"train", "--data", dir, "--from", "2025-06-01", "--until", "2026-03-01", "--test-from", "2026-03-01", "--test-until", until}, args...)
		out, err := vaglioCommand(t.Context(), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != code || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%v: %s; want %d and %q", err, out, code, want)
		}
	}
	refused(exitUsage, "--gap: want a number of days", "--gap", "30")
	refused(exitUsage, "--rail-maturity: want rails", "--rail-maturity", "card")
	refused(exitUsage, "--machine-rank wants --machines", "--machine-rank", "1")
	refused(exitFailed, "line 1: num_leafs: LightGBM has no such parameter\nline 2: objective: is not for an analyst", "--params", params)
	refused(exitFailed, "no such file", "--params", filepath.Join(dir, "none.yaml"))
	refused(exitFailed, "no such file", "--features", filepath.Join(dir, "none.yaml"))
}

func TestAModelFromShardsIsTheOneFromTheReplay(t *testing.T) {
	data, dir := installed(t), t.TempDir()
	period := []string{"--from", "2026-01-01", "--until", "2026-05-01"}
	var parts []string
	for _, shard := range []string{"1/2", "2/2"} {
		parts = append(parts, filepath.Join(dir, strings.ReplaceAll(shard, "/", "of")+".parquet"))
		mustRun(t, append([]string{"dataset", "--data", data, "--shard", shard, "--out", parts[len(parts)-1]}, period...)...)
	}
	train := func(name string, more ...string) []byte {
		t.Helper()
		mustRun(t, append([]string{"train", "--data", data, "--from", "2026-01-01", "--until", "2026-04-01", "--test-from", "2026-04-01", "--test-until", "2026-05-01",
			"--labels-until", until, "--gap", "3d", "--rounds", "20", "--version", "parts", "--out", filepath.Join(dir, name)}, more...)...)
		model, err := os.ReadFile(filepath.Join(dir, name, "model.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return model
	}
	if !bytes.Equal(train("matrix", "--matrix", strings.Join(parts, ",")), train("replay")) {
		t.Error("the models differ")
	}
}

func TestAnAnalystWorksBesideAServer(t *testing.T) {
	data, dir := installed(t), t.TempDir()
	serve(t, data)
	events := filepath.Join(dir, "again.ndjson")
	var lines []byte
	for i := range shared.events[:3] {
		lines = append(append(lines, mustJSON(t, &shared.events[i])...), '\n')
	}
	if err := os.WriteFile(events, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "import", "--data", data, events)
	mustRun(t, "dataset", "--data", data, "--from", "2026-05-01", "--until", "2026-05-08", "--out", filepath.Join(dir, "week.csv"))
	if out := mustRun(t, "features", "importance", "--data", data, "--from", "2026-05-01", "--until", "2026-05-08"); !strings.Contains(out, "GAIN") {
		t.Errorf("importance:\n%s", out)
	}
}
