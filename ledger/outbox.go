package ledger

import (
	"context"
	"database/sql"
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
	topic Topic
	fact  *vaglio.Fact // of TopicHistory
}

// insertFact puts a fact behind those of the outbox, when the transaction ends, and returns it as it is stored.
func (s *staged) insertFact(f vaglio.Fact) (body []byte, err error) {
	if body, err = encodeFact(f); err != nil {
		return nil, fmt.Errorf("encode event %s: %w", f.ID, err)
	}
	s.outgoing = append(s.outgoing, outgoing{topic: TopicHistory, fact: &f,
		Message: Message{ID: f.ID, Customer: f.Entities.Get(vaglio.EntityCustomer), Body: body, KnownAt: f.KnownAt}})
	return body, nil
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
	insertMessageSQL  = `INSERT INTO outbox (topic, id, customer, body, known_at) VALUES `
	insertTimelineSQL = `INSERT INTO outbox_timelines (entity, kind, occurred_at, seq, known_at) VALUES `
	addWaitingSQL     = `INSERT INTO outbox_topics (topic, waiting) VALUES ($1, $2)
		ON CONFLICT (topic) DO UPDATE SET waiting = outbox_topics.waiting + $2`
)

// writeOutgoing writes what the transaction has put into the outbox, in few statements.
func (l *Ledger) writeOutgoing(ctx context.Context, tx *sql.Tx, messages []outgoing) error {
	if len(messages) == 0 {
		return nil
	}
	values := make([]any, 0, 5*len(messages))
	for _, m := range messages {
		values = append(values, string(m.topic), []byte(m.ID), []byte(m.Customer), m.Body, int64(m.KnownAt))
	}
	numbers, err := l.sql.insertMessages.numbers(ctx, tx, values)
	if err != nil {
		return fmt.Errorf("put %d messages into the outbox: %w", len(messages), err)
	}
	var facts []factRow
	for i := range messages {
		messages[i].Seq = numbers[i]
		if messages[i].fact != nil {
			facts = append(facts, factRow{numbers[i], *messages[i].fact})
		}
	}
	if l.replicated {
		return l.insertTimelines(ctx, tx, facts)
	}
	return l.index(ctx, tx, facts, numbers[0], numbers[len(numbers)-1])
}

// insertTimelines puts facts into the outbox's timelines.
func (l *Ledger) insertTimelines(ctx context.Context, tx *sql.Tx, facts []factRow) error {
	var values []any
	for i := range facts {
		f := &facts[i].fact
		for _, entity := range f.Timelines() {
			values = append(values, []byte(entity.String()), []byte(f.Kind), int64(f.OccurredAt), facts[i].seq, int64(f.KnownAt))
		}
	}
	if err := l.sql.insertTimelines.exec(ctx, tx, values); err != nil {
		return fmt.Errorf("put %d facts into the outbox's timelines: %w", len(facts), err)
	}
	return nil
}

// maxUnindexed is the length of SQLite's outbox, in numbers, from which on facts get timelines: up to it decisions read them
// from memory, and their timelines, a third of a decision's cost, are never written. It is above what lingers at 8,000
// decisions a second. Timelines are complete at twice the length.
var maxUnindexed int64 = 100_000

// outbox_topics.indexed is the number from which on all facts have timelines. Two values have a meaning of their own.
const (
	notIndexed = 0 // new facts get none
	allIndexed = 1 // decisions may rely on them
)

const (
	indexedSQL     = `SELECT indexed, (SELECT COALESCE(MIN(seq), 0) FROM outbox) FROM outbox_topics WHERE topic = 'history'`
	setIndexedSQL  = `UPDATE outbox_topics SET indexed = $1 WHERE topic = 'history'`
	factsBeforeSQL = `SELECT seq, body FROM outbox WHERE topic = 'history' AND seq < $1 ORDER BY seq DESC LIMIT $2`
)

// index puts new facts of SQLite's outbox into its timelines once it is long, and with each message an older fact.
// The messages have the numbers from first to last.
func (l *Ledger) index(ctx context.Context, tx *sql.Tx, facts []factRow, first, last int64) error {
	var from, oldest int64
	err := tx.StmtContext(ctx, l.sql.indexed).QueryRowContext(ctx).Scan(&from, &oldest) //nolint:sqlclosecheck // ends with its transaction
	if err != nil {
		return fmt.Errorf("measure the outbox: %w", err)
	}
	if from == notIndexed {
		if last-oldest < maxUnindexed {
			return nil
		}
		from = first
	}
	if from != allIndexed {
		n := int(last - first + 1)
		older, err := readFacts(tx.StmtContext(ctx, l.sql.factsBefore).QueryContext(ctx, from, n)) //nolint:sqlclosecheck // likewise
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		if facts, from = append(facts, older...), allIndexed; len(older) == n {
			from = older[n-1].seq
		}
		if _, err := tx.StmtContext(ctx, l.sql.setIndexed).ExecContext(ctx, from); err != nil { //nolint:sqlclosecheck // likewise
			return fmt.Errorf("note from where on the outbox has timelines: %w", err)
		}
	}
	return l.insertTimelines(ctx, tx, facts)
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
