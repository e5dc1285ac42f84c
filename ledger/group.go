package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

const (
	maxQueue = 1024 // calls of Record that wait for their turn; the next one waits for a place
	maxGroup = 64   // calls that share a transaction: bounds how long the first one waits for the last
)

// member is one call of Record on its way through a group.
type member struct {
	claim   Claim
	payment Payment
	decide  func(int64) (Entry, error)

	taken atomic.Bool   // by the group, or by the caller that leaves: whoever is first
	done  chan struct{} // closed when the rest is final
	result
}

type result struct {
	response []byte
	repeated bool
	err      error
	panicked any // what decide panicked with; it belongs to the caller's goroutine
}

// join hands a member to the group commit and waits for its result, or for ctx as long as no group has taken it.
func (l *Ledger) join(ctx context.Context, m *member) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l.queue <- m:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
	}
	if m.taken.CompareAndSwap(false, true) {
		return context.Cause(ctx)
	}
	<-m.done
	return nil
}

// commitGroups is the one writer of decisions: it runs until the queue is closed and empty.
func (l *Ledger) commitGroups() {
	defer close(l.done)
	for first := range l.queue {
		l.commitGroup(first)
	}
}

// commitGroup answers first and those that wait behind it, with one commit.
func (l *Ledger) commitGroup(first *member) {
	g := &group{Ledger: l, ctx: context.Background()} // a caller that leaves must not end the transaction of the others
	defer func() {
		for _, m := range g.members {
			close(m.done)
		}
	}()
	var err error
	if g.tx, err = l.write.BeginTx(g.ctx, nil); err != nil {
		g.take(first)
		g.fail(fmt.Errorf("begin: %w", err))
		return
	}
	g.sql = l.sql.in(g.ctx, g.tx)
	for m := first; m != nil; m = g.next() {
		if !g.take(m) {
			continue
		}
		if err := g.add(m); err != nil {
			g.fail(errors.Join(err, g.tx.Rollback()))
			return
		}
	}
	if err := g.seal(); err != nil {
		g.fail(errors.Join(err, g.tx.Rollback()))
		return
	}
	if err := g.tx.Commit(); err != nil {
		g.fail(fmt.Errorf("commit: %w", err))
		return
	}
	l.ring(&g.staged)
}

// group is the transaction that some members share.
type group struct {
	*Ledger
	ctx     context.Context
	tx      *sql.Tx
	sql     statements // those of the ledger, inside tx
	members []*member
	waiting int64 // rows of the outbox when the group began
	counted bool
	stored  int64
	staged  // written by seal
}

// next is a member that waits already, or nil.
func (g *group) next() *member {
	if len(g.members) == maxGroup {
		return nil
	}
	select {
	case m := <-g.queue: // nil once closed
		return m
	default:
		return nil
	}
}

// take is false for a member whose caller has left.
func (g *group) take(m *member) bool {
	if !m.taken.CompareAndSwap(false, true) {
		return false
	}
	g.members = append(g.members, m)
	return true
}

// fail gives every member the error: nothing of the group was stored.
func (g *group) fail(err error) {
	for _, m := range g.members {
		if m.panicked == nil {
			m.result = result{err: fmt.Errorf("record request %s: %w", m.claim.RequestID, err)}
		}
	}
}

// add does one member's part. Its own failure stays its own; an error says that the transaction can't go on.
func (g *group) add(m *member) error {
	response, found, err := answerOf(g.ctx, g.sql.decisionOf, m.claim)
	if err != nil || found {
		m.result = result{response: response, repeated: found, err: err}
		return nil
	}
	if !g.counted {
		if err := g.sql.backlog.QueryRowContext(g.ctx).Scan(&g.waiting); err != nil {
			return fmt.Errorf("count the outbox: %w", err)
		}
		g.counted = true
	}
	if g.waiting+g.stored >= g.maxOutbox {
		m.err = ErrOutboxFull
		return nil
	}
	reserved, err := reservedOf(g.ctx, g.sql.reservationsOf, m.payment, g.now())
	if err != nil {
		return err
	}
	entry, ok := m.decided(reserved)
	if !ok {
		return nil
	}
	return g.store(m, entry)
}

// decided runs decide. It is false when there is nothing to store.
func (m *member) decided(reserved int64) (entry Entry, ok bool) {
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			ok = false
		}
	}()
	entry, m.err = m.decide(reserved)
	return entry, m.err == nil
}

// store writes an entry in a savepoint, so that what the database refuses is undone for this member alone. When the
// database has ended the transaction itself (disk full), the savepoint is gone too and the group fails.
func (g *group) store(m *member, e Entry) error {
	if _, err := g.sql.savepoint.ExecContext(g.ctx); err != nil {
		return fmt.Errorf("set a savepoint: %w", err)
	}
	before := g.mark()
	stored, err := g.insert(m.claim, m.payment, e)
	if stored {
		err = g.insertFact(e.Event)
	}
	if err != nil {
		g.undo(before)
		if _, gone := g.sql.rollbackTo.ExecContext(g.ctx); gone != nil {
			return errors.Join(err, gone)
		}
	}
	if _, err := g.sql.release.ExecContext(g.ctx); err != nil {
		return fmt.Errorf("release a savepoint: %w", err)
	}
	switch {
	case err != nil:
		m.err = err
	case stored:
		m.response = e.Response
		g.stored++
	default:
		m.response, m.repeated, m.err = answerOf(g.ctx, g.sql.decisionOf, m.claim)
	}
	return nil
}

// in binds the writer's statements to a transaction.
func (s statements) in(ctx context.Context, tx *sql.Tx) statements {
	for _, stmt := range []**sql.Stmt{&s.decisionOf, &s.reservationsOf, &s.backlog, &s.savepoint, &s.release, &s.rollbackTo,
		&s.insertDecision, &s.insertReservation} {
		*stmt = tx.StmtContext(ctx, *stmt)
	}
	return s
}
