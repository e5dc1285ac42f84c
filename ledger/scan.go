package ledger

import (
	"context"
	"fmt"

	"vaglio"
)

// Replayable lists decisions taken in [from, until), the oldest first, of which what replay needs is still kept, at most limit
// behind a place. Call again with the last one's place until none comes.
func (l *Ledger) Replayable(ctx context.Context, from, until vaglio.Instant, after Place, limit int) ([]Place, error) {
	if after == (Place{}) {
		after.DecidedAt = from - 1
	}
	rows, err := l.read.QueryContext(ctx, replayableSQL, int64(from), int64(until), int64(after.DecidedAt), after.RequestID, limit)
	if err != nil {
		return nil, fmt.Errorf("list decisions from %s until %s: %w", from, until, err)
	}
	defer rows.Close()
	var all []Place
	for rows.Next() {
		var p Place
		if err := rows.Scan(&p.DecidedAt, &p.RequestID); err != nil {
			return nil, fmt.Errorf("list decisions from %s until %s: %w", from, until, err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// replayableSQL reads the index decisions_inputs, which is in order of decided_at.
const replayableSQL = `SELECT decided_at, request_id FROM decisions WHERE inputs IS NOT NULL AND decided_at >= $1 AND decided_at < $2
	AND decided_at >= $3 AND (decided_at > $3 OR request_id > $4) ORDER BY decided_at, request_id LIMIT $5`

// CountReplayable is how many decisions [Ledger.Replayable] lists in all.
func (l *Ledger) CountReplayable(ctx context.Context, from, until vaglio.Instant) (n int64, err error) {
	err = l.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM decisions WHERE inputs IS NOT NULL AND decided_at >= $1 AND decided_at < $2`,
		int64(from), int64(until)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count decisions from %s until %s: %w", from, until, err)
	}
	return n, nil
}
