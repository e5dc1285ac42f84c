package models

import "math"

// Bits of LightGBM's decision_type. Bits 2 and 3 hold the missing type.
const (
	isCategorical = 1 << 0
	defaultLeft   = 1 << 1
	missingZero   = 1
	missingNaN    = 2
)

// zeroThreshold is LightGBM's kZeroThreshold, the float32 1e-35: what is not farther from 0 is zero.
const zeroThreshold = 1.0000000180025095e-35

// tree is one decision tree. A child is a node's index, or ^index of a leaf; children come after their parents. A tree
// of one leaf has no nodes.
type tree struct {
	nodes     []node
	leafValue []float64
	leafCount []float64 // training rows, as LightGBM wrote them; nil for a tree of one leaf
	depth     int       // splits on the longest path
}

type node struct {
	threshold   float64
	count       float64  // training rows
	gain        float64  // of the split, with the 6 digits that LightGBM writes; 0 where the text has none
	categories  []uint32 // bit c: category c goes left
	feature     int32
	left, right int32
	decision    uint8
}

// check makes sure that the nodes are one tree whose counts add up, and measures its depth.
func (t *tree) check(where pair) error {
	if len(t.nodes) == 0 {
		return nil
	}
	nodeSeen, leafSeen := make([]bool, len(t.nodes)), make([]bool, len(t.leafValue))
	depth := make([]int, len(t.nodes))
	for i := range t.nodes {
		n := &t.nodes[i]
		if i > 0 && !nodeSeen[i] {
			return where.errorf("node %d is no earlier node's child", i)
		}
		var below float64
		for _, c := range [2]int32{n.left, n.right} {
			seen, at := leafSeen, int(^c)
			if c >= 0 {
				seen, at = nodeSeen, int(c)
				if at <= i {
					return where.errorf("node %d has the earlier node %d as its child", i, at)
				}
				depth[at] = depth[i] + 1
				below += t.nodes[at].count
			} else {
				below += t.leafCount[at]
			}
			if seen[at] {
				return where.errorf("node %d shares its child %d with another node", i, c)
			}
			seen[at] = true
		}
		if n.count != below || n.count < 1 {
			return where.errorf("node %d counts %v training rows, its children %v", i, n.count, below)
		}
		t.depth = max(t.depth, depth[i]+1)
	}
	if t.depth > maxDepth {
		return where.errorf("depth %d is over the limit of %d", t.depth, maxDepth)
	}
	return nil
}

func (n *node) missing() uint8 { return n.decision >> 2 }

// categoryCode is the category of a value: truncated, and one that no set has for what is missing, negative or does not fit
// an int32, which LightGBM sends to the right on x86-64.
func categoryCode(v float64) uint32 {
	if v > -1 && v < 1<<31 {
		return uint32(v)
	}
	return math.MaxUint32
}

// goesLeft is LightGBM's Tree::NumericalDecision and Tree::CategoricalDecision (include/LightGBM/tree.h).
func (n *node) goesLeft(v float64) bool {
	if n.decision&isCategorical != 0 {
		c := categoryCode(v)
		return int(c/32) < len(n.categories) && n.categories[c/32]>>(c%32)&1 != 0
	}
	if v != v {
		if n.missing() == missingNaN {
			return n.decision&defaultLeft != 0
		}
		v = 0
	}
	if n.missing() == missingZero && v >= -zeroThreshold && v <= zeroThreshold {
		return n.decision&defaultLeft != 0
	}
	return v <= n.threshold
}

// leaf is the index of the leaf that a vector ends in.
func (t *tree) leaf(vec []float64) int {
	if len(t.nodes) == 0 {
		return 0
	}
	for at := int32(0); ; {
		n := &t.nodes[at]
		next := n.right
		if n.goesLeft(vec[n.feature]) {
			next = n.left
		}
		if next < 0 {
			return int(^next)
		}
		at = next
	}
}
