package api_test

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vaglio/api"
	"vaglio/ledger"
)

// approved records an approval of 1999 EUR, which the engine of these tests, without a model, never gives.
func approved(t *testing.T, l *ledger.Ledger, id string) {
	t.Helper()
	if w := ask(server(t, api.Options{Ledger: l, OpenAccess: true}), "POST", "/v1/score", requestWithID(id)); w.Code != 200 {
		t.Fatalf("%s", w.Body)
	}
	if _, err := l.Resolve(t.Context(), id, ledger.Resolution{Verdict: "approve", By: "reviewer"}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestARequestGoesFromItsDecisionToItsExecution(t *testing.T) {
	l := emptyLedger(t)
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	approved(t, l, "rr_1")
	var state ledger.RequestState
	post := func(what, body, want string) {
		t.Helper()
		w := ask(h, "POST", "/v1/requests/rr_1/"+what, body)
		if w.Code == 200 {
			state = ledger.RequestState{}
			decode(t, w.Body.Bytes(), &state)
			if got := fmt.Sprint(state.State, " ", state.Execution.State, " ", len(state.Revisions)); got != want {
				t.Errorf("%s %s: %s, want %s", what, body, got, want)
			}
			return
		}
		if p := problemOf(t, w); p.Type+" "+p.places() != want {
			t.Errorf("%s %s: %+v, want %s", what, body, p, want)
		}
	}
	post("execution", `{"state":"submitted","reference":"tr-1"}`, "approved submitted 2")
	post("execution", `{"state":"submitted","reference":"tr-1"}`, "approved submitted 2")
	post("cancel", `{}`, "/problems/illegal-transition ")
	post("execution", `{"state":"paid"}`, "/problems/invalid-request /state")
	post("execution", `{"state":"succeeded","colour":1}`, "/problems/invalid-request /colour")
	post("execution", `{"state":"succeeded","amount":2000}`, "/problems/invalid-request /amount")
	post("execution", `{"state":`, "/problems/malformed-json /state")
	post("execution", `{"state":"succeeded","reference":"tr-1"}`, "approved succeeded 3")
	post("execution", `{"state":"failed"}`, "/problems/illegal-transition ")
	read := ask(h, "GET", "/v1/requests/rr_1", "")
	decode(t, read.Body.Bytes(), &state)
	if state.Execution.Reference != "tr-1" || state.Verdict != "review" || state.ApprovedAmount != 1999 || state.Execution.Actor != "open" {
		t.Errorf("%s", read.Body)
	}
	for _, target := range []string{"GET /v1/requests/rr_9", "POST /v1/requests/rr_9/execution", "POST /v1/requests/rr_9/cancel"} {
		method, path, _ := strings.Cut(target, " ")
		if p := problemOf(t, ask(h, method, path, `{"state":"submitted"}`)); p.Status != 404 && p.Status != 422 {
			t.Errorf("%s: %+v", target, p)
		}
	}
}

func TestARequestIsWithdrawnOnce(t *testing.T) {
	h := server(t, api.Options{})
	ask(h, "POST", "/v1/score", goodRequest)
	first := ask(h, "POST", "/v1/requests/rr_1/cancel", `{"reason":"the customer called"}`)
	again := ask(h, "POST", "/v1/requests/rr_1/cancel", `{"reason":"the customer called"}`)
	var state ledger.RequestState
	decode(t, again.Body.Bytes(), &state)
	if first.Code != 200 || again.Body.String() != first.Body.String() || state.State != ledger.Cancelled || len(state.Revisions) != 1 {
		t.Errorf("%s\n%s", first.Body, again.Body)
	}
}

func TestAnIdempotencyKeyHasToBeTheID(t *testing.T) {
	h := server(t, api.Options{})
	status := func(target, body string, keys ...string) int {
		t.Helper()
		var headers []string
		for _, k := range keys {
			headers = append(headers, "Idempotency-Key", k)
		}
		w := ask(h, "POST", target, body, headers...)
		if w.Code == 422 {
			if p := problemOf(t, w); p.Type != "/problems/idempotency-key-mismatch" {
				t.Errorf("%+v", p)
			}
		}
		return w.Code
	}
	for key, want := range map[string]int{"rr_1": 200, `"rr_1"`: 200, "": 422, "rr_2": 422, "RR_1": 422} {
		if got := status("/v1/score", goodRequest, key); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
		if got := status("/v1/requests/rr_1/cancel", "{}", key); got != want {
			t.Errorf("cancel with %q: %d, want %d", key, got, want)
		}
	}
}

func TestMoneyThatEventsTellOfCountsForTheNextDecision(t *testing.T) {
	l := emptyLedger(t)
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	approved(t, l, "moved_1")
	event := fmt.Sprintf(`{"id":"moved_paid","kind":"refund_paid","occurred_at":%q,"entities":{"customer":"c_secret","payment":"p_1","request":"moved_1"},
		"amount":1999,"currency":"EUR"}`, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	for range 2 {
		if w := ask(h, "POST", "/v1/events", event); w.Code != 200 {
			t.Fatalf("%s", w.Body)
		}
	}
	state, err := l.Request(t.Context(), "moved_1")
	if err != nil || state.Execution == nil || state.Execution.State != ledger.Succeeded || state.Execution.Amount != 1999 {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestWhatIsNoLongerKeptIsGone(t *testing.T) {
	var days time.Duration
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Now: func() time.Time { return time.Now().Add(days) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	if w := ask(h, "POST", "/v1/score", requestWithID("rr_1")); w.Code != 200 {
		t.Fatalf("%s", w.Body)
	}
	if _, err := l.Cancel(t.Context(), "rr_1", "", "test"); err != nil {
		t.Fatal(err)
	}
	days = 400 * 24 * time.Hour
	if _, err := l.Sweep(t.Context(), ledger.Retention{Decisions: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*httptest.ResponseRecorder{ask(h, "GET", "/v1/decisions/rr_1", ""), ask(h, "GET", "/v1/decisions/rr_1/explanation", ""),
		ask(h, "POST", "/v1/score", requestWithID("rr_1"))} {
		if p := problemOf(t, w); p.Type != "/problems/gone" || p.Status != 410 {
			t.Errorf("%+v", p)
		}
	}
}
