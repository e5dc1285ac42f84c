package features

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"vaglio"
)

// State holds what features need of one timeline: per kind of event the newest facts, column by column. Facts are added
// as they become known; equal ids are one fact, and the order of arrival leaves no trace. Not safe for concurrent
// writing.
type State struct {
	layout *layout
	lists  []list // by layout.kinds
}

// layout is what a state keeps for one kind of entity.
type layout struct {
	entity  string
	kinds   []string
	columns []column
	filters []number // predicates over the event alone, one bit each
	empty   []list
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
	absent  = math.MinInt64     // the event has no such value
	unknown = math.MinInt64 + 1 // it has one, and we can't tell how much
)

// decimalScale is the fixed point of attributes: sums of millionths are exact.
const decimalScale = 1_000_000

// list holds the newest events of one kind, sorted by (occurred_at, id).
type list struct {
	at     []vaglio.Instant
	ids    []string
	masks  []uint64  // which of the layout's filters hold
	values [][]int64 // by layout.columns; hashes are reinterpreted bits, 0 when absent
}

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

// Add takes a fact into the state, whether early or late. Kinds that no feature reads are passed over.
func (s *State) Add(f *vaglio.Fact) {
	kind := slices.Index(s.layout.kinds, f.Kind)
	if kind < 0 {
		return
	}
	l := &s.lists[kind]
	if l.values == nil {
		l.values = make([][]int64, len(s.layout.columns))
	}
	at := l.position(f.OccurredAt, f.ID)
	if at < len(l.ids) && l.at[at] == f.OccurredAt && l.ids[at] == f.ID {
		return
	}
	if len(l.at) >= vaglio.NewestPerKind {
		if at == 0 {
			return // older than all that count
		}
		l.dropOldest()
		at--
	}
	l.at = slices.Insert(l.at, at, f.OccurredAt)
	l.ids = slices.Insert(l.ids, at, f.ID)
	for i := range s.layout.columns {
		l.values[i] = slices.Insert(l.values[i], at, s.layout.columns[i].of(f))
	}
	var mask uint64
	env := scratch{row: row{l, at}}
	for bit, filter := range s.layout.filters {
		if filter(&env) == 1 {
			mask |= 1 << bit
		}
	}
	l.masks = slices.Insert(l.masks, at, mask)
}

// Len is the number of events kept.
func (s *State) Len() int {
	n := 0
	for i := range s.lists {
		n += len(s.lists[i].at)
	}
	return n
}

func (l *list) position(at vaglio.Instant, id string) int {
	if n := len(l.at); n == 0 || (occurrence{l.at[n-1], l.ids[n-1]}).compare(at, id) < 0 {
		return n // the usual case: news
	}
	lo, hi := 0, len(l.at)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if (occurrence{l.at[mid], l.ids[mid]}).compare(at, id) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (l *list) dropOldest() {
	l.at, l.ids, l.masks = l.at[1:], l.ids[1:], l.masks[1:]
	for i := range l.values {
		l.values[i] = l.values[i][1:]
	}
}

// first is the index of the first event at or after an instant.
func (l *list) first(at vaglio.Instant) int {
	i, _ := slices.BinarySearch(l.at, at)
	return i
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
func hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return max(xxhash.Sum64String(s), 1)
}

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

// function is how the events of a window become one number.
type function uint8

const (
	count function = iota
	sum
	mean
	least
	greatest
	stddev
	distinct
	sinceFirst
	sinceLast
)

var functions = map[string]function{"count": count, "sum": sum, "mean": mean, "min": least, "max": greatest,
	"stddev": stddev, "distinct": distinct, "since_first": sinceFirst, "since_last": sinceLast}

// aggregate is one compiled feature over a timeline.
type aggregate struct {
	index          int
	function       function
	lists          []int // of the layout's kinds
	window, offset vaglio.Instant
	value1         int     // column of the value, -1 for none
	currency       int     // column of the currency that must be the request's, -1 for none
	scale          float64 // of the value
	filter         uint64  // bit of the layout's filter, 0 for none
	where          number  // a predicate that reads the request too, nil for none
	pair           []int   // columns of which one must equal the request's pairPath; empty: no pair
	pairPath       int
}

// value computes the feature at the moment of the request.
func (a *aggregate) value(s *scratch, state *State) float64 {
	if len(a.pair) > 0 && s.strings[a.pairPath] == 0 {
		return math.NaN()
	}
	switch a.function {
	case count:
		return float64(a.count(s, state))
	case distinct:
		s.seen.reset()
		for l, i := range a.events(s, state) {
			if v := uint64(l.values[a.value1][i]); v != 0 {
				s.seen.add(v)
			}
		}
		return float64(s.seen.n)
	case sinceFirst, sinceLast:
		return a.since(s, state)
	default:
		return a.moments(s, state)
	}
}

func (a *aggregate) count(s *scratch, state *State) int {
	n := 0
	if a.filter == 0 && a.where == nil && len(a.pair) == 0 {
		from, until := a.span(s)
		for _, kind := range a.lists {
			l := &state.lists[kind]
			n += l.first(until) - l.first(from)
		}
		return n
	}
	for range a.events(s, state) {
		n++
	}
	return n
}

func (a *aggregate) since(s *scratch, state *State) float64 {
	first, last := vaglio.Instant(math.MaxInt64), vaglio.Instant(math.MinInt64)
	for l, i := range a.events(s, state) {
		first, last = min(first, l.at[i]), max(last, l.at[i])
	}
	if first > last {
		return math.NaN()
	}
	at := last
	if a.function == sinceFirst {
		at = first
	}
	return float64(s.request.OccurredAt-at) / float64(vaglio.Hour)
}

// moments computes the functions of a number column from exact integer sums. A value that exists and is not known
// makes the outcome NaN: an amount without a rate is unknown, never wrong.
func (a *aggregate) moments(s *scratch, state *State) float64 {
	var n, total int64
	var squares wide
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for l, i := range a.events(s, state) {
		v := l.values[a.value1][i]
		switch {
		case v == absent:
			continue
		case v == unknown, a.currency >= 0 && uint64(l.values[a.currency][i]) != s.strings[currencyPath]:
			return math.NaN()
		}
		n++
		total += v
		low, high = min(low, v), max(high, v)
		squares.addSquare(v)
	}
	switch {
	case a.function == sum:
		return float64(total) / a.scale
	case n == 0:
		return math.NaN()
	case a.function == mean:
		return float64(total) / float64(n) / a.scale
	case a.function == least:
		return float64(low) / a.scale
	case a.function == greatest:
		return float64(high) / a.scale
	default:
		return squares.stddev(n, total) / a.scale
	}
}

// currencyPath is the place of the request's currency among a catalogue's paths: always the first.
const currencyPath = 0

// span is the half-open window [t − offset − window, t − offset), cut at the horizon.
func (a *aggregate) span(s *scratch) (from, until vaglio.Instant) {
	until = s.request.OccurredAt - a.offset
	return max(until-a.window, s.request.OccurredAt-vaglio.Horizon), until
}

// events walks the window's events that pass the feature's filters, kind by kind, in order of time.
func (a *aggregate) events(s *scratch, state *State) func(func(*list, int) bool) {
	return func(yield func(*list, int) bool) {
		from, until := a.span(s)
		for _, kind := range a.lists {
			l := &state.lists[kind]
			for i, end := l.first(from), l.first(until); i < end; i++ {
				if a.passes(s, l, i) && !yield(l, i) {
					return
				}
			}
		}
	}
}

func (a *aggregate) passes(s *scratch, l *list, i int) bool {
	if a.filter != 0 && l.masks[i]&a.filter == 0 {
		return false
	}
	if len(a.pair) > 0 && !a.isPair(s.strings[a.pairPath], l, i) {
		return false
	}
	if a.where != nil {
		s.row = row{l, i}
		return a.where(s) == 1
	}
	return true
}

func (a *aggregate) isPair(wanted uint64, l *list, i int) bool {
	for _, column := range a.pair {
		if uint64(l.values[column][i]) == wanted {
			return true
		}
	}
	return false
}

func (a *aggregate) evidence(found []occurrence, s *scratch, state *State) []occurrence {
	start := len(found)
	for l, i := range a.events(s, state) {
		found = append(found, occurrence{l.at[i], l.ids[i]})
	}
	if own := found[start:]; len(own) > 0 && (a.function == sinceFirst || a.function == sinceLast) {
		one := slices.MinFunc(own, func(x, y occurrence) int { return x.compare(y.at, y.id) })
		if a.function == sinceLast {
			one = slices.MaxFunc(own, func(x, y occurrence) int { return x.compare(y.at, y.id) })
		}
		found = append(found[:start], one)
	}
	return found
}

// wide is an unsigned 128-bit sum.
type wide struct{ hi, lo uint64 }

func (w *wide) addSquare(v int64) {
	u := uint64(v)
	if v < 0 {
		u = uint64(-v)
	}
	hi, lo := bits.Mul64(u, u)
	var carry uint64
	w.lo, carry = bits.Add64(w.lo, lo, 0)
	w.hi, _ = bits.Add64(w.hi, hi, carry)
}

// stddev is that of the population, from n·Σx² − (Σx)², exact in integers: with |x| ≤ 10^18 and n ≤ 2^16 it needs at
// most 152 bits, so the products are taken apart into three words.
func (w *wide) stddev(n, total int64) float64 {
	count, t := uint64(n), uint64(total)
	if total < 0 {
		t = uint64(-total)
	}
	carry, lo := bits.Mul64(w.lo, count)
	top, mid := bits.Mul64(w.hi, count)
	mid, c := bits.Add64(mid, carry, 0)
	top += c
	thi, tlo := bits.Mul64(t, t)
	lo, b := bits.Sub64(lo, tlo, 0)
	mid, b = bits.Sub64(mid, thi, b)
	top -= b
	const word = 1 << 64
	variance := float64(top)*word*word + float64(float64(mid)*word+float64(lo))
	return math.Sqrt(variance) / float64(n)
}

// set counts distinct words in open addressing, emptied without clearing by a stamp.
type set struct {
	slots  []uint64
	stamps []uint32
	stamp  uint32
	n      int
}

func (s *set) reset() {
	s.stamp++
	s.n = 0
	if s.stamp == 0 || s.slots == nil {
		if s.slots == nil {
			s.slots, s.stamps = make([]uint64, 64), make([]uint32, 64)
		}
		clear(s.stamps)
		s.stamp = 1
	}
}

func (s *set) add(v uint64) {
	mask := uint64(len(s.slots) - 1)
	for i := v & mask; ; i = (i + 1) & mask {
		switch {
		case s.stamps[i] != s.stamp:
			s.slots[i], s.stamps[i] = v, s.stamp
			if s.n++; 2*s.n > len(s.slots) {
				s.grow()
			}
			return
		case s.slots[i] == v:
			return
		}
	}
}

func (s *set) grow() {
	old := *s
	*s = set{slots: make([]uint64, 2*len(old.slots)), stamps: make([]uint32, 2*len(old.slots)), stamp: 1}
	for i, v := range old.slots {
		if old.stamps[i] == old.stamp {
			s.add(v)
		}
	}
}
