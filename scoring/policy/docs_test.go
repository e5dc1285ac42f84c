package policy_test

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/scoring/policy"
)

// documented returns the YAML blocks of docs/policy.md.
func documented(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(page), "```") {
		if yaml, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			blocks = append(blocks, yaml)
		}
	}
	return blocks
}

func TestTheExamplesOfTheDocumentation(t *testing.T) {
	p := parse(t, documented(t)[0])
	if w := p.Warnings(monday); len(w) > 0 {
		t.Errorf("%v", w)
	}
	check := func(r request, verdict vaglio.Verdict, within time.Duration, actions string) {
		t.Helper()
		if out := r.by(t, p); out.Verdict != verdict || out.ReviewWithin != within || strings.Join(out.Actions, " ") != actions {
			t.Errorf("%+v", out)
		}
	}
	check(fine("payout_differs", 1, "customer_payout_age", 1).at(0.02), vaglio.Review, 20*time.Minute, "step_up_auth hold_funds")
	check(fine("entities.merchant", "m_1").at(0.02).with(func(r *request) { r.Lists = listed{"partners/m_1", "confirmed_fraud/d_1"} }), vaglio.Deny, 20*time.Minute, "")
	check(fine("reason", "unauthorised").at(0.93), vaglio.Review, 30*time.Hour, "") // from Monday 10:00 to Tuesday 16:00
	check(fine().at(0.1).with(func(r *request) { r.Lists = listed{"vip/c_1"} }), vaglio.Approve, 20*time.Minute, "")
}

func TestTheDocumentedCostsAreTheDefaultOnes(t *testing.T) {
	p := parse(t, documented(t)[1])
	want := policy.DefaultCosts()
	stake := fifty
	for _, stake.Returnable = range []bool{false, true} {
		if got := p.Costs.Thresholds(stake); got != want.Thresholds(stake) || p.Costs.Recovery != want.Recovery || p.Costs.Returned != want.Returned ||
			p.Costs.FraudFee != want.FraudFee || p.Costs.WrongDenial != want.WrongDenial || p.Costs.Review != want.Review {
			t.Errorf("%+v", p.Costs)
		}
	}
	stake = policy.Stake{AmountMinor: 50_000, Reversibility: policy.RecallOnly, ToSource: true}
	if th := want.Thresholds(stake); math.Round(th.ApproveBelow*1000) != 24 || math.Round(th.DenyFrom*100) != 56 {
		t.Errorf("%+v", th)
	}
}
