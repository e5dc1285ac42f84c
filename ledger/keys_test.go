package ledger_test

import (
	"encoding/base64"
	"errors"
	"math"
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

// keysElsewhere: what one replica does to a key counts there at once, on the other before long.
func keysElsewhere(t *testing.T, open opener) {
	here, there := open(ledger.Options{}), open(ledger.Options{})
	k, secret, err := here.CreateKey(t.Context(), "pipeline", []string{"score"}, 0)
	must(t, err)
	for _, l := range []*ledger.Ledger{here, there} {
		for range 2 {
			if found, err := l.Authenticate(t.Context(), secret); err != nil || found.ID != k.ID || found.RateLimit != 0 {
				t.Fatal(found, err)
			}
		}
	}
	must(t, here.SetKeyRate(t.Context(), k.ID, 7))
	if found, err := here.Authenticate(t.Context(), secret); err != nil || found.RateLimit != 7 {
		t.Error(found, err)
	}
	must(t, here.RevokeKey(t.Context(), k.ID))
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := here.Authenticate(t.Context(), secret); !errors.Is(err, ledger.ErrUnauthenticated) {
			t.Fatal(err)
		}
		if _, err = there.Authenticate(t.Context(), secret); errors.Is(err, ledger.ErrUnauthenticated) {
			return
		}
		if err != nil || time.Since(began) > 10*time.Second {
			t.Fatalf("still after %v: %v", time.Since(began), err)
		}
	}
}

func rotatedKeys(t *testing.T, open opener) {
	now := at
	l := open(ledger.Options{Now: func() time.Time { return now.Time() }})
	works := func(secret string, want bool) {
		t.Helper()
		if _, err := l.Authenticate(t.Context(), secret); (err == nil) != want || err != nil && !errors.Is(err, ledger.ErrUnauthenticated) {
			t.Errorf("works: %v", err)
		}
	}
	old, oldSecret, err := l.CreateKey(t.Context(), "pipeline", []string{"score", "events"}, at+30*vaglio.Day)
	must(t, err)
	must(t, l.SetKeyRate(t.Context(), old.ID, 12.5))
	now += 10 * vaglio.Day
	k, secret, err := l.RotateKey(t.Context(), old.ID, 24*time.Hour)
	must(t, err)
	stored, err := l.Authenticate(t.Context(), secret)
	must(t, err)
	if k.ID == old.ID || secret == oldSecret || stored.ID != k.ID || stored.Replaces != old.ID || stored.RateLimit != 12.5 || stored.Name != "pipeline" ||
		!slices.Equal(stored.Scopes, old.Scopes) || stored.CreatedAt != now || stored.ExpiresAt != now+30*vaglio.Day {
		t.Errorf("%+v", stored)
	}
	now += vaglio.Day - 1
	works(oldSecret, true)
	now++
	works(oldSecret, false)
	works(secret, true)

	_, _, err = l.RotateKey(t.Context(), old.ID, time.Hour) // has ended
	var bad vaglio.Invalid
	if !errors.As(err, &bad) || bad[0].Pointer != "/id" {
		t.Error(err)
	}
	if _, _, err := l.RotateKey(t.Context(), k.ID, -time.Hour); !errors.As(err, &bad) || bad[0].Pointer != "/overlap" {
		t.Error(err)
	}
	if _, _, err := l.RotateKey(t.Context(), "key_none", 0); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
	last, lastSecret, err := l.RotateKey(t.Context(), k.ID, 1000*time.Hour*24) // no longer than it would have lived anyway
	must(t, err)
	now += 31 * vaglio.Day
	works(secret, false)
	works(lastSecret, false)
	if last.Replaces != k.ID {
		t.Errorf("%+v", last)
	}
	eternal, eternalSecret, err := l.CreateKey(t.Context(), "eternal", []string{"admin"}, 0)
	must(t, err)
	heir, _, err := l.RotateKey(t.Context(), eternal.ID, 0)
	must(t, err)
	works(eternalSecret, false)
	if heir.ExpiresAt != 0 {
		t.Errorf("%+v", heir)
	}
}

func usedAndLimitedKeys(t *testing.T, open opener) {
	l := open(ledger.Options{})
	k, secret, err := l.CreateKey(t.Context(), "a", []string{"score"}, 0)
	must(t, err)
	now := func() ledger.Key {
		t.Helper()
		k, err := l.Authenticate(t.Context(), secret)
		must(t, err)
		return k
	}
	if k := now(); k.LastUsedAt != 0 || k.RateLimit != 0 {
		t.Errorf("%+v", k)
	}
	for _, used := range []vaglio.Instant{at, at - 1, at + 1, at} {
		must(t, l.NoteKeyUses(t.Context(), map[string]vaglio.Instant{k.ID: used, "key_none": used}))
	}
	if k := now(); k.LastUsedAt != at+1 {
		t.Errorf("%+v", k)
	}
	for _, rate := range []float64{0.5, -3, 0} {
		must(t, l.SetKeyRate(t.Context(), k.ID, rate))
		if k := now(); k.RateLimit != max(rate, -1) {
			t.Errorf("%+v", k)
		}
	}
	var bad vaglio.Invalid
	for _, rate := range []float64{math.NaN(), math.Inf(1), 2e6, 1e-9} {
		if err := l.SetKeyRate(t.Context(), k.ID, rate); !errors.As(err, &bad) || bad[0].Pointer != "/rate_limit" {
			t.Errorf("%v: %v", rate, err)
		}
	}
	if err := l.SetKeyRate(t.Context(), "key_none", 1); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
}
