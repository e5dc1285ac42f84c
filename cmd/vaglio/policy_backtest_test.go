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

func TestPoliciesAreBacktestedOnTheCommandLine(t *testing.T) {
	data, dir := installed(t), t.TempDir()
	mine := filepath.Join(dir, "mine.yaml")
	text := strings.Replace(string(policy.DefaultYAML()), "name: default", "name: mine", 1) +
		"  - {name: large, when: request.amount >= 30000, then: deny, reason: AMOUNT_UNUSUAL}\n" +
		"  - {name: tried, when: device_customers_30d >= 3, then: review, state: shadow}\n"
	if err := os.WriteFile(mine, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	costs := filepath.Join(dir, "costs.yaml")
	if err := os.WriteFile(costs, []byte("fraud_fee: 2000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	period := []string{"--data", data, "--from", "2026-03-01", "--until", until}
	var r training.BacktestReport
	out := mustRun(t, append([]string{"policy", "backtest", "--against", mine, "--costs", costs, "--examples", "2", "--json"}, period...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(r.Policies) != 2 || r.Model != "first" || r.Requests == 0 || int64(r.Requests) != r.Labels.Total() || r.Labels.Fraud == 0 {
		t.Fatalf("%s", out)
	}
	for _, p := range r.Policies {
		sum := int64(0)
		for _, v := range p.Verdicts {
			sum += v.Requests.Total()
		}
		if sum != int64(r.Requests) || p.Money.Cost == nil || p.Money.Approved == 0 || len(p.Rules) == 0 {
			t.Errorf("%+v", p)
		}
	}
	changes := r.Policies[1].Changes
	if len(changes.Moved) == 0 || changes.Money.Cost == nil {
		t.Fatalf("%+v", changes)
	}
	for _, m := range changes.Moved {
		if m.To == "deny" && (len(m.Examples) == 0 || len(m.Examples) > 2 || *m.Examples[0].Amount < 30000) {
			t.Errorf("%+v", m)
		}
	}
	out = mustRun(t, append([]string{"policy", "backtest", "--policy", mine, "--model", "none"}, period...)...)
	for _, want := range []string{"rules alone", "warning: ", "Policy mine-", "DECISION", "PRECISION", "statutory_claim", "tried", "reviews a day"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	if out = mustRun(t, append([]string{"policy", "shadow"}, period...)...); !strings.Contains(out, "0 rules in shadow fired") {
		t.Errorf("%s", out)
	}
}
