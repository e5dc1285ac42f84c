package history

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"vaglio"
)

// Step is one moment in the life of a timeline: a fact becomes known, or a request of the replayed period asks what is
// known by then.
type Step struct {
	Entity vaglio.Entity
	Asks   bool
	Fact   vaglio.Fact // of Asks: the request itself
}

// Replay streams the timelines of one kind of entity that hold requests of [from, until), as decisions at the requests'
// moments would have met them: each fact of the given kinds (nil: of all) at the moment at which it became known, each
// request as a question at the moment at which it occurred, after what was known by then. Facts that no request of the
// period could see are left out. A fact may come twice in a row.
//
// Each timeline goes whole and in order to one of the visitors, which run side by side, each in one goroutine; the Step
// is theirs until they return. ClickHouse sorts, one timeline at a time; here no more than a few thousand facts are
// held, whatever the size of a timeline. The first error ends it.
func (s *Store) Replay(ctx context.Context, entityKind string, kinds []string, from, until vaglio.Instant, visitors []func(*Step) error) error {
	group, ctx := errgroup.WithContext(ctx)
	queues := make([]chan []stepRow, len(visitors))
	for i, visit := range visitors {
		queues[i] = make(chan []stepRow, 4)
		group.Go(func() error {
			var step Step
			var name string
			for rows := range queues[i] {
				for _, row := range rows {
					if row.entity != name {
						name = row.entity
						step.Entity = entityOf(name)
					}
					step.Asks = row.asks == 1
					if err := decodeInto(&step.Fact, row.payload); err != nil {
						return err
					}
					if err := visit(&step); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer func() {
			for _, queue := range queues {
				close(queue)
			}
		}()
		return s.steps(ctx, entityKind, kinds, from, until, queues)
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("replay the timelines of kind %s: %w", entityKind, err)
	}
	return nil
}

// stepRow is a Step as it comes.
type stepRow struct {
	entity  string
	payload string
	asks    uint8
}

// stepRows is how many rows go to a visitor at once: some hundred kilobytes.
const stepRows = 1000

// replaySQL reads in the order of the primary key, so that ClickHouse sorts by moment within one entity at a time. A
// request comes twice: as a fact and as a question, which is the later of the two at equal times, and which may come long
// before its own fact, if that was observed late.
const replaySQL = `
	SELECT entity, payload, moment.2 AS asks
	FROM (
		SELECT entity, id, precedence, payload,
			arrayJoin(if(kind = 'refund_requested' AND occurred_at >= ? AND occurred_at < ?,
				[(known_at, 0), (occurred_at, 1)], [(known_at, 0)])) AS moment
		FROM timelines
		WHERE entity >= ? AND entity < ? AND occurred_at >= ? AND (known_at < ? OR kind = 'refund_requested' AND occurred_at < ?) %s
			AND entity IN (SELECT entity FROM timelines
				WHERE entity >= ? AND entity < ? AND kind = 'refund_requested' AND occurred_at >= ? AND occurred_at < ?)
	)
	ORDER BY entity, moment.1, moment.2, id, precedence DESC
	SETTINGS optimize_read_in_order = 1, max_block_size = 8192`

// steps reads the rows and hands each timeline to one queue.
func (s *Store) steps(ctx context.Context, entityKind string, kinds []string, from, until vaglio.Instant, queues []chan []stepRow) error {
	first, last := entityKind+":", entityKind+";"
	since := from - vaglio.Horizon
	if entityKind == vaglio.EntityPayment {
		since = 0 // without a horizon, since money stays paid
	}
	bound := []any{int64(from), int64(until), first, last, int64(since), int64(until), int64(until)}
	ofKinds := ""
	if kinds != nil {
		ofKinds = "AND kind IN (?)"
		bound = append(bound, append(kinds[:len(kinds):len(kinds)], vaglio.KindRefundRequested))
	}
	bound = append(bound, first, last, int64(from), int64(until))
	rows, err := s.conn.Query(ctx, fmt.Sprintf(replaySQL, ofKinds), bound...)
	if err != nil {
		return err
	}
	defer rows.Close()
	queue := 0
	batch := make([]stepRow, 0, stepRows)
	flush := func() error {
		select {
		case queues[queue] <- batch:
			batch = make([]stepRow, 0, stepRows)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for rows.Next() {
		var row stepRow
		if err := rows.Scan(&row.entity, &row.payload, &row.asks); err != nil {
			return err
		}
		if len(batch) >= stepRows {
			sameTimeline := batch[len(batch)-1].entity == row.entity
			if err := flush(); err != nil {
				return err
			}
			if !sameTimeline {
				queue = (queue + 1) % len(queues)
			}
		}
		batch = append(batch, row)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return flush()
}
