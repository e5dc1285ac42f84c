package scoring_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/scoring"
)

const (
	benchCustomers = 4000
	benchEvents    = 40 // of each
)

var benchHistory = sync.OnceValues(func() (*history.Store, error) {
	s, err := history.Open(context.Background(), dsn[:len(dsn)-len("vaglio")]+"bench", history.Options{})
	if err != nil {
		return nil, err
	}
	now := vaglio.InstantOf(time.Now())
	var events []vaglio.Event
	for c := range benchCustomers {
		for i := range benchEvents {
			kind := []string{"payment", "login", "login_failed", "spend"}[i%4]
			e := vaglio.Event{ID: fmt.Sprintf("e_%d_%d", c, i), Kind: kind, OccurredAt: now - vaglio.Instant(i+1)*13*vaglio.Hour,
				Entities: vaglio.FieldsOf("customer", fmt.Sprint("c_", c), "device", fmt.Sprint("d_", c))}
			if kind == "payment" {
				e.Entities, e.Amount, e.Currency = e.Entities.With("payment", fmt.Sprintf("p_%d_%d", c, i)), 1000, "EUR"
			}
			events = append(events, e)
		}
	}
	_, err = s.Import(context.Background(), events)
	return s, err
})

// benchEngine has a memory of so many bytes.
func benchEngine(b *testing.B, bytes int64) *scoring.Engine {
	b.Helper()
	h, err := benchHistory()
	if err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"), ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	e := scoring.New(scoring.Options{History: h, Ledger: l, Cache: bytes, Logger: slog.New(slog.DiscardHandler)})
	if err := e.UseModel(bundle); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { _ = e.Follow(ctx) })
	work.Go(func() { _ = l.Relay(ctx, time.Second, h.Deliver) })
	b.Cleanup(func() { cancel(); work.Wait(); _ = l.Close() })
	for _, current := e.Lag(); bytes > 0 && !current; _, current = e.Lag() {
		time.Sleep(time.Millisecond)
	}
	return e
}

var benchID atomic.Int64

func benchRequest(customer int) vaglio.Request {
	n := benchID.Add(1)
	return vaglio.Request{ID: fmt.Sprint("r_", n), Type: "refund", Amount: 1, Currency: "EUR", Reason: "changed_mind",
		Entities: vaglio.FieldsOf("customer", fmt.Sprint("c_", customer), "device", fmt.Sprint("d_", customer), "payment", fmt.Sprintf("p_%d_%d", customer, 4*int(n%10)))}
}

func decide(b *testing.B, e *scoring.Engine, customer int) {
	r := benchRequest(customer)
	if answer, err := e.Decide(context.Background(), &r, scoring.DecideOptions{}); err != nil || answer.Degraded {
		b.Errorf("%v: %s", err, answer.Body)
	}
}

// BenchmarkDecide is the whole way of a request but HTTP, durable in the ledger. Warm: the customer is in memory. Cold: every
// customer is new. Fresh: no memory, the baseline of both. At64: 64 requests at a time.
func BenchmarkDecide(b *testing.B) {
	const memory = 256 << 20
	at64 := func(b *testing.B, e *scoring.Engine, customer func(int64) int) {
		var n atomic.Int64
		b.SetParallelism(32) // × 2 processors
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				decide(b, e, customer(n.Add(1)))
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	}
	b.Run("warm", func(b *testing.B) {
		e := benchEngine(b, memory)
		for c := range 200 {
			decide(b, e, c)
		}
		c := 0
		b.ReportAllocs()
		for b.Loop() {
			c++
			decide(b, e, c%200)
		}
	})
	b.Run("warm/at64", func(b *testing.B) {
		e := benchEngine(b, memory)
		for c := range 200 {
			decide(b, e, c)
		}
		b.ResetTimer()
		at64(b, e, func(n int64) int { return int(n % 200) })
	})
	b.Run("cold", func(b *testing.B) {
		e := benchEngine(b, 1)
		c := 0
		for b.Loop() {
			c++
			decide(b, e, c%benchCustomers)
		}
	})
	b.Run("cold/at64", func(b *testing.B) { at64(b, benchEngine(b, 1), func(n int64) int { return int(n*7) % benchCustomers }) })
	b.Run("fresh", func(b *testing.B) {
		e := benchEngine(b, 0)
		c := 0
		for b.Loop() {
			c++
			decide(b, e, c%benchCustomers)
		}
	})
	b.Run("fresh/at64", func(b *testing.B) { at64(b, benchEngine(b, 0), func(n int64) int { return int(n*7) % benchCustomers }) })
}
