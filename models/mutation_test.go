package models_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"vaglio/models"
	"vaglio/training/lightgbm"
)

// What a mutated text may do is be refused, or score every row with a finite number. That it would score with others than
// the model's is for the bundle's hashes to find.
func TestMutatedModelsNeitherPanicNorHangNorFillTheMemory(t *testing.T) {
	good := [][]byte{train(t, "small").Model, train(t, "small one-hot").Model, train(t, "small zero").Model}
	x := odd(3, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	const mutations = 50_000
	refused := 0
	for i := range mutations {
		if !survives(t, mutate(rng, good[i%len(good)]), x) {
			refused++
		}
	}
	if refused < mutations/4 {
		t.Errorf("only %d of %d were refused", refused, mutations)
	}
	var memory runtime.MemStats
	if runtime.ReadMemStats(&memory); memory.Sys > 1<<30 {
		t.Errorf("it took %d bytes of memory", memory.Sys)
	}
}

// Nothing that happens to a file of a bundle changes a score in silence.
func TestABundleWithAMutatedFileIsRefusedOrScoresTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v1")
	if err := models.Write(dir, contents(t, "small", "v1")); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(9, 10))
	want, vec := read(t, "small"), odd(1, 2)
	opened := 0
	for _, name := range bundleFiles {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			bad := mutate(rng, good)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := models.Open(dir)
			if err != nil {
				continue
			}
			opened++
			if name != "manifest.json" && !bytes.Equal(bad, good) {
				t.Errorf("a changed %s was taken", name)
			}
			got, err := b.LogOdds(vec)
			if expected, err2 := want.LogOdds(vec); got != expected || err != nil || err2 != nil {
				t.Errorf("%s: scores %v instead of %v, %v %v", name, got, expected, err, err2)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if opened == 0 {
		t.Error("no changed metric in a manifest was taken")
	}
}

var bundleFiles = []string{"manifest.json", "calibration.json", "golden.json", "features.yaml", "model.txt"}

func TestAMutatedBundleIsRefused(t *testing.T) {
	good := contents(t, "small", "v1")
	rng := rand.New(rand.NewPCG(3, 4))
	trees := bytes.Index(good.Model, []byte("end of trees"))
	dir := t.TempDir()
	accepted := 0
	for i := range 100 {
		c := good
		c.Model = mutate(rng, good.Model[:trees])
		c.Model = append(c.Model, good.Model[trees:]...)
		if models.Write(fmt.Sprintf("%s/v%d", dir, i), c) == nil {
			accepted++
		}
	}
	// The golden rows can't tell a changed training count of a leaf that adds up, an importance or an internal value.
	if accepted > 40 {
		t.Errorf("%d of 100 mutated models went into bundles", accepted)
	}
}

// Each row is one line of a real model spoiled, and what the refusal must say.
func TestWhatLeavesWouldMisreadIsRefusedByLine(t *testing.T) {
	good := string(train(t, "small").Model)
	refused := func(want, old, replacement string) {
		t.Helper()
		at := strings.Index(good, old)
		if at < 0 {
			t.Fatalf("the model has no %q", old)
		}
		end := at + strings.IndexByte(good[at:]+"\n", '\n')
		if strings.HasSuffix(old, "\n") {
			end = at + len(old)
		}
		_, err := models.ReadModel([]byte(good[:at] + replacement + good[end:]))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want an error with %q", replacement, err, want)
		}
	}
	refused(`line 1: want "tree"`, "tree", "forest")
	refused(`line 2: version "v5"`, "version=", "version=v5")
	refused("line 3: num_class=2", "num_class=", "num_class=2")
	refused("line 4: num_tree_per_iteration=3", "num_tree_per_iteration=", "num_tree_per_iteration=3")
	refused("is no integer from 1 to 4095", "max_feature_idx=", "max_feature_idx=0")
	refused("is no integer from 1 to 4095", "max_feature_idx=", "max_feature_idx=1000000000")
	refused("want 9 feature_names", "max_feature_idx=", "max_feature_idx=8")
	refused("objective=binary sigmoid:2", "objective=", "objective=binary sigmoid:2")
	refused("objective=regression", "objective=", "objective=regression")
	refused("line 7: average_output (a random forest)", "objective=", "average_output\nobjective=binary sigmoid:1")
	refused("is not key=value", "label_index=", "label_index")
	refused("feature amount is named twice", "feature_names=", "feature_names=amount amount share age reason merchant hour gap flag noise")
	refused("is not key=value", "feature_names=", "feature_names=a=b count share age reason merchant hour gap flag noise")
	refused(`feature name "a-b"`, "feature_names=", "feature_names=a-b count share age reason merchant hour gap flag noise")
	refused(`feature name ""`, "feature_names=", "feature_names=  count share age reason merchant hour gap flag")
	refused("version is given twice", "num_class=", "num_class=1\nversion=v3")
	refused("unknown key", "num_class=", "num_class=1\nnum_klass=1")
	refused("byte 0x0d", "num_class=", "num_class=1\r")
	refused("tree_sizes: line", "tree_sizes=", "tree_sizes=1 2 x")
	refused("tree_sizes says 1", "tree_sizes=", "tree_sizes=1 1 1 1 1")
	refused("want Tree=0", "Tree=0", "Tree=1")
	refused("is no integer from 1 to 65536", "num_leaves=", "num_leaves=1000000000")
	refused("want 65536 values of leaf_value", "num_leaves=", "num_leaves=65536")
	refused("5 values instead of 6", "split_feature=", "split_feature=0 0 0 0 0")
	refused(`value 0, "10"`, "split_feature=", "split_feature=10 0 0 0 0 0")
	refused(`value 2, "nan"`, "threshold=", "threshold=0 0 nan 0 0 0")
	refused(`value 2, "-inf"`, "threshold=", "threshold=0 0 -inf 0 0 0")
	refused(`value 2, "0x1p2"`, "threshold=", "threshold=0 0 0x1p2 0 0 0")
	refused(`value 1, "12"`, "decision_type=", "decision_type=2 12 2 2 2 2")
	refused(`value 1, "16"`, "decision_type=", "decision_type=2 16 2 2 2 2")
	refused("there is no set of categories", "decision_type=", "decision_type=1 1 1 1 1 1")
	refused("earlier node 0 as its child", "left_child=", "left_child=0 -1 -2 -3 -4 -5")
	refused(`value 0, "6"`, "left_child=", "left_child=6 -1 -2 -3 -4 -5")
	refused(`value 0, "-8"`, "left_child=", "left_child=-8 -1 -2 -3 -4 -5")
	refused("leaf_value: line", "leaf_value=", "leaf_value=inf 0 0 0 0 0 0")
	refused("leaf_value: line", "leaf_value=", "leaf_value=nan 0 0 0 0 0 0")
	refused("leaf_value: line", "leaf_value=", "leaf_value=1e999 0 0 0 0 0 0")
	refused("training rows", "leaf_count=", "leaf_count=1 1 1 1 1 1 1")
	refused(`value 0, "-1"`, "leaf_count=", "leaf_count=-1 1 1 1 1 1 1")
	refused("linear trees", "is_linear=", "is_linear=1")
	refused(`want "end of trees"`, "end of trees", "end of threes")
	refused("tree_sizes says", "end of trees", "")
}

func TestARandomForestIsRefused(t *testing.T) {
	result, err := lightgbm.Train(t.Context(), lightgbm.Job{Rounds: 3, Train: sample(2000, 1),
		Params: map[string]string{"boosting": "rf", "bagging_fraction": "0.5", "bagging_freq": "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := models.ReadModel(result.Model); err == nil || !strings.Contains(err.Error(), "random forest") {
		t.Errorf("got %v", err)
	}
}

// FuzzOpenBundle replaces one file of a real bundle, the manifest's hashes with it: past the hashes, nothing may panic, and
// what opens answers with finite numbers.
func FuzzOpenBundle(f *testing.F) {
	good := filepath.Join(f.TempDir(), "v1")
	if err := models.Write(good, contents(f, "small", "v1")); err != nil {
		f.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	files := map[string][]byte{}
	for i, name := range bundleFiles {
		b, err := os.ReadFile(filepath.Join(good, name))
		if err != nil {
			f.Fatal(err)
		}
		files[name] = b
		for range 10 {
			f.Add(uint8(i), mutate(rng, b))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		name := bundleFiles[int(which)%len(bundleFiles)]
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
			t.Fatal(err)
		}
		changed := map[string][]byte{name: content}
		if name != "manifest.json" {
			was, now := sha256.Sum256(files[name]), sha256.Sum256(content)
			changed["manifest.json"] = bytes.ReplaceAll(files["manifest.json"], []byte(hex.EncodeToString(was[:])), []byte(hex.EncodeToString(now[:])))
		}
		for name, b := range changed {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := models.Open(dir)
		if err != nil {
			return
		}
		vec := odd(1, 1)
		logOdds, err := b.LogOdds(vec)
		if err != nil {
			t.Fatal(err)
		}
		if p := b.Probability(logOdds); !(p >= 0 && p <= 1) || !(b.RiskScore(p) >= 0 && b.RiskScore(p) <= 100) {
			t.Errorf("probability %v, risk score %v", p, b.RiskScore(p))
		}
	})
}

func FuzzReadModel(f *testing.F) {
	good := train(f, "small").Model
	f.Add([]byte(good))
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		f.Add(mutate(rng, good))
	}
	x := odd(20, 1)
	f.Fuzz(func(t *testing.T, text []byte) { survives(t, text, x) })
}

// survives reports whether a text was accepted; accepted, it must score and, where it scores, explain.
func survives(t *testing.T, text []byte, x []float64) bool {
	t.Helper()
	m, err := models.ReadModel(text)
	if err != nil {
		if strings.Contains(err.Error(), "by leaves") {
			t.Errorf("leaves refused what our reader took: %v", err)
		}
		return false
	}
	phi := make([]float64, len(m.Names()))
	for ; len(x) >= len(phi); x = x[len(phi):] {
		logOdds, err := m.LogOdds(x[:len(phi)])
		if err != nil {
			// Finite leaves may add up to an infinity.
			if !strings.Contains(err.Error(), "leaves answered") {
				t.Errorf("score: %v", err)
			}
			continue
		}
		base, err := m.Contributions(phi, x[:len(phi)])
		if err != nil {
			t.Errorf("explain: %v", err)
		}
		scale := math.Abs(base)
		for _, c := range phi {
			scale += math.Abs(c)
		}
		if off := models.AdditivityError(logOdds, base, phi); scale < 1e300 && !(off <= 1e-9*max(1, scale)) {
			t.Errorf("base and contributions are off the log-odds by %v", off)
		}
	}
	return true
}

// mutate changes a text the way broken disks, transfers and attackers do.
func mutate(rng *rand.Rand, text []byte) []byte {
	text = bytes.Clone(text)
	lines := bytes.SplitAfter(text, []byte("\n"))
	line := rng.IntN(len(lines))
	switch rng.IntN(7) {
	case 0:
		text[rng.IntN(len(text))] ^= 1 << rng.IntN(8)
		return text
	case 1:
		text[rng.IntN(len(text))] = "0123456789-=. \n\ri"[rng.IntN(17)]
		return text
	case 2:
		return text[:rng.IntN(len(text))]
	case 3:
		lines = append(lines[:line:line], append([][]byte{lines[line]}, lines[line:]...)...)
	case 4:
		lines = append(lines[:line:line], lines[line+1:]...)
	case 5:
		other := rng.IntN(len(lines))
		lines[line], lines[other] = lines[other], lines[line]
	default:
		values := strings.Fields(string(lines[line]))
		if len(values) > 0 {
			extreme := []string{"-1", "0", "1000000000", "2147483648", "-2147483649", "1e308", "inf", "nan", "", "18446744073709551616"}
			values[rng.IntN(len(values))] = extreme[rng.IntN(len(extreme))]
			lines[line] = []byte(strings.Join(values, " ") + "\n")
		}
	}
	return bytes.Join(lines, nil)
}
