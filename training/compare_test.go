package training_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
	"vaglio/training/report"
)

// twoModels are trained on a planted history: one sees all failed logins, the other whether there was any in the last minute.
func twoModels(t *testing.T) (examine training.ExamineOptions, good, poor *models.Bundle) {
	t.Helper()
	events := planted(true)
	for i := range events {
		if events[i].Kind == vaglio.KindFraudConfirmed {
			events[i].Attributes = vaglio.FieldsOf("fraud_type", "third_party")
		}
	}
	o := options(t, newHistory(t, events...))
	good, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Catalogue = parse(t, "name: poor\nfeatures:\n  - {name: login_failed_1m, entity: customer, events: [login_failed], aggregate: count, window: 1m, "+
		"reason: ACCOUNT_CHANGED}\n"+
		"  - {name: hour, expr: request.hour}\n")
	o.Rounds, o.Version, o.Dir = 2, "v0", filepath.Join(t.TempDir(), "poor")
	o.Params = map[string]string{"max_depth": "1", "num_leaves": "2", "learning_rate": "0.01"}
	if poor, _, err = training.Train(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return training.ExamineOptions{History: o.History, Period: testPeriod, Cut: vaglio.InstantOf(today()),
		Measure: training.MeasureOptions{Resamples: 100, Seed: 1}}, good, poor
}

func TestAModelIsExaminedBesideTheChampionAndRulesOnTheSameRows(t *testing.T) {
	o, good, poor := twoModels(t)
	o.Champion = poor
	random := 0
	o.Rules = func(_ context.Context, _ *training.Matrix) (training.Baseline, error) {
		return func(row int) vaglio.Verdict { // a rule that knows nothing holds up every fourth request
			if random++; row%4 == 0 {
				return vaglio.Review
			}
			return vaglio.Approve
		}, nil
	}
	x, err := training.Examine(t.Context(), good, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Against) != 2 || x.Against[0].With != "champion v0" || x.Against[1].With != "rules" || random != x.Rows {
		t.Fatalf("against %+v", x.Against)
	}
	differences := map[string]training.Difference{}
	for _, d := range x.Against[1].Differences {
		differences[d.Metric] = d
	}
	if d := differences["roc_auc"]; d.Verdict != training.DifferenceBetter || *d.Model != x.ROCAUC || math.Abs(*d.Other-0.5) > 0.05 ||
		d.Interval.Low > *d.Difference {
		t.Errorf("AUC beside rules that know nothing: %+v", d)
	}
	if d := differences["frauds_stopped_at_its_load"]; *d.Model < 0.9 || math.Abs(*d.Other-0.25) > 0.06 || d.Verdict != training.DifferenceBetter {
		t.Errorf("frauds found when a fourth is held up: %+v", d)
	}
	if _, has := differences["log_loss"]; has {
		t.Error("rules have no log loss")
	}
	if f := x.FraudTypes; len(f) != 1 || f[0].Type != "third_party" || f[0].Frauds != x.Frauds {
		t.Errorf("kinds of fraud %+v", f)
	}
	if x.Money.Currency != "EUR" || x.Money.FraudStopped+x.Money.FraudPaid != int64(1000*x.Frauds) {
		t.Errorf("money %+v of %d frauds of 1000 each", x.Money, x.Frauds)
	}

	input, err := x.Report(t.Context(), good, training.ReportParts{Before: x.Matrix, DriftOf: "the same"})
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := report.Write(&page, input); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"champion v0", "third_party", "login_failed_24h", "max_bin"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, d := range input.Drift {
		if d.PSI != 0 {
			t.Errorf("%s drifted by %v from itself", d.Feature, d.PSI)
		}
	}

	refused := errors.New("no rules today")
	o.Rules = func(context.Context, *training.Matrix) (training.Baseline, error) { return nil, refused }
	if _, err := training.Examine(t.Context(), good, o); !errors.Is(err, refused) {
		t.Errorf("%v, want the rules' error", err)
	}
}

func TestTwoModelsAreComparedOnTheSameRowsAndTheLargestChangesExplained(t *testing.T) {
	x, good, poor := twoModels(t)
	o := training.CompareOptions{History: x.History, Period: x.Period, Cut: x.Cut, Measure: x.Measure, Most: 3}
	c, err := training.Compare(t.Context(), poor, good, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if c.A != poor.Identity() || c.B != good.Identity() || c.Rows != 60*24 {
		t.Errorf("compared %v with %v on %d rows", c.A, c.B, c.Rows)
	}
	byName := map[string]training.Difference{}
	for _, d := range c.Differences {
		byName[d.Metric] = d
	}
	if d := byName["log_loss"]; d.Verdict != training.DifferenceBetter || *d.Difference >= 0 || d.Interval.High >= 0 {
		t.Errorf("log loss %+v", d)
	}
	total := 0
	for _, d := range c.Decisions {
		total += d.Requests
	}
	if total != c.Rows || len(c.Decisions) != 9 {
		t.Errorf("%d decisions in %d kinds of %d requests", total, len(c.Decisions), c.Rows)
	}
	if len(c.Changes) != 3 {
		t.Fatalf("%d changes", len(c.Changes))
	}
	logOdds := func(p float64) float64 { return math.Log(p / (1 - p)) }
	last := math.Inf(1)
	for _, s := range c.Changes {
		apart := math.Abs(logOdds(s.ProbabilityB) - logOdds(s.ProbabilityA))
		if apart > last || len(s.Features) == 0 {
			t.Errorf("change %+v", s)
		}
		last = apart
		for _, f := range s.Features {
			if f.Feature == "login_failed_1m" && (f.A == nil || f.B != nil) || f.Feature == "login_failed_24h" && (f.A != nil || f.B == nil) {
				t.Errorf("a feature that one model lacks: %+v", f)
			}
		}
	}

	same, err := training.Compare(t.Context(), good, good, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range same.Differences {
		if d.Difference != nil && d.Metric != "frauds_stopped_at_its_load" && (*d.Difference != 0 || d.Verdict != training.DifferenceUnclear) {
			t.Errorf("a model differs from itself: %+v", d)
		}
	}
	o.From = x.Until + 400*vaglio.Day
	o.Until = o.From + vaglio.Day
	if _, err := training.Compare(t.Context(), poor, good, o); err == nil || !strings.Contains(err.Error(), "no requests") {
		t.Errorf("a period without requests: %v", err)
	}
}

func TestDriftIsTheStabilityIndexOfTenths(t *testing.T) {
	catalogue := parse(t, smallYAML)
	matrix := func(values ...float64) *training.Matrix {
		m := &training.Matrix{Catalogue: catalogue, Names: []string{"a"}, Categorical: []bool{false}, Rows: make([]training.Row, len(values)), X: values}
		return m
	}
	var before, now []float64
	for i := range 100 {
		before, now = append(before, float64(i)), append(now, float64(i%50))
	}
	drift, err := training.MeasureDrift(t.Context(), matrix(before...), matrix(now...))
	if err != nil {
		t.Fatal(err)
	}
	// By hand: ten bins of 10 become five of 20 and five of 0; half a request is added to each of the eleven bins, missing included.
	n := 105.5
	want := 5*(20.5-10.5)/n*math.Log(20.5/10.5) + 5*(0.5-10.5)/n*math.Log(0.5/10.5)
	if math.Abs(drift[0].PSI-want) > 1e-12 || *drift[0].MedianBefore != 50 || *drift[0].MedianNow != 25 {
		t.Errorf("drift %+v, want an index of %v", drift[0], want)
	}
	if _, err := training.MeasureDrift(t.Context(), matrix(), matrix(1)); err == nil {
		t.Error("drift from nothing was measured")
	}
}
