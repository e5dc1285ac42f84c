package history

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"vaglio"
)

// Timelines reads the facts of some entities that were known at a moment: of each kind the newest [vaglio.NewestPerKind]
// within the horizon, by (occurred_at, id) downwards. A payment's timeline has no horizon, since money stays paid; the
// limit holds there too, and who counts money must look whether it was reached. Entities without facts are left out.
// The facts of one timeline share memory: who keeps few of many should clone them.
func (s *Store) Timelines(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) (map[vaglio.Entity][]vaglio.Fact, error) {
	return s.timelines(ctx, entities, asOf-vaglio.Horizon, asOf)
}

// Latest reads the facts of some entities that matter for decisions from now on: as [Store.Timelines] does, with what is
// stored already and counts only later.
func (s *Store) Latest(ctx context.Context, entities []vaglio.Entity) (map[vaglio.Entity][]vaglio.Fact, error) {
	return s.timelines(ctx, entities, s.now()-vaglio.Horizon, math.MaxInt64)
}

// timelinesSQL takes a limit, entities and a moment. It gives each timeline as one text and leaves its order to us: sorting
// costs ClickHouse a third of the query, and a row per fact costs us as much as the facts. Beyond the limit only the number of
// rows is of use.
const timelinesSQL = `
	SELECT entity, count(), arrayStringConcat(groupArray(?)(payload)) FROM timelines
	WHERE entity IN (?) AND known_at <= ?
	GROUP BY entity`

// orderedSQL takes entities, a moment and a limit.
const orderedSQL = `
	SELECT entity, payload FROM timelines WHERE entity IN (?) AND known_at <= ?
	ORDER BY entity, kind, occurred_at DESC, id DESC, precedence DESC
	LIMIT ? BY entity, kind
	SETTINGS optimize_read_in_order = 0`

// maxRows is how many rows surely hold the newest facts of one kind: those that are not merged yet stand beside their
// repetitions.
const maxRows = 2 * vaglio.NewestPerKind

// timelines reads what occurred since a moment and was known by another.
func (s *Store) timelines(ctx context.Context, entities []vaglio.Entity, since, knownBy vaglio.Instant) (map[vaglio.Entity][]vaglio.Fact, error) {
	if len(entities) == 0 {
		return nil, nil
	}
	rows, err := s.conn.Query(ctx, timelinesSQL, maxRows, entityNames(entities), int64(knownBy))
	if err != nil {
		return nil, fmt.Errorf("read timelines: %w", err)
	}
	defer rows.Close()
	found := make(map[vaglio.Entity][]vaglio.Fact, len(entities))
	var rest []string // for ClickHouse to choose from: long ones, and those with two facts of one id
	tl := timeline{seen: map[string]string{}}
	for rows.Next() {
		var name, payloads string
		var count uint64
		if err := rows.Scan(&name, &count, &payloads); err != nil {
			return nil, fmt.Errorf("read timelines: %w", err)
		}
		if count > maxRows {
			rest = append(rest, name)
			continue
		}
		disputed, err := tl.readAll(payloads)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the timeline of a %s: %w", entityOf(name).Kind, err)
		case disputed:
			rest = append(rest, name)
			tl.empty()
		default:
			tl.sort()
			tl.into(found, name, since)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read timelines: %w", err)
	}
	return found, s.orderedTimelines(ctx, found, rest, since, knownBy)
}

// orderedTimelines lets ClickHouse order the rows and choose the newest.
func (s *Store) orderedTimelines(ctx context.Context, found map[vaglio.Entity][]vaglio.Fact, names []string, since, knownBy vaglio.Instant) error {
	if len(names) == 0 {
		return nil
	}
	rows, err := s.conn.Query(ctx, orderedSQL, names, int64(knownBy), maxRows)
	if err != nil {
		return fmt.Errorf("read ordered timelines: %w", err)
	}
	defer rows.Close()
	tl := timeline{seen: map[string]string{}}
	var current string
	for rows.Next() {
		var name, payload string
		if err := rows.Scan(&name, &payload); err != nil {
			return fmt.Errorf("read ordered timelines: %w", err)
		}
		if name != current {
			tl.into(found, current, since)
			current = name
		}
		if err := tl.read(&reader{rest: payload}); err != nil {
			return fmt.Errorf("read the timeline of a %s: %w", entityOf(name).Kind, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ordered timelines: %w", err)
	}
	tl.into(found, current, since)
	return nil
}

// fieldsAtOnce are the entities and attributes of some eight facts.
const fieldsAtOnce = 64

// timeline gathers the facts of one entity, and has room for the next one's.
type timeline struct {
	facts []vaglio.Fact
	order []int
	seen  map[string]string // payloads by id
}

func (tl *timeline) read(r *reader) error {
	tl.order = append(tl.order, len(tl.facts))
	tl.facts = append(tl.facts, vaglio.Fact{})
	return r.fact(&tl.facts[len(tl.facts)-1])
}

// readAll reads payloads, each id once. They are disputed if two of one id differ: then the first stored counts.
func (tl *timeline) readAll(payloads string) (disputed bool, err error) {
	r := reader{rest: payloads, chunk: fieldsAtOnce}
	for r.rest != "" {
		before := r.rest
		if err := tl.read(&r); err != nil {
			return false, err
		}
		payload, last := before[:len(before)-len(r.rest)], len(tl.facts)-1
		switch other, again := tl.seen[tl.facts[last].ID]; {
		case !again:
			tl.seen[tl.facts[last].ID] = payload
		case other == payload:
			tl.facts, tl.order = tl.facts[:last], tl.order[:last]
		default:
			return true, nil
		}
	}
	clear(tl.seen)
	return false, nil
}

// sort orders by kind, then from new to old. Rows come from each part in the order of the table: backwards they are mostly
// sorted.
func (tl *timeline) sort() {
	slices.Reverse(tl.order)
	slices.SortFunc(tl.order, func(i, j int) int {
		a, b := &tl.facts[i], &tl.facts[j]
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(b.OccurredAt, a.OccurredAt), strings.Compare(b.ID, a.ID))
	})
}

// into gives an entity the newest facts of each kind that occurred since a moment, each id once, and empties the timeline.
func (tl *timeline) into(found map[vaglio.Entity][]vaglio.Fact, name string, since vaglio.Instant) {
	entity := entityOf(name)
	if entity.Kind == vaglio.EntityPayment {
		since = math.MinInt64
	}
	newest := make([]vaglio.Fact, 0, len(tl.facts))
	kind, ofKind := "", 0
	for _, i := range tl.order {
		f := &tl.facts[i]
		if f.Kind != kind {
			kind, ofKind = f.Kind, 0
		}
		if _, again := tl.seen[f.ID]; again || ofKind == vaglio.NewestPerKind || f.OccurredAt < since {
			continue
		}
		tl.seen[f.ID] = ""
		ofKind++
		newest = append(newest, *f)
	}
	if len(newest) > 0 {
		found[entity] = newest
	}
	tl.empty()
}

func (tl *timeline) empty() {
	clear(tl.facts)
	clear(tl.seen)
	tl.facts, tl.order = tl.facts[:0], tl.order[:0]
}
