package ledger

import (
	"context"
	"fmt"

	"vaglio"
)

// Listing is a stay on a list of a value that names a customer, or what is his alone.
type Listing struct {
	List    string         `json:"list"`
	Entry   int64          `json:"entry"` // its id
	Kind    string         `json:"kind"`  // of the entity
	AddedAt vaglio.Instant `json:"added_at"`
	Until   vaglio.Instant `json:"until,omitzero"` // 0: none
	value   string
}

// Listed finds the stays, over or not, of what is to be forgotten.
func (l *Ledger) Listed(ctx context.Context, p vaglio.Pseudonyms) ([]Listing, error) {
	lists, err := l.Lists(ctx)
	if err != nil {
		return nil, err
	}
	var all []Listing
	for _, list := range lists {
		for e := range p {
			digest := list.Digest(e.ID)
			entries, err := l.listEntries(ctx, list.Name, `SELECT `+entryColumns+` FROM list_entries WHERE list = $1 AND digest = $2 ORDER BY id`, list.Name, digest[:])
			if err != nil {
				return nil, err
			}
			for i := range entries {
				all = append(all, Listing{list.Name, entries[i].ID, e.Kind, entries[i].AddedAt, entries[i].Until(), e.ID})
			}
		}
	}
	return all, nil
}

// Unlist ends the stays of what is to be forgotten that are not over, and says how many. What is not taken off stays with its
// value and its reason: a list may be a ground to keep them.
func (l *Ledger) Unlist(ctx context.Context, p vaglio.Pseudonyms, actor string) (n int, err error) {
	listed, err := l.Listed(ctx, p)
	if err != nil {
		return 0, err
	}
	for _, s := range listed {
		if s.Until != 0 && s.Until <= l.now() {
			continue
		}
		removed, err := l.RemoveFromList(ctx, s.List, []string{s.value}, actor)
		if err != nil {
			return n, err
		}
		n += removed
	}
	return n, nil
}

// forgetListings renames the stays that are over, and takes their reasons out. Followers of the lists read them again.
func (t *transaction) forgetListings(p vaglio.Pseudonyms) error {
	listed, err := t.Listed(t.ctx, p)
	if err != nil {
		return err
	}
	for _, s := range listed {
		if s.Until == 0 || s.Until > t.now {
			continue
		}
		list, err := scanList(t.tx.QueryRowContext(t.ctx, `UPDATE lists SET revision = revision + 1 WHERE name = $1 RETURNING `+listColumns, s.List))
		if err != nil {
			return fmt.Errorf("forget entry %d of list %s: %w", s.Entry, s.List, err)
		}
		name := p[vaglio.Entity{Kind: s.Kind, ID: s.value}]
		digest, shown := list.Digest(name), name
		if list.Hashed {
			shown = ""
		}
		_, err = t.tx.ExecContext(t.ctx, `UPDATE list_entries SET digest = $1, value = $2, reason = $3, revision = $4 WHERE id = $5`,
			digest[:], shown, forgottenText, list.Revision, s.Entry)
		if err != nil {
			return fmt.Errorf("forget entry %d of list %s: %w", s.Entry, s.List, err)
		}
	}
	return nil
}

// Forgettings is how many customers were forgotten everywhere. Ask every second or so, with the number of last time: when it has
// grown, facts kept in memory may name them and are to be dropped; the ledger then drops its own.
func (l *Ledger) Forgettings(ctx context.Context, before int64) (n int64, err error) {
	if err := l.read.QueryRowContext(ctx, `SELECT n FROM forgettings WHERE one = 1`).Scan(&n); err != nil {
		return before, fmt.Errorf("ask how many customers were forgotten: %w", err)
	}
	if n != before {
		l.recent.forget()
	}
	return n, nil
}
