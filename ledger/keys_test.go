package ledger_test

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

func keys(t *testing.T, open opener) {
	now := at
	l := open(ledger.Options{Now: func() time.Time { return now.Time() }})
	has := func(want bool) {
		t.Helper()
		if got, err := l.HasKeys(t.Context()); got != want || err != nil {
			t.Errorf("has keys: %v (%v), want %v", got, err, want)
		}
	}
	has(false)
	short, shortSecret, err := l.CreateKey(t.Context(), "pipeline", []string{"score", "events", "score"}, at+vaglio.Hour)
	must(t, err)
	long, longSecret, err := l.CreateKey(t.Context(), "analyst", []string{"admin"}, 0)
	must(t, err)
	has(true)
	if random, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(shortSecret, "vgl_")); err != nil || len(random) != 32 || shortSecret == longSecret {
		t.Errorf("the secret %s", shortSecret)
	}
	opens := func(secret string, want ledger.Key) {
		t.Helper()
		k, err := l.Authenticate(t.Context(), secret)
		if err != nil || k.ID != want.ID || k.Name != want.Name || !slices.Equal(k.Scopes, want.Scopes) || k.CreatedAt != at || k.ExpiresAt != want.ExpiresAt {
			t.Errorf("%+v (%v), want %+v", k, err, want)
		}
	}
	refuses := func(secret string) {
		t.Helper()
		if k, err := l.Authenticate(t.Context(), secret); !errors.Is(err, ledger.ErrUnauthenticated) || k.ID != "" {
			t.Errorf("%q: %+v (%v)", secret, k, err)
		}
	}
	opens(shortSecret, short)
	opens(longSecret, long)
	refuses("")
	refuses("vgl_")
	refuses(shortSecret + "x")
	refuses(strings.ToUpper(shortSecret))
	if !short.Allows("events") || short.Allows("review") || !long.Allows("review") || slices.Equal(short.Scopes, long.Scopes) {
		t.Errorf("scopes %v and %v", short.Scopes, long.Scopes)
	}
	now = at + vaglio.Hour - 1
	opens(shortSecret, short)
	now++
	refuses(shortSecret)
	must(t, l.RevokeKey(t.Context(), long.ID))
	revoked := now
	refuses(longSecret)
	has(true)
	now += vaglio.Hour
	must(t, l.RevokeKey(t.Context(), long.ID))
	if err := l.RevokeKey(t.Context(), "key_none"); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
	all, err := l.Keys(t.Context())
	must(t, err)
	i := slices.IndexFunc(all, func(k ledger.Key) bool { return k.ID == long.ID })
	if len(all) != 2 || i < 0 || all[i].RevokedAt != revoked || all[1-i].RevokedAt != 0 {
		t.Errorf("%+v", all)
	}
}

func wrongKeys(t *testing.T, open opener) {
	l := open(ledger.Options{})
	_, _, err := l.CreateKey(t.Context(), "", []string{"score", "root"}, at)
	var bad vaglio.Invalid
	if !errors.As(err, &bad) || len(bad) != 3 || bad[0].Pointer != "/name" || bad[1].Pointer != "/scopes" || bad[2].Pointer != "/expires_at" {
		t.Error(err)
	}
	if _, _, err := l.CreateKey(t.Context(), "nothing", nil, 0); err == nil {
		t.Error("a key without scopes was made")
	}
	if all, err := l.Keys(t.Context()); len(all) != 0 || err != nil {
		t.Error(all, err)
	}
}

func bootstrapKey(t *testing.T, open opener) {
	const secret = "correct-horse-battery"
	l := open(ledger.Options{})
	if err := l.EnsureBootstrapKey(t.Context(), "fifteen-letters"); err == nil || strings.Contains(err.Error(), "fifteen") {
		t.Error(err)
	}
	for range 2 {
		must(t, l.EnsureBootstrapKey(t.Context(), secret))
	}
	k, err := l.Authenticate(t.Context(), secret)
	if err != nil || !k.Allows(ledger.ScopeScore) {
		t.Fatal(k, err)
	}
	if all, err := l.Keys(t.Context()); len(all) != 1 || err != nil {
		t.Fatal(all, err)
	}
	must(t, l.RevokeKey(t.Context(), k.ID))
	must(t, l.EnsureBootstrapKey(t.Context(), secret))
	if _, err := l.Authenticate(t.Context(), secret); !errors.Is(err, ledger.ErrUnauthenticated) {
		t.Error(err)
	}
}
