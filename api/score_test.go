package api_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/api"
)

func TestTheSameRequestGetsTheSameBytesAndOtherContentIsRefused(t *testing.T) {
	h := server(t, api.Options{})
	first := ask(h, "POST", "/v1/score", goodRequest)
	var d vaglio.Decision
	if err := json.Unmarshal(first.Body.Bytes(), &d, json.RejectUnknownMembers(true)); err != nil || first.Code != 200 {
		t.Fatalf("%d %v: %s", first.Code, err, first.Body)
	}
	if d.RequestID != "rr_1" || d.Verdict != vaglio.Review || !d.Degraded || first.Header().Get("Idempotent-Replayed") != "" {
		t.Errorf("%+v", d)
	}
	again := ask(h, "POST", "/v1/score", strings.Replace(goodRequest, `"amount":1999,"currency":"EUR"`, "\"currency\":\"EUR\",\n\"amount\":1999", 1))
	if again.Code != 200 || !bytes.Equal(again.Body.Bytes(), first.Body.Bytes()) || again.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %s", again.Code, again.Body)
	}
	for _, id := range []string{d.ID, "rr_1"} {
		if w := ask(h, "GET", "/v1/decisions/"+id, ""); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), first.Body.Bytes()) {
			t.Errorf("%s: %d %s", id, w.Code, w.Body)
		}
	}
	p := problemOf(t, ask(h, "POST", "/v1/score", strings.Replace(goodRequest, "1999", "2000", 1)))
	if p.Status != 409 || p.Type != "/problems/request-conflict" || p.places() != "/amount" {
		t.Errorf("%+v", p)
	}
	metrics := ask(h, "GET", "/metrics", "").Body.String()
	for _, want := range []string{`vaglio_decisions_total{decision="review",degraded="true",dry_run="false"} 1`,
		`vaglio_decisions_degraded_total{reason="model_unavailable"} 1`, `vaglio_decisions_degraded_total{reason="contributions_disagree"} 0`,
		"vaglio_decisions_repeated_total 1"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("%s is not in\n%s", want, metrics)
		}
	}
}

func TestADryRunRecordsNothing(t *testing.T) {
	h := server(t, api.Options{})
	for _, query := range []string{"?dry_run=true", "?dry_run=true&as_of=2026-01-01T00:00:00Z"} {
		w := ask(h, "POST", "/v1/score"+query, goodRequest)
		var d vaglio.Decision
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 || !d.DryRun {
			t.Fatalf("%d %v: %s", w.Code, err, w.Body)
		}
		if strings.Contains(query, "as_of") && d.FeaturesAsOf.String() != "2026-01-01T00:00:00.000Z" {
			t.Errorf("as of %v", d.FeaturesAsOf)
		}
		if w := ask(h, "GET", "/v1/decisions/rr_1", ""); w.Code != 404 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestNobodyDecidesForTheFuture(t *testing.T) {
	h := server(t, api.Options{})
	tomorrow := vaglio.InstantOf(time.Now()) + vaglio.Day
	p := problemOf(t, ask(h, "POST", "/v1/score?dry_run=true&as_of="+tomorrow.String(), goodRequest))
	if p.Type != "/problems/invalid-parameter" || p.places() != "?as_of" {
		t.Errorf("%+v", p)
	}
	p = problemOf(t, ask(h, "POST", "/v1/score", strings.Replace(goodRequest, "{", `{"requested_at":"`+tomorrow.String()+`",`, 1)))
	if p.Type != "/problems/invalid-request" || p.places() != "/requested_at" {
		t.Errorf("%+v", p)
	}
}

func TestDecisionsAreFoundUnderAwkwardIDs(t *testing.T) {
	h := server(t, api.Options{})
	found := func(id, path string) {
		t.Helper()
		if w := ask(h, "POST", "/v1/score", strings.Replace(goodRequest, "rr_1", id, 1)); w.Code != 200 {
			t.Fatalf("%s", w.Body)
		}
		for _, suffix := range []string{"", "/explanation"} {
			if w := ask(h, "GET", "/v1/decisions/"+path+suffix, ""); w.Code != 200 {
				t.Errorf("%s: %d %s", path+suffix, w.Code, w.Body)
			}
		}
	}
	found("a/b", "a%2Fb")
	found("a%2Fb", "a%252Fb")
	found("a b+c?", "a%20b+c%3F")
	found("città:*", "citt%C3%A0:*")
	found("explanation", "explanation")
	for _, path := range []string{"rr_9", "rr_9/explanation", strings.Repeat("x", 5000), "a%00b"} {
		if p := problemOf(t, ask(h, "GET", "/v1/decisions/"+path, "")); p.Status != 404 || p.Type != "/problems/not-found" {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

func TestNotReadyNamesWhatIsMissingAndNoMore(t *testing.T) {
	p := problemOf(t, ask(server(t, api.Options{}), "GET", "/readyz", ""))
	if p.Status != 503 || p.Type != "/problems/not-ready" || p.Detail != "model" {
		t.Errorf("%+v", p)
	}
	l := emptyLedger(t)
	h := server(t, api.Options{Ledger: l})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p := problemOf(t, ask(h, "GET", "/readyz", "")); p.Status != 503 || p.Detail != "ledger, model" {
		t.Errorf("%+v", p)
	}
}

// FuzzScore sends anything to the score route: what can't be decided is a problem of the sender's, never one of ours.
func FuzzScore(f *testing.F) {
	for _, seed := range []string{goodRequest, "", "{}", "[]", `{"id":"\ud800"}`, `{"amount":1e999}`, strings.Replace(goodRequest, "{", `{"payment":{"captured_amount":-1},`, 1),
		strings.Replace(goodRequest, "{", `{"attributes":{"a":""},"language":"it","requested_at":"2026-11-22T10:00:00+14:00",`, 1)} {
		f.Add([]byte(seed))
	}
	h := unchecked(f, api.Options{})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := ask(conform(t, h), "POST", "/v1/score?dry_run=true", string(body))
		if w.Code == 200 {
			var d vaglio.Decision
			if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
				t.Errorf("%v in %s", err, w.Body)
			}
			return
		}
		if p := problemOf(t, w); p.Status >= 500 || len(p.Errors) > 100 {
			t.Errorf("%+v", p)
		}
	})
}
