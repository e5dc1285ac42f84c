package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// DefaultCorrelation is the |rho| from which two features count as one.
const DefaultCorrelation = 0.9

// Bounds of a correlation analysis.
const (
	correlationRows  = 50_000
	correlationWork  = 100_000_000 // rows × pairs: with many features fewer rows are looked at
	fewestCommonRows = 50          // that know both features, for a correlation to mean anything
)

// CorrelatedPair are two features that say nearly the same.
type CorrelatedPair struct {
	A   string  `json:"a"`
	B   string  `json:"b"`
	Rho float64 `json:"rho"` // Spearman's rank correlation over the rows that know both; ties share their mean rank
	// Missing is the correlation of being missing (phi), 0 where one of the two is never or always missing.
	Missing float64 `json:"missing"`
	Rows    int     `json:"rows"` // that know both
}

// Correlations are the groups of numeric features that carry the same information.
type Correlations struct {
	Threshold float64 `json:"threshold"` // of |rho|
	Rows      int     `json:"rows"`
	SampleOf  int     `json:"sample_of"`
	// Groups are found by complete linkage: within a group each pair reaches the threshold, so a chain of features, each a
	// little like the next, is no group. The first of a group is the first in the catalogue.
	Groups [][]string `json:"groups"`
	// MissingTogether are groups, by the same rule, of features whose being missing correlates.
	MissingTogether [][]string       `json:"missing_together"`
	Pairs           []CorrelatedPair `json:"pairs"` // that reach the threshold in Rho or Missing, by falling |rho|
}

// Correlate compares the numeric features of a matrix with one another: of more than 50,000 rows, or 10^8 rows times pairs, a
// sample drawn by the seed. threshold is above 0 and at most 1.
func Correlate(ctx context.Context, m *Matrix, threshold float64, seed uint64) (Correlations, error) {
	if !(threshold > 0 && threshold <= 1) {
		return Correlations{}, fmt.Errorf("correlation: want a threshold above 0 and at most 1, not %v", threshold)
	}
	var numeric []int
	for col := range m.Names {
		if !m.Categorical[col] {
			numeric = append(numeric, col)
		}
	}
	pairs := max(1, len(numeric)*(len(numeric)-1)/2)
	rows := drawRows(len(m.Rows), min(correlationRows, max(1000, correlationWork/pairs)), seed)
	columns := make([]rankedColumn, len(numeric))
	if err := inParallel(ctx, len(numeric), func(i int) error { columns[i] = rankColumn(m, numeric[i], rows); return nil }); err != nil {
		return Correlations{}, err
	}
	alike, missing := newLinks(len(numeric)), newLinks(len(numeric))
	found := make([][]CorrelatedPair, len(numeric))
	err := inParallel(ctx, len(numeric), func(i int) error {
		var memory pairRanks
		for j := i + 1; j < len(numeric); j++ {
			rho, common := memory.spearman(&columns[i], &columns[j])
			phi := missingPhi(&columns[i], &columns[j], common)
			alike.set(i, j, math.Abs(rho))
			missing.set(i, j, math.Abs(phi))
			if math.Abs(rho) >= threshold || math.Abs(phi) >= threshold {
				found[i] = append(found[i], CorrelatedPair{m.Names[numeric[i]], m.Names[numeric[j]], rho, phi, common})
			}
		}
		return nil
	})
	if err != nil {
		return Correlations{}, err
	}
	out := Correlations{Threshold: threshold, Rows: len(rows), SampleOf: len(m.Rows), Pairs: slices.Concat(found...)}
	slices.SortStableFunc(out.Pairs, func(a, b CorrelatedPair) int { return cmp.Compare(math.Abs(b.Rho), math.Abs(a.Rho)) })
	name := func(groups [][]int) [][]string {
		named := make([][]string, len(groups))
		for i, group := range groups {
			for _, member := range group {
				named[i] = append(named[i], m.Names[numeric[member]])
			}
		}
		return named
	}
	out.Groups, out.MissingTogether = name(alike.groups(threshold)), name(missing.groups(threshold))
	return out, nil
}

// rankedColumn is a column by rank.
type rankedColumn struct {
	of    []int32 // by row: dense rank of the value, equal for equal values, -1 for missing
	order []int32 // the rows that know it, by rank
}

func rankColumn(m *Matrix, col int, rows []int) rankedColumn {
	values := make([]float64, len(rows))
	r := rankedColumn{of: make([]int32, len(rows))}
	for i, row := range rows {
		values[i] = m.vector(row)[col]
		if r.of[i] = -1; !math.IsNaN(values[i]) {
			r.order = append(r.order, int32(i))
		}
	}
	slices.SortFunc(r.order, func(a, b int32) int { return cmp.Compare(values[a], values[b]) })
	rank := int32(0)
	for i, row := range r.order {
		if i > 0 && values[row] != values[r.order[i-1]] {
			rank++
		}
		r.of[row] = rank
	}
	return r
}

// pairRanks is room for the mean ranks of two columns.
type pairRanks struct{ a, b []float64 }

// spearman is the correlation of the mean ranks among the rows that know both, and their number. It is 0 where they are
// too few or one of the columns does not vary among them.
func (p *pairRanks) spearman(a, b *rankedColumn) (rho float64, common int) {
	p.a, common = commonRanks(p.a, a, b)
	p.b, _ = commonRanks(p.b, b, a)
	if common < fewestCommonRows {
		return 0, common
	}
	center := float64(common+1) / 2
	var ab, aa, bb float64
	for _, row := range a.order {
		if b.of[row] >= 0 {
			x, y := p.a[row]-center, p.b[row]-center
			ab += x * y
			aa += x * x
			bb += y * y
		}
	}
	if aa == 0 || bb == 0 {
		return 0, common
	}
	return max(-1, min(1, ab/math.Sqrt(aa*bb))), common
}

// commonRanks fills, by row, the mean ranks from 1 of a's values among the rows that b knows too.
func commonRanks(into []float64, a, b *rankedColumn) ([]float64, int) {
	into = slices.Grow(into[:0], len(a.of))[:len(a.of)]
	common := 0
	for i := 0; i < len(a.order); {
		tie, end := 0, i
		for ; end < len(a.order) && a.of[a.order[end]] == a.of[a.order[i]]; end++ {
			if b.of[a.order[end]] >= 0 {
				tie++
			}
		}
		rank := float64(common) + float64(tie+1)/2
		for ; i < end; i++ {
			into[a.order[i]] = rank
		}
		common += tie
	}
	return into, common
}

// missingPhi is the correlation of the columns' being missing.
func missingPhi(a, b *rankedColumn, both int) float64 {
	n, knowA, knowB := float64(len(a.of)), float64(len(a.order)), float64(len(b.order))
	spread := knowA * (n - knowA) * knowB * (n - knowB)
	if spread == 0 {
		return 0
	}
	return (n*float64(both) - knowA*knowB) / math.Sqrt(spread)
}

// links are how strongly pairs belong together, symmetric.
type links struct {
	n        int
	strength []float64
}

func newLinks(n int) *links { return &links{n, make([]float64, n*n)} }

func (l *links) set(i, j int, strength float64) {
	l.strength[i*l.n+j], l.strength[j*l.n+i] = strength, strength
}

// groups unites the strongest pair of groups, by their weakest link, until none reaches the threshold. It uses the links up.
func (l *links) groups(threshold float64) [][]int {
	var members [][]int // nil once united with an earlier one
	for i := range l.n {
		members = append(members, []int{i})
	}
	for {
		best, into, from := threshold, -1, -1
		for i := range l.n {
			for j := i + 1; j < l.n && members[i] != nil; j++ {
				if strength := l.strength[i*l.n+j]; members[j] != nil && (strength > best || strength == best && into < 0) {
					best, into, from = strength, i, j
				}
			}
		}
		if into < 0 {
			break
		}
		members[into], members[from] = append(members[into], members[from]...), nil
		for k := range l.n {
			l.set(into, k, min(l.strength[into*l.n+k], l.strength[from*l.n+k]))
		}
	}
	groups := slices.DeleteFunc(members, func(group []int) bool { return len(group) < 2 })
	for _, group := range groups {
		slices.Sort(group)
	}
	return groups
}
