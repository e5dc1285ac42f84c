package scoring_test

import (
	"math"
	"slices"
	"testing"

	"vaglio"
	"vaglio/scoring"
)

func TestAProbabilityOnAThresholdIsNotBelowIt(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
	p := *d.FraudProbability
	above, below := math.Nextafter(p, 1), math.Nextafter(p, 0)
	verdict := func(approveBelow, denyFrom float64, want vaglio.Verdict) {
		t.Helper()
		s := newService(t, thresholds(approveBelow, denyFrom))
		d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
		expect(t, "probability", *d.FraudProbability, p)
		expect(t, "verdict", d.Verdict, want)
	}
	verdict(above, 1, vaglio.Approve)
	verdict(p, 1, vaglio.Review)
	verdict(below, 1, vaglio.Review)
	verdict(0, above, vaglio.Review)
	verdict(0, p, vaglio.Deny)
	verdict(p, p, vaglio.Deny)
	verdict(above, above, vaglio.Approve)
	verdict(below, below, vaglio.Deny)
}

func TestThePolicysThresholdsStandInForTheModels(t *testing.T) {
	verdict := func(text string, want vaglio.Verdict) {
		t.Helper()
		s := newService(t, withPolicy(text))
		d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
		expect(t, "verdict", d.Verdict, want)
	}
	trusted(newService(t))
	verdict("name: p", vaglio.Approve)         // the model's: approve below 0.3
	verdict("approve_below: 0", vaglio.Review) // deny from the model's 0.9
	verdict("deny_from: 0", vaglio.Deny)       // even below the model's 0.3
	verdict("approve_below: 1", vaglio.Approve)
}

func TestACancellationMayOnlyReturnToItsSource(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"))
	for _, kind := range vaglio.RequestTypes {
		d, _ := s.decidesWith(s.request(kind, func(r *vaglio.Request) { r.Type = kind }), scoring.DecideOptions{DryRun: true})
		expect(t, kind, slices.Contains(d.RequiredActions, "return_to_source"), kind == "cancellation")
	}
}

func TestHowMoneyCouldBeHadBack(t *testing.T) {
	s := newService(t)
	way := func(want string, p *vaglio.PaymentState) {
		t.Helper()
		d, _ := s.decidesWith(s.request("r", func(r *vaglio.Request) { r.Payment = p }), scoring.DecideOptions{DryRun: true})
		expect(t, "reversibility", d.Reversibility, want)
	}
	way("irreversible", nil)
	way("irreversible", &vaglio.PaymentState{State: "settled"})
	way("recall_only", &vaglio.PaymentState{Rail: "sct_inst"})
	way("recall_only", &vaglio.PaymentState{Rail: "card"})
	way("reversible", &vaglio.PaymentState{Rail: "wallet"})
	way("reversible", &vaglio.PaymentState{Rail: "sct_inst", ReversibleUntil: t0 + 1})
	way("recall_only", &vaglio.PaymentState{Rail: "sct_inst", ReversibleUntil: t0})
	way("irreversible", &vaglio.PaymentState{ReversibleUntil: t0 - 1})
}

func TestWithoutAPolicyTheDefaultHolds(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, _ := s.decides(s.request("first"))
	expect(t, "first", d.Verdict, vaglio.Approve)
	d, _ = s.decides(s.request("second"))
	expect(t, "second, all captured money being reserved", d.Verdict, vaglio.Deny)
	d, _ = s.decides(s.request("unknown", func(r *vaglio.Request) { r.Entities = r.Entities.With("payment", s.id("other")) }))
	expect(t, "of an unknown payment", d.Verdict, vaglio.Review)
}
