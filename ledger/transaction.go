package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"vaglio"
)

// transaction is one of the ledger's, with what it has to write at its end.
type transaction struct {
	*Ledger
	ctx context.Context
	tx  *sql.Tx
	now vaglio.Instant
	staged
}

// begin starts a transaction. On SQLite it is the only one that writes.
func (l *Ledger) begin(ctx context.Context) (*transaction, error) {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &transaction{Ledger: l, ctx: ctx, tx: tx, now: l.now()}, nil
}

func (t *transaction) bind(s *sql.Stmt) *sql.Stmt { return t.tx.StmtContext(t.ctx, s) }

// The names of what transactions lock.
func requestLock(id string) string { return "request " + id }

func (s Subject) locks() []string {
	var names []string
	if s.Payment != "" {
		names = append(names, "payment "+s.Payment)
	}
	if s.Customer != "" {
		names = append(names, "customer "+s.Customer)
	}
	return names
}

// lock waits until no other replica's transaction holds any of the names, and holds them until the end of its own: what is
// read from here on is what was committed last. Everybody takes all of a transaction's locks at once and in one order.
func (t *transaction) lock(names []string) error {
	if !t.replicated {
		return nil
	}
	keys := make([]int64, len(names))
	for i, name := range names {
		keys[i] = lockKey(name)
	}
	slices.Sort(keys)
	if _, err := t.bind(t.sql.lock).ExecContext(t.ctx, slices.Compact(keys)); err != nil { //nolint:sqlclosecheck // ends with its transaction
		return fmt.Errorf("lock %d requests, payments and customers: %w", len(names), err)
	}
	return nil
}

const lockSQL = `SELECT pg_advisory_xact_lock(k) FROM unnest(CAST($1 AS BIGINT[])) AS k`

// commit writes what was staged and commits.
func (t *transaction) commit() error {
	if err := t.writeStaged(t.ctx, t.tx, &t.staged); err != nil {
		return err
	}
	if err := t.tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	t.ring(&t.staged)
	return nil
}

// maxAttempts bounds how often a transaction runs that the database ended for the sake of another one.
const maxAttempts = 3

// locked runs f in a transaction that holds locks, again when the database ended it for the sake of another one.
func (l *Ledger) locked(ctx context.Context, locks []string, f func(*transaction) error) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.calls.Done()
	for n := 1; ; n++ {
		err := l.attempt(ctx, locks, f)
		if n == maxAttempts || !overtaken(err) {
			return err
		}
	}
}

func (l *Ledger) attempt(ctx context.Context, locks []string, f func(*transaction) error) error {
	t, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer t.tx.Rollback() // after Commit it does nothing
	if err := t.lock(locks); err != nil {
		return err
	}
	if err := f(t); err != nil {
		return err
	}
	return t.commit()
}

// overtaken reports whether PostgreSQL has ended a transaction because of another one: a deadlock, a serialisation failure.
func overtaken(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && len(pg.Code) == 5 && pg.Code[:2] == "40"
}

// refused reports whether the database has refused what one member of a group wanted to write, or has ended the group's
// transaction because of another one: each member alone may fare better.
func refused(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return overtaken(err) || pg.Code[:min(2, len(pg.Code))] == "22" || pg.Code[:min(2, len(pg.Code))] == "23"
	}
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	default:
		return false
	}
}
