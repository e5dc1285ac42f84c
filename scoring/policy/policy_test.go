package policy_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// monday is 10:00 UTC on Monday, 23 November 2026.
var monday = func() vaglio.Instant {
	at, err := vaglio.ParseInstant("2026-11-23T10:00:00Z")
	if err != nil {
		panic(err)
	}
	return at
}()

// listed holds "list/value".
type listed []string

func (l listed) Contains(list, value string, _ vaglio.Instant) bool {
	return slices.Contains(l, list+"/"+value)
}

// a request of 20 EUR that nothing speaks against, in the default catalogue, and the situation of its decision.
type request struct {
	policy.Input
	policy.Situation
}

var nan = math.NaN()

// fine changes a request that the default policy approves: pairs of a name and a value. Names with a dot are texts of the
// request, "amount" is its amount, others are features.
func fine(changes ...any) request {
	r := vaglio.Request{ID: "rr_1", Type: "refund", Amount: 2000, Currency: "EUR", Reason: "not_received",
		Entities: vaglio.FieldsOf("customer", "c_1", "device", "d_1", "instrument", "card_1", "payment", "p_1")}
	vector := make([]float64, len(features.Default().Features()))
	for i := range vector {
		vector[i] = nan
	}
	fact := func() vaglio.Fact {
		return vaglio.Fact{Event: r.Event(monday), KnownAt: monday, BaseAmount: r.Amount, BaseKnown: true}
	}
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if text, ok := changes[i+1].(string); ok {
			switch section, member, _ := strings.Cut(name, "."); section {
			case "entities":
				r.Entities = r.Entities.With(member, text)
			case "attributes":
				r.Attributes = r.Attributes.With(member, text)
			case "type":
				r.Type = text
			case "reason":
				r.Reason = text
			case "rail":
				r.Payment = &vaglio.PaymentState{Rail: text}
			default:
				panic(name)
			}
			continue
		}
		value, ok := changes[i+1].(float64)
		if !ok {
			value = float64(changes[i+1].(int))
		}
		if name == "amount" {
			r.Amount = int64(value)
		} else {
			vector[slices.Index(features.Default().Names(), name)] = value
		}
	}
	f := fact()
	return request{
		policy.Input{Request: &r, Fact: &f, Vector: vector, Probability: 0.01, RiskScore: 50,
			Thresholds: models.Thresholds{ApproveBelow: 0.06, DenyFrom: 0.75}, Moment: monday, Lists: listed{}},
		policy.Situation{RefundableMinor: 1_000_000, RefundableKnown: true}}
}

func (r request) with(change func(*request)) request {
	change(&r)
	return r
}

func (r request) at(probability float64) request {
	r.Probability = probability
	return r
}

func parse(t testing.TB, yaml string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// by decides by a policy.
func (r request) by(t testing.TB, p *policy.Policy) policy.Outcome {
	t.Helper()
	b, err := p.Bind(features.Default())
	if err != nil {
		t.Fatal(err)
	}
	var ev policy.Evaluation
	b.Evaluate(&r.Input, &ev)
	return b.Conclude(&ev, r.Situation)
}

func names(out policy.Outcome) string {
	var hits []string
	for _, h := range out.Rules {
		hits = append(hits, h.Name+":"+h.Action+":"+h.State)
	}
	return strings.Join(hits, " ")
}

func TestTheTwelveRulesOfTheDefaultPolicy(t *testing.T) {
	if w := policy.Default().Warnings(monday); len(w) > 0 || len(policy.Default().Rules()) != 12 {
		t.Fatalf("%d rules, %v", len(policy.Default().Rules()), w)
	}
	check := func(r request, verdict vaglio.Verdict, hits, actions, codes string) {
		t.Helper()
		out := r.by(t, policy.Default())
		if got := strings.Join(out.Codes, " "); out.Verdict != verdict || names(out) != hits || strings.Join(out.Actions, " ") != actions || got != codes {
			t.Errorf("%s by %q, actions %v, codes %s", out.Verdict, names(out), out.Actions, got)
		}
	}
	quiet := func(r request) { t.Helper(); check(r, vaglio.Approve, "", "", "") }
	quiet(fine())
	check(fine("request_share_of_captured", 1.01), vaglio.Deny, "over_captured:deny:active", "", "OVER_CAPTURED")
	quiet(fine("request_share_of_captured", 1))
	check(fine("customer_requests_1h", 3), vaglio.Review, "repeated_attempts:review:active", "", "REFUND_VELOCITY")
	check(fine("payment_requests", 1, "customer_since_last_request", 23.9), vaglio.Review, "repeated_attempts:review:active", "", "REFUND_VELOCITY")
	quiet(fine("customer_requests_1h", 2, "payment_requests", 1, "customer_since_last_request", 24))
	check(fine("type", "cancellation", "payment_settled", 0, "payout_differs", 1, "customer_payout_age", 900, "attributes.payee_verification", "match"),
		vaglio.Deny, "unsettled_elsewhere:deny:active", "return_to_source", "NOT_SETTLED")
	check(fine("type", "cancellation", "customer_spent_share_24h", 0.21), vaglio.Review, "credit_used:review:active", "hold_funds return_to_source", "CREDIT_USED")
	check(fine("payout_differs", 1, "customer_payout_age", 71, "attributes.payee_verification", "match"), vaglio.Review,
		"payout_elsewhere:review:active", "step_up_auth hold_funds", "PAYOUT_ELSEWHERE")
	check(fine("payout_differs", 1, "attributes.payee_verification", "match"), vaglio.Review,
		"payout_elsewhere:review:active", "step_up_auth hold_funds", "PAYOUT_ELSEWHERE")
	check(fine("payout_differs", 1, "customer_payout_age", 72), vaglio.Review, // nobody verified the payee
		"payout_elsewhere:review:active", "step_up_auth hold_funds", "PAYOUT_ELSEWHERE")
	check(fine("payout_differs", 1, "customer_payout_age", 72, "attributes.payee_verification", "a_word_of_tomorrow"), vaglio.Review,
		"payout_elsewhere:review:active", "step_up_auth hold_funds", "PAYOUT_ELSEWHERE")
	quiet(fine("payout_differs", 1, "customer_payout_age", 72, "attributes.payee_verification", "match"))
	check(fine("customer_since_credentials_changed", 71), vaglio.Review, "takeover:review:active", "step_up_auth contact_previous_channel", "ACCOUNT_CHANGED")
	check(fine("customer_since_credentials_changed", 71, "customer_device_age", 23), vaglio.Review,
		"takeover:review:active", "step_up_auth contact_previous_channel", "ACCOUNT_CHANGED")
	quiet(fine("customer_since_credentials_changed", 71, "customer_device_age", 24))
	check(fine("payment_age", 23, "payout_differs", 1, "customer_spent_share_24h", 0.05, "amount", 30_000, "customer_payout_age", 99,
		"attributes.payee_verification", "match", "amount_vs_customer_mean", 1), vaglio.Review,
		"fast_turnaround:review:active", "hold_funds escalate_aml", "QUICK_TURNAROUND")
	check(fine("linked_fraud_365d", 1), vaglio.Review, "linked_fraud:review:active", "", "LINKED_FRAUD")
	check(fine("payout_customers_90d", 4), vaglio.Review, "linked_fraud:review:active", "", "LINKED_FRAUD")
	for _, value := range []string{"card_1", "d_1"} { // the payout is the source
		check(fine().with(func(r *request) { r.Lists = listed{"confirmed_fraud/" + value} }), vaglio.Deny, "listed:deny:active", "", "LINKED_FRAUD")
	}
	quiet(fine().with(func(r *request) { r.Lists = listed{"confirmed_fraud/c_1", "other/d_1"} }))
	check(fine("customer_requests_90d", 5, "customer_refund_share_180d", 0.41), vaglio.Review, "serial:review:active", "", "REFUND_HISTORY")
	quiet(fine("customer_requests_90d", 5, "customer_refund_share_180d", 0.4))
	check(fine("amount", 20_000), vaglio.Review, "out_of_norm:review:active", "", "AMOUNT_UNUSUAL")
	check(fine("amount", 20_000, "amount_vs_customer_mean", 5.1), vaglio.Review, "out_of_norm:review:active", "", "AMOUNT_UNUSUAL")
	quiet(fine("amount", 20_000, "amount_vs_customer_mean", 5))
	check(fine("reason", "unauthorised").at(0.99), vaglio.Review, "statutory_claim:at_most_review:active", "", "")
	check(fine("reason", "withdrawal_right"), vaglio.Approve, "statutory_claim:at_most_review:active", "", "")
}

func TestTheScoreDecidesByThresholds(t *testing.T) {
	check := func(yaml string, r request, want vaglio.Verdict) {
		t.Helper()
		if out := r.by(t, parse(t, yaml)); out.Verdict != want || out.ByScore != want {
			t.Errorf("%s, by score %s", out.Verdict, out.ByScore)
		}
	}
	check("thresholds: {from: model}", fine().at(0.059), vaglio.Approve)
	check("thresholds: {from: model}", fine().at(0.06), vaglio.Review)
	check("name: x", fine().at(0.75), vaglio.Deny)
	check("approve_below: 0.3\ndeny_from: 0.4", fine().at(0.29), vaglio.Approve) // the keys of earlier policies
	check("thresholds: {deny_from: 0.4}", fine().at(0.4), vaglio.Deny)
	check("approve_below: 1", fine().at(0.8), vaglio.Deny) // the model denies
	check("name: x", fine().at(nan), vaglio.Review)
	check("approve_below: 1\ndeny_from: 1", fine().at(math.Inf(-1)), vaglio.Review)
	check("approve_below: 1\ndeny_from: 1", fine().at(-0.1), vaglio.Review)
	check("name: x", fine().with(func(r *request) { r.Thresholds = models.Thresholds{} }), vaglio.Review) // a model without any
	check("name: x", fine().with(func(r *request) { r.Thresholds.ApproveBelow = nan }), vaglio.Review)
}

func TestTheScoreDecidesByCosts(t *testing.T) {
	costs := parse(t, "costs: {}")
	check := func(r request, verdict vaglio.Verdict, expectedLoss int64) {
		t.Helper()
		if out := r.by(t, costs); out.Verdict != verdict || out.ExpectedLossMinor != expectedLoss {
			t.Errorf("%s, %d", out.Verdict, out.ExpectedLossMinor)
		}
	}
	check(fine("amount", 5000, "rail", "sct_inst").at(0.08), vaglio.Approve, 360) // the thresholds are 0.09 and 0.71: see TestTheWorkedExampleOfCosts
	check(fine("amount", 5000, "rail", "sct_inst").at(0.10), vaglio.Review, 450)
	check(fine("amount", 5000, "rail", "sct_inst").at(0.72), vaglio.Deny, 3240)
	check(fine("amount", 5000, "rail", "sct_inst").at(nan), vaglio.Review, 0)
	check(fine("amount", 5000, "rail", "card").at(0.5), vaglio.Review, 2375)
	check(fine("amount", 5000, "rail", "wallet").at(0.5), vaglio.Review, 500)
	check(fine("amount", 5000, "rail", "wallet", "entities.payout_instrument", "iban_9").at(0.5), vaglio.Review, 1500)
	check(fine().with(func(r *request) { r.Fact.BaseKnown = false }), vaglio.Review, 20) // no rate: its cost is not known
	if out := fine().at(0.5).by(t, parse(t, "name: x")); out.ExpectedLossMinor != 1000 {
		t.Errorf("without costs all is lost: %d", out.ExpectedLossMinor)
	}
}

func TestASegmentIsTreatedInItsOwnWay(t *testing.T) {
	p := parse(t, `
approve_below: 0.1
deny_from: 0.9
segments:
  - {name: vip, when: 'in_list("vip", request.entities.customer)', thresholds: {approve_below: 0.5, deny_from: 0.95}, review_within: 10m, caps: {approvals_1h: 50}}
  - {name: small, when: request.amount < 1000, costs: {review: {cost: 400}}}
  - {name: too_late, when: request.amount < 500, review_within: 5h}
`)
	if w := strings.Join(p.Warnings(monday), ""); w != "" {
		t.Errorf("%s", w)
	}
	vip := fine("amount", 100).at(0.4).with(func(r *request) { r.Lists = listed{"vip/c_1"}; r.Counters.Approvals1h = 49 })
	if out := vip.by(t, p); out.Segment != "vip" || out.Verdict != vaglio.Approve || out.ReviewWithin != 10*time.Minute {
		t.Errorf("%+v", out)
	}
	if out := fine("amount", 100).at(0.4).by(t, p); out.Segment != "small" || out.ReviewWithin != 30*time.Minute || out.Verdict != vaglio.Review {
		t.Errorf("%+v", out)
	}
	if out := fine().by(t, p); out.Segment != "" || out.Verdict != vaglio.Approve {
		t.Errorf("%+v", out)
	}
	if own, ok := p.Segment("small"); !ok || own.Costs.Review.Cost != 400 || own.Caps != p.Caps {
		t.Errorf("%+v", own)
	}
}

func TestTheNamesOfAllThatAConditionReads(t *testing.T) {
	check := func(when string, r request, want bool) {
		t.Helper()
		out := r.by(t, parse(t, "rules: [{name: x, when: '"+when+"', then: flag}]"))
		if fired := strings.Contains(names(out), "x:flag:active"); fired != want {
			t.Errorf("%s: %t", when, fired)
		}
	}
	yen := fine().with(func(r *request) { r.Request.Currency, r.Fact.Currency, r.Fact.BaseAmount = "JPY", "JPY", 12 })
	check("request.amount == 12 and request.amount_original == 2000 and request.currency == \"JPY\"", yen, true)
	check("request.amount >= 0", fine().with(func(r *request) { r.Fact.BaseKnown = false }), false)
	check("missing(request.amount)", fine().with(func(r *request) { r.Fact.BaseKnown = false }), true)
	check("request.hour == 10 and request.weekday == 1", fine(), true)
	check("request.partial", fine().with(func(r *request) { r.Request.Partial = true }), true)
	check("request.rail == \"card\" and request.type == \"refund\"", fine("rail", "card"), true)
	check("rail == \"card\"", fine("rail", "card"), true)                                                // a categorical feature, as a text
	check("payee_verification == \"tomorrow\"", fine("attributes.payee_verification", "tomorrow"), true) // of a category that training never saw
	check("missing(payee_verification)", fine(), true)
	check("known(payee_verification)", fine("attributes.payee_verification", "match"), true)
	check("probability > 0.3 and risk_score >= 50", fine().at(0.4), true)
	check("not (probability > 0.3)", fine().at(nan), false) // missing, not false
	check("request.attributes.channel == \"app\"", fine("attributes.channel", "app"), true)
	check("request.attributes.channel != \"app\"", fine(), false)
	check("in_list(\"a\", request.entities.ip)", fine().with(func(r *request) { r.Lists = listed{"a/"} }), false)
	check("not in_list(\"a\", request.entities.ip)", fine(), false) // no address: nothing is known
	check("not in_list(\"a\", request.entities.ip, request.entities.device)", fine(), true)
	check("in_list(\"a\", rail)", fine("rail", "card").with(func(r *request) { r.Lists = listed{"a/card"} }), true)
	check("in_list(\"a\", request.entities.device)", fine().with(func(r *request) { r.Lists = nil }), false)
	check("request.entities.payout_instrument == request.entities.instrument", fine(), true) // an absent payout is the source
	check("counters.requests_1h == 2 and counters.requests_24h == 3 and counters.approvals_1h == 1 and counters.approvals_24h == 2"+
		" and counters.approved_amount_1h == 100 and counters.approved_amount_24h == 700",
		fine().with(func(r *request) {
			r.Counters = policy.Counters{Requests1h: 2, Requests24h: 3, Approvals1h: 1, Approvals24h: 2, Approved1h: 100, Approved24h: 700}
		}), true)
	check("payout_differs", fine("payout_differs", 1).with(func(r *request) { r.Vector = nil }), false) // history is gone
}

func TestEqualContentIsAnEqualVersion(t *testing.T) {
	a, b := parse(t, "name: strict\napprove_below: 0.03"), parse(t, "name: strict\napprove_below: 0.030")
	if a.Version() == b.Version() || a.Version() != parse(t, string(a.Source())).Version() || !strings.HasPrefix(a.Version(), "strict-") {
		t.Errorf("%s, %s", a.Version(), b.Version())
	}
}

func TestBindingNamesWhatACatalogueLacks(t *testing.T) {
	c, err := features.Parse([]byte("name: own\nfeatures:\n  - {name: customer_requests_1h, entity: customer, events: [refund_requested], aggregate: count, window: 1h}\n" +
		"  - {name: rail, categorical: request.attributes.rail, categories: [card]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, "rules:\n  - {name: good, when: customer_requests_1h > 3, then: review, reason: A}\n  - {name: bad, when: payment_age < 3, then: review, reason: A}\n"+
		"  - {name: worse, when: rail > 3, then: review, reason: A}\n  - {name: never, when: customer_requests_1h < 0, then: flag}\n")
	_, err = p.Bind(c)
	for _, want := range []string{`line 3: rule "bad": there is no feature "payment_age"`, `line 4: rule "worse": the feature rail is a text`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	b, dropped := p.BindLoose(c)
	if !slices.Equal(dropped, []string{"bad", "worse"}) || b.Policy() != p {
		t.Errorf("%v", dropped)
	}
	if w := strings.Join(b.Warnings(), "\n"); !strings.Contains(w, `line 5: rule "never": can never fire: customer_requests_1h < 0`) {
		t.Errorf("%s", w)
	}
	if _, dropped := policy.Default().BindLoose(c); len(dropped) != 10 { // all but listed and statutory_claim
		t.Errorf("%v", dropped)
	}
}
