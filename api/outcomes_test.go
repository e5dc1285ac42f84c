package api_test

import (
	"strings"
	"testing"

	"vaglio"
	"vaglio/api"
)

const goodOutcome = `{"id":"out_1","request_id":"rr_1","outcome":"chargeback","occurred_at":"2026-11-22T12:00:00Z","amount":1999,"currency":"EUR"}`

func TestOutcomesAreStoredOnceWithTheEntitiesOfTheirRequest(t *testing.T) {
	h := server(t, api.Options{})
	post := func(mediaType, body, want string) {
		t.Helper()
		if w := ask(h, "POST", "/v1/outcomes", body, "Content-Type", mediaType); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%.80s: %d %s", body, w.Code, w.Body)
		}
	}
	one := func(id, request string) string {
		return strings.NewReplacer("out_1", id, "rr_1", request).Replace(goodOutcome)
	}
	asked := strings.Replace(goodEvent, `"id":"evt_1","kind":"payment"`, `"id":"asked_1","kind":"refund_requested"`, 1)
	if w := ask(h, "POST", "/v1/events", asked); w.Code != 200 {
		t.Fatalf("%s", w.Body)
	}
	post("application/json", one("of_1", "asked_1"), `{"stored":1,"repeated":0}`)
	post("application/json", "["+one("of_1", "asked_1")+","+one("of_2", "not_known_yet")+"]", `{"stored":1,"repeated":1}`)
	post("application/x-ndjson", strings.Replace(one("of_3", "asked_1"), `"chargeback"`, `"clear","clears":"of_1"`, 1), `{"stored":1,"repeated":0}`)

	stored, err := events.Events(t.Context(), []string{"outcome:of_1", "outcome:of_2", "outcome:of_3"})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"of_1": "chargeback asked_1 c_1", "of_2": "chargeback not_known_yet ", "of_3": "fraud_cleared asked_1 c_1"} {
		f := stored["outcome:"+id]
		if got := f.Kind + " " + f.Entities.Get(vaglio.EntityRequest) + " " + f.Entities.Get(vaglio.EntityCustomer); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	p := problemOf(t, ask(h, "POST", "/v1/outcomes", "["+one("of_4", "asked_1")+","+one("of_1", "asked_2")+"]"))
	if p.Status != 409 || p.Type != "/problems/outcome-conflict" || p.places() != "/1/id" || !strings.Contains(p.Errors[0].Detail, `"of_1"`) {
		t.Errorf("%+v", p)
	}
}

func TestWrongOutcomesAreNamedByLineAndPointer(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(mediaType, body, places string) {
		t.Helper()
		p := problemOf(t, ask(h, "POST", "/v1/outcomes", body, "Content-Type", mediaType))
		if p.Status != 422 || p.Type != "/problems/invalid-outcomes" || p.places() != places {
			t.Errorf("%.80s: %+v", body, p)
		}
	}
	bad := strings.Replace(goodOutcome, "chargeback", "theft", 1)
	refused("application/json", bad, "/outcome")
	refused("application/json", "["+goodOutcome+","+bad+"]", "/1/outcome")
	refused("application/x-ndjson", goodOutcome+"\n\n"+bad+"\n", "3:/outcome")
	refused("application/json", strings.Replace(goodOutcome, "2026", "2126", 1), "/occurred_at")
}

// FuzzBodies sends anything to every route that takes a body: what is not taken is a problem of the sender's, never one
// of ours, and every answer is as it is described.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{goodRequest, goodEvent, goodOutcome, "", "{}", "[]", "[[]]", "[0,null]", "{}\n{}", "\n", `{"id":"\ud800"}`, `{"id":"a","id":"b"}`,
		"[" + goodRequest + ",7]", "[" + goodEvent + "]", goodEvent + "\n" + goodEvent, goodOutcome + "\r\n", "\xff", "[1e999]", `{"amount":-0}`} {
		for _, route := range []byte{0, 1, 2} {
			f.Add(route, seed, false)
			f.Add(route, seed, true)
		}
	}
	h := unchecked(f, api.Options{})
	targets := []string{"/v1/score/batch?dry_run=true", "/v1/events", "/v1/outcomes"}
	f.Fuzz(func(t *testing.T, route byte, body string, lines bool) {
		mediaType := "application/json"
		if lines {
			mediaType = "application/x-ndjson"
		}
		w := ask(conform(t, h), "POST", targets[int(route)%len(targets)], body, "Content-Type", mediaType)
		if w.Code == 200 {
			return
		}
		if p := problemOf(t, w); p.Status >= 500 || len(p.Errors) > 100 {
			t.Errorf("%+v", p)
		}
	})
}
