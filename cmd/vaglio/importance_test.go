package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio/scoring/policy"
	"vaglio/training"
)

// The commands of docs/features.md, on the simulated year.
func TestFeatureWork(t *testing.T) {
	data := installed(t)
	work := func(args ...string) string {
		t.Helper()
		return mustRun(t, append(args, "--data", data)...)
	}
	out := work("features", "importance", "--from", "2026-03-01", "--until", until)
	for _, want := range []string{"MEAN |CONTRIBUTION|", "customer_payment_mean_90d", "recycles past policy", "of it is recycled policy"} {
		if !strings.Contains(out, want) {
			t.Errorf("importance does not show %q:\n%s", want, out)
		}
	}
	out = work("features", "correlation", "--from", "2026-01-01", "--until", until)
	if !strings.Contains(out, "customer_spent_sum_24h, customer_spent_share_24h") {
		t.Errorf("correlation:\n%s", out)
	}
	var dropped training.DropCheck
	if err := json.Unmarshal([]byte(work("features", "drop", "--rounds", "10", "--only", "customer_age,rail", "--json")), &dropped); err != nil || len(dropped.Dropped) != 2 {
		t.Errorf("drop: %d groups, %v", len(dropped.Dropped), err)
	}
	catalogue := filepath.Join(t.TempDir(), "features.yaml")
	work("features", "propose", "--from", "2025-06-01", "--until", until, "--labels-until", "2026-12-01", "--candidates", "20", "--tries", "2", "--out", catalogue)
	if out := work("features", "check", catalogue); !strings.Contains(out, "is good: 4") {
		t.Errorf("the proposal: %s", out)
	}
}

func TestThresholdsFromCosts(t *testing.T) {
	data := installed(t)
	recommended := filepath.Join(t.TempDir(), "policy.yaml")
	out := mustRun(t, "models", "thresholds", "--costs", "../../examples/costs.yaml", "--from", "2026-03-01", "--until", until, "--labels-until", "2026-12-01",
		"--out", recommended, "--data", data)
	for _, want := range []string{"least cost on", "approve_all", "least_cost", "SAVED"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	text, err := os.ReadFile(recommended)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if p.ApproveBelow == nil || len(p.Rules()) != len(policy.Default().Rules()) {
		t.Errorf("%s", text)
	}
	wrong := filepath.Join(t.TempDir(), "costs.yaml")
	if err := os.WriteFile(wrong, []byte("fraud_fee: 3\nreview: {catch: 7}\nreviews: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := vaglioCommand(t.Context(), "models", "thresholds", "--costs", wrong, "--from", "2026-01-01", "--until", until, "--data", data).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "line 2: review: catch") || !strings.Contains(string(said), "line 3") {
		t.Errorf("%v: %s", err, said)
	}
}
