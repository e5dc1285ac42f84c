package features

import (
	"math"

	"vaglio"
)

// function is how the events of a window become one number.
type function uint8

const (
	count function = iota
	rate
	sum
	mean
	least
	greatest
	stddev
	distinct
	share
	same
	habit
	sinceFirst
	sinceLast
	linked
)

var functions = map[string]function{"count": count, "rate": rate, "sum": sum, "mean": mean, "min": least, "max": greatest,
	"stddev": stddev, "distinct": distinct, "share": share, "same": same, "habit": habit, "since_first": sinceFirst,
	"since_last": sinceLast, "linked": linked}

// which is the value of a window's events that `same` compares with.
type which uint8

const (
	usual which = iota // the most frequent one, of several that with the newest event
	last
	earliest
)

var whiches = map[string]which{"usual": usual, "last": last, "first": earliest}

// aggregate is one compiled feature over a timeline.
type aggregate struct {
	index          int
	function       function
	kinds          []int // of the layout
	window, offset vaglio.Instant
	column         int     // of the value, -1 for none
	currency       int     // column of the currency that must be the request's, -1 for none
	scale          float64 // of the value
	where          filter  // of the events that count
	part           filter  // share: of which events
	pair           []int   // columns of which one must equal the request's pairPath; empty: no pair
	pairPath       int
	path           int   // same: of the request's value
	which          which // same: the value to compare with
	within         int64 // habit: milliseconds on either side of the request's time of day
}

// filter is a compiled `where`. The zero value holds for every event.
type filter struct {
	mask uint64 // bit of the layout's filter, 0 for none
	asks number // a predicate that reads the request too, nil for none
}

func (f *filter) holds(s *scratch, l *list, i int) bool {
	if f.mask != 0 && uint64(l.column(l.kind.mask)[i])&f.mask == 0 {
		return false
	}
	if f.asks != nil {
		s.row = row{l, i}
		return f.asks(s) == 1
	}
	return true
}

// value computes the feature at the moment of the request.
func (a *aggregate) value(s *scratch, state *State) float64 {
	if len(a.pair) > 0 && s.strings[a.pairPath] == 0 {
		return math.NaN()
	}
	switch a.function {
	case count:
		return float64(a.count(s, state))
	case rate:
		return a.rate(s, state)
	case share, habit:
		return a.share(s, state)
	case distinct:
		return a.distinct(s, state)
	case same:
		return a.same(s, state)
	case sinceFirst, sinceLast:
		return a.since(s, state)
	default:
		return a.moments(s, state)
	}
}

func (a *aggregate) count(s *scratch, state *State) int {
	n := 0
	for l, w := range a.windows(s, state) {
		if a.isPlain() {
			n += w.end - w.begin
			continue
		}
		for i := w.begin; i < w.end; i++ {
			if a.passes(s, l, i) {
				n++
			}
		}
	}
	return n
}

// rate is events a day: over the window, or since the first event where the window is all of history.
func (a *aggregate) rate(s *scratch, state *State) float64 {
	n := a.count(s, state)
	if n == 0 {
		return 0
	}
	from, until := a.span(s)
	if a.window == vaglio.Horizon {
		from, _ = a.edges(s, state)
	}
	days := float64(until-from) / float64(vaglio.Day)
	return float64(n) / days
}

// edges are the moments of the first and the last event that counts; of none, the first is after the last.
func (a *aggregate) edges(s *scratch, state *State) (first, last int64) {
	first, last = math.MaxInt64, math.MinInt64
	for l, w := range a.windows(s, state) {
		for i := w.begin; i < w.end; i++ {
			if a.passes(s, l, i) {
				first = min(first, l.times()[i])
				break
			}
		}
		for i := w.end - 1; i >= w.begin; i-- {
			if a.passes(s, l, i) {
				last = max(last, l.times()[i])
				break
			}
		}
	}
	return first, last
}

// share is that of the window's events that also satisfy the part, or that lie near the request's time of day.
func (a *aggregate) share(s *scratch, state *State) float64 {
	n, within := 0, 0
	for l, i := range a.events(s, state) {
		n++
		if a.inPart(s, l, i) {
			within++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return float64(within) / float64(n)
}

func (a *aggregate) inPart(s *scratch, l *list, i int) bool {
	if a.function == share {
		return a.part.holds(s, l, i)
	}
	const day = int64(vaglio.Day)
	apart := (l.times()[i] - int64(s.request.OccurredAt)) % day
	apart = (apart + day) % day // of the clock, forwards
	return min(apart, day-apart) <= a.within
}

func (a *aggregate) distinct(s *scratch, state *State) float64 {
	a.tally(s, state)
	return float64(s.seen.n)
}

// tally counts in s.seen how often each value occurs, and returns how often the most frequent one does.
func (a *aggregate) tally(s *scratch, state *State) (most int32) {
	s.seen.reset()
	for l, w := range a.windows(s, state) {
		values := l.values(a.column)
		for i := w.begin; i < w.end; i++ {
			if v := uint64(values[i]); v != 0 && a.passes(s, l, i) {
				most = max(most, s.seen.add(v, 1))
			}
		}
	}
	return most
}

func (a *aggregate) same(s *scratch, state *State) float64 {
	own := s.strings[a.path]
	if own == 0 {
		return math.NaN()
	}
	compared := a.compared(s, state)
	if compared.list == nil {
		return math.NaN()
	}
	return truth(uint64(compared.value(a.column)) == own)
}

// compared is the event whose value `same` compares with; that of the usual value is the newest one.
func (a *aggregate) compared(s *scratch, state *State) row {
	var most int32
	if a.which == usual {
		most = a.tally(s, state)
	}
	var chosen row
	for l, w := range a.windows(s, state) {
		values := l.values(a.column)
		step, i := -1, w.end-1 // the first that fits is the list's best
		if a.which == earliest {
			step, i = 1, w.begin
		}
		for ; i >= w.begin && i < w.end; i += step {
			v := uint64(values[i])
			if v == 0 || a.which == usual && s.seen.count(v) < most || !a.passes(s, l, i) {
				continue
			}
			if candidate := (row{l, i}); chosen.list == nil || (candidate.compare(chosen) < 0) == (a.which == earliest) {
				chosen = candidate
			}
			break
		}
	}
	return chosen
}

func (r row) occurrence() occurrence {
	return occurrence{vaglio.Instant(r.list.times()[r.i]), r.list.id(r.i)}
}

func (r row) compare(other row) int {
	o := other.occurrence()
	return r.occurrence().compare(o.at, o.id)
}

func (a *aggregate) since(s *scratch, state *State) float64 {
	first, last := a.edges(s, state)
	if first > last {
		return math.NaN()
	}
	at := last
	if a.function == sinceFirst {
		at = first
	}
	return float64(int64(s.request.OccurredAt)-at) / float64(vaglio.Hour)
}

// moments computes the functions of a number column from exact integer sums. A value that exists and is not known
// makes the outcome NaN: an amount without a rate is unknown, never wrong.
func (a *aggregate) moments(s *scratch, state *State) float64 {
	var n int64
	var total sum128
	var q squares
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	for l, w := range a.windows(s, state) {
		values := l.values(a.column)
		for i := w.begin; i < w.end; i++ {
			v := values[i]
			switch {
			case v == absent || !a.passes(s, l, i):
				continue
			case v == unknown, a.currency >= 0 && uint64(l.values(a.currency)[i]) != s.strings[currencyPath]:
				return math.NaN()
			}
			n++
			total.add(v)
			low, high = min(low, v), max(high, v)
			if a.function == stddev {
				q.add(v)
			}
		}
	}
	switch {
	case a.function == sum:
		return total.float() / a.scale
	case n == 0:
		return math.NaN()
	case a.function == mean:
		return total.float() / float64(n) / a.scale
	case a.function == least:
		return float64(low) / a.scale
	case a.function == greatest:
		return float64(high) / a.scale
	default:
		return q.stddev(n, total) / a.scale
	}
}

// currencyPath is the place of the request's currency among a catalogue's paths: always the first.
const currencyPath = 0

// span is the half-open window [t − offset − window, t − offset), cut at the horizon.
func (a *aggregate) span(s *scratch) (from, until int64) {
	t := s.request.OccurredAt
	return int64(max(t-a.offset-a.window, t-vaglio.Horizon)), int64(t - a.offset)
}

// window is a range of places in a list.
type window struct{ begin, end int }

// windows walks the lists that have events in the window, in no order.
func (a *aggregate) windows(s *scratch, state *State) func(func(*list, window) bool) {
	return func(yield func(*list, window) bool) {
		from, until := a.span(s)
		for _, kind := range a.kinds {
			l := state.list(kind)
			times := l.times()
			w := window{first(times, from), first(times, until)}
			if w.begin < w.end && !yield(l, w) {
				return
			}
		}
	}
}

// events walks the window's events that pass the feature's filters, kind by kind, in order of time.
func (a *aggregate) events(s *scratch, state *State) func(func(*list, int) bool) {
	return func(yield func(*list, int) bool) {
		for l, w := range a.windows(s, state) {
			for i := w.begin; i < w.end; i++ {
				if a.passes(s, l, i) && !yield(l, i) {
					return
				}
			}
		}
	}
}

// isPlain tells that every event of the window counts.
func (a *aggregate) isPlain() bool {
	return a.where.mask == 0 && a.where.asks == nil && len(a.pair) == 0
}

func (a *aggregate) passes(s *scratch, l *list, i int) bool {
	if len(a.pair) > 0 && !a.isPair(s.strings[a.pairPath], l, i) {
		return false
	}
	return a.where.holds(s, l, i)
}

func (a *aggregate) isPair(wanted uint64, l *list, i int) bool {
	for _, column := range a.pair {
		if uint64(l.values(column)[i]) == wanted {
			return true
		}
	}
	return false
}
