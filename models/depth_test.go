package models_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vaglio/models"
	"vaglio/training/lightgbm"
)

// Far beyond the depth at which LightGBM's own recursion breaks down, which is why the reference is the score.
func TestContributionsAddUpAtAnyDepth(t *testing.T) {
	const rows = 200
	addUp := func(name string, m *models.Model, x []float64, within float64) {
		t.Helper()
		phi := make([]float64, len(m.Names()))
		for ; len(x) > 0; x = x[len(phi):] {
			vec := x[:len(phi)]
			logOdds, err := m.LogOdds(vec)
			if err != nil {
				t.Fatal(err)
			}
			base, err := m.Contributions(phi, vec)
			if err != nil {
				t.Fatal(err)
			}
			if off := models.AdditivityError(logOdds, base, phi); !(off <= within) {
				t.Errorf("%s: contributions to %v are off by %v", name, logOdds, off)
			}
		}
	}
	trained := read(t, "deep")
	if trained.Depth() < 20 {
		t.Fatalf("the deep model has depth %d", trained.Depth())
	}
	addUp("trained", trained, odd(rows, 13), 1e-11)
	for _, depth := range []int{1, 2, 30, 100, 187, 400} {
		for _, features := range []int{2, 20, 300} {
			name := fmt.Sprintf("depth %d, %d features", depth, features)
			rng := rand.New(rand.NewPCG(uint64(depth), uint64(features)))
			text := chain(rng, depth, features)
			m, err := models.ReadModel(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if m.Depth() != depth {
				t.Fatalf("%s: read as depth %d", name, m.Depth())
			}
			x := make([]float64, rows*features)
			for i := range x {
				x[i] = rng.NormFloat64()
			}
			addUp(name, m, x, 1e-9)
		}
	}
}

// LightGBM takes the chains too, with every type of missing values, and scores them as we do.
func TestDeepTreesAreLightGBMs(t *testing.T) {
	const depth, features, rows = 187, 20, 50
	rng := rand.New(rand.NewPCG(1, 2))
	text := chain(rng, depth, features)
	x := make([]float64, rows*features)
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), 1e-36, -1e-34}
	for i := range x {
		if x[i] = rng.NormFloat64(); rng.IntN(3) == 0 {
			x[i] = special[rng.IntN(len(special))]
		}
	}
	want, err := lightgbm.Predict(t.Context(), text, x, features)
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.ReadModel(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if got, err := m.LogOdds(x[i*features : (i+1)*features]); err != nil || math.Float64bits(got) != math.Float64bits(want[i]) {
			t.Errorf("row %d: %v, %v, LightGBM %v", i, got, err, want[i])
		}
	}
}

// chain is LightGBM's text of one tree whose every split cuts one training row off: as deep as can be. Every second one
// cuts where few vectors are.
func chain(rng *rand.Rand, depth, features int) []byte {
	list := func(n int, value func(i int) any) string {
		values := make([]string, n)
		for i := range values {
			values[i] = fmt.Sprint(value(i))
		}
		return strings.Join(values, " ")
	}
	zero := func(int) any { return 0 }
	threshold := func(i int) any { return rng.NormFloat64() - float64(i%2)*4 }
	decision := func(int) any { return 2 * rng.IntN(6) } // missing: none, zero or NaN, to the right or to the left
	right := func(i int) any {
		if i == depth-1 {
			return ^depth
		}
		return i + 1
	}
	tree := fmt.Sprintf("Tree=0\nnum_leaves=%d\nnum_cat=0\nsplit_feature=%s\nsplit_gain=%s\nthreshold=%s\ndecision_type=%s\nleft_child=%s\n"+
		"right_child=%s\nleaf_value=%s\nleaf_weight=%s\nleaf_count=%s\ninternal_value=%s\ninternal_weight=%s\ninternal_count=%s\n"+
		"is_linear=0\nshrinkage=1\n\n\n",
		depth+1, list(depth, func(int) any { return rng.IntN(features) }), list(depth, zero), list(depth, threshold), list(depth, decision),
		list(depth, func(i int) any { return ^i }), list(depth, right), list(depth+1, func(int) any { return rng.NormFloat64() }),
		list(depth+1, zero), list(depth+1, func(int) any { return 1 }), list(depth, zero), list(depth, zero),
		list(depth, func(i int) any { return depth - i + 1 }))
	return fmt.Appendf(nil, "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=%d\nobjective=binary sigmoid:1\n"+
		"feature_names=%s\nfeature_infos=%s\ntree_sizes=%d\n\n%send of trees\n", features-1,
		list(features, func(i int) any { return fmt.Sprintf("f%d", i) }), list(features, func(int) any { return "[-9:9]" }), len(tree), tree)
}
