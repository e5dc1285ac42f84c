package features

import (
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"vaglio"
)

// With is the state as it would be with one more fact. It is read only and shares the memory of other kinds of events. The state
// itself may be a snapshot.
func (s *State) With(f *vaglio.Fact) *State {
	c := &State{layout: s.layout, index: slices.Clone(s.index), lists: slices.Clone(s.lists), textBytes: s.textBytes, used: s.used}
	if l := c.find(c.layout.kind(f.Kind), f.Kind); l.n > 0 {
		l.slab, l.ids, l.customers, l.shared = slices.Clone(l.slab), slices.Clone(l.ids), slices.Clone(l.customers), false
	}
	c.Add(f)
	return c
}

// Has reports whether an event of a kind is kept under an id.
func (s *State) Has(kind, id string) bool {
	l := s.find(s.layout.kind(kind), kind)
	return slices.Contains(l.ids[min(l.head, len(l.ids)):min(l.head+l.n, len(l.ids))], id)
}

// Used counts the kept events that a moment can see, and hashes the set of their ids and times, in no order.
func (s *State) Used(at vaglio.Instant) (events int, hash uint64) {
	hash = s.used
	for i := range s.lists {
		l := &s.lists[i]
		times := l.times()
		from, to := first(times, int64(at-vaglio.Horizon)), first(times, int64(at))
		events += to - from
		for j := range from {
			hash -= useOf(l.id(j), times[j])
		}
		for j := to; j < len(times); j++ {
			hash -= useOf(l.id(j), times[j])
		}
	}
	return events, hash
}

// useOf is an event's part of that hash.
func useOf(id string, at int64) uint64 {
	text := make([]byte, 0, 128)
	return xxhash.Sum64(strconv.AppendInt(append(append(text, id...), '@'), at, 10))
}
