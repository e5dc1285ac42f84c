package models_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vaglio/models"
)

func TestPlattFindsTheSlopeAndInterceptThatMadeTheLabels(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 200_000
	logOdds, fraud := make([]float64, n), make([]bool, n)
	for i := range logOdds {
		logOdds[i] = 2*rng.NormFloat64() - 3
		fraud[i] = rng.Float64() < 1/(1+math.Exp(-(0.7*logOdds[i]-0.4)))
	}
	c, err := models.FitPlatt(logOdds, fraud, nil)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(c.Slope-0.7) > 0.02 || math.Abs(c.Intercept+0.4) > 0.04 {
		t.Errorf("slope %v, intercept %v instead of 0.7 and -0.4", c.Slope, c.Intercept)
	}
	// At the optimum the mean probability is the mean target: nearly the share of fraud.
	var mean, share float64
	for i := range logOdds {
		mean += c.Probability(logOdds[i]) / n
		if fraud[i] {
			share += 1.0 / n
		}
	}
	if math.Abs(mean-share) > 1e-4 {
		t.Errorf("mean probability %v, share of fraud %v", mean, share)
	}
	if len(c.Percentiles) != 1001 {
		t.Errorf("%d percentiles", len(c.Percentiles))
	}
	slices.Sort(logOdds)
	for _, q := range []float64{0, 0.25, 0.5, 0.9, 0.999} {
		if got := c.RiskScore(c.Probability(logOdds[int(q*(n-1))])); math.Abs(got-100*q) > 0.01 {
			t.Errorf("quantile %v has risk score %v", q, got)
		}
	}
}

func TestAWeightCountsAsSoManyRequests(t *testing.T) {
	logOdds := []float64{-2, -1, -1, 0, 1, 2, -0.5}
	fraud := []bool{false, false, false, true, false, true, true}
	weighted, err := models.FitPlatt(append(logOdds[:1:1], logOdds[2:]...), append(fraud[:1:1], fraud[2:]...), []float64{1, 2, 1, 1, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	repeated, err := models.FitPlatt(logOdds, fraud, nil)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(weighted.Slope-repeated.Slope) > 1e-7 || math.Abs(weighted.Intercept-repeated.Intercept) > 1e-7 {
		t.Errorf("weighted %v, repeated %v", weighted, repeated)
	}
}

func TestSeparableAndExtremeScoresStayFinite(t *testing.T) {
	c, err := models.FitPlatt([]float64{-1e6, -1e5, 1e5, 1e6}, []bool{false, false, true, true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Smoothed targets (n+1)/(n+2) keep even separable scores off 0 and 1.
	if low, high := c.Probability(-1e5), c.Probability(1e5); !(low > 0 && low < 0.5 && high > 0.5 && high < 1) {
		t.Errorf("probabilities %v and %v", low, high)
	}
}

func TestWhatCannotBeCalibratedIsRefused(t *testing.T) {
	refused := func(logOdds []float64, fraud []bool, weight []float64) {
		t.Helper()
		if c, err := models.FitPlatt(logOdds, fraud, weight); err == nil {
			t.Errorf("got %v", c)
		}
	}
	refused(nil, nil, nil)
	refused([]float64{1, 2}, []bool{true, true}, nil)
	refused([]float64{1, 2}, []bool{true}, nil)
	refused([]float64{1, math.NaN()}, []bool{false, true}, nil)
	refused([]float64{1, math.Inf(1)}, []bool{false, true}, nil)
	refused([]float64{1, 2}, []bool{false, true}, []float64{1, -1})
	refused([]float64{1, 2}, []bool{false, true}, []float64{1, 0})
	refused([]float64{2, 1}, []bool{false, true}, nil) // ranks the wrong way round
	refused([]float64{1, 1, 1}, []bool{false, true, false}, nil)
}

func TestTheRiskScoreIsTheShareBelowPlusHalfTheShareEqual(t *testing.T) {
	c := models.Calibration{Slope: 1, Percentiles: []float64{0.1, 0.2, 0.2, 0.2, 0.6}}
	for p, want := range map[float64]float64{0: 0, 0.1: 0, 0.15: 12.5, 0.2: 50, 0.4: 87.5, 0.6: 100, 0.9: 100} {
		if got := c.RiskScore(p); math.Abs(got-want) > 1e-12 {
			t.Errorf("probability %v has risk score %v instead of %v", p, got, want)
		}
	}
	if got := c.RiskScore(math.NaN()); got == got {
		t.Errorf("NaN has risk score %v", got)
	}
	last := -1.0
	for p := 0.0; p <= 1; p += 0.001 {
		if got := c.RiskScore(p); got < last {
			t.Fatalf("risk score falls to %v at %v", got, p)
		} else {
			last = got
		}
	}
}
