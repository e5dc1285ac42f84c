package policy_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/scoring/policy"
)

// The example of docs/policy.md: 50 EUR by instant transfer, back to its source.
var fifty = policy.Stake{AmountMinor: 5000, Reversibility: policy.RecallOnly, ToSource: true}

func TestTheWorkedExampleOfCosts(t *testing.T) {
	costs := policy.DefaultCosts()
	near := func(name string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) < 1e-9) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	approve, review, deny := costs.Expected(0.2, fifty)
	near("approve", approve, 0.2*(5000*0.9+1500))
	near("review", review, 250+0.2*0.2*6000+0.8*0.05*4000)
	near("deny", deny, 0.8*(5000*0.2+3000))
	if best := costs.Best(0.2, fifty); best != vaglio.Review {
		t.Errorf("the best is %s", best)
	}
	thresholds := costs.Thresholds(fifty)
	near("approve below", thresholds.ApproveBelow, 0.09)
	near("deny from", thresholds.DenyFrom, 0.71)

	elsewhere, card, unknown := fifty, fifty, fifty
	elsewhere.ToSource = false
	card.Returnable = true
	unknown.Reversibility = "some new word"
	approve, _, _ = costs.Expected(1, elsewhere)
	near("a fraud paid elsewhere", approve, 5000*0.95+1500)
	approve, _, _ = costs.Expected(1, card)
	near("a fraud whose payment can be pulled back", approve, 5000*0.95+1500)
	approve, _, _ = costs.Expected(1, unknown)
	near("a fraud on an unknown rail", approve, 5000+1500)
}

func TestTheBestVerdictChangesAtTheThresholds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0, 1)
		money := rapid.Int64Range(0, 100_000)
		costs := policy.Costs{
			Recovery: policy.Recovery{RecallOnly: share.Draw(t, "recovery"), Elsewhere: share.Draw(t, "elsewhere")}, Returned: share.Draw(t, "returned"),
			FraudFee: money.Draw(t, "fee"), WrongDenial: policy.WrongDenial{Margin: share.Draw(t, "margin"), Churn: money.Draw(t, "churn")},
			Review: policy.ReviewCosts{Cost: money.Draw(t, "cost"), Catch: share.Draw(t, "catch"), Wrong: share.Draw(t, "wrong")}}
		stake := policy.Stake{AmountMinor: 1 + money.Draw(t, "amount"), Reversibility: policy.RecallOnly, ToSource: rapid.Bool().Draw(t, "source")}
		p := share.Draw(t, "probability")
		thresholds := costs.Thresholds(stake)
		if !(0 <= thresholds.ApproveBelow && thresholds.ApproveBelow <= thresholds.DenyFrom && thresholds.DenyFrom <= 1) {
			t.Fatalf("%+v", thresholds)
		}
		verdict := vaglio.Review
		switch {
		case p < thresholds.ApproveBelow:
			verdict = vaglio.Approve
		case p >= thresholds.DenyFrom:
			verdict = vaglio.Deny
		}
		approve, review, deny := costs.Expected(p, stake)
		cost := map[vaglio.Verdict]float64{vaglio.Approve: approve, vaglio.Review: review, vaglio.Deny: deny}
		if least := min(approve, review, deny); cost[verdict] > least+1e-6*(1+math.Abs(least)) {
			t.Fatalf("at %v the thresholds %+v say %s: %v", p, thresholds, verdict, cost)
		}
	})
}

func TestAnUnknownProbabilityIsReviewed(t *testing.T) {
	costs := policy.DefaultCosts()
	if best := costs.Best(math.NaN(), fifty); best != vaglio.Review {
		t.Errorf("%s", best)
	}
}

func TestCostsAreReadStrictly(t *testing.T) {
	costs, err := policy.ParseCosts([]byte("fraud_fee: 2000\nreview: {per_hour: 30}\nsegments:\n  wallet: {fraud_fee: 0, review: {cost: 100}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	wallet := costs.Segment("wallet")
	if costs.FraudFee != 2000 || costs.Review.PerHour != 30 || costs.Review.Cost != policy.DefaultCosts().Review.Cost || costs.Segment("other").FraudFee != 2000 ||
		wallet.FraudFee != 0 || wallet.Review.Cost != 100 || wallet.Review.PerHour != 30 {
		t.Errorf("%+v, wallet %+v", costs, wallet)
	}
	_, err = policy.ParseCosts([]byte("fraud_fee: -1\nreviews: 3\nreview:\n  catch: .nan\n  cost: 1.5\nrecovery: {reversible: 0, recall_only: 0.5}\nfraud_fee: 1\n"))
	for _, want := range []string{"line 1: fraud_fee", "line 2: there is no key", "line 4: review: catch", "line 5: review: cost", "recovery", "line 7"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
