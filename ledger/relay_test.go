package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

func TestOneOfSeveralRelaysDeliversAndAnotherTakesOver(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		first, second := open(t, e.dsn, ledger.Options{}), open(t, e.dsn, ledger.Options{})
		type delivery struct{ by, id string }
		deliveries := make(chan delivery, 100)
		relay := func(by string, l *ledger.Ledger) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- l.Relay(ctx, time.Millisecond, func(_ context.Context, facts []vaglio.Fact) error {
					for _, f := range facts {
						deliveries <- delivery{by, f.ID}
					}
					return nil
				})
			}()
			return func() {
				cancel()
				must(t, <-done)
			}
		}
		stopFirst := relay("first", first)
		record(t, second, request("rr_0", "c", "p_0"))
		if got := <-deliveries; got != (delivery{"first", "rr_0"}) {
			t.Errorf("got %v", got)
		}
		stopSecond := relay("second", second)
		for i := 1; i < 20; i++ {
			record(t, second, request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i)))
			if got := <-deliveries; got != (delivery{"first", fmt.Sprint("rr_", i)}) {
				t.Errorf("got %v", got)
			}
		}
		stopFirst()
		record(t, first, request("rr_20", "c", "p_20"))
		if got := <-deliveries; got.id != "rr_20" || got.by != "second" {
			t.Errorf("got %v", got)
		}
		stopSecond()
	})
}

// On SQLite numbers are committed in their order.
func TestASmallerNumberThatAppearsLaterOnPostgreSQLIsDelivered(t *testing.T) {
	onPostgres(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		for i := range 3 {
			record(t, l, request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i)))
		}
		// As if the transaction of the middle one had not been committed yet.
		e.exec(t, `UPDATE outbox SET topic = 'hidden' WHERE seq = (SELECT MIN(seq) + 1 FROM outbox)`)
		var got []string
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		must(t, l.Relay(ctx, time.Millisecond, func(_ context.Context, facts []vaglio.Fact) error {
			for _, f := range facts {
				got = append(got, f.ID)
			}
			if len(got) == 3 {
				stop()
			} else {
				e.exec(t, `UPDATE outbox SET topic = 'history' WHERE topic = 'hidden'`)
			}
			return nil
		}))
		if !slices.Equal(got, []string{"rr_0", "rr_2", "rr_1"}) {
			t.Errorf("delivered %v", got)
		}
		if n, err := l.Backlog(t.Context()); n != 0 || err != nil {
			t.Errorf("%d wait, %v", n, err)
		}
	})
}

func TestDecisionsLeaveByATopicOfTheirOwnAndComeBackAsTheyWere(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{MaxOutbox: 2})
		want := vaglio.Taken{DecisionID: "dec_rr_1", RequestID: "rr_1", Customer: "c", Payment: "p", DecidedAt: at, Verdict: vaglio.Review, Amount: 1999,
			Currency: "EUR", BaseAmount: 1999, BaseKnown: true, Probability: 0.25, LogOdds: math.NaN(), RiskScore: 12.5, ModelVersion: "m", PolicyVersion: "p",
			Stage: "champion", Explored: true, Propensity: 0.5, Audit: true, Degraded: true, DegradedReasons: []string{"x"}, LatencyMS: 3.5,
			Rules:   []vaglio.RuleHit{{Name: "a", Action: "review", State: "active"}},
			Shadows: []vaglio.Shadow{{ModelVersion: "m2", Stage: "challenger", Probability: math.NaN(), Verdict: vaglio.Deny}}}
		take := func(id string) error {
			r := request(id, "c", "p_"+id)
			_, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
				entry := inReview(r, at)
				entry.Taken = want
				return entry, nil
			})
			return err
		}
		must(t, take("rr_1"))
		must(t, take("rr_2"))
		deliverAll(t, l)
		if err := take("rr_3"); !errors.Is(err, ledger.ErrOutboxFull) { // analytics is behind, history is not
			t.Error(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		must(t, l.RelayDecisions(ctx, time.Millisecond, func(_ context.Context, got []vaglio.Taken) error {
			if len(got) != 2 || fmt.Sprint(got[0]) != fmt.Sprint(want) { // NaN is not equal to itself
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			stop()
			return nil
		}))
		if all, err := l.Backlogs(t.Context()); err != nil || all[ledger.TopicHistory] != 0 || all[ledger.TopicDecisions] != 0 {
			t.Errorf("%v wait, %v", all, err)
		}
		must(t, take("rr_3"))
	})
}

func TestOfABusyEntityTheNewestOfEachKindAreRead(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		const extra = 30
		put := func(id, kind string, occurred vaglio.Instant) {
			r := request(id, "c_"+id, "p_"+id)
			_, _, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
				entry := inReview(r, at)
				entry.Event = vaglio.Fact{KnownAt: occurred + 1, Event: vaglio.Event{ID: id, Kind: kind, OccurredAt: occurred,
					Entities: vaglio.FieldsOf("merchant", "busy")}}
				return entry, nil
			})
			must(t, err)
		}
		put("label", vaglio.KindFraudConfirmed, at-vaglio.Day)
		var work sync.WaitGroup
		for sender := range 10 {
			work.Go(func() {
				for i := sender; i < vaglio.NewestPerKind+extra; i += 10 {
					put(fmt.Sprintf("rr_%04d", i), vaglio.KindRefundRequested, at-vaglio.Hour+vaglio.Instant(i))
				}
			})
		}
		work.Wait()
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "merchant", ID: "busy"}}, at)
		must(t, err)
		var ids []string
		for _, f := range facts {
			ids = append(ids, f.ID)
		}
		slices.Sort(ids)
		if len(ids) != vaglio.NewestPerKind+1 || ids[0] != "label" || ids[1] != fmt.Sprintf("rr_%04d", extra) {
			t.Errorf("%d facts from %v, want the label and the newest %d", len(ids), ids[:2], vaglio.NewestPerKind)
		}
	})
}
