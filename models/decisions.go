package models

import "math"

// decisions are all splits of a model, to be decided for a vector at once and without branches: a vector is first spread
// into a row with one entry for each way in which splits treat missing values, in which a plain comparison decides.
type decisions struct {
	count       int // of decisions, those of trees' imaginary nodes included
	entries     []entry
	numeric     []numericDecision
	categorical []categoricalDecision
}

// entry is a feature under one treatment of missing values.
type entry struct {
	feature int32
	missing uint8 // as LightGBM numbers them
	left    bool  // where missing values go
}

type numericDecision struct {
	threshold float64
	at        int32
	entry     uint16
	mirrored  uint8
}

type categoricalDecision struct {
	node     *node
	at       int32
	mirrored uint8
}

func (d *decisions) add(n *node, at int, mirrored bool) {
	flip := uint8(0)
	if mirrored {
		flip = 1
	}
	if n.decision&isCategorical != 0 {
		d.categorical = append(d.categorical, categoricalDecision{n, int32(at), flip})
		return
	}
	wanted := entry{n.feature, n.missing(), n.decision&defaultLeft != 0}
	if wanted.missing != missingZero && wanted.missing != missingNaN {
		wanted.missing, wanted.left = 0, false
	}
	i := 0
	for i < len(d.entries) && d.entries[i] != wanted {
		i++
	}
	if i == len(d.entries) {
		d.entries = append(d.entries, wanted)
	}
	d.numeric = append(d.numeric, numericDecision{n.threshold, int32(at), uint16(i), flip})
}

// decide sets by node 1 for left, in trees as they are mirrored.
func (d *decisions) decide(left []uint8, row, vec []float64) {
	for i := range d.entries {
		row[i] = d.entries[i].of(vec)
	}
	for i := range d.numeric {
		n := &d.numeric[i]
		var goes uint8
		if row[n.entry] <= n.threshold {
			goes = 1
		}
		left[n.at] = goes ^ n.mirrored
	}
	for i := range d.categorical {
		c := &d.categorical[i]
		var goes uint8
		if c.node.goesLeft(vec[c.node.feature]) {
			goes = 1
		}
		left[c.at] = goes ^ c.mirrored
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
