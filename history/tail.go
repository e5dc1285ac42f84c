package history

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"vaglio"
)

// tailOverlap is how far back each poll looks. An insert becomes visible up to insertTimeout after its moment, behind
// quicker ones; rows seen before are known by their ids.
const tailOverlap = 30 * time.Second

var errTooMuchNews = errors.New("too much is new")

// Tail follows what any writer stores, from the moment of its making on. Facts arrive at least once.
type Tail struct {
	store  *Store
	seen   map[uint64]int64 // hash of id → arrived_at, of the overlap
	polled atomic.Int64     // begin of the last poll that succeeded, UTC nanoseconds of our clock
}

// Tail begins to follow: what is stored from now on will be visited. Note it before anything is read that it is to keep
// up to date.
func (s *Store) Tail(ctx context.Context) (*Tail, error) {
	t := &Tail{store: s, seen: map[uint64]int64{}}
	if _, err := t.poll(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Lag is how long ago the last poll began that saw everything: what was stored before is visited.
func (t *Tail) Lag() time.Duration { return time.Since(time.Unix(0, t.polled.Load())) }

// maxNews is how many new facts a poll hands over; beyond it, reading anew is cheaper.
const maxNews = 20_000

// Follow polls until ctx ends and gives what is new to visit, in no particular order, or calls forget when there is so
// much of it that all that was read should be read anew. A poll that fails is logged once and tried again; meanwhile Lag
// grows.
func (t *Tail) Follow(ctx context.Context, every time.Duration, visit func([]vaglio.Fact), forget func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		facts, err := t.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTooMuchNews):
			forget()
			err = nil
		case err != nil && !failing:
			t.store.log.Error("history can't be followed", "error", err)
		case err == nil && failing:
			t.store.log.Info("history is followed again")
		}
		failing = err != nil
		if len(facts) > 0 {
			visit(facts)
		}
	}
}

// poll returns the facts of the overlap that were not seen before. Ids and moments are read first: most of them are
// known, and they are short.
func (t *Tail) poll(ctx context.Context) ([]vaglio.Fact, error) {
	began := time.Now()
	rows, err := t.store.conn.Query(ctx, `SELECT cityHash64(id), arrived_at FROM arrivals WHERE arrived_at >= toUnixTimestamp64Milli(now64(3)) - ?`,
		tailOverlap.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("follow history: %w", err)
	}
	defer rows.Close()
	current := make(map[uint64]int64, len(t.seen))
	var fresh []uint64
	oldest := int64(0)
	for rows.Next() {
		var id uint64
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return nil, fmt.Errorf("follow history: %w", err)
		}
		current[id] = at
		if _, known := t.seen[id]; !known {
			fresh = append(fresh, id)
			if oldest == 0 || at < oldest {
				oldest = at
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("follow history: %w", err)
	}
	var facts []vaglio.Fact
	switch {
	case t.polled.Load() == 0: // the first poll only marks where to begin
	case len(fresh) > maxNews || t.Lag() > tailOverlap/2: // or rows may have passed unseen
		err = errTooMuchNews
	case len(fresh) > 0:
		if facts, err = t.payloads(ctx, fresh, oldest); err != nil {
			return nil, err
		}
	}
	t.seen = current
	t.polled.Store(began.UnixNano())
	return facts, err
}

func (t *Tail) payloads(ctx context.Context, ids []uint64, since int64) ([]vaglio.Fact, error) {
	rows, err := t.store.conn.Query(ctx, `SELECT payload FROM arrivals WHERE arrived_at >= ? AND cityHash64(id) IN (?)`, since, ids)
	if err != nil {
		return nil, fmt.Errorf("follow history: %w", err)
	}
	defer rows.Close()
	facts := make([]vaglio.Fact, 0, len(ids))
	for rows.Next() {
		var payload []byte
		if err := rows.Scan(&payload); err != nil {
			return nil, fmt.Errorf("follow history: %w", err)
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return nil, fmt.Errorf("follow history: %w", err)
		}
		facts = append(facts, fact)
	}
	return facts, rows.Err()
}
