package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vaglio"
)

// The scopes of a key.
const (
	ScopeScore   = "score"
	ScopeEvents  = "events"
	ScopeReview  = "review"
	ScopeMetrics = "metrics" // for a scraper that may see nothing else
	ScopeAdmin   = "admin"   // includes every other
)

// Scopes are all there are.
var Scopes = []string{ScopeScore, ScopeEvents, ScopeReview, ScopeMetrics, ScopeAdmin}

// minBootstrapSecret is the length, in bytes, below which a chosen secret is refused.
const minBootstrapSecret = 16

// Key is what is known of an API key: all but its secret.
type Key struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Scopes    []string       `json:"scopes"`
	CreatedAt vaglio.Instant `json:"created_at"`
	ExpiresAt vaglio.Instant `json:"expires_at,omitzero"` // 0: never
	RevokedAt vaglio.Instant `json:"revoked_at,omitzero"` // 0: not revoked
	// LastUsedAt is exact to about a minute; 0: never used.
	LastUsedAt vaglio.Instant `json:"last_used_at,omitzero"`
	Replaces   string         `json:"replaces,omitzero"`   // the key that this one rotated
	RateLimit  float64        `json:"rate_limit,omitzero"` // calls a second; 0: the server's, below 0: none
}

// Allows reports whether the key opens what a scope protects.
func (k Key) Allows(scope string) bool {
	return slices.Contains(k.Scopes, scope) || slices.Contains(k.Scopes, ScopeAdmin)
}

// usable reports whether the key opens anything at a moment.
func (k Key) usable(now vaglio.Instant) bool {
	return k.RevokedAt == 0 && (k.ExpiresAt == 0 || now < k.ExpiresAt)
}

// CreateKey makes a key and returns its secret, which is nowhere else: only its SHA-256 is stored. A slow password hash
// would add nothing, since nobody guesses 256 random bits. The error of a wrong name, scope or expiry (0: never) is a
// vaglio.Invalid.
func (l *Ledger) CreateKey(ctx context.Context, name string, scopes []string, expires vaglio.Instant) (Key, string, error) {
	now := l.now()
	var bad vaglio.Invalid
	if name == "" || len(name) > vaglio.MaxIDBytes {
		bad = append(bad, vaglio.FieldError{Pointer: "/name", Detail: fmt.Sprintf("want 1 to %d bytes", vaglio.MaxIDBytes)})
	}
	if len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(Scopes, s) }) {
		bad = append(bad, vaglio.FieldError{Pointer: "/scopes", Detail: "want at least one of " + strings.Join(Scopes, ", ")})
	}
	if expires != 0 && expires <= now {
		bad = append(bad, vaglio.FieldError{Pointer: "/expires_at", Detail: "is not in the future"})
	}
	if len(bad) > 0 {
		return Key{}, "", bad
	}
	secret := newSecret()
	k := Key{ID: newKeyID(), Name: name, Scopes: slices.Compact(slices.Sorted(slices.Values(scopes))), CreatedAt: now, ExpiresAt: expires}
	return k, secret, l.insertKey(ctx, k, secret)
}

func newSecret() string {
	random := make([]byte, 32)
	rand.Read(random) // never fails: crypto/rand ends the process instead
	return "vgl_" + base64.RawURLEncoding.EncodeToString(random)
}

func newKeyID() string { return "key_" + strings.ToLower(rand.Text()) }

// EnsureBootstrapKey makes sure that a secret chosen by the operator is an admin key that never expires. A secret that is
// known already, even revoked, is left as it is. Only its SHA-256 is stored: choose it at random.
func (l *Ledger) EnsureBootstrapKey(ctx context.Context, secret string) error {
	if len(secret) < minBootstrapSecret {
		return fmt.Errorf("the bootstrap key has %d bytes, want at least %d", len(secret), minBootstrapSecret)
	}
	return l.insertKey(ctx, Key{ID: newKeyID(), Name: "bootstrap", Scopes: []string{ScopeAdmin}, CreatedAt: l.now()}, secret)
}

// insertKey does nothing for a secret that is stored already.
func (l *Ledger) insertKey(ctx context.Context, k Key, secret string) error {
	_, err := l.write.ExecContext(ctx, insertKeySQL, keyValues(k, secret)...)
	if err != nil {
		return fmt.Errorf("store key %q: %w", k.Name, err)
	}
	return nil
}

// keyValues are the arguments of insertKeySQL.
func keyValues(k Key, secret string) []any {
	hash := sha256.Sum256([]byte(secret))
	return []any{k.ID, k.Name, hash[:], strings.Join(k.Scopes, " "), int64(k.CreatedAt), int64(k.ExpiresAt), k.Replaces, k.RateLimit}
}

// RotateKey makes a key that takes over name, scopes, rate and span of life of another one, which stays usable for the
// overlap, unless it ends before. It returns the new key and its secret. An unknown id is ErrNotFound; a key that is not
// usable any more, or an overlap below 0, is a vaglio.Invalid.
func (l *Ledger) RotateKey(ctx context.Context, id string, overlap time.Duration) (k Key, secret string, err error) {
	defer l.keys.changed()
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	now := l.now()
	old, err := scanKey(tx.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE id = $1`, id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, ErrNotFound)
	case err != nil:
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, err)
	case !old.usable(now):
		return Key{}, "", vaglio.Invalid{{Pointer: "/id", Detail: "has expired or was revoked: create a new key"}}
	case overlap < 0:
		return Key{}, "", vaglio.Invalid{{Pointer: "/overlap", Detail: "is below 0"}}
	}
	k, secret = old, newSecret()
	k.ID, k.CreatedAt, k.LastUsedAt, k.Replaces = newKeyID(), now, 0, old.ID
	end := now + vaglio.Instant(overlap.Milliseconds())
	if old.ExpiresAt != 0 {
		k.ExpiresAt, end = now+(old.ExpiresAt-old.CreatedAt), min(end, old.ExpiresAt)
	}
	if _, err := tx.ExecContext(ctx, insertKeySQL, keyValues(k, secret)...); err != nil {
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, err)
	}
	if _, err := tx.ExecContext(ctx, `UPDATE api_keys SET expires_at = $1 WHERE id = $2`, int64(end), id); err != nil {
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, err)
	}
	if err := tx.Commit(); err != nil {
		return Key{}, "", fmt.Errorf("rotate key %s: %w", id, err)
	}
	return k, secret, nil
}

// maxRate is far above what one replica answers, in calls a second.
const maxRate = 1_000_000

// SetKeyRate gives a key its own limit in calls a second; 0: that of the server, below 0: none. An unknown id is
// ErrNotFound, a limit out of bounds a vaglio.Invalid.
func (l *Ledger) SetKeyRate(ctx context.Context, id string, perSecond float64) error {
	if !(perSecond <= maxRate) || perSecond > 0 && perSecond < 1.0/3600 { // NaN is out, too
		return vaglio.Invalid{{Pointer: "/rate_limit", Detail: fmt.Sprintf("want at most %d calls a second and at least one an hour", maxRate)}}
	}
	defer l.keys.changed()
	result, err := l.write.ExecContext(ctx, `UPDATE api_keys SET rate_limit = $1 WHERE id = $2`, max(perSecond, -1), id)
	return oneRow(result, err, "set the rate of key "+id)
}

// NoteKeyUses stores when keys were last used, by their ids. Earlier moments than those stored and unknown keys change
// nothing.
func (l *Ledger) NoteKeyUses(ctx context.Context, last map[string]vaglio.Instant) error {
	defer l.keys.changed()
	for id, at := range last {
		if _, err := l.write.ExecContext(ctx, `UPDATE api_keys SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1`, int64(at), id); err != nil {
			return fmt.Errorf("note the use of key %s: %w", id, err)
		}
	}
	return nil
}

// oneRow is ErrNotFound when nothing was changed.
func oneRow(result sql.Result, err error, doing string) error {
	var n int64
	if err == nil {
		n, err = result.RowsAffected()
	}
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

const (
	insertKeySQL = `INSERT INTO api_keys (id, name, hash, scopes, created_at, expires_at, revoked_at, replaces, rate_limit)
		VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8) ON CONFLICT (hash) DO NOTHING`
	keyColumns = `id, name, scopes, created_at, expires_at, revoked_at, last_used_at, replaces, rate_limit`
	readKeySQL = `SELECT hash, ` + keyColumns + ` FROM api_keys WHERE hash = $1`
)

// Authenticate finds the key of a secret, or ErrUnauthenticated. What this process does to a key counts at once, what another
// does within a second. The lookup by hash tells a guesser's clock nothing: who can't invert SHA-256 can't choose the hash that
// is compared.
func (l *Ledger) Authenticate(ctx context.Context, secret string) (Key, error) {
	hash := sha256.Sum256([]byte(secret))
	k, held, changes := l.keys.find(hash)
	if held && k.usable(l.now()) {
		return k, nil
	}
	var stored []byte
	k, err := scanKey(l.sql.readKey.QueryRowContext(ctx, hash[:]), &stored)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Key{}, ErrUnauthenticated
	case err != nil:
		return Key{}, fmt.Errorf("look up a key: %w", err)
	case subtle.ConstantTimeCompare(stored, hash[:]) != 1, !k.usable(l.now()):
		return Key{}, ErrUnauthenticated
	default:
		l.keys.hold(hash, k, changes)
		return k, nil
	}
}

// scanKey reads columns that come first, then keyColumns.
func scanKey(row interface{ Scan(...any) error }, first ...any) (Key, error) {
	var k Key
	var scopes string
	err := row.Scan(append(first, &k.ID, &k.Name, &scopes, &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt, &k.LastUsedAt, &k.Replaces, &k.RateLimit)...)
	k.Scopes = strings.Fields(scopes)
	return k, err
}

// Keys lists all keys, the oldest first, also the revoked ones.
func (l *Ledger) Keys(ctx context.Context) ([]Key, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT `+keyColumns+` FROM api_keys ORDER BY created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	defer rows.Close()
	var all []Key
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		all = append(all, k)
	}
	return all, rows.Err()
}

// RevokeKey ends a key for ever. Revoking twice keeps the first moment; an unknown id is ErrNotFound.
func (l *Ledger) RevokeKey(ctx context.Context, id string) error {
	defer l.keys.changed()
	result, err := l.write.ExecContext(ctx, `UPDATE api_keys SET revoked_at = CASE revoked_at WHEN 0 THEN $1 ELSE revoked_at END
		WHERE id = $2`, int64(l.now()), id)
	return oneRow(result, err, "revoke key "+id)
}

// HasKeys reports whether there has ever been a key, usable or not: an API that was closed stays closed when its last
// key expires.
func (l *Ledger) HasKeys(ctx context.Context) (bool, error) {
	var has bool
	if err := l.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM api_keys)`).Scan(&has); err != nil {
		return false, fmt.Errorf("look for keys: %w", err)
	}
	return has, nil
}
