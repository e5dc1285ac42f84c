// Package ledger keeps what must never be lost or said twice: decisions, the money that they reserve, the events that
// history has not got yet, and the API keys. [Ledger.Record] is the heart: one transaction per decision, grouped with
// its neighbours. Read record.go for decisions, standing.go for what they are told of payments and customers, group.go for
// the group commit, requests.go for what becomes of a request, execution.go for how, movements.go for the money that events
// tell of, outbox.go for the way to history, texts.go for how long texts are stored, keys.go for API keys, sqlite.go and
// postgres.go for the engines.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vaglio"
)

// Errors that a caller can act on.
var (
	ErrNotFound        = errors.New("not found")
	ErrConflict        = errors.New("the request id is taken by other content") // as a *ConflictError
	ErrOutboxFull      = errors.New("too many events wait for history")
	ErrUnauthenticated = errors.New("unknown, expired or revoked key")
	ErrClosed          = errors.New("the ledger is closed")
	ErrNotKept         = errors.New("it was decided, and its texts are no longer kept") // [Retention] is over
)

// DefaultMaxOutbox is the number of undelivered messages of a topic at which new decisions are refused: more than an hour's
// at 200 decisions a second. A million take about 2 GB on disk.
const DefaultMaxOutbox = 1_000_000

// Options of a ledger; the zero value is ready for use.
type Options struct {
	Now       func() time.Time // the clock; nil: time.Now
	Logger    *slog.Logger     // nil: slog.Default()
	MaxOutbox int              // 0: DefaultMaxOutbox
}

// Ledger is an open ledger. Its methods may be called from any number of goroutines.
type Ledger struct {
	now       func() vaglio.Instant
	log       *slog.Logger
	maxOutbox int64

	replicated bool // PostgreSQL: other processes write at the same time, so transactions lock what they rest on

	write *sql.DB // SQLite: the one writing connection
	read  *sql.DB
	sql   statements

	keys      keyring
	queue     chan *member  // Record → group commit
	packed    []byte        // of the group commit: room for a group's, as they are stored
	bells     bells         // something entered the outbox
	recent    mirror        // SQLite: the facts of the outbox
	lingering lingering     // SQLite: those that were delivered
	done      chan struct{} // closed when the group commit has ended
	closed    chan struct{} // closed by Close
	groups    atomic.Int64  // that were committed, or tried
	folded    chan struct{} // closed when foldLog has ended

	entry   sync.RWMutex // guards the pair of closed and calls
	calls   sync.WaitGroup
	closing error
	once    sync.Once
}

// Open opens the ledger at "sqlite:/path/ledger.db", or a plain path, which it creates if need be, or the one in the
// PostgreSQL database at "postgres://…", which any number of replicas may share, and brings its schema up to date. A
// schema newer than this binary is refused.
func Open(ctx context.Context, dsn string, o Options) (*Ledger, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxOutbox == 0 {
		o.MaxOutbox = DefaultMaxOutbox
	}
	l := &Ledger{
		now:       func() vaglio.Instant { return vaglio.InstantOf(o.Now()) },
		log:       o.Logger,
		maxOutbox: int64(o.MaxOutbox),
		queue:     make(chan *member, maxQueue),
		done:      make(chan struct{}),
		closed:    make(chan struct{}),
		folded:    make(chan struct{}),
	}
	shown, err := l.openDatabases(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", shown, err)
	}
	if err = l.prepare(ctx); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", shown, errors.Join(err, l.closeDatabases()))
	}
	if err := l.beginChain(ctx); err != nil {
		return nil, fmt.Errorf("open ledger %s: begin the audit chain: %w", shown, errors.Join(err, l.closeDatabases()))
	}
	go l.commitGroups()
	if l.replicated {
		close(l.folded)
	} else {
		go l.foldLog()
	}
	return l, nil
}

// openDatabases opens the engine that the address names, and returns the address without a password.
func (l *Ledger) openDatabases(ctx context.Context, dsn string) (shown string, err error) {
	scheme, path, found := strings.Cut(dsn, ":")
	if !found {
		scheme, path = "sqlite", dsn
	}
	switch scheme {
	case "sqlite":
		l.write, l.read, err = openSQLite(ctx, path)
		return dsn, err
	case "postgres", "postgresql":
		l.replicated = true
		l.write, l.read, err = openPostgres(ctx, dsn)
		if address, wrong := url.Parse(dsn); wrong == nil {
			return address.Redacted(), err
		}
		return scheme + "://…", err
	default:
		return scheme + ":…", fmt.Errorf("unknown kind of ledger %q, want sqlite:/path/ledger.db or postgres://…", scheme)
	}
}

// Close waits for the calls of Record under way, which all get their answer, and closes the database. Later calls of
// Record, and Relay, get ErrClosed. Closing twice is fine.
func (l *Ledger) Close() error {
	l.once.Do(func() {
		l.entry.Lock()
		close(l.closed)
		l.entry.Unlock()
		l.calls.Wait()
		close(l.queue)
		<-l.done
		<-l.folded
		l.closing = l.closeDatabases()
	})
	return l.closing
}

// closeDatabases closes the writer last: the last connection folds the write-ahead log into the file, and only a
// connection that may write can.
func (l *Ledger) closeDatabases() error {
	return errors.Join(l.read.Close(), l.write.Close())
}

// enter counts a call that Close has to wait for; the caller ends it with l.calls.Done.
func (l *Ledger) enter() error {
	l.entry.RLock()
	defer l.entry.RUnlock()
	if l.isClosed() {
		return ErrClosed
	}
	l.calls.Add(1)
	return nil
}

func (l *Ledger) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// statements are the prepared texts of the hot paths.
type statements struct {
	answers                                      *lookup // on the writer, inside its transactions, like all up to the next blank line
	writer                                       reading
	insertDecisions, insertOpen, insertMovements *bulk
	backlog, lock, state, revisions              *sql.Stmt
	indexed, setIndexed, factsBefore             *sql.Stmt

	readDecisionOf, readKey, readState, readRevisions, look, waiting *sql.Stmt
	reader                                                           reading

	stagedStatements
}

// prepare prepares every statement. Those of a failed call are closed with their database.
func (l *Ledger) prepare(ctx context.Context) (err error) {
	s := &l.sql
	type single struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}
	singles := []single{{&s.backlog, l.write, backlogSQL}, {&s.state, l.write, stateSQL}, {&s.revisions, l.write, revisionsSQL},
		{&s.readDecisionOf, l.read, decisionOfSQL}, {&s.readKey, l.read, readKeySQL}, {&s.readState, l.read, stateSQL},
		{&s.readRevisions, l.read, revisionsSQL}}
	if l.replicated {
		singles = append(singles, single{&s.lock, l.write, lockSQL})
	} else {
		singles = append(singles, single{&s.look, l.read, lookSQL}, single{&s.waiting, l.read, waitingSQL}, single{&s.indexed, l.write, indexedSQL},
			single{&s.setIndexed, l.write, setIndexedSQL}, single{&s.factsBefore, l.write, factsBeforeSQL})
	}
	for _, p := range singles {
		if *p.stmt, err = p.db.PrepareContext(ctx, p.text); err != nil { //nolint:sqlclosecheck // lives as long as its database
			return fmt.Errorf("prepare %q: %w", p.text, err)
		}
	}
	for _, p := range []struct {
		bulk    **bulk
		head    string
		columns int
		tail    string
	}{{&s.insertDecisions, insertDecisionSQL, 18, ``}, {&s.insertOpen, insertOpenSQL, 10, ``},
		{&s.insertMovements, insertMovementSQL, 11, ` ON CONFLICT (payment_id, event_id) DO NOTHING`}} {
		if *p.bulk, err = prepareBulk(ctx, l.write, p.head, p.columns, p.tail); err != nil {
			return err
		}
	}
	if s.answers, err = prepareLookup(ctx, l.write, answersArm, 0, lookupSizes); err != nil {
		return err
	}
	if s.writer, err = prepareReading(ctx, l.write, lookupSizes); err != nil {
		return err
	}
	if s.reader, err = prepareReading(ctx, l.read, lookupSizes[:1]); err != nil {
		return err
	}
	s.stagedStatements, err = prepareStaged(ctx, l.write, l.read)
	return err
}
