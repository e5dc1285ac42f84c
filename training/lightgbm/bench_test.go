package lightgbm_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"

	"vaglio/training/lightgbm"
)

// BenchmarkTrain is the training of 1.75 million requests with 30 features, 500 rounds, as default parameters do it. It needs
// two to three minutes of two cores for each number of bins.
func BenchmarkTrain(b *testing.B) {
	const rows, rounds = 1_750_000, 500
	for _, bins := range []int{255, 512} {
		b.Run(fmt.Sprint(bins, "bins"), func(b *testing.B) {
			job := lightgbm.Job{Rounds: rounds, Train: millions(rows), Params: map[string]string{"max_bin": strconv.Itoa(bins), "learning_rate": "0.05",
				"num_leaves": "31", "max_depth": "8", "min_data_in_leaf": "20", "feature_fraction": "0.8", "bagging_fraction": "0.9", "bagging_freq": "1",
				"lambda_l2": "5"}}
			for b.Loop() {
				result, err := lightgbm.Train(b.Context(), job, nil)
				if err != nil || result.BestIteration != rounds {
					b.Fatal(result.BestIteration, err)
				}
			}
			var children syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &children); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(children.Maxrss)/(1<<20), "GiB-child")
		})
	}
}

// millions are rows of amounts that cluster, counts, and times, some of them missing; a few have to do with fraud.
func millions(rows int) lightgbm.Dataset {
	const cols = 30
	random := rand.New(rand.NewPCG(5, 6))
	d := lightgbm.Dataset{Rows: rows, X: make([]float64, rows*cols), Label: make([]float64, rows)}
	for i := range cols {
		d.Names = append(d.Names, fmt.Sprint("feature_", i))
	}
	for row := range rows {
		x := d.X[row*cols : (row+1)*cols]
		for i := range x {
			switch i % 3 {
			case 0:
				x[i] = math.Round(math.Exp(3+1.5*random.NormFloat64())) * 5
			case 1:
				x[i] = math.Floor(random.ExpFloat64() * 3)
			default:
				x[i] = random.ExpFloat64() * 1000
				if random.IntN(4) == 0 {
					x[i] = math.NaN()
				}
			}
		}
		risk := -5.0 + x[1]/3
		if x[2] < 100 {
			risk += 2
		}
		if math.Mod(x[0], 50) == 0 {
			risk++
		}
		if random.Float64() < 1/(1+math.Exp(-risk)) {
			d.Label[row] = 1
		}
	}
	return d
}
