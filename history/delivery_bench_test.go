package history_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/history"
	"vaglio/history/embedded/embeddedtest"
	"vaglio/simulate"
)

// lived is a history of 600 simulated customers until now, with the payments of its last days.
var lived = sync.OnceValues(func() (w struct {
	store    *history.Store
	payments []vaglio.Event
}, err error) {
	ctx := context.Background()
	if w.store, err = history.Open(ctx, strings.TrimSuffix(dsn, "vaglio")+"benchlived", history.Options{}); err != nil {
		return w, err
	}
	c := simulate.DefaultConfig()
	c.Customers, c.Days, c.RequestShare, c.Until = 600, 240, 0.1, vaglio.InstantOf(time.Now())/vaglio.Hour*vaglio.Hour
	_, err = simulate.Run(ctx, c, func(all []vaglio.Event) error {
		for _, e := range all {
			if e.Kind == vaglio.KindPayment && e.OccurredAt > c.Until-100*vaglio.Day {
				w.payments = append(w.payments, e)
			}
		}
		_, err := w.store.Import(ctx, all)
		return err
	}, nil)
	return w, err
})

// request is what the ledger's outbox holds of a request to give a payment back.
func request(payment *vaglio.Event, n int, at vaglio.Instant) vaglio.Fact {
	r := vaglio.Request{ID: fmt.Sprintf("rr_%d_%d", at, n), Type: "refund", Entities: payment.Entities, Amount: 1 + int64(n), Currency: payment.Currency,
		Reason: "changed_mind", RequestedBy: "customer", Authentication: "password", Payment: &vaglio.PaymentState{Rail: "card", State: "settled"},
		Attributes: vaglio.FieldsOf("channel", "app")}
	return vaglio.Fact{Event: r.Event(at), KnownAt: at + 1, BaseAmount: r.Amount, BaseKnown: true, Completed: true}
}

// BenchmarkDelivery stores requests and decisions as the two relays do, by the thousand, with a tail that polls five times
// for each thousand: what one decision costs this process and ClickHouse.
func BenchmarkDelivery(b *testing.B) {
	const batch = 1000
	w, err := lived()
	if err != nil {
		b.Fatal(err)
	}
	tail, err := w.store.Tail(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := embeddedtest.Used()
	b.ResetTimer()
	seen := 0
	for done := 0; done < b.N; done += batch {
		n := min(batch, b.N-done)
		at := vaglio.InstantOf(time.Now())
		facts, decisions := make([]vaglio.Fact, n), make([]vaglio.Taken, n)
		for i := range n {
			facts[i] = request(&w.payments[(done+i)%len(w.payments)], done+i, at)
			decisions[i] = taken(facts[i].ID, at, facts[i].Entities.Get("customer"))
			decisions[i].Payment = facts[i].Entities.Get("payment")
		}
		var both errgroup.Group
		both.Go(func() error { return w.store.Deliver(b.Context(), facts) })
		both.Go(func() error { return w.store.DeliverDecisions(b.Context(), decisions) })
		if err := both.Wait(); err != nil {
			b.Fatal(err)
		}
		for range 5 {
			news, err := tail.Poll(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			seen += len(news)
		}
	}
	b.StopTimer()
	before.Report(b)
	b.ReportMetric(float64(seen)/float64(b.N), "news/op")
}

// BenchmarkColdEntities reads the timelines of 40 requests at a time, as the memory does when none of them is in it: what one
// request costs.
func BenchmarkColdEntities(b *testing.B) {
	w, err := lived()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := embeddedtest.Used()
	b.ResetTimer()
	facts, entities := 0, 0
	for done := 0; done < b.N; done += 40 {
		wanted := map[vaglio.Entity]bool{}
		for i := done; i < min(done+40, b.N); i++ {
			for _, e := range w.payments[i*7919%len(w.payments)].Timelines() {
				if e.Kind != "merchant" {
					wanted[e] = true
				}
			}
		}
		var all []vaglio.Entity
		for e := range wanted {
			all = append(all, e)
		}
		entities += len(all)
		if err := w.store.Latest(b.Context(), all, func(_ vaglio.Entity, fs []vaglio.Fact) { facts += len(fs) }); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	before.Report(b)
	b.ReportMetric(float64(facts)/float64(b.N), "facts/op")
	b.ReportMetric(float64(entities)/float64(b.N), "entities/op")
}
