package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// staged is what a transaction writes at its end, all at once: few statements, and locks that every writer wants are held
// shortly.
type staged struct {
	outgoing []outgoing
	entries  []AuditEntry
	leaves   []leaf
	scratch  []byte // of hashes
}

// expect makes room for what so many decisions stage.
func (s *staged) expect(decisions int) {
	s.outgoing = slices.Grow(s.outgoing, 2*decisions)
	s.leaves = slices.Grow(s.leaves, decisions)
}

// writeStaged writes what a transaction has staged. What every writer wants to lock comes last, always in the same order.
func (l *Ledger) writeStaged(ctx context.Context, tx *sql.Tx, s *staged) error {
	if err := l.writeOutgoing(ctx, tx, s.outgoing); err != nil {
		return err
	}
	block, err := l.writeLeaves(ctx, tx, s)
	if err != nil {
		return err
	}
	if err := l.countOutgoing(ctx, tx, s.outgoing); err != nil || block == nil {
		return err
	}
	return l.append(ctx, tx, block)
}

// change runs f in a transaction and writes at its end what f has staged.
func (l *Ledger) change(ctx context.Context, f func(*sql.Tx, *staged) error) error {
	var s staged
	err := l.transact(ctx, func(tx *sql.Tx) error {
		if err := f(tx, &s); err != nil {
			return err
		}
		return l.writeStaged(ctx, tx, &s)
	})
	if err == nil {
		l.ring(&s)
	}
	return err
}

// ring tells the readers and the relays of this process what a committed transaction has put into the outbox.
func (l *Ledger) ring(s *staged) {
	l.recent.committed(s.outgoing)
	for i := range s.outgoing {
		if i == 0 || s.outgoing[i].topic != s.outgoing[i-1].topic {
			l.bells.ring(s.outgoing[i].topic)
		}
	}
}

// stagedStatements are prepared for staged, and for decisions that read the outbox.
type stagedStatements struct {
	insertMessages, insertTimelines, insertEntries, insertLeaves *bulk
	addWaiting, takeHead, insertBlock, setHead                   *sql.Stmt
	recent                                                       []*sql.Stmt // one per size of recentSizes
	nextKind, newest                                             *sql.Stmt
}

func prepareStaged(ctx context.Context, write, read *sql.DB) (s stagedStatements, err error) {
	for _, p := range []struct {
		bulk    **bulk
		head    string
		columns int
		tail    string
	}{
		{&s.insertMessages, insertMessageSQL, 5, ` RETURNING seq`},
		{&s.insertTimelines, insertTimelineSQL, 5, ` ON CONFLICT DO NOTHING`},
		{&s.insertEntries, insertEntrySQL, 6, ` RETURNING seq`},
		{&s.insertLeaves, insertLeafSQL, 7, ``},
	} {
		if *p.bulk, err = prepareBulk(ctx, write, p.head, p.columns, p.tail); err != nil {
			return s, err
		}
	}
	s.recent = make([]*sql.Stmt, len(recentSizes))
	type single struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}
	singles := []single{{&s.addWaiting, write, addWaitingSQL}, {&s.takeHead, write, takeHeadSQL}, {&s.insertBlock, write, insertBlockSQL},
		{&s.setHead, write, setHeadSQL}, {&s.nextKind, read, nextKindSQL}, {&s.newest, read, newestSQL}}
	for i, n := range recentSizes {
		singles = append(singles, single{&s.recent[i], read, recentSQL(n)})
	}
	for _, p := range singles {
		if *p.stmt, err = p.db.PrepareContext(ctx, p.text); err != nil { //nolint:sqlclosecheck // lives as long as its database
			return s, fmt.Errorf("prepare %q: %w", p.text, err)
		}
	}
	return s, nil
}
