package history

import (
	"context"

	"vaglio"
)

// TimelinesPlan is ClickHouse's plan of the query behind [Store.Timelines], line by line.
func (s *Store) TimelinesPlan(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]string, error) {
	rows, err := s.conn.Query(ctx, "EXPLAIN indexes = 1 "+timelinesSQL, entityNames(entities), int64(asOf), 2*vaglio.NewestPerKind)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		plan = append(plan, line)
	}
	return plan, rows.Err()
}
