package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// column is a new value of a personal column.
type column struct {
	name  string
	value any
}

// rewrite gives personal columns of a row new values, and seals the row anew. What was sealed of the personal part before
// proves nothing any more, and nobody can find it by trying: its salt goes.
func (t *transaction) rewrite(kind *sealedKind, id string, columns ...column) error {
	found, err := readSealed(t.tx.QueryContext(t.ctx, `SELECT `+kind.columns()+` FROM `+kind.table+` WHERE `+kind.id+` = $1`, id))
	if err != nil || found[id] == nil {
		return errors.Join(err, fmt.Errorf("rewrite %s %s: %w", kind.name, id, ErrNotFound))
	}
	public, personal := found[id][:len(kind.public)], found[id][len(kind.public):]
	if err := t.unsalt(kind, id, personal); err != nil {
		return fmt.Errorf("rewrite %s %s: %w", kind.name, id, err)
	}
	var set []string
	var args []any
	for _, c := range columns {
		personal[slices.Index(kind.personal, c.name)] = c.value
		args = append(args, c.value)
		set = append(set, fmt.Sprintf("%s = $%d", c.name, len(args)))
	}
	args = append(args, id)
	_, err = t.tx.ExecContext(t.ctx, fmt.Sprintf(`UPDATE %s SET %s WHERE %s = $%d`, kind.table, strings.Join(set, ", "), kind.id, len(args)), args...)
	if err != nil {
		return fmt.Errorf("rewrite %s %s: %w", kind.name, id, err)
	}
	t.addLeaf(kind, id, rowRewritten, public, personal)
	return nil
}

// unsalt puts the hash of a row's personal part in the place of its salt.
func (t *transaction) unsalt(kind *sealedKind, id string, personal []any) error {
	var block, salt []byte
	var n int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT block, n, salt FROM audit_leaves WHERE id = $1 AND kind = $2 AND salt IS NOT NULL`, id, kind.name).
		Scan(&block, &n, &salt)
	if err != nil {
		return fmt.Errorf("find its leaf: %w", err)
	}
	hidden := personalHash(salt, personal)
	_, err = t.tx.ExecContext(t.ctx, `UPDATE audit_leaves SET salt = NULL, personal = $1 WHERE block = $2 AND n = $3`, hidden[:], block, n)
	return err
}

// remove deletes a row. Its leaves stay, with nothing of it.
func (t *transaction) remove(kind *sealedKind, id string) error {
	_, err := t.tx.ExecContext(t.ctx, `DELETE FROM `+kind.table+` WHERE `+kind.id+` = $1`, id)
	if err == nil {
		_, err = t.tx.ExecContext(t.ctx, `UPDATE audit_leaves SET salt = NULL, personal = NULL WHERE id = $1 AND kind = $2`, id, kind.name)
	}
	if err != nil {
		return fmt.Errorf("remove %s %s: %w", kind.name, id, err)
	}
	t.addLeaf(kind, id, rowRemoved, nil, nil)
	return nil
}

// texts reads a column of texts in the transaction.
func (t *transaction) texts(text string, args ...any) ([]string, error) {
	return readTexts(t.tx.QueryContext(t.ctx, text, args...))
}

// blob reads one value of bytes; nil: NULL, or no row.
func (t *transaction) blob(text string, args ...any) ([]byte, error) {
	var b []byte
	if err := t.tx.QueryRowContext(t.ctx, text, args...).Scan(&b); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	return bytes.Clone(b), nil
}

// beginChain seals what an earlier version stored without a chain, as it is found; the log says so.
func (l *Ledger) beginChain(ctx context.Context) error {
	var begun bool
	const begunSQL = `SELECT EXISTS (SELECT 1 FROM audit_head WHERE seq > 0) OR NOT EXISTS (SELECT 1 FROM decisions)`
	if err := l.read.QueryRowContext(ctx, begunSQL).Scan(&begun); err != nil || begun {
		return err
	}
	return l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
		if err := t.tx.QueryRowContext(ctx, begunSQL).Scan(&begun); err != nil || begun {
			return err
		}
		for _, kind := range []*sealedKind{&decisionKind, &revisionKind} {
			found, err := readSealed(t.tx.QueryContext(ctx, `SELECT `+kind.columns()+` FROM `+kind.table))
			if err != nil {
				return err
			}
			for _, id := range slices.Sorted(maps.Keys(found)) {
				t.addLeaf(kind, id, rowMade, found[id][:len(kind.public)], found[id][len(kind.public):])
			}
		}
		return t.noteRows("", "chain.begun", "", len(t.leaves), 0)
	})
}
