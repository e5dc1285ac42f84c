package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/integrate"
	"gonum.org/v1/gonum/stat"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
)

// Evaluation is how a model does on requests whose label is settled.
type Evaluation struct {
	From             vaglio.Instant `json:"from"`
	Until            vaglio.Instant `json:"until"`
	Rows             int            `json:"rows"`
	Frauds           int            `json:"frauds"`
	ROCAUC           float64        `json:"roc_auc"`           // chance that a fraud scores above an honest request
	AveragePrecision float64        `json:"average_precision"` // Σ (recall step) × precision, as scikit-learn defines it
	LogLoss          float64        `json:"log_loss"`          // mean, natural logarithm
	Brier            float64        `json:"brier"`             // mean squared error of the probability
	RecallAt1FPR     float64        `json:"recall_at_1pct_fpr"`
	Predictions      []Prediction   `json:"-"`
}

// Prediction is one request of an evaluation.
type Prediction struct {
	RequestID   string
	Probability float64
	Fraud       bool
}

// Evaluate scores the requests of a period with a bundle, as of their own moments, against the labels known at the cut.
func Evaluate(ctx context.Context, h *history.Store, b *models.Bundle, p Period, cut, maturity vaglio.Instant, progress func(Progress)) (Evaluation, error) {
	if err := p.check("evaluation"); err != nil {
		return Evaluation{}, err
	}
	o := Options{History: h, Catalogue: b.Catalogue(), Maturity: maturity, Progress: progress}
	o.fill()
	matrix, err := o.labelled(ctx, p, cut, &learner{of: o.Catalogue})
	if err != nil {
		return Evaluation{}, err
	}
	e, err := evaluate(b.Model, b.Calibration, matrix)
	e.From, e.Until = p.From, p.Until
	return e, err
}

func evaluate(model *models.Model, calibration *models.Calibration, m *Matrix) (Evaluation, error) {
	e := Evaluation{Rows: len(m.Rows), Frauds: m.positives(), Predictions: make([]Prediction, len(m.Rows))}
	if e.Frauds == 0 || e.Frauds == e.Rows {
		return e, fmt.Errorf("%d frauds among %d labelled requests: an evaluation needs both classes; choose a longer period", e.Frauds, e.Rows)
	}
	for i, row := range m.Rows {
		logOdds, err := model.LogOdds(m.vector(i))
		if err != nil {
			return e, fmt.Errorf("score request %s: %w", row.ID, err)
		}
		p := Prediction{row.ID, calibration.Probability(logOdds), row.Fraud}
		e.Predictions[i] = p
		truth := 0.0
		if p.Fraud {
			truth = 1
		}
		const tiny = 1e-15
		e.LogLoss -= math.Log(math.Max(tiny, math.Abs(1-truth-p.Probability))) / float64(e.Rows)
		e.Brier += (p.Probability - truth) * (p.Probability - truth) / float64(e.Rows)
	}
	ranks, err := Rank(e.Predictions)
	if err != nil {
		return e, err
	}
	e.ROCAUC, e.AveragePrecision, e.RecallAt1FPR = ranks.ROCAUC, ranks.AveragePrecision, ranks.RecallAt(0.01)
	return e, nil
}

func (e *Evaluation) metrics() map[string]float64 {
	return map[string]float64{"roc_auc": e.ROCAUC, "average_precision": e.AveragePrecision, "log_loss": e.LogLoss, "brier": e.Brier,
		"recall_at_1pct_fpr": e.RecallAt1FPR}
}

// Ranking is what the order of predictions alone tells.
type Ranking struct {
	ROCAUC, AveragePrecision float64
	falsePositive, recall    []float64 // rates, ascending
}

// Rank orders predictions by probability and measures the order; ties count as one step. It needs both classes and
// probabilities that are numbers.
func Rank(predictions []Prediction) (Ranking, error) {
	sorted := slices.Clone(predictions)
	slices.SortFunc(sorted, func(a, b Prediction) int { return cmp.Compare(a.Probability, b.Probability) })
	probabilities, frauds := make([]float64, len(sorted)), make([]bool, len(sorted))
	n := 0.0
	for i, p := range sorted {
		if math.IsNaN(p.Probability) {
			return Ranking{}, fmt.Errorf("request %s has no probability", p.RequestID)
		}
		probabilities[i], frauds[i] = p.Probability, p.Fraud
		if p.Fraud {
			n++
		}
	}
	if n == 0 || int(n) == len(sorted) {
		return Ranking{}, errors.New("rank: both classes are needed")
	}
	var r Ranking
	r.recall, r.falsePositive, _ = stat.ROC(nil, probabilities, frauds, nil)
	r.ROCAUC = integrate.Trapezoidal(r.falsePositive, r.recall)
	honest := float64(len(sorted)) - n
	for i := 1; i < len(r.recall); i++ {
		hits := r.recall[i] * n
		r.AveragePrecision += (r.recall[i] - r.recall[i-1]) * hits / (hits + r.falsePositive[i]*honest)
	}
	return r, nil
}

// RecallAt is the largest share of frauds found at no more than this rate of false positives.
func (r *Ranking) RecallAt(falsePositiveRate float64) float64 {
	best := 0.0
	for i, rate := range r.falsePositive {
		if rate <= falsePositiveRate {
			best = r.recall[i]
		}
	}
	return best
}
