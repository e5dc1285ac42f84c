package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio/features"
	"vaglio/scoring/policy"
)

func TestMistakesAreToldWithLineAndRule(t *testing.T) {
	check := func(yaml string, wants ...string) {
		t.Helper()
		_, err := policy.Parse([]byte(yaml))
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
	rule := func(keys string, want string) {
		t.Helper()
		check("name: x\nrules:\n  - {name: x, "+keys+"}", `line 3: rule "x": `+want)
	}
	when := func(when string, want string) {
		t.Helper()
		rule("then: flag, when: '"+when+"'", "when: "+want)
	}
	// All together, in the order of the lines.
	check("approve_bellow: 0.1\ndeny_from: 2\nrules:\n  - {name: a, when: nonsense(, then: review}\n  - {name: a, when: true, then: refuse}\n",
		"line 1: there is no key \"approve_bellow\" here: there are", "line 2: deny_from: want a number from 0 to 1, not \"2\"",
		`line 4: rule "a": when: `, "line 5: rule \"a\": then: want approve, review, deny, flag", `line 5: rule "a": the name is taken`)
	check("", "the file is empty")
	check("- a", "want keys and values, not a list")
	check("a: b\n---\na: c", "want one YAML document, not 2")
	check("name: &x a\nrules: *x", "line 2: anchors, aliases, tags and merges")
	check("name: !!str a", "anchors, aliases, tags and merges")
	check("rules: "+strings.Repeat("[", 100), "nested too deep")
	check("name: a b", "want letters, digits")
	check("name:", "line 1: name: has no value; leave it out")
	check("name: a\nname: b", "line 2: name: is given twice")
	check("approve_below: 0.5\ndeny_from: 0.4", "approve_below 0.5 is above deny_from 0.4")
	check("approve_below: .nan", "want a number from 0 to 1")
	check("approve_below: 0.5\nthresholds: {from: model}", "want one of thresholds, costs, and approve_below with deny_from")
	check("thresholds: {from: model, deny_from: 0.2}", "from: model takes no thresholds beside it")
	check("review_within: 10s", "review_within: want a duration from 1m to 2160h, not \"10s\"")
	check("approval_valid: 3", "want a duration")
	check("require_payment: no thanks", "want true or false")
	check("caps: {requests_1h: -1}", "caps: requests_1h: want a whole number from 0")
	check("caps: some", "want none")
	check("review_capacity: {when_full: narrow}", "want one of open_cases and per_hour", "narrow and approve_below belong together")
	check("exploration: {share: 0.1}", "want max_amount and daily_budget")
	check("guards: {deny_rate: {min_decisions: 3}}", "guards: deny_rate: want max")
	check("guards: {segments: {vip: {approvals_per_hour: 3}}}", "guards: segments: vip: there is no segment of this name")
	check("guards: {recover: sometime}", "guards: recover: want a duration")
	check("segments: [{name: vip}]", `segment "vip": want when`)
	check("segments: [{name: vip, when: counters.requests_1h > 3}]", "a segment can't read counters")
	check("costs: {review: {catch: 2}}", "costs: review: catch: want a number from 0 to 1")

	rule("then: review", "want when")
	rule("when: true", "want then or at_most")
	rule("when: true, then: deny, override: true", "override belongs to then: approve")
	rule("when: true, then: approve, override: true, at_most: review", "override and at_most do not go together")
	rule("when: true, then: flag, mandatory: true", "mandatory belongs to")
	rule("when: true, then: deny, due: 3h", "due belongs to")
	rule("when: true, at_most: approve", "at_most: want review")
	rule("when: true, then: flag, from: 2026-01-02, until: 2026-01-02", "until is not after from")
	rule("when: true, then: flag, from: soon", "from: \"soon\" is neither")
	rule("when: true, then: flag, actions: [call_mother]", `actions: there is no action "call_mother": there are step_up_auth`)
	rule("when: true, then: flag, actions: [hold_funds, hold_funds]", `actions: entry 2: "hold_funds" is given twice`)
	rule("when: true, then: flag, reason: velocity", "reason: want a reason code")
	rule("when: true, then: flag, state: on", "state: want active, shadow, off")
	check("rules: [{name: Bad Name, when: true, then: flag}]", "want a name of a-z")
	check("rules: [{name: customer_caps, when: true, then: flag}]", `rule "customer_caps": the name is taken`)

	when("request.amount", "request.amount is not a condition: compare it with something")
	when("probability and true", "probability is not a condition")
	when("payment_age + 1", "payment_age + 1 is not a condition")
	when("3", "3 is not a condition")
	when("request.amount > \"3\"", "\"3\" is not part of the language of policies")
	when("request.amount == \"3\"", `a request has no text "amount"`)
	when("request.type > 3", "request.type is a text, not a number")
	when("request.type == 3", "3 is not part of the language of policies")
	when("request.tipe == \"refund\"", `a request has no text "tipe"`)
	when("request.sum > 3", `a request has no "sum"`)
	when("request.entities.Device == \"x\"", "\"Device\" is no name of entities")
	when("counters.requests > 3", `there is no counter "requests"`)
	when("probability == \"high\"", "probability is not a text")
	when("Payment_Age > 3", `there is no "Payment_Age"`)
	when("in_list(request.type, request.reason)", "in_list wants a list and texts")
	when("in_list(\"a\", 3)", "in_list wants a list and texts")
	when("in_list(\"A B\", request.reason)", "\"A B\" is no name of a list")
	when("request.type == \"\"", "there are no empty strings")
	when("len(request.type) > 3", "there is no function len")
	when("request.type matches \"a\"", "the operator matches is not part of the language of policies")
	when("let x = 3; x > 2", "let x = 3; x > 2 is not part of the language of policies")
	check("rules: [{name: x, when: '"+strings.Repeat("(", 300)+"true', then: flag}]", "unexpected token EOF")
	when(strings.Repeat("not ", 200)+"true", "the expression is nested deeper than 100")
	when(strings.Repeat("a", 5000), "the expression is longer than 4096 bytes")
}

func TestAPolicyIsBounded(t *testing.T) {
	rows := func(n int, text func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("  - " + text(i) + "\n")
		}
		return b.String()
	}
	row := func(i int) string { return fmt.Sprintf("{name: x%d, when: payment_age > %d, then: flag}", i, i) }
	p := parse(t, "rules:\n"+rows(1000, row))
	if n := len(p.Rules()); n != 1000 {
		t.Errorf("%d rules", n)
	}
	for _, c := range [][2]string{
		{"rules:\n" + rows(1001, row), "has more than 1000 entries"},
		{"name: " + strings.Repeat("x", 1<<20), "want at most 1048576 bytes"},
		{"rules:\n" + rows(300, func(int) string { return "{}" }), "and 850 more mistakes"},
		{"rules:\n" + rows(300, func(i int) string {
			return fmt.Sprintf("{name: x%d, when: request.attributes.a%d == \"b\", then: flag}", i, i)
		}), "more than 256 different texts"},
	} {
		if _, err := policy.Parse([]byte(c[0])); err == nil || !strings.Contains(err.Error(), c[1]) || len(err.Error()) > 60_000 {
			t.Errorf("%.300v", err)
		}
	}
}

func TestAllKeysAreRead(t *testing.T) {
	p := parse(t, `
name: all
approve_below: 0.05
deny_from: 0.8
require_payment: false
approval_valid: 12h
review_within: 20m
caps: {requests_1h: 1, requests_24h: 2, approvals_1h: 3, approvals_24h: none, approved_amount_24h: 5}
review_capacity: {per_hour: 12.5, from: 0.9, when_full: narrow, approve_below: 0.2}
exploration: {share: 0.02, max_amount: 1000, daily_budget: 20000}
audit_sample: 0.005
segments:
  - {name: vip, when: true}
guards:
  approvals_per_hour: 100
  approved_amount_per_hour: 1000000
  deny_rate: {max: 0.4, min_decisions: 50}
  score_drift: {max_psi: 0.25}
  segments: {vip: {approvals_per_hour: 7}}
  on_trip: last_good_model
  recover: manual
rules:
  - {name: x, description: why, when: true, then: review, at_most: review, mandatory: true, reason: A_1, actions: [hold_funds, four_eyes], due: 1h30m,
     state: shadow, from: 2026-01-02, until: 2026-02-03T04:05:06Z}
`)
	vip := policy.Limits{Approvals: 7, Approved: policy.Unlimited, DenyRate: 1}
	if *p.ApproveBelow != 0.05 || *p.DenyFrom != 0.8 || p.RequirePayment || p.ApprovalValid != 12*time.Hour || p.ReviewWithin != 20*time.Minute ||
		p.Caps != (policy.Caps{Requests1h: 1, Requests24h: 2, Approvals1h: 3, Approvals24h: policy.Unlimited, Approved24h: 5}) ||
		p.Capacity != (policy.Capacity{PerHour: 12.5, From: 0.9, Narrow: true, ApproveBelow: 0.2, MaxAmount: policy.Unlimited}) ||
		p.Exploration != (policy.Exploration{Share: 0.02, MaxAmount: 1000, DailyBudget: 20_000}) || p.AuditSample != 0.005 ||
		p.Guards.Limits != (policy.Limits{Approvals: 100, Approved: 1_000_000, DenyRate: 0.4, MinDecisions: 50}) || p.Guards.MaxDrift != 0.25 ||
		p.Guards.Segments["vip"] != vip || !p.Guards.LastModel || p.Guards.Recover != 0 || !slices.Equal(p.Segments(), []string{"vip"}) {
		t.Errorf("%+v", p)
	}
	r := p.Rules()[0]
	if r.Description != "why" || r.Then != "review" || !r.AtMost || !r.Mandatory || r.Reason != "A_1" || len(r.Actions) != 2 || r.Due.Within != 90*time.Minute ||
		r.State != "shadow" || r.From.String() != "2026-01-02T00:00:00.000Z" || r.Until.String() != "2026-02-03T04:05:06.000Z" || r.Line != 23 {
		t.Errorf("%+v", r)
	}
}

func TestWhatAPolicyHardlyMeansIsWarnedOf(t *testing.T) {
	check := func(rules string, want string) {
		t.Helper()
		if got := strings.Join(parse(t, "rules: ["+rules+"]").Warnings(monday), "\n"); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q", got)
		}
	}
	when := func(when, want string) {
		t.Helper()
		if want != "" {
			want = `line 1: rule "x": can never fire: ` + want
		}
		check("{name: x, then: flag, when: '"+when+"'}", want)
	}
	when("false", "it is false")
	when("payment_age > 3 and false", "it is false")
	when("probability > 1", "probability > 1")
	when("1 < probability", "1 < probability")
	when("risk_score >= 0 and risk_score < 0", "risk_score >= 0 and risk_score < 0")
	when("payment_age > 5 and payment_age < 3", "payment_age > 5 and payment_age < 3")
	when("payment_age > 5 and payment_age <= 5", "payment_age > 5 and payment_age <= 5")
	when("payment_age >= 5 and payment_age <= 5", "")
	when("payment_age > 5 and (payment_age < 3 or request.type == \"recal\")", "request.type == \"recal\"")
	when("request.type == \"refund\" and request.type == \"recall\"", "request.type == \"refund\" and request.type == \"recall\"")
	when("request.type not in [\"refund\", \"recall\", \"cancellation\"]", "not (request.type in")
	when("request.type != \"refund\" and request.type != \"recall\"", "")
	when("request.currency == \"EUR\" and request.currency in [\"USD\"]", "request.currency == \"EUR\" and request.currency in")
	when("missing(request.hour)", "missing(request.hour): it is never missing")
	when("missing(payment_age) and payment_age > 3", "missing(payment_age) and payment_age > 3")
	when("not known(payment_age) and payment_age > 3", "not (known(payment_age)) and payment_age > 3")
	when("not (payment_age > 3 or payment_age <= 3)", "not (payment_age > 3) and not (payment_age <= 3)")
	when("payment_age > -1 and payment_age < -2", "payment_age > -1 and payment_age < -2")
	when("counters.requests_1h < 0", "counters.requests_1h < 0")
	when("customer_requests_1h > payment_requests and customer_requests_1h < payment_requests", "") // not understood: may hold
	check("{name: x, then: review, reason: A, when: payment_age > 3, until: 2026-11-23}", "has expired: it was valid until 2026-11-23T00:00:00.000Z")
	check("{name: x, then: review, reason: A, when: payment_age > 3, until: 2026-11-24}", "")
	check("{name: x, then: approve, when: payment_age > 3}", "never changes a verdict")
	check("{name: x, then: approve, override: true, when: payment_age > 3}", "")
	check("{name: x, then: review, reason: A, when: true}", "fires on every request")
	check("{name: x, then: review, when: payment_age > 3}", "gives no reason")
	check("{name: x, then: deny, reason: A, when: payment_age > 3}, {name: y, then: review, reason: A, when: payment_age>3}", `rule "y": never matters: x has the same condition`)
	check("{name: x, then: review, reason: A, when: payment_age > 3}, {name: y, then: deny, reason: A, when: payment_age > 3}", `rule "y": makes x needless`)
	check("{name: x, then: review, reason: A, when: payment_age > 3}, {name: y, then: review, reason: B, when: payment_age > 3}", `rule "y": says the same as x`)
	check("{name: x, then: review, reason: A, when: payment_age > 3}, {name: y, then: review, reason: B, when: payment_age > 3, state: shadow}", "")
	check("{name: x, then: flag, when: false, state: off}", "")
	p := parse(t, "segments: [{name: a, when: true}, {name: b, when: request.amount > 3}, {name: c, when: request.amount < 0}]")
	if w := strings.Join(p.Warnings(0), "\n"); !strings.Contains(w, `segment "b": never applies: a comes first`) || !strings.Contains(w, `segment "c": never applies: request.amount < 0`) {
		t.Errorf("%s", w)
	}
}

func TestTheDifferenceOfTwoPolicies(t *testing.T) {
	a := parse(t, "name: a\nsegments: [{name: vip, when: request.amount > 3}]\nrules:\n  - {name: kept, when: payment_age > 3, then: review, reason: A}\n  - {name: gone, when: payment_age > 4, then: flag}\n")
	b := parse(t, "name: a\ndeny_from: 0.5\ncaps: {requests_1h: none}\naudit_sample: 0.01\nsegments: [{name: vip, when: request.amount > 3, deny_from: 0.9}]\n"+
		"rules:\n  - {name: came, when: payment_age > 5, then: deny, reason: B}\n  - {name: kept, when: payment_age > 3, then: deny, reason: A, actions: [hold_funds]}\n")
	var lines []string
	for _, c := range policy.Diff(a, b) {
		lines = append(lines, c.String())
	}
	want := []string{
		"~ policy: deny_from: the model's → 0.5",
		"- policy: caps: requests_1h: 5",
		"+ policy: audit_sample: 0.01",
		"~ segment vip: deny_from: the model's → 0.9",
		"- segment vip: caps: requests_1h: 5",
		"~ rule kept: then: review → deny",
		"+ rule kept: actions: hold_funds",
		"- rule gone: when: payment_age > 4, then: flag, state: active",
		"+ rule came: when: payment_age > 5, then: deny, reason: B, state: active",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
	if same := policy.Diff(b, b); len(same) > 0 {
		t.Errorf("%v", same)
	}
}

// Whatever a file holds, Parse answers with a policy that decides, or with an error.
func FuzzParse(f *testing.F) {
	f.Add(policy.DefaultYAML())
	for _, row := range []string{
		`{name: x, when: 'in_list("a", request.entities.device) and not (counters.requests_1h > 3)', at_most: review, due: next_business_day}`,
		`{name: x, when: 'request.type in ["refund"] ? probability > 0.2 : known(rail)', then: approve, override: true, from: 2026-01-01}`,
		`{name: x, when: 'max(payment_age, 1 / 0) != -1 or missing(request.attributes.a)', then: deny, mandatory: true, state: shadow}`,
		`{name: x, when: false, then: flag, actions: [hold_funds]}`,
	} {
		f.Add([]byte("name: t\nrules:\n  - " + row + "\n"))
	}
	f.Add([]byte("costs: {recovery: {reversible: 1}, fraud_fee: 0}\nsegments: [{name: a, when: request.partial, costs: {}, caps: none}]\nguards: {segments: {a: {}}}\n"))
	f.Add([]byte("review_capacity: {per_hour: 3, when_full: narrow, approve_below: 0.2}\nthresholds: {from: model}\nexploration: {share: 0}\n"))
	f.Fuzz(func(t *testing.T, source []byte) {
		p, err := policy.Parse(source)
		if err != nil {
			return
		}
		p.Warnings(monday)
		if changes := policy.Diff(p, p); len(changes) > 0 {
			t.Fatalf("%q differs from itself: %v", source, changes)
		}
		b, _ := p.BindLoose(features.Default())
		r := fine("rail", "card").at(0.3)
		var ev policy.Evaluation
		b.Evaluate(&r.Input, &ev)
		if out := b.Conclude(&ev, r.Situation); strictness(out.Verdict) < 0 {
			t.Fatalf("%q decides %q", source, out.Verdict)
		}
	})
}
