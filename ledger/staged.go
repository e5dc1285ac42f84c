package ledger

import (
	"context"
	"database/sql"
	"fmt"
)

// staged is what a transaction writes at its end, all at once: few statements, and locks that every writer wants are held
// shortly.
type staged struct {
	outgoing []outgoing
}

// mark is a point to which staged can go back.
type mark struct{ outgoing int }

func (s *staged) mark() mark { return mark{len(s.outgoing)} }

// undo drops what was staged since, as a rollback to a savepoint drops what was written.
func (s *staged) undo(to mark) {
	s.outgoing = s.outgoing[:to.outgoing]
}

// seal writes what the group has staged. It is the last thing before the commit.
func (g *group) seal() error { return g.writeStaged(g.ctx, g.tx, &g.staged) }

// writeStaged writes what a transaction has staged.
func (l *Ledger) writeStaged(ctx context.Context, tx *sql.Tx, s *staged) error {
	return l.writeOutgoing(ctx, tx, s.outgoing)
}

// ring tells the relays of this process what a committed transaction has put into the outbox.
func (l *Ledger) ring(s *staged) {
	for i := range s.outgoing {
		if i == 0 || s.outgoing[i].topic != s.outgoing[i-1].topic {
			l.bells.ring(s.outgoing[i].topic)
		}
	}
}

// stagedStatements are prepared for staged, and for decisions that read the outbox.
type stagedStatements struct {
	insertMessages, insertTimelines *bulk
	addWaiting                      *sql.Stmt
	recent                          []*sql.Stmt // one per size of recentSizes
	nextKind, newest                *sql.Stmt
}

func prepareStaged(ctx context.Context, write, read *sql.DB) (s stagedStatements, err error) {
	for _, p := range []struct {
		bulk    **bulk
		head    string
		columns int
		tail    string
	}{
		{&s.insertMessages, insertMessageSQL, 6, ` RETURNING seq`},
		{&s.insertTimelines, insertTimelineSQL, 5, ``},
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
	singles := []single{{&s.addWaiting, write, addWaitingSQL}, {&s.nextKind, read, nextKindSQL}, {&s.newest, read, newestSQL}}
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
