package training_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
)

// drawn are labelled requests with scores that know something of the labels: of separation 0 nothing. Customers send as many
// requests each, in turn, one every ten minutes.
func drawn(n, each int, fraudShare, separation float64, random *rand.Rand) ([]training.Row, []float64) {
	rows, probability := make([]training.Row, n), make([]float64, n)
	traits := []*training.Traits{{Channel: "app", Country: "IT", Rail: "card", Type: "refund"}, {Channel: "web", Country: "FR", Rail: "sct_inst",
		Type: "cancellation"}}
	for i := range rows {
		fraud := random.Float64() < fraudShare
		logOdds := random.NormFloat64() - 3
		if fraud {
			logOdds += separation
		}
		rows[i] = training.Row{ID: fmt.Sprint("r", i), At: t0 + vaglio.Instant(i)*10*vaglio.Minute, Customer: fmt.Sprint("c", i%max(1, n/each)), Traits: traits[i%2],
			BaseAmount: int64(500 + random.IntN(100_000)), BaseKnown: true, Weight: 1, Propensity: 1, Fraud: fraud}
		probability[i] = 1 / (1 + math.Exp(-logOdds))
	}
	return rows, probability
}

func BenchmarkMeasure(b *testing.B) {
	rows, probability := drawn(250_000, 4, 0.04, 2, rand.New(rand.NewPCG(1, 2)))
	for b.Loop() {
		e, err := training.Measure(b.Context(), rows, probability, training.MeasureOptions{Thresholds: models.Thresholds{ApproveBelow: 0.06, DenyFrom: 0.75}})
		if err != nil || len(e.Intervals) == 0 {
			b.Fatal(e.Intervals, err)
		}
	}
}

// By theory the AUC of two normal distributions of deviation 1, d apart, is Φ(d/√2).
func TestIntervalsHoldTheTruthAsOftenAsTheySay(t *testing.T) {
	const trials, separation = 400, 1.5
	truth := 0.5 * math.Erfc(-separation/2)
	random := rand.New(rand.NewPCG(7, 8))
	held := 0
	for range trials {
		rows, probability := drawn(400, 1, 0.15, separation, random)
		e := measured(t, rows, probability, training.MeasureOptions{Resamples: 200})
		if i := e.Intervals["roc_auc"]; i.Low <= truth && truth <= i.High {
			held++
		}
	}
	if share := float64(held) / trials; share < 0.9 || share > 0.98 {
		t.Errorf("intervals of 95 %% hold the AUC %v in %v of %d trials", truth, share, trials)
	}
}

// Four copies of each request by the same customer are not four times the evidence.
func TestIntervalsKnowThatACustomersRequestsAreAlike(t *testing.T) {
	rows, probability := drawn(1000, 1, 0.1, 1, rand.New(rand.NewPCG(9, 10)))
	var copies []training.Row
	var copied []float64
	for i, row := range rows {
		for range 4 {
			copies, copied = append(copies, row), append(copied, probability[i])
		}
	}
	width := func(e training.Evaluation) float64 { return e.Intervals["roc_auc"].High - e.Intervals["roc_auc"].Low }
	one, four := measured(t, rows, probability, training.MeasureOptions{}), measured(t, copies, copied, training.MeasureOptions{})
	if math.Abs(one.ROCAUC-four.ROCAUC) > 1e-12 || math.Abs(width(one)-width(four)) > 1e-9 {
		t.Errorf("AUC %v, width %v; with copies %v, %v", one.ROCAUC, width(one), four.ROCAUC, width(four))
	}
}

func TestShuffledLabelsHaveAnAUCOfAHalf(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	rows, probability := drawn(20_000, 3, 0.1, 2, random)
	if e := measured(t, rows, probability, training.MeasureOptions{Resamples: -1}); e.ROCAUC < 0.9 {
		t.Fatalf("AUC %v before", e.ROCAUC)
	}
	random.Shuffle(len(probability), func(i, j int) { probability[i], probability[j] = probability[j], probability[i] })
	e := measured(t, rows, probability, training.MeasureOptions{})
	if i := e.Intervals["roc_auc"]; math.Abs(e.ROCAUC-0.5) > 0.02 || i.Low > 0.5 || i.High < 0.5 {
		t.Errorf("AUC %v in %+v of shuffled labels", e.ROCAUC, i)
	}
}

func TestTheSameSeedGivesTheSameIntervalsOnAnyNumberOfCores(t *testing.T) {
	rows, probability := drawn(2000, 3, 0.1, 1, rand.New(rand.NewPCG(13, 14)))
	intervals := func(seed uint64, cores int) map[string]training.Interval {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		return measured(t, rows, probability, training.MeasureOptions{Resamples: 60, Seed: seed}).Intervals
	}
	one := intervals(1, 1)
	if four := intervals(1, 4); len(one) < 10 || !maps.Equal(one, four) {
		t.Errorf("%v on one core, %v on four", one, four)
	}
	if maps.Equal(one, intervals(2, 1)) {
		t.Error("another seed drew the same")
	}
}

func TestSegmentsAreMeasuredOnTheirOwnRequestsOrSayThatTheyAreTooFew(t *testing.T) {
	rows, probability := drawn(4000, 2, 0.1, 2, rand.New(rand.NewPCG(15, 16)))
	for i := range rows[:30] {
		traits := *rows[i].Traits
		traits.Channel = "phone"
		rows[i].Traits = &traits
	}
	o := training.MeasureOptions{Resamples: 60, Currency: "EUR", New: func(row int) (bool, bool) { return row%3 == 0, row%5 > 0 }}
	e := measured(t, rows, probability, o)
	of := map[string]map[string]training.Segment{}
	for _, s := range e.Segments {
		if of[s.By] == nil {
			of[s.By] = map[string]training.Segment{}
		}
		of[s.By][s.Value] = s
	}
	for by, segments := range of {
		total := 0
		for _, s := range segments {
			total += s.Rows
		}
		if total != len(rows) {
			t.Errorf("segments by %s hold %d of %d requests", by, total, len(rows))
		}
	}
	for _, by := range []string{"channel", "country", "amount", "customer", "rail", "type"} {
		if len(of[by]) < 2 {
			t.Errorf("by %s: %v", by, of[by])
		}
	}
	if phone := of["channel"]["phone"]; phone.Rows != 30 || phone.ROCAUC != nil || !strings.Contains(phone.TooFew, "at least") {
		t.Errorf("30 requests by phone: %+v", phone)
	}
	var web []training.Row
	var p []float64
	for i, row := range rows {
		if row.Traits.Channel == "web" {
			web, p = append(web, row), append(p, probability[i])
		}
	}
	alone, segment := measured(t, web, p, training.MeasureOptions{Resamples: -1}), of["channel"]["web"]
	if segment.Rows != alone.Rows || segment.Frauds != alone.Frauds || *segment.ROCAUC != alone.ROCAUC || *segment.AveragePrecision != alone.AveragePrecision ||
		*segment.RecallAt1FPR != alone.RecallAt1FPR {
		t.Errorf("web is %+v as a segment, alone %+v", segment, alone)
	}
	if i, ok := segment.Intervals["roc_auc"]; !ok || i.Low > *segment.ROCAUC || i.High < *segment.ROCAUC {
		t.Errorf("AUC %v of web in %+v", *segment.ROCAUC, i)
	}
	if of["customer"]["unknown"].Rows != 800 || of["amount"]["below 20 EUR"].Rows == 0 {
		t.Errorf("customers %+v, amounts %+v", of["customer"], of["amount"])
	}
}
