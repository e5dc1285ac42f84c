package models

import (
	"context"
	"math"
	"testing"
)

var background = context.Background()

// pathElement is one feature of a path: the shares z and o of the text, and the weight of the subsets of its size.
type pathElement struct {
	feature     int32
	zero, one   float64
	permutation float64
}

// algorithm2 is Algorithm 2 of Lundberg, Erion and Lee (arXiv 1802.03888), in the order of operations of LightGBM's
// Tree::TreeSHAP, to which it is bit-identical.
func (m *Model) algorithm2(dst, vec []float64) (base float64) {
	clear(dst)
	memory := make([]pathElement, (m.depth+2)*(m.depth+3)/2+m.depth+2)
	for i := range m.trees {
		t := &m.trees[i]
		if len(t.nodes) == 0 {
			base += t.leafValue[0]
			continue
		}
		var mean float64
		for l, v := range t.leafValue {
			mean += t.leafCount[l] / t.nodes[0].count * v
		}
		base += mean
		t.recurse(dst, vec, 0, 0, memory, 1, 1, -1)
	}
	return base
}

func (t *tree) recurse(dst, vec []float64, at int32, depth int, parent []pathElement, zero, one float64, feature int32) {
	path := parent
	if depth > 0 {
		path = parent[depth:]
		copy(path, parent[:depth])
	}
	extend(path, depth, zero, one, feature)
	if at < 0 {
		for i := 1; i <= depth; i++ {
			dst[path[i].feature] += unwoundSum(path, depth, i) * (path[i].one - path[i].zero) * t.leafValue[^at]
		}
		return
	}
	n := &t.nodes[at]
	hot, cold := n.right, n.left
	if n.goesLeft(vec[n.feature]) {
		hot, cold = cold, hot
	}
	incomingZero, incomingOne := 1.0, 1.0
	for i := 0; i <= depth; i++ {
		if path[i].feature == n.feature {
			incomingZero, incomingOne = path[i].zero, path[i].one
			unwind(path, depth, i)
			depth--
			break
		}
	}
	t.recurse(dst, vec, hot, depth+1, path, t.rows(hot)/n.count*incomingZero, incomingOne, n.feature)
	t.recurse(dst, vec, cold, depth+1, path, t.rows(cold)/n.count*incomingZero, 0, n.feature)
}

func extend(path []pathElement, depth int, zero, one float64, feature int32) {
	path[depth] = pathElement{feature, zero, one, 0}
	if depth == 0 {
		path[depth].permutation = 1
	}
	for i := depth - 1; i >= 0; i-- {
		path[i+1].permutation += one * path[i].permutation * float64(i+1) / float64(depth+1)
		path[i].permutation = zero * path[i].permutation * float64(depth-i) / float64(depth+1)
	}
}

func unwind(path []pathElement, depth, at int) {
	one, zero := path[at].one, path[at].zero
	next := path[depth].permutation
	for i := depth - 1; i >= 0; i-- {
		if one != 0 {
			before := path[i].permutation
			path[i].permutation = next * float64(depth+1) / (float64(i+1) * one)
			next = before - path[i].permutation*zero*float64(depth-i)/float64(depth+1)
		} else {
			path[i].permutation = path[i].permutation * float64(depth+1) / (zero * float64(depth-i))
		}
	}
	for i := at; i < depth; i++ {
		path[i].feature, path[i].zero, path[i].one = path[i+1].feature, path[i+1].zero, path[i+1].one
	}
}

func unwoundSum(path []pathElement, depth, at int) (total float64) {
	one, zero := path[at].one, path[at].zero
	next := path[depth].permutation
	for i := depth - 1; i >= 0; i-- {
		if one != 0 {
			p := next * float64(depth+1) / (float64(i+1) * one)
			total += p
			next = path[i].permutation - p*zero*(float64(depth-i)/float64(depth+1))
		} else {
			total += path[i].permutation / (zero * (float64(depth-i) / float64(depth+1)))
		}
	}
	return total
}

func TestContributionsAreThoseOfAlgorithm2(t *testing.T) {
	for size, rows := range map[string]int{"200x31": 100, "40x63": 20} {
		m, trained := sized(t, size)
		phi, want := make([]float64, benchColumns), make([]float64, benchColumns)
		for i := 0; i < rows*benchColumns; i += benchColumns {
			vec := trained.rows[i : i+benchColumns]
			base, err := m.Contributions(phi, vec)
			if err != nil {
				t.Fatal(err)
			}
			if reference := m.algorithm2(want, vec); math.Abs(base-reference) > 1e-12 {
				t.Errorf("%s: base %v, by Algorithm 2 %v", size, base, reference)
			}
			for f := range phi {
				if math.Abs(phi[f]-want[f]) > 1e-12 {
					t.Errorf("%s, row %d: feature %d contributes %v, by Algorithm 2 %v", size, i/benchColumns, f, phi[f], want[f])
				}
			}
		}
	}
}
