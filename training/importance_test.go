package training_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vaglio"
	"vaglio/training"
)

const recyclingYAML = `
name: recycling
features:
  - {name: login_failed_24h, entity: customer, events: [login_failed], aggregate: count, window: 24h}
  - {name: login_failed_36h, entity: customer, events: [login_failed], aggregate: count, window: 36h}
  - {name: denied_90d, entity: customer, events: [refund_denied], aggregate: count, window: 90d}
  - {name: denials_of_failures, expr: denied_90d / login_failed_24h}
  - {name: hour, expr: request.hour}
  - {name: channel, categorical: request.attributes.channel}
`

func TestImportanceTellsSignalFromNoiseAndMarksRecycledPolicy(t *testing.T) {
	o := options(t, newHistory(t, planted(true)...))
	o.Catalogue = parse(t, recyclingYAML)
	bundle, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := training.Importances(t.Context(), o.History, bundle, testPeriod, 1, func(training.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if m.Rows != 60*24 || m.SampleOf != m.Rows {
		t.Errorf("%d of %d rows", m.Rows, m.SampleOf)
	}
	byName, shares, others := map[string]training.FeatureImportance{}, 0.0, 0.0
	for _, f := range m.Features {
		byName[f.Name], shares, others = f, shares+f.Share, others+f.ShareOfOthers
	}
	signal := byName["login_failed_24h"].Share + byName["login_failed_36h"].Share
	if signal < 0.6 || byName["hour"].Share > 0.3 || !(math.Abs(shares-1) < 1e-9) || !(math.Abs(others-1) < 1e-9) {
		t.Errorf("%+v", m)
	}
	for name, f := range byName {
		if recycles := name == "denied_90d" || name == "denials_of_failures"; f.RecyclesPolicy != recycles || recycles && f.ShareOfOthers != 0 ||
			recycles != slices.Equal(f.MadeOf, []string{vaglio.KindRefundDenied}) {
			t.Errorf("%s: %+v", name, f)
		}
		if (f.Splits > 0) != (f.Gain > 0) || (f.Splits > 0) != (f.MeanContribution > 0) {
			t.Errorf("%s: %d splits, gain %v, contribution %v", name, f.Splits, f.Gain, f.MeanContribution)
		}
	}
	check, alike, err := training.CheckFeatures(t.Context(), bundle, o, training.DropOptions{Rounds: 20, Seeds: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]string{{"login_failed_24h", "login_failed_36h"}}; !slices.EqualFunc(alike.Groups, want, slices.Equal) {
		t.Errorf("groups %v", alike.Groups)
	}
	for _, d := range check.Dropped {
		switch pays := len(d.Features) == 2 && d.Features[0] == "login_failed_24h"; {
		case pays && (d.Verdict != "pays" || d.Loss < 0.3 || check.Dropped[0].Features[1] != d.Features[1]):
			t.Errorf("without both signals: %+v", d)
		case !pays && d.Verdict == "pays":
			t.Errorf("noise or a copy pays: %+v", d)
		}
	}
}

func TestImportanceOfAFixedBundle(t *testing.T) { // one feature alone decides: all gain, all splits
	h := newHistory(t, planted(true)...)
	o := options(t, h)
	o.Catalogue = parse(t, "name: one\nfeatures:\n  - {name: failed, entity: customer, events: [login_failed], aggregate: count, window: 24h}\n"+
		"  - {name: absent, entity: nobody, events: [login], aggregate: count, window: 24h}\n")
	bundle, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := training.Importances(t.Context(), h, bundle, testPeriod, 1, func(training.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if f := m.Features[0]; f.Name != "failed" || f.Share != 1 || m.Features[1].Splits != 0 {
		t.Errorf("%+v", m.Features)
	}
}

// matrixOf makes a matrix whose columns are those of the rows, of a request every hour.
func matrixOf(t *testing.T, names []string, rows int, value func(row int) []float64) *training.Matrix {
	t.Helper()
	yaml := "name: made\nfeatures:\n"
	for _, name := range names {
		yaml += fmt.Sprintf("  - {name: %s, expr: request.amount}\n", name)
	}
	m := &training.Matrix{Catalogue: parse(t, yaml), Names: names, Categorical: make([]bool, len(names))}
	for i := range rows {
		m.Rows = append(m.Rows, training.Row{ID: fmt.Sprint("r", i), At: t0 + vaglio.Instant(i)*vaglio.Hour, Customer: fmt.Sprint("c", i), Weight: 1,
			Traits: &training.Traits{}})
		m.X = append(m.X, value(i)...)
	}
	return m
}

func TestCorrelationGroups(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "a_cubed", "minus_a", "a_often_missing", "noise", "half_a", "gone_with", "constant", "never"}
	m := matrixOf(t, names, 5000, func(int) []float64 {
		a, missing := random.NormFloat64(), math.NaN()
		sometimes := random.Float64() < 0.4
		pick := func(v float64) float64 {
			if sometimes {
				return missing
			}
			return v
		}
		return []float64{a, a * a * a, -a, pick(math.Exp(a)), random.NormFloat64(), a + random.NormFloat64(), pick(random.NormFloat64()), 7, missing}
	})
	c, err := training.Correlate(t.Context(), m, 0.9, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]string{{"a", "a_cubed", "minus_a", "a_often_missing"}}; !slices.EqualFunc(c.Groups, want, slices.Equal) {
		t.Errorf("groups %v", c.Groups)
	}
	if want := [][]string{{"a_often_missing", "gone_with"}}; !slices.EqualFunc(c.MissingTogether, want, slices.Equal) {
		t.Errorf("missing together %v", c.MissingTogether)
	}
	for _, p := range c.Pairs {
		if (p.B == "minus_a" || p.A == "minus_a") != (p.Rho < 0) && p.Missing == 0 {
			t.Errorf("%+v", p)
		}
		if p.Missing == 0 && math.Abs(math.Abs(p.Rho)-1) > 1e-12 {
			t.Errorf("%+v is not monotone", p)
		}
	}
}

func TestSpearmanOfTies(t *testing.T) {
	x, y := []float64{1, 2, 2, 3, 5}, []float64{2, 1, 4, 4, 5}
	m := matrixOf(t, []string{"x", "y"}, 100, func(i int) []float64 { return []float64{x[i%5], y[i%5]} })
	c, err := training.Correlate(t.Context(), m, 0.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Pairs) != 1 || math.Abs(c.Pairs[0].Rho-spearmanByHand(x, y)) > 1e-12 {
		t.Errorf("%+v, want %v", c.Pairs, spearmanByHand(x, y))
	}
}

// spearmanByHand is Pearson's correlation of mean ranks, each counted out.
func spearmanByHand(x, y []float64) float64 {
	rank := func(of []float64) []float64 {
		out := make([]float64, len(of))
		for i, v := range of {
			for _, other := range of {
				switch {
				case other < v:
					out[i]++
				case other == v:
					out[i] += 0.5
				}
			}
		}
		return out
	}
	a, b := rank(x), rank(y)
	mean := float64(len(x)) / 2
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+(a[i]-mean)*(b[i]-mean), aa+(a[i]-mean)*(a[i]-mean), bb+(b[i]-mean)*(b[i]-mean)
	}
	return ab / math.Sqrt(aa*bb)
}

func TestAChainIsNoGroup(t *testing.T) { // a is like b and b like c, but a is not like c
	random := rand.New(rand.NewPCG(1, 2))
	m := matrixOf(t, []string{"a", "b", "c"}, 4000, func(int) []float64 {
		b := random.NormFloat64()
		noise := random.NormFloat64() * 0.4
		return []float64{b + noise, b, b - noise}
	})
	c, err := training.Correlate(t.Context(), m, 0.9, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Groups) != 1 || len(c.Groups[0]) != 2 || len(c.Pairs) != 2 {
		t.Errorf("groups %v of pairs %+v", c.Groups, c.Pairs)
	}
}

func TestCorrelationWantsAThreshold(t *testing.T) {
	m := matrixOf(t, []string{"a", "b"}, 3, func(i int) []float64 { return []float64{float64(i), 1} })
	for _, bad := range []float64{0, -1, 1.1, math.NaN()} {
		if _, err := training.Correlate(t.Context(), m, bad, 1); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func BenchmarkCorrelate(b *testing.B) {
	names := make([]string, 60)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	random := rand.New(rand.NewPCG(1, 2))
	m := &training.Matrix{Names: names, Categorical: make([]bool, 60), Rows: make([]training.Row, 250_000), X: make([]float64, 250_000*60)}
	for i := range m.X {
		if m.X[i] = math.Round(random.NormFloat64() * 1000); random.IntN(5) == 0 {
			m.X[i] = math.NaN()
		}
	}
	for b.Loop() {
		if _, err := training.Correlate(b.Context(), m, 0.9, 1); err != nil {
			b.Fatal(err)
		}
	}
}
