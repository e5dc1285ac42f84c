package history_test

import (
	"fmt"
	"testing"

	"vaglio"
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
