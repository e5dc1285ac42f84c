package training_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"vaglio"
	"vaglio/history"
	"vaglio/training"
)

var midnight = t0 + vaglio.Day - t0%vaglio.Day

// spentByNoon is 30 days of 100 requests, half of which a score holds up, a third of them frauds; of the others one in twenty is.
// Exploration lets every third through by lot, until the day's budget for six is spent, before noon. What was held up is, for all
// that is known, what reviewers believe: fraud. It returns how many of those that were held up are frauds in truth, and how many
// the lots alone say, as they would be weighed by the share.
func spentByNoon(t *testing.T) (h *history.Store, frauds, byShare float64) {
	t.Helper()
	const share, budget = 1.0 / 3, 6
	random := rand.New(rand.NewPCG(5, 6))
	var events []vaglio.Event
	var taken []vaglio.Taken
	for i := range 3000 {
		at := midnight + vaglio.Instant(i)*vaglio.Day/100
		risky := i%2 == 0
		chance := 0.05
		if risky {
			chance = 1.0 / 3
		}
		d := vaglio.Taken{DecisionID: fmt.Sprint("dec_", i), RequestID: fmt.Sprint("r", i), Customer: fmt.Sprint("c", i), DecidedAt: at + 20, Amount: 1000,
			Currency: "EUR", BaseAmount: 1000, BaseKnown: true, Verdict: vaglio.Approve, Probability: math.NaN(), LogOdds: math.NaN(), RiskScore: math.NaN(),
			Propensity: 1}
		fraud, believed := random.Float64() < chance, false
		if risky {
			spent := 0
			for k := len(taken) - 1; k >= 0 && taken[k].DecidedAt/vaglio.Day == d.DecidedAt/vaglio.Day; k-- {
				if taken[k].Explored {
					spent++
				}
			}
			switch drawn := random.Float64() < share; {
			case spent == budget:
				d.Verdict, d.Propensity = vaglio.Review, 0
			case drawn:
				d.Explored, d.Propensity = true, share
			default:
				d.Verdict, d.Propensity = vaglio.Review, 1-share
			}
			if believed = !d.Explored; fraud {
				frauds++
				if d.Explored {
					byShare += 1 / share
				}
			}
		}
		request := refund(i, at)
		if believed {
			request.Attributes = vaglio.FieldsOf("channel", "held")
		}
		events, taken = append(events, request), append(taken, d)
		if fraud || believed {
			events = append(events, label(i, vaglio.KindFraudConfirmed, at+10*vaglio.Day))
		}
	}
	h = newHistory(t, events...)
	if err := h.DeliverDecisions(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	return h, frauds, byShare
}

func TestExplorationWithABudgetThatIsSpentByNoonTellsTheTruth(t *testing.T) {
	h, frauds, byShare := spentByNoon(t)
	period := training.Period{From: midnight, Until: midnight + 30*vaglio.Day}
	b, _, err := training.Train(t.Context(), spentByNoonOptions(t, h))
	if err != nil {
		t.Fatal(err)
	}
	weighed := func(inverse bool) (risky, all float64) {
		t.Helper()
		x, err := training.Examine(t.Context(), b, training.ExamineOptions{History: h, Period: period, Cut: vaglio.InstantOf(today()),
			Measure: training.MeasureOptions{Resamples: -1, InversePropensity: inverse}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Matrix.Rows {
			row := &x.Matrix.Rows[i]
			all += row.Weight / row.Propensity
			var n int
			if _, err := fmt.Sscanf(row.ID, "r%d", &n); err != nil {
				t.Fatal(err)
			}
			if row.Fraud && n%2 == 0 {
				risky += row.Weight / row.Propensity
			}
		}
		return risky, all
	}
	// 180 lots, of which a third are frauds: one standard error is √(180·⅓·⅔)/180 of 1500, 53.
	estimate, all := weighed(true)
	if off := math.Abs(estimate - frauds); off > 3*53 {
		t.Errorf("of those held up %.0f are frauds, the estimate is %.0f", frauds, estimate)
	}
	if math.Abs(all-3000) > 3*70 { // 180 lots stand for 1500
		t.Errorf("3000 requests count for %.0f", all)
	}
	if byShare > frauds/2 {
		t.Errorf("by the share alone %.0f of %.0f frauds would be seen: the budget was not spent by noon", byShare, frauds)
	}
	if believed, _ := weighed(false); believed < 2*frauds {
		t.Errorf("reviewers believe %.0f of the %.0f frauds", believed, frauds)
	}
	told, err := training.ReadExploration(t.Context(), h, period, vaglio.InstantOf(today()), 0)
	if err != nil || told.Requests != 180 || told.Held != 1320 || told.Late < 800 {
		t.Errorf("%+v, %v", told, err)
	}
	t.Logf("%.0f frauds, estimated %.0f, by the share alone %.0f, all %.0f; %+v", frauds, estimate, byShare, all, told)
}

func spentByNoonOptions(t *testing.T, h *history.Store) training.Options {
	o := options(t, h)
	o.Train, o.Test = training.Period{From: midnight, Until: midnight + 20*vaglio.Day},
		training.Period{From: midnight + 20*vaglio.Day, Until: midnight + 30*vaglio.Day}
	o.LabelsUntil, o.Gap, o.Rounds, o.InversePropensity = vaglio.InstantOf(today()), -1, 5, true
	return o
}
