package models

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/dmitryikh/leaves"
)

// Model is one LightGBM model of log-odds, read twice from one text: by package leaves, which scores, and by our own
// reader, which explains. It is immutable and safe for concurrent use.
type Model struct {
	names       []string
	categorical []bool // by feature: some tree splits it by categories
	numeric     []bool // by feature: some tree splits it by a threshold
	trees       []tree
	depth       int
	ensemble    *leaves.Ensemble
	explainer   explainer
	outputs     sync.Pool // *[1]float64: leaves writes through an interface, which would allocate
}

// ReadModel reads LightGBM's text format strictly: see parseLightGBM for what is refused. Errors name the line.
func ReadModel(text []byte) (*Model, error) {
	p, err := parseLightGBM(text)
	if err != nil {
		return nil, fmt.Errorf("read LightGBM model: %w", err)
	}
	m := &Model{names: p.names, trees: p.trees, categorical: make([]bool, len(p.names)), numeric: make([]bool, len(p.names)),
		outputs: sync.Pool{New: func() any { return new([1]float64) }}}
	for i := range m.trees {
		t := &m.trees[i]
		m.depth = max(m.depth, t.depth)
		for j := range t.nodes {
			if n := &t.nodes[j]; n.decision&isCategorical != 0 {
				m.categorical[n.feature] = true
			} else {
				m.numeric[n.feature] = true
			}
		}
	}
	for i, name := range m.names {
		if m.categorical[i] && m.numeric[i] {
			return nil, fmt.Errorf("read LightGBM model: feature %s is split both by categories and by thresholds", name)
		}
	}
	if m.ensemble, err = readLeaves(text, p); err != nil {
		return nil, fmt.Errorf("read LightGBM model by leaves: %w", err)
	}
	if got := m.ensemble.NEstimators(); got != len(m.trees) || m.ensemble.NFeatures() != len(m.names) {
		return nil, fmt.Errorf("read LightGBM model by leaves: %d trees of %d features instead of %d of %d",
			got, m.ensemble.NFeatures(), len(m.trees), len(m.names))
	}
	m.explainer.prepare(m.trees, len(m.names))
	return m, nil
}

// readLeaves gives leaves the text with the version that it knows: v4 differs from v3 only behind the trees.
func readLeaves(text []byte, p *parsed) (e *leaves.Ensemble, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	rewritten := io.MultiReader(bytes.NewReader(text[:p.versionAt]), strings.NewReader("v3"), bytes.NewReader(text[p.versionAt+len(p.version):]))
	return leaves.LGEnsembleFromReader(bufio.NewReader(rewritten), false)
}

// Names lists the features in the order of the vector. The slice is the model's own: read only.
func (m *Model) Names() []string { return m.names }

// Trees is the number of trees.
func (m *Model) Trees() int { return len(m.trees) }

// Depth is the number of splits on the longest path of any tree.
func (m *Model) Depth() int { return m.depth }

// LogOdds scores one vector of len(Names()) values: numbers, NaN for a missing one, category codes or -1. The answer is
// finite. It does not allocate, except for a vector with NaN in a categorical entry.
func (m *Model) LogOdds(vec []float64) (logOdds float64, err error) {
	// Predict of leaves reads a short vector as "0", and panics on what it did not foresee.
	if len(vec) != len(m.names) {
		return 0, fmt.Errorf("score: a vector of %d values for %d features", len(vec), len(m.names))
	}
	defer func() {
		if r := recover(); r != nil {
			logOdds, err = 0, fmt.Errorf("score: panic in leaves: %v", r)
		}
	}()
	output := m.outputs.Get().(*[1]float64)
	defer m.outputs.Put(output)
	output[0] = math.NaN()
	if err := m.ensemble.Predict(m.withoutNaNCategories(vec), 0, output[:]); err != nil {
		return 0, fmt.Errorf("score: %w", err)
	}
	if !isFinite(output[0]) {
		return 0, fmt.Errorf("score: leaves answered %v", output[0])
	}
	return output[0], nil
}

// withoutNaNCategories replaces NaN in categorical entries by -1, which goes the same way everywhere: int32(NaN), which
// leaves takes, is negative on amd64 and 0, a category, on arm64.
func (m *Model) withoutNaNCategories(vec []float64) []float64 {
	copied := false
	for i, v := range vec {
		if v != v && m.categorical[i] {
			if !copied {
				vec, copied = append([]float64(nil), vec...), true
			}
			vec[i] = -1
		}
	}
	return vec
}

// ownLogOdds scores by our own reading of the text, adding in the order in which leaves and LightGBM add.
func (m *Model) ownLogOdds(vec []float64) float64 {
	var sum float64
	for i := range m.trees {
		t := &m.trees[i]
		sum += t.leafValue[t.leaf(vec)]
	}
	return sum
}

// Contributions fills dst, of len(Names()) values, with the exact path-dependent Shapley values of the features in
// log-odds (see explainer), and returns the base value: the model's mean over its training rows. Base and contributions add
// up to what [Model.LogOdds] answers, up to rounding: two readings of one text, so whoever decides by them compares (see
// [AdditivityError]). It does not allocate.
func (m *Model) Contributions(dst, vec []float64) (base float64, err error) {
	if len(vec) != len(m.names) || len(dst) != len(m.names) {
		return 0, fmt.Errorf("explain: a vector of %d values and room for %d for %d features", len(vec), len(dst), len(m.names))
	}
	return m.explainer.explain(dst, vec), nil
}

// AdditivityError is how far base + contributions are from the log-odds: |base + Σφ − logOdds|.
func AdditivityError(logOdds, base float64, contributions []float64) float64 {
	sum := base
	for _, phi := range contributions {
		sum += phi
	}
	return math.Abs(sum - logOdds)
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
