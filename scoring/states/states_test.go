package states_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vaglio"
	"vaglio/features"
	"vaglio/scoring/states"
)

const t0 = vaglio.Instant(1_760_000_000_000)

func customer(n int) vaglio.Entity {
	return vaglio.Entity{Kind: "customer", ID: fmt.Sprint("c", n)}
}

func payment(id string, n int, at vaglio.Instant) vaglio.Fact {
	e := vaglio.Event{ID: id, Kind: "payment", OccurredAt: at, ObservedAt: at, Amount: 100, Currency: "EUR",
		Entities: vaglio.FieldsOf("customer", customer(n).ID, "payment", "p"+id)}
	return vaglio.Fact{Event: e, KnownAt: e.KnownAt(), BaseAmount: 100, BaseKnown: true}
}

// shelf is a history in memory that counts its readings. What it has shown it uses for other things.
type shelf struct {
	mu      sync.Mutex
	facts   []vaglio.Fact
	queries atomic.Int64
	during  func() // called within a reading, after its facts were taken
	err     error
}

func (s *shelf) read(_ context.Context, entities []vaglio.Entity, visit func(vaglio.Entity, []vaglio.Fact)) error {
	s.queries.Add(1)
	s.mu.Lock()
	found := map[vaglio.Entity][]vaglio.Fact{}
	for _, f := range s.facts {
		for _, e := range f.Timelines() {
			for _, wanted := range entities {
				if e == wanted {
					found[e] = append(found[e], f.Clone())
				}
			}
		}
	}
	s.mu.Unlock()
	if s.during != nil {
		s.during()
	}
	for e, facts := range found {
		visit(e, facts)
		for i := range facts {
			clear(facts[i].Entities)
			facts[i] = vaglio.Fact{}
		}
	}
	return s.err
}

func newCache(s *shelf, bytes int64) *states.Cache {
	return states.New(states.Options{Catalogue: features.Default(), Read: s.read, Bytes: bytes})
}

func events(t testing.TB, c *states.Cache, n int, at vaglio.Instant) int {
	t.Helper()
	v, err := c.View(context.Background(), []vaglio.Entity{customer(n)}, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.Timelines()[0].State.Len()
}

func TestATimelineIsReadOnceAndKeptUpToDate(t *testing.T) {
	s := &shelf{facts: []vaglio.Fact{payment("a", 1, t0-2)}}
	c := newCache(s, 1<<20)
	if n := events(t, c, 1, t0); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	news := payment("b", 1, t0)
	c.Add([]vaglio.Fact{news, news})
	if n := events(t, c, 1, t0+vaglio.Hour); n != 2 || s.queries.Load() != 1 {
		t.Errorf("%d events after %d queries, want 2 after 1", n, s.queries.Load())
	}
}

func TestAViewDoesNotChangeAfterwards(t *testing.T) {
	s := &shelf{facts: []vaglio.Fact{payment("a", 1, t0-2)}}
	c := newCache(s, 1<<20)
	v, err := c.View(t.Context(), []vaglio.Entity{customer(1), {Kind: "payment", ID: "pa"}}, t0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		c.Add([]vaglio.Fact{payment(fmt.Sprint("late", i), 1, t0-vaglio.Instant(i)*vaglio.Hour)})
	}
	if n, facts := v.Timelines()[0].State.Len(), v.Timelines()[1].Facts; n != 1 || len(facts) != 1 || facts[0].ID != "a" {
		t.Errorf("the view holds %d events and %v", n, facts)
	} else if facts[0].Entities.Get("payment") != "pa" {
		t.Errorf("the payment's fact has lost its entities: %v", facts[0].Entities)
	}
}

func TestWhatComesInDuringAReadingIsNotMissed(t *testing.T) {
	s := &shelf{}
	c := newCache(s, 1<<20)
	s.during = func() { c.Add([]vaglio.Fact{payment("meanwhile", 1, t0-2)}) }
	if n := events(t, c, 1, t0); n != 1 {
		t.Errorf("%d events, want the one that came in meanwhile", n)
	}
}

func TestWhatWaitsForDeliveryIsInTheView(t *testing.T) {
	c := newCache(&shelf{}, 1<<20)
	v, err := c.View(t.Context(), []vaglio.Entity{customer(1), customer(2)}, t0, []vaglio.Fact{payment("waiting", 2, t0-2)})
	if err != nil || v.Timelines()[0].State.Len() != 0 || v.Timelines()[1].State.Len() != 1 {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAMomentBeforeWhatIsKnownIsRefused(t *testing.T) {
	c := newCache(&shelf{facts: []vaglio.Fact{payment("a", 1, t0)}}, 1<<20)
	if _, err := c.View(t.Context(), []vaglio.Entity{customer(1)}, t0, nil); !errors.Is(err, states.ErrAhead) {
		t.Errorf("got %v", err)
	}
	if n := events(t, c, 1, t0+1); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestAFailedReadingIsTriedAgain(t *testing.T) {
	s := &shelf{err: errors.New("gone")}
	c := newCache(s, 1<<20)
	if _, err := c.View(t.Context(), []vaglio.Entity{customer(1)}, t0, nil); !errors.Is(err, s.err) {
		t.Errorf("got %v", err)
	}
	s.err = nil
	events(t, c, 1, t0)
}

func TestManyColdRequestsShareFewQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		for n := range 64 {
			s.facts = append(s.facts, payment(fmt.Sprint(n), n, t0-2))
		}
		release := make(chan struct{})
		s.during = func() { <-release }
		c := newCache(s, 1<<20)
		var all sync.WaitGroup
		for n := range 64 {
			all.Go(func() {
				if events(t, c, n, t0) != 1 {
					t.Errorf("customer %d has no event", n)
				}
			})
		}
		synctest.Wait() // two queries run, everyone else waits for the next
		close(release)
		all.Wait()
		if q := s.queries.Load(); q > 4 {
			t.Errorf("64 requests took %d queries", q)
		}
	})
}

func TestTheMemoryIsBoundedWhenNewsMakeItGrow(t *testing.T) {
	const limit, customers = 1 << 20, 200
	c := newCache(&shelf{}, limit)
	for n := range customers {
		events(t, c, n, t0)
	}
	for i := range 200 * customers {
		c.Add([]vaglio.Fact{payment(fmt.Sprint(i), i%customers, t0)})
		if st := c.Stats(); i%1000 == 0 && st.Bytes > limit {
			t.Fatalf("after %d events: %+v, want at most %d bytes", i, st, limit)
		}
	}
	if st := c.Stats(); st.Bytes > limit || st.Entries == customers {
		t.Errorf("%+v, want at most %d bytes, and some customers dropped", st, limit)
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	s := &shelf{}
	const limit = 1 << 20
	c := newCache(s, limit)
	for n := range 20_000 {
		events(t, c, n, t0)
	}
	if st := c.Stats(); st.Bytes > limit || st.Entries < 100 {
		t.Errorf("%+v, want at most %d bytes, and some entries", st, limit)
	}
	c.Forget()
	if st := c.Stats(); st.Bytes != 0 || st.Entries != 0 {
		t.Errorf("after forgetting: %+v", st)
	}
}

func BenchmarkWarmView(b *testing.B) {
	s := &shelf{}
	for n := range 200 {
		s.facts = append(s.facts, payment(fmt.Sprint(n), 1, t0-vaglio.Instant(n+2)*vaglio.Hour))
	}
	c := newCache(s, 1<<30)
	events(b, c, 1, t0)
	b.ReportAllocs()
	for b.Loop() {
		events(b, c, 1, t0)
	}
}
