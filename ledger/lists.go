package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"vaglio"
)

// MaxListChange is how many values one call may put on a list or take off it: a longer transaction would hold up decisions.
const MaxListChange = 5000

// MaxListReason bounds, in bytes, why a value is on a list.
const MaxListReason = 1024

// List is a named set of values that rules ask for.
type List struct {
	Name      string         `json:"name"`
	Hashed    bool           `json:"hashed"` // only digests of the values are kept
	Salt      []byte         `json:"-"`
	Revision  int64          `json:"revision"` // grows with every change
	CreatedAt vaglio.Instant `json:"created_at"`
}

// Digest is what identifies a value on the list.
func (l *List) Digest(value string) [sha256.Size]byte {
	var buffer [512]byte // no allocation for what a request's field can hold
	return sha256.Sum256(append(append(buffer[:0], l.Salt...), value...))
}

// ListValue is a value that is to be on a list.
type ListValue struct {
	Value     string         `json:"value"`
	Reason    string         `json:"reason,omitzero"`
	ExpiresAt vaglio.Instant `json:"expires_at,omitzero"` // 0: never
}

// ListEntry is a value's stay on a list: from AddedAt until the earlier of ExpiresAt and RemovedAt.
type ListEntry struct {
	ListValue
	ID        int64             `json:"id"`
	Digest    [sha256.Size]byte `json:"-"`
	Author    string            `json:"author"`
	AddedAt   vaglio.Instant    `json:"added_at"`
	RemovedAt vaglio.Instant    `json:"removed_at,omitzero"` // 0: not removed
	RemovedBy string            `json:"removed_by,omitzero"`
	Revision  int64             `json:"-"`
}

// Until is the end of the stay, exclusive; 0: none.
func (e *ListEntry) Until() vaglio.Instant {
	switch {
	case e.RemovedAt == 0:
		return e.ExpiresAt
	case e.ExpiresAt == 0:
		return e.RemovedAt
	default:
		return min(e.RemovedAt, e.ExpiresAt)
	}
}

var listName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// CreateList makes an empty list; one that is there already stays as it is, and must be of the same kind. The error of a wrong
// name is a vaglio.Invalid.
func (l *Ledger) CreateList(ctx context.Context, name string, hashed bool, author string) (List, error) {
	if !listName.MatchString(name) {
		return List{}, vaglio.Invalid{{Pointer: "/name", Detail: "want a small letter, then small letters, digits and _, at most 64"}}
	}
	salt := []byte{}
	if hashed {
		salt = make([]byte, 16)
		rand.Read(salt)
	}
	err := l.change(ctx, func(tx *sql.Tx, s *staged) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO lists (name, salt, revision, created_at) VALUES ($1, $2, 0, $3) ON CONFLICT (name) DO NOTHING`,
			name, salt, int64(l.now()))
		if err != nil {
			return err
		}
		made, err := result.RowsAffected()
		if made > 0 {
			s.note(AuditEntry{Actor: author, Action: "list.created", Subject: name, Detail: fmt.Appendf(nil, `{"hashed":%t}`, hashed)})
		}
		return err
	})
	if err != nil {
		return List{}, fmt.Errorf("create list %s: %w", name, err)
	}
	list, err := l.List(ctx, name)
	if err == nil && list.Hashed != hashed {
		err = vaglio.Invalid{{Pointer: "/hashed", Detail: fmt.Sprintf("the list is there with hashed: %t", list.Hashed)}}
	}
	return list, err
}

const listColumns = `name, salt, revision, created_at`

func scanList(row interface{ Scan(...any) error }) (List, error) {
	var list List
	err := row.Scan(&list.Name, &list.Salt, &list.Revision, &list.CreatedAt)
	list.Hashed = len(list.Salt) > 0
	return list, err
}

// List finds a list, or ErrNotFound.
func (l *Ledger) List(ctx context.Context, name string) (List, error) {
	list, err := scanList(l.read.QueryRowContext(ctx, `SELECT `+listColumns+` FROM lists WHERE name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return List{}, fmt.Errorf("list %s: %w", name, err)
	}
	return list, nil
}

// Lists are all lists by name.
func (l *Ledger) Lists(ctx context.Context) ([]List, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT `+listColumns+` FROM lists ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read the lists: %w", err)
	}
	defer rows.Close()
	var all []List
	for rows.Next() {
		list, err := scanList(rows)
		if err != nil {
			return nil, fmt.Errorf("read the lists: %w", err)
		}
		all = append(all, list)
	}
	return all, rows.Err()
}

// changeList runs one change of a list under its next revision, which the change of a list by others waits for: revisions
// become visible in order. change tells how many values it concerned; the audit log gets their number, never the values.
func (l *Ledger) changeList(ctx context.Context, name, action, author string, change func(tx *sql.Tx, list *List) (values int, err error)) error {
	return l.change(ctx, func(tx *sql.Tx, s *staged) error {
		list, err := scanList(tx.QueryRowContext(ctx, `UPDATE lists SET revision = revision + 1 WHERE name = $1 RETURNING `+listColumns, name))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		n, err := change(tx, &list)
		s.note(AuditEntry{Actor: author, Action: action, Subject: name, Detail: fmt.Appendf(nil, `{"values":%d}`, n)})
		return err
	})
}

const closeEntrySQL = `UPDATE list_entries SET removed_at = $1, removed_by = $2, revision = $3 WHERE list = $4 AND digest = $5 AND removed_at = 0`

// AddToList puts values on a list, at most MaxListChange. A value that is on it begins a new stay with what is said now.
func (l *Ledger) AddToList(ctx context.Context, name string, values []ListValue, author string) error {
	now := l.now()
	if err := checkListValues(values, now); err != nil {
		return err
	}
	err := l.changeList(ctx, name, "list.added", author, func(tx *sql.Tx, list *List) (int, error) {
		for _, v := range values {
			digest := list.Digest(v.Value)
			if _, err := tx.ExecContext(ctx, closeEntrySQL, int64(now), author, list.Revision, name, digest[:]); err != nil {
				return 0, err
			}
			shown := v.Value
			if list.Hashed {
				shown = ""
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO list_entries (list, digest, value, reason, author, added_at, expires_at, removed_at,
				removed_by, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, '', $8)`,
				name, digest[:], shown, v.Reason, author, int64(now), int64(v.ExpiresAt), list.Revision); err != nil {
				return 0, err
			}
		}
		return len(values), nil
	})
	if err != nil {
		return fmt.Errorf("add to list %s: %w", name, err)
	}
	return nil
}

func checkListValues(values []ListValue, now vaglio.Instant) error {
	var bad vaglio.Invalid
	if len(values) == 0 || len(values) > MaxListChange {
		bad = append(bad, vaglio.FieldError{Detail: fmt.Sprintf("want 1 to %d values, not %d", MaxListChange, len(values))})
	}
	for i, v := range values {
		at := func(field, detail string) {
			bad = append(bad, vaglio.FieldError{Pointer: fmt.Sprintf("/%d/%s", i, field), Detail: detail})
		}
		if v.Value == "" || len(v.Value) > vaglio.MaxValueBytes || strings.ContainsFunc(v.Value, unicode.IsControl) {
			at("value", fmt.Sprintf("want 1 to %d bytes without control characters", vaglio.MaxValueBytes))
		}
		if len(v.Reason) > MaxListReason || strings.ContainsFunc(v.Reason, unicode.IsControl) {
			at("reason", fmt.Sprintf("want at most %d bytes without control characters", MaxListReason))
		}
		if v.ExpiresAt != 0 && v.ExpiresAt <= now {
			at("expires_at", "is not in the future")
		}
		if len(bad) == 20 {
			break
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// RemoveFromList takes values off a list, at most MaxListChange, and says how many were on it.
func (l *Ledger) RemoveFromList(ctx context.Context, name string, values []string, author string) (removed int, err error) {
	if len(values) == 0 || len(values) > MaxListChange {
		return 0, vaglio.Invalid{{Detail: fmt.Sprintf("want 1 to %d values, not %d", MaxListChange, len(values))}}
	}
	now := l.now()
	err = l.changeList(ctx, name, "list.removed", author, func(tx *sql.Tx, list *List) (int, error) {
		for _, v := range values {
			digest := list.Digest(v)
			result, err := tx.ExecContext(ctx, closeEntrySQL, int64(now), author, list.Revision, name, digest[:])
			if err != nil {
				return 0, err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return 0, err
			}
			removed += int(n)
		}
		return removed, nil
	})
	if err != nil {
		return 0, fmt.Errorf("remove from list %s: %w", name, err)
	}
	return removed, nil
}

const entryColumns = `id, digest, value, reason, author, added_at, expires_at, removed_at, removed_by, revision`

// ListChanges are the entries written after a place, in order of (Revision, ID), at most limit: call again with the last one's
// place until none comes.
func (l *Ledger) ListChanges(ctx context.Context, name string, afterRevision, afterID int64, limit int) ([]ListEntry, error) {
	return l.listEntries(ctx, name, `SELECT `+entryColumns+` FROM list_entries WHERE list = $1 AND (revision, id) > ($2, $3)
		ORDER BY revision, id LIMIT $4`, name, afterRevision, afterID, limit)
}

// ListEntries are the stays on a list that are not over at a moment, in order of ID above after, at most limit. With a value,
// only that one's.
func (l *Ledger) ListEntries(ctx context.Context, name, value string, at vaglio.Instant, after int64, limit int) ([]ListEntry, error) {
	list, err := l.List(ctx, name)
	if err != nil {
		return nil, err
	}
	if value == "" {
		return l.listEntries(ctx, name, `SELECT `+entryColumns+` FROM list_entries WHERE list = $1 AND removed_at = 0 AND
			(expires_at = 0 OR expires_at > $2) AND id > $3 ORDER BY id LIMIT $4`, name, int64(at), after, limit)
	}
	digest := list.Digest(value)
	return l.listEntries(ctx, name, `SELECT `+entryColumns+` FROM list_entries WHERE list = $1 AND removed_at = 0 AND
		(expires_at = 0 OR expires_at > $2) AND id > $3 AND digest = $5 ORDER BY id LIMIT $4`, name, int64(at), after, limit, digest[:])
}

func (l *Ledger) listEntries(ctx context.Context, name, query string, args ...any) ([]ListEntry, error) {
	rows, err := l.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	defer rows.Close()
	var all []ListEntry
	for rows.Next() {
		var e ListEntry
		var digest []byte
		if err := rows.Scan(&e.ID, &digest, &e.Value, &e.Reason, &e.Author, &e.AddedAt, &e.ExpiresAt, &e.RemovedAt, &e.RemovedBy, &e.Revision); err != nil {
			return nil, fmt.Errorf("read list %s: %w", name, err)
		}
		copy(e.Digest[:], digest)
		all = append(all, e)
	}
	return all, rows.Err()
}
