package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vaglio/api"
	"vaglio/ledger"
)

// secretOf makes a key with one scope.
func secretOf(t *testing.T, l *ledger.Ledger, scope string) string {
	t.Helper()
	_, secret, err := l.CreateKey(t.Context(), scope, []string{scope}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestEveryRouteWantsItsScope(t *testing.T) {
	l := emptyLedger(t)
	secrets := map[string]string{"": "", "unknown": "vgl_unknown"}
	for _, scope := range ledger.Scopes {
		secrets[scope] = secretOf(t, l, scope)
	}
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	allows := func(method, target, scopes string) {
		t.Helper()
		for scope, secret := range secrets {
			var headers []string
			if secret != "" {
				headers = []string{"Authorization", "Bearer " + secret}
			}
			w := ask(h, method, target, "", headers...)
			want := http.StatusForbidden
			switch {
			case scopes == "all", strings.Contains(scopes, scope) && secrets[scope] != "", scope == ledger.ScopeAdmin:
				if w.Code == 401 || w.Code == 403 {
					t.Errorf("%s %s with %q: %d", method, target, scope, w.Code)
				}
				continue
			case scope == "", scope == "unknown":
				want = http.StatusUnauthorized
			}
			if w.Code != want || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with %q: %d, want %d", method, target, scope, w.Code, want)
			}
			problemOf(t, w)
		}
	}
	allows("POST", "/v1/score", "score")
	allows("POST", "/v1/score?dry_run=true", "admin")
	allows("POST", "/v1/score?dry_run=true&as_of=2026-11-22T10:00:00Z", "admin")
	allows("GET", "/v1/decisions/dec_1", "score review")
	allows("GET", "/v1/decisions/dec_1/explanation", "score review")
	allows("GET", "/v1/decisions?customer=c_1", "review")
	allows("GET", "/v1/requests/rr_1", "score review")
	allows("POST", "/v1/requests/rr_1/execution", "score")
	allows("POST", "/v1/requests/rr_1/cancel", "score")
	allows("POST", "/v1/score/batch", "score")
	allows("POST", "/v1/score/batch?dry_run=true", "admin")
	allows("POST", "/v1/events", "events")
	allows("POST", "/v1/outcomes", "events")
	allows("GET", "/openapi.json", "all")
	allows("GET", "/docs", "all")
	allows("GET", "/metrics", "metrics")
	allows("GET", "/healthz", "all")
	allows("GET", "/nothing", "all")
}

func TestAuthorizationHeadersThatAreNotOneBearerSecret(t *testing.T) {
	l := emptyLedger(t)
	secret := secretOf(t, l, ledger.ScopeAdmin)
	h := server(t, api.Options{Ledger: l})
	status := func(header string) int { return ask(h, "GET", "/metrics", "", "Authorization", header).Code }
	if got := status("bearer " + secret); got != 200 {
		t.Errorf("the scheme's case matters: %d", got)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Basic " + secret, secret, "Bearer " + secret + "x", "Bearer " + strings.Repeat("x", 10_000),
		"Bearer \x00", "Bearer ' OR 1=1 --"} {
		if got := status(header); got != 401 {
			t.Errorf("%.40q: %d", header, got)
		}
	}
}

func TestARevokedKeyIsRefusedAtOnce(t *testing.T) {
	l := emptyLedger(t)
	k, secret, err := l.CreateKey(t.Context(), "a", []string{ledger.ScopeAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	status := func() int { return ask(h, "GET", "/metrics", "", "Authorization", "Bearer "+secret).Code }
	if got := status(); got != 200 {
		t.Fatalf("%d", got)
	}
	if err := l.RevokeKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 401 {
		t.Errorf("after the revocation: %d", got)
	}
}

func TestOpenAccessEndsWithTheFirstKeyAndIsForLoopbackNamesOnly(t *testing.T) {
	l := emptyLedger(t)
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	status := func(h http.Handler, host string) int {
		r := httptest.NewRequest("GET", "/metrics", http.NoBody)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for host, want := range map[string]int{"localhost": 200, "LOCALHOST:8080": 200, "127.0.0.1:80": 200, "127.1.2.3": 200, "[::1]:8080": 200, "[::1]": 200,
		"": 401, "attacker.example": 401, "localhost.attacker.example": 401, "127.0.0.1.nip.io": 401, "10.0.0.1": 401, "0.0.0.0": 401} {
		if got := status(h, host); got != want {
			t.Errorf("Host %q: %d, want %d", host, got, want)
		}
	}
	if got := status(server(t, api.Options{Ledger: l}), "localhost"); got != 401 {
		t.Errorf("without OpenAccess: %d", got)
	}
	k, _, err := l.CreateKey(t.Context(), "a", []string{ledger.ScopeScore}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := status(h, "localhost"); got != 401 {
		t.Errorf("with a key: %d", got)
	}
	if err := l.RevokeKey(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if got := status(h, "localhost"); got != 401 {
		t.Errorf("with the only key revoked: %d", got)
	}
}
