package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"

	"vaglio"
)

// State is what has become of a request.
type State string

// The states of a request.
const (
	PendingReview    State = "pending_review"
	AwaitingCustomer State = "awaiting_customer"
	Approved         State = "approved"
	PartlyApproved   State = "partly_approved"
	Denied           State = "denied"
	Cancelled        State = "cancelled"
	Expired          State = "expired"
)

// The states of an execution.
const (
	Submitted         = "submitted"
	Succeeded         = "succeeded"
	Failed            = "failed"
	ExecutionCanceled = "cancelled"
)

// Executions are the states of an execution.
var Executions = []string{Submitted, Succeeded, Failed, ExecutionCanceled}

// AskCustomer is a reviewer's verdict besides approve and deny: the customer has to say something first.
const AskCustomer vaglio.Verdict = "ask_customer"

// ErrTransition is what a request can't become from what it is; as a *TransitionError.
var ErrTransition = errors.New("the request's state does not allow this")

// TransitionError is an [ErrTransition].
type TransitionError struct {
	RequestID string
	From, To  string   // the state, or the execution's once there is one; what was asked for
	Legal     []string // what could have been asked for
}

func (e *TransitionError) Error() string {
	possible := "nothing more"
	if len(e.Legal) > 0 {
		possible = "only " + strings.Join(e.Legal, ", ")
	}
	return fmt.Sprintf("request %s: %v: it is %s, which allows %s, not %s", e.RequestID, ErrTransition, e.From, possible, e.To)
}

func (e *TransitionError) Unwrap() error { return ErrTransition }

// What can be done to a request, beside executions, by the name of its execution's state.
const (
	approves = "approve"
	denies   = "deny"
	asks     = "ask_customer"
	cancels  = "cancel"
	expires  = "expire"
)

// byEvent is the phase of a request whose end was told by an event only: its execution may still be reported.
func byEvent(execution string) string { return execution + ", told by an event" }

// transitions are the legal ones, by phase; a phase that is not here is final. An expired approval stays so: money that left
// all the same is told by an event refund_paid.
var transitions = map[string][]string{
	string(PendingReview):      {approves, denies, asks, cancels},
	string(AwaitingCustomer):   {approves, denies, asks, cancels},
	string(Approved):           {Submitted, Succeeded, Failed, ExecutionCanceled, cancels, expires},
	string(PartlyApproved):     {Submitted, Succeeded, Failed, ExecutionCanceled, cancels, expires},
	Submitted:                  {Succeeded, Failed, ExecutionCanceled},
	byEvent(Succeeded):         {Succeeded},
	byEvent(Failed):            {Failed},
	byEvent(ExecutionCanceled): {ExecutionCanceled},
}

// RequestState is a request with all that has become of it.
type RequestState struct {
	RequestID      string         `json:"request_id"`
	DecisionID     string         `json:"decision_id"`
	State          State          `json:"state"`
	Verdict        vaglio.Verdict `json:"decision"` // the first one, which never changes
	Customer       string         `json:"customer"`
	Payment        string         `json:"payment,omitzero"`
	Amount         int64          `json:"amount"` // requested, minor units of Currency
	Currency       string         `json:"currency"`
	ApprovedAmount int64          `json:"approved_amount"` // by the decision, or by the reviewer since
	DecidedAt      vaglio.Instant `json:"decided_at"`
	ValidUntil     vaglio.Instant `json:"valid_until,omitzero"`
	ReviewDueAt    vaglio.Instant `json:"review_due_at,omitzero"`
	DuplicateOf    string         `json:"duplicate_of,omitzero"`
	CaseID         string         `json:"case_id,omitzero"`
	Resolution     *Resolution    `json:"resolution,omitempty"`
	Execution      *Execution     `json:"execution,omitempty"`
	Pieces         []Piece        `json:"pieces,omitempty"` // that events told, while something was left
	Revisions      []Revision     `json:"revisions"`
}

// Execution is what a payment system says of an approved refund.
type Execution struct {
	State     string         `json:"state"`              // one of [Executions]
	Reference string         `json:"reference,omitzero"` // the provider's
	Amount    int64          `json:"amount,omitzero"`    // minor units that moved; asked with 0: all that was approved
	Reason    string         `json:"reason,omitzero"`    // of a failure or cancellation
	At        vaglio.Instant `json:"at"`                 // when it happened; asked with 0: now
	Actor     string         `json:"actor,omitzero"`     // who says so
	Events    []string       `json:"events,omitempty"`   // the events that told it, when nobody reported an execution
}

// Piece is a part of an approved refund that an event told: paid, failed or cancelled.
type Piece struct {
	Event    string         `json:"event"`
	Kind     string         `json:"kind"`
	Amount   int64          `json:"amount"` // minor units
	Currency string         `json:"currency"`
	At       vaglio.Instant `json:"at"`
}

// Resolution is a reviewer's verdict.
type Resolution struct {
	Verdict        vaglio.Verdict `json:"verdict"`                  // approve, deny, or [AskCustomer]
	ApprovedAmount int64          `json:"approved_amount,omitzero"` // minor units; asked with 0: all that was requested
	ValidUntil     vaglio.Instant `json:"valid_until,omitzero"`     // of an approval; asked with 0: in 24 hours
	By             string         `json:"by"`
	Reason         string         `json:"reason,omitzero"`
}

// Kinds of revisions.
const (
	RevisionResolution   = "resolution"   // detail: a Resolution
	RevisionExecution    = "execution"    // detail: an Execution
	RevisionPiece        = "piece"        // detail: a Piece
	RevisionCancellation = "cancellation" // detail: the reason
	RevisionExpiry       = "expiry"       // detail: the valid_until that has passed
)

// Revision is one thing that became of a request. Revisions are appended and never change.
type Revision struct {
	Seq    int            `json:"seq"` // from 1
	At     vaglio.Instant `json:"at"`
	Actor  string         `json:"actor,omitzero"`
	Kind   string         `json:"kind"`
	Detail jsontext.Value `json:"detail"`
}

// cancellation and expiry are details of revisions.
type (
	cancellation struct {
		Reason string `json:"reason,omitzero"`
	}
	expiry struct {
		ValidUntil vaglio.Instant `json:"valid_until"`
	}
)

// phase is what decides on what may come next.
func (r *RequestState) phase() string {
	switch {
	case r.Execution == nil, r.State == Expired:
		return string(r.State)
	case len(r.Execution.Events) > 0:
		return byEvent(r.Execution.State)
	default:
		return r.Execution.State
	}
}

// holds reports whether the request holds money back.
func (r *RequestState) holds() bool {
	p := r.phase()
	return p == string(Approved) || p == string(PartlyApproved) || p == Submitted
}

// told reports whether an event has been taken as a word about the request's refund.
func (r *RequestState) told(event string) bool {
	return slices.ContainsFunc(r.Pieces, func(p Piece) bool { return p.Event == event }) ||
		r.Execution != nil && slices.Contains(r.Execution.Events, event)
}

// toldPaid reports whether events have told that money left.
func (r *RequestState) toldPaid() bool {
	return slices.ContainsFunc(r.Pieces, func(p Piece) bool { return p.Kind == vaglio.KindRefundPaid })
}

// allow is a *TransitionError unless the request may become this.
func (r *RequestState) allow(to string) error {
	legal := transitions[r.phase()]
	if slices.Contains(legal, to) {
		return nil
	}
	return &TransitionError{r.RequestID, r.phase(), to, slices.DeleteFunc(slices.Clone(legal), func(s string) bool { return s == expires })}
}

// apply is what a revision makes of the state.
func (r *RequestState) apply(v Revision) error {
	r.Revisions = append(r.Revisions, v)
	switch v.Kind {
	case RevisionResolution:
		r.Resolution = &Resolution{}
		if err := json.Unmarshal(v.Detail, r.Resolution); err != nil {
			return err
		}
		switch r.Resolution.Verdict {
		case vaglio.Approve:
			r.approve(r.Resolution.ApprovedAmount, r.Resolution.ValidUntil)
		case vaglio.Deny:
			r.State = Denied
		case AskCustomer:
			r.State = AwaitingCustomer
		}
	case RevisionExecution:
		before := r.Execution
		r.Execution = &Execution{}
		if err := json.Unmarshal(v.Detail, r.Execution); err != nil {
			return err
		}
		if before != nil && len(before.Events) > 0 && len(r.Execution.Events) > 0 { // of one refund
			r.Execution.Events = append(before.Events, r.Execution.Events...)
			r.Execution.Amount += before.Amount
		}
		if r.Execution.State == ExecutionCanceled {
			r.State = Cancelled
		}
	case RevisionPiece:
		var p Piece
		if err := json.Unmarshal(v.Detail, &p); err != nil {
			return err
		}
		r.Pieces = append(r.Pieces, p)
	case RevisionCancellation:
		r.State = Cancelled
	case RevisionExpiry:
		r.State = Expired
	}
	return nil
}

func (r *RequestState) approve(amountMinor int64, validUntil vaglio.Instant) {
	r.State, r.ApprovedAmount, r.ValidUntil = Approved, amountMinor, validUntil
	if amountMinor < r.Amount {
		r.State = PartlyApproved
	}
}

func (r *RequestState) subject() Subject {
	return Subject{Customer: r.Customer, Payment: r.Payment, Currency: r.Currency, Amount: r.Amount}
}

const (
	stateSQL = `SELECT request_id, decision_id, verdict, customer_id, payment_id, amount, currency, reserved, decided_at, valid_until,
		review_due_at, duplicate_of, case_id FROM decisions WHERE request_id = $1`
	revisionsSQL = `SELECT seq, at, actor, kind, detail FROM revisions WHERE request_id = $1 ORDER BY seq`
)

// Request is a request with all that has become of it, or ErrNotFound. An approval whose time is over has expired, also
// while nobody has written that down.
func (l *Ledger) Request(ctx context.Context, id string) (RequestState, error) {
	r, err := l.readRequest(ctx, l.sql.readState, l.sql.readRevisions, id)
	if err == nil && l.now() >= r.ValidUntil && r.allow(expires) == nil {
		r.State = Expired
	}
	return r, err
}

func (l *Ledger) readRequest(ctx context.Context, state, revisions *sql.Stmt, id string) (RequestState, error) {
	r := RequestState{Revisions: []Revision{}}
	var reserved int64
	err := state.QueryRowContext(ctx, id).Scan(&r.RequestID, &r.DecisionID, &r.Verdict, &r.Customer, &r.Payment, &r.Amount, &r.Currency,
		&reserved, &r.DecidedAt, &r.ValidUntil, &r.ReviewDueAt, &r.DuplicateOf, &r.CaseID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, fmt.Errorf("request %s: %w", id, ErrNotFound)
	case err != nil:
		return r, fmt.Errorf("read request %s: %w", id, err)
	}
	switch r.Verdict {
	case vaglio.Approve:
		r.approve(reserved, r.ValidUntil)
	case vaglio.Deny:
		r.State = Denied
	default:
		r.State = PendingReview
	}
	rows, err := revisions.QueryContext(ctx, id)
	if err != nil {
		return r, fmt.Errorf("read the revisions of request %s: %w", id, err)
	}
	defer rows.Close()
	for rows.Next() {
		var v Revision
		if err = rows.Scan(&v.Seq, &v.At, &v.Actor, &v.Kind, (*[]byte)(&v.Detail)); err == nil {
			err = r.apply(v)
		}
		if err != nil {
			return r, fmt.Errorf("read the revisions of request %s: %w", id, err)
		}
	}
	return r, rows.Err()
}

// changeRequest runs f on a request within a transaction in which nobody else changes it, its payment or its customer's counters,
// and returns what f made of it.
func (l *Ledger) changeRequest(ctx context.Context, id string, f func(*transaction, *RequestState) error) (RequestState, error) {
	r, err := l.Request(ctx, id) // for its subject, which never changes
	if err != nil {
		return RequestState{}, err
	}
	err = l.locked(ctx, append(r.subject().locks(), requestLock(id)), func(t *transaction) error {
		if r, err = t.request(id); err != nil {
			return err
		}
		return f(t, &r)
	})
	if err != nil {
		return RequestState{}, err
	}
	return r, nil
}

// request reads a request, and writes down that it has expired.
func (t *transaction) request(id string) (RequestState, error) {
	r, err := t.readRequest(t.ctx, t.bind(t.sql.state), t.bind(t.sql.revisions), id)
	if err == nil && t.now >= r.ValidUntil && r.allow(expires) == nil {
		err = t.revise(&r, RevisionExpiry, "", &expiry{r.ValidUntil})
		err = errors.Join(err, t.close(&r))
	}
	return r, err
}

const (
	insertRevisionSQL = `INSERT INTO revisions (id, request_id, seq, at, actor, kind, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	closeSQL          = `DELETE FROM open_requests WHERE payment_id = $1 AND request_id = $2`
	submitSQL         = `UPDATE open_requests SET submitted = 1 WHERE payment_id = $1 AND request_id = $2`
	approveSQL        = `UPDATE open_requests SET approved = $1, valid_until = $2 WHERE payment_id = $3 AND request_id = $4`
	eventSQL          = `SELECT event FROM open_requests WHERE payment_id = $1 AND request_id = $2`
)

// revise appends a revision.
func (t *transaction) revise(r *RequestState, kind, actor string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("encode a revision of request %s: %w", r.RequestID, err)
	}
	v := Revision{Seq: len(r.Revisions) + 1, At: t.now, Actor: actor, Kind: kind, Detail: text}
	id := "rev_" + strings.ToLower(ulid.Make().String())
	_, err = t.tx.ExecContext(t.ctx, insertRevisionSQL, id, r.RequestID, int64(v.Seq), int64(v.At), v.Actor, v.Kind, []byte(v.Detail))
	if err != nil {
		return fmt.Errorf("append a revision to request %s: %w", r.RequestID, err)
	}
	t.addRevision(id, r.RequestID, &v)
	return r.apply(v)
}

// close says that a request is over: it holds nothing any more.
func (t *transaction) close(r *RequestState) error {
	if _, err := t.tx.ExecContext(t.ctx, closeSQL, r.Payment, r.RequestID); err != nil {
		return fmt.Errorf("close request %s: %w", r.RequestID, err)
	}
	return nil
}
