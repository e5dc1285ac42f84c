package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strconv"
	"time"
)

// advisoryTurn is an advisory lock of a connection that is kept for it: the server gives it back when the connection ends. Other
// replicas' transactions may commit smaller numbers later than larger ones, so each row says itself whether it was delivered.
type advisoryTurn struct {
	*Ledger
	topic Topic
	conn  *sql.Conn
	key   int64
}

func takeAdvisory(ctx context.Context, l *Ledger, topic Topic) (turn, error) {
	conn, err := l.read.Conn(ctx)
	if err != nil {
		return nil, err
	}
	key := lockKey("vaglio: relay of " + string(topic))
	var got bool
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || !got {
		return nil, errors.Join(err, conn.Close())
	}
	return &advisoryTurn{l, topic, conn, key}, nil
}

func (t *advisoryTurn) waiting(ctx context.Context) ([]Message, error) {
	return readMessages(t.conn.QueryContext(ctx, `SELECT seq, id, customer, body, known_at FROM outbox
		WHERE topic = $1 AND delivered_at = 0 ORDER BY seq LIMIT $2`, string(t.topic), maxDelivery))
}

// maxMarked is the part of a batch that one transaction marks or deletes.
const maxMarked = 100

func (t *advisoryTurn) mark(ctx context.Context, messages []Message) error {
	for some := range slices.Chunk(messages, maxMarked) {
		if err := t.transact(ctx, func(tx *sql.Tx) error { return t.markSome(ctx, tx, some) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *advisoryTurn) markSome(ctx context.Context, tx *sql.Tx, messages []Message) error {
	args := make([]any, len(messages), len(messages)+1)
	for i, m := range messages {
		args[i] = m.Seq
	}
	text := `DELETE FROM outbox WHERE delivered_at = 0 AND seq IN (` + numbered(1, len(args)) + `)`
	if t.topic.lingers() {
		args = append(args, int64(t.now()))
		text = `UPDATE outbox SET delivered_at = $` + strconv.Itoa(len(args)) + ` WHERE delivered_at = 0 AND seq IN (` + numbered(1, len(args)-1) + `)`
	}
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox_topics SET waiting = waiting - $1 WHERE topic = $2`, n, string(t.topic))
	return err
}

func (l *Ledger) sweepMarked(ctx context.Context, atMost int) (int, error) {
	seqs, err := readNumbers(l.read.QueryContext(ctx, `SELECT seq FROM outbox WHERE delivered_at > 0 AND delivered_at <= $1
		ORDER BY delivered_at LIMIT $2`, int64(l.now())-lingerPostgres.Milliseconds(), atMost))
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
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return len(seqs), nil
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
