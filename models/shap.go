package models

import (
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
// (Quadrature-TreeSHAP, arXiv 2605.04497). Per tree and vector it costs nodes × points.
//
// What a processor can't foresee is kept out of the loops: all decisions of the model come first, without branches, and
// nodes with two leaves are apart from the others.
type explainer struct {
	base      float64
	decisions decisions
	groves    []grove
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
func (x block) sum() float64           { return (x.a + x.b) + (x.c + x.d) }

// points are some of the points t of a quadrature on [0, 1] with 1−t and their weights; what fills up the last block has
// weight 0.
type points struct{ t, rest, weight block }

// grove is some trees as their explanation walks them: all forks before all stumps, forks by level so that parents come
// first, and at each level, and among stumps, those that split by a feature for the first time before the others. Nodes are
// numbered in that order from 1; 0 is an imaginary split that every vector has passed. A node with one leaf has it on the
// right.
type grove struct {
	rule   []points
	roots  []int32
	forks  []split
	runs   []run // of forks
	stumps []stump
	fresh  int       // so many stumps split by a feature for the first time
	leaves []float64 // those below forks, numbered behind the nodes
	first  int       // where the grove's decisions begin: that of node 0
	// inverse holds by block of points, for what split refers to, 1/((1−t) z) and 1/(t + (1−t) z).
	inverse [][]block
}

// run is some forks in a row.
type run struct {
	from, to int
	fresh    bool // they split by a feature for the first time
}

// split is a node together with the nearest earlier split on its feature, its ancestor.
type split struct {
	left     float64 // share of the node's training rows that go left
	z        float64 // product of the shares of the earlier splits on the same feature, 1 without one
	inverse  int32   // place in grove.inverse of z's, with that of a vector that has passed all earlier splits behind it
	feature  int32
	ancestor int32
	children [2]int32
	side     uint8 // the ancestor's decision that leads here
}

// stump is a node with two leaves.
type stump struct {
	split
	right, difference float64 // of left − right
}

// cell is what an explanation knows of a node.
type cell struct {
	product block
	mean    block   // on the way down the factor m of the left child
	factor  float64 // of the node's term in its feature's contribution
	open    uint8   // 1: the vector passes all earlier splits on the node's feature
}

// scratch is the memory of one explanation.
type scratch struct {
	row   []float64
	left  []uint8 // decisions
	cells []cell  // by number in a grove
}

// groveNodes is about how many nodes a grove has: as many as the fastest cache holds, enough for long runs.
const groveNodes = 256

func (e *explainer) prepare(trees []tree, features int) {
	rules := map[int][]points{}
	nodes := 0
	var b builder
	plant := func() {
		if len(b.nodes) == 0 {
			return
		}
		n := (b.distinct + 1) / 2
		if rules[n] == nil {
			rules[n] = blocks(gaussLegendre(n))
		}
		g := b.grove(rules[n], &e.decisions)
		e.groves = append(e.groves, g)
		nodes = max(nodes, 1+len(b.nodes)+len(g.leaves))
		b = builder{}
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
		if len(b.nodes)+len(t.nodes) > groveNodes {
			plant()
		}
		b.add(t, features)
	}
	plant()
	e.scratches.New = func() any {
		return &scratch{make([]float64, len(e.decisions.entries)), make([]uint8, e.decisions.count), make([]cell, nodes)}
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

// builder makes a grove of trees.
type builder struct {
	nodes    []*placed
	distinct int // the largest number of distinct features on a path
}

// placed is a node of a tree with its place.
type placed struct {
	split
	tree     *tree
	node     *node
	level    int
	earlier  *placed    // its ancestor, nil without one
	below    [2]*placed // nil for a leaf
	leaf     [2]float64
	mirrored bool
	number   int32
}

func (p *placed) isStump() bool { return p.below == [2]*placed{} }

// add walks a tree.
func (b *builder) add(t *tree, features int) {
	latest, side := make([]*placed, features), make([]uint8, features) // of the current path, by feature
	var walk func(at int32, level, distinct int) *placed
	walk = func(at int32, level, distinct int) *placed {
		n := &t.nodes[at]
		left, right := n.left, n.right
		p := &placed{tree: t, node: n, level: level, earlier: latest[n.feature], mirrored: left < 0 && right >= 0}
		if p.mirrored {
			left, right = right, left
		}
		p.split = split{left: t.rows(left) / n.count, z: 1, feature: n.feature}
		if p.earlier == nil {
			distinct++
		} else if p.side = side[n.feature]; p.side == 1 {
			p.z = p.earlier.z * p.earlier.left
		} else {
			p.z = p.earlier.z * (1 - p.earlier.left)
		}
		b.distinct = max(b.distinct, distinct)
		b.nodes = append(b.nodes, p)
		latest[n.feature] = p
		for i, child := range [2]int32{left, right} {
			if side[n.feature] = uint8(1 - i); child >= 0 {
				p.below[i] = walk(child, level+1, distinct)
			} else {
				p.leaf[i] = t.leafValue[^child]
			}
		}
		latest[n.feature], side[n.feature] = p.earlier, p.side
		return p
	}
	walk(0, 0, 0)
}

func (b *builder) grove(rule []points, d *decisions) grove {
	order := func(p *placed) int {
		at := 2 * p.level
		if p.isStump() {
			at = 2 * maxDepth
		}
		if p.earlier != nil {
			at++
		}
		return at
	}
	slices.SortStableFunc(b.nodes, func(p, q *placed) int { return order(p) - order(q) })
	for i, p := range b.nodes {
		p.number = int32(i + 1)
	}
	g := grove{rule: rule, first: d.count}
	d.count += 1 + len(b.nodes)
	var zs []float64 // those that have inverses; the first pair is that of splits without an ancestor
	for _, p := range b.nodes {
		d.add(p.node, g.first+int(p.number), p.mirrored)
		fresh := p.earlier == nil
		if !fresh {
			p.ancestor = p.earlier.number
			zs = append(zs, p.z)
			p.inverse = int32(2 * len(zs))
		}
		if p.isStump() {
			g.stumps = append(g.stumps, stump{p.split, p.leaf[1], p.leaf[0] - p.leaf[1]})
			if fresh {
				g.fresh++
			}
		} else {
			for i, below := range p.below {
				if below != nil {
					p.children[i] = below.number
				} else {
					p.children[i] = int32(1 + len(b.nodes) + len(g.leaves))
					g.leaves = append(g.leaves, p.leaf[i])
				}
			}
			if n := len(g.forks); n == 0 || g.runs[len(g.runs)-1].fresh != fresh {
				g.runs = append(g.runs, run{n, n, fresh})
			}
			g.forks = append(g.forks, p.split)
			g.runs[len(g.runs)-1].to++
		}
		if p.level == 0 {
			g.roots = append(g.roots, p.number)
		}
	}
	for _, p := range rule {
		table := []block{all(1), all(1)}
		for _, z := range zs {
			closed := p.rest.scaled(z)
			table = append(table, closed.inverse(), p.t.plus(closed).inverse())
		}
		g.inverse = append(g.inverse, table)
	}
	return g
}

// rows is the number of training rows under a child.
func (t *tree) rows(child int32) float64 {
	if child < 0 {
		return t.leafCount[^child]
	}
	return t.nodes[child].count
}

// explain sets dst to the contributions and returns the base.
func (e *explainer) explain(dst, vec []float64) float64 {
	clear(dst)
	s := e.scratches.Get().(*scratch)
	defer e.scratches.Put(s)
	e.decisions.decide(s.left, s.row, vec)
	for i := range e.groves {
		g := &e.groves[i]
		for b := range g.rule {
			g.down(b, s)
			g.end(b, dst, s)
			g.up(dst, s)
		}
	}
	return e.base
}

// down carries, by point, the product of all factors (1−t) z_j + t o_j from the roots to each node. With f the factor of
// the node's feature so far, a left child multiplies it by m = (c t + (1−t) z r)/f, a right one by 1−m (c: the vector goes
// left; r: the share that does). Where an earlier split has sent the vector elsewhere, f = (1−t) z, so that m = r.
//
// The sum over the leaves telescopes to φ += z (c − r) ∫ product (mean_left − mean_right)/f² at each node whose feature the
// vector has passed so far; where it has not, the node's own term is 0. Here product/f² takes the product's place, once the
// children have theirs.
func (g *grove) down(b int, memory *scratch) {
	p, inverses, cells := &g.rule[b], g.inverse[b], memory.cells
	left := memory.left[g.first : g.first+1+len(g.forks)]
	cells[0].open = 1
	for _, root := range g.roots {
		cells[root].product = p.weight
	}
	for _, run := range g.runs {
		forks := g.forks[run.from:run.to]
		own, goes := cells[run.from+1:][:len(forks)], left[run.from+1:][:len(forks)]
		if run.fresh {
			for i := range forks {
				f, here := &forks[i], &own[i]
				l, r := &cells[f.children[0]].product, &cells[f.children[1]].product
				c := float64(goes[i])
				here.open, here.factor = 1, c-f.left
				here.mean.a, l.a, r.a = dealFresh(here.product.a, c, f.left, p.t.a, p.rest.a)
				here.mean.b, l.b, r.b = dealFresh(here.product.b, c, f.left, p.t.b, p.rest.b)
				here.mean.c, l.c, r.c = dealFresh(here.product.c, c, f.left, p.t.c, p.rest.c)
				here.mean.d, l.d, r.d = dealFresh(here.product.d, c, f.left, p.t.d, p.rest.d)
			}
			continue
		}
		for i := range forks {
			f, here := &forks[i], &own[i]
			l, r := &cells[f.children[0]].product, &cells[f.children[1]].product
			o := cells[f.ancestor].open & (1 ^ left[f.ancestor] ^ f.side)
			c, zr := float64(goes[i]&o), f.z*f.left
			here.open, here.factor = o, c*f.z-float64(o)*zr
			inverse := &inverses[f.inverse+int32(o)]
			here.product.a, here.mean.a, l.a, r.a = deal(here.product.a, c, zr, p.t.a, p.rest.a, inverse.a)
			here.product.b, here.mean.b, l.b, r.b = deal(here.product.b, c, zr, p.t.b, p.rest.b, inverse.b)
			here.product.c, here.mean.c, l.c, r.c = deal(here.product.c, c, zr, p.t.c, p.rest.c, inverse.c)
			here.product.d, here.mean.d, l.d, r.d = deal(here.product.d, c, zr, p.t.d, p.rest.d, inverse.d)
		}
	}
}

// deal is a fork's step down at one point: product/f², m, and the products of the children.
func deal(product, c, zr, t, rest, inverse float64) (term, m, left, right float64) {
	m = (t*c + rest*zr) * inverse
	left = product * m
	return product * (inverse * inverse), m, left, product - left
}

// dealFresh is deal where f = z = 1.
func dealFresh(product, c, r, t, rest float64) (m, left, right float64) {
	m = t*c + rest*r
	left = product * m
	return m, left, product - left
}

// end does both ways at once for the stumps.
func (g *grove) end(b int, dst []float64, memory *scratch) {
	p, inverses := &g.rule[b], g.inverse[b]
	behind := 1 + len(g.forks)
	left, cells := memory.left[g.first:], memory.cells
	own, goes := cells[behind:][:len(g.stumps)], left[behind:][:len(g.stumps)]
	for i := range g.stumps[:g.fresh] {
		s, here := &g.stumps[i], &own[i]
		c := float64(goes[i])
		here.mean.a = s.right + (p.t.a*c+p.rest.a*s.left)*s.difference
		here.mean.b = s.right + (p.t.b*c+p.rest.b*s.left)*s.difference
		here.mean.c = s.right + (p.t.c*c+p.rest.c*s.left)*s.difference
		here.mean.d = s.right + (p.t.d*c+p.rest.d*s.left)*s.difference
		dst[s.feature] += (c - s.left) * s.difference * here.product.sum()
	}
	for i := g.fresh; i < len(g.stumps); i++ {
		s, here := &g.stumps[i], &own[i]
		o := cells[s.ancestor].open & (1 ^ left[s.ancestor] ^ s.side)
		c, zr := float64(goes[i]&o), s.z*s.left
		inverse := &inverses[s.inverse+int32(o)]
		here.mean.a = s.right + (p.t.a*c+p.rest.a*zr)*inverse.a*s.difference
		here.mean.b = s.right + (p.t.b*c+p.rest.b*zr)*inverse.b*s.difference
		here.mean.c = s.right + (p.t.c*c+p.rest.c*zr)*inverse.c*s.difference
		here.mean.d = s.right + (p.t.d*c+p.rest.d*zr)*inverse.d*s.difference
		dst[s.feature] += (c*s.z - float64(o)*zr) * s.difference * here.product.times(inverse.times(*inverse)).sum()
	}
}

// up carries the mean of the leaves under that weighting from the stumps to the roots, and adds the terms up.
func (g *grove) up(dst []float64, memory *scratch) {
	cells := memory.cells
	leaves := cells[1+len(g.forks)+len(g.stumps):][:len(g.leaves)]
	for i, v := range g.leaves {
		leaves[i].mean = all(v)
	}
	own := cells[1:][:len(g.forks)]
	for i := len(g.forks) - 1; i >= 0; i-- {
		f, here := &g.forks[i], &own[i]
		l, r := &cells[f.children[0]].mean, &cells[f.children[1]].mean
		var terms block
		terms.a, here.mean.a = join(l.a, r.a, here.product.a, here.mean.a)
		terms.b, here.mean.b = join(l.b, r.b, here.product.b, here.mean.b)
		terms.c, here.mean.c = join(l.c, r.c, here.product.c, here.mean.c)
		terms.d, here.mean.d = join(l.d, r.d, here.product.d, here.mean.d)
		dst[f.feature] += here.factor * terms.sum()
	}
}

// join is a fork's step up at one point: its term and its mean, from those of its children.
func join(left, right, term, m float64) (float64, float64) {
	difference := left - right
	return term * difference, right + m*difference
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
