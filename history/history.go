// Package history keeps what happened, in ClickHouse: every event once, and one row per event and entity as timelines.
// [Store.Insert] takes events in, [Store.Timelines] reads what was known of some entities at a moment, [Store.Walk] and
// [Store.Scan] stream for training. history/embedded runs a ClickHouse as a child process, history/ingest reads files.
package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"vaglio"
)

// maxClockSkew is how far ahead of our clock an event may say it occurred.
const maxClockSkew = vaglio.Day

// Options of a store.
type Options struct {
	BaseCurrency string           // ISO 4217; fixed by the first opening, "" takes what is stored, or EUR
	Cluster      string           // of ClickHouse servers, by its name in their configuration; "": one server
	Now          func() time.Time // nil: time.Now
	Logger       *slog.Logger     // nil: slog.Default()
}

// Store is an open history. Its methods may be called from any number of goroutines.
type Store struct {
	conn         driver.Conn
	now          func() vaglio.Instant
	log          *slog.Logger
	cluster      string // "": one server
	baseCurrency string

	storing sync.Mutex // one check-and-insert at a time, so that the first of an id wins
	rates   rateTable
}

// Open connects to ClickHouse, creates the database of the DSN if need be and brings its tables up to date.
func Open(ctx context.Context, dsn string, o Options) (*Store, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("read the ClickHouse DSN: want clickhouse://USER:PASSWORD@HOST:PORT/DATABASE") // it may hold a password
	}
	if options.Auth.Database == "" || options.Auth.Database == "default" {
		options.Auth.Database = "vaglio"
	}
	if !isDatabaseName(options.Auth.Database) {
		return nil, fmt.Errorf("the database %q is not made of a-z, 0-9 and _", options.Auth.Database)
	}
	options.Settings = clickhouse.Settings{"max_execution_time": 0}
	if o.Cluster != "" {
		if !isClusterName(o.Cluster) {
			return nil, fmt.Errorf("the cluster %q is not made of letters, digits, _ and -", o.Cluster)
		}
		maps.Copy(options.Settings, clusterSettings)
	}
	options.DialTimeout = 5 * time.Second
	options.ReadTimeout = 5 * time.Minute
	options.MaxOpenConns, options.MaxIdleConns = 16, 8
	options.DialContext = dialWithin(options)
	if err := migrate(ctx, options, o.Cluster); err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{conn: conn, log: o.Logger, cluster: o.Cluster, now: func() vaglio.Instant { return vaglio.InstantOf(o.Now()) }}
	if err := errors.Join(s.fixBaseCurrency(ctx, o.BaseCurrency), s.loadRates(ctx)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func isDatabaseName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// fixBaseCurrency makes the first opening's currency that of all that is ever stored: sums must not mix.
func (s *Store) fixBaseCurrency(ctx context.Context, wanted string) error {
	var stored string
	err := s.conn.QueryRow(ctx, "SELECT value FROM settings WHERE name = 'base_currency' LIMIT 1").Scan(&stored)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read the base currency: %w", err)
	}
	switch {
	case stored != "" && wanted != "" && stored != wanted:
		return fmt.Errorf("the base currency of this history is %s and can't become %s", stored, wanted)
	case stored != "":
		s.baseCurrency = stored
		return nil
	case wanted == "":
		wanted = "EUR"
	}
	if _, ok := vaglio.CurrencyDigits(wanted); !ok {
		return fmt.Errorf("the base currency %q is not an ISO 4217 code", wanted)
	}
	s.baseCurrency = wanted
	if err := s.conn.Exec(ctx, "INSERT INTO settings (name, value) VALUES ('base_currency', ?)", wanted); err != nil {
		return fmt.Errorf("store the base currency: %w", err)
	}
	return nil
}

// BaseCurrency is the currency of all money in features.
func (s *Store) BaseCurrency() string { return s.baseCurrency }

// Ping fails if ClickHouse does not answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.conn.Ping(ctx); err != nil {
		return fmt.Errorf("reach ClickHouse: %w", err)
	}
	return nil
}

// Close ends the connections.
func (s *Store) Close() error { return s.conn.Close() }

// Count is the number of events stored.
func (s *Store) Count(ctx context.Context) (events uint64, err error) {
	if err := s.conn.QueryRow(ctx, "SELECT uniqExact(id) FROM events").Scan(&events); err != nil {
		return 0, fmt.Errorf("count the events: %w", err)
	}
	return events, nil
}

// Walk streams the timelines of one kind of entity, each whole, in order of the entities' ids, with the facts of the given
// kinds (nil: of all) sorted by the moment at which they became known.
func (s *Store) Walk(ctx context.Context, entityKind string, kinds []string, visit func(vaglio.Entity, []vaglio.Fact) error) error {
	ofKinds, bound := "", []any{entityKind + ":", entityKind + ";"}
	if kinds != nil {
		ofKinds, bound = "AND kind IN (?)", append(bound, kinds)
	}
	rows, err := s.conn.Query(ctx, `
		SELECT entity, payload FROM timelines
		WHERE entity >= ? AND entity < ? `+ofKinds+`
		ORDER BY entity, kind, occurred_at, id, precedence DESC`, bound...)
	if err != nil {
		return fmt.Errorf("walk the timelines of kind %s: %w", entityKind, err)
	}
	defer rows.Close()
	var current string
	var facts []vaglio.Fact
	flush := func() error {
		if len(facts) == 0 {
			return nil
		}
		return visit(entityOf(current), firstOfEach(facts))
	}
	for rows.Next() {
		var name string
		var payload []byte
		if err := rows.Scan(&name, &payload); err != nil {
			return fmt.Errorf("walk the timelines of kind %s: %w", entityKind, err)
		}
		if name != current {
			if err := flush(); err != nil {
				return err
			}
			current, facts = name, facts[:0]
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return fmt.Errorf("walk the timelines of kind %s: %w", entityKind, err)
		}
		facts = append(facts, fact)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("walk the timelines of kind %s: %w", entityKind, err)
	}
	return flush()
}

// firstOfEach sorts by known_at and drops repetitions of an id, of which the first row comes first.
func firstOfEach(facts []vaglio.Fact) []vaglio.Fact {
	seen := make(map[string]struct{}, len(facts))
	facts = slices.DeleteFunc(facts, func(f vaglio.Fact) bool {
		_, again := seen[f.ID]
		seen[f.ID] = struct{}{}
		return again
	})
	slices.SortFunc(facts, func(a, b vaglio.Fact) int {
		if a.KnownAt != b.KnownAt {
			return int(a.KnownAt - b.KnownAt)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return facts
}

// Scan streams the events of some kinds that occurred in [from, until), each once, ordered by id.
func (s *Store) Scan(ctx context.Context, kinds []string, from, until vaglio.Instant, visit func(vaglio.Fact) error) error {
	rows, err := s.conn.Query(ctx, `
		SELECT payload FROM events
		WHERE kind IN (?) AND occurred_at >= ? AND occurred_at < ?
		ORDER BY id, precedence DESC LIMIT 1 BY id`, kinds, int64(from), int64(until))
	if err != nil {
		return fmt.Errorf("scan the events of %v: %w", kinds, err)
	}
	defer rows.Close()
	for rows.Next() {
		var payload []byte
		if err := rows.Scan(&payload); err != nil {
			return fmt.Errorf("scan the events of %v: %w", kinds, err)
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return fmt.Errorf("scan the events of %v: %w", kinds, err)
		}
		if err := visit(fact); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("scan the events of %v: %w", kinds, err)
	}
	return nil
}

// Events reads events by id; unknown ids are left out.
func (s *Store) Events(ctx context.Context, ids []string) (map[string]vaglio.Fact, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, names, err := withStrings(ctx, "wanted", ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "SELECT payload FROM events WHERE id IN "+names+" ORDER BY id, precedence DESC LIMIT 1 BY id")
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	found := make(map[string]vaglio.Fact, len(ids))
	for rows.Next() {
		var payload []byte
		if err := rows.Scan(&payload); err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return nil, fmt.Errorf("read events: %w", err)
		}
		found[fact.ID] = fact
	}
	return found, rows.Err()
}

// withStrings sends strings along with a query as a temporary table and returns how the query names their set.
func withStrings(ctx context.Context, table string, values []string) (context.Context, string, error) {
	t, err := ext.NewTable(table, ext.Column("value", "String"))
	if err != nil {
		return nil, "", fmt.Errorf("send a set of strings: %w", err)
	}
	for _, v := range values {
		if err := t.Append(v); err != nil {
			return nil, "", fmt.Errorf("send a set of strings: %w", err)
		}
	}
	return clickhouse.Context(ctx, clickhouse.WithExternalTable(t)), "(SELECT value FROM " + table + ")", nil
}

func entityNames(entities []vaglio.Entity) []string {
	names := make([]string, len(entities))
	for i, e := range entities {
		names[i] = e.String()
	}
	return names
}

func entityOf(name string) vaglio.Entity {
	kind, id, _ := strings.Cut(name, ":")
	return vaglio.Entity{Kind: kind, ID: id}
}
