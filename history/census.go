package history

import (
	"context"
	"fmt"
	"slices"

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
	var paid []string
	err := s.conn.QueryRow(ctx, `SELECT groupUniqArray(toString(kind)) FROM events WHERE occurred_at >= ? AND occurred_at < ? AND currency != ''`,
		int64(from), int64(until)).Scan(&paid)
	if err != nil {
		return nil, fmt.Errorf("count the kinds of events: %w", err)
	}
	rows, err := s.conn.Query(ctx, `
		SELECT substring(entity, 1, position(entity, ':') - 1) AS entity_kind, toString(kind) AS kind_name, count() AS events
		FROM timelines WHERE occurred_at >= ? AND occurred_at < ?
		GROUP BY entity_kind, kind_name ORDER BY entity_kind, kind_name`, int64(from), int64(until))
	if err != nil {
		return nil, fmt.Errorf("count the kinds of events: %w", err)
	}
	defer rows.Close()
	var out []Census
	for rows.Next() {
		var c Census
		if err := rows.Scan(&c.EntityKind, &c.Kind, &c.Events); err != nil {
			return nil, fmt.Errorf("count the kinds of events: %w", err)
		}
		c.Money = slices.Contains(paid, c.Kind)
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the kinds of events: %w", err)
	}
	return out, nil
}
