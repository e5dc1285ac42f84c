package models

// TreeUse is how much the trees of a model use a feature.
type TreeUse struct {
	Splits int     // on the feature, in all trees
	Gain   float64 // sum of their gains in the training's loss, by LightGBM, with 6 digits each
}

// TreeUse measures every feature, in the order of Names. Gains are 0 for a model whose text holds none.
func (m *Model) TreeUse() []TreeUse {
	use := make([]TreeUse, len(m.names))
	for i := range m.trees {
		for _, n := range m.trees[i].nodes {
			use[n.feature].Splits++
			use[n.feature].Gain += n.gain
		}
	}
	return use
}
