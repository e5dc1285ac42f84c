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

// block is a value at each of four points. A struct of four stays in registers, an array would go through memory.
type block struct{ a, b, c, d float64 }

func all(v float64) block              { return block{v, v, v, v} }
func (x block) scaled(f float64) block { return block{x.a * f, x.b * f, x.c * f, x.d * f} }
func (x block) plus(y block) block     { return block{x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d} }
func (x block) minus(y block) block    { return block{x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d} }
func (x block) times(y block) block    { return block{x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d} }
func (x block) inverse() block         { return block{1 / x.a, 1 / x.b, 1 / x.c, 1 / x.d} }
func (x block) sum() float64           { return x.a + x.b + x.c + x.d }

// shares is what explaining a tree needs beyond the tree.
type shares struct {
	rule  []points
	steps []step // by node
	// inverse holds, for each node with an earlier split on its feature and each block, 1/(t + (1−t) z) by point.
	inverse []block
}

// step is a node as seen by the explainer, together with the nearest earlier split on its feature.
type step struct {
	left     float64 // share of the node's training rows that go left
	z        float64 // product of the shares of the earlier splits on the same feature, 1 without one
	child    [2]int32
	leaf     [2]float64 // the values of those children that are leaves
	feature  int32
	ancestor int32 // the nearest earlier split on the feature, or -1
	inverse  int32 // where the node's inverses begin, when there is an ancestor
	onLeft   bool  // the node lies on the ancestor's left
}

// points are some of the points t of a quadrature on [0, 1] with 1−t and their weights; what fills up the last block has
// weight 0.
type points struct{ t, rest, weight block }

// scratch is the memory of one explanation, by node of the largest tree.
type scratch struct {
	product, mean, toLeft []block
	goesLeft              []float64 // 1 or 0
	open                  []bool    // the vector passes all earlier splits on the node's feature
}

func (e *explainer) prepare(trees []tree, features int) {
	e.trees = make([]shares, len(trees))
	rules := map[int][]points{}
	nodes := 0
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
		n := (s.link(t, features) + 1) / 2
		if rules[n] == nil {
			rules[n] = blocks(gaussLegendre(n))
		}
		s.rule = rules[n]
		for j := range s.steps {
			st := &s.steps[j]
			if st.ancestor < 0 {
				continue
			}
			st.inverse = int32(len(s.inverse))
			for _, p := range s.rule {
				s.inverse = append(s.inverse, p.t.plus(p.rest.scaled(st.z)).inverse())
			}
		}
		nodes = max(nodes, len(t.nodes))
	}
	e.scratches.New = func() any {
		return &scratch{make([]block, nodes), make([]block, nodes), make([]block, nodes), make([]float64, nodes), make([]bool, nodes)}
	}
}

// blocks deals a rule out by four.
func blocks(t, weights []float64) []points {
	for len(t)%4 != 0 {
		t, weights = append(t, 0.5), append(weights, 0)
	}
	var rule []points
	for i := 0; i < len(t); i += 4 {
		p := points{t: block{t[i], t[i+1], t[i+2], t[i+3]}, weight: block{weights[i], weights[i+1], weights[i+2], weights[i+3]}}
		p.rest = all(1).minus(p.t)
		rule = append(rule, p)
	}
	return rule
}

// link finds each node's nearest earlier split on its feature and returns the largest number of distinct features on a
// path.
func (s *shares) link(t *tree, features int) (distinct int) {
	s.steps = make([]step, len(t.nodes))
	latest := make([]int32, features) // of the current path: the last node that split by the feature, or -1
	onLeft := make([]bool, features)
	for f := range latest {
		latest[f] = -1
	}
	var walk func(at int32, onPath int)
	walk = func(at int32, onPath int) {
		n, st := &t.nodes[at], &s.steps[at]
		*st = step{left: t.rows(n.left) / n.count, z: 1, child: [2]int32{n.left, n.right}, feature: n.feature, ancestor: latest[n.feature],
			onLeft: onLeft[n.feature]}
		switch {
		case st.ancestor < 0:
			onPath++
		case st.onLeft:
			st.z = s.steps[st.ancestor].z * s.steps[st.ancestor].left
		default:
			st.z = s.steps[st.ancestor].z * (1 - s.steps[st.ancestor].left)
		}
		distinct = max(distinct, onPath)
		latest[n.feature] = at
		for side, c := range st.child {
			if onLeft[n.feature] = side == 0; c >= 0 {
				walk(c, onPath)
			} else {
				st.leaf[side] = t.leafValue[^c]
			}
		}
		latest[n.feature], onLeft[n.feature] = st.ancestor, st.onLeft
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
	steps := s.steps
	goesLeft, open := memory.goesLeft[:len(steps)], memory.open[:len(steps)]
	for i := range steps {
		st, n, left := &steps[i], &t.nodes[i], 0
		if n.goesLeft(vec[n.feature]) {
			left = 1
		}
		goesLeft[i] = float64(left)
		open[i] = st.ancestor < 0 || open[st.ancestor] && (goesLeft[st.ancestor] == 1) == st.onLeft
	}
	for b := range s.rule {
		s.down(b, memory)
		s.up(b, dst, memory)
	}
}

func (s *shares) down(b int, memory *scratch) {
	steps, p := s.steps, &s.rule[b]
	product, toLeft := memory.product[:len(steps)], memory.toLeft[:len(steps)]
	goesLeft, open := memory.goesLeft[:len(steps)], memory.open[:len(steps)]
	product[0] = p.weight
	for i := range steps {
		st := &steps[i]
		m := all(st.left)
		if open[i] {
			m = p.t.scaled(goesLeft[i]).plus(p.rest.scaled(st.z * st.left))
			if st.ancestor >= 0 {
				m = m.times(s.inverse[int(st.inverse)+b])
			}
		}
		toLeft[i] = m
		here := product[i]
		l := here.times(m)
		if c := st.child[0]; c >= 0 {
			product[c] = l
		}
		if c := st.child[1]; c >= 0 {
			product[c] = here.minus(l)
		}
	}
}

func (s *shares) up(b int, dst []float64, memory *scratch) {
	steps := s.steps
	product, mean, toLeft := memory.product[:len(steps)], memory.mean[:len(steps)], memory.toLeft[:len(steps)]
	goesLeft, open := memory.goesLeft[:len(steps)], memory.open[:len(steps)]
	for i := len(steps) - 1; i >= 0; i-- {
		st := &steps[i]
		l, r := all(st.leaf[0]), all(st.leaf[1])
		if c := st.child[0]; c >= 0 {
			l = mean[c]
		}
		if c := st.child[1]; c >= 0 {
			r = mean[c]
		}
		d := l.minus(r)
		mean[i] = r.plus(toLeft[i].times(d))
		if !open[i] {
			continue
		}
		terms := product[i].times(d)
		if st.ancestor >= 0 {
			inverse := s.inverse[int(st.inverse)+b]
			terms = terms.times(inverse.times(inverse))
		}
		dst[st.feature] += st.z * (goesLeft[i] - st.left) * terms.sum()
	}
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
