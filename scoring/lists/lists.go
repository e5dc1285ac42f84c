// Package lists holds the ledger's lists in memory, so that rules can ask for a value in less than a microsecond, also as of
// an earlier moment. [Mirror.Refresh] takes up what changed since the last time, in whatever replica.
package lists

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"vaglio"
	"vaglio/ledger"
)

// Mirror is a picture of all lists. Its zero value is empty. Readers never wait; one goroutine at a time refreshes.
type Mirror struct {
	lists atomic.Pointer[map[string]*list]
}

// key is the beginning of a value's digest: 128 bits of SHA-256 don't meet by chance.
type key [16]byte

// stay is a value's time on a list, [from, until); until 0: no end. Earlier stays of the value follow.
type stay struct {
	id          int64
	from, until vaglio.Instant
	earlier     *stay
}

// list is immutable. What changed lately stands in recent, and hides what settled holds under the same key.
type list struct {
	ledger.List
	lastID  int64
	settled map[key]stay
	recent  map[key]stay
	folding bool // only while it is being made
}

// maxRecent is how many changes are copied at each refresh before all are copied into a new settled.
const maxRecent = 4096

// page is how many changes one reading takes.
const page = 5000

func keyOf(digest [sha256.Size]byte) key { return key(digest[:16]) }

// Contains reports whether a value was on a list at a moment. A list that does not exist holds nothing.
func (m *Mirror) Contains(name, value string, at vaglio.Instant) bool {
	all := m.lists.Load()
	if all == nil || value == "" {
		return false
	}
	l, ok := (*all)[name]
	if !ok {
		return false
	}
	k := keyOf(l.Digest(value))
	s, ok := l.recent[k]
	if !ok {
		s, ok = l.settled[k]
	}
	for p := &s; ok && p != nil; p = p.earlier {
		if p.from <= at && (p.until == 0 || at < p.until) {
			return true
		}
	}
	return false
}

// Has reports whether there is a list of that name.
func (m *Mirror) Has(name string) bool {
	all := m.lists.Load()
	if all == nil {
		return false
	}
	_, ok := (*all)[name]
	return ok
}

// Revisions names the picture: every list with its revision, "confirmed_fraud:12 vip:3".
func (m *Mirror) Revisions() string {
	all := m.lists.Load()
	if all == nil {
		return ""
	}
	var parts []string
	for name, l := range *all {
		parts = append(parts, fmt.Sprintf("%s:%d", name, l.Revision))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// Refresh takes up what changed. After an error the picture is as it was, or has some of the changes.
func (m *Mirror) Refresh(ctx context.Context, l *ledger.Ledger) error {
	heads, err := l.Lists(ctx)
	if err != nil {
		return err
	}
	now := map[string]*list{}
	if before := m.lists.Load(); before != nil {
		maps.Copy(now, *before)
	}
	changed := false
	for _, head := range heads {
		had, ok := now[head.Name]
		if ok && had.Revision == head.Revision {
			continue
		}
		if !ok {
			had = &list{List: head}
			had.Revision = 0
		}
		next, err := had.after(ctx, l, head)
		if err != nil {
			return err
		}
		now[head.Name], changed = next, true
	}
	if changed {
		m.lists.Store(&now)
	}
	return nil
}

// after is the list with all that the ledger has beyond it.
func (l *list) after(ctx context.Context, from *ledger.Ledger, head ledger.List) (*list, error) {
	next := &list{List: head, lastID: l.lastID, settled: l.settled, recent: maps.Clone(l.recent)}
	next.Revision = l.Revision
	if next.recent == nil {
		next.recent = map[key]stay{}
	}
	for {
		changes, err := from.ListChanges(ctx, head.Name, next.Revision, next.lastID, page)
		if err != nil {
			return nil, err
		}
		for i := range changes {
			next.take(&changes[i])
		}
		if len(next.recent) > maxRecent && !next.folding {
			// From here on all goes into a map that no reader has yet.
			settled := make(map[key]stay, len(next.settled)+len(next.recent))
			maps.Copy(settled, next.settled)
			maps.Copy(settled, next.recent)
			next.settled, next.recent, next.folding = settled, nil, true
		}
		if len(changes) < page {
			next.Revision = max(next.Revision, head.Revision)
			next.folding = false
			return next, nil
		}
	}
}

func (l *list) take(e *ledger.ListEntry) {
	l.Revision, l.lastID = e.Revision, e.ID
	k := keyOf(e.Digest)
	had, ok := l.recent[k]
	if !ok {
		had, ok = l.settled[k]
	}
	var stays []stay // all but the entry itself, the newest first
	for p := &had; ok && p != nil; p = p.earlier {
		if p.id != e.ID {
			stays = append(stays, *p)
		}
	}
	stays = append(stays, stay{id: e.ID, from: e.AddedAt, until: e.Until()})
	slices.SortFunc(stays, func(a, b stay) int { return cmp.Compare(b.id, a.id) })
	for i := range stays {
		stays[i].earlier = nil
		if i+1 < len(stays) {
			stays[i].earlier = &stays[i+1]
		}
	}
	if l.folding {
		l.settled[k] = stays[0]
	} else {
		l.recent[k] = stays[0]
	}
}
