package training

import (
	"cmp"
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
)

//go:embed testdata/thirty.yaml
var thirtyYAML []byte

// thirty is a catalogue of thirty features over three kinds of timelines.
var thirty = func() *features.Catalogue {
	c, err := features.Parse(thirtyYAML)
	if err != nil {
		panic(err)
	}
	return c
}()

// dense is the history of some customers over a year: for every request a login, a payment and its settlement, ten times a
// customer.
func dense(customers int) (events []vaglio.Event) {
	const perCustomer = 10
	for c := range customers {
		for i := range perCustomer {
			at := BenchmarkFrom + vaglio.Instant(i)*36*vaglio.Day + vaglio.Instant(c*7919%100_000)*vaglio.Second
			add := func(kind string, later vaglio.Instant) {
				e := vaglio.Event{ID: fmt.Sprintf("%s_%d_%d", kind, c, i), Kind: kind, OccurredAt: at + later, Entities: vaglio.FieldsOf("customer", fmt.Sprint("c_", c),
					"device", fmt.Sprint("d_", c/2), "payment", fmt.Sprintf("p_%d_%d", c, i))}
				if kind != "login" {
					e.Amount, e.Currency = int64(1000+c%5000), "EUR"
				}
				if kind == vaglio.KindRefundRequested {
					e.Attributes = vaglio.FieldsOf("reason", "other", "rail", "card")
				}
				events = append(events, e)
			}
			add("login", 0)
			add("payment", vaglio.Minute)
			add("payment_settled", vaglio.Hour)
			add(vaglio.KindRefundRequested, vaglio.Day)
		}
	}
	return events
}

// BenchmarkFrom is when the history of the benchmarks begins, Dense and Thirty what they are of.
const BenchmarkFrom = vaglio.Instant(1_700_000_000_000)

// What the end-to-end benchmark takes from here.
var (
	Dense  = dense
	Thirty = thirty
)

// BenchmarkReplayFromMemory computes the vectors of requests whose timelines are in memory already, on all cores.
func BenchmarkReplayFromMemory(b *testing.B) {
	m := &Matrix{Catalogue: thirty, Names: thirty.Names()}
	type timeline []history.Step
	byEntity := map[vaglio.Entity]timeline{}
	requests := map[string]*vaglio.Fact{}
	for _, e := range dense(5000) {
		e.ObservedAt = e.OccurredAt
		f := vaglio.Fact{Event: e, KnownAt: e.KnownAt(), BaseAmount: e.Amount, BaseKnown: e.Currency != ""}
		asks := f.Kind == vaglio.KindRefundRequested
		if asks {
			m.Rows = append(m.Rows, Row{ID: f.ID, At: f.OccurredAt})
			requests[f.ID] = &f
		}
		for _, entity := range f.Timelines() {
			if asks {
				byEntity[entity] = append(byEntity[entity], history.Step{Entity: entity, Asks: true, Fact: f})
			}
			byEntity[entity] = append(byEntity[entity], history.Step{Entity: entity, Fact: f})
		}
	}
	var timelines []timeline
	for _, t := range byEntity {
		slices.SortStableFunc(t, func(a, b history.Step) int {
			moment := func(s *history.Step) vaglio.Instant {
				if s.Asks {
					return s.Fact.OccurredAt
				}
				return s.Fact.KnownAt
			}
			return cmp.Compare(moment(&a), moment(&b))
		})
		timelines = append(timelines, t)
	}
	m.X = make([]float64, len(m.Rows)*len(m.Names))
	b.ReportAllocs()
	for b.Loop() {
		r := newReplayer(m)
		var workers sync.WaitGroup
		n := runtime.GOMAXPROCS(0)
		for worker := range n {
			workers.Go(func() {
				visit := r.visitor()
				for i := worker; i < len(timelines); i += n {
					for j := range timelines[i] {
						if visit(&timelines[i][j]) {
							r.done.Add(1)
						}
					}
				}
				for row := worker; row < len(m.Rows); row += n {
					thirty.FinishVector(m.vector(row), requests[m.Rows[row].ID])
				}
			})
		}
		workers.Wait()
		if int(r.done.Load()) != 3*len(m.Rows) {
			b.Fatal(r.done.Load())
		}
	}
	b.ReportMetric(float64(b.N*len(m.Rows))/b.Elapsed().Seconds(), "requests/s")
}
