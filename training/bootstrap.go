package training

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Interval holds a metric's true value in 95 of 100 such evaluations.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Bootstrap says how intervals were made: percentiles of the metric over resamples of whole customers. Requests of one
// customer resemble one another (a serial refunder is one finding, not ten), so drawing requests would make intervals too
// narrow. A resample counts each customer as often as a Poisson(1) draw says, which for more than a few dozen of them is
// drawing with replacement (Hanley and MacGibbon, "Creating non-parametric bootstrap samples using Poisson frequencies", 2006;
// Chamandy and others, "Estimating uncertainty for massive data streams", 2012) and leaves the order of scores as it is: each
// resample is one pass, without sorting. Percentiles as in Efron and Tibshirani, "An introduction to the bootstrap", 1993,
// chapter 13.
type Bootstrap struct {
	Resamples int     `json:"resamples"` // 0: no intervals
	Level     float64 `json:"level"`
	Unit      string  `json:"unit"`
	Seed      uint64  `json:"seed"`
}

const intervalLevel = 0.95

// resample measures every resample: out[metric][resample]. Each worker asks newMeasure for a function of its own, which
// fills into from the counts of the clusters. The same seed gives the same numbers on any number of cores.
func (b *Bootstrap) resample(ctx context.Context, clusters, metrics int, newMeasure func() func(counts []uint8, into []float64)) ([][]float64, error) {
	out := make([][]float64, metrics)
	for m := range out {
		out[m] = make([]float64, b.Resamples)
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), b.Resamples) {
		group.Go(func() error {
			measure, counts, into := newMeasure(), make([]uint8, clusters), make([]float64, metrics)
			for {
				i := int(next.Add(1)) - 1
				if i >= b.Resamples || ctx.Err() != nil {
					return ctx.Err()
				}
				drawPoisson(counts, rand.NewPCG(b.Seed, uint64(i)))
				measure(counts, into)
				for m, v := range into {
					out[m][i] = v
				}
			}
		})
	}
	return out, group.Wait()
}

// poissonBelow are the probabilities of at most 0, 1, 2, … at mean 1, in 2⁻³².
var poissonBelow = func() (below [12]uint32) {
	term, sum := math.Exp(-1), 0.0
	for k := range below {
		sum += term
		term /= float64(k + 1)
		below[k] = uint32(min(sum*(1<<32), math.MaxUint32))
	}
	return below
}()

// poissonAt answers most draws by their first 12 bits; 255 leaves the answer to the rest.
var poissonAt = func() (at [1 << 12]uint8) {
	for i := range at {
		if low, high := poisson(uint32(i)<<20), poisson(uint32(i)<<20|1<<20-1); low == high {
			at[i] = low
		} else {
			at[i] = 255
		}
	}
	return at
}()

func poisson(u uint32) uint8 {
	n := uint8(0)
	for int(n) < len(poissonBelow) && u >= poissonBelow[n] {
		n++
	}
	return n
}

func drawPoisson(counts []uint8, source *rand.PCG) {
	draw := func(u uint32) uint8 {
		if n := poissonAt[u>>20]; n != 255 {
			return n
		}
		return poisson(u)
	}
	for i := 0; i < len(counts); i += 2 {
		u := source.Uint64()
		counts[i] = draw(uint32(u))
		if i+1 < len(counts) {
			counts[i+1] = draw(uint32(u >> 32))
		}
	}
}

// intervalOf is false where too many resamples could not be measured: as a rule because they drew no fraud at all.
func intervalOf(values []float64) (Interval, bool) {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(known) < 20 || 10*len(known) < 9*len(values) {
		return Interval{}, false
	}
	slices.Sort(known)
	at := func(p float64) float64 {
		place := p * float64(len(known)-1)
		below := int(place)
		above := min(below+1, len(known)-1)
		return known[below] + (place-float64(below))*(known[above]-known[below])
	}
	return Interval{at((1 - intervalLevel) / 2), at((1 + intervalLevel) / 2)}, true
}

// clustersOf numbers the customers in order of appearance; a request without one is a cluster of its own.
func clustersOf(rows []Row) (cluster []int32, clusters int) {
	cluster = make([]int32, len(rows))
	known := make(map[string]int32, len(rows)/2)
	for i := range rows {
		n, ok := known[rows[i].Customer]
		if !ok || rows[i].Customer == "" {
			n = int32(clusters)
			clusters++
			known[rows[i].Customer] = n
		}
		cluster[i] = n
	}
	return cluster, clusters
}
