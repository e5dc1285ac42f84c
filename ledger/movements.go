package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
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
// of a payment counts from here on, beside what history shows, and what was paid or failed of a refund, in one piece or in
// several, settles or releases as much of what its request held back. Other events are passed over. Telling an event again
// changes nothing: after an error, or when history says that an event was there already, tell them all.
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
	var told, outcomes []movement // outcomes are those of requests that are known
	var locks []string
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
			if subject != nil {
				m.payment = cmp.Or(m.payment, subject.Payment)
				locks = append(append(locks, requestLock(m.RequestID)), subject.locks()...)
				outcomes = append(outcomes, m)
			}
		}
		if m.payment != "" {
			told = append(told, m)
			locks = append(locks, Subject{Payment: m.payment}.locks()...)
		}
	}
	return l.locked(ctx, locks, func(t *transaction) error {
		var fresh []movement // what was told before an approval says nothing of it when it is told again
		for _, m := range outcomes {
			before, err := t.texts(`SELECT event_id FROM movements WHERE payment_id = $1 AND event_id = $2`, m.payment, m.EventID)
			if err != nil {
				return err
			}
			if len(before) == 0 {
				fresh = append(fresh, m)
			}
		}
		if err := t.insertMovements(told); err != nil {
			return err
		}
		for i := range fresh {
			if err := t.settle(&fresh[i].Movement); err != nil {
				return err
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

// Refund is what was told of one request's refund: by its execution, and by events that name the request, in any order. The
// zero value says that nothing was. An approval covers all that is paid under its request's id, whenever that was told.
type Refund struct {
	executed, told int64 // paid
	released       int64 // pieces that failed or were cancelled
	ended          bool  // whatever was told in numbers
}

// Add counts a refund_paid, refund_failed or refund_cancelled of a request in a currency, each once. A refund_paid settles its
// amount of what is approved; the others release theirs, without an amount all of it. What is told in another currency, or
// by the execution, ends the refund.
func (r *Refund) Add(m *Movement, currency string) {
	switch sum := &r.told; {
	case m.Kind == vaglio.KindRefundPaid:
		if m.EventID == m.RequestID+PaidSuffix {
			sum = &r.executed
		}
		*sum += min(m.Amount, math.MaxInt64-*sum)
		r.ended = r.ended || sum == &r.executed || m.Currency != currency
	case m.Amount > 0 && m.Currency == currency:
		r.released += min(m.Amount, math.MaxInt64-r.released)
	default:
		r.ended = true
	}
}

// Paid is what has left for the request: the larger of what its execution and what events told.
func (r *Refund) Paid() int64 { return max(r.executed, r.told) }

// Rest is what an approval still holds back.
func (r *Refund) Rest(approvedMinor int64) int64 {
	if r.ended {
		return 0
	}
	return max(0, max(0, approvedMinor-r.told)-r.released)
}

// settle notes what an event says of a request's refund: a piece of what is approved, or its end. What the request's state does
// not allow changes nothing: the money counts all the same, as a movement.
func (t *transaction) settle(m *Movement) error {
	r, err := t.request(m.RequestID)
	if err != nil || r.told(m.EventID) {
		return err
	}
	to := map[string]string{vaglio.KindRefundPaid: Succeeded, vaglio.KindRefundFailed: Failed, "refund_cancelled": ExecutionCanceled}[m.Kind]
	switch {
	case r.holds():
		return t.settlePiece(&r, Piece{m.EventID, m.Kind, m.Amount, m.Currency, m.OccurredAt}, to)
	case r.allow(to) == nil:
		return t.revise(&r, RevisionExecution, "", &Execution{State: to, Amount: m.Amount, At: m.OccurredAt, Events: []string{m.EventID}})
	case m.Kind == "refund_cancelled" && r.allow(cancels) == nil:
		return errors.Join(t.revise(&r, RevisionCancellation, "", &cancellation{"event " + m.EventID}), t.close(&r))
	default:
		return nil
	}
}

// releaseSQL takes what failed from what an approval holds back. What was paid is told by movements and by history.
const releaseSQL = `UPDATE open_requests SET approved = approved - $1 WHERE payment_id = $2 AND request_id = $3`

// settlePiece notes a piece of a refund that is approved. The last one ends it: as succeeded if anything was paid.
func (t *transaction) settlePiece(r *RequestState, p Piece, to string) error {
	pieces := append(slices.Clone(r.Pieces), p)
	var all Refund
	var events []string
	for _, p := range pieces {
		all.Add(&Movement{EventID: p.Event, Kind: p.Kind, RequestID: r.RequestID, Amount: p.Amount, Currency: p.Currency}, r.Currency)
		events = append(events, p.Event)
	}
	if all.Rest(r.ApprovedAmount) > 0 {
		if p.Kind != vaglio.KindRefundPaid {
			if _, err := t.tx.ExecContext(t.ctx, releaseSQL, p.Amount, r.Payment, r.RequestID); err != nil {
				return fmt.Errorf("release a piece of request %s: %w", r.RequestID, err)
			}
		}
		return t.revise(r, RevisionPiece, "", &p)
	}
	e := Execution{State: to, Amount: p.Amount, At: p.At, Events: events}
	if all.Paid() > 0 {
		e.State, e.Amount = Succeeded, all.Paid()
	}
	return errors.Join(t.revise(r, RevisionExecution, "", &e), t.close(r))
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
