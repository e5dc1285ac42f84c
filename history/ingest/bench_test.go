package ingest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"vaglio"
	"vaglio/history/ingest"
)

// counting answers "stored" for everything: what is measured is reading, decoding and checking.
func counting(_ context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
	outcomes := make([]vaglio.Outcome, len(events))
	for i := range outcomes {
		outcomes[i] = vaglio.Stored
	}
	return outcomes, nil
}

func bench(b *testing.B, o ingest.Options, path string) {
	o.Sink, o.Now = counting, now
	events := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		report, err := ingest.Files(b.Context(), o, []string{path})
		if err != nil {
			b.Fatal(err)
		}
		events += report.Events
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkNDJSON(b *testing.B) {
	var lines strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&lines, `{"id":"evt_%d","kind":"payment","occurred_at":"2026-11-22T10:00:00.123Z","observed_at":"2026-11-22T10:00:01Z",`+
			`"entities":{"customer":"c_%d","payment":"p_%d","device":"d_%d","ip":"203.0.113.7","instrument":"card_%d","merchant":"m_1"},`+
			`"amount":%d,"currency":"EUR","attributes":{"channel":"app","country":"IT","rail":"sct_inst"}}`+"\n", i, i%5000, i, i%7000, i%6000, i)
	}
	path := write(b, "events.ndjson.gz", zipped(b, lines.String()))
	b.Run("once", func(b *testing.B) { bench(b, ingest.Options{OnError: ingest.Skip}, path) })
	b.Run("checked first", func(b *testing.B) { bench(b, ingest.Options{}, path) })
}

func BenchmarkCSV(b *testing.B) {
	var rows strings.Builder
	rows.WriteString("invoice,price\n")
	for i := range 200_000 {
		fmt.Fprintf(&rows, "%d,%d.%02d\n", i/4, i%100, i%100)
	}
	path := write(b, "rows.csv", rows.String())
	b.Run("four rows an event", func(b *testing.B) { bench(b, ingest.Options{OnError: ingest.Skip, Mapping: mapping(b, sums)}, path) })
	single := strings.Replace(strings.Replace(sums, "group_by: row.invoice\ngroup_within: 2\n", "", 1), "id: row.invoice", "id: string(row_number)", 1)
	b.Run("one row an event", func(b *testing.B) { bench(b, ingest.Options{OnError: ingest.Skip, Mapping: mapping(b, single)}, path) })
}
