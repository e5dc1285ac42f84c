package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vaglio"
)

// Topic is one of the ways out of the ledger. Each is relayed by itself, in order.
type Topic string

// The topics.
const (
	TopicHistory   Topic = "history"   // facts, as events of history; decisions read them until history is sure to have them
	TopicDecisions Topic = "decisions" // [vaglio.Taken], for analytics
)

// lingers says whether rows stay for a while after their delivery, for decisions to read.
func (t Topic) lingers() bool { return t == TopicHistory }

// How long delivered facts stay: another reader's picture of history, which may lack them, is relied on for two seconds at
// most. The rest is for readers that are slow between their look here and the one there, and on PostgreSQL for the clocks of
// replicas, of which one delivers and another may sweep.
const (
	lingerSQLite   = 5 * time.Second
	lingerPostgres = time.Minute
)

func (l *Ledger) linger() vaglio.Instant {
	if l.replicated {
		return vaglio.Instant(lingerPostgres.Milliseconds())
	}
	return vaglio.Instant(lingerSQLite.Milliseconds())
}

// Message is a row of the outbox.
type Message struct {
	Seq      int64  // rises in the order of each customer's transactions
	ID       string // of the event or decision
	Customer string // whose order is kept
	Body     []byte // JSON
	KnownAt  vaglio.Instant
}

// outgoing is a message before it has a number.
type outgoing struct {
	Message
	topic    Topic
	fact     *vaglio.Fact    // of TopicHistory
	entities []vaglio.Entity // whose timelines it enters
}

// insertFact puts a fact behind those of the outbox, when the transaction ends.
func (s *staged) insertFact(f vaglio.Fact) error {
	body, err := encodeFact(f)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", f.ID, err)
	}
	s.outgoing = append(s.outgoing, outgoing{topic: TopicHistory, fact: &f, entities: f.Timelines(),
		Message: Message{ID: f.ID, Customer: f.Entities.Get(vaglio.EntityCustomer), Body: body, KnownAt: f.KnownAt}})
	return nil
}

// insertTaken puts a decision behind those of the outbox, when the transaction ends.
func (s *staged) insertTaken(t vaglio.Taken) error {
	body, err := encodeTaken(&t)
	if err != nil {
		return fmt.Errorf("encode decision %s: %w", t.DecisionID, err)
	}
	s.outgoing = append(s.outgoing, outgoing{topic: TopicDecisions,
		Message: Message{ID: t.DecisionID, Customer: t.Customer, Body: body, KnownAt: t.DecidedAt}})
	return nil
}

const (
	insertMessageSQL  = `INSERT INTO outbox (topic, id, customer, body, known_at, delivered_at) VALUES `
	insertTimelineSQL = `INSERT INTO outbox_timelines (entity, kind, occurred_at, seq, known_at) VALUES `
	addWaitingSQL     = `INSERT INTO outbox_topics (topic, waiting) VALUES ($1, $2)
		ON CONFLICT (topic) DO UPDATE SET waiting = outbox_topics.waiting + $2`
)

// writeOutgoing writes what the transaction has put into the outbox, in few statements.
func (l *Ledger) writeOutgoing(ctx context.Context, tx *sql.Tx, messages []outgoing) error {
	if len(messages) == 0 {
		return nil
	}
	values := make([]any, 0, 6*len(messages))
	for _, m := range messages {
		values = append(values, string(m.topic), []byte(m.ID), []byte(m.Customer), m.Body, int64(m.KnownAt), int64(0))
	}
	numbers, err := l.sql.insertMessages.numbers(ctx, tx, values)
	if err != nil {
		return fmt.Errorf("put %d messages into the outbox: %w", len(messages), err)
	}
	values = values[:0]
	for i, m := range messages {
		for _, entity := range m.entities {
			values = append(values, []byte(entity.String()), []byte(m.fact.Kind), int64(m.fact.OccurredAt), numbers[i], int64(m.KnownAt))
		}
	}
	if err := l.sql.insertTimelines.exec(ctx, tx, values); err != nil {
		return fmt.Errorf("put %d messages into the outbox's timelines: %w", len(messages), err)
	}
	return nil
}

// countOutgoing adds messages to those that wait.
func (l *Ledger) countOutgoing(ctx context.Context, tx *sql.Tx, messages []outgoing) error {
	counts := map[Topic]int64{}
	for _, m := range messages {
		counts[m.topic]++
	}
	for _, topic := range slices.Sorted(maps.Keys(counts)) { // in one order: two transactions never wait for each other
		add := tx.StmtContext(ctx, l.sql.addWaiting) //nolint:sqlclosecheck // ends with its transaction
		if _, err := add.ExecContext(ctx, string(topic), counts[topic]); err != nil {
			return fmt.Errorf("count the outbox: %w", err)
		}
	}
	return nil
}

// backlogSQL is how many rows of the slower of the two topics wait that every decision feeds.
const backlogSQL = `SELECT COALESCE(MAX(waiting), 0) FROM outbox_topics WHERE topic IN ('history', 'decisions')`

// Backlog is the number of events that history has not confirmed yet.
func (l *Ledger) Backlog(ctx context.Context) (int, error) {
	all, err := l.Backlogs(ctx)
	return all[TopicHistory], err
}

// Backlogs is the number of messages that wait, by topic; a topic that was never used is left out.
func (l *Ledger) Backlogs(ctx context.Context) (map[Topic]int, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT topic, waiting FROM outbox_topics`)
	if err != nil {
		return nil, fmt.Errorf("count the outbox: %w", err)
	}
	defer rows.Close()
	all := map[Topic]int{}
	for rows.Next() {
		var topic Topic
		var n int
		if err := rows.Scan(&topic, &n); err != nil {
			return nil, fmt.Errorf("count the outbox: %w", err)
		}
		all[topic] = n
	}
	return all, rows.Err()
}

// recentSizes are the numbers of entities for which a statement is prepared: a request's, and a batch's.
var recentSizes = []int{8, 64, 512}

// fewFacts is how many rows are read at once. More of them are read by entity and kind, the newest only.
const fewFacts = 512

// recentSQL finds facts by n entities ($2…) known at $1. CROSS JOIN fixes the order on SQLite: entities first, then their
// rows.
func recentSQL(n int) string {
	return `SELECT o.seq, o.body FROM outbox_timelines t CROSS JOIN outbox o WHERE o.seq = t.seq AND t.known_at <= $1 AND t.entity IN (` +
		numbered(2, n) + `) LIMIT ` + strconv.Itoa(fewFacts+1)
}

const (
	nextKindSQL = `SELECT kind FROM outbox_timelines WHERE entity = $1 AND kind > $2 ORDER BY kind LIMIT 1`
	newestSQL   = `SELECT o.seq, o.body FROM outbox_timelines t CROSS JOIN outbox o
		WHERE t.entity = $1 AND t.kind = $2 AND t.known_at <= $3 AND o.seq = t.seq ORDER BY t.occurred_at DESC, t.seq DESC LIMIT $4`
)

// numbered is "$from, $from+1, …", n of them.
func numbered(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(from+i))
	}
	return b.String()
}

// Recent returns the facts that enter any of the timelines, were known at asOf, and that a reader of history may lack: those
// that wait for delivery and those delivered a moment ago. Of each entity and kind it is the newest [vaglio.NewestPerKind];
// each fact comes once, in the order in which they were stored. Ask here first, then history, and tell repetitions by the id.
func (l *Ledger) Recent(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]vaglio.Fact, error) {
	var rows []factRow
	largest := recentSizes[len(recentSizes)-1]
	for some := range slices.Chunk(entities, largest) {
		size, _ := slices.BinarySearch(recentSizes, len(some))
		args := make([]any, 0, recentSizes[size]+1)
		args = append(args, int64(asOf))
		for _, e := range some {
			args = append(args, []byte(e.String()))
		}
		for len(args) <= recentSizes[size] {
			args = append(args, args[1]) // the same one again finds nothing more
		}
		found, err := readFacts(l.sql.recent[size].QueryContext(ctx, args...))
		if err == nil && len(found) > fewFacts {
			found, err = l.newest(ctx, some, asOf)
		}
		if err != nil {
			return nil, fmt.Errorf("read the outbox of %d entities: %w", len(entities), err)
		}
		rows = append(rows, found...)
	}
	slices.SortFunc(rows, func(a, b factRow) int { return cmp.Compare(a.seq, b.seq) })
	rows = slices.CompactFunc(rows, func(a, b factRow) bool { return a.seq == b.seq })
	facts := make([]vaglio.Fact, len(rows))
	for i := range rows {
		facts[i] = rows[i].fact
	}
	return facts, nil
}

// newest reads entity by entity and kind by kind, so that a busy entity costs no more than what counts of it.
func (l *Ledger) newest(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]factRow, error) {
	var all []factRow
	for _, e := range entities {
		entity, kind := []byte(e.String()), []byte{}
		for {
			err := l.sql.nextKind.QueryRowContext(ctx, entity, kind).Scan(&kind)
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			if err != nil {
				return nil, err
			}
			found, err := readFacts(l.sql.newest.QueryContext(ctx, entity, kind, int64(asOf), vaglio.NewestPerKind))
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

type factRow struct {
	seq  int64
	fact vaglio.Fact
}

// readFacts reads the result of a query for seq and body.
func readFacts(rows *sql.Rows, err error) ([]factRow, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []factRow
	for rows.Next() {
		var r factRow
		var body sql.RawBytes
		if err := rows.Scan(&r.seq, &body); err != nil {
			return nil, err
		}
		if r.fact, err = decodeFact(body); err != nil {
			return nil, fmt.Errorf("message %d: %w", r.seq, err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// bells wake the relays of this process, each topic's by its own.
type bells struct {
	mu      sync.Mutex
	byTopic map[Topic]chan struct{}
}

func (b *bells) of(t Topic) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byTopic == nil {
		b.byTopic = map[Topic]chan struct{}{}
	}
	if b.byTopic[t] == nil {
		b.byTopic[t] = make(chan struct{}, 1)
	}
	return b.byTopic[t]
}

// ring tells the relay of a topic that there is something to deliver.
func (b *bells) ring(t Topic) {
	select {
	case b.of(t) <- struct{}{}:
	default: // it knows already
	}
}
