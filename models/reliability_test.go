package models_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vaglio/models"
)

// drawn are scores with labels whose probability is a function of the score.
func drawn(n int, seed uint64, probability func(float64) float64) ([]float64, []bool) {
	random := rand.New(rand.NewPCG(seed, 1))
	logOdds, fraud := make([]float64, n), make([]bool, n)
	for i := range logOdds {
		logOdds[i] = 2*random.NormFloat64() - 3
		fraud[i] = random.Float64() < probability(logOdds[i])
	}
	return logOdds, fraud
}

func TestTheMethodOfCalibrationIsChosenByLogLossOnUnseenRequests(t *testing.T) {
	chosen := func(want string, probability func(float64) float64) {
		t.Helper()
		logOdds, fraud := drawn(20_000, 2, probability)
		c, r, err := models.FitCalibration(logOdds, fraud, nil)
		if err != nil {
			t.Fatal(err)
		}
		platt, isotonic := r.LogLoss[models.MethodPlatt], r.LogLoss[models.MethodIsotonic]
		if c.Method != want || (platt <= isotonic) != (want == models.MethodPlatt) {
			t.Errorf("%s was chosen, want %s; log loss %v", c.Method, want, r.LogLoss)
		}
		if len(r.Curve) != 20 || !(r.ExpectedError < 0.01) {
			t.Errorf("%d bins, expected calibration error %v", len(r.Curve), r.ExpectedError)
		}
		for _, x := range []float64{-5, -3, -1} {
			if got, want := c.Probability(x), probability(x); math.Abs(got-want) > 0.02 {
				t.Errorf("probability at %v: %v, want about %v", x, got, want)
			}
		}
	}
	chosen(models.MethodPlatt, func(x float64) float64 { return 1 / (1 + math.Exp(-0.7*x+0.4)) })
	chosen(models.MethodIsotonic, func(x float64) float64 { return 0.02 + 0.4/(1+math.Exp(-8*(x+2))) })
}

func TestFewFraudsAreCalibratedByPlatt(t *testing.T) {
	logOdds, fraud := drawn(2000, 3, func(float64) float64 { return 0 })
	for i := range 9 {
		fraud[i], logOdds[i] = true, 2
	}
	c, r, err := models.FitCalibration(logOdds, fraud, nil)
	if err != nil || c.Method != models.MethodPlatt || len(r.LogLoss) != 1 {
		t.Errorf("%s, %v, %v", c.Method, r.LogLoss, err)
	}
}

func TestIsotonicKnotsAreTheMaxMinOfMeans(t *testing.T) {
	// The definition: the fit at a score is the largest, over starts below it, of the smallest mean up to an end above it.
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(4, 40).Draw(t, "n")
		logOdds, fraud, weight := make([]float64, n), make([]bool, n), make([]float64, n)
		for i := range n {
			logOdds[i], fraud[i] = float64(i), rapid.Bool().Draw(t, "fraud")
			weight[i] = float64(rapid.IntRange(1, 4).Draw(t, "weight"))
		}
		c, err := models.FitIsotonic(logOdds, fraud, weight)
		if err != nil {
			return // one class, or falling all along
		}
		mean := func(a, b int) float64 {
			sum, total := 0.0, 0.0
			for i := a; i <= b; i++ {
				if total += weight[i]; fraud[i] {
					sum += weight[i]
				}
			}
			return sum / total
		}
		fit := make([]float64, n)
		positive, negative := 0.0, 0.0
		for i := range n {
			best := math.Inf(-1)
			for a := 0; a <= i; a++ {
				worst := math.Inf(1)
				for b := i; b < n; b++ {
					worst = min(worst, mean(a, b))
				}
				best = max(best, worst)
			}
			fit[i] = best
			if fraud[i] {
				positive += weight[i]
			} else {
				negative += weight[i]
			}
		}
		for _, k := range c.Knots {
			nearest := fit[int(math.Round(k.LogOdds))]
			if want := min(max(nearest, 1/(negative+2)), (positive+1)/(positive+2)); math.Abs(k.Probability-want) > 1e-9 {
				t.Fatalf("knot %v of %v: want %v", k, c.Knots, want)
			}
		}
	})
}

func TestAHigherScoreIsNeverALowerProbabilityOrRisk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(20, 200).Draw(t, "n")
		logOdds, fraud := make([]float64, n), make([]bool, n)
		for i := range n {
			logOdds[i] = rapid.Float64Range(-30, 30).Draw(t, "score")
			fraud[i] = rapid.Float64Range(-40, 40).Draw(t, "noise") < logOdds[i]
		}
		for _, fit := range []func([]float64, []bool, []float64) (models.Calibration, error){models.FitPlatt, models.FitIsotonic} {
			c, err := fit(logOdds, fraud, nil)
			if err != nil {
				continue
			}
			xs := append(slices.Clone(logOdds), math.Inf(-1), math.Inf(1), -1e300, 1e300)
			for range 50 {
				x := rapid.Float64Range(-40, 40).Draw(t, "x")
				xs = append(xs, x, math.Nextafter(x, 100))
			}
			slices.Sort(xs)
			lastP, lastR := 0.0, 0.0
			rounding := 0.0
			if c.Method == models.MethodPlatt {
				rounding = 1e-15 // math.Exp is monotone only up to its last bit
			}
			for _, x := range xs {
				p := c.Probability(x)
				r := c.RiskScore(p)
				if !(p >= lastP-rounding && p <= 1 && r >= lastR-1e5*rounding && r <= 100) {
					t.Fatalf("%s at %v: probability %v after %v, risk %v after %v", c.Method, x, p, lastP, r, lastR)
				}
				lastP, lastR = p, r
			}
		}
	})
}

func TestTheExpectedCalibrationErrorIsTheMeanDistanceOverBins(t *testing.T) {
	var p []float64
	var fraud []bool
	for i := range 100 { // ten bins' worth of 0.2 with no fraud, ten of 0.8 with half
		p, fraud = append(p, 0.2, 0.8), append(fraud, false, i%2 == 0)
	}
	curve, expected := models.ReliabilityCurve(p, fraud, nil)
	if len(curve) != 2 || math.Abs(expected-(0.5*0.2+0.5*0.3)) > 1e-12 {
		t.Errorf("curve %v, expected calibration error %v", curve, expected)
	}
}

func TestABundleKeepsAnIsotonicCalibration(t *testing.T) {
	c := contents(t, "small", "v1")
	logOdds, fraud := drawn(5000, 4, func(x float64) float64 { return 0.02 + 0.4/(1+math.Exp(-8*(x+2))) })
	var err error
	if c.Calibration, c.Manifest.Reliability, err = models.FitCalibration(logOdds, fraud, nil); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "v1")
	if err := models.Write(dir, c); err != nil {
		t.Fatal(err)
	}
	b, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []float64{-9, -2.1, 0, 3} {
		if b.Probability(x) != c.Calibration.Probability(x) {
			t.Errorf("the probability at %v changed", x)
		}
	}
	if b.Manifest().Reliability.ExpectedError != c.Manifest.Reliability.ExpectedError {
		t.Errorf("reliability %+v", b.Manifest().Reliability)
	}
	for _, spoil := range []func(*models.Calibration){
		func(c *models.Calibration) { c.Method = "guess" },
		func(c *models.Calibration) { c.Knots = c.Knots[:1] },
		func(c *models.Calibration) { c.Knots[0].LogOdds = 1e9 },
		func(c *models.Calibration) { c.Knots[1].Probability = 2 },
	} {
		bad := c
		bad.Calibration.Knots = slices.Clone(c.Calibration.Knots)
		spoil(&bad.Calibration)
		if err := models.Write(filepath.Join(t.TempDir(), "v1"), bad); err == nil {
			t.Errorf("written: %+v", bad.Calibration.Method)
		}
	}
}
