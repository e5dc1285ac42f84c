package ledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
)

// at is the moment at which the tests happen.
var at = vaglio.InstantOf(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))

// hashed spreads a number as random identifiers are spread.
func hashed(n int64) string {
	sum := sha256.Sum256([]byte(strconv.FormatInt(n, 10)))
	return hex.EncodeToString(sum[:8])
}

func request(id, customer, payment string) *vaglio.Request {
	return &vaglio.Request{ID: id, Type: "refund", Amount: 1999, Currency: "EUR", Reason: "not_received", Authentication: "strong",
		Entities: vaglio.FieldsOf("customer", customer, "payment", payment, "device", "d_"+customer, "instrument", "card_"+customer,
			"merchant", "m_"+payment)}
}

func claim(r *vaglio.Request) ledger.Claim {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return ledger.Claim{RequestID: r.ID, Digest: r.Digest(), Body: body}
}

func subject(r *vaglio.Request) ledger.Subject {
	return ledger.Subject{Customer: r.Entities.Get(vaglio.EntityCustomer), Payment: r.Entities.Get(vaglio.EntityPayment), Currency: r.Currency, Amount: r.Amount}
}

func fact(r *vaglio.Request, t vaglio.Instant) vaglio.Fact {
	e := r.Event(t)
	return vaglio.Fact{Event: e, KnownAt: e.KnownAt(), BaseAmount: r.Amount, BaseKnown: true}
}

// approval reserves the request's whole amount.
func approval(r *vaglio.Request, t, valid vaglio.Instant) ledger.Entry {
	return ledger.Entry{DecisionID: "dec_" + r.ID, Verdict: vaglio.Approve, Response: []byte(`{"decision":"approve","request_id":"` + r.ID + `"}`),
		Inputs: []byte(`{"vector":[1,2,3]}`), Customer: r.Entities.Get(vaglio.EntityCustomer), Reserve: r.Amount, BaseAmount: r.Amount, ValidUntil: t + valid,
		DecidedAt: t, Event: fact(r, t)}
}

// inReview leaves a request to a reviewer.
func inReview(r *vaglio.Request, t vaglio.Instant) ledger.Entry {
	e := approval(r, t, 0)
	e.Verdict, e.Response = vaglio.Review, []byte(`{"decision":"review","request_id":"`+r.ID+`"}`)
	e.Reserve, e.BaseAmount, e.ValidUntil, e.ReviewDueAt, e.CaseID = 0, 0, 0, t+30*vaglio.Minute, "case_"+r.ID
	return e
}

func denial(r *vaglio.Request, t vaglio.Instant) ledger.Entry {
	e := inReview(r, t)
	e.Verdict, e.Response, e.ReviewDueAt, e.CaseID = vaglio.Deny, []byte(`{"decision":"deny","request_id":"`+r.ID+`"}`), 0, ""
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
