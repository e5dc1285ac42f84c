package history_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/ledger"
)

// BenchmarkCatchUp delivers what has gathered while history was away: 100,000 facts and as many decisions, both at once.
func BenchmarkCatchUp(b *testing.B) {
	const waiting = 100_000
	for n := range b.N {
		b.StopTimer()
		s := openDatabase(b, fmt.Sprint("benchcatchup", n), "EUR")
		l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"), ledger.Options{})
		if err != nil {
			b.Fatal(err)
		}
		var work errgroup.Group
		work.SetLimit(64)
		for i := range waiting {
			work.Go(func() error {
				e := thirdParty(i)
				e.Kind = vaglio.KindRefundRequested
				f := vaglio.Fact{Event: e, KnownAt: e.OccurredAt + 1}
				who := ledger.Subject{Customer: e.Entities.Get("customer"), Payment: e.Entities.Get("payment"), Currency: "EUR", Amount: 1 << 40}
				_, _, err := l.Record(context.Background(), ledger.Claim{RequestID: e.ID, Body: []byte("{}")}, who, func(ledger.Standing) (ledger.Entry, error) {
					return ledger.Entry{DecisionID: "dec_" + e.ID, Verdict: vaglio.Deny, Response: []byte("{}"), Customer: who.Customer, DecidedAt: t0, Event: f,
						Taken: taken(e.ID, t0, who.Customer)}, nil
				})
				return err
			})
		}
		if err := work.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		ctx, stop := context.WithCancel(b.Context())
		var relays errgroup.Group
		relays.Go(func() error { return l.Relay(ctx, time.Second, s.Deliver) })
		relays.Go(func() error { return l.RelayDecisions(ctx, time.Second, s.DeliverDecisions) })
		for left := -1; left != 0; time.Sleep(10 * time.Millisecond) {
			all, err := l.Backlogs(ctx)
			if err != nil {
				b.Fatal(err)
			}
			left = all[ledger.TopicHistory] + all[ledger.TopicDecisions]
		}
		b.StopTimer()
		stop()
		if err := relays.Wait(); err != nil {
			b.Fatal(err)
		}
		if n, err := s.Count(b.Context()); n != waiting || err != nil {
			b.Fatal(n, err)
		}
		l.Close()
	}
	b.ReportMetric(float64(waiting*b.N)/b.Elapsed().Seconds(), "decisions/s")
}
