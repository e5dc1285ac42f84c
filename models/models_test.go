package models_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"vaglio"
	"vaglio/models"
	"vaglio/training/lightgbm"
)

// kinds are the models of the tests, by LightGBM's parameters: each walks other paths of reader and scorer.
var kinds = map[string]map[string]string{
	"gbdt":      {"num_leaves": "31", "max_depth": "12"},
	"dart":      {"boosting": "dart", "num_leaves": "15", "max_depth": "12", "drop_rate": "0.3"},
	"goss":      {"data_sample_strategy": "goss", "num_leaves": "31", "max_depth": "12"},
	"bagging":   {"bagging_fraction": "0.5", "bagging_freq": "1", "feature_fraction": "0.6", "max_depth": "12"},
	"quantised": {"use_quantized_grad": "true", "num_leaves": "31", "max_depth": "12"},
	"zero":      {"zero_as_missing": "true", "num_leaves": "31", "max_depth": "12"},
	"blind":     {"use_missing": "false", "num_leaves": "31", "max_depth": "12"},
	"one-hot":   {"max_cat_to_onehot": "100", "num_leaves": "31", "max_depth": "12"},
	"monotone":  {"monotone_constraints": "1,0,0,0,0,0,0,0,0,0", "num_leaves": "15", "max_depth": "12"},
	"one leaf":  {"min_data_in_leaf": "100000"},
	"deep":      {"num_leaves": "255", "min_data_in_leaf": "1", "min_sum_hessian_in_leaf": "0", "max_bin": "1023"},
	"200x31":    {"num_leaves": "31", "learning_rate": "0.02", "max_depth": "8"},
	"small":     {"num_leaves": "7"},

	"small one-hot": {"num_leaves": "7", "max_cat_to_onehot": "100"},
	"small zero":    {"num_leaves": "7", "zero_as_missing": "true"},
}

var columns = []string{"amount", "count", "share", "age", "reason", "merchant", "hour", "gap", "flag", "noise"}

// sample draws rows with a fraud label: heavy tails, spikes, many zeros, missing values, two categorical columns, one of
// them with more categories than fit a small bit set.
func sample(rows int, seed uint64) lightgbm.Dataset {
	rng := rand.New(rand.NewPCG(seed, 7))
	d := lightgbm.Dataset{Names: columns, Categorical: make([]bool, len(columns)), Rows: rows}
	d.Categorical[4], d.Categorical[5] = true, true
	for range rows {
		x := make([]float64, len(columns))
		x[0] = math.Round(math.Exp(3 + 2*rng.NormFloat64()))
		x[1] = float64(max(0, rng.IntN(9)-4))
		x[2] = rng.Float64()
		x[3] = 1000 * rng.ExpFloat64()
		x[4] = float64(rng.IntN(10) - 1)
		x[5] = float64(rng.IntN(90) - 1)
		x[6] = float64(rng.IntN(24))
		x[7] = rng.ExpFloat64()
		x[8] = float64(rng.IntN(2))
		x[9] = rng.NormFloat64()
		for _, c := range []int{2, 3, 7} {
			if rng.IntN(4) == 0 {
				x[c] = math.NaN()
			}
		}
		z := -3 + 0.5*x[1] + 0.3*math.Log1p(x[0]) + math.Sin(x[5]) + 2*x[8]*float64(int(x[4]+1)%2)
		if x[3] != x[3] || x[3] < 100 {
			z += 1.5
		}
		y := 0.0
		if rng.Float64() < 1/(1+math.Exp(-z)) {
			y = 1
		}
		d.X, d.Label = append(d.X, x...), append(d.Label, y)
	}
	return d
}

// odd draws rows that training never saw: unseen and fractional categories, infinities, tiny numbers, NaN anywhere.
func odd(rows int, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 9))
	x := sample(rows, seed).X
	special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), -1, -0.5, 0.5, 3.9, 31, 32, 63, 64, 89, 90, 1e9, 3e9, 1e300,
		-1e300, 5e-324, 2e-35, -2e-35}
	for i := range x {
		if rng.IntN(6) == 0 {
			x[i] = special[rng.IntN(len(special))]
		}
	}
	return x
}

var trained sync.Map // kind → func() (lightgbm.Result, error)

// train trains a kind of model once for all tests.
func train(t testing.TB, kind string) lightgbm.Result {
	t.Helper()
	once, _ := trained.LoadOrStore(kind, sync.OnceValues(func() (lightgbm.Result, error) {
		params := map[string]string{"learning_rate": "0.1"}
		maps.Copy(params, kinds[kind])
		rounds := 40
		switch {
		case kind == "200x31":
			rounds = 200
		case strings.HasPrefix(kind, "small"):
			rounds = 5
		}
		return lightgbm.Train(t.Context(), lightgbm.Job{Params: params, Rounds: rounds, Train: sample(20_000, 1), Golden: odd(60, 3)}, nil)
	}))
	result, err := once.(func() (lightgbm.Result, error))()
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return result
}

func read(t testing.TB, kind string) *models.Model {
	t.Helper()
	m, err := models.ReadModel(train(t, kind).Model)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return m
}

// catalogue fits the models of the tests.
func catalogue() []byte {
	var b bytes.Buffer
	b.WriteString("name: test\nfeatures:\n")
	for i, name := range columns {
		switch i {
		case 4:
			fmt.Fprintf(&b, "  - {name: %s, categorical: request.reason, categories: [a, b, c, d, e, f, g, h, i]}\n", name)
		case 5:
			categories := make([]string, 89)
			for c := range categories {
				categories[c] = fmt.Sprintf("m%d", c)
			}
			fmt.Fprintf(&b, "  - {name: %s, categorical: request.attributes.merchant, categories: [%s]}\n", name, strings.Join(categories, ", "))
		default:
			fmt.Fprintf(&b, "  - {name: %s, expr: request.amount + %d}\n", name, i)
		}
	}
	return b.Bytes()
}

// contents is a bundle of a kind of model.
func contents(t testing.TB, kind, version string) models.Contents {
	t.Helper()
	result := train(t, kind)
	m := read(t, kind)
	d := sample(5000, 2)
	logOdds, fraud := make([]float64, d.Rows), make([]bool, d.Rows)
	for i := range d.Rows {
		var err error
		if logOdds[i], err = m.LogOdds(d.X[i*len(columns) : (i+1)*len(columns)]); err != nil {
			t.Fatal(err)
		}
		fraud[i] = d.Label[i] == 1
	}
	calibration, err := models.FitPlatt(logOdds, fraud, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := models.Contents{Model: result.Model, Catalogue: catalogue(), Calibration: calibration,
		Manifest: models.Manifest{Name: "refund", Version: version, CreatedAt: 1_700_000_000_000, Metrics: map[string]float64{"auc": 0.9},
			Training: models.Window{From: 400 * vaglio.Day, Until: 500 * vaglio.Day, Rows: 20_000, Positives: 1}, Parameters: kinds[kind],
			Libraries: map[string]string{"lightgbm": result.Version}, Thresholds: models.Thresholds{ApproveBelow: 0.06, DenyFrom: 0.75},
			Population: []models.FeatureQuantiles{{Name: "amount", Q50: 20}}, BaseCurrency: "EUR"}}
	golden := odd(60, 3)
	for i := range result.GoldenRaw {
		c.Golden = append(c.Golden, models.NewGolden(golden[i*len(columns):(i+1)*len(columns)], result.GoldenRaw[i], result.GoldenContributions[i]))
	}
	return c
}
