package training_test

import (
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/training"
)

// BenchmarkReplay is the way from ClickHouse to the matrix, end to end.
func BenchmarkReplay(b *testing.B) {
	h, err := history.Open(b.Context(), strings.TrimSuffix(dsn, "vaglio")+"benchreplay", history.Options{Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Import(b.Context(), training.Dense(5000)); err != nil {
		b.Fatal(err)
	}
	period := training.Period{From: training.BenchmarkFrom, Until: training.BenchmarkFrom + 400*vaglio.Day}
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		m, err := training.Replay(b.Context(), h, training.Thirty, period, func(training.Progress) {})
		if err != nil {
			b.Fatal(err)
		}
		rows += len(m.Rows)
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "requests/s")
}
