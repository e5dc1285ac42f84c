package history

import (
	"context"
	"fmt"
	"math"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
)

// blockEvents is how many events are sent at once: ClickHouse gathers the blocks of an insert, and ours stay small. The driver's
// columns grow by quarters, five times their final size in all, and are used again within an insert.
const blockEvents = 250

// roundBytes bounds what one INSERT holds: ClickHouse gathers up to 256 MB before it stores rows, and no event may be stored
// before the end of its timelines.
const roundBytes = 64 << 20

func (s *Store) write(ctx context.Context, facts []sent) (err error) {
	precedence := uint64(math.MaxInt64 - s.now())
	for len(facts) > 0 && err == nil {
		facts, err = s.writeRound(ctx, facts, precedence)
	}
	return err
}

// writeRound stores the first of the facts and returns the rest. It ends the timelines first and the events last: an event
// counts as stored once it is among the events, so what a crash leaves in the timelines is written again, over itself.
func (s *Store) writeRound(ctx context.Context, facts []sent, precedence uint64) (rest []sent, err error) {
	timelines, err := s.begin(ctx, "timelines", "entity, kind, occurred_at, id, known_at, precedence, payload")
	if err != nil {
		return nil, err
	}
	defer timelines.batch.Close()
	events, err := s.begin(ctx, "events", "id, kind, occurred_at, known_at, amount, currency, digest, precedence, payload")
	if err != nil {
		return nil, err
	}
	defer events.batch.Close()
	for size := 0; len(facts) > 0 && size < roundBytes; {
		block := newBlock(facts[:min(len(facts), blockEvents)], precedence)
		facts = facts[len(block.facts):]
		size += block.size
		var both errgroup.Group
		both.Go(func() error { return timelines.send(block.timelines()...) })
		both.Go(func() error { return events.send(block.events()...) })
		if err := both.Wait(); err != nil {
			return nil, err
		}
	}
	if err := timelines.end(); err != nil {
		return nil, err
	}
	return facts, events.end()
}

// insertion is an INSERT under way, column by column.
type insertion struct {
	table string
	batch driver.Batch
}

func (s *Store) begin(ctx context.Context, table, columns string) (*insertion, error) {
	batch, err := s.conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+columns+")")
	if err != nil {
		return nil, fmt.Errorf("insert %s: %w", table, err)
	}
	return &insertion{table, batch}, nil
}

// send takes the columns of one block, each a slice, or boxed values for a column of low cardinality: the driver would box
// every one of them anew.
func (in *insertion) send(columns ...any) error {
	for i, values := range columns {
		column := in.batch.Column(i)
		boxed, ok := values.([]any)
		if !ok {
			if err := column.Append(values); err != nil {
				return fmt.Errorf("insert %s: %w", in.table, err)
			}
			continue
		}
		for _, v := range boxed {
			if err := column.AppendRow(v); err != nil {
				return fmt.Errorf("insert %s: %w", in.table, err)
			}
		}
	}
	if err := in.batch.Flush(); err != nil {
		return fmt.Errorf("insert %s: %w", in.table, err)
	}
	return nil
}

func (in *insertion) end() error {
	if err := in.batch.Send(); err != nil {
		return fmt.Errorf("insert %s: %w", in.table, err)
	}
	return nil
}

// block is some facts on their way, with what both tables need of them.
type block struct {
	facts      []sent
	precedence []uint64 // as many as the longer table needs
	rows       int      // of the timelines
	payloads   []string
	kinds      []any
	size       int // bytes of the payloads
}

func newBlock(facts []sent, precedence uint64) *block {
	b := &block{facts: facts, payloads: make([]string, len(facts)), kinds: make([]any, len(facts))}
	var text []byte
	ends := make([]int, len(facts))
	boxes := map[string]any{}
	for i := range facts {
		f := &facts[i]
		text = appendFact(text, &f.Fact)
		ends[i] = len(text)
		if b.kinds[i] = boxes[f.Kind]; b.kinds[i] == nil {
			b.kinds[i] = f.Kind
			boxes[f.Kind] = b.kinds[i]
		}
		b.rows += len(f.Entities)
	}
	all, begin := string(text), 0
	b.size = len(all)
	for i, end := range ends {
		b.payloads[i] = all[begin:end]
		begin = end
	}
	b.precedence = make([]uint64, max(b.rows, len(facts)))
	for i := range b.precedence {
		b.precedence[i] = precedence
	}
	return b
}

func (b *block) timelines() []any {
	var names []byte
	entities, ids, payloads := make([]string, 0, b.rows), make([]string, 0, b.rows), make([]string, 0, b.rows)
	occurred, known := make([]int64, 0, b.rows), make([]int64, 0, b.rows)
	kinds := make([]any, 0, b.rows)
	ends := make([]int, 0, b.rows)
	for i := range b.facts {
		f := &b.facts[i]
		for _, e := range f.Timelines() {
			names = append(append(append(names, e.Kind...), ':'), e.ID...)
			ends = append(ends, len(names))
			ids, payloads, kinds = append(ids, f.ID), append(payloads, b.payloads[i]), append(kinds, b.kinds[i])
			occurred, known = append(occurred, int64(f.OccurredAt)), append(known, int64(f.KnownAt))
		}
	}
	all, begin := string(names), 0
	for _, end := range ends {
		entities = append(entities, all[begin:end])
		begin = end
	}
	return []any{entities, kinds, occurred, ids, known, b.precedence[:len(entities)], payloads}
}

func (b *block) events() []any {
	n := len(b.facts)
	ids, digests := make([]string, n), make([][]byte, n)
	occurred, known, amounts := make([]int64, n), make([]int64, n), make([]int64, n)
	currencies := make([]any, n)
	boxes := map[string]any{}
	for i := range b.facts {
		f := &b.facts[i]
		ids[i], digests[i] = f.ID, f.digest[:]
		occurred[i], known[i], amounts[i] = int64(f.OccurredAt), int64(f.KnownAt), f.Amount
		if currencies[i] = boxes[f.Currency]; currencies[i] == nil {
			currencies[i] = f.Currency
			boxes[f.Currency] = currencies[i]
		}
	}
	return []any{ids, b.kinds, occurred, known, amounts, currencies, digests, b.precedence[:n], b.payloads}
}
