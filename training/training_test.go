package training_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/models"
	"vaglio/training"
	"vaglio/training/lightgbm"
)

var dsn string

func TestMain(m *testing.M) {
	embedded.Main()
	lightgbm.Main()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "training")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		server, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		if err != nil {
			panic(err)
		}
		defer server.Close()
		dsn = server.DSN()
		defer func() {
			if shared != nil {
				shared.Close()
			}
		}()
		return m.Run()
	}())
}

const t0 = vaglio.Instant(1_760_000_000_000)

// today is the clock of the tests: long after everything that happens in them.
func today() time.Time { return (t0 + 300*vaglio.Day).Time() }

// newHistory opens a history of its own in the one ClickHouse of these tests.
func newHistory(t *testing.T, events ...vaglio.Event) *history.Store {
	t.Helper()
	h, err := history.Open(t.Context(), strings.TrimSuffix(dsn, "vaglio")+strings.ToLower(ulid.Make().String()), history.Options{Now: today})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	imports(t, h, events...)
	return h
}

func imports(t *testing.T, h *history.Store, events ...vaglio.Event) {
	t.Helper()
	outcomes, err := h.Import(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	for i, outcome := range outcomes {
		if outcome != vaglio.Stored {
			t.Fatalf("event %s: outcome %v", events[i].ID, outcome)
		}
	}
}

func event(id, kind string, at vaglio.Instant, entities ...string) vaglio.Event {
	return vaglio.Event{ID: id, Kind: kind, OccurredAt: at, Entities: vaglio.FieldsOf(entities...)}
}

// refund is a request of a customer of the same number.
func refund(i int, at vaglio.Instant, attributes ...string) vaglio.Event {
	e := event(fmt.Sprint("r", i), vaglio.KindRefundRequested, at, "customer", fmt.Sprint("c", i))
	e.Amount, e.Currency, e.Attributes = 1000, "EUR", vaglio.FieldsOf(attributes...)
	return e
}

// label says of request i, at a moment, what it was.
func label(i int, kind string, at vaglio.Instant) vaglio.Event {
	return event(fmt.Sprint(kind, i, "@", int64(at)), kind, at, "request", fmt.Sprint("r", i))
}

func parse(t *testing.T, yaml string) *features.Catalogue {
	t.Helper()
	c, err := features.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// smallYAML has a feature that can carry a signal, one that carries none, and an open category.
const smallYAML = `
name: small
features:
  - {name: login_failed_24h, entity: customer, events: [login_failed], aggregate: count, window: 24h}
  - {name: hour, expr: request.hour}
  - {name: channel, categorical: request.attributes.channel}
`

// Periods of the planted histories: a request every hour, for 120 days of training and 60 of test.
var (
	trainPeriod = training.Period{From: t0, Until: t0 + 120*vaglio.Day}
	testPeriod  = training.Period{From: t0 + 120*vaglio.Day, Until: t0 + 180*vaglio.Day}
)

// planted is a history in which every fourth request is fraud by failed logins before it, or, without a signal, by lot.
// Labels come ten days later.
func planted(signal bool) []vaglio.Event {
	random := rand.New(rand.NewPCG(3, 4))
	var events []vaglio.Event
	for i := range int((testPeriod.Until - t0) / vaglio.Hour) {
		at := t0 + vaglio.Instant(i)*vaglio.Hour
		failed := random.IntN(4)
		events = append(events, refund(i, at, "channel", []string{"app", "web"}[random.IntN(2)]))
		for j := range failed {
			events = append(events, event(fmt.Sprint("f", i, ".", j), "login_failed", at-vaglio.Instant(j+1)*vaglio.Minute, "customer", fmt.Sprint("c", i)))
		}
		if fraud := failed == 3 && random.IntN(20) > 0; signal && fraud || !signal && random.IntN(4) == 0 {
			events = append(events, label(i, vaglio.KindFraudConfirmed, at+10*vaglio.Day))
		}
	}
	return events
}

var shared *history.Store

// plantedHistory is one history with a planted signal for all tests that only read it.
func plantedHistory(t *testing.T) *history.Store {
	t.Helper()
	if shared == nil {
		h, err := history.Open(context.Background(), strings.TrimSuffix(dsn, "vaglio")+"planted", history.Options{Now: today})
		if err != nil {
			t.Fatal(err)
		}
		imports(t, h, planted(true)...)
		shared = h
	}
	return shared
}

func options(t *testing.T, h *history.Store) training.Options {
	t.Helper()
	return training.Options{History: h, Catalogue: parse(t, smallYAML), Train: trainPeriod, Test: testPeriod, Dir: filepath.Join(t.TempDir(), "bundle"),
		Rounds: 40, Seed: 1, Version: "v1", Now: today}
}

func TestAPlantedSignalIsLearnt(t *testing.T) {
	o := options(t, plantedHistory(t))
	steps := map[string]int{}
	o.Progress = func(p training.Progress) { steps[p.Step]++ }
	bundle, e, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if e.ROCAUC < 0.95 || e.AveragePrecision < 0.8 {
		t.Errorf("AUC %v and average precision %v of a signal that is nearly the label", e.ROCAUC, e.AveragePrecision)
	}
	if e.Rows != 60*24 || len(e.Predictions) != e.Rows {
		t.Errorf("evaluated on %d rows, %d predictions", e.Rows, len(e.Predictions))
	}
	frauds, logLoss, brier := 0, 0.0, 0.0
	for _, p := range e.Predictions { // by the definitions of scikit-learn's log_loss and brier_score_loss
		if p.Fraud {
			frauds++
			logLoss -= math.Log(p.Probability) / float64(e.Rows)
			brier += (1 - p.Probability) * (1 - p.Probability) / float64(e.Rows)
		} else {
			logLoss -= math.Log1p(-p.Probability) / float64(e.Rows)
			brier += p.Probability * p.Probability / float64(e.Rows)
		}
	}
	if frauds != e.Frauds || math.Abs(logLoss-e.LogLoss) > 1e-12 || math.Abs(brier-e.Brier) > 1e-12 {
		t.Errorf("%d frauds, log loss %v, Brier %v; by the predictions %d, %v, %v", e.Frauds, e.LogLoss, e.Brier, frauds, logLoss, brier)
	}
	m := bundle.Manifest()
	if m.Name != "refund" || m.Version != "v1" || m.BaseCurrency != "EUR" || m.CreatedAt != vaglio.InstantOf(today()) {
		t.Errorf("manifest %+v", m)
	}
	// The last 30 of 120 days are too young for the cut; a fifth of the 2161 requests before validates, and of a period of 120 days the gap is 12.
	validated := m.Folds[0]
	if len(m.Folds) != 1 || validated.Validation.Rows != 433 || validated.Training.Rows != 2161-433-12*24+1 {
		t.Errorf("validated by %+v", m.Folds)
	}
	if m.Training.Rows != 2161 || m.Calibration.Rows != 433 {
		t.Errorf("%d rows to fit and %d to calibrate on", m.Training.Rows, m.Calibration.Rows)
	}
	if m.Metrics["roc_auc"] != e.ROCAUC || m.Test.Rows != e.Rows || m.Test.Positives != e.Frauds {
		t.Errorf("metrics %v, test %+v beside the evaluation's %+v", m.Metrics, m.Test, e)
	}
	if steps["replay"] == 0 || steps["train"] == 0 {
		t.Errorf("progress of %v", steps)
	}
	channels := bundle.Catalogue().Features()[2].Categories
	if len(channels) != 2 {
		t.Errorf("channels %v", channels)
	}

	again, err := training.Evaluate(t.Context(), o.History, bundle, testPeriod, vaglio.InstantOf(today()), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.From != testPeriod.From || again.Until != testPeriod.Until || again.ROCAUC != e.ROCAUC || again.LogLoss != e.LogLoss || again.Rows != e.Rows {
		t.Errorf("evaluated again: %+v, in training it was %+v", again, e)
	}

	twin := o
	twin.Dir = filepath.Join(t.TempDir(), "twin")
	other, _, err := training.Train(t.Context(), twin)
	if err != nil {
		t.Fatal(err)
	}
	if other.Identity() != bundle.Identity() {
		t.Errorf("the same training made %v, then %v", bundle.Identity(), other.Identity())
	}
}

func TestLabelsByLotTeachNothing(t *testing.T) {
	o := options(t, newHistory(t, planted(false)...))
	_, e, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if e.ROCAUC < 0.45 || e.ROCAUC > 0.55 {
		t.Errorf("AUC %v on labels drawn by lot", e.ROCAUC)
	}
}

func TestATrainingThatCantBeSaysWhatToDo(t *testing.T) {
	var events []vaglio.Event
	for i := range 400 {
		events = append(events, refund(i, t0+vaglio.Instant(i)*6*vaglio.Hour))
	}
	h := newHistory(t, events...)
	refused := func(change func(*training.Options), wants ...string) {
		t.Helper()
		o := options(t, h)
		o.Train, o.Test = training.Period{From: t0, Until: t0 + 60*vaglio.Day}, training.Period{From: t0 + 60*vaglio.Day, Until: t0 + 100*vaglio.Day}
		change(&o)
		_, existed := os.Stat(o.Dir)
		_, _, err := training.Train(t.Context(), o)
		if err == nil {
			t.Error("it was trained")
			return
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: want it to say %q", err, want)
			}
		}
		if _, err := os.Stat(o.Dir); existed != nil && !os.IsNotExist(err) {
			t.Errorf("it left %s: %v", o.Dir, err)
		}
	}
	refused(func(*training.Options) {}, "0 frauds among", "both classes", "longer period")
	refused(func(o *training.Options) {
		o.Train = training.Period{From: t0 - 90*vaglio.Day, Until: t0 - 30*vaglio.Day}
	}, "training period", "there are no requests in", "import their events")
	refused(func(o *training.Options) { o.Maturity = 61 * vaglio.Day }, "training period", "maturity 61 days", "none old enough")
	refused(func(o *training.Options) { o.Train.Until = o.Train.From }, "training period ends")
	refused(func(o *training.Options) { o.Test.Until = o.Test.From - 1 }, "test period ends")
	refused(func(o *training.Options) { o.Test = training.Period{From: t0, Until: t0 + vaglio.Day} }, "test period begins", "within the training period")
	refused(func(o *training.Options) { o.LabelsUntil = t0 + 301*vaglio.Day }, "labels until", "from the future")
	refused(func(o *training.Options) {
		o.Test = training.Period{From: t0 + 300*vaglio.Day, Until: t0 + 310*vaglio.Day}
	}, "test period begins", "in the future")
	refused(func(o *training.Options) { o.Rounds = -3 }, "-3 rounds: want 1 to 10000")
	refused(func(o *training.Options) {
		o.Network = &lightgbm.Network{Machines: []string{"127.0.0.1:1", "127.0.0.1:2"}, Self: -1}
	}, "machine -1 of 2")
	refused(func(o *training.Options) { o.Folds, o.NoRefit = 2, true }, "do without folds")
	refused(func(o *training.Options) { o.Folds = 1 }, "1 folds", "want 2 to 50")
	refused(func(o *training.Options) { o.Params = map[string]string{"num_leaves": "1"} }, "parameters: LightGBM: Check failed: (num_leaves) > (1)")
	refused(func(o *training.Options) { o.Params = map[string]string{"num_leafs": "31"} }, "LightGBM: Unknown parameter: num_leafs")
	refused(func(o *training.Options) { o.Params = map[string]string{"learning_rate": "fast"} }, "LightGBM: ", "fast")
	existing := t.TempDir()
	refused(func(o *training.Options) { o.Dir = existing }, existing, "exists already")

	var labels []vaglio.Event
	for i := range 250 {
		labels = append(labels, label(i, vaglio.KindFraudConfirmed, t0+vaglio.Instant(i)*6*vaglio.Hour+vaglio.Day))
	}
	imports(t, h, labels...)
	refused(func(*training.Options) {}, "frauds among", "both classes")
	refused(func(o *training.Options) { o.LabelsUntil = t0 + 30*vaglio.Day; o.Maturity = 30 * vaglio.Day }, "both classes")
	refused(func(o *training.Options) { o.LabelsUntil = t0 + vaglio.Hour; o.Maturity = 1 }, "training period", "250 labels became known only after the cut")
}

func TestACancelledTrainingSaysWhatItLeaves(t *testing.T) {
	o := options(t, plantedHistory(t))
	o.Rounds = 5000
	cancelledIn := func(step string, round int) (*models.Bundle, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o.Progress = func(p training.Progress) {
			if p.Step == step && p.Done >= round {
				cancel()
			}
		}
		bundle, _, err := training.Train(ctx, o)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in step %s: %v", step, err)
		}
		return bundle, err
	}
	left := func() int {
		entries, err := os.ReadDir(filepath.Dir(o.Dir))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if bundle, err := cancelledIn("replay", 0); bundle != nil || left() != 0 {
		t.Errorf("cancelled before there was a tree, it left %d files, %v", left(), err)
	}
	o.Folds, o.Gap = 2, vaglio.Day
	if bundle, err := cancelledIn("fold 1", 1); bundle != nil || left() != 0 || !strings.Contains(err.Error(), "fold 1 of 2") {
		t.Errorf("cancelled in a fold, it left %d files, %v", left(), err)
	}
	o.Folds, o.Gap = 0, 0
	for _, step := range []string{"validate", "train"} {
		bundle, err := cancelledIn(step, 12)
		if bundle == nil || !bundle.Manifest().Interrupted || !strings.Contains(err.Error(), "interrupted after") || left() != 1 {
			t.Errorf("cancelled in round 12 of step %s, it left %d files, %v", step, left(), err)
		}
		o.Dir = filepath.Join(t.TempDir(), "bundle")
	}
	o.Dir = filepath.Join(t.TempDir(), "whole")
	o.Rounds, o.Progress = 20, nil
	if whole, _, err := training.Train(t.Context(), o); err != nil || whole.Manifest().Interrupted {
		t.Errorf("a whole training: %v", err)
	}
}

func TestAnEvaluationSaysItsPeriod(t *testing.T) {
	_, e, err := training.Train(t.Context(), options(t, plantedHistory(t)))
	if err != nil {
		t.Fatal(err)
	}
	if e.From != testPeriod.From || e.Until != testPeriod.Until {
		t.Errorf("evaluated on [%v, %v), want the test period", e.From, e.Until)
	}
}

func TestACategoryThatOnlyTheTestPeriodHasIsNotLearnt(t *testing.T) {
	events := planted(true)
	for i := range events {
		if events[i].Kind == vaglio.KindRefundRequested {
			events[i].Attributes = nil
			if events[i].OccurredAt >= testPeriod.From {
				events[i].Attributes = vaglio.FieldsOf("channel", "phone")
			}
		}
	}
	bundle, _, err := training.Train(t.Context(), options(t, newHistory(t, events...)))
	if err != nil {
		t.Fatal(err)
	}
	if got := bundle.Catalogue().Features()[2].Categories; len(got) != 0 {
		t.Errorf("categories %v, which only the test period has", got)
	}
}

func TestCategoriesOfAnySpellingComeBackFromTheBundle(t *testing.T) {
	want := []string{"a[1", "b{", "c, d", ".nan", ".inf", "? e", "f: g", "null", "1.0", "- h", "'", `"`}
	events := planted(true)
	n := 0
	for i := range events {
		if events[i].Kind == vaglio.KindRefundRequested {
			events[i].Attributes = vaglio.FieldsOf("channel", want[n%len(want)])
			n++
		}
	}
	bundle, _, err := training.Train(t.Context(), options(t, newHistory(t, events...)))
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(bundle.Catalogue().Features()[2].Categories))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("categories %q, want %q", got, want)
	}
}

func TestWhatCantBeWrittenOrEvaluatedIsSaidBeforeTraining(t *testing.T) {
	refused := func(name string, change func(*training.Options), events []vaglio.Event) {
		t.Run(name, func(t *testing.T) {
			o := options(t, newHistory(t, events...))
			rounds := 0
			o.Progress = func(p training.Progress) {
				if p.Step == "train" {
					rounds++
				}
			}
			change(&o)
			if _, _, err := training.Train(t.Context(), o); err == nil || rounds > 0 {
				t.Errorf("after %d rounds of training: %v", rounds, err)
			}
		})
	}
	refused("version", func(o *training.Options) { o.Version = "My Model!" }, planted(true))
	refused("dir", func(o *training.Options) { o.Dir = "" }, planted(true))
	var oneClass []vaglio.Event
	for _, e := range planted(true) {
		if e.Kind != vaglio.KindFraudConfirmed || e.OccurredAt < testPeriod.From {
			oneClass = append(oneClass, e)
		}
	}
	refused("test", func(*training.Options) {}, oneClass)
}

func TestAnySeedWorks(t *testing.T) {
	o := options(t, plantedHistory(t))
	o.Seed = 1<<64 - 1
	if _, _, err := training.Train(t.Context(), o); err != nil {
		t.Error(err)
	}
}
