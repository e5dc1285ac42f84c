package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/gofrs/flock"

	"vaglio"
)

// fileTurn is a lock on a file beside SQLite's: the system gives it back when the process ends. SQLite has one writer, so
// numbers are committed in their order: one of them tells how far a topic was delivered.
type fileTurn struct {
	*Ledger
	topic     Topic
	lock      *flock.Flock
	delivered int64 // all up to here, as it is stored
	seen      int64 // none between delivered and here
}

func takeFile(ctx context.Context, l *Ledger, topic Topic) (turn, error) {
	var path string
	if err := l.read.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		return nil, fmt.Errorf("find the ledger's file: %w", err)
	}
	lock := flock.New(path+".relay-"+string(topic)+".lock", flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil || !got {
		return nil, errors.Join(err, lock.Close())
	}
	t := &fileTurn{Ledger: l, topic: topic, lock: lock}
	var at vaglio.Instant
	err = l.read.QueryRowContext(ctx, deliveredSQL, string(topic)).Scan(&t.delivered, &at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) { // none: the topic was never used
		return nil, errors.Join(fmt.Errorf("find what was delivered: %w", err), lock.Close())
	}
	t.seen = t.delivered
	if topic.lingers() {
		l.lingering.add(delivery{t.delivered, at})
	}
	return t, nil
}

func (t *fileTurn) waiting(ctx context.Context) ([]Message, error) {
	var last, indexed int64
	if err := t.sql.look.QueryRowContext(ctx).Scan(&last, &indexed); err != nil || last == t.seen {
		return nil, err
	}
	found, err := readMessages(t.sql.waiting.QueryContext(ctx, string(t.topic), t.seen, last, maxDelivery))
	if err == nil && len(found) == 0 {
		t.seen = last
	}
	return found, err
}

const (
	deliveredSQL = `SELECT delivered, delivered_at FROM outbox_topics WHERE topic = $1`
	waitingSQL   = `SELECT seq, id, customer, body, known_at FROM outbox WHERE topic = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4`
	lingeringSQL = `SELECT delivered, delivered_at, (SELECT COALESCE(MIN(seq) - 1, delivered) FROM outbox) FROM outbox_topics WHERE topic = 'history'`
	markSQL      = `UPDATE outbox_topics SET waiting = waiting - $1, delivered = $2, delivered_at = $3 WHERE topic = $4 AND delivered = $5`
	removeSQL    = `DELETE FROM outbox WHERE topic = $1 AND seq > $2 AND seq <= $3`
	// shortSQL has new facts get no timelines, if the outbox is short again. Those that are there go with their facts.
	shortSQL = `UPDATE outbox_topics SET indexed = 0 WHERE topic = 'history' AND indexed > 0
		AND (SELECT MAX(seq) FROM outbox) - (SELECT MIN(seq) FROM outbox) < $1`
)

func (t *fileTurn) mark(ctx context.Context, messages []Message) error {
	done := delivery{messages[len(messages)-1].Seq, t.now()}
	err := t.transact(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, markSQL, len(messages), done.through, int64(done.at), string(t.topic), t.delivered)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errors.New("another relay has delivered them"))
		}
		if t.topic.lingers() {
			return nil
		}
		_, err = tx.ExecContext(ctx, removeSQL, string(t.topic), t.delivered, done.through)
		return err
	})
	if err != nil {
		return err
	}
	t.delivered, t.seen = done.through, done.through
	if t.topic.lingers() {
		t.lingering.add(done)
	}
	return nil
}

func (t *fileTurn) pass() error { return t.lock.Close() }

// lingering is what the history topic has delivered and decisions still read.
type lingering struct {
	mu    sync.Mutex
	all   []delivery // the oldest first
	swept int64      // nothing is left up to here
}

// delivery says that what is not above a number was delivered by its moment.
type delivery struct {
	through int64
	at      vaglio.Instant
}

func (g *lingering) add(d delivery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, d)
}

// maxSwept bounds the numbers that a transaction sweeps: that holds up decisions.
const maxSwept = 2 * maxDelivery

// sweepThrough deletes facts that have stayed long enough after their delivery, and says how many: not many more than atMost. What
// another process delivers counts when it has not delivered for a while.
func (l *Ledger) sweepThrough(ctx context.Context, atMost int) (n int, err error) {
	g := &l.lingering
	g.mu.Lock()
	defer g.mu.Unlock()
	var last delivery
	var before int64
	if err := l.read.QueryRowContext(ctx, lingeringSQL).Scan(&last.through, &last.at, &before); err != nil {
		return 0, err
	}
	if g.swept = max(g.swept, before); len(g.all) == 0 {
		g.all = append(g.all, last)
	}
	for n < atMost {
		from, to, left := g.swept, g.swept, g.all
		for len(left) > 0 && to < from+maxSwept && left[0].at <= l.now()-vaglio.Instant(lingerSQLite.Milliseconds()) {
			if to = max(to, min(left[0].through, from+maxSwept)); left[0].through <= to {
				left = left[1:]
			}
		}
		if to == from {
			g.all = left
			return n, nil
		}
		err := l.transact(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `DELETE FROM outbox_timelines WHERE seq > $1 AND seq <= $2`, from, to); err != nil {
				return err
			}
			result, err := tx.ExecContext(ctx, removeSQL, string(TopicHistory), from, to)
			if err != nil {
				return err
			}
			removed, err := result.RowsAffected()
			if err != nil {
				return err
			}
			n += int(removed)
			_, err = tx.ExecContext(ctx, shortSQL, maxUnindexed/4)
			return err
		})
		if err != nil {
			return 0, err
		}
		l.recent.swept(from, to)
		g.swept, g.all = to, left
	}
	return n, nil
}
