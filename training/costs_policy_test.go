package training_test

import (
	"strings"
	"testing"

	"vaglio"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

func TestThePolicyKeepsAllButItsThresholds(t *testing.T) {
	plan := training.CostPlan{Requests: 100, Frauds: 7, PerHour: 30, JudgedOn: "later requests", Thresholds: models.Thresholds{ApproveBelow: 0.05, DenyFrom: 0.8},
		Savings: []training.Saving{{Against: training.ByApproval, Amount: 1234, Interval: &training.Interval{Low: 1000, High: 1500}}},
		Segments: []training.SegmentThresholds{{Segment: "wallets", Thresholds: models.Thresholds{ApproveBelow: 0.1, DenyFrom: 0.9}},
			{Thresholds: models.Thresholds{ApproveBelow: 0.04, DenyFrom: 0.7}}}}
	const comment = `# From costs, on 100 requests with 7 frauds, at most 30 reviews an hour.
# Saved against approve_all, on later requests: 1234 (95 %: 1000 to 1500) minor units.
`
	check := func(base, want string) {
		t.Helper()
		got, err := plan.Policy([]byte(base), "p1")
		if err != nil {
			t.Fatalf("%v", err)
		}
		if string(got) != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	const rest = comment + "thresholds: {approve_below: 0.04, deny_from: 0.7}\n"
	check("name: mine\n", "name: p1\n"+rest)
	check("# head\nname: mine\n\n# how long\nreview_within: 1h", "# head\nname: p1\n"+rest+"\n# how long\nreview_within: 1h\n")
	check("approve_below: 0.01\ndeny_from: 0.5   # gone\n\n# how long\nreview_within: 1h\nname: mine\n",
		rest+"\n# how long\nreview_within: 1h\nname: p1\n")
	check("name: mine\ncosts:\n  fraud_fee: 3\n  review:\n    cost: 1\n# kept\nsegments:\n  - name: wallets\n    when: request.rail == \"wallet\"\n    costs: {fraud_fee: 1}\n"+
		"    review_within: 2h\n  - {name: other, when: request.amount > 5}\n  - when: request.amount > 9\n    name: third\nreview_within: 1h\n",
		"name: p1\n"+rest+"# kept\nsegments:\n  - name: wallets\n    when: request.rail == \"wallet\"\n    thresholds: {approve_below: 0.1, deny_from: 0.9}\n"+
			"    review_within: 2h\n  - {name: other, when: request.amount > 5}\n  - when: request.amount > 9\n    name: third\nreview_within: 1h\n")
	check("name: mine\nsegments:\n- thresholds: {from: model}\n  name: wallets\n  when: request.rail == \"wallet\"\n",
		"name: p1\n"+rest+"segments:\n- thresholds: {approve_below: 0.1, deny_from: 0.9}\n  name: wallets\n  when: request.rail == \"wallet\"\n")

	byDefault, err := plan.Policy(nil, "refund-v1")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := policy.Parse(byDefault)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Name != "refund-v1" || *parsed.ApproveBelow != 0.04 || *parsed.DenyFrom != 0.7 || len(parsed.Rules()) != len(policy.Default().Rules()) {
		t.Errorf("%+v", parsed)
	}
	for base, want := range map[string]string{
		"name: [":                      "policy",
		"{name: x, review_within: 1h}": "one below the other",
		"name: x\nsegments:\n  - {name: wallets, when: request.amount > 3}\n": "write segment \"wallets\"",
	} {
		if _, err := plan.Policy([]byte(base), "p1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q is not in %v", base, want, err)
		}
	}
}

func TestThresholdsAreRecommendedFromHistory(t *testing.T) {
	o := options(t, newHistory(t, planted(true)...))
	bundle, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	inForce, err := policy.Parse([]byte("name: mine\nsegments:\n  - name: app\n    when: request.attributes.channel == \"app\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	costs, err := policy.ParseCosts([]byte("segments: {app: {fraud_fee: 100000}}"))
	if err != nil {
		t.Fatal(err)
	}
	o.LabelsUntil = vaglio.InstantOf(today())
	p, err := training.RecommendFor(t.Context(), bundle, testPeriod, o, training.RecommendOptions{Costs: costs, Policy: inForce})
	if err != nil {
		t.Fatal(err)
	}
	if p.Requests != 30*24 || p.JudgedOn != "later requests" || len(p.Segments) != 2 || p.Segments[0].Segment != "app" ||
		p.Segments[0].ApproveBelow > p.Segments[1].ApproveBelow {
		t.Errorf("%+v", p)
	}
	var ways []string
	for _, s := range p.Savings {
		ways = append(ways, s.Against)
		if s.Against == training.ByApproval && (s.Interval == nil || s.Interval.Low <= 0) {
			t.Errorf("%+v", s)
		}
	}
	if want := "thresholds least_cost current approve_all"; strings.Join(ways, " ") != want {
		t.Errorf("compared with %v", ways)
	}
	for want, wrong := range map[string]training.Period{"both classes are needed": {From: testPeriod.From, Until: testPeriod.From + 2*vaglio.Hour},
		"flatters itself": {From: testPeriod.From - 1, Until: testPeriod.Until}} {
		_, err := training.RecommendFor(t.Context(), bundle, wrong, o, training.RecommendOptions{Costs: costs})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
