package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// maxText bounds, in bytes, what a caller may say of an execution, a cancellation or a resolution.
const maxText = 2000

// clockTolerance is how far ahead of the ledger's clock an execution may have happened.
const clockTolerance = 5 * vaglio.Minute

func checkTexts(bad *vaglio.Invalid, texts map[string]string) {
	for pointer, text := range texts {
		if len(text) > maxText {
			*bad = append(*bad, vaglio.FieldError{Pointer: pointer, Detail: fmt.Sprintf("is longer than %d bytes", maxText)})
		}
	}
}

// refuse is bad as an error, if there is anything.
func refuse(bad vaglio.Invalid) error {
	if len(bad) == 0 {
		return nil
	}
	return bad
}

// Execute records what a payment system says of an approved refund. Submitted keeps the approval from expiring; succeeded,
// failed and cancelled end the request and what it holds back, and put refund_paid, refund_failed or refund_cancelled
// into the outbox, with the id of the request, a colon and paid, failed or cancelled. The same again, at any time,
// changes nothing and gets the request as it is now. Errors: ErrNotFound, a *TransitionError, a [vaglio.Invalid].
func (l *Ledger) Execute(ctx context.Context, id string, e Execution) (RequestState, error) {
	var bad vaglio.Invalid
	if !slices.Contains(Executions, e.State) {
		bad = append(bad, vaglio.FieldError{Pointer: "/state", Detail: "want one of " + strings.Join(Executions, ", ")})
	}
	if e.Amount < 0 || e.Amount > vaglio.MaxAmount {
		bad = append(bad, vaglio.FieldError{Pointer: "/amount", Detail: fmt.Sprintf("want minor units from 0 to %d", int64(vaglio.MaxAmount))})
	}
	if e.At > l.now()+clockTolerance {
		bad = append(bad, vaglio.FieldError{Pointer: "/at", Detail: "is more than 5 minutes ahead of the server's clock"})
	}
	checkTexts(&bad, map[string]string{"/reference": e.Reference, "/reason": e.Reason})
	if err := refuse(bad); err != nil {
		return RequestState{}, err
	}
	e.Events = nil
	return l.changeRequest(ctx, id, func(t *transaction, r *RequestState) error {
		e := e
		if e.Amount == 0 {
			e.Amount = r.ApprovedAmount
		}
		if again, err := r.executed(&e); err != nil || again {
			return err
		}
		if err := r.allow(e.State); err != nil {
			return err
		}
		if e.Amount > r.ApprovedAmount {
			return vaglio.Invalid{{Pointer: "/amount", Detail: fmt.Sprintf("is more than the %d that were approved", r.ApprovedAmount)}}
		}
		if e.At == 0 {
			e.At = t.now
		}
		return t.execute(r, &e)
	})
}

// executed reports whether this very execution has been recorded.
func (r *RequestState) executed(e *Execution) (bool, error) {
	for _, v := range r.Revisions {
		if v.Kind != RevisionExecution {
			continue
		}
		var old Execution
		if err := json.Unmarshal(v.Detail, &old); err != nil {
			return false, fmt.Errorf("read revision %d of request %s: %w", v.Seq, r.RequestID, err)
		}
		if len(old.Events) == 0 && old.State == e.State && old.Reference == e.Reference && old.Reason == e.Reason && old.Amount == e.Amount {
			return true, nil
		}
	}
	return false, nil
}

// execute writes down an execution that is legal.
func (t *transaction) execute(r *RequestState, e *Execution) error {
	known := r.Execution != nil && len(r.Execution.Events) > 0 || e.State == Succeeded && r.toldPaid() // history was told by others
	if err := t.revise(r, RevisionExecution, e.Actor, e); err != nil {
		return err
	}
	switch {
	case e.State == Submitted:
		if _, err := t.tx.ExecContext(t.ctx, submitSQL, r.Payment, r.RequestID); err != nil {
			return fmt.Errorf("note that request %s is submitted: %w", r.RequestID, err)
		}
		return nil
	case e.State == Succeeded:
		if err := t.insertPaid(r, e); err != nil {
			return err
		}
		if known {
			return t.close(r)
		}
		return t.end(r, vaglio.KindRefundPaid, "paid", e.Amount, e.At)
	case known:
		return nil
	case e.State == Failed:
		return t.end(r, vaglio.KindRefundFailed, "failed", e.Amount, e.At)
	default:
		return t.end(r, "refund_cancelled", "cancelled", e.Amount, e.At)
	}
}

// end closes a request and tells history how it ended.
func (t *transaction) end(r *RequestState, kind, suffix string, amountMinor int64, at vaglio.Instant) error {
	var text []byte
	if err := t.tx.QueryRowContext(t.ctx, eventSQL, r.Payment, r.RequestID).Scan(textOf{&text}); err != nil {
		return fmt.Errorf("read the event of request %s: %w", r.RequestID, err)
	}
	request, err := decodeFact(text)
	if err != nil {
		return fmt.Errorf("read the event of request %s: %w", r.RequestID, err)
	}
	f := vaglio.Fact{Event: vaglio.Event{ID: r.RequestID + ":" + suffix, Kind: kind, OccurredAt: at, ObservedAt: t.now, Amount: amountMinor,
		Currency: r.Currency, Entities: slices.Clone(request.Entities).With(vaglio.EntityRequest, r.RequestID)}}
	f.KnownAt = f.Event.KnownAt()
	if request.BaseKnown && request.Amount > 0 && request.BaseAmount >= 0 {
		f.BaseAmount, f.BaseKnown = share(request.BaseAmount, amountMinor, request.Amount), true
	}
	if _, err := t.insertFact(f); err != nil {
		return err
	}
	return t.close(r)
}

// share is total × part / whole, rounded to the nearest, for 0 ≤ part ≤ whole.
func share(total, part, whole int64) int64 {
	high, low := bits.Mul64(uint64(total), uint64(part))
	low, carry := bits.Add64(low, uint64(whole/2), 0)
	quotient, _ := bits.Div64(high+carry, low, uint64(whole))
	return int64(quotient)
}

// Cancel withdraws a request that is neither over nor on its way to be paid, and tells history so by refund_cancelled. A
// cancelled request stays as it is. Errors: ErrNotFound, a *TransitionError, a [vaglio.Invalid].
func (l *Ledger) Cancel(ctx context.Context, id, reason, actor string) (RequestState, error) {
	var bad vaglio.Invalid
	checkTexts(&bad, map[string]string{"/reason": reason})
	if err := refuse(bad); err != nil {
		return RequestState{}, err
	}
	return l.changeRequest(ctx, id, func(t *transaction, r *RequestState) error {
		if r.State == Cancelled {
			return nil
		}
		if err := r.allow(cancels); err != nil {
			return err
		}
		if err := t.revise(r, RevisionCancellation, actor, &cancellation{reason}); err != nil {
			return err
		}
		return t.end(r, "refund_cancelled", "cancelled", r.Amount, t.now)
	})
}

// Resolve records a reviewer's verdict. An approval holds money back like a decision's; check, unless nil, is told what the
// ledger knows then, as in [Ledger.Record] and under its conditions, and its error keeps the request as it is. The same
// verdict again, as long as nothing came after it, changes nothing. Errors: that of check, ErrNotFound, a
// *TransitionError, a [vaglio.Invalid].
func (l *Ledger) Resolve(ctx context.Context, id string, v Resolution, check func(Standing) error) (RequestState, error) {
	steps := map[vaglio.Verdict]string{vaglio.Approve: approves, vaglio.Deny: denies, AskCustomer: asks}
	var bad vaglio.Invalid
	if steps[v.Verdict] == "" {
		bad = append(bad, vaglio.FieldError{Pointer: "/verdict", Detail: "want one of approve, deny, ask_customer"})
	}
	if v.ApprovedAmount < 0 || v.ApprovedAmount > 0 && v.Verdict != vaglio.Approve {
		bad = append(bad, vaglio.FieldError{Pointer: "/approved_amount", Detail: "is for approvals, in minor units from 0"})
	}
	if v.By == "" {
		bad = append(bad, vaglio.FieldError{Pointer: "/by", Detail: "is required"})
	}
	checkTexts(&bad, map[string]string{"/by": v.By, "/reason": v.Reason})
	if err := refuse(bad); err != nil {
		return RequestState{}, err
	}
	return l.changeRequest(ctx, id, func(t *transaction, r *RequestState) error {
		v := v
		if v.Verdict == vaglio.Approve && v.ApprovedAmount == 0 {
			v.ApprovedAmount = r.Amount
		}
		if r.resolved(&v) {
			return nil
		}
		if err := r.allow(steps[v.Verdict]); err != nil {
			return err
		}
		switch v.Verdict {
		case vaglio.Approve:
			return t.approve(r, &v, check)
		case vaglio.Deny:
			return errors.Join(t.revise(r, RevisionResolution, v.By, &v), t.close(r))
		default:
			return t.revise(r, RevisionResolution, v.By, &v)
		}
	})
}

// resolved reports whether the last thing that became of the request is this very resolution.
func (r *RequestState) resolved(v *Resolution) bool {
	if len(r.Revisions) == 0 || r.Revisions[len(r.Revisions)-1].Kind != RevisionResolution {
		return false
	}
	old := *r.Resolution
	if v.ValidUntil == 0 {
		old.ValidUntil = 0
	}
	return old == *v
}

func (t *transaction) approve(r *RequestState, v *Resolution, check func(Standing) error) error {
	if v.ValidUntil == 0 {
		v.ValidUntil = t.now + vaglio.Day
	}
	var bad vaglio.Invalid
	if v.ApprovedAmount > r.Amount {
		bad = append(bad, vaglio.FieldError{Pointer: "/approved_amount", Detail: fmt.Sprintf("is more than the %d that were requested", r.Amount)})
	}
	if v.ValidUntil <= t.now {
		bad = append(bad, vaglio.FieldError{Pointer: "/valid_until", Detail: "is not in the future"})
	}
	if err := refuse(bad); err != nil {
		return err
	}
	standings, err := t.sql.writer.read(t.ctx, t.bind, t.now, []Subject{r.subject()})
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(standings.of(r.subject(), r.RequestID)); err != nil {
			return err
		}
	}
	if err := t.revise(r, RevisionResolution, v.By, v); err != nil {
		return err
	}
	result, err := t.tx.ExecContext(t.ctx, approveSQL, v.ApprovedAmount, int64(v.ValidUntil), r.Payment, r.RequestID)
	if err != nil {
		return fmt.Errorf("reserve for request %s on payment %s: %w", r.RequestID, r.Payment, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("reserve for request %s on payment %s: %d rows changed: %w", r.RequestID, r.Payment, n, errors.Join(err, ErrNotFound))
	}
	return nil
}

// maxSweep is how many rows one transaction of a sweep changes: decisions wait for it.
const maxSweep = 100

const expiredSQL = `SELECT payment_id, request_id FROM open_requests WHERE approved > 0 AND submitted = 0 AND valid_until <= $1
	ORDER BY valid_until LIMIT $2`

// Expire writes down that approvals have expired whose time is over and whose execution nobody has begun, and says how
// many. What they held is free from that time on in any case.
func (l *Ledger) Expire(ctx context.Context) (n int, err error) {
	for {
		ids, locks, err := l.overdue(ctx)
		if err != nil || len(ids) == 0 {
			return n, err
		}
		expired := 0
		err = l.locked(ctx, locks, func(t *transaction) error {
			expired = 0
			for _, id := range ids {
				r, err := t.request(id)
				if err != nil {
					return err
				}
				if r.State == Expired {
					expired++
				}
			}
			return nil
		})
		if err != nil || expired == 0 {
			return n, err
		}
		n += expired
	}
}

// overdue finds approvals whose time is over.
func (l *Ledger) overdue(ctx context.Context) (ids, locks []string, err error) {
	rows, err := l.read.QueryContext(ctx, expiredSQL, int64(l.now()), maxSweep)
	if err != nil {
		return nil, nil, fmt.Errorf("look for expired approvals: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s Subject
		var id string
		if err := rows.Scan(&s.Payment, &id); err != nil {
			return nil, nil, fmt.Errorf("look for expired approvals: %w", err)
		}
		ids, locks = append(ids, id), append(append(locks, requestLock(id)), s.locks()...)
	}
	return ids, locks, rows.Err()
}
