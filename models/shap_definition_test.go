package models

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"vaglio/training/lightgbm"
)

// The reference is the definition: Shapley values over all coalitions of 8 features, the value of a coalition being the
// tree's mean in which a feature outside follows both branches by their share of training rows.
func TestContributionsAreShapleyValuesByDefinition(t *testing.T) {
	const features, rows = 8, 4000
	rng := rand.New(rand.NewPCG(1, 1))
	d := lightgbm.Dataset{Names: []string{"a", "b", "c", "d", "e", "f", "g", "h"}, Rows: rows,
		Categorical: []bool{false, false, true, false, false, false, false, false}}
	for range rows {
		y := 0.0
		for f := range features {
			v := math.Exp(4 * rng.NormFloat64())
			if f == 2 {
				v = float64(rng.IntN(40))
			}
			if rng.IntN(10) == 0 && f != 2 {
				v = math.NaN()
			}
			d.X = append(d.X, v)
		}
		if rng.IntN(3) == 0 {
			y = 1
		}
		d.Label = append(d.Label, y)
	}
	result, err := lightgbm.Train(t.Context(), lightgbm.Job{Rounds: 3, Train: d, Params: map[string]string{
		"num_leaves": "400", "min_data_in_leaf": "1", "min_sum_hessian_in_leaf": "0"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadModel(result.Model)
	if err != nil {
		t.Fatal(err)
	}
	if m.Depth() < 20 {
		t.Fatalf("depth %d is no test of precision", m.Depth())
	}
	phi := make([]float64, features)
	for range 5 {
		i := rng.IntN(rows)
		vec := d.X[i*features : (i+1)*features]
		if _, err := m.Contributions(phi, vec); err != nil {
			t.Fatal(err)
		}
		for f, want := range shapley(m, vec) {
			if math.Abs(phi[f]-want) > 1e-12 {
				t.Errorf("row %d, feature %d: %v instead of %v", i, f, phi[f], want)
			}
		}
	}
}

func shapley(m *Model, vec []float64) []float64 {
	n := len(vec)
	value := make([]float64, 1<<n)
	for coalition := range value {
		for i := range m.trees {
			value[coalition] += meanOf(&m.trees[i], 0, vec, coalition)
		}
	}
	weight := make([]float64, n) // by the coalition's size: |S|! (n−|S|−1)! / n!
	for s := range weight {
		weight[s] = math.Exp(lgamma(s+1) + lgamma(n-s) - lgamma(n+1))
	}
	phi := make([]float64, n)
	for f := range phi {
		for coalition := range value {
			if coalition>>f&1 == 0 {
				phi[f] += weight[bits.OnesCount(uint(coalition))] * (value[coalition|1<<f] - value[coalition])
			}
		}
	}
	return phi
}

func lgamma(n int) float64 {
	v, _ := math.Lgamma(float64(n))
	return v
}

func meanOf(t *tree, at int32, vec []float64, coalition int) float64 {
	if at < 0 {
		return t.leafValue[^at]
	}
	n := &t.nodes[at]
	if coalition>>n.feature&1 != 0 {
		if n.goesLeft(vec[n.feature]) {
			return meanOf(t, n.left, vec, coalition)
		}
		return meanOf(t, n.right, vec, coalition)
	}
	return (t.rows(n.left)*meanOf(t, n.left, vec, coalition) + t.rows(n.right)*meanOf(t, n.right, vec, coalition)) / n.count
}

func TestGaussLegendreIntegratesPolynomialsExactly(t *testing.T) {
	for n := 1; n <= 64; n++ {
		points, weights := gaussLegendre(n)
		for _, degree := range []int{0, 1, n, 2*n - 1} {
			var got float64
			for p := range points {
				got += weights[p] * math.Pow(points[p], float64(degree))
			}
			if want := 1 / float64(degree+1); math.Abs(got-want) > 1e-14 {
				t.Errorf("%d points, x^%d: %v instead of %v", n, degree, got, want)
			}
		}
	}
}
