package models_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"vaglio/models"
	"vaglio/training/lightgbm"
)

// The reference is LightGBM 4.7.0's own library.
func TestScoresAreLightGBMsBitForBit(t *testing.T) {
	x := odd(100_000, 11)
	for kind := range kinds {
		m := read(t, kind)
		rows := 5000
		if kind == "gbdt" {
			rows = 100_000
		}
		x := x[:rows*len(columns)]
		want, err := lightgbm.Predict(t.Context(), train(t, kind).Model, x, len(columns))
		if err != nil {
			t.Fatal(err)
		}
		differing := 0
		for i := range rows {
			got, err := m.LogOdds(x[i*len(columns) : (i+1)*len(columns)])
			if err != nil {
				t.Fatalf("%s: row %d: %v", kind, i, err)
			}
			if math.Float64bits(got) != math.Float64bits(want[i]) {
				if differing++; differing == 1 {
					t.Errorf("%s: row %d %v: %v, LightGBM %v", kind, i, x[i*len(columns):(i+1)*len(columns)], got, want[i])
				}
			}
		}
		if differing > 0 {
			t.Errorf("%s: %d of %d rows differ", kind, differing, rows)
		}
	}
}

// In log-odds, where the contributions of these models are up to 4: measured, the worst of all kinds is 1.3e-14.
func TestContributionsAreLightGBMsUpToItsPrecision(t *testing.T) {
	const rows, tolerance = 300, 1e-12
	x := odd(rows, 12)
	for kind := range kinds {
		m := read(t, kind)
		if m.Depth() > 12 {
			continue
		}
		want, err := lightgbm.Contributions(t.Context(), train(t, kind).Model, x, len(columns))
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		phi := make([]float64, len(columns))
		for i := range rows {
			base, err := m.Contributions(phi, x[i*len(columns):(i+1)*len(columns)])
			if err != nil {
				t.Fatalf("%s: row %d: %v", kind, i, err)
			}
			for j, got := range append(slices.Clone(phi), base) {
				worst = max(worst, math.Abs(got-want[i][j]))
			}
		}
		if !(worst <= tolerance) {
			t.Errorf("%s, depth %d: a contribution differs by %v", kind, m.Depth(), worst)
		}
	}
}

// What differs between the versions of the format is not about trees.
func TestVersionsTwoToFourAreRead(t *testing.T) {
	text := string(train(t, "small").Model)
	want := read(t, "small")
	x := odd(100, 14)
	for _, version := range []string{"v2", "v3", "v4"} {
		m, err := models.ReadModel([]byte(strings.Replace(text, "version=v4", "version="+version, 1)))
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		for i := 0; i < len(x); i += len(columns) {
			a, err := want.LogOdds(x[i : i+len(columns)])
			b, err2 := m.LogOdds(x[i : i+len(columns)])
			if a != b || err != nil || err2 != nil {
				t.Errorf("%s: %v instead of %v, %v %v", version, b, a, err, err2)
			}
		}
	}
}

func TestAVectorOfAnotherLengthIsRefused(t *testing.T) {
	m := read(t, "gbdt")
	for _, n := range []int{0, len(columns) - 1, len(columns) + 1} {
		if _, err := m.LogOdds(make([]float64, n)); err == nil {
			t.Errorf("a vector of %d values was scored", n)
		}
		if _, err := m.Contributions(make([]float64, len(columns)), make([]float64, n)); err == nil {
			t.Errorf("a vector of %d values was explained", n)
		}
	}
	if _, err := m.Contributions(make([]float64, 3), make([]float64, len(columns))); err == nil {
		t.Error("contributions fitted into 3 values")
	}
}

func TestScoringDoesNotAllocate(t *testing.T) {
	m := read(t, "gbdt")
	vec, phi := sample(1, 5).X, make([]float64, len(columns))
	if n := testing.AllocsPerRun(1000, func() { m.LogOdds(vec) }); n != 0 {
		t.Errorf("LogOdds allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { m.Contributions(phi, vec) }); n != 0 {
		t.Errorf("Contributions allocates %v times", n)
	}
}
