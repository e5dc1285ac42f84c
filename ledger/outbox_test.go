package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/ledger"
)

func filling(t *testing.T, open opener) {
	l := open(ledger.Options{MaxOutbox: 3})
	for i := range 3 {
		record(t, l, request(fmt.Sprint("rr_", i), "c", "p"))
	}
	r := request("rr_3", "c", "p")
	if _, _, err := l.Record(t.Context(), claim(r), subject(r), never); !errors.Is(err, ledger.ErrOutboxFull) {
		t.Fatal(err)
	}
	old := request("rr_0", "c", "p")
	if _, repeated, err := l.Record(t.Context(), claim(old), subject(old), never); !repeated || err != nil {
		t.Fatal(err)
	}
	deliverAll(t, l)
	record(t, l, r)
}

// deliverAll relays until the outbox is empty and returns what was delivered, call by call.
func deliverAll(t *testing.T, l *ledger.Ledger) (batches [][]vaglio.Fact) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err := l.Relay(ctx, time.Millisecond, func(_ context.Context, facts []vaglio.Fact) error {
		batches = append(batches, facts)
		if left, err := l.Backlog(ctx); err != nil || left == len(facts) {
			stop()
			return err
		}
		return nil
	})
	must(t, err)
	if n, err := l.Backlog(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d events are left (%v)", n, err)
	}
	return batches
}

// roundTrip stores facts of any shape, also those that an event's own validation would refuse; but no NUL, which
// PostgreSQL has no place for in a text.
func roundTrip(t *testing.T, open opener) {
	l := open(ledger.Options{})
	text := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 0, 20, -1)
	fields := rapid.Custom(func(t *rapid.T) vaglio.Fields {
		if fs := vaglio.FieldsOf(rapid.SliceOfN(text, 6, 6).Draw(t, "fields")...); len(fs) > 0 {
			return fs
		}
		return nil // no fields are nil fields once they were stored
	})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		number := func(name string) int64 { return rapid.Int64().Draw(rt, name) }
		want := vaglio.Fact{Event: vaglio.Event{ID: text.Draw(rt, "id"), Kind: text.Draw(rt, "kind"), Currency: text.Draw(rt, "currency"),
			OccurredAt: vaglio.Instant(number("occurred")), ObservedAt: vaglio.Instant(number("observed")), Amount: number("amount"),
			Entities: fields.Draw(rt, "entities").With("run", fmt.Sprint(n)), Attributes: fields.Draw(rt, "attributes")},
			KnownAt: vaglio.Instant(number("known")), BaseAmount: number("base"), BaseKnown: rapid.Bool().Draw(rt, "base known")}
		r := request(fmt.Sprint("rr_", n), "c", "p")
		_, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
			e := approval(r, at, vaglio.Minute)
			e.Event = want
			return e, nil
		})
		must(t, err)
		got, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "run", ID: fmt.Sprint(n)}}, want.KnownAt)
		must(t, err)
		if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			rt.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func recent(t *testing.T, open opener) {
	clock := at
	l := open(ledger.Options{Now: func() time.Time { return clock.Time() }})
	for i := range 20 {
		record(t, l, request(fmt.Sprint("rr_", i), fmt.Sprint("c_", i%4), fmt.Sprint("p_", i)))
	}
	payout := request("rr_payout", "c_9", "p_9b")
	payout.Entities = payout.Entities.With(vaglio.EntityPayoutInstrument, "iban_1")
	record(t, l, payout)
	later := at + vaglio.Second
	finds := func(want string, asOf vaglio.Instant, entities ...vaglio.Entity) {
		t.Helper()
		found, err := l.Recent(t.Context(), entities, asOf)
		must(t, err)
		var ids []string
		for _, f := range found {
			ids = append(ids, f.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	customer := func(id string) vaglio.Entity { return vaglio.Entity{Kind: "customer", ID: id} }
	paid := func(id string) vaglio.Entity { return vaglio.Entity{Kind: "payment", ID: id} }
	finds("", later)
	finds("", later, customer("nobody"))
	finds("rr_1 rr_5 rr_9 rr_13 rr_17", later, customer("c_1"))
	finds("rr_1 rr_5 rr_9 rr_13 rr_17", later, paid("p_5"), customer("c_1"), customer("c_1")) // each once
	finds("rr_2 rr_3 rr_7 rr_11 rr_15 rr_19", later, customer("c_3"), paid("p_2"))            // in order
	finds("rr_payout", later, vaglio.Entity{Kind: vaglio.EntityInstrument, ID: "iban_1"})
	finds("", later, vaglio.Entity{Kind: vaglio.EntityPayoutInstrument, ID: "iban_1"})
	finds("", at, customer("c_1")) // known one millisecond after it occurred
	finds("rr_1 rr_5 rr_9 rr_13 rr_17", at+1, customer("c_1"))
	many := []vaglio.Entity{paid("p_3")}
	for i := range 1300 {
		many = append(many, paid(fmt.Sprint("none_", i)))
	}
	finds("rr_3 rr_4", later, append(many, paid("p_4"))...)
	deliverAll(t, l)
	finds("rr_1 rr_5 rr_9 rr_13 rr_17", later, customer("c_1")) // who reads history may not see it yet
	clock += vaglio.Minute
	record(t, l, request("rr_more", "c_9", "p_9"))
	deliverAll(t, l) // a relay that delivers also sweeps
	finds("", later, customer("c_1"))
	finds("rr_more", later, paid("p_9"))
}

func relaying(t *testing.T, open opener) {
	l := open(ledger.Options{})
	var calls sync.WaitGroup
	for i := range 90 {
		calls.Go(func() {
			for k := range 45 {
				record(t, l, request(fmt.Sprintf("rr_%d_%02d", i, k), "c", fmt.Sprint("p_", i)))
			}
		})
	}
	calls.Wait()
	next := map[string]string{}
	total := 0
	for _, batch := range deliverAll(t, l) {
		total += len(batch)
		if len(batch) > 4000 {
			t.Errorf("a batch of %d", len(batch))
		}
		for _, f := range batch {
			sender, number := f.ID[:len(f.ID)-2], f.ID[len(f.ID)-2:]
			if number <= next[sender] {
				t.Errorf("%s came after %s", f.ID, next[sender])
			}
			next[sender] = number
		}
	}
	if total != 45*90 {
		t.Errorf("%d were delivered, want %d", total, 45*90)
	}
	// A relay that waits hears of a new decision at once, not an hour later.
	ctx, stop := context.WithCancel(t.Context())
	delivered := make(chan string)
	ended := make(chan error)
	go func() {
		ended <- l.Relay(ctx, time.Hour, func(_ context.Context, facts []vaglio.Fact) error {
			delivered <- facts[0].ID
			return nil
		})
	}()
	record(t, l, request("rr_new", "c", "p"))
	if id := <-delivered; id != "rr_new" {
		t.Errorf("delivered %s", id)
	}
	stop()
	must(t, <-ended)
	must(t, l.Close())
	if err := l.Relay(t.Context(), time.Hour, nil); !errors.Is(err, ledger.ErrClosed) {
		t.Error(err)
	}
}

// repeating runs on a clock of its own: the pauses take no time.
func repeating(t *testing.T, open opener) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := open(ledger.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for i := range 3 {
			record(t, l, request(fmt.Sprint("rr_", i), "c", "p"))
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var pauses []time.Duration
		last := time.Now()
		must(t, l.Relay(ctx, time.Minute, func(_ context.Context, facts []vaglio.Fact) error {
			pauses, last = append(pauses, time.Since(last)), time.Now()
			switch {
			case len(pauses) < 9:
				if left, err := l.Backlog(t.Context()); left != 3 || err != nil || len(facts) != 3 || facts[0].ID != "rr_0" {
					t.Errorf("attempt %d: %d of %d (%v)", len(pauses), len(facts), left, err)
				}
				return errors.New("history is down")
			case len(pauses) == 9:
				record(t, l, request("rr_3", "c", "p"))
			default:
				if len(facts) != 1 || facts[0].ID != "rr_3" {
					t.Errorf("then came %d from %s", len(facts), facts[0].ID)
				}
				stop()
			}
			return nil
		}))
		ms := time.Millisecond
		if want := []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms, 0}; !slices.Equal(pauses, want) {
			t.Errorf("paused %v, want %v", pauses, want)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "history is down") || !strings.Contains(lines[1], "works again") {
			t.Errorf("logged %q", lines)
		}
		must(t, l.Close())
	})
}
