package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	spans  map[int64]span // of the overlap, by second
	polled atomic.Int64   // begin of the last poll that succeeded, UTC nanoseconds of our clock
}

// span is what arrived within a second: a count and sum of hashes tell cheaply whether there is more of it.
type span struct {
	count, sum uint64
	seen       map[uint64]struct{} // hashes of ids
}

// Tail begins to follow: what is stored from now on will be visited. Note it before anything is read that it is to keep
// up to date.
func (s *Store) Tail(ctx context.Context) (*Tail, error) {
	t := &Tail{store: s, spans: map[int64]span{}}
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
		facts, err := t.pollWithin(ctx, pollTimeout)
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

// pollTimeout ends a poll on a connection that says nothing any more; the next one takes another.
const pollTimeout = 5 * time.Second

func (t *Tail) pollWithin(ctx context.Context, timeout time.Duration) ([]vaglio.Fact, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return t.poll(ctx)
}

// poll returns the facts of the overlap that were not seen before. Only of the seconds in which something is new the ids are
// read, and only of the new ids the facts.
func (t *Tail) poll(ctx context.Context) ([]vaglio.Fact, error) {
	began := time.Now()
	current, changed, err := t.changes(ctx)
	if err != nil {
		return nil, err
	}
	fresh, err := t.freshIDs(ctx, current, changed)
	if err != nil {
		return nil, err
	}
	var facts []vaglio.Fact
	switch {
	case t.polled.Load() == 0: // the first poll only marks where to begin
	case len(fresh) > maxNews || t.Lag() > tailOverlap/2: // or rows may have passed unseen
		err = errTooMuchNews
	case len(fresh) > 0:
		if facts, err = t.payloads(ctx, fresh, slices.Min(changed)*1000); err != nil {
			return nil, err
		}
	}
	t.spans = current
	t.polled.Store(began.UnixNano())
	return facts, err
}

// changes lists the overlap's seconds, and those of them in which more has arrived than was seen.
func (t *Tail) changes(ctx context.Context) (current map[int64]span, changed []int64, err error) {
	rows, err := t.store.conn.Query(ctx, `
		SELECT intDiv(arrived_at, 1000) AS second, count(), sum(cityHash64(id)) FROM arrivals
		WHERE arrived_at >= intDiv(toUnixTimestamp64Milli(now64(3)) - ?, 1000) * 1000 GROUP BY second`, tailOverlap.Milliseconds())
	if err != nil {
		return nil, nil, fmt.Errorf("follow history: %w", err)
	}
	defer rows.Close()
	current = make(map[int64]span, len(t.spans))
	for rows.Next() {
		var second int64
		var now span
		if err := rows.Scan(&second, &now.count, &now.sum); err != nil {
			return nil, nil, fmt.Errorf("follow history: %w", err)
		}
		before := t.spans[second]
		now.seen = before.seen
		current[second] = now
		if now.count != before.count || now.sum != before.sum {
			changed = append(changed, second)
		}
	}
	return current, changed, rows.Err()
}

// freshIDs are the hashes of the ids in the changed seconds that were not seen; now they are.
func (t *Tail) freshIDs(ctx context.Context, current map[int64]span, changed []int64) ([]uint64, error) {
	if len(changed) == 0 {
		return nil, nil
	}
	rows, err := t.store.conn.Query(ctx, `
		SELECT intDiv(arrived_at, 1000) AS second, cityHash64(id) FROM arrivals
		WHERE arrived_at >= ? AND intDiv(arrived_at, 1000) IN (?)`, slices.Min(changed)*1000, changed)
	if err != nil {
		return nil, fmt.Errorf("follow history: %w", err)
	}
	defer rows.Close()
	var fresh []uint64
	counted := map[int64]span{}
	for rows.Next() {
		var second int64
		var id uint64
		if err := rows.Scan(&second, &id); err != nil {
			return nil, fmt.Errorf("follow history: %w", err)
		}
		s, begun := counted[second]
		if !begun {
			s.seen = maps.Clone(t.spans[second].seen)
			if s.seen == nil {
				s.seen = map[uint64]struct{}{}
			}
		}
		s.count++
		s.sum += id
		if _, known := s.seen[id]; !known {
			s.seen[id] = struct{}{}
			fresh = append(fresh, id)
		}
		counted[second] = s
	}
	maps.Copy(current, counted)
	return fresh, rows.Err()
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
