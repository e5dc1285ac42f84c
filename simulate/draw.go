package simulate

import (
	"math"
	"math/rand/v2"

	"vaglio"
)

// draw is a seeded source of randomness, one per customer (and one for the plan), so that no order of work matters.
type draw struct{ *rand.Rand }

func newDraw(seed, stream uint64) draw {
	return draw{rand.New(rand.NewPCG(mix64(seed), mix64(stream^0x9e3779b97f4a7c15)))}
}

// mix64 is the finalizer of SplitMix64, a bijection (Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195).
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chance is true with probability p.
func (d draw) chance(p float64) bool { return d.Float64() < p }

// between is uniform in [low, high).
func (d draw) between(low, high float64) float64 { return low + (high-low)*d.Float64() }

// whole is uniform in low..high, both included.
func (d draw) whole(low, high int) int { return low + d.IntN(high-low+1) }

// about rounds x up or down at random so that the mean is x.
func (d draw) about(x float64) int {
	n := math.Floor(x)
	if d.chance(x - n) {
		n++
	}
	return int(n)
}

// poisson counts events of the given mean (Knuth); means here are small.
func (d draw) poisson(mean float64) int {
	n, limit := 0, math.Exp(-mean)
	for p := d.Float64(); p > limit; p *= d.Float64() {
		n++
	}
	return n
}

// lognormal has the given median; sigma is the deviation of its logarithm.
func (d draw) lognormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*d.NormFloat64())
}

// spread is a log-normal by its median and its 5th and 95th percentile, whose ratio gives the deviation.
type spread struct{ median, p5, p95 float64 }

// sample draws from s, in s's unit.
func (d draw) sample(s spread) float64 {
	return d.lognormal(s.median, math.Log(s.p95/s.p5)/(2*1.6448536269514722))
}

// hours draws from s, which is in hours.
func (d draw) hours(s spread) vaglio.Instant { return hours(d.sample(s)) }

// days draws from s, which is in days.
func (d draw) days(s spread) vaglio.Instant { return hours(24 * d.sample(s)) }

func hours(h float64) vaglio.Instant { return vaglio.Instant(h * float64(vaglio.Hour)) }

// span is uniform in [low, high).
func (d draw) span(low, high vaglio.Instant) vaglio.Instant {
	if high <= low {
		return low
	}
	return low + vaglio.Instant(d.Int64N(int64(high-low)))
}

// choice is one of several values with its weight.
type choice struct {
	value  string
	weight float64
}

// pick draws by weight.
func (d draw) pick(cs []choice) string {
	total := 0.0
	for i := range cs {
		total += cs[i].weight
	}
	at := d.Float64() * total
	for i := range cs {
		if at -= cs[i].weight; at < 0 {
			return cs[i].value
		}
	}
	return cs[len(cs)-1].value
}
