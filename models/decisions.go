package models

import "math"

// entry is a feature under one treatment of missing values. A vector is first spread into a row with a number for each entry
// that occurs in a model, for which a plain comparison, without branches, is LightGBM's decision.
type entry struct {
	feature int32
	missing uint8 // as LightGBM numbers them
	left    bool  // where missing values go
}

// numericDecision holds the leans of the node with which it shares its place.
type numericDecision struct {
	threshold float64
	leans     [2]float64 // above, and at or below the threshold
	entry     uint16
}

type categoricalDecision struct {
	categories []uint32
	leans      [2]float64 // not in the set, in it
	feature    uint32
	node       uint32
}

// addDecision adds the decision of the next node.
func (g *grove) addDecision(p *placed, entries *[]entry) {
	n := p.node
	leans := [2]float64{p.lean(p.mirrored), p.lean(!p.mirrored)}
	if n.decision&isCategorical != 0 {
		g.categorical = append(g.categorical, categoricalDecision{n.categories, leans, uint32(n.feature), p.number})
		g.numeric = append(g.numeric, numericDecision{}) // any: lookUp comes later
		return
	}
	wanted := entry{n.feature, n.missing(), n.decision&defaultLeft != 0}
	if wanted.missing != missingZero && wanted.missing != missingNaN {
		wanted.missing, wanted.left = 0, false
	}
	i := 0
	for i < len(*entries) && (*entries)[i] != wanted {
		i++
	}
	if i == len(*entries) {
		*entries = append(*entries, wanted)
	}
	g.numeric = append(g.numeric, numericDecision{n.threshold, leans, uint16(i)})
}

// spread fills the row and the categories of a vector.
func spread(row []float64, codes []uint32, entries []entry, vec []float64) {
	for i := range entries {
		row[i] = entries[i].of(vec)
	}
	for i, v := range vec {
		codes[i] = categoryCode(v)
	}
}

// compare sets the leans of all nodes by their numeric decisions.
//
//go:noinline
func compare(leans, row []float64, numeric []numericDecision) { // in its caller it would not keep to registers
	leans = leans[:len(numeric)]
	for i := range numeric {
		n := &numeric[i]
		var below uint8
		if row[n.entry] <= n.threshold {
			below = 1
		}
		leans[i] = n.leans[below&1]
	}
}

// lookUp sets the leans of the categorical nodes.
func lookUp(leans []float64, codes []uint32, categorical []categoricalDecision) {
	for i := range categorical {
		c := &categorical[i]
		code := codes[c.feature]
		var in uint32
		if word := int(code / 32); word < len(c.categories) {
			in = c.categories[word] >> (code % 32) & 1
		}
		leans[c.node] = c.leans[in&1]
	}
}

// of is a number that is at most any threshold where a missing value goes left, and NaN, at most none, where it goes right.
func (e entry) of(vec []float64) float64 {
	v := vec[e.feature]
	missing := v != v
	switch {
	case e.missing == missingZero:
		missing = missing || v >= -zeroThreshold && v <= zeroThreshold
	case e.missing != missingNaN && missing:
		return 0
	}
	switch {
	case !missing:
		return v
	case e.left:
		return math.Inf(-1)
	default:
		return math.NaN()
	}
}
