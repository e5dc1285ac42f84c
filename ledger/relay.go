package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"vaglio"
)

// A batch of the relay, and the part of it that one transaction marks or deletes: that holds up decisions on SQLite.
const (
	maxDelivery = 1000
	maxMarked   = 100
)

// maxBackoff bounds the pause between two attempts to deliver.
const maxBackoff = 5 * time.Second

// Relay delivers the facts of the outbox to history; see [Ledger.RelayMessages].
func (l *Ledger) Relay(ctx context.Context, every time.Duration, deliver func(context.Context, []vaglio.Fact) error) error {
	return relayDecoded(ctx, l, TopicHistory, every, decodeFact, deliver)
}

// RelayDecisions delivers the decisions of the outbox to analytics; see [Ledger.RelayMessages].
func (l *Ledger) RelayDecisions(ctx context.Context, every time.Duration, deliver func(context.Context, []vaglio.Taken) error) error {
	return relayDecoded(ctx, l, TopicDecisions, every, decodeTaken, deliver)
}

func relayDecoded[T any](ctx context.Context, l *Ledger, topic Topic, every time.Duration, decode func([]byte) (T, error),
	deliver func(context.Context, []T) error) error {
	return l.RelayMessages(ctx, topic, every, func(ctx context.Context, messages []Message) error {
		all := make([]T, len(messages))
		for i, m := range messages {
			var err error
			if all[i], err = decode(m.Body); err != nil {
				return fmt.Errorf("message %d: %w", m.Seq, err)
			}
		}
		return deliver(ctx, all)
	})
}

// RelayMessages delivers a topic in order, at most 1,000 messages a call, until ctx ends (nil) or the ledger is closed
// (ErrClosed). Of all relays of a topic, in all processes, one delivers at a time; when it dies, another takes over within
// every. New messages of this process are delivered at once after a quiet time; while busy, and for messages of other
// processes, there is one delivery per every, unless a full batch waits. A message no longer waits once deliver returned nil
// and that was written down, so that a crash in between delivers it again: deliver must bear that, and must not answer an
// error for a message that it will never take. Errors are retried after 100 ms, doubled up to 5 s, and logged when they
// begin and end.
func (l *Ledger) RelayMessages(ctx context.Context, topic Topic, every time.Duration, deliver func(context.Context, []Message) error) error {
	const firstBackoff = 100 * time.Millisecond
	var backoff time.Duration // 0: the last delivery worked
	bell := l.bells.of(topic)
	r := relay{Ledger: l, topic: topic}
	defer func() {
		if err := r.pass(); err != nil {
			l.log.Error("the turn to deliver could not be passed on", "topic", topic, "error", err)
		}
	}()
	for {
		n, err := r.round(ctx, deliver)
		pause, wake := every, bell
		switch {
		case ctx.Err() != nil:
			return nil
		case l.isClosed():
			return ErrClosed
		case err != nil:
			if backoff == 0 {
				l.log.Error("delivery stopped", "topic", topic, "error", err)
			}
			backoff = min(max(2*backoff, firstBackoff), maxBackoff)
			pause, wake = backoff, nil
		case backoff > 0:
			l.log.Info("delivery works again", "topic", topic)
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
			timer.Stop()
			return ErrClosed
		}
		timer.Stop()
	}
}

// relay is one topic's relay of this process.
type relay struct {
	*Ledger
	topic Topic
	turn  turn // nil: another one may have it
}

// turn is the right to deliver a topic. It ends with its process.
type turn interface {
	// query reads, and fails when the turn was lost.
	query(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	pass() error
}

// round delivers one batch, if it is this relay's turn, and says how large it was.
func (r *relay) round(ctx context.Context, deliver func(context.Context, []Message) error) (n int, err error) {
	if r.turn == nil {
		if r.turn, err = r.take(ctx); err != nil || r.turn == nil {
			return 0, err
		}
	}
	messages, err := readMessages(r.turn.query(ctx, `SELECT seq, id, customer, body, known_at FROM outbox
		WHERE topic = $1 AND delivered_at = 0 ORDER BY seq LIMIT $2`, string(r.topic), maxDelivery))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("read the outbox: %w", err), r.pass())
	}
	if len(messages) > 0 {
		if err := deliver(ctx, messages); err != nil {
			return 0, fmt.Errorf("deliver %d messages: %w", len(messages), err)
		}
	}
	ctx = context.WithoutCancel(ctx)
	for some := range slices.Chunk(messages, maxMarked) {
		if err := r.transact(ctx, func(tx *sql.Tx) error { return r.mark(ctx, tx, some) }); err != nil {
			return 0, fmt.Errorf("note that %d messages are delivered: %w", len(some), err)
		}
	}
	if r.topic.lingers() {
		if _, err := r.sweepDelivered(ctx, len(messages)+maxMarked); err != nil {
			return 0, fmt.Errorf("take what was delivered from the outbox: %w", err)
		}
	}
	return len(messages), nil
}

// pass lets others have the turn.
func (r *relay) pass() (err error) {
	if r.turn != nil {
		err, r.turn = r.turn.pass(), nil
	}
	return err
}

// mark notes that messages wait no longer. Those that another relay has marked meanwhile are not counted again.
func (r *relay) mark(ctx context.Context, tx *sql.Tx, messages []Message) error {
	args := make([]any, len(messages), len(messages)+1)
	for i, m := range messages {
		args[i] = m.Seq
	}
	text := `DELETE FROM outbox WHERE delivered_at = 0 AND seq IN (` + numbered(1, len(args)) + `)`
	if r.topic.lingers() {
		args = append(args, int64(r.now()))
		text = `UPDATE outbox SET delivered_at = $` + fmt.Sprint(len(args)) + ` WHERE delivered_at = 0 AND seq IN (` + numbered(1, len(args)-1) + `)`
	}
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox_topics SET waiting = waiting - $1 WHERE topic = $2`, n, string(r.topic))
	return err
}

// shortSQL has new facts get no timelines, if the outbox is short again. Those that are there go with their facts.
const shortSQL = `UPDATE outbox_topics SET indexed = 0 WHERE topic = 'history' AND indexed > 0
	AND (SELECT MAX(seq) FROM outbox) - (SELECT MIN(seq) FROM outbox) < $1`

// sweepDelivered deletes rows that have stayed long enough after their delivery, and says how many.
func (l *Ledger) sweepDelivered(ctx context.Context, atMost int) (int, error) {
	seqs, err := readNumbers(l.read.QueryContext(ctx, `SELECT seq FROM outbox WHERE delivered_at > 0 AND delivered_at <= $1
		ORDER BY delivered_at LIMIT $2`, int64(l.now()-l.linger()), atMost))
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(seqs, maxMarked) {
		args := make([]any, len(some))
		for i, seq := range some {
			args[i] = seq
		}
		err := l.transact(ctx, func(tx *sql.Tx) error {
			for _, table := range []string{"outbox_timelines", "outbox"} {
				if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE seq IN (`+numbered(1, len(args))+`)`, args...); err != nil {
					return err
				}
			}
			if l.replicated {
				return nil
			}
			_, err := tx.ExecContext(ctx, shortSQL, maxUnindexed/4)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	l.recent.swept(seqs)
	return len(seqs), nil
}

// take is nil while another relay has the turn.
func (r *relay) take(ctx context.Context) (turn, error) {
	if r.replicated {
		return takeAdvisory(ctx, r.read, lockKey("vaglio: relay of "+string(r.topic)))
	}
	return takeFile(ctx, r.read, r.topic)
}

// fileTurn is a lock on a file beside SQLite's: the system gives it back when the process ends.
type fileTurn struct {
	lock *flock.Flock
	read *sql.DB
}

func takeFile(ctx context.Context, read *sql.DB, topic Topic) (turn, error) {
	var path string
	if err := read.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		return nil, fmt.Errorf("find the ledger's file: %w", err)
	}
	lock := flock.New(path+".relay-"+string(topic)+".lock", flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil || !got {
		return nil, errors.Join(err, lock.Close())
	}
	return &fileTurn{lock, read}, nil
}

func (t *fileTurn) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return t.read.QueryContext(ctx, text, args...)
}

func (t *fileTurn) pass() error { return t.lock.Close() }

// advisoryTurn is an advisory lock of a connection that is kept for it: the server gives it back when the connection ends.
type advisoryTurn struct {
	conn *sql.Conn
	key  int64
}

func takeAdvisory(ctx context.Context, db *sql.DB, key int64) (turn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var got bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || !got {
		return nil, errors.Join(err, conn.Close())
	}
	return &advisoryTurn{conn, key}, nil
}

func (t *advisoryTurn) query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return t.conn.QueryContext(ctx, text, args...)
}

// pass ends the connection if it can't give the lock back: in the pool it would keep it.
func (t *advisoryTurn) pass() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var given bool
	if err := t.conn.QueryRowContext(ctx, `SELECT pg_advisory_unlock($1)`, t.key).Scan(&given); err != nil || !given {
		_ = t.conn.Raw(func(any) error { return driver.ErrBadConn }) // is what Raw returns
	}
	if err := t.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}

// readMessages reads the result of a query for all columns of a message.
func readMessages(rows *sql.Rows, err error) ([]Message, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Message
	for rows.Next() {
		var m Message
		var id, customer []byte
		if err := rows.Scan(&m.Seq, &id, &customer, &m.Body, &m.KnownAt); err != nil {
			return nil, err
		}
		m.ID, m.Customer = string(id), string(customer)
		all = append(all, m)
	}
	return all, rows.Err()
}

// readNumbers reads a column of numbers, sorted.
func readNumbers(rows *sql.Rows, err error) ([]int64, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return all, rows.Err()
}
