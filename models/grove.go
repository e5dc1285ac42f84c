package models

import "math"

// grove is some trees with the same number of points, as their explanation walks them: all that is equal is done in one
// loop. Nodes are numbered from 1 in the order of the runs, then the stumps. A node with one leaf has it on the right.
type grove struct {
	rule        []points
	numeric     []numericDecision // by node; for a categorical node something that its decision replaces
	categorical []categoricalDecision
	repeats     []repeat
	roots       []uint32
	runs        []run // parents before their children
	forks       []fork
	spurs       []spur
	again       []fork // the forks and spurs that split by a feature once more
	stumps      []stump
	fresh       int // so many stumps split by a feature for the first time
	ends        []end
	cells       int
	ratios      [][]ratio // by block of points, of each of repeats
}

// kind is what the loops tell apart.
type kind uint8

const (
	isFork  kind = iota // two nodes below
	isSpur              // a node on the left, a leaf on the right
	isAgain             // fork or spur whose feature was split before
	isStump             // two leaves
	isStumpAgain
)

// run is the nodes [from, to), all of a kind.
type run struct {
	kind     kind
	from, to int
	at       int // of the first in the kind's slice
}

type fork struct {
	share                float64 // of the training rows that go left
	left, right, feature uint32
}

type spur struct {
	share, leaf   float64
	left, feature uint32
}

type stump struct {
	mean       float64 // of its training rows
	difference float64 // of left − right
	feature    uint32
}

// end is the leaf of a spur among those that split once more.
type end struct {
	leaf float64
	at   uint32
}

// repeat is a split by a feature that was split before: first those of again, then those of stumps, in their order.
type repeat struct {
	ancestor uint32  // the nearest earlier split
	lean     float64 // the ancestor's if the vector goes this way
	before   int32   // the ancestor's own place in repeats, from 1; 0 if it was the first
	node     uint32
}

// ratio is, with z the product of the shares of the earlier splits and f = (1−t) z + t, at each point t/f and z/f².
type ratio struct{ m, term block }

// groveNodes is about how many nodes a grove has: as many as the fastest cache holds, enough for long runs.
const groveNodes = 512

// builder makes a grove of trees.
type builder struct{ nodes []*placed }

// placed is a node of a tree with its place.
type placed struct {
	node     *node
	root     bool
	mirrored bool
	share, z float64    // z: the product of the shares of the earlier splits on its feature
	earlier  *placed    // the nearest of those, nil without one
	left     bool       // where the earlier one leads here
	below    [2]*placed // nil for a leaf
	leaf     [2]float64
	number   uint32
	repeat   int32 // place in repeats, -1 for none
}

func (p *placed) kind() kind {
	stump := p.below == [2]*placed{}
	switch {
	case stump && p.earlier != nil:
		return isStumpAgain
	case stump:
		return isStump
	case p.earlier != nil:
		return isAgain
	case p.below[1] == nil:
		return isSpur
	default:
		return isFork
	}
}

// lean is the node's for a vector that goes left or right.
func (p *placed) lean(left bool) float64 {
	if left {
		return 1 - p.share
	}
	return -p.share
}

// place walks a tree. distinct is the largest number of distinct features on a path.
func place(t *tree, features int) (nodes []*placed, distinct int) {
	latest, wentLeft := make([]*placed, features), make([]bool, features) // on the current path, by feature
	var walk func(at int32, seen int) *placed
	walk = func(at int32, seen int) *placed {
		n := &t.nodes[at]
		children := [2]int32{n.left, n.right}
		p := &placed{node: n, root: at == 0, z: 1, earlier: latest[n.feature], mirrored: n.left < 0 && n.right >= 0, repeat: -1}
		if p.mirrored {
			children = [2]int32{n.right, n.left}
		}
		p.share = t.rows(children[0]) / n.count
		if p.earlier == nil {
			seen++
		} else if p.left = wentLeft[n.feature]; p.left {
			p.z = p.earlier.z * p.earlier.share
		} else {
			p.z = p.earlier.z * (1 - p.earlier.share)
		}
		distinct = max(distinct, seen)
		nodes = append(nodes, p)
		before := wentLeft[n.feature]
		latest[n.feature] = p
		for i, child := range children {
			if wentLeft[n.feature] = i == 0; child >= 0 {
				p.below[i] = walk(child, seen)
			} else {
				p.leaf[i] = t.leafValue[^child]
			}
		}
		latest[n.feature], wentLeft[n.feature] = p.earlier, before
		return p
	}
	walk(0, 0)
	return nodes, distinct
}

// rows is the number of training rows under a child.
func (t *tree) rows(child int32) float64 {
	if child < 0 {
		return t.leafCount[^child]
	}
	return t.nodes[child].count
}

// order makes the runs few: it goes on with a kind as long as nodes of it have their parents placed.
func (b *builder) order() (order []*placed, runs []run) {
	var ready [isStumpAgain + 1][]*placed
	for _, p := range b.nodes {
		if p.root {
			ready[p.kind()] = append(ready[p.kind()], p)
		}
	}
	var placedOf [isStump]int
	for {
		most := isFork
		for k := range isStump {
			if len(ready[k]) > len(ready[most]) {
				most = k
			}
		}
		if len(ready[most]) == 0 {
			break
		}
		from := len(order)
		for len(ready[most]) > 0 {
			p := ready[most][0]
			ready[most] = ready[most][1:]
			order = append(order, p)
			for _, below := range p.below {
				if below != nil {
					ready[below.kind()] = append(ready[below.kind()], below)
				}
			}
		}
		runs = append(runs, run{most, 1 + from, 1 + len(order), placedOf[most]})
		placedOf[most] += len(order) - from
	}
	order = append(order, ready[isStump]...)
	return append(order, ready[isStumpAgain]...), runs
}

func (b *builder) grove(rule []points, entries *[]entry) grove {
	order, runs := b.order()
	g := grove{rule: rule, runs: runs, cells: 1 + len(order)}
	g.numeric = append(g.numeric, numericDecision{}) // of no node
	for i, p := range order {
		p.number = uint32(i + 1)
	}
	for _, p := range order {
		if p.root {
			g.roots = append(g.roots, p.number)
		}
		g.addDecision(p, entries)
		g.addRepeat(p)
		g.add(p)
	}
	for _, points := range rule {
		var ratios []ratio
		for _, p := range order {
			if p.earlier != nil {
				ratios = append(ratios, ratioOf(p.z, points.t))
			}
		}
		g.ratios = append(g.ratios, ratios)
	}
	return g
}

func (g *grove) add(p *placed) {
	feature := uint32(p.node.feature)
	switch kind := p.kind(); kind {
	case isFork:
		g.forks = append(g.forks, fork{p.share, p.below[0].number, p.below[1].number, feature})
	case isSpur:
		g.spurs = append(g.spurs, spur{p.share, p.leaf[1], p.below[0].number, feature})
	case isAgain:
		f := fork{share: p.share, left: p.below[0].number, feature: feature}
		if p.below[1] != nil {
			f.right = p.below[1].number
		} else {
			f.right = uint32(g.cells)
			g.ends = append(g.ends, end{p.leaf[1], f.right})
			g.cells++
		}
		g.again = append(g.again, f)
	default:
		difference := p.leaf[0] - p.leaf[1]
		g.stumps = append(g.stumps, stump{p.leaf[1] + p.share*difference, difference, feature})
		if kind == isStump {
			g.fresh++
		}
	}
}

func (g *grove) addRepeat(p *placed) {
	if p.earlier == nil {
		return
	}
	p.repeat = int32(len(g.repeats))
	g.repeats = append(g.repeats, repeat{p.earlier.number, p.earlier.lean(p.left), p.earlier.repeat + 1, p.number})
}

func ratioOf(z float64, t block) (r ratio) {
	at := func(t float64) (m, term float64) {
		f := (1-t)*z + t
		return t / f, z / (f * f)
	}
	r.m.a, r.term.a = at(t.a)
	r.m.b, r.term.b = at(t.b)
	r.m.c, r.term.c = at(t.c)
	r.m.d, r.term.d = at(t.d)
	return r
}

// decide sets the leans: 0 where the vector has failed an earlier split on the node's feature.
func (g *grove) decide(s *scratch) {
	compare(s.leans, s.row, g.numeric)
	lookUp(s.leans, s.codes, g.categorical)
	s.open[0] = ^uint64(0)
	for i := range g.repeats {
		r := &g.repeats[i]
		var open uint64 // all bits or none: which is hard to foresee
		if s.leans[r.ancestor] == r.lean {
			open = ^uint64(0)
		}
		open &= s.open[r.before]
		s.open[i+1] = open
		s.leans[r.node] = math.Float64frombits(math.Float64bits(s.leans[r.node]) & open)
	}
}
