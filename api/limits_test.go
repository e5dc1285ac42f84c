package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/api"
	"vaglio/ledger"
)

func TestAKeyBeyondItsRateIsToldWhenToComeBack(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	l := emptyLedger(t)
	h := server(t, api.Options{Ledger: l, RateLimit: 2, Now: func() time.Time { return now }})
	key := func(name string, rate float64) func(method, target, body string) string {
		k, secret, err := l.CreateKey(t.Context(), name, []string{ledger.ScopeAdmin}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SetKeyRate(t.Context(), k.ID, rate); err != nil {
			t.Fatal(err)
		}
		return func(method, target, body string) string {
			w := ask(h, method, target, body, "Authorization", "Bearer "+secret)
			if w.Code == http.StatusTooManyRequests {
				if p := problemOf(t, w); p.Type != "/problems/rate-limited" {
					t.Errorf("%+v", p)
				}
			}
			return fmt.Sprint(w.Code, w.Header().Get("Retry-After"))
		}
	}
	wants := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	standard, slow, free := key("standard", 0), key("slow", 0.1), key("free", -1)
	for range 2 {
		wants(standard("GET", "/metrics", ""), "200")
	}
	wants(standard("GET", "/metrics", ""), "4291")
	wants(slow("GET", "/metrics", ""), "200") // each key has its own
	wants(slow("GET", "/metrics", ""), "42910")
	for range 20 {
		wants(free("GET", "/metrics", ""), "200")
	}
	wants(standard("GET", "/healthz", ""), "200") // needs no key
	now = now.Add(500 * time.Millisecond)
	wants(standard("GET", "/metrics", ""), "200")
	wants(standard("GET", "/metrics", ""), "4291")
	now = now.Add(-time.Hour) // a clock set back refills nothing
	wants(standard("GET", "/metrics", ""), "4291")
	now = now.Add(2 * time.Hour) // and a long silence no more than a second's worth
	for range 2 {
		wants(standard("GET", "/metrics", ""), "200")
	}
	wants(standard("GET", "/metrics", ""), "4291")
	now = now.Add(time.Minute)
	requests := make([]string, 9)
	for i := range requests {
		requests[i] = requestWithID(fmt.Sprintf("rate_%d", i))
	}
	wants(standard("POST", "/v1/score/batch", "["+strings.Join(requests, ",")+"]"), "200") // of a full bucket, and 7 more
	wants(standard("GET", "/metrics", ""), "4294")
	now = now.Add(4 * time.Second)
	wants(standard("GET", "/metrics", ""), "200")
}

func TestTheLastUseOfAKeyIsKnown(t *testing.T) {
	l := emptyLedger(t)
	k, secret, err := l.CreateKey(t.Context(), "used", []string{ledger.ScopeAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.CreateKey(t.Context(), "unused", []string{ledger.ScopeAdmin}, 0); err != nil {
		t.Fatal(err)
	}
	before := vaglio.InstantOf(time.Now())
	address, end := realOn(t, api.Options{Ledger: l})
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%v, %v", response, err)
	}
	response.Body.Close()
	if err := end(); err != nil { // writes what it knows
		t.Fatal(err)
	}
	keys, err := l.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range keys {
		if used := one.LastUsedAt >= before; used != (one.ID == k.ID) {
			t.Errorf("%s was used at %v", one.Name, one.LastUsedAt)
		}
	}
}
