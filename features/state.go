package features

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unique"
	"unsafe"

	"vaglio"
	"vaglio/expression"
)

// State holds what features need of one timeline: per kind of event the newest [vaglio.NewestPerKind] facts, column by
// column. Facts are added as they become known, in any order: the order leaves no trace, and a repeated fact changes
// nothing. Facts of one id must be equal; history sees to that. Not safe for concurrent use; see [State.Snapshot].
type State struct {
	layout    *layout
	index     []uint16 // of the layout's kinds in lists, plus one; 0: no such event
	lists     []list   // of kinds that have events
	textBytes int
	used      uint64 // sum of the hashes of all events kept, see [State.Used]
	snapshot  *State // equal to this state; nil since the last change
}

// layout is what states keep for one kind of entity.
type layout struct {
	entity      string
	kinds       []kindLayout
	columns     []column
	filters     []number // predicates over the event alone, one bit each
	filterTexts []string
	identifies  bool       // linked features look for customers here, in events of all kinds
	other       kindLayout // of the kinds that only they read
	empty       *State
}

// kindLayout is what is kept of the events of one kind.
type kindLayout struct {
	name    string
	slots   []int // by layout.columns: the place of the column in a list, -1 if the kind goes without
	width   int   // slots in use; the first one is the time
	mask    int   // slot of the bits of the filters that hold, -1 for none
	filters []int
}

// column is one value kept of every event.
type column struct {
	kind columnKind
	name string // of the entity or attribute
}

type columnKind uint8

const (
	columnBase      columnKind = iota // amount in the base currency
	columnOwn                         // amount in the event's own currency
	columnCurrency                    // hash
	columnEntity                      // hash
	columnAttribute                   // hash
	columnDecimal                     // an attribute as a number, in millionths
)

// Values of number columns that are no numbers.
const (
	absent  = -1 << 63   // the event has no such value
	unknown = -1<<63 + 1 // it has one, and we can't tell how much
)

// decimalScale is the fixed point of attributes: sums of millionths are exact.
const decimalScale = 1_000_000

// list holds the newest events of one kind, sorted by (occurred_at, id). Its columns lie in one slab with room before and
// behind the events, so that old and new ones come in without moving the rest.
type list struct {
	kind      *kindLayout
	name      string
	slab      []int64 // kind.width columns of capacity entries; hashes are reinterpreted bits, 0 when absent
	ids       []string
	customers []unique.Handle[string] // empty unless layout.identifies
	head, n   int
	capacity  int
	shared    bool // a snapshot reads the slab: only what lies behind its events may be written
}

var (
	noEvents = list{kind: &kindLayout{}}
	nobody   = unique.Make("")
)

// row is one event of a list.
type row struct {
	list *list
	i    int
}

type occurrence struct {
	at vaglio.Instant
	id string
}

func (o occurrence) compare(at vaglio.Instant, id string) int {
	return cmp.Or(cmp.Compare(o.at, at), cmp.Compare(o.id, id))
}

// kind is the place of a kind of events, -1 if no aggregate reads it.
func (l *layout) kind(name string) int {
	for i := range l.kinds {
		if l.kinds[i].name == name {
			return i
		}
	}
	return -1
}

func newState(l *layout) *State { return &State{layout: l, index: make([]uint16, len(l.kinds))} }

// Add takes a fact into the state, whether early or late, and reports whether that changed it. Kinds that no feature reads are
// passed over. Nothing of the fact's memory is kept.
func (s *State) Add(f *vaglio.Fact) (changed bool) {
	k := s.layout.kind(f.Kind)
	if k < 0 && !s.layout.identifies {
		return false
	}
	l, at := s.find(k, f.Kind), int64(f.OccurredAt)
	place := l.position(at, f.ID)
	if place < l.n && l.times()[place] == at && l.id(place) == f.ID || place == 0 && l.n >= vaglio.NewestPerKind {
		return false // repeated, or older than all that count
	}
	if s.snapshot != nil {
		s.lists, s.index, s.snapshot = slices.Clone(s.lists), slices.Clone(s.index), nil
	}
	if l = s.find(k, f.Kind); l.n == 0 {
		l = s.addList(k, f.Kind)
	}
	if l.n >= vaglio.NewestPerKind {
		s.used -= useOf(l.id(0), l.times()[0])
		s.textBytes -= len(l.dropOldest())
		place--
	}
	l.open(place)
	s.fill(l, place, f)
	s.used += useOf(f.ID, at)
	return true
}

// find is the list of a kind, given by its place in the layout or, if that is -1, by name.
func (s *State) find(kind int, name string) *list {
	if kind >= 0 {
		return s.list(kind)
	}
	for i := range s.lists {
		if s.lists[i].name == name {
			return &s.lists[i]
		}
	}
	return &noEvents
}

// list is that of one of the layout's kinds. It is read only.
func (s *State) list(kind int) *list {
	if i := s.index[kind]; i > 0 {
		return &s.lists[i-1]
	}
	return &noEvents
}

func (s *State) addList(kind int, name string) *list {
	l := list{kind: &s.layout.other, name: strings.Clone(name)}
	if kind >= 0 {
		l.kind = &s.layout.kinds[kind]
		l.name = l.kind.name
	}
	s.lists = append(s.lists, l)
	if kind >= 0 {
		s.index[kind] = uint16(len(s.lists))
	}
	return &s.lists[len(s.lists)-1]
}

func (s *State) fill(l *list, place int, f *vaglio.Fact) {
	// A decoded fact's strings share the whole event's memory.
	l.ids[l.head+place] = strings.Clone(f.ID)
	s.textBytes += len(f.ID)
	l.times()[place] = int64(f.OccurredAt)
	for c, slot := range l.kind.slots {
		if slot >= 0 {
			l.column(slot)[place] = s.layout.columns[c].of(f)
		}
	}
	if s.layout.identifies {
		if l.customers == nil {
			l.customers = make([]unique.Handle[string], l.capacity)
		}
		l.customers[l.head+place] = unique.Make(f.Entities.Get(vaglio.EntityCustomer))
	}
	if len(l.kind.filters) == 0 {
		return
	}
	env := filterScratches.Get().(*scratch)
	defer filterScratches.Put(env)
	env.row = row{l, place}
	var mask uint64
	for _, bit := range l.kind.filters {
		if s.layout.filters[bit](env) == 1 {
			mask |= 1 << bit
		}
	}
	l.column(l.kind.mask)[place] = int64(mask)
	env.row = row{}
}

var filterScratches = sync.Pool{New: func() any { return new(scratch) }}

// Snapshot is the state as it is now, for concurrent reading while more is added to this one. It is read only, costs
// nothing while nothing is added, and shares its memory.
func (s *State) Snapshot() *State {
	if s.snapshot == nil {
		for i := range s.lists {
			s.lists[i].shared = true
		}
		s.snapshot = &State{layout: s.layout, index: s.index, lists: s.lists, textBytes: s.textBytes, used: s.used}
		s.snapshot.snapshot = s.snapshot
	}
	return s.snapshot
}

// Len is the number of events kept.
func (s *State) Len() int {
	n := 0
	for i := range s.lists {
		n += s.lists[i].n
	}
	return n
}

// Bytes is about the memory that the state takes, but for the customers' names, which all states share.
func (s *State) Bytes() int {
	n := int(unsafe.Sizeof(*s)) + 2*cap(s.index) + s.textBytes + cap(s.lists)*int(unsafe.Sizeof(list{}))
	for i := range s.lists {
		l := &s.lists[i]
		n += 8*cap(l.slab) + 16*cap(l.ids) + 8*cap(l.customers)
	}
	return n
}

// times are the moments of the events, in milliseconds.
func (l *list) times() []int64 { return l.column(0) }

func (l *list) column(slot int) []int64 {
	from := slot*l.capacity + l.head
	return l.slab[from : from+l.n]
}

// values is one of the layout's columns.
func (l *list) values(column int) []int64 { return l.column(l.kind.slots[column]) }

func (l *list) id(i int) string { return l.ids[l.head+i] }

func (r row) value(column int) int64 {
	l := r.list
	return l.slab[l.kind.slots[column]*l.capacity+l.head+r.i]
}

// position is the place of the first event that is not before (at, id).
func (l *list) position(at int64, id string) int {
	times := l.times()
	lo, hi := first(times, at), first(times, at+1)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); l.id(mid) < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// first is the index of the first moment at or after another.
func first(times []int64, at int64) int {
	switch n := len(times); { // the usual cases: news, and windows that hold everything
	case n == 0 || times[n-1] < at:
		return n
	case times[0] >= at:
		return 0
	}
	lo, hi := 0, len(times)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); times[mid] < at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (l *list) dropOldest() (id string) {
	id = l.ids[l.head]
	if !l.shared {
		l.ids[l.head] = ""
	}
	l.head++
	l.n--
	return id
}

// open makes room for one event at a place, moving the shorter side: at most half of what is kept, and nothing when
// events come in order, forwards or backwards.
func (l *list) open(place int) {
	front := 2*place < l.n
	if !front && l.head+l.n == l.capacity && l.head > l.n/4 && !l.shared {
		l.slide() // a full list: old events leave in front, new ones come behind
	}
	room := l.head+l.n < l.capacity
	if front {
		room = l.head > 0
	}
	switch {
	case !room || l.shared && place < l.n:
		l.relocate(place, front)
		return
	case front:
		for slot := range l.kind.width {
			at := slot*l.capacity + l.head
			copy(l.slab[at-1:], l.slab[at:at+place])
		}
		shift(l.ids, l.head-1, l.head, place)
		shift(l.customers, l.head-1, l.head, place)
		l.head--
	case place < l.n:
		for slot := range l.kind.width {
			at := slot*l.capacity + l.head
			copy(l.slab[at+place+1:], l.slab[at+place:at+l.n])
		}
		shift(l.ids, l.head+place+1, l.head+place, l.n-place)
		shift(l.customers, l.head+place+1, l.head+place, l.n-place)
	}
	l.n++
}

func shift[T any](s []T, to, from, n int) {
	if s != nil {
		copy(s[to:to+n], s[from:from+n])
	}
}

// slide moves the events to the front of their memory.
func (l *list) slide() {
	for slot := range l.kind.width {
		copy(l.slab[slot*l.capacity:], l.column(slot))
	}
	shift(l.ids, 0, l.head, l.n)
	shift(l.customers, 0, l.head, l.n)
	clear(l.ids[l.n:])
	l.head = 0
}

// relocate moves the events to new memory, with a gap at a place and most of the room on the side that asks for it. The
// room is in proportion to the events, so that the cost of an event is constant on average.
func (l *list) relocate(place int, front bool) {
	free := max(3, l.n/2)
	old := *l
	l.shared, l.n, l.head, l.capacity = false, old.n+1, free/4, old.n+1+free
	if front {
		l.head = free - free/4
	}
	l.slab = make([]int64, l.kind.width*l.capacity)
	for slot := range l.kind.width {
		split(l.column(slot), old.column(slot), place)
	}
	l.ids = make([]string, l.capacity)
	split(l.ids[l.head:], old.ids[old.head:old.head+old.n], place)
	if old.customers != nil {
		l.customers = make([]unique.Handle[string], l.capacity)
		split(l.customers[l.head:], old.customers[old.head:old.head+old.n], place)
	}
}

// split copies with a gap of one at a place.
func split[T any](to, from []T, place int) {
	copy(to, from[:place])
	copy(to[place+1:], from[place:])
}

func (c *column) of(f *vaglio.Fact) int64 {
	switch c.kind {
	case columnBase:
		switch {
		case f.Currency == "":
			return absent
		case !f.BaseKnown:
			return unknown
		default:
			return f.BaseAmount
		}
	case columnOwn:
		if f.Currency == "" {
			return absent
		}
		return f.Amount
	case columnCurrency:
		return int64(hash(f.Currency))
	case columnEntity:
		return int64(hash(f.Entities.Get(c.name)))
	case columnAttribute:
		return int64(hash(f.Attributes.Get(c.name)))
	case columnDecimal:
		return decimal(f.Attributes.Get(c.name))
	default:
		panic("features: a column of no kind")
	}
}

// hash makes strings comparable in one word; 0 is the absent string. It is the same in every process and release: a
// collision (one in 2^64) would at least be the same one in training and serving.
func hash(s string) uint64 { return expression.Hash(s) }

// decimal reads a plain decimal number as millionths, exactly; finer digits are cut. What is no such number, or beyond
// a million million, is unknown.
func decimal(s string) int64 {
	if s == "" {
		return absent
	}
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	const fine = 6
	if len(fraction) > fine {
		if strings.Trim(fraction[fine:], "0123456789") != "" {
			return unknown
		}
		fraction = fraction[:fine]
	}
	if whole == "" || len(whole) > 12 {
		return unknown
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", fine-len(fraction)), 10, 63)
	if err != nil {
		return unknown
	}
	if negative {
		return -int64(n)
	}
	return int64(n)
}
