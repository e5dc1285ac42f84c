package models

import (
	"math"
	"sync"
)

// explainer computes exact path-dependent Shapley values of tree ensembles (the value function of Lundberg, Erion and
// Lee, arXiv 1802.03888: a feature outside the coalition follows both branches by their share of training rows).
//
// With z_j the product of the shares of feature j's splits on the way to a leaf and o_j whether the vector passes them
// all, φ_i = Σ_leaf value (o_i − z_i) ∫₀¹ Π_{j≠i} ((1−t) z_j + t o_j) dt. The integrand is a polynomial whose degree is one
// below the number d of distinct features on the path, so Gauss–Legendre quadrature with ⌈d/2⌉ points is exact, and,
// unlike the recursion of Lundberg's Algorithm 2, it divides by nothing small: precision holds at any depth
// (Quadrature-TreeSHAP, arXiv 2605.04497). Per tree and vector it costs nodes × points.
type explainer struct {
	base      float64
	trees     []shares
	scratches sync.Pool
}

// shares is what explaining a tree needs beyond the tree, by node.
type shares struct {
	rule   rule
	before []before
	// inverse holds, for each node with an earlier split on its feature, 1/(t + (1−t) z) by point.
	inverse []float64
}

// before tells of a node and the nearest earlier split on its feature.
type before struct {
	left     float64 // share of the node's training rows that go left
	z        float64 // product of the shares of the earlier splits on the same feature, 1 without one
	ancestor int32   // the nearest of them, or -1
	onLeft   bool    // the node lies on that one's left
	inverse  int32   // where its row of inverses begins, when there is an ancestor
}

// rule is a quadrature on [0, 1].
type rule struct{ points, weights []float64 }

// scratch is the memory of one explanation, by node (of the largest tree) and point.
type scratch struct {
	product, mean, toLeft []float64
	left, open            []bool
}

func (e *explainer) prepare(trees []tree, features int) {
	e.trees = make([]shares, len(trees))
	rules := map[int]rule{}
	nodes, cells := 0, 0
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
		s := &e.trees[i]
		distinct := s.link(t, features)
		n := (distinct + 1) / 2
		if _, ok := rules[n]; !ok {
			rules[n] = gaussLegendre(n)
		}
		s.rule = rules[n]
		for j := range s.before {
			b := &s.before[j]
			if b.ancestor < 0 {
				continue
			}
			b.inverse = int32(len(s.inverse))
			for _, p := range s.rule.points {
				s.inverse = append(s.inverse, 1/(p+(1-p)*b.z))
			}
		}
		nodes, cells = max(nodes, len(t.nodes)), max(cells, len(t.nodes)*n)
	}
	e.scratches.New = func() any {
		return &scratch{make([]float64, cells), make([]float64, cells), make([]float64, cells), make([]bool, nodes), make([]bool, nodes)}
	}
}

// link finds each node's nearest earlier split on its feature and returns the largest number of distinct features on a
// path.
func (s *shares) link(t *tree, features int) (distinct int) {
	s.before = make([]before, len(t.nodes))
	latest := make([]int32, features) // of the current path: the last node that split by the feature, or -1
	onLeft := make([]bool, features)
	for f := range latest {
		latest[f] = -1
	}
	var walk func(at int32, onPath int)
	walk = func(at int32, onPath int) {
		n, b := &t.nodes[at], &s.before[at]
		b.left, b.z, b.ancestor = t.rows(n.left)/n.count, 1, latest[n.feature]
		b.onLeft = onLeft[n.feature]
		if b.ancestor >= 0 {
			if a := &s.before[b.ancestor]; b.onLeft {
				b.z = a.z * a.left
			} else {
				b.z = a.z * (1 - a.left)
			}
		} else {
			onPath++
		}
		distinct = max(distinct, onPath)
		latest[n.feature] = at
		for _, side := range [2]bool{true, false} {
			c := n.right
			if side {
				c = n.left
			}
			if onLeft[n.feature] = side; c >= 0 {
				walk(c, onPath)
			}
		}
		latest[n.feature], onLeft[n.feature] = b.ancestor, b.onLeft
	}
	walk(0, 0)
	return distinct
}

// rows is the number of training rows under a child.
func (t *tree) rows(child int32) float64 {
	if child < 0 {
		return t.leafCount[^child]
	}
	return t.nodes[child].count
}

// explain sets dst to the contributions and returns the base.
func (e *explainer) explain(dst, vec []float64, trees []tree) float64 {
	clear(dst)
	s := e.scratches.Get().(*scratch)
	defer e.scratches.Put(s)
	for i := range trees {
		if len(trees[i].nodes) > 0 {
			e.trees[i].explain(dst, vec, &trees[i], s)
		}
	}
	return e.base
}

// explain adds one tree's contributions. Downwards it carries, by point, the product of all factors (1−t) z_j + t o_j on
// the path; upwards the mean of the leaves under that weighting. With f the factor of the node's feature so far, a left
// child multiplies the product by m = (c t + (1−t) z r)/f, a right one by 1−m (c: the vector goes left; r: the share that
// does). The sum over the leaves telescopes to φ += z (c − r) ∫ product (mean_left − mean_right)/f² at each node whose
// feature the vector has passed so far; where it has not, the node's own term is 0 and m = r.
func (s *shares) explain(dst, vec []float64, t *tree, memory *scratch) {
	points, weights := s.rule.points, s.rule.weights
	k := len(points)
	product, mean, toLeft := memory.product[:len(t.nodes)*k], memory.mean[:len(t.nodes)*k], memory.toLeft[:len(t.nodes)*k]
	for p := range k {
		product[p] = weights[p]
	}
	for i := range t.nodes {
		n, b := &t.nodes[i], &s.before[i]
		goes := n.goesLeft(vec[n.feature])
		open := b.ancestor < 0 || memory.open[b.ancestor] && memory.left[b.ancestor] == b.onLeft
		memory.left[i], memory.open[i] = goes, open
		here, m := product[i*k:i*k+k], toLeft[i*k:i*k+k]
		switch {
		case !open:
			for p := range m {
				m[p] = b.left
			}
		case b.ancestor < 0 && goes:
			for p, x := range points[:len(m)] {
				m[p] = x + (1-x)*b.left
			}
		case b.ancestor < 0:
			for p, x := range points[:len(m)] {
				m[p] = (1 - x) * b.left
			}
		default:
			inverse := s.inverse[b.inverse:][:len(m)]
			zr, c := b.z*b.left, 0.0
			if goes {
				c = 1
			}
			for p, x := range points[:len(m)] {
				m[p] = (c*x + (1-x)*zr) * inverse[p]
			}
		}
		if l := int(n.left); l >= 0 {
			below := product[l*k:][:len(m)]
			for p := range m {
				below[p] = here[p] * m[p]
			}
		}
		if r := int(n.right); r >= 0 {
			below := product[r*k:][:len(m)]
			for p := range m {
				below[p] = here[p] * (1 - m[p])
			}
		}
	}
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n, b := &t.nodes[i], &s.before[i]
		here, m, up := product[i*k:i*k+k], toLeft[i*k:i*k+k], mean[i*k:i*k+k]
		left, leftValue := t.below(mean, n.left, k)
		right, rightValue := t.below(mean, n.right, k)
		var inverse []float64
		if b.ancestor >= 0 {
			inverse = s.inverse[b.inverse:][:k]
		}
		var sum float64
		for p := range m {
			l, r := leftValue, rightValue
			if left != nil {
				l = left[p]
			}
			if right != nil {
				r = right[p]
			}
			d := l - r
			up[p] = r + m[p]*d
			term := here[p] * d
			if inverse != nil {
				term *= inverse[p] * inverse[p]
			}
			sum += term
		}
		if memory.open[i] {
			c := 0.0
			if memory.left[i] {
				c = 1
			}
			dst[n.feature] += b.z * (c - b.left) * sum
		}
	}
}

// below is the means of a child by point, or a leaf's value.
func (t *tree) below(mean []float64, child int32, k int) ([]float64, float64) {
	if child < 0 {
		return nil, t.leafValue[^child]
	}
	return mean[int(child)*k : int(child)*k+k], 0
}

// gaussLegendre computes the n points and weights on [0, 1] that integrate polynomials of degree 2n−1 exactly, by
// Newton's method on the Legendre polynomial P_n.
func gaussLegendre(n int) rule {
	r := rule{make([]float64, n), make([]float64, n)}
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
		r.points[i] = (1 - x) / 2
		r.weights[i] = 1 / ((1 - x*x) * slope * slope)
	}
	return r
}
