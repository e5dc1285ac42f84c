package ledger

import (
	"context"
	"fmt"
)

// OpenReviews is how many requests wait for a reviewer, or for a customer whom a reviewer has asked.
func (l *Ledger) OpenReviews(ctx context.Context) (int64, error) {
	var n int64
	if err := l.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM open_requests WHERE approved = 0`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count open reviews: %w", err)
	}
	return n, nil
}
