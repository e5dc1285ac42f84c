package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"vaglio"
)

// GuardCount is what was decided in one minute in one segment of the policy, by all replicas.
type GuardCount struct {
	Minute    int64 // Unix minutes
	Segment   string
	Decisions int64
	Approvals int64
	Approved  int64 // minor units of the base currency
	Denials   int64
}

// AddGuardCounts adds to what is counted already.
func (l *Ledger) AddGuardCounts(ctx context.Context, counts []GuardCount) error {
	err := l.transact(ctx, func(tx *sql.Tx) error {
		for _, c := range counts {
			if _, err := tx.ExecContext(ctx, `INSERT INTO guard_counts (minute, segment, decisions, approvals, approved, denials)
				VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (minute, segment) DO UPDATE SET
				decisions = guard_counts.decisions + excluded.decisions, approvals = guard_counts.approvals + excluded.approvals,
				approved = guard_counts.approved + excluded.approved, denials = guard_counts.denials + excluded.denials`,
				c.Minute, c.Segment, c.Decisions, c.Approvals, c.Approved, c.Denials); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add to the guards' counts: %w", err)
	}
	return nil
}

// GuardCounts are the counts of the minutes from a moment on.
func (l *Ledger) GuardCounts(ctx context.Context, since vaglio.Instant) ([]GuardCount, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT minute, segment, decisions, approvals, approved, denials FROM guard_counts
		WHERE minute >= $1 ORDER BY minute, segment`, int64(since/vaglio.Minute))
	if err != nil {
		return nil, fmt.Errorf("read the guards' counts: %w", err)
	}
	defer rows.Close()
	var all []GuardCount
	for rows.Next() {
		var c GuardCount
		if err := rows.Scan(&c.Minute, &c.Segment, &c.Decisions, &c.Approvals, &c.Approved, &c.Denials); err != nil {
			return nil, fmt.Errorf("read the guards' counts: %w", err)
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// GuardTrip says that a guard tripped. It holds until Until, or until it is cleared.
type GuardTrip struct {
	ID        string         `json:"id"`
	Guard     string         `json:"guard"`
	Segment   string         `json:"segment,omitzero"`
	Detail    string         `json:"detail"`
	TrippedAt vaglio.Instant `json:"tripped_at"`
	Until     vaglio.Instant `json:"until,omitzero"` // 0: until cleared by hand
	ClearedAt vaglio.Instant `json:"cleared_at,omitzero"`
	ClearedBy string         `json:"cleared_by,omitzero"`
}

// Holds reports whether the guard holds at a moment.
func (g *GuardTrip) Holds(at vaglio.Instant) bool {
	return g.ClearedAt == 0 && (g.Until == 0 || at < g.Until)
}

// TripGuard records that a guard tripped; false when it holds already in that segment.
func (l *Ledger) TripGuard(ctx context.Context, g GuardTrip) (tripped bool, err error) {
	g.TrippedAt = l.now()
	err = l.transact(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO guard_trips (id, guard, segment, detail, tripped_at, until, cleared_at, cleared_by)
			SELECT $1, $2, $3, $4, CAST($5 AS BIGINT), CAST($6 AS BIGINT), 0, '' WHERE NOT EXISTS (SELECT 1 FROM guard_trips WHERE guard = $2 AND segment = $3
			AND cleared_at = 0 AND (until = 0 OR until > $5))`,
			g.ID, g.Guard, g.Segment, g.Detail, int64(g.TrippedAt), int64(g.Until))
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		tripped = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record that guard %s tripped: %w", g.Guard, err)
	}
	return tripped, nil
}

// ClearGuard ends a trip by hand and forgives what its segment was counted in the hour before, and what the clock has still before it; ErrNotFound if it
// was cleared before.
func (l *Ledger) ClearGuard(ctx context.Context, id, by string) error {
	return l.change(ctx, func(tx *sql.Tx, s *staged) error {
		s.note(AuditEntry{Actor: by, Action: "guard.cleared", Subject: id})
		result, err := tx.ExecContext(ctx, `UPDATE guard_trips SET cleared_at = $1, cleared_by = $2 WHERE id = $3 AND cleared_at = 0`, int64(l.now()), by, id)
		if err := oneRow(result, err, "clear guard "+id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM guard_counts WHERE minute > $1 AND segment = (SELECT segment FROM guard_trips WHERE id = $2)`,
			int64(l.now()/vaglio.Minute-60), id)
		return err
	})
}

// GuardTrips lists the latest trips, at most 100, the newest first; with open, only those that hold now, all of them.
func (l *Ledger) GuardTrips(ctx context.Context, open bool) ([]GuardTrip, error) {
	var query strings.Builder
	query.WriteString(`SELECT id, guard, segment, detail, tripped_at, until, cleared_at, cleared_by FROM guard_trips `)
	args := []any{}
	if open {
		query.WriteString(`WHERE cleared_at = 0 AND (until = 0 OR until > $1) ORDER BY tripped_at DESC, id`)
		args = append(args, int64(l.now()))
	} else {
		query.WriteString(`ORDER BY tripped_at DESC, id LIMIT 100`)
	}
	rows, err := l.read.QueryContext(ctx, query.String(), args...)
	if err != nil {
		return nil, fmt.Errorf("read the guards that tripped: %w", err)
	}
	defer rows.Close()
	var all []GuardTrip
	for rows.Next() {
		var g GuardTrip
		if err := rows.Scan(&g.ID, &g.Guard, &g.Segment, &g.Detail, &g.TrippedAt, &g.Until, &g.ClearedAt, &g.ClearedBy); err != nil {
			return nil, fmt.Errorf("read the guards that tripped: %w", err)
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

// SpendExploration takes an amount (minor units of the base currency) from a day's budget for letting requests through that the
// policy would not; false, and nothing taken, when not enough is left.
func (l *Ledger) SpendExploration(ctx context.Context, at vaglio.Instant, amountMinor, budgetMinor int64) (bool, error) {
	result, err := l.write.ExecContext(ctx, `INSERT INTO exploration (day, spent) SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT)
		WHERE CAST($2 AS BIGINT) <= CAST($3 AS BIGINT)
		ON CONFLICT (day) DO UPDATE SET spent = exploration.spent + excluded.spent WHERE exploration.spent + excluded.spent <= $3`,
		int64(at/vaglio.Day), amountMinor, budgetMinor)
	if err != nil {
		return false, fmt.Errorf("spend on exploration: %w", err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// ExplorationAffords reports whether [Ledger.SpendExploration] would find enough left, and takes nothing.
func (l *Ledger) ExplorationAffords(ctx context.Context, at vaglio.Instant, amountMinor, budgetMinor int64) (affords bool, err error) {
	err = l.read.QueryRowContext(ctx, `SELECT CAST($2 AS BIGINT) + COALESCE(SUM(spent), 0) <= CAST($3 AS BIGINT) FROM exploration WHERE day = CAST($1 AS BIGINT)`,
		int64(at/vaglio.Day), amountMinor, budgetMinor).Scan(&affords)
	if err != nil {
		return false, fmt.Errorf("read what is left for exploration: %w", err)
	}
	return affords, nil
}
