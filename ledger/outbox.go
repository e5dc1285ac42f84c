package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// A batch of the relay, and the part of it that one transaction deletes: deleting holds up decisions.
const (
	maxDelivery = 1000
	maxDelete   = 100
)

// factRow is a fact in the outbox. It has its own form, in plain milliseconds, because the wire form of an event leaves
// out what history adds and refuses what a request's event may carry.
type factRow struct {
	ID         string        `json:"id"`
	Kind       string        `json:"kind"`
	OccurredAt int64         `json:"occurred_at"`
	ObservedAt int64         `json:"observed_at"`
	Entities   vaglio.Fields `json:"entities,omitempty"`
	Attributes vaglio.Fields `json:"attributes,omitempty"`
	Amount     int64         `json:"amount"`
	Currency   string        `json:"currency"`
	KnownAt    int64         `json:"known_at"`
	BaseAmount int64         `json:"base_amount"`
	BaseKnown  bool          `json:"base_known"`
}

func encodeFact(f vaglio.Fact) ([]byte, error) {
	return json.Marshal(&factRow{ID: f.ID, Kind: f.Kind, OccurredAt: int64(f.OccurredAt), ObservedAt: int64(f.ObservedAt),
		Entities: f.Entities, Attributes: f.Attributes, Amount: f.Amount, Currency: f.Currency, KnownAt: int64(f.KnownAt),
		BaseAmount: f.BaseAmount, BaseKnown: f.BaseKnown})
}

func decodeFact(b []byte) (vaglio.Fact, error) {
	var r factRow
	if err := json.Unmarshal(b, &r); err != nil {
		return vaglio.Fact{}, err
	}
	return vaglio.Fact{
		Event: vaglio.Event{ID: r.ID, Kind: r.Kind, OccurredAt: vaglio.Instant(r.OccurredAt), ObservedAt: vaglio.Instant(r.ObservedAt),
			Entities: r.Entities, Attributes: r.Attributes, Amount: r.Amount, Currency: r.Currency},
		KnownAt: vaglio.Instant(r.KnownAt), BaseAmount: r.BaseAmount, BaseKnown: r.BaseKnown,
	}, nil
}

const (
	insertFactSQL     = `INSERT INTO outbox (known_at, fact) VALUES ($1, $2) RETURNING seq`
	insertTimelineSQL = `INSERT INTO outbox_timelines (entity, seq) VALUES ($1, $2)`
	deleteFactSQL     = `DELETE FROM outbox WHERE seq = $1`
	deleteTimelineSQL = `DELETE FROM outbox_timelines WHERE entity = $1 AND seq = $2`
)

// insertFact puts a fact at the end of the outbox.
func (g *group) insertFact(f vaglio.Fact) error {
	text, err := encodeFact(f)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", f.ID, err)
	}
	var seq int64
	if err := g.sql.insertFact.QueryRowContext(g.ctx, int64(f.KnownAt), text).Scan(&seq); err != nil {
		return fmt.Errorf("put event %s into the outbox: %w", f.ID, err)
	}
	for _, entity := range f.Timelines() {
		if _, err := g.sql.insertTimeline.ExecContext(g.ctx, entity.String(), seq); err != nil {
			return fmt.Errorf("put event %s into the outbox of %s: %w", f.ID, entity.Kind, err)
		}
	}
	return nil
}

// backlogSQL measures the outbox by its ends: rows leave in order and their numbers have no gaps, and counting 100,000
// rows would cost every group milliseconds. Two subqueries, since SQLite walks the whole table for a min and a max in one.
const backlogSQL = `SELECT COALESCE((SELECT MAX(seq) FROM outbox) - (SELECT MIN(seq) FROM outbox) + 1, 0)`

// Backlog is the number of events that history has not confirmed yet.
func (l *Ledger) Backlog(ctx context.Context) (int, error) {
	var n int
	if err := l.read.QueryRowContext(ctx, backlogSQL).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the outbox: %w", err)
	}
	return n, nil
}

// undeliveredSizes are the numbers of entities for which a statement is prepared: a request's, and a batch's.
var undeliveredSizes = []int{8, 64, 512}

// undeliveredSQL finds facts by n entities ($2…) known at $1. CROSS JOIN fixes the order: entities first, then their rows.
func undeliveredSQL(n int) string {
	var b strings.Builder
	b.WriteString(`SELECT o.seq, o.fact FROM outbox_timelines t CROSS JOIN outbox o
		WHERE o.seq = t.seq AND o.known_at <= $1 AND t.entity IN ($2`)
	for i := 3; i < n+2; i++ {
		b.WriteString(", $" + strconv.Itoa(i))
	}
	return b.String() + ")"
}

// Undelivered returns the facts of the outbox that enter any of the timelines and were known at asOf, each once, in the
// order in which they were stored. What history has confirmed is no longer among them: ask here first, then history.
func (l *Ledger) Undelivered(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]vaglio.Fact, error) {
	var rows []outboxRow
	largest := undeliveredSizes[len(undeliveredSizes)-1]
	for some := range slices.Chunk(entities, largest) {
		size, _ := slices.BinarySearch(undeliveredSizes, len(some))
		args := make([]any, 0, undeliveredSizes[size]+1)
		args = append(args, int64(asOf))
		for _, e := range some {
			args = append(args, e.String())
		}
		for len(args) <= undeliveredSizes[size] {
			args = append(args, args[1]) // the same one again finds nothing more
		}
		found, err := readOutbox(l.sql.undelivered[size].QueryContext(ctx, args...))
		if err != nil {
			return nil, fmt.Errorf("read the outbox of %d entities: %w", len(entities), err)
		}
		rows = append(rows, found...)
	}
	slices.SortFunc(rows, func(a, b outboxRow) int { return cmp.Compare(a.seq, b.seq) })
	rows = slices.CompactFunc(rows, func(a, b outboxRow) bool { return a.seq == b.seq })
	return facts(rows), nil
}

type outboxRow struct {
	seq  int64
	fact vaglio.Fact
}

// readOutbox reads the result of a query for seq and fact.
func readOutbox(rows *sql.Rows, err error) ([]outboxRow, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []outboxRow
	for rows.Next() {
		var r outboxRow
		var text []byte
		if err := rows.Scan(&r.seq, &text); err != nil {
			return nil, err
		}
		if r.fact, err = decodeFact(text); err != nil {
			return nil, fmt.Errorf("row %d: %w", r.seq, err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func facts(rows []outboxRow) []vaglio.Fact {
	out := make([]vaglio.Fact, len(rows))
	for i := range rows {
		out[i] = rows[i].fact
	}
	return out
}

// maxBackoff bounds the pause between two attempts to deliver.
const maxBackoff = 5 * time.Second

// Relay delivers the outbox in order, at most 1,000 facts a call, until ctx ends (nil) or the ledger is closed
// (ErrClosed). New facts of this process are delivered at once after a quiet time; while busy, and for facts of other
// processes, there is one delivery per every, unless a full batch waits. Facts leave the outbox only after deliver
// returned nil, so that a crash in between delivers them again: deliver must bear that, and must not answer an error for
// a fact that it will never take. Errors are retried after 100 ms, doubled up to 5 s, and logged when they begin and end.
func (l *Ledger) Relay(ctx context.Context, every time.Duration, deliver func(context.Context, []vaglio.Fact) error) error {
	const firstBackoff = 100 * time.Millisecond
	var backoff time.Duration // 0: the last delivery worked
	for {
		n, err := l.relayOnce(ctx, deliver)
		pause, wake := every, l.wake
		switch {
		case ctx.Err() != nil:
			return nil
		case l.isClosed():
			return ErrClosed
		case err != nil:
			if backoff == 0 {
				l.log.Error("delivery to history stopped", "error", err)
			}
			backoff = min(max(2*backoff, firstBackoff), maxBackoff)
			pause, wake = backoff, nil
		case backoff > 0:
			l.log.Info("delivery to history works again")
			backoff = 0
			continue
		case n == maxDelivery:
			continue
		case n > 0:
			wake = nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
		case <-l.closed:
			return ErrClosed
		}
		timer.Stop()
	}
}

// relayOnce delivers one batch and says how large it was.
func (l *Ledger) relayOnce(ctx context.Context, deliver func(context.Context, []vaglio.Fact) error) (int, error) {
	rows, err := readOutbox(l.read.QueryContext(ctx, `SELECT seq, fact FROM outbox ORDER BY seq LIMIT $1`, maxDelivery))
	if err != nil {
		return 0, fmt.Errorf("read the outbox: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	if err := deliver(ctx, facts(rows)); err != nil {
		return 0, fmt.Errorf("deliver %d events: %w", len(rows), err)
	}
	for some := range slices.Chunk(rows, maxDelete) {
		if err := l.forget(context.WithoutCancel(ctx), some); err != nil {
			return 0, fmt.Errorf("take %d delivered events from the outbox: %w", len(some), err)
		}
	}
	return len(rows), nil
}

// forget deletes delivered rows.
func (l *Ledger) forget(ctx context.Context, rows []outboxRow) error {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()                                         // after Commit it does nothing
	deleteFact := tx.StmtContext(ctx, l.sql.deleteFact)         //nolint:sqlclosecheck // ends with its transaction
	deleteTimeline := tx.StmtContext(ctx, l.sql.deleteTimeline) //nolint:sqlclosecheck // likewise
	for _, r := range rows {
		if _, err := deleteFact.ExecContext(ctx, r.seq); err != nil {
			return err
		}
		for _, entity := range r.fact.Timelines() {
			if _, err := deleteTimeline.ExecContext(ctx, entity.String(), r.seq); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// wakeRelay tells the relay that there is something to deliver.
func (l *Ledger) wakeRelay() {
	select {
	case l.wake <- struct{}{}:
	default: // it knows already
	}
}
