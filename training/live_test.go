package training_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"vaglio"
	"vaglio/history"
	"vaglio/training"
)

// traffic is 800 requests, one an hour, every fourth a fraud that is known ten days later, with the decisions on them.
func traffic(t *testing.T, decide func(i int, fraud bool, d *vaglio.Taken)) *history.Store {
	t.Helper()
	var events []vaglio.Event
	var taken []vaglio.Taken
	for i := range 800 {
		at := t0 + vaglio.Instant(i)*vaglio.Hour
		events = append(events, refund(i, at))
		if i%4 == 0 {
			events = append(events, label(i, vaglio.KindFraudConfirmed, at+10*vaglio.Day))
		}
		d := vaglio.Taken{DecisionID: fmt.Sprint("dec_", i), RequestID: fmt.Sprint("r", i), Customer: fmt.Sprint("c", i), DecidedAt: at + 20, Amount: 1000,
			Currency: "EUR", BaseAmount: 1000, BaseKnown: true, Verdict: vaglio.Approve, Probability: math.NaN(), LogOdds: math.NaN(), RiskScore: math.NaN(),
			Propensity: 1}
		decide(i, i%4 == 0, &d)
		taken = append(taken, d)
	}
	h := newHistory(t, events...)
	if err := h.DeliverDecisions(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	return h
}

var trafficPeriod = training.Period{From: t0, Until: t0 + 800*vaglio.Hour}

func TestAChallengerIsComparedWithTheChampionOnLiveDecisions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := traffic(t, func(i int, fraud bool, d *vaglio.Taken) {
		if i%100 == 99 {
			d.Degraded, d.Verdict = true, vaglio.Review // nobody had an answer
			return
		}
		champion, challenger := random.Float64(), 0.1+0.2*random.Float64()
		if fraud {
			challenger = 0.2 + 0.7*random.Float64()
		}
		verdict := func(p float64) vaglio.Verdict {
			if p >= 0.5 {
				return vaglio.Review
			}
			return vaglio.Approve
		}
		d.ModelVersion, d.Stage, d.Probability, d.Verdict = "old", "champion", champion, verdict(champion)
		other := vaglio.Shadow{ModelVersion: "new", Stage: "challenger", Probability: challenger, Verdict: verdict(challenger)}
		if i%10 == 0 { // the challenger's share
			d.ModelVersion, d.Stage, d.Probability, d.Verdict = "new", "challenger", challenger, verdict(challenger)
			other = vaglio.Shadow{ModelVersion: "old", Stage: "champion", Probability: champion, Verdict: verdict(champion)}
		}
		d.Shadows = []vaglio.Shadow{other}
	})
	o := training.LiveOptions{History: h, Period: trafficPeriod, Cut: vaglio.InstantOf(today()), Measure: training.MeasureOptions{Resamples: 100}}
	live, err := training.CompareLive(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if live.Decisions != 800 || live.Scored != 792 || len(live.Pairs) != 1 {
		t.Fatalf("%+v", live)
	}
	p := live.Pairs[0]
	if p.Champion != "old" || p.Model != "new" || p.Stage != "challenger" || p.Decisions != 792 || p.Decided != 80 || p.Labelled != 792 || p.Frauds != 200 {
		t.Errorf("the pair: %+v", p)
	}
	if p.MeanChampion < 0.45 || p.MeanChampion > 0.55 || p.MeanModel < 0.25 || p.MeanModel > 0.35 || p.PSI < 0.25 {
		t.Errorf("means %v and %v, PSI %v", p.MeanChampion, p.MeanModel, p.PSI)
	}
	counted, frauds, amount := 0, 0, int64(0)
	for _, d := range p.Verdicts {
		counted, frauds, amount = counted+d.Requests, frauds+d.Frauds, amount+d.Amount
		if d.A == vaglio.Approve && d.B == vaglio.Review && d.Frauds != d.Requests {
			t.Errorf("the challenger holds up honest requests: %+v", d)
		}
	}
	if counted != 792 || frauds != 200 || amount != 792_000 {
		t.Errorf("the table holds %d requests, %d frauds, %d", counted, frauds, amount)
	}
	verdicts := map[string]string{}
	for _, d := range p.Differences {
		verdicts[d.Metric] = d.Verdict
	}
	if verdicts["roc_auc"] != training.DifferenceBetter || verdicts["average_precision"] != training.DifferenceBetter || len(verdicts) != 5 {
		t.Errorf("differences: %v", verdicts)
	}
	o.Cut = t0 + 20*vaglio.Day // nothing is settled yet
	if live, err = training.CompareLive(t.Context(), o); err != nil || !strings.Contains(live.Pairs[0].Unmeasured, "0 of 792 decisions have a settled label") {
		t.Errorf("%+v, %v", live.Pairs, err)
	}
}

func TestExplorationAndAuditsAreToldWithWhatBecameOfThem(t *testing.T) {
	h := traffic(t, func(i int, _ bool, d *vaglio.Taken) {
		switch {
		case i < 100 && i%10 == 0: // every tenth of those that a score held up was let through
			d.Explored, d.Propensity = true, 0.1
		case i < 100:
			d.Verdict, d.Propensity = vaglio.Review, 0.9
		case i == 100:
			d.Explored, d.Propensity = true, 0.001
		default:
			d.Audit = i%50 == 0
		}
	})
	audited := func(i int, kind string, source string) {
		e := label(i, kind, t0+40*vaglio.Day)
		e.Attributes = vaglio.FieldsOf("source", source)
		imports(t, h, e)
	}
	audited(150, vaglio.KindFraudCleared, "audit")
	audited(200, vaglio.KindFraudConfirmed, "audit")
	audited(250, vaglio.KindFraudCleared, "audit")
	audited(300, vaglio.KindFraudConfirmed, "chargeback") // no audit
	audited(301, vaglio.KindFraudConfirmed, "audit")      // was not drawn
	x, err := training.ReadExploration(t.Context(), h, trafficPeriod, vaglio.InstantOf(today()), 0)
	if err != nil {
		t.Fatal(err)
	}
	// Of the requests 0, 10, … 90 and 100 the even tens are multiples of 4: 0, 20, 40, 60, 80, 100.
	if x.Requests != 11 || x.Frauds != 6 || x.Clean != 5 || x.Unsettled != 0 || x.Paid != 11_000 || x.Lost != 6_000 || x.Clipped != 1 || x.Held != 90 {
		t.Errorf("explored: %+v", x)
	}
	if a := x.Audit; a.Approvals != 699 || a.Drawn != 13 || a.Judged != 3 || a.Frauds != 1 || a.Missed == nil || *a.Missed != 1.0/3 {
		t.Errorf("audited: %+v", a)
	}
	text := x.Text("EUR")
	for _, want := range []string{"11 requests for 110 EUR were let through", "6 turned out fraud (60 EUR)", "1 had less than 1 chance in 20", "3 are judged, 1 of them fraud"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
}

// By definition its ends are the shares p that a normal test just does not reject: |found/of − p| = z·√(p(1−p)/of).
func TestWilsonsIntervalHoldsForFewFindsToo(t *testing.T) {
	check := func(found, of int) {
		t.Helper()
		got, share := training.Wilson(found, of), float64(found)/float64(of)
		for _, p := range []float64{got.Low, got.High} {
			if off := math.Abs(math.Abs(share-p) - 1.959963984540054*math.Sqrt(p*(1-p)/float64(of))); off > 1e-12 {
				t.Errorf("%d of %d: %v is off by %v", found, of, p, off)
			}
		}
		if !(0 <= got.Low && got.Low <= share && share <= got.High && got.High <= 1) || got.Low == got.High {
			t.Errorf("%d of %d: %+v", found, of, got)
		}
	}
	check(0, 10)
	check(10, 10)
	check(1, 100)
	check(7, 20)
	if got := training.Wilson(0, 0); got != (training.Interval{Low: 0, High: 1}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestWhatWasExploredStandsForItsLike(t *testing.T) {
	h := traffic(t, func(i int, _ bool, d *vaglio.Taken) {
		switch {
		case i >= 400:
		case i%10 == 3:
			d.Explored, d.Propensity = true, 0.1
		case i%10 == 5:
			d.Explored, d.Propensity = true, 0.001 // counts for 20, not for 1000
		default:
			d.Verdict, d.Propensity = vaglio.Review, 0.9
		}
	})
	o := options(t, h)
	o.Train, o.Test = training.Period{From: t0, Until: t0 + 600*vaglio.Hour}, training.Period{From: t0 + 600*vaglio.Hour, Until: t0 + 800*vaglio.Hour}
	o.LabelsUntil, o.Gap, o.Rounds, o.InversePropensity = vaglio.InstantOf(today()), -1, 5, true
	note := ""
	o.Progress = func(p training.Progress) {
		if p.Step == "labels" && note == "" {
			note = p.Note
		}
	}
	b, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Manifest().Training.Rows; got != 280 || !strings.Contains(note, "320 for which explored ones stand") {
		t.Errorf("trained on %d requests; %s", got, note)
	}
	x, err := training.Examine(t.Context(), b, training.ExamineOptions{History: h, Period: trafficPeriod, Cut: vaglio.InstantOf(today()),
		Measure: training.MeasureOptions{Resamples: -1, InversePropensity: true}})
	if err != nil {
		t.Fatal(err)
	}
	weight := 0.0
	for _, r := range x.Matrix.Rows {
		weight += r.Weight / r.Propensity
	}
	if want := 40*10 + 40*20 + 400.0; math.Abs(weight-want) > 1e-9 || x.Rows != 480 {
		t.Errorf("%d requests count for %v, want %v", x.Rows, weight, want)
	}
}
