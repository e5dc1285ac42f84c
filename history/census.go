package history

import (
	"context"
	"fmt"

	"vaglio"
)

// Census counts what the timelines of one kind of entity hold of one kind of event.
type Census struct {
	EntityKind string
	Kind       string
	Events     uint64 // a repetition that is not merged away yet counts again
	Money      bool   // some event of the kind, in whatever timeline, has an amount
}

// Census counts the events that occurred in [from, until), by kind of entity and kind of event, sorted by both.
func (s *Store) Census(ctx context.Context, from, until vaglio.Instant) ([]Census, error) {
	rows, err := s.conn.Query(ctx, `
		SELECT entity_kind, kind, events, kind IN (
			SELECT kind FROM events WHERE occurred_at >= ? AND occurred_at < ? GROUP BY kind HAVING max(currency != '')) AS money
		FROM (
			SELECT substring(entity, 1, position(entity, ':') - 1) AS entity_kind, toString(kind) AS kind, count() AS events
			FROM timelines WHERE occurred_at >= ? AND occurred_at < ?
			GROUP BY entity_kind, kind)
		ORDER BY entity_kind, kind`, int64(from), int64(until), int64(from), int64(until))
	if err != nil {
		return nil, fmt.Errorf("count the kinds of events: %w", err)
	}
	defer rows.Close()
	var out []Census
	for rows.Next() {
		var c Census
		var money uint8
		if err := rows.Scan(&c.EntityKind, &c.Kind, &c.Events, &money); err != nil {
			return nil, fmt.Errorf("count the kinds of events: %w", err)
		}
		c.Money = money == 1
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the kinds of events: %w", err)
	}
	return out, nil
}
