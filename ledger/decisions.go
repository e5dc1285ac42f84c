package ledger

import (
	"context"
	"fmt"
	"math"

	"vaglio"
)

// Listed is a decision in a list.
type Listed struct {
	RequestID      string         `json:"request_id"`
	DecisionID     string         `json:"decision_id"`
	Verdict        vaglio.Verdict `json:"decision"`
	Amount         int64          `json:"amount"` // requested, minor units of Currency
	Currency       string         `json:"currency"`
	ApprovedAmount int64          `json:"approved_amount"`
	DecidedAt      vaglio.Instant `json:"decided_at"`
	CaseID         string         `json:"case_id,omitzero"`
	DuplicateOf    string         `json:"duplicate_of,omitzero"`
}

// Place is where a list of decisions goes on: behind this one. Its zero value is the beginning.
type Place struct {
	DecidedAt vaglio.Instant `json:"t"`
	RequestID string         `json:"r"`
}

// DecisionsOf lists decisions on requests of a customer, the newest first, taken in [from, until), 0 for no bound.
func (l *Ledger) DecisionsOf(ctx context.Context, customer string, from, until vaglio.Instant, after Place, limit int) ([]Listed, error) {
	if until == 0 {
		until = math.MaxInt64
	}
	if after == (Place{}) {
		after.DecidedAt = math.MaxInt64
	}
	rows, err := l.read.QueryContext(ctx, `SELECT request_id, decision_id, verdict, amount, currency, reserved, decided_at, case_id, duplicate_of
		FROM decisions WHERE customer_id = $1 AND decided_at >= $2 AND decided_at < $3
			AND decided_at <= $4 AND (decided_at < $4 OR request_id < $5)
		ORDER BY decided_at DESC, request_id DESC LIMIT $6`,
		customer, int64(from), int64(until), int64(after.DecidedAt), after.RequestID, limit) // decided_at comes from the index decisions_customer
	if err != nil {
		return nil, fmt.Errorf("list decisions: %w", err)
	}
	defer rows.Close()
	all := []Listed{}
	for rows.Next() {
		var d Listed
		if err := rows.Scan(&d.RequestID, &d.DecisionID, &d.Verdict, &d.Amount, &d.Currency, &d.ApprovedAmount, &d.DecidedAt, &d.CaseID, &d.DuplicateOf); err != nil {
			return nil, fmt.Errorf("list decisions: %w", err)
		}
		all = append(all, d)
	}
	return all, rows.Err()
}
