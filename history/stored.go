package history

import (
	"context"
	"fmt"
	"math"

	"vaglio"
)

// StoredAt tells when events were stored, by their writer's clock; ids without an event are left out. It may be long after they
// were observed: whoever replays a decision learns by it what could not have been seen then.
func (s *Store) StoredAt(ctx context.Context, ids []string) (map[string]vaglio.Instant, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, names, err := withStrings(ctx, "wanted", ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "SELECT id, max(precedence) FROM events WHERE id IN "+names+" GROUP BY id")
	if err != nil {
		return nil, fmt.Errorf("read when events were stored: %w", err)
	}
	defer rows.Close()
	at := make(map[string]vaglio.Instant, len(ids))
	for rows.Next() {
		var id string
		var precedence uint64
		if err := rows.Scan(&id, &precedence); err != nil {
			return nil, fmt.Errorf("read when events were stored: %w", err)
		}
		at[id] = vaglio.Instant(math.MaxInt64 - precedence)
	}
	return at, rows.Err()
}
