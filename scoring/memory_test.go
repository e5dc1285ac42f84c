package scoring_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring"
)

// sameHistory is the shared history, opened by another writer with a clock of its own.
func sameHistory(t *testing.T, now func() time.Time) *history.Store {
	t.Helper()
	s, err := history.Open(t.Context(), dsn, history.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// remembering is a service with a memory that follows history.
func remembering(t *testing.T, bytes int64) *service {
	t.Helper()
	s := newService(t, always, func(o *scoring.Options) { o.Cache, o.History = bytes, sameHistory(t, o.Now) })
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		if err := s.Follow(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); following.Wait() })
	s.waitFor("the memory to follow", func() bool { _, current := s.Lag(); return current })
	return s
}

func (s *service) waitFor(what string, there func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// catchUp waits until the memory has seen all that is stored by now.
func (s *service) catchUp() {
	s.t.Helper()
	stored := time.Now()
	s.waitFor("the tail", func() bool {
		asked := time.Now() // before the lag is: what comes in between must not count for it
		lag, current := s.Lag()
		return current && asked.Add(-lag).After(stored)
	})
}

// essence is what two decisions about the same must share.
func essence(t *testing.T, e *scoring.Engine, r vaglio.Request) string {
	t.Helper()
	answer, err := e.Decide(t.Context(), &r, scoring.DecideOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := vaglio.Decode[vaglio.Decision](answer.Body)
	if err != nil || d.Degraded {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	d.ID, d.LatencyMS, d.DecidedAt = "", vaglio.Latency{}, 0
	text, err := json.Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAMemoryAnswersAsHistoryReadAfreshDoes(t *testing.T) {
	cached := remembering(t, 64_000) // so little that much is evicted
	theirs := sameHistory(t, cached.clock.time)
	o := scoring.Options{History: theirs, Ledger: cached.ledger, Now: cached.clock.time, Budget: 30 * time.Second}
	always(&o)
	fresh := scoring.New(o)
	if err := fresh.UseModel(bundle); err != nil {
		t.Fatal(err)
	}

	random := rand.New(rand.NewPCG(7, 7))
	now := t0
	pick := func(prefix string, n int) string { return cached.id(fmt.Sprint(prefix, random.IntN(n))) }
	n := 0
	event := func() vaglio.Event {
		n++
		kinds := []string{"payment", "payment", "login", "login_failed", "refund_paid", "refund_requested", "chargeback"}
		e := vaglio.Event{ID: cached.id(fmt.Sprint("e", n)), Kind: kinds[random.IntN(len(kinds))], OccurredAt: now - vaglio.Instant(random.Int64N(int64(20*vaglio.Day))),
			Entities: vaglio.FieldsOf("customer", pick("c", 4), "device", pick("d", 3), "payment", pick("p", 6)), Amount: random.Int64N(5000), Currency: "EUR"}
		if random.IntN(3) == 0 {
			e.ObservedAt = e.OccurredAt + vaglio.Instant(random.Int64N(int64(30*vaglio.Day))) // perhaps known only later
		}
		return e
	}
	var slow sync.WaitGroup
	for step := range 160 {
		now += 1 + vaglio.Instant(random.Int64N(int64(2*vaglio.Hour)))
		cached.clock.set(now)
		switch random.IntN(5) {
		case 0: // another writer, in its own time
			events := []vaglio.Event{event(), event()}
			slow.Go(func() {
				if _, err := theirs.Import(context.Background(), events); err != nil {
					t.Error(err)
				}
			})
		case 1:
			if _, err := cached.Store(t.Context(), []vaglio.Event{event()}); err != nil {
				t.Fatal(err)
			}
		case 2:
			r := cached.request(fmt.Sprint("r", step), func(r *vaglio.Request) {
				r.Entities = vaglio.FieldsOf("customer", pick("c", 4), "device", pick("d", 3), "payment", pick("p", 6))
				r.Amount = 1 + random.Int64N(500)
			})
			cached.decides(r)
		default:
			slow.Wait()
			r := cached.request(fmt.Sprint("ask", step), func(r *vaglio.Request) {
				r.Entities = vaglio.FieldsOf("customer", pick("c", 4), "payment", pick("p", 6))
			})
			var got string
			cached.waitFor("an answer from memory", func() bool { // on a machine that stands still for two seconds it may lag again
				cached.catchUp()
				got = essence(t, cached.Engine, r)
				return !strings.Contains(got, "history_stale")
			})
			if want := essence(t, fresh, r); got != want {
				t.Fatalf("step %d: from memory\n%s\nread afresh\n%s", step, got, want)
			}
		}
	}
	if s := cached.MemoryStats(); s.Hits == 0 || s.Misses == 0 {
		t.Errorf("the memory was not tried: %+v", s)
	}
}

func TestWhatWeStoreOurselvesCountsAtOnce(t *testing.T) {
	s := remembering(t, 1<<20)
	ask := func(name string) float64 {
		d, _ := s.decides(s.request(name))
		_, values := s.explained(d.ID)
		return values["customer_login_failed_24h"]
	}
	expect(t, "failed logins before", ask("before"), 0)
	if _, err := s.Store(t.Context(), []vaglio.Event{s.happened("failed", "login_failed", t0-vaglio.Minute, func(e *vaglio.Event) { e.ObservedAt = t0 - vaglio.Minute })}); err != nil {
		t.Fatal(err)
	}
	s.clock.set(t0 + vaglio.Second)
	expect(t, "failed logins after", ask("after"), 1)
}

func TestAMemoryThatLagsIsNotAsked(t *testing.T) {
	far, wire := overWire(t)
	s := newService(t, always, func(o *scoring.Options) { o.Cache, o.History, o.Budget = 1<<20, far, 200*time.Millisecond })
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { _ = s.Follow(ctx) })
	t.Cleanup(func() { cancel(); following.Wait() })
	s.waitFor("the memory to follow", func() bool { _, current := s.Lag(); return current })
	n := 0
	s.waitFor("a decision without a warning", func() bool {
		n++
		d, _ := s.decides(s.request(fmt.Sprint("warm", n)))
		return len(d.Warnings) == 0
	})
	wire.stalled.Store(true)
	s.waitFor("the lag", func() bool { _, current := s.Lag(); return !current })
	d, _ := s.decides(s.request("stale"))
	isDegraded(t, d, scoring.DegradedHistory)
	if len(d.Warnings) != 1 || d.Warnings[0] != "history_stale" {
		t.Errorf("warnings %v", d.Warnings)
	}
	wire.stalled.Store(false)
	s.waitFor("the memory to follow again", func() bool { _, current := s.Lag(); return current })
}
