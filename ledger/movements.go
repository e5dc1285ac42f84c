package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"vaglio"
)

// moneyKinds are the events that say what became of a payment's money.
var moneyKinds = []string{vaglio.KindPayment, vaglio.KindRefundPaid, vaglio.KindRefundFailed, "refund_cancelled", vaglio.KindChargeback,
	"payment_returned", "payment_failed", "payment_cancelled"}

// outcomeKinds are those that end the request that they name.
var outcomeKinds = []string{vaglio.KindRefundPaid, vaglio.KindRefundFailed, "refund_cancelled"}

// MovementsStay is how long the ledger remembers the money that events told of: by then every reader of history sees it.
const MovementsStay = vaglio.Day

// movement is a row of movements.
type movement struct {
	Movement
	payment string
	knownAt vaglio.Instant
}

// maxMoved is how many events one transaction takes: decisions wait for it, and PostgreSQL has room for so many locks.
const maxMoved = 128

// Move tells the ledger of events once history has stored them, so that a decision under way misses none: what moved money
// of a payment counts from here on, beside what history shows, and what ended a refund settles or releases what its
// request held back. Other events are passed over. Telling an event again changes nothing: after an error, or when history
// says that an event was there already, tell them all.
func (l *Ledger) Move(ctx context.Context, facts []vaglio.Fact) error {
	facts = slices.DeleteFunc(slices.Clone(facts), func(f vaglio.Fact) bool { return !slices.Contains(moneyKinds, f.Kind) })
	for some := range slices.Chunk(facts, maxMoved) {
		if err := l.move(ctx, some); err != nil {
			return fmt.Errorf("note the money of %d events: %w", len(some), err)
		}
	}
	return nil
}

func (l *Ledger) move(ctx context.Context, facts []vaglio.Fact) error {
	var rows []movement
	var locks []string
	outcomes := make([]bool, len(facts)) // of requests that are known
	for i := range facts {
		f := &facts[i]
		m := movement{payment: f.Entities.Get(vaglio.EntityPayment), knownAt: f.KnownAt, Movement: Movement{EventID: f.ID, Kind: f.Kind,
			RequestID: f.Entities.Get(vaglio.EntityRequest), Customer: f.Entities.Get(vaglio.EntityCustomer), Amount: f.Amount,
			Currency: f.Currency, OccurredAt: f.OccurredAt}}
		if m.RequestID != "" && slices.Contains(outcomeKinds, f.Kind) {
			subject, err := l.subjectOf(ctx, m.RequestID)
			if err != nil {
				return err
			}
			if outcomes[i] = subject != nil; outcomes[i] {
				locks = append(append(locks, requestLock(m.RequestID)), subject.locks()...)
				if m.payment == "" {
					m.payment = subject.Payment
				}
			}
		}
		if m.payment != "" {
			rows = append(rows, m)
			locks = append(locks, Subject{Payment: m.payment}.locks()...)
		}
	}
	return l.locked(ctx, locks, func(t *transaction) error {
		if err := t.insertMovements(rows); err != nil {
			return err
		}
		for i := range facts {
			if outcomes[i] {
				if err := t.settle(&facts[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// subjectOf is the subject of a request, nil when there is none.
func (l *Ledger) subjectOf(ctx context.Context, id string) (*Subject, error) {
	var s Subject
	err := l.read.QueryRowContext(ctx, `SELECT customer_id, payment_id FROM decisions WHERE request_id = $1`, id).Scan(&s.Customer, &s.Payment)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look up request %s: %w", id, err)
	default:
		return &s, nil
	}
}

const insertMovementSQL = `INSERT INTO movements (payment_id, event_id, kind, request_id, customer_id, amount, currency, occurred_at,
	known_at, told_at, own) VALUES `

// insertMovements keeps what is there already.
func (t *transaction) insertMovements(all []movement) error {
	var values []any
	for _, m := range all {
		values = append(values, m.payment, m.EventID, m.Kind, m.RequestID, m.Customer, m.Amount, m.Currency, int64(m.OccurredAt),
			int64(m.knownAt), int64(t.now), int64(0))
	}
	if err := t.sql.insertMovements.exec(t.ctx, t.tx, values); err != nil {
		return fmt.Errorf("store %d movements: %w", len(all), err)
	}
	return nil
}

const insertPaidSQL = `INSERT INTO movements (payment_id, event_id, kind, request_id, customer_id, amount, currency, occurred_at,
	known_at, told_at, own) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1)
	ON CONFLICT (payment_id, event_id) DO UPDATE SET amount = excluded.amount, currency = excluded.currency, own = 1`

// insertPaid stores the money of an execution, for good, whatever history makes of the event of this id.
func (t *transaction) insertPaid(r *RequestState, e *Execution) error {
	if r.Payment == "" {
		return nil
	}
	_, err := t.tx.ExecContext(t.ctx, insertPaidSQL, r.Payment, r.RequestID+PaidSuffix, vaglio.KindRefundPaid, r.RequestID, r.Customer, e.Amount,
		r.Currency, int64(e.At), int64(t.now))
	if err != nil {
		return fmt.Errorf("store what request %s was paid: %w", r.RequestID, err)
	}
	return nil
}

// PaidSuffix makes a request's id that of the event by which the ledger tells that it was paid.
const PaidSuffix = ":paid"

// settle ends a request by what an event says of it. What the request's state does not allow changes nothing: the money
// counts all the same, as a movement.
func (t *transaction) settle(f *vaglio.Fact) error {
	r, err := t.request(f.Entities.Get(vaglio.EntityRequest))
	if err != nil {
		return err
	}
	if r.Execution != nil && slices.Contains(r.Execution.Events, f.ID) {
		return nil
	}
	to := map[string]string{vaglio.KindRefundPaid: Succeeded, vaglio.KindRefundFailed: Failed, "refund_cancelled": ExecutionCanceled}[f.Kind]
	switch {
	case r.allow(to) == nil:
		e := Execution{State: to, Amount: f.Amount, At: f.OccurredAt, Events: []string{f.ID}}
		return errors.Join(t.revise(&r, RevisionExecution, "", &e), t.close(&r))
	case f.Kind == "refund_cancelled" && r.allow(cancels) == nil:
		return errors.Join(t.revise(&r, RevisionCancellation, "", &cancellation{"event " + f.ID}), t.close(&r))
	default:
		return nil
	}
}

const dropMovementsSQL = `DELETE FROM movements WHERE (payment_id, event_id) IN (SELECT payment_id, event_id FROM movements
	WHERE own = 0 AND told_at <= $1 ORDER BY told_at LIMIT $2)`

// DropMovements forgets events that the ledger was told of more than [MovementsStay] ago, and says how many.
func (l *Ledger) DropMovements(ctx context.Context) (n int, err error) {
	before := l.now() - MovementsStay
	for {
		result, err := l.write.ExecContext(ctx, dropMovementsSQL, int64(before), 10*maxSweep)
		if err != nil {
			return n, fmt.Errorf("drop old movements: %w", err)
		}
		dropped, err := result.RowsAffected()
		n += int(dropped)
		if err != nil || dropped < 10*maxSweep {
			return n, err
		}
	}
}
