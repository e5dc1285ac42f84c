package training_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
)

// rowsOf are labelled requests, each of a customer of its own.
func rowsOf(frauds ...int) []training.Row {
	rows := make([]training.Row, len(frauds))
	for i, fraud := range frauds {
		rows[i] = training.Row{ID: fmt.Sprint("r", i), At: t0, Customer: fmt.Sprint("c", i), Traits: &training.Traits{}, Weight: 1, Propensity: 1, Fraud: fraud == 1}
	}
	return rows
}

func measured(t *testing.T, rows []training.Row, probability []float64, o training.MeasureOptions) training.Evaluation {
	t.Helper()
	e, err := training.Measure(t.Context(), rows, probability, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(e); err != nil {
		t.Fatalf("the evaluation is no JSON: %v", err)
	}
	return e
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12) {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// The numbers are the examples in scikit-learn's documentation (1.7) of roc_auc_score, average_precision_score, log_loss and
// brier_score_loss, with the digits that it prints.
func TestMetricsAreThoseOfScikitLearnsDocumentation(t *testing.T) {
	e := measured(t, rowsOf(0, 0, 1, 1), []float64{0.1, 0.4, 0.35, 0.8}, training.MeasureOptions{})
	if math.Round(e.ROCAUC*100)/100 != 0.75 || math.Round(e.AveragePrecision*100)/100 != 0.83 {
		t.Errorf("AUC %v, average precision %v; documented 0.75 and 0.83", e.ROCAUC, e.AveragePrecision)
	}
	e = measured(t, rowsOf(1, 0, 0, 1), []float64{0.9, 0.1, 0.2, 0.65}, training.MeasureOptions{})
	if math.Round(e.LogLoss*1e5)/1e5 != 0.21616 {
		t.Errorf("log loss %v, documented 0.21616", e.LogLoss)
	}
	e = measured(t, rowsOf(0, 1, 1, 0), []float64{0.1, 0.9, 0.8, 0.3}, training.MeasureOptions{})
	near(t, "Brier", e.Brier, 0.0375)
}

// Every metric by its definition, in the slowest way, on random rows with ties and weights.
func TestMetricsAreTheirDefinitions(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		n := 20 + random.IntN(60)
		rows, p := make([]training.Row, n), make([]float64, n)
		for i := range rows {
			rows[i] = training.Row{ID: fmt.Sprint("r", i), At: t0 + vaglio.Instant(random.IntN(72))*vaglio.Hour, Customer: fmt.Sprint("c", random.IntN(12)),
				Traits: &training.Traits{}, BaseAmount: int64(random.IntN(5000)), BaseKnown: random.IntN(9) > 0, Weight: []float64{0, 0.5, 0.8, 1}[random.IntN(4)],
				Propensity: 1, Fraud: random.IntN(3) == 0}
			p[i] = float64(random.IntN(8)) / 8
		}
		rows[0].Fraud, rows[0].Weight, rows[1].Fraud, rows[1].Weight = true, 1, false, 1
		e := measured(t, rows, p, training.MeasureOptions{TopK: []int{1, 7, 13, 1000}, DailyK: 3, Resamples: -1,
			Thresholds: models.Thresholds{ApproveBelow: 0.3, DenyFrom: 0.8}})
		near(t, "AUC", e.ROCAUC, pairwiseAUC(rows, p))
		near(t, "average precision", e.AveragePrecision, stepwisePrecision(rows, p))
		for rate, got := range map[float64]float64{0.001: e.RecallAt01FPR, 0.005: e.RecallAt05FPR, 0.01: e.RecallAt1FPR, 0.05: e.RecallAt5FPR} {
			near(t, fmt.Sprint("recall at ", rate), got, recallByThresholds(rows, p, rate))
		}
		logLoss, brier, total := 0.0, 0.0, 0.0
		for i, row := range rows {
			q := p[i]
			if !row.Fraud {
				q = 1 - q
			}
			logLoss -= row.Weight * math.Log(max(1e-15, q))
			brier += row.Weight * (1 - q) * (1 - q)
			total += row.Weight
		}
		near(t, "log loss", e.LogLoss, logLoss/total)
		near(t, "Brier", e.Brier, brier/total)
		for _, at := range e.PrecisionAt {
			if at.K == 1000 {
				if at.Precision != nil {
					t.Errorf("the precision of the first 1000 of %d requests is %v", n, *at.Precision)
				}
				continue
			}
			if want := precisionByLot(rows, p, at.K); at.Precision == nil && !math.IsNaN(want) {
				t.Errorf("no precision of the first %d, want %v", at.K, want)
			} else if at.Precision != nil {
				near(t, fmt.Sprint("precision of the first ", at.K), *at.Precision, want)
			}
		}
		held := map[bool]int64{}
		for i, row := range rows {
			if p[i] >= 0.3 && row.BaseKnown {
				held[row.Fraud] += row.BaseAmount
			}
		}
		if e.Money.FraudStopped != held[true] || e.Money.HonestHeldUp != held[false] {
			t.Errorf("money %+v, want %v", e.Money, held)
		}
	}
}

func pairwiseAUC(rows []training.Row, p []float64) float64 {
	won, all := 0.0, 0.0
	for i, fraud := range rows {
		for j, honest := range rows {
			if fraud.Fraud && !honest.Fraud {
				w := fraud.Weight * honest.Weight
				all += w
				won += w * []float64{0, 0.5, 1}[cmp.Compare(p[i], p[j])+1]
			}
		}
	}
	return won / all
}

// flagged weighs what a threshold flags, and all.
func flagged(rows []training.Row, p []float64, threshold float64) (tp, fp, positives, negatives float64) {
	for i, row := range rows {
		caught := 0.0
		if p[i] >= threshold {
			caught = row.Weight
		}
		if row.Fraud {
			tp, positives = tp+caught, positives+row.Weight
		} else {
			fp, negatives = fp+caught, negatives+row.Weight
		}
	}
	return tp, fp, positives, negatives
}

func stepwisePrecision(rows []training.Row, p []float64) float64 {
	sum, before := 0.0, 0.0
	for _, threshold := range falling(p) {
		if tp, fp, positives, _ := flagged(rows, p, threshold); tp > before {
			sum += (tp - before) / positives * tp / (tp + fp)
			before = tp
		}
	}
	return sum
}

func recallByThresholds(rows []training.Row, p []float64, rate float64) float64 {
	best := 0.0
	for _, threshold := range falling(p) {
		if tp, fp, positives, negatives := flagged(rows, p, threshold); fp <= rate*negatives {
			best = max(best, tp/positives)
		}
	}
	return best
}

func falling(p []float64) []float64 {
	distinct := slices.Compact(slices.Sorted(slices.Values(p)))
	slices.Reverse(distinct)
	return distinct
}

// precisionByLot takes of the last tie that part which fits.
func precisionByLot(rows []training.Row, p []float64, k int) float64 {
	hits, all, left := 0.0, 0.0, float64(k)
	for _, threshold := range falling(p) {
		count, fraud, weight := 0.0, 0.0, 0.0
		for i, row := range rows {
			if p[i] == threshold {
				count++
				weight += row.Weight
				if row.Fraud {
					fraud += row.Weight
				}
			}
		}
		part := min(1, left/count)
		hits, all, left = hits+part*fraud, all+part*weight, left-part*count
		if left <= 0 {
			break
		}
	}
	return hits / all
}

func TestCardPrecisionIsTheMeanOverDaysOfTheRiskiestCustomers(t *testing.T) {
	at := func(day int, customer string, fraud int) training.Row {
		row := rowsOf(fraud)[0]
		row.ID, row.At, row.Customer = fmt.Sprint(day, customer, fraud), t0-t0%vaglio.Day+vaglio.Instant(day)*vaglio.Day, customer
		return row
	}
	rows := []training.Row{
		at(0, "a", 0), at(0, "a", 1), at(0, "b", 0), at(0, "c", 1), // a (0.9, fraud by its other request) and b (0.8): 1 of 2
		at(1, "a", 1), at(1, "b", 1), at(1, "c", 0), // a and b: 2 of 2
		at(2, "a", 0), at(2, "b", 0), // two customers need no choice
	}
	e := measured(t, rows, []float64{0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.5, 0.4, 0.3}, training.MeasureOptions{DailyK: 2})
	if c := e.CardPrecision; c.K != 2 || c.Days != 2 || c.Precision == nil || *c.Precision != 0.75 {
		t.Errorf("card precision %+v, want 0.75 over 2 days", c)
	}
	if e := measured(t, rows, make([]float64, len(rows)), training.MeasureOptions{DailyK: 3}); e.CardPrecision.Precision != nil || e.CardPrecision.Days != 0 {
		t.Errorf("card precision %+v where no day has more than 3 customers", e.CardPrecision)
	}
}

func TestWhatCantBeMeasuredIsRefusedOrSaysSo(t *testing.T) {
	refused := func(want string, rows []training.Row, p ...float64) {
		t.Helper()
		if _, err := training.Measure(t.Context(), rows, p, training.MeasureOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to say %q", err, want)
		}
	}
	refused("both classes", nil)
	refused("both classes", rowsOf(1), 0.5)
	refused("both classes", rowsOf(0, 0, 0), 0.5, 0.1, 0.2)
	refused("r1 has no probability, but NaN", rowsOf(0, 1), 0.5, math.NaN())
	refused("r0 has no probability", rowsOf(0, 1), 1.5, 0.1)
	refused("2 labelled requests, 1 probabilities", rowsOf(0, 1), 0.5)
	weightless := rowsOf(0, 1)
	weightless[1].Weight = 0
	refused("weight 0", weightless, 0.5, 0.1)
	weightless[1].Weight = math.NaN()
	refused("request r1 has weight NaN", weightless, 0.5, 0.1)

	e := measured(t, rowsOf(0, 1), []float64{0.5, 0.5}, training.MeasureOptions{})
	if e.ROCAUC != 0.5 || e.AveragePrecision != 0.5 || e.RecallAt1FPR != 0 || len(e.Intervals) > 2 || e.PrecisionAt[0].Precision != nil {
		t.Errorf("of one tie: %+v", e)
	}
	tied := measured(t, rowsOf(slices.Repeat([]int{0, 0, 0, 1}, 50)...), slices.Repeat([]float64{0.25}, 200), training.MeasureOptions{TopK: []int{50}})
	if i := tied.Intervals["roc_auc"]; tied.ROCAUC != 0.5 || i.Low != 0.5 || i.High != 0.5 {
		t.Errorf("nothing but ties: AUC %v in %+v", tied.ROCAUC, i)
	}
	near(t, "precision of the first 50 among ties", *tied.PrecisionAt[0].Precision, 0.25)
}
