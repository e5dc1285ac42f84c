package training_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring/policy"
	"vaglio/training"
)

// handPolicy approves what no rule, cap or payment stands against.
const handPolicy = `
name: hand
thresholds: {approve_below: 0.999, deny_from: 1}
approval_valid: 24h
caps: {requests_1h: none, requests_24h: none, approvals_1h: 2, approvals_24h: none, approved_amount_24h: 100000}
rules:
  - {name: failed, when: login_failed_24h >= 1, then: review}
  - {name: listed, when: 'in_list("bad", request.entities.device)', then: deny, mandatory: true}
  - {name: trusted, when: 'in_list("good", request.entities.device)', then: approve, override: true}
  - {name: waits, when: request.reason == "not_received", then: review}
  - {name: statutory, when: request.reason == "unauthorised", at_most: review}
  - {name: strict, when: request.reason == "unauthorised", then: deny}
  - {name: shadowed, when: request.amount >= 600, then: deny, state: shadow}
  - {name: flagged, when: counters.approvals_24h >= 2, then: flag}
  - {name: too_late, when: request.amount > 0, then: deny, from: 2030-01-01}
`

// onLists are the moments from which values are on lists.
type onLists map[string]vaglio.Instant

func (l onLists) Contains(list, value string, at vaglio.Instant) bool {
	from, ok := l[list+"/"+value]
	return ok && at >= from
}

// handCase is a request of the hand-built history, and what must become of it.
type handCase struct {
	id, customer, payment string
	after                 vaglio.Instant // the begin of the period
	minor                 int64
	want                  string
	attributes            []string
	fraud                 bool
}

const (
	hour   = vaglio.Hour
	minute = vaglio.Minute
)

// handCases say each on their own what the past decided again must know, and must not.
var handCases = []handCase{
	{"w0", "w", "p9", -hour, 1000, "", nil, false}, // before the period: it only reserves
	{"w1", "w", "p9", hour, 1000, "deny shadowed:deny:shadow duplicate_request:review:active over_captured:deny:active", nil, false},

	{"r1", "a", "p1", 0, 600, "approve shadowed:deny:shadow", nil, false},
	{"r2", "a", "p1", hour, 500, "deny over_captured:deny:active", nil, false}, // 1000 captured, 600 reserved
	{"r3", "a", "p1", 25 * hour, 500, "approve", nil, false},                   // the approval is over after 24 h

	{"s1", "b", "p2", 0, 500, "approve", nil, false},
	{"s2", "b", "p2", 90 * minute, 1600, "deny shadowed:deny:shadow over_captured:deny:active", nil, false}, // paid, and not yet known
	{"s3", "b", "p2", 3 * hour, 1500, "approve shadowed:deny:shadow", nil, false},                           // paid: no longer reserved as well

	{"f1", "c", "p3", 0, 1000, "approve shadowed:deny:shadow", nil, true},
	{"f2", "c", "p3", 2 * hour, 1000, "approve shadowed:deny:shadow", nil, false}, // the first one's refund has failed

	{"d1", "d", "p4", 0, 500, "approve", nil, false},
	{"d2", "d", "p4", minute, 500, "review duplicate_request:review:active", nil, false},
	{"d3", "d", "p4", 2 * minute, 300, "approve", nil, false}, // 500 + 300 ≤ 2000; not the same amount

	{"v1", "e", "p5", 0, 550, "review waits:review:active", []string{"reason", "not_received"}, false},
	{"v2", "e", "p5", 2 * hour, 550, "approve", nil, false}, // in truth the first one was denied by then

	{"g1", "g", "p6", 0, 100, "approve", nil, false}, // the logins that failed before it were observed later
	{"g2", "g", "p6", 3 * hour, 200, "review failed:review:active", nil, true},

	{"l1", "l", "p7", 0, 100, "approve", nil, false}, // listed an hour later
	{"l2", "l", "p7", 2 * hour, 200, "deny listed:deny:active", nil, true},
	{"l3", "l", "p7", 3 * hour, 300, "deny listed:deny:active waits:review:active", []string{"reason", "not_received"}, false},
	{"t1", "t", "p8", 0, 200, "approve trusted:approve:active waits:review:active", []string{"reason", "not_received"}, false},
	{"t2", "t", "p8", hour, 250, "approve trusted:approve:active statutory:at_most_review:active strict:deny:active", []string{"reason", "unauthorised"}, false},
	{"u1", "u", "q6", hour, 250, "review statutory:at_most_review:active strict:deny:active", []string{"reason", "unauthorised"}, false},

	{"n1", "n", "q1", 0, 100, "approve", nil, false},
	{"n2", "n", "q2", minute, 100, "approve", nil, false},
	{"n3", "n", "q3", 2 * minute, 100, "review flagged:flag:active customer_caps:review:active", nil, false},
	{"n4", "n", "q4", 61 * minute, 100, "approve flagged:flag:active", nil, false}, // of the last hour are n2 and n3, which was no approval

	{"o1", "other", "p1", 26 * hour, 50, "review payment_of_another_customer:review:active", nil, false},
	{"o2", "o", "unheard", hour, 50, "review payment_unknown:review:active", nil, false},
	{"c1", "x", "q5", hour, 100, "approve", nil, false}, // the chargeback is known later
	{"c2", "x", "q5", 6 * hour, 60, "deny over_captured:deny:active", nil, false},
}

func handHistory(t *testing.T, labelled bool) *history.Store {
	t.Helper()
	from := livePeriod.From
	money := func(id, kind, customer, payment, request string, at, learnt vaglio.Instant, minor int64) vaglio.Event {
		e := event(id, kind, from+at, "customer", customer, "payment", payment, "device", "d_"+customer)
		if request != "" {
			e.Entities = e.Entities.With("request", request)
		}
		e.Amount, e.Currency, e.ObservedAt = minor, "EUR", from+learnt
		return e
	}
	var events []vaglio.Event
	for payment, minor := range map[string]int64{"p1/a": 1000, "p2/b": 2000, "p3/c": 1000, "p4/d": 2000, "p5/e": 1000, "p6/g": 1000, "p7/l": 1000, "p8/t": 1000,
		"p9/w": 1000, "q1/n": 1000, "q2/n": 1000, "q3/n": 1000, "q4/n": 1000, "q5/x": 200, "q6/u": 1000} {
		id, customer, _ := strings.Cut(payment, "/")
		events = append(events, money("paid_"+id, vaglio.KindPayment, customer, id, "", -10*vaglio.Day, -10*vaglio.Day, minor))
	}
	events = append(events,
		money("s1_paid", vaglio.KindRefundPaid, "b", "p2", "s1", hour, 2*hour, 500),
		money("f1_failed", vaglio.KindRefundFailed, "c", "p3", "f1", hour, hour, 1000),
		money("v1_denied", vaglio.KindRefundDenied, "e", "p5", "v1", hour, hour, 550),
		money("x_back", vaglio.KindChargeback, "x", "q5", "", 0, 5*hour, 150))
	login := event("login", "login_failed", from-hour, "customer", "g")
	login.ObservedAt = from + 2*hour
	events = append(events, login)
	for _, c := range handCases {
		r := event(c.id, vaglio.KindRefundRequested, from+c.after, "customer", c.customer, "payment", c.payment)
		r.Amount, r.Currency, r.Attributes = c.minor, "EUR", vaglio.FieldsOf(append([]string{"type", "refund"}, c.attributes...)...)
		events = append(events, r)
		if c.fraud && labelled {
			events = append(events, event("fraud_"+c.id, vaglio.KindFraudConfirmed, from+20*vaglio.Day, "request", c.id))
		}
	}
	return newHistory(t, events...)
}

func handOptions(t *testing.T, h *history.Store, policies ...string) training.BacktestOptions {
	t.Helper()
	o := training.BacktestOptions{History: h, Bundle: plantedBundle(t), Period: livePeriod,
		Lists: onLists{"bad/d_l": livePeriod.From + hour, "good/d_t": livePeriod.From}, Cut: vaglio.InstantOf(today())}
	for _, text := range policies {
		o.Policies = append(o.Policies, parsePolicy(t, text))
	}
	return o
}

func TestThePastIsDecidedAgainWithWhatWasKnownThen(t *testing.T) {
	stricter := strings.Replace(handPolicy, "name: hand", "name: stricter", 1) + "  - {name: big, when: request.amount >= 1500, then: deny}\n"
	o := handOptions(t, handHistory(t, true), handPolicy, stricter)
	costs := policy.DefaultCosts()
	o.Costs = &costs
	got := decided{}
	var order []string
	o.Decided = func(request *training.Row, p *policy.Policy, out *policy.Outcome) {
		if p.Name == "hand" {
			got[request.ID] = words(out.Verdict, out.Rules)
			order = append(order, request.At.String()+request.ID)
		}
	}
	report, err := training.Backtest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[vaglio.Verdict]training.ByLabel{}
	for _, c := range handCases {
		if got[c.id] != c.want {
			t.Errorf("%s: %s\n\twant %s", c.id, got[c.id], c.want)
		}
		if c.want == "" {
			continue
		}
		verdict, _, _ := strings.Cut(c.want, " ")
		n := want[vaglio.Verdict(verdict)]
		switch {
		case c.fraud:
			n.Fraud++
		case c.id == "v1": // denied in truth, and of that silence says nothing
			n.Unsettled++
		default:
			n.Clean++
		}
		want[vaglio.Verdict(verdict)] = n
	}
	if !slices.IsSorted(order) {
		t.Error("not in order of time")
	}
	base, other := report.Policies[0], report.Policies[1]
	for _, v := range base.Verdicts {
		if v.Requests != want[v.Verdict] {
			t.Errorf("%s: %+v, want %+v", v.Verdict, v.Requests, want[v.Verdict])
		}
	}
	if report.Requests != len(handCases)-1 || report.Labels.Fraud != 3 || report.Labels.Unsettled != 1 || len(report.Warnings) != 0 {
		t.Errorf("%d requests, labels %+v, warnings %v", report.Requests, report.Labels, report.Warnings)
	}
	// Of the frauds f1 is approved (1000), g2 in review (200) and l2 denied (200).
	if m := base.Money; m.FraudApproved != 1000 || m.FraudStopped != 400 || m.HonestHeld != 500+250+100+50+50 ||
		m.HonestDenied != 1000+500+1600+300+60 || m.Cost == nil {
		t.Errorf("%+v", m)
	}
	rule := func(name string) training.RuleShare {
		i := slices.IndexFunc(base.Rules, func(r training.RuleShare) bool { return r.Rule == name })
		if i < 0 {
			t.Fatalf("%s never fired", name)
		}
		return base.Rules[i]
	}
	if r := rule("listed"); r.Requests.Total() != 2 || *r.Precision != 0.5 || r.Exclusive.Requests.Total() != 1 || r.Amount.Fraud != 200 || r.Verdicts.Deny != 2 {
		t.Errorf("%+v", r)
	}
	// w1 and s2 have hits of active rules besides.
	if r := rule("shadowed"); r.State != policy.Shadow || r.Requests.Total() != 6 || r.Requests.Fraud != 1 || r.Exclusive.Requests.Total() != 4 ||
		r.Verdicts != (training.ByAction{Approve: 4, Deny: 2}) {
		t.Errorf("%+v", r)
	}
	changes := other.Changes
	if base.Changes != nil || changes == nil || len(changes.Moved) != 1 || changes.Same != report.Requests-1 {
		t.Fatalf("%+v", changes)
	}
	moved := changes.Moved[0]
	if moved.From != vaglio.Approve || moved.To != vaglio.Deny || len(moved.Examples) != 1 || changes.Money.Approved != -1500 ||
		changes.Money.HonestDenied != 1500 {
		t.Fatalf("%+v, %+v", moved, changes.Money)
	}
	// A wrong denial of 15 EUR costs a fifth of it and 30 EUR.
	if cost := changes.Money.Cost; cost == nil || *cost != 300+3000 {
		t.Errorf("the change costs %v", cost)
	}
	if e := moved.Examples[0]; e.RequestID != "s3" || *e.Amount != 1500 || e.Label != "clean" || e.Probability == nil || len(e.RulesBefore) != 0 ||
		fmt.Sprint(e.Rules) != "[big]" {
		t.Errorf("%+v", e)
	}
}

func TestExamplesAreThoseOfTheLargestAmounts(t *testing.T) {
	o := handOptions(t, handHistory(t, true), handPolicy, "name: none\nthresholds: {approve_below: 0, deny_from: 0}")
	o.Examples = 3
	report, err := training.Backtest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	moved := report.Policies[1].Changes.Moved[0]
	var ids []string
	for _, e := range moved.Examples {
		ids = append(ids, e.RequestID)
	}
	if moved.From != vaglio.Approve || moved.To != vaglio.Deny || strings.Join(ids, " ") != "s3 f1 f2" {
		t.Errorf("%s to %s: %v", moved.From, moved.To, ids)
	}
	o.Examples = -1
	if report, err = training.Backtest(t.Context(), o); err != nil || len(report.Policies[1].Changes.Moved[0].Examples) != 0 {
		t.Errorf("%v, %+v", err, report.Policies[1].Changes.Moved)
	}
}

func TestWithoutLabelsThereIsMoneyOnly(t *testing.T) {
	report, err := training.Backtest(t.Context(), handOptions(t, handHistory(t, false), handPolicy))
	if err != nil {
		t.Fatal(err)
	}
	p := report.Policies[0]
	if report.Labels.Unsettled != int64(report.Requests) || p.Money.Approved == 0 || p.Money.FraudApproved != 0 || p.Money.HonestDenied != 0 ||
		p.Rules[0].Precision != nil || !strings.Contains(strings.Join(report.Warnings, "\n"), "no label says fraud or clean") {
		t.Errorf("%+v", report)
	}
}

func TestRulesAloneApproveOnlyByAllowLists(t *testing.T) {
	o := handOptions(t, handHistory(t, true))
	open := parsePolicy(t, "name: open\nrequire_payment: false\nrules:\n  - {name: all, when: request.amount > 0, then: approve, override: true}")
	o.Bundle, o.Policies = nil, []*policy.Policy{policy.Default(), open}
	report, err := training.Backtest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if n := report.Policies[0].Verdicts[0].Requests.Total(); n != 0 || report.Policies[1].Verdicts[0].Requests.Total() == 0 || report.Model != "" {
		t.Errorf("%d approved by the default policy: %+v", n, report.Policies)
	}
}

func TestABacktestRefusesWhatItCantDecide(t *testing.T) {
	o := handOptions(t, handHistory(t, true), handPolicy)
	refused := func(want string, vary func(*training.BacktestOptions)) {
		t.Helper()
		varied := o
		vary(&varied)
		if _, err := training.Backtest(t.Context(), varied); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	period := func(from, until vaglio.Instant) func(*training.BacktestOptions) {
		return func(o *training.BacktestOptions) { o.Period = training.Period{From: from, Until: until} }
	}
	refused("there are no requests from", period(t0, t0+vaglio.Day))
	refused("there are no requests from", period(math.MaxInt64-1, math.MaxInt64))
	refused("before it begins", period(t0, t0))
	refused("before it begins", period(math.MaxInt64, math.MinInt64))
	refused("before 1970", period(math.MinInt64, math.MaxInt64))
	refused("wants a policy", func(o *training.BacktestOptions) { o.Policies = nil })
	refused(`there is no feature "payment_age"`, func(o *training.BacktestOptions) {
		o.Policies = append(o.Policies, parsePolicy(t, "rules: [{name: x, when: payment_age > 1, then: flag}]"))
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := training.Backtest(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	o.Period = training.Period{From: 0, Until: math.MaxInt64}
	if report, err := training.Backtest(t.Context(), o); err != nil || report.Requests != len(handCases) {
		t.Errorf("%d requests, %v", report.Requests, err)
	}
}

func TestTheDefaultPolicyLeavesOutRulesWithoutFeatures(t *testing.T) {
	o := handOptions(t, handHistory(t, true))
	o.Policies = []*policy.Policy{policy.Default()}
	report, err := training.Backtest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, dropped := policy.Default().BindLoose(o.Bundle.Catalogue())
	if got := report.Policies[0].LeftOut; !slices.Equal(got, dropped) || len(dropped) == 0 {
		t.Errorf("left out %v, want %v", got, dropped)
	}
}

func TestNoShadowRuleIsNoError(t *testing.T) {
	h := handHistory(t, true)
	report, err := training.ShadowRules(t.Context(), training.ShadowOptions{History: h, Period: livePeriod})
	if err != nil || len(report.Rules) != 0 || len(report.Warnings) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := training.ShadowRules(t.Context(), training.ShadowOptions{History: h, Period: training.Period{From: 2, Until: 1}}); err == nil {
		t.Error("a period that ends before it begins")
	}
}
