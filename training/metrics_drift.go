package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// FeatureDrift is how far a feature's distribution moved between two sets of requests.
type FeatureDrift struct {
	Feature string `json:"feature"`
	// PSI is the population stability index: Σ (after − before) · ln(after/before) over the shares of bins. Bins of a number are
	// its tenths before, of a category its values; missing is a bin. A bin's share is never 0: half a request is added to each.
	PSI           float64  `json:"psi"`
	MissingBefore float64  `json:"missing_before"` // shares
	MissingNow    float64  `json:"missing_now"`
	MedianBefore  *float64 `json:"median_before"` // of the known numbers; nil of a category
	MedianNow     *float64 `json:"median_now"`
}

// driftBins are those of a number; what is missing is one more.
const driftBins = 10

// MeasureDrift compares two matrices of the same catalogue, the largest drift first.
func MeasureDrift(ctx context.Context, before, now *Matrix) ([]FeatureDrift, error) {
	if len(before.Rows) == 0 || len(now.Rows) == 0 || !slices.Equal(before.Names, now.Names) {
		return nil, fmt.Errorf("drift: %d requests before, %d now; want some of each, with the same features", len(before.Rows), len(now.Rows))
	}
	out := make([]FeatureDrift, len(before.Names))
	err := inParallel(ctx, len(out), func(col int) error {
		a, b := before.column(col), now.column(col)
		d := FeatureDrift{Feature: before.Names[col], MissingBefore: missingShare(a, before.Categorical[col]), MissingNow: missingShare(b, before.Categorical[col])}
		var bin func(float64) int
		bins := 0
		if before.Categorical[col] {
			bin, bins = binOfCategory, before.categories(col)+1
		} else {
			edges := tenths(a)
			bin, bins = binOfNumber(edges), len(edges)+2
			d.MedianBefore, d.MedianNow = median(a), median(b)
		}
		d.PSI = stability(shares(a, bin, bins), shares(b, bin, bins))
		out[col] = d
		return nil
	})
	slices.SortStableFunc(out, func(a, b FeatureDrift) int { return cmp.Compare(b.PSI, a.PSI) })
	return out, err
}

func (m *Matrix) column(col int) []float64 {
	out := make([]float64, len(m.Rows))
	for i := range out {
		out[i] = m.X[i*len(m.Names)+col]
	}
	return out
}

func (m *Matrix) categories(col int) int { return len(m.Catalogue.Features()[col].Categories) }

func missingShare(values []float64, categorical bool) float64 {
	n := 0
	for _, v := range values {
		if math.IsNaN(v) || categorical && v < 0 {
			n++
		}
	}
	return float64(n) / float64(len(values))
}

// tenths are the inner deciles of the known values, each once.
func tenths(values []float64) []float64 {
	known := sortedKnown(values)
	var edges []float64
	for i := 1; i < driftBins && len(known) > 0; i++ {
		if edge := known[i*len(known)/driftBins]; len(edges) == 0 || edge > edges[len(edges)-1] {
			edges = append(edges, edge)
		}
	}
	return edges
}

func sortedKnown(values []float64) []float64 {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(known)
	return known
}

func median(values []float64) *float64 {
	known := sortedKnown(values)
	if len(known) == 0 || math.IsInf(known[len(known)/2], 0) {
		return nil
	}
	return &known[len(known)/2]
}

// binOfNumber is 0 for a missing value, and one more than the edges at or below any other.
func binOfNumber(edges []float64) func(float64) int {
	return func(v float64) int {
		if math.IsNaN(v) {
			return 0
		}
		at, found := slices.BinarySearch(edges, v)
		if found {
			at++
		}
		return at + 1
	}
}

// binOfCategory is 0 for an unknown category, whose code is −1.
func binOfCategory(code float64) int {
	if !(code >= 0) {
		return 0
	}
	return int(code) + 1
}

func shares(values []float64, bin func(float64) int, bins int) []float64 {
	out := make([]float64, bins)
	for i := range out {
		out[i] = 0.5
	}
	for _, v := range values {
		out[bin(v)]++
	}
	for i := range out {
		out[i] /= float64(len(values)) + 0.5*float64(bins)
	}
	return out
}

func stability(before, now []float64) float64 {
	psi := 0.0
	for i := range before {
		psi += (now[i] - before[i]) * math.Log(now[i]/before[i])
	}
	return psi
}
