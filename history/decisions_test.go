package history_test

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"vaglio"
)

func taken(id string, at vaglio.Instant, customer string) vaglio.Taken {
	return vaglio.Taken{DecisionID: "dec_" + id, RequestID: id, Customer: customer, Payment: "p_" + id, DecidedAt: at, Verdict: vaglio.Review, Amount: 1999,
		Currency: "USD", BaseAmount: 1599, BaseKnown: true, Probability: 0.43, LogOdds: -0.28, RiskScore: 96, ModelVersion: "m-1", PolicyVersion: "p-1",
		Stage: "champion", Propensity: 1, DegradedReasons: []string{}, LatencyMS: 4.3}
}

func TestDecisionsComeBackInOrderOfTimeEachOnce(t *testing.T) {
	s := open(t, "EUR")
	full := taken("full", t0, "c")
	full.Explored, full.Audit, full.Degraded, full.Propensity, full.ApprovedAmount = true, true, true, 0.05, 1999
	full.DegradedReasons = []string{"history_unavailable"}
	full.Rules = []vaglio.RuleHit{{Name: "a", Action: "review", State: "active"}, {Name: "b", Action: "deny", State: "shadow"}}
	full.Shadows = []vaglio.Shadow{{ModelVersion: "m-2", Stage: "challenger", Probability: 0.5, Verdict: vaglio.Deny},
		{ModelVersion: "m-3", Stage: "challenger", Probability: 0.25, Verdict: vaglio.Approve}}
	other := full
	other.Verdict = vaglio.Approve
	deliver := func(decisions ...vaglio.Taken) {
		t.Helper()
		if err := s.DeliverDecisions(t.Context(), decisions); err != nil {
			t.Fatal(err)
		}
	}
	deliver(taken("late", t0+2, "c"), full, full)
	deliver()
	deliver(other, taken("before", t0-1, "c"), taken("early", t0-2, "c"))
	deliver(full, taken("late", t0+2, "c"), taken("end", t0+3, "c"))
	var got []vaglio.Taken
	scan := func(from, until vaglio.Instant) (ids string) {
		t.Helper()
		got = nil
		err := s.ScanDecisions(t.Context(), from, until, func(d vaglio.Taken) error {
			got = append(got, d)
			ids += d.RequestID + " "
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if ids := scan(t0-1, t0+3); ids != "before full late " {
		t.Errorf("scanned %q", ids)
	}
	if !reflect.DeepEqual(got[1], full) {
		t.Errorf("got  %+v\nwant %+v", got[1], full)
	}
	if ids := scan(t0-2, t0+4); ids != "early before full late end " {
		t.Errorf("scanned %q", ids)
	}
}

func TestADecisionWithoutAModelHasNoNumbers(t *testing.T) {
	s := open(t, "EUR")
	d := taken("degraded", t0, "c")
	d.Probability, d.LogOdds, d.RiskScore, d.ModelVersion = math.NaN(), math.NaN(), math.NaN(), ""
	if err := s.DeliverDecisions(t.Context(), []vaglio.Taken{d}); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := s.ScanDecisions(t.Context(), t0, t0+1, func(got vaglio.Taken) error {
		n++
		if fmt.Sprint(got) != fmt.Sprint(d) { // NaN is not equal to itself
			t.Errorf("got  %v\nwant %v", got, d)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Errorf("%d decisions, %v", n, err)
	}
}
