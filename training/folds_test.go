package training_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
	"vaglio/training/lightgbm"
)

func trained(t *testing.T, o training.Options) (models.Manifest, training.Evaluation) {
	t.Helper()
	bundle, e, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return bundle.Manifest(), e
}

func TestEachFoldIsValidatedAfterItsGapAndTheModelKnowsAllRows(t *testing.T) {
	o := options(t, plantedHistory(t))
	o.Folds, o.Gap = 3, 10*vaglio.Day
	m, e := trained(t, o)
	if len(m.Folds) != 3 || m.Training.Rows != 90*24+1 {
		t.Fatalf("%d folds, trained on %d rows", len(m.Folds), m.Training.Rows)
	}
	validated := 0
	var mean float64
	for i, f := range m.Folds {
		if gap := f.Validation.From - f.Training.Until; gap < o.Gap-1 || gap > o.Gap+vaglio.Hour {
			t.Errorf("fold %d: the gap is %v days", i+1, float64(gap)/float64(vaglio.Day))
		}
		if i > 0 && (f.Validation.From <= m.Folds[i-1].Validation.From || f.Training.Rows <= m.Folds[i-1].Training.Rows) {
			t.Errorf("fold %d does not come after the one before", i+1)
		}
		validated += f.Validation.Rows
		mean += f.Metrics["average_precision"] / 3
	}
	if m.Calibration.Rows != validated {
		t.Errorf("calibrated on %d rows, the folds validate %d", m.Calibration.Rows, validated)
	}
	if math.Abs(m.Metrics["average_precision_folds_mean"]-mean) > 1e-12 || m.Metrics["average_precision_folds_sd"] <= 0 {
		t.Errorf("metrics %v", m.Metrics)
	}
	if e.ROCAUC < 0.95 {
		t.Errorf("AUC %v of a signal that is nearly the label", e.ROCAUC)
	}
	o.Folds = 40
	o.Dir += "2"
	if _, _, err := training.Train(t.Context(), o); err == nil || !strings.Contains(err.Error(), "fold 1 of 40") || !strings.Contains(err.Error(), "fewer folds") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutRefitTheModelIsTheOneThatWasValidated(t *testing.T) {
	o := options(t, plantedHistory(t))
	o.NoRefit = true
	m, _ := trained(t, o)
	if m.Training.Rows != m.Folds[0].Training.Rows || m.Metrics["best_iteration"] != float64(m.Folds[0].BestIteration) {
		t.Errorf("trained on %d rows, validated a model of %d", m.Training.Rows, m.Folds[0].Training.Rows)
	}
}

func TestGuardedCustomersAreTestedOnlyIfTheyAreNew(t *testing.T) {
	events := planted(true)
	for i := range events { // every tenth customer is one of ten regular ones
		var n int
		if _, err := fmt.Sscanf(events[i].Entities.Get("customer"), "c%d", &n); err == nil && n%10 == 0 {
			events[i].Entities = events[i].Entities.With("customer", fmt.Sprint("regular", n/10%10))
		}
	}
	o := options(t, newHistory(t, events...))
	plain, _ := trained(t, o)
	o.CustomerGuard, o.Dir = true, o.Dir+"2"
	guarded, e := trained(t, o)
	if plain.Test.Rows != 60*24 || guarded.Test.Rows != 54*24 || e.Rows != guarded.Test.Rows {
		t.Errorf("tested on %d, with the guard on %d", plain.Test.Rows, guarded.Test.Rows)
	}
	if plain.Calibration.Rows != 433 || guarded.Calibration.Rows >= 400 || guarded.Folds[0].Training.Rows != plain.Folds[0].Training.Rows {
		t.Errorf("validated on %d, with the guard on %d", plain.Calibration.Rows, guarded.Calibration.Rows)
	}
}

func TestClassWeightsMoveRawScoresAndCalibrationMovesProbabilitiesBack(t *testing.T) {
	for name, value := range map[string]string{"scale_pos_weight": "10", "is_unbalance": "true"} {
		o := options(t, plantedHistory(t))
		o.Params = map[string]string{name: value, "feature_fraction": "1"} // of three features, two of them noise, LightGBM gives up
		m, e := trained(t, o)
		var mean float64
		for _, p := range e.Predictions {
			mean += p.Probability / float64(e.Rows)
		}
		if share := float64(e.Frauds) / float64(e.Rows); math.Abs(mean-share) > 0.03 {
			t.Errorf("%s: the mean probability is %.3f, the share of fraud %.3f", name, mean, share)
		}
		if e.ROCAUC < 0.95 || m.Parameters[name] != value || m.Metrics["best_iteration"] < 10 {
			t.Errorf("%s: AUC %v, %v rounds, %v", name, e.ROCAUC, m.Metrics["best_iteration"], m.Parameters)
		}
	}
}

func TestAModelWithoutASplitIsNone(t *testing.T) {
	o := options(t, plantedHistory(t))
	o.Params = map[string]string{"min_data_in_leaf": "100000"}
	if _, _, err := training.Train(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nothing to split among 1441 requests") {
		t.Errorf("got %v", err)
	}
}

func TestLabelsOfLittleWeightTeachLittle(t *testing.T) {
	events := planted(true)
	for i := range events {
		if events[i].Kind == vaglio.KindFraudConfirmed {
			events[i].Attributes = vaglio.FieldsOf("weight", "0")
		}
	}
	o := options(t, newHistory(t, events...))
	if _, _, err := training.Train(t.Context(), o); err == nil || !strings.Contains(err.Error(), "0 frauds among") {
		t.Errorf("labels of no weight: %v", err)
	}
}

func TestMachinesTrainTogetherAndTheFirstWritesTheBundle(t *testing.T) {
	h := plantedHistory(t)
	alone, expected := trained(t, options(t, h))
	machines := freeAddresses(t, 2)
	bundles, evaluations := make([]*models.Bundle, 2), make([]training.Evaluation, 2)
	both, ctx := errgroup.WithContext(t.Context()) // one that fails ends the other
	for self := range machines {
		o := options(t, h)
		o.Network = &lightgbm.Network{Machines: machines, Self: self}
		both.Go(func() (err error) {
			bundles[self], evaluations[self], err = training.Train(ctx, o)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	if bundles[0] == nil || bundles[1] != nil {
		t.Fatalf("bundles %v", bundles)
	}
	if m := bundles[0].Manifest(); m.Training.Rows != alone.Training.Rows || math.Abs(evaluations[0].ROCAUC-expected.ROCAUC) > 0.02 {
		t.Errorf("AUC %v together, %v alone; %+v", evaluations[0].ROCAUC, expected.ROCAUC, m.Training)
	}
}

// nextPort begins anywhere: another run of these tests may have used its ports a minute ago, and LightGBM can't have them yet.
var nextPort = 10_000 + rand.IntN(5_000)

// freeAddresses are some of this machine where nobody listens, on ports that the system gives to no connection by itself, that
// no other package's tests use, each of them once, and with some free ones behind each.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for len(addresses) < n {
		nextPort += 16
		l, err := net.Listen("tcp4", fmt.Sprint("127.0.0.1:", nextPort))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
