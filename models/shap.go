package models

import (
	"maps"
	"math"
	"slices"
	"sync"
)

// explainer computes exact path-dependent Shapley values of tree ensembles (the value function of Lundberg, Erion and
// Lee, arXiv 1802.03888: a feature outside the coalition follows both branches by their share of training rows).
//
// With z_j the product of the shares of feature j's splits on the way to a leaf and o_j whether the vector passes them
// all, φ_i = Σ_leaf value (o_i − z_i) ∫₀¹ Π_{j≠i} ((1−t) z_j + t o_j) dt. The integrand is a polynomial whose degree is one
// below the number d of distinct features on the path, so Gauss–Legendre quadrature with ⌈d/2⌉ points is exact, and,
// unlike the recursion of Lundberg's Algorithm 2, it divides by nothing small: precision holds at any depth
// (Quadrature-TreeSHAP, arXiv 2605.04497; the polynomials are those of Linear TreeSHAP, arXiv 2209.08192).
//
// At a point t, let P of a node be the product of all factors (1−t) z_j + t o_j on the way to it, G the mean of the leaves
// below it under such weights, r the share of its training rows that go left, and c 1 if the vector goes left, else 0: its
// lean is c − r. Where a feature is split for the first time, the left child's share of P is m = (1−t) r + t c, hence
//
//	m = r + t (c − r),   P_left = m P,   P_right = P − P_left,   G = G_right + m (G_left − G_right)
//
// and the sum over the leaves telescopes to φ_feature += (c − r) Σ_t weight P (G_left − G_right) at each node. So one walk
// down and one walk up do it, of nodes × points steps. Where an earlier split has made the feature's factor f = (1−t) z + t,
// m is r + (t/f) (c − r) and the node's term has z/f² more; where the vector has failed an earlier split on the feature,
// m = r and the term is 0: both are right once the lean is set to 0.
//
// What a processor can't foresee is kept out of the loops: a grove of trees has all its decisions made first, without
// branches, and nodes of a kind stand in a row (grove.go).
type explainer struct {
	base      float64
	entries   []entry
	groves    []grove
	scratches sync.Pool
}

// block is a value at each of four points. A struct of four stays in registers, an array would go through memory.
type block struct{ a, b, c, d float64 }

func all(v float64) block { return block{v, v, v, v} }

// points are four of the points t of a quadrature on [0, 1] with their weights; what fills up the last block has weight 0.
type points struct{ t, weight block }

// scratch is the memory of one explanation.
type scratch struct {
	row   []float64 // by entry; never empty
	codes []uint32  // by feature: see categoryCode
	leans []float64 // of the grove at hand, by node
	open  []uint64  // by repeat, from 1: all bits if the vector has passed all earlier splits on the feature, else 0; 0 stands for none
	cells []block   // by node: on the way down its P, on the way up its G
}

func (e *explainer) prepare(trees []tree, features int) {
	builders := map[int]*builder{} // by points
	nodes, repeats := 0, 0
	plant := func(points int) {
		g := builders[points].grove(rule(points), &e.entries)
		delete(builders, points)
		nodes, repeats = max(nodes, g.cells), max(repeats, len(g.repeats))
		e.groves = append(e.groves, g)
	}
	for i := range trees {
		t := &trees[i]
		if len(t.nodes) == 0 {
			e.base += t.leafValue[0]
			continue
		}
		var mean float64
		for l, v := range t.leafValue {
			mean += t.leafCount[l] / t.nodes[0].count * v
		}
		e.base += mean
		placed, distinct := place(t, features)
		points := (distinct + 1) / 2
		if b := builders[points]; b != nil && len(b.nodes)+len(placed) > groveNodes {
			plant(points)
		}
		if builders[points] == nil {
			builders[points] = &builder{}
		}
		builders[points].nodes = append(builders[points].nodes, placed...)
	}
	for _, points := range slices.Sorted(maps.Keys(builders)) {
		plant(points)
	}
	e.scratches.New = func() any {
		return &scratch{make([]float64, 1+len(e.entries)), make([]uint32, features), make([]float64, nodes), make([]uint64, 1+repeats), make([]block, nodes)}
	}
}

// explain sets dst to the contributions and returns the base.
func (e *explainer) explain(dst, vec []float64) float64 {
	clear(dst)
	s := e.scratches.Get().(*scratch)
	spread(s.row, s.codes, e.entries, vec)
	for i := range e.groves {
		g := &e.groves[i]
		g.decide(s)
		for b := range g.rule {
			g.down(b, s)
			g.end(b, dst, s)
			g.up(b, dst, s)
		}
	}
	e.scratches.Put(s)
	return e.base
}

// rule deals a quadrature of n points out by four.
func rule(n int) []points {
	t, weights := gaussLegendre(n)
	for len(t)%4 != 0 {
		t, weights = append(t, 0.5), append(weights, 0)
	}
	var blocks []points
	for i := 0; i < len(t); i += 4 {
		blocks = append(blocks, points{block{t[i], t[i+1], t[i+2], t[i+3]}, block{weights[i], weights[i+1], weights[i+2], weights[i+3]}})
	}
	return blocks
}

// gaussLegendre computes the n points and weights on [0, 1] that integrate polynomials of degree 2n−1 exactly, by
// Newton's method on the Legendre polynomial P_n.
func gaussLegendre(n int) (t, weights []float64) {
	t, weights = make([]float64, n), make([]float64, n)
	for i := range n {
		x := math.Cos(math.Pi * (float64(i) + 0.75) / (float64(n) + 0.5))
		var slope float64
		for range 100 {
			p, before := x, 1.0
			for j := 2; j <= n; j++ {
				p, before = ((2*float64(j)-1)*x*p-(float64(j)-1)*before)/float64(j), p
			}
			slope = float64(n) * (x*p - before) / (x*x - 1)
			step := p / slope
			x -= step
			if math.Abs(step) < 1e-16 {
				break
			}
		}
		t[i] = (1 - x) / 2
		weights[i] = 1 / ((1 - x*x) * slope * slope)
	}
	return t, weights
}
