package training_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"vaglio"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

func TestTheGateHoldsAModelAgainstTheChampion(t *testing.T) {
	x, good, poor := twoModels(t)
	gate := func(model, champion *models.Bundle, stage models.Stage, o training.GateOptions, wants ...string) training.Gated {
		t.Helper()
		g, err := training.Gate(t.Context(), model, champion, stage, o)
		if err != nil {
			t.Fatal(err)
		}
		refusal := g.Err(model.Manifest().Version, stage)
		if len(wants) == 0 && refusal != nil || len(wants) > 0 && !errors.Is(refusal, models.ErrGate) {
			t.Errorf("%v, want %q", refusal, wants)
		}
		for _, want := range wants {
			if refusal == nil || !strings.Contains(refusal.Error(), want) {
				t.Errorf("%v, want %q", refusal, want)
			}
		}
		return g
	}
	o := training.GateOptions{History: x.History, Cut: x.Cut, Measure: training.MeasureOptions{Resamples: 100}}
	gate(good, nil, models.Champion, o)
	gate(good, good, models.Champion, o)
	gate(poor, good, models.Challenger, o)
	g := gate(good, poor, models.Champion, o)
	if g.Champion != "v0" || g.From != testPeriod.From || g.Requests < 1000 || g.Ranking.Verdict != training.DifferenceBetter || g.Money.Interval == nil || g.Money.Amount <= 0 {
		t.Errorf("the better model: %+v", g)
	}
	gate(poor, good, models.Champion, o, "worse than the champion v1", "average precision -", "cost more than those of the champion v1")
	o.History = nil
	gate(good, poor, models.Champion, o, "can't be measured", "no history at hand")
	o.History, o.Cut = x.History, testPeriod.From
	gate(good, poor, models.Champion, o, "can't be measured", "both have learnt from all requests until")
	o.Cut = testPeriod.From + 40*vaglio.Day
	o.Maturity = 50 * vaglio.Day
	gate(good, poor, models.Champion, o, "can't be measured", "none old enough")
}

func TestTrainingLeavesAReportThresholdsAndAPolicy(t *testing.T) {
	o := options(t, newHistory(t, planted(true)...))
	champion, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	costs, err := policy.ParseCosts([]byte("review: {cost: 10}"))
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.Dir = "v2", filepath.Join(t.TempDir(), "v2")
	o.Finish = training.Finish{Costs: &costs, Report: true, Champion: champion}
	b, e, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if b.Manifest().Thresholds == champion.Manifest().Thresholds || e.Thresholds != b.Manifest().Thresholds {
		t.Errorf("thresholds %+v in the manifest, %+v in the evaluation: not from money", b.Manifest().Thresholds, e.Thresholds)
	}
	page := string(read(t, filepath.Join(o.Dir, "report.html")))
	for _, want := range []string{"champion v1", "rules", "Cost", "<svg"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report does not hold %q", want)
		}
	}
	if text := string(read(t, filepath.Join(o.Dir, "policy.yaml"))); !strings.Contains(text, "name: refund-v2") || !strings.Contains(text, "# From costs, on ") {
		t.Errorf("the policy:\n%.300s", text)
	}
	if _, err := models.Open(o.Dir); err != nil {
		t.Errorf("the bundle with its report: %v", err)
	}
}
