package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
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

// Entry is one decision as it is stored.
type Entry struct {
	DecisionID  string
	Verdict     vaglio.Verdict
	Response    []byte // what the caller gets, now and at every repetition
	Inputs      []byte // what replay needs
	Customer    string
	Reserve     int64 // approved, minor units, held back of the payment until ValidUntil; 0 unless approved
	BaseAmount  int64 // of Reserve, minor units of the base currency, for the customer's counters; 0: not known
	ValidUntil  vaglio.Instant
	ReviewDueAt vaglio.Instant // 0 unless in review
	CaseID      string         // "" unless in review
	DuplicateOf string         // the open request that came first
	DecidedAt   vaglio.Instant
	Event       vaglio.Fact  // the request as history, delivered by the relay
	Taken       vaglio.Taken // for analytics, delivered by the relay; none without a DecisionID
}

// check finds what would be a mistake of the caller.
func (e *Entry) check(c Claim, s Subject) error {
	var wrong string
	switch {
	case e.DecisionID == "":
		wrong = "the decision has no id"
	case len(e.Response) == 0:
		wrong = "the response is empty"
	case e.Verdict != vaglio.Approve && e.Verdict != vaglio.Review && e.Verdict != vaglio.Deny:
		wrong = fmt.Sprintf("the verdict is %q", e.Verdict)
	case e.Reserve < 0, e.Reserve > s.Amount, (e.Reserve > 0) != (e.Verdict == vaglio.Approve):
		wrong = fmt.Sprintf("it reserves %d of %d with the verdict %s", e.Reserve, s.Amount, e.Verdict)
	default:
		return nil
	}
	return fmt.Errorf("record request %s: %s", c.RequestID, wrong)
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
	var s stored
	switch err := l.sql.readDecisionOf.QueryRowContext(l.unwatched(ctx), c.RequestID).Scan(&s.digest, textOf{&s.request}, textOf{&s.response}); {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("look up request %s: %w", c.RequestID, err)
	}
	response, err = s.answer(c)
	return response, err == nil, err
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
// hide it. The error is ErrNotFound when there is none, ErrNotKept when its texts are gone; only its inputs may be gone too.
func (l *Ledger) Decision(ctx context.Context, id string) (Stored, error) {
	for _, key := range []string{"decision_id", "request_id"} {
		var s Stored
		err := l.read.QueryRowContext(ctx, `SELECT request_id, decision_id, request, response, inputs, decided_at FROM decisions
			WHERE `+key+` = $1`, id).Scan(&s.RequestID, &s.DecisionID, textOf{&s.Request}, textOf{&s.Response},
			textOf{&s.Inputs}, &s.DecidedAt)
		switch {
		case err == nil && len(s.Response) == 0:
			return Stored{}, fmt.Errorf("decision %s: %w", id, ErrNotKept)
		case err == nil:
			return s, nil
		case !errors.Is(err, sql.ErrNoRows):
			return Stored{}, fmt.Errorf("read decision %s: %w", id, err)
		}
	}
	return Stored{}, fmt.Errorf("decision %s: %w", id, ErrNotFound)
}

// Record stores a decision once and returns its response only when it is durable. The first call for a request runs
// decide, inside the transaction, with what the ledger knows of the subject at that moment, decisions of other replicas
// and of the same group included; decide must be quick, must not call the ledger, and its error stores nothing. When the
// database ends the transaction for the sake of others, decide runs again, with what is known then: only its last answer
// counts, so it must not build on an earlier one. Every later call with the same digest gets the stored bytes and
// repeated = true; with another digest, a *ConflictError. ErrOutboxFull, before decide, says that history is too far
// behind. When ctx ends while the call still waits for its turn, nothing is stored; later, the outcome is awaited: decide
// never runs once Record has returned. After any other error the decision is either stored or not, and asking again tells.
func (l *Ledger) Record(ctx context.Context, c Claim, s Subject, decide func(Standing) (Entry, error)) (response []byte, repeated bool, err error) {
	if err := l.enter(); err != nil {
		return nil, false, err
	}
	defer l.calls.Done()
	m := &member{claim: c, subject: s, decide: decide, done: make(chan struct{})}
	if err := l.join(ctx, m); err != nil {
		return nil, false, fmt.Errorf("record request %s: %w", c.RequestID, err)
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.response, m.repeated, m.err
}

const (
	insertDecisionSQL = `INSERT INTO decisions (request_id, decision_id, digest, request, response, inputs, customer_id, payment_id,
		currency, reserved, valid_until, decided_at, verdict, amount, base_amount, review_due_at, case_id, duplicate_of) VALUES `
	insertOpenSQL = `INSERT INTO open_requests (payment_id, request_id, currency, amount, approved, submitted, valid_until, decided_at,
		case_id, event) VALUES `
)

// insert writes decisions and those of their requests that are not over with it.
func (t *transaction) insert(all []decided) error {
	decisions, open := make([]any, 0, 18*len(all)), make([]any, 0, 10*len(all))
	t.expect(len(all))
	room := t.packed[:0]
	defer func() { t.packed = room }()
	stored := func(text []byte) []byte {
		if text == nil {
			return nil
		}
		from := len(room)
		room = appendText(room, text)
		return slices.Clip(room[from:])
	}
	for i := range all {
		c, s, e := &all[i].claim, &all[i].subject, &all[i].entry
		request, response, inputs := stored(c.Body), stored(e.Response), stored(e.Inputs)
		decisions = append(decisions, c.RequestID, e.DecisionID, c.Digest[:], request, response, inputs, e.Customer, s.Payment, s.Currency,
			e.Reserve, int64(e.ValidUntil), int64(e.DecidedAt), string(e.Verdict), s.Amount, countedAmount(e), int64(e.ReviewDueAt), e.CaseID,
			e.DuplicateOf)
		event, err := t.insertFact(e.Event)
		if err != nil {
			return err
		}
		if e.Taken.DecisionID != "" {
			if err := t.insertTaken(e.Taken); err != nil {
				return err
			}
		}
		t.addDecision(c, s, e, request, response, inputs)
		if e.Verdict == vaglio.Deny {
			continue
		}
		open = append(open, s.Payment, c.RequestID, s.Currency, s.Amount, e.Reserve, int64(0), int64(e.ValidUntil), int64(e.DecidedAt),
			e.CaseID, stored(event))
	}
	if err := t.sql.insertDecisions.exec(t.ctx, t.tx, decisions); err != nil {
		return fmt.Errorf("store %d decisions: %w", len(all), err)
	}
	if err := t.sql.insertOpen.exec(t.ctx, t.tx, open); err != nil {
		return fmt.Errorf("store %d open requests: %w", len(all), err)
	}
	return nil
}
