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

// insertFact puts a fact behind those of the outbox, when the transaction ends, and returns it as it is stored.
func (s *staged) insertFact(f vaglio.Fact) (body []byte, err error) {
	if body, err = encodeFact(f); err != nil {
		return nil, fmt.Errorf("encode event %s: %w", f.ID, err)
	}
	s.outgoing = append(s.outgoing, outgoing{topic: TopicHistory, fact: &f, entities: f.Timelines(),
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
		messages[i].Seq = numbers[i]
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
