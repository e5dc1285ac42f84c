package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"vaglio"
)

// maxDelivery is a batch of the relay. ClickHouse pays for an insertion rather than for its rows.
const maxDelivery = 4000

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

// RelayMessages delivers a topic in order, at most 4,000 messages a call, until ctx ends (nil) or the ledger is closed
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
	// waiting reads the next messages, and fails when the turn was lost.
	waiting(ctx context.Context) ([]Message, error)
	// mark notes that those messages wait no longer. Those that another relay has marked meanwhile are not counted again.
	mark(ctx context.Context, messages []Message) error
	pass() error
}

// take is nil while another relay has the turn.
func (r *relay) take(ctx context.Context) (turn, error) {
	if r.replicated {
		return takeAdvisory(ctx, r.Ledger, r.topic)
	}
	return takeFile(ctx, r.Ledger, r.topic)
}

// pass lets others have the turn.
func (r *relay) pass() (err error) {
	if r.turn != nil {
		err, r.turn = r.turn.pass(), nil
	}
	return err
}

// round delivers one batch, if it is this relay's turn, and says how large it was.
func (r *relay) round(ctx context.Context, deliver func(context.Context, []Message) error) (n int, err error) {
	if r.turn == nil {
		if r.turn, err = r.take(ctx); err != nil || r.turn == nil {
			return 0, err
		}
	}
	messages, err := r.turn.waiting(ctx)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("read the outbox: %w", err), r.pass())
	}
	kept := context.WithoutCancel(ctx)
	if r.topic.lingers() { // before the next mark, after which nobody could tell how long it has stayed
		if _, err := r.sweepDelivered(kept, len(messages)+maxMarked); err != nil {
			return 0, fmt.Errorf("take what was delivered from the outbox: %w", err)
		}
	}
	if len(messages) == 0 {
		return 0, nil
	}
	if err := deliver(ctx, messages); err != nil {
		return 0, fmt.Errorf("deliver %d messages: %w", len(messages), err)
	}
	if err := r.turn.mark(kept, messages); err != nil {
		return 0, errors.Join(fmt.Errorf("note that %d messages are delivered: %w", len(messages), err), r.pass())
	}
	return len(messages), nil
}

// sweepDelivered deletes facts that have stayed long enough after their delivery, and says how many.
func (l *Ledger) sweepDelivered(ctx context.Context, atMost int) (int, error) {
	if l.replicated {
		return l.sweepMarked(ctx, atMost)
	}
	return l.sweepThrough(ctx, atMost)
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
