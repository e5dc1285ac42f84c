package models

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Reliability is how good calibrated probabilities were on requests that had no part in fitting them.
type Reliability struct {
	// LogLoss by method: the mean over all requests of calibration, each judged by a fit on the other folds.
	LogLoss map[string]float64 `json:"log_loss"`
	Curve   []CurveBin         `json:"curve"`
	// ExpectedError is the expected calibration error: the mean distance of probability and share of fraud over the bins,
	// each by its weight.
	ExpectedError float64 `json:"expected_calibration_error"`
}

// CurveBin are requests of neighbouring probability.
type CurveBin struct {
	Weight      float64 `json:"weight"` // the number of requests, unless they are weighted
	Probability float64 `json:"probability"`
	Fraud       float64 `json:"fraud"` // share
}

// maxBins bounds a calibration curve. Bins hold equally many requests, not equal spans of probability: where fraud is rare,
// nearly all requests would be in the first of those.
const maxBins = 20

// ReliabilityCurve sorts requests into bins of equal count by their probability, ties together, and returns the expected
// calibration error over them. weight may be nil.
func ReliabilityCurve(probability []float64, fraud []bool, weight []float64) ([]CurveBin, float64) {
	order := byScore(probability)
	var curve []CurveBin
	var sum CurveBin
	total, expected := 0.0, 0.0
	target := float64(len(order)) / maxBins
	for k, i := range order {
		w := weightOf(weight, i)
		sum.Weight += w
		sum.Probability += w * probability[i]
		if fraud[i] {
			sum.Fraud += w
		}
		last := k == len(order)-1
		full := float64(k+1) >= target*float64(len(curve)+1)
		if !last && (!full || probability[order[k+1]] == probability[i]) || sum.Weight == 0 {
			continue
		}
		total += sum.Weight
		expected += math.Abs(sum.Probability - sum.Fraud)
		curve = append(curve, CurveBin{sum.Weight, sum.Probability / sum.Weight, sum.Fraud / sum.Weight})
		sum = CurveBin{}
	}
	return curve, expected / total
}

func byScore(score []float64) []int {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(score[a], score[b]) })
	return order
}

func weightOf(weight []float64, i int) float64 {
	if weight == nil {
		return 1
	}
	return weight[i]
}

// folds of the cross-fitting by which a method is chosen.
const folds = 5

// FitCalibration fits by Platt's method and by isotonic regression and keeps the one with the lower log loss on requests
// that its fit has not seen, by cross-fitting in 5 folds of the same share of fraud each; ties, and fewer than 10 requests
// of either class, are Platt's. What is kept is fitted on all requests; the reliability is that of the folds. Errors are
// those of [FitPlatt].
func FitCalibration(logOdds []float64, fraud []bool, weight []float64) (Calibration, Reliability, error) {
	platt, err := FitPlatt(logOdds, fraud, weight)
	if err != nil {
		return Calibration{}, Reliability{}, err
	}
	of, fewest := foldOf(fraud)
	if fewest < 2*folds {
		r := Reliability{LogLoss: map[string]float64{}}
		p := platt.probabilities(logOdds)
		r.Curve, r.ExpectedError = ReliabilityCurve(p, fraud, weight)
		r.LogLoss[MethodPlatt] = logLoss(p, fraud, weight)
		return platt, r, nil
	}
	best, reliability := "", Reliability{LogLoss: map[string]float64{}}
	methods := map[string]func([]float64, []bool, []float64) (Calibration, error){MethodPlatt: FitPlatt, MethodIsotonic: FitIsotonic}
	for _, method := range []string{MethodPlatt, MethodIsotonic} {
		p, err := crossFitted(methods[method], of, logOdds, fraud, weight)
		if errors.Is(err, errFalls) { // on a part of the requests the score may not rise with fraud
			continue
		}
		if err != nil {
			return Calibration{}, Reliability{}, err
		}
		loss := logLoss(p, fraud, weight)
		reliability.LogLoss[method] = loss
		if best == "" || loss < reliability.LogLoss[best] {
			best = method
			reliability.Curve, reliability.ExpectedError = ReliabilityCurve(p, fraud, weight)
		}
	}
	if best == "" || best == MethodPlatt {
		return platt, reliability, nil
	}
	isotonic, err := FitIsotonic(logOdds, fraud, weight)
	return isotonic, reliability, err
}

// foldOf deals the requests of each class out by turns, and counts those of the rarer class.
func foldOf(fraud []bool) (of []int, fewest int) {
	of = make([]int, len(fraud))
	seen := map[bool]int{}
	for i, f := range fraud {
		of[i] = seen[f] % folds
		seen[f]++
	}
	return of, min(seen[true], seen[false])
}

// crossFitted are the probabilities of each request by a fit on the other folds.
func crossFitted(fit func([]float64, []bool, []float64) (Calibration, error), of []int, logOdds []float64, fraud []bool, weight []float64) ([]float64, error) {
	p := make([]float64, len(logOdds))
	for fold := range folds {
		var x, w []float64
		var y []bool
		for i := range logOdds {
			if of[i] != fold {
				x, y, w = append(x, logOdds[i]), append(y, fraud[i]), append(w, weightOf(weight, i))
			}
		}
		c, err := fit(x, y, w)
		if err != nil {
			return nil, fmt.Errorf("without fold %d: %w", fold, err)
		}
		for i := range logOdds {
			if of[i] == fold {
				p[i] = c.Probability(logOdds[i])
			}
		}
	}
	return p, nil
}

func logLoss(probability []float64, fraud []bool, weight []float64) float64 {
	sum, total := 0.0, 0.0
	for i, p := range probability {
		if !fraud[i] {
			p = 1 - p
		}
		const tiny = 1e-15
		sum -= weightOf(weight, i) * math.Log(math.Max(p, tiny))
		total += weightOf(weight, i)
	}
	return sum / total
}

// FitIsotonic fits the probability that never falls in the log-odds by pooling adjacent violators (Ayer and others, "An
// empirical distribution function for sampling with incomplete information", 1955; for calibration, Zadrozny and Elkan,
// 2002), with a line between the pools' centres instead of steps (centred isotonic regression, Oron and Flournoy, 2017), so
// that scores within a pool keep their order. Pools' shares are kept off 0 and 1 by Platt's targets. Errors as [FitPlatt].
func FitIsotonic(logOdds []float64, fraud []bool, weight []float64) (Calibration, error) {
	positive, negative, err := classes(logOdds, fraud, weight)
	if err != nil {
		return Calibration{}, err
	}
	type pool struct{ weight, score, fraud float64 }
	var pools []pool
	higher := func(a, b pool) bool { return a.fraud/a.weight >= b.fraud/b.weight }
	order := byScore(logOdds)
	for k := 0; k < len(order); {
		var p pool
		at := logOdds[order[k]]
		for ; k < len(order) && logOdds[order[k]] == at; k++ { // equal scores are one observation
			w := weightOf(weight, order[k])
			p.weight += w
			p.score += w * at
			if fraud[order[k]] {
				p.fraud += w
			}
		}
		if p.weight == 0 {
			continue
		}
		for n := len(pools); n > 0 && higher(pools[n-1], p); n-- {
			p.weight, p.score, p.fraud = p.weight+pools[n-1].weight, p.score+pools[n-1].score, p.fraud+pools[n-1].fraud
			pools = pools[:n-1]
		}
		pools = append(pools, p)
	}
	high, low := (positive+1)/(positive+2), 1/(negative+2)
	c := Calibration{Method: MethodIsotonic}
	for _, p := range pools {
		knot := Knot{p.score / p.weight, min(max(p.fraud/p.weight, low), high)}
		if n := len(c.Knots); n > 0 && (c.Knots[n-1].LogOdds >= knot.LogOdds || c.Knots[n-1].Probability > knot.Probability) {
			continue // rounding
		}
		c.Knots = append(c.Knots, knot)
	}
	if len(c.Knots) < 2 {
		return Calibration{}, fmt.Errorf("calibrate: isotonic regression: %w", errFalls)
	}
	c.Knots = thinned(c.Knots)
	c.setPercentiles(logOdds)
	return c, nil
}

// thinned keeps at most maxKnots, evenly, with both ends.
func thinned(knots []Knot) []Knot {
	if len(knots) <= maxKnots {
		return knots
	}
	kept := make([]Knot, maxKnots)
	for i := range kept {
		kept[i] = knots[i*(len(knots)-1)/(maxKnots-1)]
	}
	return kept
}
