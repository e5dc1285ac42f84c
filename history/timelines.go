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
// The facts share memory: who keeps few of many should clone them.
func (s *Store) Timelines(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) (map[vaglio.Entity][]vaglio.Fact, error) {
	found := make(map[vaglio.Entity][]vaglio.Fact, len(entities))
	err := s.timelines(ctx, entities, asOf-vaglio.Horizon, asOf, func(entity vaglio.Entity, facts []vaglio.Fact) { found[entity] = kept(facts) })
	if err != nil {
		return nil, err
	}
	return found, nil
}

// kept gives visited facts fields of their own.
func kept(visited []vaglio.Fact) []vaglio.Fact {
	facts, n := slices.Clone(visited), 0
	for i := range facts {
		n += len(facts[i].Entities) + len(facts[i].Attributes)
	}
	room := make(vaglio.Fields, 0, n)
	take := func(fs vaglio.Fields) vaglio.Fields {
		if len(fs) == 0 {
			return nil
		}
		from := len(room)
		room = append(room, fs...)
		return room[from:len(room):len(room)]
	}
	for i := range facts {
		facts[i].Entities, facts[i].Attributes = take(facts[i].Entities), take(facts[i].Attributes)
	}
	return facts
}

// Latest visits the facts of some entities that matter for decisions from now on: those of [Store.Timelines], with what is
// stored already and counts only later. They are the visitor's until it returns; what it keeps it must clone.
func (s *Store) Latest(ctx context.Context, entities []vaglio.Entity, visit func(vaglio.Entity, []vaglio.Fact)) error {
	return s.timelines(ctx, entities, s.now()-vaglio.Horizon, math.MaxInt64, visit)
}

// timelinesSQL takes a limit, entities and a moment. It gives the timelines as one text and leaves their order to us: sorting
// costs ClickHouse a third of the query, a row per fact costs us as much as the facts, and a row per timeline twice the text's
// memory, since the client can't foresee the length of a column. Beyond the limit only the number of rows is of use.
const timelinesSQL = `
	SELECT groupArray(entity), groupArray(facts), groupArray(length(payloads)), arrayStringConcat(groupArray(payloads)) FROM (
		SELECT entity, count() AS facts, arrayStringConcat(groupArray(?)(payload)) AS payloads FROM timelines
		WHERE entity IN (?) AND known_at <= ?
		GROUP BY entity)`

// orderedSQL takes entities, a moment and a limit.
const orderedSQL = `
	SELECT entity, payload FROM timelines WHERE entity IN (?) AND known_at <= ?
	ORDER BY entity, kind, occurred_at DESC, id DESC, precedence DESC
	LIMIT ? BY entity, kind
	SETTINGS optimize_read_in_order = 0`

// maxRows is how many rows surely hold the newest facts of one kind: those that are not merged yet stand beside their
// repetitions.
const maxRows = 2 * vaglio.NewestPerKind

// timelines visits what occurred since a moment and was known by another.
func (s *Store) timelines(ctx context.Context, entities []vaglio.Entity, since, knownBy vaglio.Instant,
	visit func(vaglio.Entity, []vaglio.Fact)) error {
	if len(entities) == 0 {
		return nil
	}
	var names []string
	var counts, lengths []uint64
	var payloads string
	row := s.conn.QueryRow(ctx, timelinesSQL, maxRows, entityNames(entities), int64(knownBy))
	if err := row.Scan(&names, &counts, &lengths, &payloads); err != nil {
		return fmt.Errorf("read timelines: %w", err)
	}
	var rest []string // for ClickHouse to choose from: long ones, and those with two facts of one id
	tl := newTimeline(since, visit)
	for i, name := range names {
		own := payloads[:lengths[i]]
		payloads = payloads[lengths[i]:]
		if counts[i] > maxRows {
			rest = append(rest, name)
			continue
		}
		disputed, err := tl.readAll(own)
		switch {
		case err != nil:
			return fmt.Errorf("read the timeline of a %s: %w", entityOf(name).Kind, err)
		case disputed:
			rest = append(rest, name)
			tl.empty()
		default:
			tl.sort()
			tl.show(name)
		}
	}
	return s.orderedTimelines(ctx, rest, knownBy, newTimeline(since, visit))
}

// orderedTimelines lets ClickHouse order the rows and choose the newest.
func (s *Store) orderedTimelines(ctx context.Context, names []string, knownBy vaglio.Instant, tl *timeline) error {
	if len(names) == 0 {
		return nil
	}
	rows, err := s.conn.Query(ctx, orderedSQL, names, int64(knownBy), maxRows)
	if err != nil {
		return fmt.Errorf("read ordered timelines: %w", err)
	}
	defer rows.Close()
	tl.repeats = true
	var current string
	for rows.Next() {
		var name, payload string
		if err := rows.Scan(&name, &payload); err != nil {
			return fmt.Errorf("read ordered timelines: %w", err)
		}
		if name != current {
			tl.show(current)
			current = name
		}
		tl.rest = payload
		if err := tl.read(); err != nil {
			return fmt.Errorf("read the timeline of a %s: %w", entityOf(name).Kind, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ordered timelines: %w", err)
	}
	tl.show(current)
	return nil
}

// fieldsAtOnce are the entities and attributes of some eight facts.
const fieldsAtOnce = 64

// timeline gathers the facts of one entity, and has room for the next one's.
type timeline struct {
	reader
	since   vaglio.Instant
	visit   func(vaglio.Entity, []vaglio.Fact)
	facts   []vaglio.Fact
	order   []int
	seen    map[string]string // payloads by id
	repeats bool              // ids may come again, and the first of each counts
	shown   []vaglio.Fact
}

func newTimeline(since vaglio.Instant, visit func(vaglio.Entity, []vaglio.Fact)) *timeline {
	return &timeline{reader: reader{chunk: fieldsAtOnce}, since: since, visit: visit, seen: map[string]string{}}
}

// read reads the next fact, into the room of one that was shown before.
func (tl *timeline) read() error {
	n := len(tl.facts)
	tl.facts = slices.Grow(tl.facts, 1)[:n+1]
	tl.order = append(tl.order, n)
	return tl.fact(&tl.facts[n])
}

// readAll reads payloads, each id once. They are disputed if two of one id differ: then the first stored counts.
func (tl *timeline) readAll(payloads string) (disputed bool, err error) {
	tl.rest = payloads
	for tl.rest != "" {
		before := tl.rest
		if err := tl.read(); err != nil {
			return false, err
		}
		payload, last := before[:len(before)-len(tl.rest)], len(tl.facts)-1
		switch other, again := tl.seen[tl.facts[last].ID]; {
		case !again:
			tl.seen[tl.facts[last].ID] = payload
		case other == payload:
			tl.facts, tl.order = tl.facts[:last], tl.order[:last]
		default:
			return true, nil
		}
	}
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

// show visits an entity's newest facts of each kind that occurred since the moment, each id once, and empties the timeline.
func (tl *timeline) show(name string) {
	entity, since := entityOf(name), tl.since
	if entity.Kind == vaglio.EntityPayment {
		since = math.MinInt64
	}
	tl.shown = tl.shown[:0]
	kind, ofKind := "", 0
	for _, i := range tl.order {
		f := &tl.facts[i]
		if f.Kind != kind {
			kind, ofKind = f.Kind, 0
		}
		if ofKind == vaglio.NewestPerKind || f.OccurredAt < since {
			continue
		}
		if tl.repeats {
			if _, again := tl.seen[f.ID]; again {
				continue
			}
			tl.seen[f.ID] = ""
		}
		ofKind++
		tl.shown = append(tl.shown, *f)
	}
	if len(tl.shown) > 0 {
		tl.visit(entity, tl.shown)
	}
	tl.empty()
}

func (tl *timeline) empty() {
	clear(tl.seen)
	tl.facts, tl.order = tl.facts[:0], tl.order[:0]
}
