package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/features"
	"vaglio/scoring/policy"
)

const (
	always = "request.amount_original >= 0" // a condition that holds, and does not look like one
	deny   = "{name: d, when: " + always + ", then: deny, reason: A, actions: [four_eyes]}"
	review = "{name: r, when: " + always + ", then: review, reason: B, actions: [verify_payee], due: 4h}"
	must   = "{name: m, when: " + always + ", then: review, mandatory: true, reason: C}"
	allow  = "{name: a, when: " + always + ", then: approve, override: true, reason: E}"
	atMost = "{name: c, when: " + always + ", at_most: review, due: 2h}"
	flag   = "{name: f, when: " + always + ", then: flag, actions: [hold_funds], reason: D}"
)

// Each row is a step of the order of precedence that docs/policy.md tells.
func TestTheOrderOfPrecedence(t *testing.T) {
	check := func(r request, verdict vaglio.Verdict, codes, actions string, rules ...string) {
		t.Helper()
		out := r.by(t, parse(t, "rules:\n  - "+strings.Join(append(rules, "{name: s, when: true, then: deny, state: shadow}"), "\n  - ")))
		if out.Verdict != verdict || strings.Join(out.Codes, " ") != codes || strings.Join(out.Actions, " ") != actions {
			t.Errorf("%s, codes %v, actions %v by %s", out.Verdict, out.Codes, out.Actions, names(out))
		}
	}
	situation := func(probability float64, change func(*request)) request { return fine().at(probability).with(change) }
	guarded := func(r *request) { r.Guard = policy.GuardState{Review: true} }
	stopped := func(r *request) { r.Guard = policy.GuardState{Review: true, Denials: true} }
	busy := func(r *request) { r.Counters.Approvals1h = 3 }
	twice := func(r *request) { r.Duplicate = true }
	over := func(r *request) { r.RefundableMinor = 1999 }
	unknown := func(r *request) { r.RefundableKnown = false }
	foreign := func(r *request) { r.Foreign = true }
	degraded := func(r *request) { r.Degraded = true }

	// 3: the strictest of score and rules
	check(fine(), vaglio.Deny, "A B", "four_eyes verify_payee", deny, review)
	check(fine(), vaglio.Deny, "B A", "verify_payee four_eyes", review, deny)
	check(fine(), vaglio.Review, "B D", "verify_payee hold_funds", review, flag)
	check(fine().at(0.9), vaglio.Deny, "B", "verify_payee", review)
	check(fine().at(0.3), vaglio.Review, "F", "", "{name: p, when: true, then: approve, reason: F}") // no allow-list
	// 4: an allow-list
	check(fine().at(0.9), vaglio.Approve, "E", "", allow)
	check(fine().at(0.9), vaglio.Approve, "E D", "hold_funds", deny, review, allow, flag)
	check(fine(), vaglio.Review, "E C", "", deny, allow, must)
	check(fine().at(nan), vaglio.Approve, "E", "", allow) // an explicit rule on other grounds
	// 5: guards
	check(situation(0.01, guarded), vaglio.Review, "E", "", allow)
	check(situation(0.9, guarded), vaglio.Deny, "", "")
	check(situation(0.9, stopped), vaglio.Review, "", "")
	// 6: caps and duplicates
	check(situation(0.01, busy), vaglio.Review, "E REFUND_VELOCITY", "", allow)
	check(situation(0.01, twice), vaglio.Review, "E REFUND_VELOCITY", "", allow)
	check(situation(0.9, busy), vaglio.Deny, "", "")
	// 7: the payment
	check(situation(0.01, over), vaglio.Deny, "E OVER_CAPTURED", "", allow)
	check(situation(0.3, foreign), vaglio.Review, "E PAYMENT_UNKNOWN", "", allow)
	check(situation(0.01, unknown), vaglio.Review, "E PAYMENT_UNKNOWN", "", allow)
	check(situation(0.9, unknown), vaglio.Deny, "", "")
	// 8: the ceiling
	check(fine().at(0.99), vaglio.Review, "A", "four_eyes", deny, atMost)
	check(situation(0.01, over), vaglio.Review, "OVER_CAPTURED", "", atMost)
	check(fine(), vaglio.Approve, "", "", atMost)
	check(fine().at(0.9), vaglio.Approve, "E", "", atMost, allow)
	// 9: degraded
	check(situation(0.01, degraded), vaglio.Review, "E", "", allow)
	check(situation(0.9, degraded), vaglio.Review, "A", "four_eyes", deny)
	check(situation(0.9, func(r *request) { r.Degraded, r.RefundableMinor = true, 0 }), vaglio.Review, "", "")
}

func TestRulesThatAreNotActiveHaveNoEffect(t *testing.T) {
	check := func(keys string, want vaglio.Verdict, hits string) {
		t.Helper()
		out := fine().by(t, parse(t, "rules: [{name: x, when: true, then: deny, reason: A, actions: [hold_funds], "+keys+"}]"))
		if out.Verdict != want || names(out) != hits || (len(out.Codes)+len(out.Actions) > 0) != (want == vaglio.Deny) {
			t.Errorf("%+v", out)
		}
	}
	check("state: active", vaglio.Deny, "x:deny:active")
	check("state: shadow", vaglio.Approve, "x:deny:shadow")
	check("state: off", vaglio.Approve, "")
	check("from: 2026-11-23T10:00:00Z", vaglio.Deny, "x:deny:active")
	check("from: 2026-11-23T10:00:00.001Z", vaglio.Approve, "")
	check("until: 2026-11-23T10:00:00Z", vaglio.Approve, "")
	check("from: 2026-11-23, until: 2026-11-24", vaglio.Deny, "x:deny:active")
}

func TestAReviewIsDueAsTheStrictestRuleSays(t *testing.T) {
	check := func(at string, want string, rules ...string) {
		t.Helper()
		moment, err := vaglio.ParseInstant(at)
		if err != nil {
			t.Fatal(err)
		}
		r := fine().with(func(r *request) { r.Moment = moment })
		within := r.by(t, parse(t, "review_within: 45m\nrules: ["+strings.Join(rules, ", ")+"]")).ReviewWithin
		if due := (moment + vaglio.Instant(within.Milliseconds())).String(); due != want {
			t.Errorf("%s", due)
		}
	}
	next := "{name: n, when: true, at_most: review, due: next_business_day}"
	check("2026-11-23T10:00:00Z", "2026-11-23T10:45:00.000Z")
	check("2026-11-23T10:00:00Z", "2026-11-23T12:00:00.000Z", review, atMost)
	check("2026-11-23T10:00:00Z", "2026-11-24T16:00:00.000Z", next)                                             // Monday
	check("2026-11-27T23:30:00Z", "2026-11-30T16:00:00.000Z", next)                                             // Friday evening, Saturday in Rome
	check("2026-11-28T00:00:00Z", "2026-11-30T16:00:00.000Z", next)                                             // Saturday
	check("2026-11-29T12:00:00Z", "2026-11-30T16:00:00.000Z", next)                                             // Sunday
	check("2026-11-23T10:00:00Z", "2026-11-23T10:45:00.000Z", "{name: w, when: true, then: review, reason: A}") // says nothing of it
	check("2026-11-23T10:00:00Z", "2026-11-23T10:45:00.000Z", review, allow)                                    // set aside
}

// A hundred requests of one customer on a hundred payments, at the same moment, do not see one another in history.
func TestABurstOfOneCustomerDoesNotAllPass(t *testing.T) {
	b, err := policy.Default().Bind(features.Default())
	if err != nil {
		t.Fatal(err)
	}
	var counters policy.Counters
	approved, ev := 0, policy.Evaluation{}
	for range 100 {
		r := fine()
		b.Evaluate(&r.Input, &ev)
		r.Counters = counters
		out := b.Conclude(&ev, r.Situation)
		counters.Requests1h++
		counters.Requests24h++
		if out.Verdict == vaglio.Approve {
			approved++
			counters.Approvals1h++
			counters.Approvals24h++
			counters.Approved24h += r.Request.Amount
		} else if out.Verdict != vaglio.Review || names(out) != "customer_caps:review:active" || out.Codes[0] != "REFUND_VELOCITY" {
			t.Fatalf("%+v", out)
		}
	}
	if approved != 3 {
		t.Errorf("%d approvals", approved)
	}
}

func TestEachCapHolds(t *testing.T) {
	check := func(caps string, counters policy.Counters, want vaglio.Verdict) {
		t.Helper()
		if out := fine().with(func(r *request) { r.Counters = counters }).by(t, parse(t, "caps: "+caps)); out.Verdict != want {
			t.Errorf("%+v", out)
		}
	}
	many := policy.Counters{Requests1h: 99, Requests24h: 99, Approvals1h: 99, Approvals24h: 99, Approved24h: 1e9}
	check("none", many, vaglio.Approve)
	check("{requests_1h: none, requests_24h: none, approvals_1h: none, approvals_24h: none, approved_amount_24h: none}", many, vaglio.Approve)
	check("{requests_1h: 2}", policy.Counters{Requests1h: 1}, vaglio.Approve)
	check("{requests_1h: 2}", policy.Counters{Requests1h: 2}, vaglio.Review)
	check("{requests_24h: 2}", policy.Counters{Requests24h: 2}, vaglio.Review)
	check("{approvals_1h: 0}", policy.Counters{}, vaglio.Review)
	check("{approvals_24h: 2}", policy.Counters{Approvals24h: 2}, vaglio.Review)
	check("{approved_amount_24h: 10000}", policy.Counters{Approved24h: 8000}, vaglio.Approve)
	check("{approved_amount_24h: 10000}", policy.Counters{Approved24h: 8001}, vaglio.Review)
	unpriced := fine().with(func(r *request) { r.Fact.BaseKnown = false })
	if out := unpriced.by(t, parse(t, "name: x")); out.Verdict != vaglio.Review {
		t.Errorf("an amount that can't be held against the cap: %+v", out)
	}
}

func TestAFullQueueKeepsTheRiskiestPart(t *testing.T) {
	p := "\nreview_capacity: {open_cases: 100, from: 1.2, when_full: narrow, approve_below: 0.3, max_amount: 5000}\nexploration: {share: 0.1, max_amount: 9000, daily_budget: 90000}\n"
	check := func(r request, load float64, rules string, want vaglio.Verdict, hits string) {
		t.Helper()
		if out := r.with(func(r *request) { r.QueueLoad = load }).by(t, parse(t, rules+p)); out.Verdict != want || names(out) != hits {
			t.Errorf("%s by %s", out.Verdict, names(out))
		}
	}
	check(fine().at(0.2), 1.1, "", vaglio.Review, "")
	check(fine().at(0.2), nan, "", vaglio.Review, "")
	check(fine().at(0.2), 1.2, "", vaglio.Approve, "review_capacity:approve:active")
	check(fine().at(0.3), 9, "", vaglio.Review, "")
	check(fine("amount", 5001).at(0.2), 9, "", vaglio.Review, "")
	check(fine().at(nan), 9, "", vaglio.Review, "")
	check(fine().at(0.2), 9, "rules: ["+review+"]", vaglio.Review, "r:review:active")
	check(fine().at(0.2), 9, "rules: ["+allow+"]", vaglio.Approve, "a:approve:active")
	check(fine().at(0.2).with(func(r *request) { r.Duplicate = true }), 9, "", vaglio.Review, "review_capacity:approve:active duplicate_request:review:active")
}

func TestOnlyWhatTheScoreAloneIsAgainstCanBeExplored(t *testing.T) {
	p := "exploration: {share: 0.1, max_amount: 3000, daily_budget: 90000}\n"
	check := func(r request, rules string, want bool) {
		t.Helper()
		if out := r.by(t, parse(t, p+rules)); out.Explorable != want {
			t.Errorf("%+v", out)
		}
	}
	check(fine().at(0.3), "", true)
	check(fine().at(0.3), "rules: ["+flag+"]", true)
	check(fine().at(0.01), "", false)
	check(fine().at(0.9), "", true)
	check(fine().at(nan), "", false)
	check(fine().at(0.3), "rules: ["+review+"]", false)
	check(fine().at(0.9), "rules: ["+review+"]", false)
	check(fine("amount", 3001).at(0.3), "", false)
	for _, change := range []func(*request){
		func(r *request) { r.Degraded = true }, func(r *request) { r.Duplicate = true }, func(r *request) { r.Foreign = true },
		func(r *request) { r.Guard.Review = true }, func(r *request) { r.RefundableKnown = false }, func(r *request) { r.RefundableMinor = 1 },
		func(r *request) { r.Counters.Approvals1h = 3 }, func(r *request) { r.Fact.BaseKnown = false },
	} {
		check(fine().at(0.3).with(change), "", false)
	}
}

func TestAnEvaluationIsConcludedInSeveralSituations(t *testing.T) {
	b, err := parse(t, "rules: [{name: x, when: counters.requests_1h > 1 and request.amount > 1, then: deny, reason: A}]").Bind(features.Default())
	if err != nil {
		t.Fatal(err)
	}
	r := fine()
	var ev policy.Evaluation
	b.Evaluate(&r.Input, &ev)
	for range 3 {
		r.Counters.Requests1h = 0
		if out := b.Conclude(&ev, r.Situation); out.Verdict != vaglio.Approve {
			t.Errorf("%+v", out)
		}
		r.Counters.Requests1h = 2
		if out := b.Conclude(&ev, r.Situation); out.Verdict != vaglio.Deny || len(out.Rules) != 1 {
			t.Errorf("%+v", out)
		}
	}
}

// drawn is a random request with values of features that rules can read, some missing.
func drawn(t *rapid.T) request {
	value := rapid.OneOf(rapid.Just(nan), rapid.Float64Range(-10, 10))
	r := fine("customer_requests_1h", value.Draw(t, "f1"), "payment_age", value.Draw(t, "f2"), "payout_differs", value.Draw(t, "f3"))
	r.Probability = rapid.OneOf(rapid.Just(nan), rapid.Float64Range(0, 1)).Draw(t, "probability")
	r.RiskScore = value.Draw(t, "risk score")
	r.RefundableKnown, r.Foreign, r.Degraded, r.Duplicate = rapid.Bool().Draw(t, "known"), rapid.Bool().Draw(t, "foreign"), rapid.Bool().Draw(t, "degraded"),
		rapid.Bool().Draw(t, "duplicate")
	r.RefundableMinor = rapid.Int64Range(0, 4000).Draw(t, "refundable")
	r.Guard.Review = rapid.Bool().Draw(t, "guard")
	r.QueueLoad = rapid.OneOf(rapid.Just(nan), rapid.Float64Range(0, 3)).Draw(t, "load")
	r.Counters.Requests1h = rapid.IntRange(0, 6).Draw(t, "requests")
	return r
}

// drawnRules are random rules without allow-lists, each a row.
func drawnRules(t *rapid.T, outcomes ...string) []string {
	conditions := []string{"customer_requests_1h > 1", "payment_age < 3 or payout_differs", "not (payment_age >= 0)", "probability > 0.5", "risk_score >= 3",
		"missing(payment_age)", "counters.requests_1h >= 3", "true", "payout_differs and known(payment_age)", "customer_requests_1h / payment_age > 1"}
	var rows []string
	for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
		rows = append(rows, fmt.Sprintf("{name: x%d, when: '%s', %s}", i, rapid.SampledFrom(conditions).Draw(t, "when"), rapid.SampledFrom(outcomes).Draw(t, "then")))
	}
	return rows
}

var someOutcomes = []string{"then: review", "then: deny", "then: flag", "at_most: review", "then: approve", "then: review, mandatory: true", "then: deny, state: shadow"}

func ofRules(t *rapid.T, rows []string) *policy.Policy {
	p, err := policy.Parse([]byte("review_capacity: {open_cases: 9, when_full: narrow, approve_below: 0.2}\nrules: [" + strings.Join(rows, ", ") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func decide(t *rapid.T, r request, rows []string) policy.Outcome {
	b, err := ofRules(t, rows).Bind(features.Default())
	if err != nil {
		t.Fatal(err)
	}
	var ev policy.Evaluation
	b.Evaluate(&r.Input, &ev)
	return b.Conclude(&ev, r.Situation)
}

func strictness(v vaglio.Verdict) int {
	return slices.Index([]vaglio.Verdict{vaglio.Approve, vaglio.Review, vaglio.Deny}, v)
}

func TestAnUnknownProbabilityIsNeverApprovedByItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawn(t)
		r.Probability = nan
		if out := decide(t, r, drawnRules(t, someOutcomes...)); out.Verdict == vaglio.Approve || strictness(out.Verdict) < 0 {
			t.Fatalf("%+v", out)
		}
	})
}

func TestWhatIsUnknownOfAPaymentIsNeverApproved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawn(t)
		rows := drawnRules(t, append(someOutcomes, "then: approve, override: true")...)
		out := decide(t, r, rows)
		safe := r.RefundableKnown && r.Request.Amount <= r.RefundableMinor && !r.Foreign && !r.Degraded && !r.Duplicate && !r.Guard.Review && r.Counters.Requests1h < 5
		if out.Verdict == vaglio.Approve && !safe {
			t.Fatalf("%+v", out)
		}
	})
}

func TestACeilingNeverRaises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, rows := drawn(t), drawnRules(t, append(someOutcomes, "then: approve, override: true")...)
		before, after := decide(t, r, rows), decide(t, r, append(rows, "{name: ceiling, when: true, at_most: review}"))
		if strictness(after.Verdict) > strictness(before.Verdict) || after.Verdict == vaglio.Deny || before.Verdict == vaglio.Approve && after.Verdict != vaglio.Approve {
			t.Fatalf("%s became %s", before.Verdict, after.Verdict)
		}
	})
}

func TestAShadowRuleNeverChangesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, rows := drawn(t), drawnRules(t, append(someOutcomes, "then: approve, override: true")...)
		shadow := "{name: shadow, when: true, state: shadow, " + rapid.SampledFrom([]string{"then: deny, actions: [hold_funds]", "then: approve, override: true",
			"at_most: review, due: 1m", "then: review, mandatory: true, reason: A"}).Draw(t, "shadow") + "}"
		before, after := decide(t, r, rows), decide(t, r, append(rows, shadow))
		after.Rules = slices.DeleteFunc(after.Rules, func(h vaglio.RuleHit) bool { return h.Name == "shadow" })
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}

func TestTheOrderOfRulesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, rows := drawn(t), drawnRules(t, append(someOutcomes, "then: approve, override: true")...)
		shuffled := slices.Clone(rows)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Shuffle(len(rows), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if a, b := decide(t, r, rows), decide(t, r, shuffled); a.Verdict != b.Verdict || a.ReviewWithin != b.ReviewWithin {
			t.Fatalf("%s, shuffled %s", a.Verdict, b.Verdict)
		}
	})
}

func TestARuleMoreIsNeverMilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, rows := drawn(t), drawnRules(t, "then: review", "then: deny", "then: flag", "then: approve")
		before, after := decide(t, r, rows), decide(t, r, append(rows, "{name: more, when: payment_age < 5, then: review}"))
		if strictness(after.Verdict) < strictness(before.Verdict) {
			t.Fatalf("%s became %s", before.Verdict, after.Verdict)
		}
	})
}

func TestADefaultReviewIsDueInHalfAnHour(t *testing.T) {
	if out := fine().at(0.3).by(t, policy.Default()); out.ReviewWithin != 30*time.Minute || out.ApprovalValid != 24*time.Hour {
		t.Errorf("%+v", out)
	}
}
