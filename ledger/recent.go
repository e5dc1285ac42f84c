package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"vaglio"
)

// recentSizes are the numbers of entities for which a statement is prepared: a request's, and a batch's.
var recentSizes = []int{8, 64, 512}

// fewFacts is how many rows are read at once. More of them are read by entity and kind, the newest only.
const fewFacts = 512

// recentSQL finds facts by n entities ($2…) known at $1. CROSS JOIN fixes the order on SQLite: entities first, then their
// rows.
func recentSQL(n int) string {
	return `SELECT o.seq, o.body FROM outbox_timelines t CROSS JOIN outbox o WHERE o.seq = t.seq AND t.known_at <= $1 AND t.entity IN (` +
		numbered(2, n) + `) LIMIT ` + strconv.Itoa(fewFacts+1)
}

const (
	nextKindSQL = `SELECT kind FROM outbox_timelines WHERE entity = $1 AND kind > $2 ORDER BY kind LIMIT 1`
	newestSQL   = `SELECT o.seq, o.body FROM outbox_timelines t CROSS JOIN outbox o
		WHERE t.entity = $1 AND t.kind = $2 AND t.known_at <= $3 AND o.seq = t.seq ORDER BY t.occurred_at DESC, t.seq DESC LIMIT $4`
)

// Recent returns the facts that enter any of the timelines, were known at asOf, and that a reader of history may lack: those
// that wait for delivery and those delivered a moment ago. Of each entity and kind it is the newest [vaglio.NewestPerKind];
// each fact comes once, in the order in which they were stored. Ask here first, then history, and tell repetitions by the id.
func (l *Ledger) Recent(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]vaglio.Fact, error) {
	if facts, ok, err := l.recent.of(ctx, l, entities, asOf); err != nil || ok {
		return facts, err
	}
	var rows []factRow
	largest := recentSizes[len(recentSizes)-1]
	for some := range slices.Chunk(entities, largest) {
		size, _ := slices.BinarySearch(recentSizes, len(some))
		args := make([]any, 0, recentSizes[size]+1)
		args = append(args, int64(asOf))
		for _, e := range some {
			args = append(args, []byte(e.String()))
		}
		for len(args) <= recentSizes[size] {
			args = append(args, args[1]) // the same one again finds nothing more
		}
		found, err := readFacts(l.sql.recent[size].QueryContext(ctx, args...))
		if err == nil && len(found) > fewFacts {
			found, err = l.newest(ctx, some, asOf)
		}
		if err != nil {
			return nil, fmt.Errorf("read the outbox of %d entities: %w", len(entities), err)
		}
		rows = append(rows, found...)
	}
	slices.SortFunc(rows, func(a, b factRow) int { return cmp.Compare(a.seq, b.seq) })
	rows = slices.CompactFunc(rows, func(a, b factRow) bool { return a.seq == b.seq })
	facts := make([]vaglio.Fact, len(rows))
	for i := range rows {
		facts[i] = rows[i].fact
	}
	return facts, nil
}

// newest reads entity by entity and kind by kind, so that a busy entity costs no more than what counts of it.
func (l *Ledger) newest(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]factRow, error) {
	var all []factRow
	for _, e := range entities {
		entity, kind := []byte(e.String()), []byte{}
		for {
			err := l.sql.nextKind.QueryRowContext(ctx, entity, kind).Scan(&kind)
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			if err != nil {
				return nil, err
			}
			found, err := readFacts(l.sql.newest.QueryContext(ctx, entity, kind, int64(asOf), vaglio.NewestPerKind))
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

type factRow struct {
	seq  int64
	fact vaglio.Fact
}

// readFacts reads the result of a query for seq and body.
func readFacts(rows *sql.Rows, err error) ([]factRow, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []factRow
	for rows.Next() {
		var r factRow
		var body sql.RawBytes
		if err := rows.Scan(&r.seq, &body); err != nil {
			return nil, err
		}
		if r.fact, err = decodeFact(body); err != nil {
			return nil, fmt.Errorf("message %d: %w", r.seq, err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Bounds of the facts that are kept in memory: with more of them decisions read the table, once all timelines are there.
const (
	maxMirrored  = 65_536
	mostMirrored = 4 * maxMirrored // while timelines are being caught up with, and of rows that another process has deleted
)

// mirror holds the facts of SQLite's outbox in memory, so that a decision reads no table for them. It has every row up to the
// number through; what another process has added shows in the table's last number, which each reader has looked up after it
// began, many readers by one query. A row that another process has deleted stays longer: a reader tells it by its id.
type mirror struct {
	looks rounds

	mu       sync.RWMutex
	whole    bool  // all of it is here; otherwise nothing is
	indexed  bool  // when looked at last, the table had the timelines of all
	sweeps   int   // so many there were
	through  int64 // outbox rows with higher numbers are not here
	rows     map[int64]*mirrored
	byEntity map[vaglio.Entity][]timeline // one of each kind
}

type mirrored struct {
	factRow
	entities []vaglio.Entity
}

// timeline is what the mirror has of one entity and kind, by (occurred_at, seq).
type timeline struct {
	kind string
	rows []*mirrored
}

const (
	lookSQL = `SELECT (SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'), indexed
		FROM outbox_topics WHERE topic = 'history'`
	factsAfterSQL = `SELECT seq, body FROM outbox WHERE topic = 'history' AND seq > $1 AND seq <= $2 ORDER BY seq`
)

// of answers like [Ledger.Recent], facts shared: read only. It is false when the table is to be asked, which then has the
// timelines of all facts that were stored before the call.
func (m *mirror) of(ctx context.Context, l *Ledger, entities []vaglio.Entity, asOf vaglio.Instant) (facts []vaglio.Fact, ok bool, err error) {
	if l.replicated {
		return nil, false, nil
	}
	for {
		if err := m.looks.join(ctx, func() error { return m.look(l) }); err != nil {
			return nil, false, fmt.Errorf("look at the outbox: %w", err)
		}
		m.mu.RLock()
		if m.whole || m.indexed {
			break
		}
		m.mu.RUnlock() // it was dropped since: another look reads it again
	}
	defer m.mu.RUnlock()
	if !m.whole {
		return nil, false, nil
	}
	var found []*mirrored
	for _, e := range entities {
		for _, tl := range m.byEntity[e] {
			found = tl.newest(found, asOf)
		}
	}
	slices.SortFunc(found, func(a, b *mirrored) int { return cmp.Compare(a.seq, b.seq) })
	found = slices.Compact(found)
	facts = make([]vaglio.Fact, len(found))
	for i, row := range found {
		facts[i] = row.fact
	}
	return facts, true, nil
}

// newest appends the newest rows that were known at asOf.
func (tl *timeline) newest(found []*mirrored, asOf vaglio.Instant) []*mirrored {
	n := 0
	for i := len(tl.rows) - 1; i >= 0 && n < vaglio.NewestPerKind; i-- {
		if tl.rows[i].fact.KnownAt <= asOf {
			found = append(found, tl.rows[i])
			n++
		}
	}
	return found
}

// look brings the mirror up to what is committed now. One runs at a time.
func (m *mirror) look(l *Ledger) error {
	ctx := context.Background() // it is for many
	m.mu.RLock()
	whole, through, sweeps := m.whole, m.through, m.sweeps
	m.mu.RUnlock()
	var last, indexed int64
	if err := l.sql.look.QueryRowContext(ctx).Scan(&last, &indexed); err != nil {
		return err
	}
	var found []factRow
	read := !whole && indexed != allIndexed || whole && last > through
	if read {
		if !whole {
			through = 0
		}
		var err error
		if found, err = readFacts(l.read.QueryContext(ctx, factsAfterSQL, through, last)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.indexed = indexed == allIndexed
	switch {
	case !read, m.whole != whole:
		return nil // nothing is new, or it became too large, or was cleared
	case !whole && m.sweeps != sweeps:
		return nil // what was found may be gone: another look begins anew
	case !whole:
		m.whole, m.rows, m.byEntity = true, map[int64]*mirrored{}, map[vaglio.Entity][]timeline{}
	}
	for i := range found {
		m.add(found[i])
	}
	m.through = max(m.through, last)
	return nil
}

// add needs the lock.
func (m *mirror) add(row factRow) {
	if m.rows[row.seq] != nil {
		return
	}
	kept := &mirrored{row, row.fact.Timelines()}
	kept.fact.Entities, kept.fact.Attributes = slices.Clip(kept.fact.Entities), slices.Clip(kept.fact.Attributes)
	m.rows[row.seq] = kept
	for _, e := range kept.entities {
		all := m.byEntity[e]
		i := slices.IndexFunc(all, func(tl timeline) bool { return tl.kind == kept.fact.Kind })
		if i < 0 {
			i, all = len(all), append(all, timeline{kind: kept.fact.Kind})
			m.byEntity[e] = all
		}
		at, _ := slices.BinarySearchFunc(all[i].rows, kept, func(a, b *mirrored) int {
			return cmp.Or(cmp.Compare(a.fact.OccurredAt, b.fact.OccurredAt), cmp.Compare(a.seq, b.seq))
		})
		all[i].rows = slices.Insert(all[i].rows, at, kept)
	}
}

// drop needs the lock.
func (m *mirror) drop() { m.whole, m.through, m.rows, m.byEntity = false, 0, nil, nil }

// committed takes what a transaction of this process has added, before anybody is told.
func (m *mirror) committed(added []outgoing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(added) == 0 || !m.whole {
		return
	}
	if len(m.rows) >= mostMirrored || m.indexed && len(m.rows) >= maxMirrored {
		m.drop()
		return
	}
	for i := range added {
		if o := &added[i]; o.topic == TopicHistory && o.Seq > m.through {
			m.add(factRow{o.Seq, *o.fact})
		}
	}
	if added[0].Seq == m.through+1 { // one transaction's numbers have no gaps: SQLite has one writer
		m.through = added[len(added)-1].Seq
	}
}

// swept takes away what was deleted from the table: the numbers above from, up to to.
func (m *mirror) swept(from, to int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeps++
	touched := map[vaglio.Entity]bool{}
	for seq := from + 1; seq <= to; seq++ {
		if row := m.rows[seq]; row != nil {
			delete(m.rows, seq)
			for _, e := range row.entities {
				touched[e] = true
			}
		}
	}
	for e := range touched {
		all := m.byEntity[e]
		for i := range all {
			all[i].rows = slices.DeleteFunc(all[i].rows, func(row *mirrored) bool { return m.rows[row.seq] != row })
		}
		if all = slices.DeleteFunc(all, func(tl timeline) bool { return len(tl.rows) == 0 }); len(all) == 0 {
			delete(m.byEntity, e)
		} else {
			m.byEntity[e] = all
		}
	}
}

// forget has all of it read again: rows were rewritten.
func (m *mirror) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeps++
	m.drop()
}

// rounds let many callers share the runs of a function: each gets one that began after it had come. The zero value is ready.
type rounds struct {
	mu      sync.Mutex
	running bool
	next    *round // that has not begun
}

type round struct {
	lead chan struct{} // holds one token when it may begin: whoever of its callers takes it runs for all
	over chan struct{}
	err  error
}

// join waits for a run, or for ctx. f must be the same for all.
func (r *rounds) join(ctx context.Context, f func() error) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{lead: make(chan struct{}, 1), over: make(chan struct{})}
		if !r.running {
			r.running = true
			r.next.lead <- struct{}{}
		}
	}
	mine := r.next
	r.mu.Unlock()
	select {
	case <-mine.over:
		return mine.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-mine.lead:
	}
	r.mu.Lock()
	r.next = nil
	r.mu.Unlock()
	mine.err = f()
	close(mine.over)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running = r.next != nil; r.running {
		r.next.lead <- struct{}{}
	}
	return mine.err
}
