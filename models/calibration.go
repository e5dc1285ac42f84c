package models

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// maxKnots bounds the percentiles and the knots that a calibration keeps.
const maxKnots = 1001

// The methods of calibration.
const (
	MethodPlatt    = "platt"
	MethodIsotonic = "isotonic"
)

// Calibration turns a model's log-odds into a probability, and a probability into a percentile. A higher score is never a
// lower probability.
type Calibration struct {
	Method    string  `json:"method,omitempty"` // "" is platt
	Slope     float64 `json:"slope,omitzero"`   // of platt, above 0
	Intercept float64 `json:"intercept,omitzero"`
	Knots     []Knot  `json:"knots,omitempty"` // of isotonic: lines between them, constant outside
	// Percentiles are quantiles of the calibrated probability among the requests of calibration, at evenly spaced ranks
	// from the lowest to the highest.
	Percentiles []float64 `json:"percentiles"`
}

// Knot is a point of an isotonic calibration.
type Knot struct {
	LogOdds     float64 `json:"log_odds"`
	Probability float64 `json:"probability"`
}

// errFalls is wrapped by the refusal of scores that do not rise with fraud.
var errFalls = errors.New("the score does not rise with fraud")

// FitPlatt fits probability = 1/(1+exp(−slope·logOdds−intercept)) by the method of Lin, Lin and Weng, "A note on Platt's
// probabilistic outputs for support vector machines" (Machine Learning 68, 2007): Newton's method with backtracking on
// smoothed targets. weight may be nil. The percentiles count every request once. Fewer than one request of each class, a
// value that is not finite, and a score that does not rise with fraud are errors.
func FitPlatt(logOdds []float64, fraud []bool, weight []float64) (Calibration, error) {
	positive, negative, err := classes(logOdds, fraud, weight)
	if err != nil {
		return Calibration{}, err
	}
	high, low := (positive+1)/(positive+2), 1/(negative+2)
	target := func(i int) float64 {
		if fraud[i] {
			return high
		}
		return low
	}
	// The paper's A and B are −slope and −intercept; its objective in the form that can't overflow.
	loss := func(slope, intercept float64) (sum float64) {
		for i, f := range logOdds {
			z := slope*f + intercept
			sum += weightOf(weight, i) * (max(z, 0) - z*target(i) + math.Log1p(math.Exp(-math.Abs(z))))
		}
		return sum
	}
	slope, intercept := 0.0, math.Log((positive+1)/(negative+1))
	current := loss(slope, intercept)
	const ridge, smallestStep = 1e-12, 1e-10
	tolerance := 1e-10 * (positive + negative)
	for range 100 {
		h11, h22, h21, g1, g2 := ridge, ridge, 0.0, 0.0, 0.0
		for i, f := range logOdds {
			p := sigmoid(slope*f + intercept)
			d2 := weightOf(weight, i) * p * (1 - p)
			h11 += f * f * d2
			h22 += d2
			h21 += f * d2
			d1 := weightOf(weight, i) * (p - target(i))
			g1 += f * d1
			g2 += d1
		}
		if math.Abs(g1) < tolerance && math.Abs(g2) < tolerance {
			break
		}
		determinant := h11*h22 - h21*h21
		dSlope, dIntercept := -(h22*g1-h21*g2)/determinant, -(-h21*g1+h11*g2)/determinant
		descent := g1*dSlope + g2*dIntercept
		step := 1.0
		for ; step >= smallestStep; step /= 2 {
			if next := loss(slope+step*dSlope, intercept+step*dIntercept); next < current+1e-4*step*descent {
				slope, intercept, current = slope+step*dSlope, intercept+step*dIntercept, next
				break
			}
		}
		if step < smallestStep {
			break
		}
	}
	c := Calibration{Method: MethodPlatt, Slope: slope, Intercept: intercept}
	if !(slope > 0) || !isFinite(slope) || !isFinite(intercept) {
		return Calibration{}, fmt.Errorf("calibrate: slope %v: %w", slope, errFalls)
	}
	c.setPercentiles(logOdds)
	return c, nil
}

// classes checks what is to be calibrated on and weighs the classes.
func classes(logOdds []float64, fraud []bool, weight []float64) (positive, negative float64, err error) {
	if len(logOdds) != len(fraud) || weight != nil && len(weight) != len(fraud) {
		return 0, 0, fmt.Errorf("calibrate: %d scores, %d labels, %d weights", len(logOdds), len(fraud), len(weight))
	}
	for i, f := range logOdds {
		w := weightOf(weight, i)
		if !isFinite(f) || !(w >= 0) || math.IsInf(w, 1) {
			return 0, 0, fmt.Errorf("calibrate: row %d: score %v, weight %v", i, f, w)
		}
		if fraud[i] {
			positive += w
		} else {
			negative += w
		}
	}
	if positive == 0 || negative == 0 {
		return 0, 0, errors.New("calibrate: the requests hold only one class")
	}
	return positive, negative, nil
}

func (c *Calibration) probabilities(logOdds []float64) []float64 {
	p := make([]float64, len(logOdds))
	for i, f := range logOdds {
		p[i] = c.Probability(f)
	}
	return p
}

// setPercentiles keeps the quantiles of the probabilities of these scores.
func (c *Calibration) setPercentiles(logOdds []float64) {
	probabilities := c.probabilities(logOdds)
	slices.Sort(probabilities)
	c.Percentiles = make([]float64, min(len(probabilities), maxKnots))
	for k := range c.Percentiles {
		rank := float64(k) * float64(len(probabilities)-1) / float64(max(1, len(c.Percentiles)-1))
		c.Percentiles[k] = probabilities[int(math.Round(rank))]
	}
}

// Probability is the calibrated probability of fraud, 0 to 1, not falling in logOdds; NaN for NaN.
func (c *Calibration) Probability(logOdds float64) float64 {
	if c.Method != MethodIsotonic {
		return sigmoid(c.Slope*logOdds + c.Intercept)
	}
	above, found := slices.BinarySearchFunc(c.Knots, logOdds, func(k Knot, x float64) int { return cmp.Compare(k.LogOdds, x) })
	switch {
	case math.IsNaN(logOdds):
		return math.NaN()
	case found:
		return c.Knots[above].Probability
	case above == 0:
		return c.Knots[0].Probability
	case above == len(c.Knots):
		return c.Knots[above-1].Probability
	}
	// Each operation keeps the order of its operand, rounding included, and min the order at the upper knot.
	low, high := c.Knots[above-1], c.Knots[above]
	return min(high.Probability, low.Probability+(logOdds-low.LogOdds)/(high.LogOdds-low.LogOdds)*(high.Probability-low.Probability))
}

// RiskScore is the percentile of a probability, 0 to 100, among the requests of calibration: the share below it plus
// half the share equal to it. Between two knots of Percentiles it is interpolated linearly; it never falls as the
// probability rises. NaN for NaN.
func (c *Calibration) RiskScore(probability float64) float64 {
	knots := c.Percentiles
	if math.IsNaN(probability) || len(knots) < 2 {
		return math.NaN()
	}
	below, found := slices.BinarySearch(knots, probability)
	var rank float64
	switch {
	case found:
		upTo := below + 1
		for upTo < len(knots) && knots[upTo] == probability {
			upTo++
		}
		rank = float64(below+upTo-1) / 2
	case below == 0:
		rank = 0
	case below == len(knots):
		rank = float64(len(knots) - 1)
	default:
		rank = float64(below-1) + (probability-knots[below-1])/(knots[below]-knots[below-1])
	}
	return 100 * rank / float64(len(knots)-1)
}

func (c *Calibration) validate() error {
	switch c.Method {
	case MethodIsotonic:
		if err := checkKnots(c.Knots); err != nil {
			return err
		}
	case MethodPlatt, "":
		if !(c.Slope > 0) || !isFinite(c.Slope) || !isFinite(c.Intercept) {
			return fmt.Errorf("slope %v, intercept %v: want finite numbers and a slope above 0", c.Slope, c.Intercept)
		}
	default:
		return fmt.Errorf("method %q: want %s or %s", c.Method, MethodPlatt, MethodIsotonic)
	}
	if len(c.Percentiles) < 2 || len(c.Percentiles) > maxKnots {
		return fmt.Errorf("%d percentiles: want 2 to %d", len(c.Percentiles), maxKnots)
	}
	for i, p := range c.Percentiles {
		if !(p >= 0 && p <= 1) || i > 0 && p < c.Percentiles[i-1] {
			return fmt.Errorf("percentile %d, %v, is no probability or below the one before", i, p)
		}
	}
	return nil
}

func checkKnots(knots []Knot) error {
	if len(knots) < 2 || len(knots) > maxKnots {
		return fmt.Errorf("%d knots: want 2 to %d", len(knots), maxKnots)
	}
	for i, k := range knots {
		if !isFinite(k.LogOdds) || !(k.Probability >= 0 && k.Probability <= 1) ||
			i > 0 && !(k.LogOdds > knots[i-1].LogOdds && k.Probability >= knots[i-1].Probability) {
			return fmt.Errorf("knot %d, %v, is no probability or not above the one before", i, k)
		}
	}
	return nil
}

func sigmoid(z float64) float64 {
	if z >= 0 {
		return 1 / (1 + math.Exp(-z))
	}
	e := math.Exp(z)
	return e / (1 + e)
}
