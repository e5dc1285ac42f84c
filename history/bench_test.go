package history_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/history/ingest"
)

// thirdParty is an event of three entities and two attributes, as payments are.
func thirdParty(i int) vaglio.Event {
	e := paid(fmt.Sprint("evt_", i), t0-vaglio.Instant(i)*vaglio.Second, int64(i%10_000), "EUR",
		"customer", fmt.Sprint("c_", i%5000), "payment", fmt.Sprint("p_", i), "device", fmt.Sprint("d_", i%7000))
	e.Attributes = vaglio.FieldsOf("channel", "app", "country", "IT")
	return e
}

func BenchmarkImport(b *testing.B) {
	s := openDatabase(b, "benchimport", "EUR")
	const batch = 10_000
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		events := make([]vaglio.Event, batch)
		for i := range events {
			events[i] = thirdParty(n*batch + i)
		}
		if _, err := s.Import(b.Context(), events); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n*batch)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkImportFile is `vaglio import` of NDJSON, end to end: read, check, read again, decode, store.
func BenchmarkImportFile(b *testing.B) {
	s := openDatabase(b, "benchimportfile", "EUR")
	const events = 300_000
	path := filepath.Join(b.TempDir(), "events.ndjson")
	n := 0
	for b.Loop() {
		b.StopTimer()
		var lines bytes.Buffer
		for i := range events {
			e := thirdParty(n*events + i)
			line, err := json.Marshal(&e)
			if err != nil {
				b.Fatal(err)
			}
			lines.Write(append(line, '\n'))
		}
		if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		report, err := ingest.Files(b.Context(), ingest.Options{Sink: s.Import}, []string{path})
		if err != nil || report.Stored != events {
			b.Fatal(report, err)
		}
		n++
	}
	b.ReportMetric(float64(n*events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkTimelines(b *testing.B) {
	s := openDatabase(b, "benchtimelines", "EUR")
	var events []vaglio.Event
	for i := range 200_000 {
		events = append(events, thirdParty(i))
	}
	if _, err := s.Import(b.Context(), events); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		e := thirdParty(i * 7919 % 200_000)
		found, err := s.Timelines(b.Context(), e.Timelines(), t0)
		if err != nil || len(found) == 0 {
			b.Fatal(len(found), err)
		}
	}
}
