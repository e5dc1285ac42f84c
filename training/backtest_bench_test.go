package training_test

import (
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring/policy"
	"vaglio/training"
)

// BenchmarkBacktest decides 50,000 requests again by the default policy and its features: all of it, and the decisions alone.
func BenchmarkBacktest(b *testing.B) {
	h, err := history.Open(b.Context(), strings.TrimSuffix(dsn, "vaglio")+"benchbacktest", history.Options{Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Import(b.Context(), training.Dense(5000)); err != nil {
		b.Fatal(err)
	}
	rows, deciding := 0, time.Duration(0)
	var began time.Time
	o := training.BacktestOptions{History: h, Policies: []*policy.Policy{policy.Default()},
		Period: training.Period{From: training.BenchmarkFrom, Until: training.BenchmarkFrom + 400*vaglio.Day},
		Progress: func(p training.Progress) {
			if p.Step == "decide" && p.Done == 0 {
				began = time.Now()
			}
		}}
	b.ReportAllocs()
	for b.Loop() {
		report, err := training.Backtest(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		deciding += time.Since(began)
		rows += report.Requests
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(rows)/deciding.Seconds(), "decisions/s")
}
