package features

import (
	"slices"
)

// KindsBehind lists the kinds of events that a feature is made of, itself or through the features that its expression
// reads, sorted, each once; none for what reads the request alone.
func (c *Catalogue) KindsBehind(feature int) []string {
	var kinds []string
	for i := range c.reads(feature) {
		kinds = append(kinds, c.source.Features[i].Events...)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
