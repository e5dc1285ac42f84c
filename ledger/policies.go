package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// ErrFourEyes says that a second person has to approve, and that it was not one.
var ErrFourEyes = errors.New("wants another person than its author")

// PolicyText is a policy as it was written.
type PolicyText struct {
	Version string `json:"version"`
	Name    string `json:"name"`
	Source  []byte `json:"-"` // YAML
}

// Publication says that a policy was to be in force, and whether and since when it was.
type Publication struct {
	ID         int64          `json:"id"`
	Version    string         `json:"version"`
	Author     string         `json:"author"`
	Reason     string         `json:"reason"`
	ProposedAt vaglio.Instant `json:"proposed_at"`
	Turn       int64          `json:"turn,omitzero"` // 0: it waits for a second person; the highest one is in force
	Approver   string         `json:"approver,omitzero"`
	TurnedAt   vaglio.Instant `json:"turned_at,omitzero"`
}

// ProposePolicy keeps a policy and that its author wants it in force: at once, or once another person approved
// ([Ledger.ApprovePolicy]). The text of a version never changes.
func (l *Ledger) ProposePolicy(ctx context.Context, p PolicyText, author, reason string, fourEyes bool) (Publication, error) {
	if p.Version == "" || author == "" {
		return Publication{}, errors.New("propose a policy: it wants a version and an author")
	}
	out := Publication{Version: p.Version, Author: author, Reason: reason, ProposedAt: l.now()}
	err := l.change(ctx, func(tx *sql.Tx, s *staged) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO policies (version, name, source) VALUES ($1, $2, $3) ON CONFLICT (version) DO NOTHING`,
			p.Version, p.Name, p.Source); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, `INSERT INTO policy_publications (version, author, reason, proposed_at, approver, turned_at)
			VALUES ($1, $2, $3, $4, '', 0) RETURNING id`, p.Version, author, reason, int64(out.ProposedAt)).Scan(&out.ID)
		if err != nil {
			return err
		}
		if fourEyes {
			s.note(out.entry("policy.proposed", author))
			return nil
		}
		return l.turn(ctx, tx, s, &out, "policy.published", "")
	})
	if err != nil {
		return Publication{}, fmt.Errorf("propose policy %s: %w", p.Version, err)
	}
	return out, nil
}

// turn brings a publication into force, and notes it. Two at a time: the second fails on the unique turn, or waits for the first.
func (l *Ledger) turn(ctx context.Context, tx *sql.Tx, s *staged, p *Publication, action, approver string) error {
	p.Approver, p.TurnedAt = approver, l.now()
	s.note(p.entry(action, cmp.Or(approver, p.Author)))
	return tx.QueryRowContext(ctx, `UPDATE policy_publications SET approver = $1, turned_at = $2,
		turn = (SELECT COALESCE(MAX(turn), 0) + 1 FROM policy_publications) WHERE id = $3 AND turn IS NULL RETURNING turn`,
		approver, int64(p.TurnedAt), p.ID).Scan(&p.Turn)
}

// entry is what the audit log says of a publication.
func (p *Publication) entry(action, actor string) AuditEntry {
	detail, err := json.Marshal(struct {
		Publication int64  `json:"publication"`
		Reason      string `json:"reason"`
	}{p.ID, p.Reason}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("ledger: a publication does not encode: " + err.Error())
	}
	return AuditEntry{Actor: actor, Action: action, Subject: p.Version, Detail: detail}
}

// ApprovePolicy brings a proposed publication into force in the name of a second person. [ErrFourEyes] if that is its author,
// [ErrNotFound] if no such one waits.
func (l *Ledger) ApprovePolicy(ctx context.Context, id int64, approver string) (Publication, error) {
	var p Publication
	err := l.change(ctx, func(tx *sql.Tx, s *staged) error {
		err := scanPublication(tx.QueryRowContext(ctx, `SELECT `+publicationColumns+` FROM policy_publications WHERE id = $1 AND turn IS NULL`, id), &p)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case approver == "" || approver == p.Author:
			return ErrFourEyes
		}
		return l.turn(ctx, tx, s, &p, "policy.approved", approver)
	})
	if err != nil {
		return Publication{}, fmt.Errorf("approve publication %d: %w", id, err)
	}
	return p, nil
}

const publicationColumns = `id, version, author, reason, proposed_at, COALESCE(turn, 0), approver, turned_at`

func scanPublication(row interface{ Scan(...any) error }, p *Publication) error {
	return row.Scan(&p.ID, &p.Version, &p.Author, &p.Reason, &p.ProposedAt, &p.Turn, &p.Approver, &p.TurnedAt)
}

// Publications lists what was published or waits to be, the newest first, at most 1,000.
func (l *Ledger) Publications(ctx context.Context) ([]Publication, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT `+publicationColumns+` FROM policy_publications ORDER BY id DESC LIMIT 1000`)
	if err != nil {
		return nil, fmt.Errorf("list publications: %w", err)
	}
	defer rows.Close()
	var all []Publication
	for rows.Next() {
		var p Publication
		if err := scanPublication(rows, &p); err != nil {
			return nil, fmt.Errorf("list publications: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// CurrentPolicy is the version in force, "" when none was ever published.
func (l *Ledger) CurrentPolicy(ctx context.Context) (version string, err error) {
	err = l.read.QueryRowContext(ctx, `SELECT version FROM policy_publications WHERE turn IS NOT NULL ORDER BY turn DESC LIMIT 1`).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look for the policy in force: %w", err)
	}
	return version, nil
}

// RollbackPolicy brings the version into force again that was before the present one: the last turn of another version.
func (l *Ledger) RollbackPolicy(ctx context.Context, author, reason string) (Publication, error) {
	var out Publication
	err := l.change(ctx, func(tx *sql.Tx, s *staged) error {
		var before string
		err := tx.QueryRowContext(ctx, `SELECT version FROM policy_publications WHERE turn IS NOT NULL AND version <>
			(SELECT version FROM policy_publications WHERE turn IS NOT NULL ORDER BY turn DESC LIMIT 1) ORDER BY turn DESC LIMIT 1`).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("an earlier policy: %w", ErrNotFound)
		}
		if err != nil {
			return err
		}
		out = Publication{Version: before, Author: author, Reason: reason, ProposedAt: l.now()}
		if err := tx.QueryRowContext(ctx, `INSERT INTO policy_publications (version, author, reason, proposed_at, approver, turned_at)
			VALUES ($1, $2, $3, $4, '', 0) RETURNING id`, before, author, reason, int64(out.ProposedAt)).Scan(&out.ID); err != nil {
			return err
		}
		return l.turn(ctx, tx, s, &out, "policy.rolled_back", "")
	})
	if err != nil {
		return Publication{}, fmt.Errorf("roll the policy back: %w", err)
	}
	return out, nil
}

// Policy is the text of a version, [ErrNotFound] if there is none.
func (l *Ledger) Policy(ctx context.Context, version string) (PolicyText, error) {
	p := PolicyText{Version: version}
	err := l.read.QueryRowContext(ctx, `SELECT name, source FROM policies WHERE version = $1`, version).Scan(&p.Name, &p.Source)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return PolicyText{}, fmt.Errorf("policy %s: %w", version, err)
	}
	return p, nil
}

// transact runs one transaction of the writer.
func (l *Ledger) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := l.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
