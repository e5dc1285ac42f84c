package training_test

import (
	"math"
	"strings"
	"testing"

	"vaglio/training"
)

// The expected numbers are scikit-learn 1.9.1's: roc_auc_score, average_precision_score, and from roc_curve without
// dropped points the largest recall up to a rate of false positives.
func TestRankingsAreThoseOfScikitLearn(t *testing.T) {
	check := func(probabilities []float64, frauds []int, auc, averagePrecision float64, recallAt map[float64]float64) {
		t.Helper()
		predictions := make([]training.Prediction, len(probabilities))
		for i, p := range probabilities {
			predictions[i] = training.Prediction{Probability: p, Fraud: frauds[i] == 1}
		}
		r, err := training.Rank(predictions)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(r.ROCAUC-auc) > 1e-12 || math.Abs(r.AveragePrecision-averagePrecision) > 1e-12 {
			t.Errorf("AUC %v, average precision %v, want %v and %v", r.ROCAUC, r.AveragePrecision, auc, averagePrecision)
		}
		for rate, want := range recallAt {
			if got := r.RecallAt(rate); math.Abs(got-want) > 1e-12 {
				t.Errorf("recall at %v false positives: %v, want %v", rate, got, want)
			}
		}
	}
	check([]float64{0.1, 0.4, 0.35, 0.8}, []int{0, 0, 1, 1}, 0.75, 0.8333333333333333, map[float64]float64{0: 0.5, 0.25: 0.5, 0.5: 1, 1: 1})
	check([]float64{0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.7, 0.7, 0.9, 0.9, 0.95, 0.3}, []int{0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0},
		0.7285714285714285, 0.6585281385281385, map[float64]float64{0: 0.2, 0.01: 0.2, 0.25: 0.4, 0.5: 0.8, 1: 1}) // ties
	check([]float64{0.3, 0.3, 0.3, 0.3, 0.3}, []int{1, 0, 0, 1, 0}, 0.5, 0.4, map[float64]float64{0: 0, 0.5: 0, 1: 1}) // nothing but ties
	check([]float64{0.9, 0.8, 0.2, 0.1}, []int{0, 0, 1, 1}, 0, 0.41666666666666663, map[float64]float64{0.5: 0, 1: 1}) // wrong way round
	check([]float64{0.9, 0.8, 0.2, 0.1}, []int{1, 1, 0, 0}, 1, 1, map[float64]float64{0: 1})
	var distinct, tied []float64
	var frauds []int
	for i := range 101 {
		distinct, tied = append(distinct, float64(i*37%101)/101), append(tied, float64(i*37%101/10)/11+0.02)
		fraud := 0
		if i*i%7 < 2 {
			fraud = 1
		}
		frauds = append(frauds, fraud)
	}
	check(distinct, frauds, 0.47408293460925044, 0.4264154525320562, map[float64]float64{0.01: 0, 0.25: 0.25, 0.5: 0.4772727272727273})
	check(tied, frauds, 0.4752791068580543, 0.4292992397777881, map[float64]float64{0.01: 0, 0.25: 0.18181818181818182, 0.5: 0.36363636363636365})
}

func TestARankingNeedsNumbersAndBothClasses(t *testing.T) {
	refused := func(want string, predictions ...training.Prediction) {
		t.Helper()
		if _, err := training.Rank(predictions); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want it to say %q", predictions, err, want)
		}
	}
	refused("both classes")
	refused("both classes", training.Prediction{Probability: 0.1}, training.Prediction{Probability: 0.2})
	refused("both classes", training.Prediction{Probability: 0.1, Fraud: true})
	refused("r7", training.Prediction{RequestID: "r7", Probability: math.NaN()}, training.Prediction{Fraud: true})
}
