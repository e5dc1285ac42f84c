package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vaglio/training/lightgbm"
)

// The sizes that are measured, and one that is quickly trained: 40 features, six of them categorical, as the service's
// catalogue has, with missing values.
var sizes = map[string]func() (trainedModel, error){
	"200x31": sync.OnceValues(func() (trainedModel, error) { return trainSize(200, 31, 8) }),
	"40x63":  sync.OnceValues(func() (trainedModel, error) { return trainSize(40, 63, 12) }),
	"500x63": sync.OnceValues(func() (trainedModel, error) { return trainSize(500, 63, 12) }),
}

var measured = []string{"200x31", "500x63"}

type trainedModel struct {
	text []byte
	rows []float64
}

const benchColumns = 40

func trainSize(rounds, leaves, depth int) (trainedModel, error) {
	const rows = 20_000
	random := rand.New(rand.NewPCG(uint64(rounds), 1))
	d := lightgbm.Dataset{Rows: rows, Categorical: make([]bool, benchColumns)}
	for c := range benchColumns {
		d.Names = append(d.Names, fmt.Sprintf("f%d", c))
		d.Categorical[c] = c%7 == 3
	}
	for range rows {
		z := -2.0
		for c := range benchColumns {
			v := math.Exp(2 * random.NormFloat64())
			if d.Categorical[c] {
				v = float64(random.IntN(20) - 1)
				z += math.Sin(v+float64(c)) / 2
			} else if random.IntN(8) == 0 {
				v = math.NaN()
				z += 0.1
			} else {
				z += math.Log(v) * float64(c%5-2) / 6
			}
			d.X = append(d.X, v)
		}
		y := 0.0
		if random.Float64() < sigmoid(z) {
			y = 1
		}
		d.Label = append(d.Label, y)
	}
	result, err := lightgbm.Train(background, lightgbm.Job{Rounds: rounds, Train: d, Params: map[string]string{
		"num_leaves": fmt.Sprint(leaves), "max_depth": fmt.Sprint(depth), "learning_rate": "0.02"}}, nil)
	return trainedModel{result.Model, d.X[:1000*benchColumns]}, err
}

func sized(t testing.TB, size string) (*Model, trainedModel) {
	t.Helper()
	trained, err := sizes[size]()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadModel(trained.text)
	if err != nil {
		t.Fatal(err)
	}
	return m, trained
}

// everyRow calls what is measured with one row after the other. Beside the mean it reports the fastest stretch of rows that took
// a millisecond, which other processes on the machine disturb less.
func everyRow(b *testing.B, trained trainedModel, explain func(dst, vec []float64)) {
	dst := make([]float64, benchColumns)
	at, rows, fastest := 0, 0, math.Inf(1)
	b.ReportAllocs()
	began := time.Now()
	for b.Loop() {
		explain(dst, trained.rows[at:at+benchColumns])
		at = (at + benchColumns) % len(trained.rows)
		rows++
		if took := time.Since(began); took >= time.Millisecond {
			fastest = min(fastest, float64(took.Nanoseconds())/float64(rows))
			began, rows = time.Now(), 0
		}
	}
	b.ReportMetric(fastest, "fastest-ns/row")
}

func BenchmarkScore(b *testing.B) {
	for _, size := range measured {
		b.Run(size, func(b *testing.B) {
			m, trained := sized(b, size)
			everyRow(b, trained, func(_, vec []float64) {
				if _, err := m.LogOdds(vec); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkContributions(b *testing.B) {
	for _, size := range measured {
		b.Run(size+"/ours", func(b *testing.B) {
			m, trained := sized(b, size)
			everyRow(b, trained, func(dst, vec []float64) {
				if _, err := m.Contributions(dst, vec); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(size+"/algorithm2", func(b *testing.B) {
			m, trained := sized(b, size)
			everyRow(b, trained, func(dst, vec []float64) { m.algorithm2(dst, vec) })
		})
		// The time of LightGBM's library for some rows more, in a process that uses one thread.
		b.Run(size+"/lightgbm", func(b *testing.B) {
			m, trained := sized(b, size)
			b.Setenv("OMP_NUM_THREADS", "1")
			took := func(rows int) time.Duration {
				began := time.Now()
				if _, err := lightgbm.Contributions(b.Context(), trained.text, trained.rows[:rows*benchColumns], benchColumns); err != nil {
					b.Fatal(err)
				}
				return time.Since(began)
			}
			const few = 20
			more := 80_000 / m.Trees()
			fastest := func(rows int) time.Duration { return min(took(rows), took(rows), took(rows)) }
			var perRow time.Duration
			for b.Loop() {
				perRow = (fastest(few+more) - fastest(few)) / time.Duration(more)
			}
			b.ReportMetric(float64(perRow.Nanoseconds()), "fastest-ns/row")
		})
	}
}

func BenchmarkOpenBundle(b *testing.B) {
	for _, size := range measured {
		b.Run(size, func(b *testing.B) {
			_, trained := sized(b, size)
			dir := filepath.Join(b.TempDir(), "v1")
			if err := Write(dir, bundleOf(b, trained)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := Open(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func bundleOf(b *testing.B, trained trainedModel) Contents {
	b.Helper()
	golden := trained.rows[:64*benchColumns]
	raw, err := lightgbm.Predict(b.Context(), trained.text, golden, benchColumns)
	if err != nil {
		b.Fatal(err)
	}
	contributions, err := lightgbm.Contributions(b.Context(), trained.text, golden, benchColumns)
	if err != nil {
		b.Fatal(err)
	}
	c := Contents{Model: trained.text, Manifest: Manifest{Name: "bench", Version: "v1", BaseCurrency: "EUR"},
		Calibration: Calibration{Slope: 1, Percentiles: []float64{0, 1}}, Catalogue: []byte("name: bench\nfeatures:\n")}
	for i := range benchColumns {
		row := fmt.Sprintf("  - {name: f%d, expr: request.amount + %d}\n", i, i)
		if i%7 == 3 {
			row = fmt.Sprintf("  - {name: f%d, categorical: request.attributes.a%d, categories: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s]}\n", i, i)
		}
		c.Catalogue = append(c.Catalogue, row...)
	}
	for i := range raw {
		c.Golden = append(c.Golden, NewGolden(golden[i*benchColumns:(i+1)*benchColumns], raw[i], contributions[i]))
	}
	return c
}

func TestMain(m *testing.M) {
	lightgbm.Main()
	os.Exit(m.Run())
}
