package ledger

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	maxQueue = 1024 // calls of Record that wait for their turn; the next one waits for a place
	maxGroup = 64   // calls that share a transaction: bounds how long the first one waits for the last
)

// member is one call of Record on its way through a group.
type member struct {
	claim   Claim
	subject Subject
	decide  func(Standing) (Entry, error)

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
		l.groups.Add(1)
	}
}

// commitGroup answers first and those that wait behind it, with one commit. When the database refuses the whole because of
// one of them, each gets a transaction of its own.
func (l *Ledger) commitGroup(first *member) {
	ctx, cancel := l.groupContext()
	defer cancel()
	t, err := l.begin(ctx)
	members := l.gather(first, err == nil)
	defer func() {
		for _, m := range members {
			close(m.done)
		}
	}()
	if err == nil {
		err = t.record(members)
	}
	if !refused(err) {
		fail(members, err)
		return
	}
	for _, m := range members {
		if m.panicked != nil {
			continue
		}
		for n := 1; ; n++ {
			alone := []*member{m}
			if t, err = l.begin(ctx); err == nil {
				err = t.record(alone)
			}
			if n == maxAttempts || !overtaken(err) {
				fail(alone, err)
				break
			}
		}
	}
}

// maxCommit bounds a group's transaction on PostgreSQL: a server that says nothing at all must not hold its callers for ever.
var maxCommit = 8 * time.Second

// groupContext does not end with a caller that leaves: the others' transaction goes on.
func (l *Ledger) groupContext() (context.Context, context.CancelFunc) {
	if l.replicated {
		return context.WithTimeout(context.Background(), maxCommit)
	}
	return l.unwatched(context.Background()), func() {}
}

// unwatched is the context of short statements: SQLite waits for its disk alone, and watching a context costs it a goroutine each.
func (l *Ledger) unwatched(ctx context.Context) context.Context {
	if l.replicated {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// gather takes first and, if more may come, those that wait already. Members whose callers have left are none. Callers that are
// about to ask get the processor first: it costs nothing when there are none, and under load makes groups larger by half.
func (l *Ledger) gather(first *member, more bool) (members []*member) {
	take := func(m *member) {
		if m.taken.CompareAndSwap(false, true) {
			members = append(members, m)
		}
	}
	take(first)
	runtime.Gosched()
	for more && len(members) < maxGroup {
		select {
		case m, open := <-l.queue:
			if more = open; open {
				take(m)
			}
		default:
			more = false
		}
	}
	return members
}

// fail gives every member the error, if there is one: nothing of theirs was stored.
func fail(members []*member, err error) {
	for _, m := range members {
		if m.panicked == nil && err != nil {
			m.result = result{err: fmt.Errorf("record request %s: %w", m.claim.RequestID, err)}
		}
	}
}

// stored is a decision as the next call for its request needs it.
type stored struct{ digest, request, response []byte }

// answer is what a claim gets that finds its request decided.
func (s *stored) answer(c Claim) ([]byte, error) {
	if string(s.digest) != string(c.Digest[:]) {
		return nil, &ConflictError{c.RequestID, differences(s.request, c.Body)}
	}
	if len(s.response) == 0 {
		return nil, fmt.Errorf("request %s: %w", c.RequestID, ErrNotKept)
	}
	return s.response, nil
}

// decided is a member with its entry.
type decided struct {
	*member
	entry Entry
}

// record decides for each member in turn, each seeing what those before it have reserved, and commits all of it at once:
// the number of statements does not grow with that of the members. The members' results hold unless there is an error.
func (t *transaction) record(members []*member) error {
	defer t.tx.Rollback() // after Commit it does nothing
	var locks []string
	ids, subjects := make([]string, len(members)), make([]Subject, len(members))
	for i, m := range members {
		m.result = result{panicked: m.panicked}
		ids[i], subjects[i] = m.claim.RequestID, m.subject
		if t.replicated {
			locks = append(append(locks, requestLock(m.claim.RequestID)), m.subject.locks()...)
		}
	}
	if err := t.lock(locks); err != nil {
		return err
	}
	known, err := t.answers(ids)
	if err != nil {
		return err
	}
	fresh := subjects[:0]
	for _, m := range members {
		if known[m.claim.RequestID] == nil {
			fresh = append(fresh, m.subject)
		}
	}
	var standings *standings
	var room int64
	if len(fresh) > 0 {
		var waiting int64
		if err := t.bind(t.sql.backlog).QueryRowContext(t.ctx).Scan(&waiting); err != nil { //nolint:sqlclosecheck // ends with its transaction
			return fmt.Errorf("count the outbox: %w", err)
		}
		room = t.maxOutbox - waiting
		if standings, err = t.sql.writer.read(t.ctx, t.bind, t.now, fresh); err != nil {
			return err
		}
	}
	all := make([]decided, 0, len(members))
	for _, m := range members {
		if s := known[m.claim.RequestID]; s != nil {
			m.response, m.err = s.answer(m.claim)
			m.repeated = m.err == nil
			continue
		}
		if int64(len(all)) >= room {
			m.err = ErrOutboxFull
			continue
		}
		entry, ok := m.decided(standings.of(m.subject, m.claim.RequestID))
		if !ok {
			continue
		}
		m.response = entry.Response
		standings.add(m.subject, m.claim.RequestID, &entry)
		known[m.claim.RequestID] = &stored{m.claim.Digest[:], m.claim.Body, entry.Response}
		all = append(all, decided{m, entry})
	}
	if len(all) == 0 {
		return nil
	}
	if err := t.insert(all); err != nil {
		return err
	}
	return t.commit()
}

const answersArm = `SELECT $arm, digest, request, response FROM decisions WHERE request_id = $key`

// answers finds what is stored for requests.
func (t *transaction) answers(ids []string) (map[string]*stored, error) {
	found := map[string]*stored{}
	var s stored
	err := t.sql.answers.run(t.ctx, t.bind, nil, ids, []any{&s.digest, textOf{&s.request}, textOf{&s.response}}, func(id string) {
		one := s
		found[id] = &one
	})
	if err != nil {
		return nil, fmt.Errorf("look up %d requests: %w", len(ids), err)
	}
	return found, nil
}

// decided runs decide. It is false when there is nothing to store.
func (m *member) decided(s Standing) (entry Entry, ok bool) {
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			ok = false
		}
	}()
	if entry, m.err = m.decide(s); m.err == nil {
		m.err = entry.check(m.claim, m.subject)
	}
	return entry, m.err == nil
}
