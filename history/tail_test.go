package history_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"vaglio"
	"vaglio/history"
)

// follower collects the ids that a tail visits.
type follower struct {
	mu  sync.Mutex
	ids map[string]int
}

func follow(t *testing.T, s *history.Store) *follower {
	t.Helper()
	tail, err := s.Tail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{ids: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tail.Follow(ctx, 10*time.Millisecond, func(facts []vaglio.Fact) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, fact := range facts {
				f.ids[fact.ID]++
			}
		}, func() { t.Error("there was not too much news") })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return f
}

// has waits until an id was visited.
func (f *follower) has(t *testing.T, id string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		n := f.ids[id]
		f.mu.Unlock()
		if n == 1 {
			return
		}
	}
	t.Errorf("%s was not visited: %v", id, f.ids)
}

func TestATailSeesWhatOtherWritersStore(t *testing.T) {
	ours, theirs := open(t, "EUR"), open(t, "EUR")
	insert(t, theirs, event("before", "login", t0-3, "customer", "c"))
	f := follow(t, ours)
	insert(t, theirs, event("a", "login", t0-2, "customer", "c"))
	f.has(t, "a")
	insert(t, theirs, event("b", "login", t0-2, "customer", "c"), event("a", "login", t0-2, "customer", "c"))
	f.has(t, "b")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids["before"] != 0 || f.ids["a"] != 1 {
		t.Errorf("visited %v: want each new event once and none from before", f.ids)
	}
}

func TestATailSeesASlowInsertThatBeganBeforeAQuickOne(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s, event("template", "login", t0-2, "customer", "c"))
	f := follow(t, s)
	options, err := clickhouse.ParseDSN(strings.TrimSuffix(dsn, "vaglio") + strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var payload string
	if err := conn.QueryRow(t.Context(), "SELECT payload FROM events WHERE id = 'template'").Scan(&payload); err != nil {
		t.Fatal(err)
	}
	slow, err := conn.PrepareBatch(t.Context(), "INSERT INTO events (id, kind, occurred_at, known_at, precedence, payload)")
	if err != nil {
		t.Fatal(err)
	}
	insert(t, s, event("quick", "login", t0-2, "customer", "c"))
	f.has(t, "quick")
	slowPayload := strings.Replace(payload, "template", "slow_one", 1)
	if err := slow.Append("slow_one", "login", int64(t0-2), int64(t0-1), uint64(1), slowPayload); err != nil {
		t.Fatal(err)
	}
	if err := slow.Send(); err != nil {
		t.Fatal(err)
	}
	f.has(t, "slow_one")
}
