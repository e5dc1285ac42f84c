package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// Claim is what identifies one request for ever.
type Claim struct {
	RequestID string
	Digest    [32]byte // of the content
	Body      []byte   // canonical JSON of the content
}

// Payment is what a decision's exposure is counted against, in one currency. Without an ID there is none, and nothing
// is reserved.
type Payment struct {
	ID, Currency string
	Settled      []string // ids of requests whose money history already shows as paid, failed or cancelled
}

// Entry is one decision as it is stored.
type Entry struct {
	DecisionID string
	Response   []byte // what the caller gets, now and at every repetition
	Inputs     []byte // what replay needs
	Customer   string
	Reserve    int64 // minor units held back of the payment until ValidUntil; 0 unless approved
	ValidUntil vaglio.Instant
	DecidedAt  vaglio.Instant
	Event      vaglio.Fact // the request as history, delivered by [Ledger.Relay]
}

// ConflictError says that a request's id is taken by other content. It is an [ErrConflict].
type ConflictError struct {
	RequestID string
	Fields    []string // the top-level members that differ, sorted
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("request %s: %v: different %s", e.RequestID, ErrConflict, strings.Join(e.Fields, ", "))
}

func (e *ConflictError) Unwrap() error { return ErrConflict }

// Stored is a decision as it was recorded.
type Stored struct {
	RequestID, DecisionID     string
	Request, Response, Inputs []byte
	DecidedAt                 vaglio.Instant
}

const decisionOfSQL = `SELECT digest, request, response FROM decisions WHERE request_id = $1`

// Lookup returns the response stored for a request, if there is one. The same id with other content is a *ConflictError.
func (l *Ledger) Lookup(ctx context.Context, c Claim) (response []byte, found bool, err error) {
	return answerOf(ctx, l.sql.readDecisionOf, c)
}

// answerOf runs decisionOfSQL for a claim.
func answerOf(ctx context.Context, stmt *sql.Stmt, c Claim) (response []byte, found bool, err error) {
	var digest, body []byte
	switch err := stmt.QueryRowContext(ctx, c.RequestID).Scan(&digest, &body, &response); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("look up request %s: %w", c.RequestID, err)
	case string(digest) != string(c.Digest[:]):
		return nil, false, &ConflictError{c.RequestID, differences(body, c.Body)}
	default:
		return response, true, nil
	}
}

// differences names the members in which two JSON objects differ. The objects are canonical, so bytes tell.
func differences(a, b []byte) []string {
	var x, y map[string]jsontext.Value
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return []string{"body"}
	}
	names := map[string]bool{}
	for name, value := range x {
		names[name] = string(value) != string(y[name])
	}
	for name, value := range y {
		names[name] = string(value) != string(x[name])
	}
	maps.DeleteFunc(names, func(_ string, differs bool) bool { return !differs })
	return slices.Sorted(maps.Keys(names))
}

// Decision finds a decision by its own id or by its request's. A request that was named like another's decision does not
// hide it. The error is ErrNotFound when there is none.
func (l *Ledger) Decision(ctx context.Context, id string) (Stored, error) {
	for _, key := range []string{"decision_id", "request_id"} {
		var s Stored
		err := l.read.QueryRowContext(ctx, `SELECT request_id, decision_id, request, response, inputs, decided_at FROM decisions
			WHERE `+key+` = $1`, id).Scan(&s.RequestID, &s.DecisionID, &s.Request, &s.Response, &s.Inputs, &s.DecidedAt)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, sql.ErrNoRows):
			return Stored{}, fmt.Errorf("read decision %s: %w", id, err)
		}
	}
	return Stored{}, fmt.Errorf("decision %s: %w", id, ErrNotFound)
}

// Record stores a decision once and returns its response only when it is durable. The first call for a request runs
// decide, inside the transaction, with what other approvals still reserve of the payment (minor units); decide must be
// quick, must not call the ledger, and its error stores nothing. Every later call with the same digest gets the stored
// bytes and repeated = true; with another digest, a *ConflictError. ErrOutboxFull, before decide, says that history is
// too far behind. When ctx ends while the call still waits for its turn, nothing is stored; later, the outcome is
// awaited: decide never runs once Record has returned, and at most once. After any other error the decision is either
// stored or not, and asking again tells.
func (l *Ledger) Record(ctx context.Context, c Claim, p Payment, decide func(reserved int64) (Entry, error)) (response []byte, repeated bool, err error) {
	if err := l.enter(); err != nil {
		return nil, false, err
	}
	defer l.calls.Done()
	m := &member{claim: c, payment: p, decide: decide, done: make(chan struct{})}
	if err := l.join(ctx, m); err != nil {
		return nil, false, fmt.Errorf("record request %s: %w", c.RequestID, err)
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.response, m.repeated, m.err
}

const reservationsOfSQL = `SELECT request_id, amount FROM reservations WHERE payment_id = $1 AND currency = $2 AND valid_until > $3`

// Reserved is what open approvals hold of a payment now, in minor units. A decision is told within its own transaction; this
// is for those that record nothing.
func (l *Ledger) Reserved(ctx context.Context, p Payment) (int64, error) {
	return reservedOf(ctx, l.sql.readReservationsOf, p, l.now())
}

// reservedOf sums what others hold of a payment, in minor units. A sum beyond 63 bits stays at the largest number:
// nothing is left then.
func reservedOf(ctx context.Context, stmt *sql.Stmt, p Payment, now vaglio.Instant) (int64, error) {
	if p.ID == "" {
		return 0, nil
	}
	rows, err := stmt.QueryContext(ctx, p.ID, p.Currency, int64(now))
	if err != nil {
		return 0, fmt.Errorf("read the reservations of payment %s: %w", p.ID, err)
	}
	defer rows.Close()
	var sumMinor int64
	for rows.Next() {
		var request string
		var amountMinor int64
		if err := rows.Scan(&request, &amountMinor); err != nil {
			return 0, fmt.Errorf("read the reservations of payment %s: %w", p.ID, err)
		}
		if slices.Contains(p.Settled, request) {
			continue
		}
		if sumMinor > math.MaxInt64-amountMinor {
			return math.MaxInt64, nil
		}
		sumMinor += amountMinor
	}
	return sumMinor, rows.Err()
}

const insertDecisionSQL = `INSERT INTO decisions (request_id, decision_id, digest, request, response, inputs, customer_id, payment_id,
	currency, reserved, valid_until, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
	ON CONFLICT (request_id) DO NOTHING`

const insertReservationSQL = `INSERT INTO reservations (payment_id, currency, request_id, amount, valid_until) VALUES ($1, $2, $3, $4, $5)`

// insert writes the decision and its reservation. It is false when another process stored the request meanwhile.
func (g *group) insert(c Claim, p Payment, e Entry) (bool, error) {
	switch {
	case e.DecisionID == "":
		return false, fmt.Errorf("record request %s: the decision has no id", c.RequestID)
	case len(e.Response) == 0:
		return false, fmt.Errorf("record request %s: the response is empty", c.RequestID)
	case e.Reserve < 0:
		return false, fmt.Errorf("record request %s: it reserves %d", c.RequestID, e.Reserve)
	case p.ID == "":
		e.Reserve = 0
	}
	result, err := g.sql.insertDecision.ExecContext(g.ctx, c.RequestID, e.DecisionID, c.Digest[:], c.Body, e.Response, e.Inputs, e.Customer,
		p.ID, p.Currency, e.Reserve, int64(e.ValidUntil), int64(e.DecidedAt))
	if err != nil {
		return false, fmt.Errorf("store decision %s: %w", e.DecisionID, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	if e.Reserve > 0 {
		if _, err := g.sql.insertReservation.ExecContext(g.ctx, p.ID, p.Currency, c.RequestID, e.Reserve, int64(e.ValidUntil)); err != nil {
			return false, fmt.Errorf("reserve for request %s on payment %s: %w", c.RequestID, p.ID, err)
		}
	}
	g.addDecision(&c, &p, &e)
	return true, nil
}
