package training_test

import (
	"math"
	"slices"
	"testing"

	"vaglio/training"
)

func TestAnEvaluationTellsWhereItsLabelsComeFrom(t *testing.T) {
	row := func(id string, source training.LabelSource, fraud bool, weight float64, amountMinor int64) training.Row {
		return training.Row{ID: id, Customer: id, Traits: &training.Traits{}, Source: source, Fraud: fraud, Weight: weight, Propensity: 0.5,
			BaseAmount: amountMinor, BaseKnown: amountMinor > 0}
	}
	rows := []training.Row{
		row("a", training.FromChargeback, true, 1, 100),
		row("b", training.FromReview, true, 0.5, 200), row("c", training.FromReview, true, 0.25, 0),
		row("d", training.FromReview, false, 0.8, 1000), row("e", training.FromSilence, false, 1, 10), row("f", training.FromSilence, false, 1, 20),
	}
	e, err := training.Measure(t.Context(), rows, []float64{0.9, 0.8, 0.7, 0.3, 0.2, 0.1}, training.MeasureOptions{Resamples: -1})
	if err != nil {
		t.Fatal(err)
	}
	want := []training.LabelCount{
		{Source: "review", Label: "fraud", Requests: 2, Share: 1.0 / 3, Weight: 0.375, Amount: 200},
		{Source: "chargeback", Label: "fraud", Requests: 1, Share: 1.0 / 6, Weight: 1, Amount: 100},
		{Source: "silence", Label: "clean", Requests: 2, Share: 1.0 / 3, Weight: 1, Amount: 30},
		{Source: "review", Label: "clean", Requests: 1, Share: 1.0 / 6, Weight: 0.8, Amount: 1000},
	}
	same := func(a, b training.LabelCount) bool {
		near := math.Abs(a.Share-b.Share) < 1e-12
		a.Share = b.Share
		return near && a == b
	}
	if !slices.EqualFunc(e.Labels, want, same) {
		t.Errorf("got %+v\nwant %+v", e.Labels, want)
	}
}
