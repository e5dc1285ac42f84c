package features

import (
	"math"
	"math/bits"
)

// Sums are exact integers, and every rounding is written as a conversion, which the language keeps from being fused with
// the next operation: an amd64 and an arm64 that multiply and add differently would otherwise differ in the last bit, and
// so would a vector at training and at serving.

const word = 1 << 64

// sum128 is a signed sum of 128 bits: 2^64 values can't overflow it.
type sum128 struct {
	hi int64
	lo uint64
}

func (s *sum128) add(v int64) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, uint64(v), 0)
	s.hi += v>>63 + int64(carry)
}

func (s *sum128) float() float64 {
	if s.hi == int64(s.lo)>>63 {
		return float64(int64(s.lo))
	}
	abs, sign := s.abs()
	return sign * float64(float64(float64(abs.hi)*word)+float64(abs.lo))
}

func (s *sum128) abs() (abs sum128, sign float64) {
	if s.hi >= 0 {
		return *s, 1
	}
	lo, borrow := bits.Sub64(0, s.lo, 0)
	hi, _ := bits.Sub64(0, uint64(s.hi), borrow)
	return sum128{int64(hi), lo}, -1
}

// squares is an unsigned sum of squares of 192 bits.
type squares struct{ top, hi, lo uint64 }

func (q *squares) add(v int64) {
	u := uint64(v)
	if v < 0 {
		u = -u
	}
	hi, lo := bits.Mul64(u, u)
	var carry uint64
	q.lo, carry = bits.Add64(q.lo, lo, 0)
	q.hi, carry = bits.Add64(q.hi, hi, carry)
	q.top += carry
}

// stddev is that of the population, from n·Σx² − (Σx)², exact in integers: with |x| ≤ 10^18 and n ≤ 2^24 both terms are
// below 2^168.
func (q *squares) stddev(n int64, total sum128) float64 {
	count := uint64(n)
	hi0, lo := bits.Mul64(q.lo, count)
	hi1, mid := bits.Mul64(q.hi, count)
	mid, carry := bits.Add64(mid, hi0, 0)
	top := q.top*count + hi1 + carry

	t, _ := total.abs()
	thi, tlo := uint64(t.hi), t.lo
	sqMid, sqLo := bits.Mul64(tlo, tlo)
	crossHi, crossLo := bits.Mul64(tlo, thi)
	sqTop := thi*thi + crossHi<<1 + crossLo>>63
	sqMid, carry = bits.Add64(sqMid, crossLo<<1, 0)
	sqTop += carry

	lo, borrow := bits.Sub64(lo, sqLo, 0)
	mid, borrow = bits.Sub64(mid, sqMid, borrow)
	top, _ = bits.Sub64(top, sqTop, borrow)
	rest := float64(float64(float64(mid)*word) + float64(lo))
	return math.Sqrt(float64(float64(float64(top)*word)*word)+rest) / float64(n)
}

// set counts distinct words, and how often each came, in open addressing, emptied without clearing by a stamp.
type set struct {
	slots  []uint64
	stamps []uint32
	counts []int32
	stamp  uint32
	n      int
}

func (s *set) reset() {
	s.stamp++
	s.n = 0
	if s.stamp == 0 || s.slots == nil {
		*s = newSet(max(64, len(s.slots)))
	}
}

func newSet(size int) set {
	return set{slots: make([]uint64, size), stamps: make([]uint32, size), counts: make([]int32, size), stamp: 1}
}

// add counts a word and returns how often it has come, counting this time.
func (s *set) add(v uint64, times int32) int32 {
	i := s.place(v)
	if s.stamps[i] == s.stamp {
		s.counts[i] += times
		return s.counts[i]
	}
	s.slots[i], s.stamps[i], s.counts[i] = v, s.stamp, times
	if s.n++; 2*s.n > len(s.slots) {
		s.grow()
	}
	return times
}

// count is how often a word has come.
func (s *set) count(v uint64) int32 {
	if i := s.place(v); s.stamps[i] == s.stamp {
		return s.counts[i]
	}
	return 0
}

// place is the slot of a word, or the free one where it belongs.
func (s *set) place(v uint64) uint64 {
	mask := uint64(len(s.slots) - 1)
	i := v & mask
	for s.stamps[i] == s.stamp && s.slots[i] != v {
		i = (i + 1) & mask
	}
	return i
}

func (s *set) grow() {
	old := *s
	*s = newSet(2 * len(old.slots))
	for i, v := range old.slots {
		if old.stamps[i] == old.stamp {
			s.add(v, old.counts[i])
		}
	}
}
