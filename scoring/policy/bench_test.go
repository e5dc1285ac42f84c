package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"vaglio/features"
	"vaglio/scoring/policy"
)

// fiftyRules is the default policy and 38 rules more, over sixty features, beside a request on which a few of them fire.
func fiftyRules(t testing.TB) (*policy.Bound, request) {
	t.Helper()
	rows, _, _ := strings.Cut(string(features.DefaultYAML()), "\n# Texts:")
	rules := string(policy.DefaultYAML())
	for i := range 20 {
		rows += fmt.Sprintf("\n  - {name: x%d, entity: customer, events: [payment], aggregate: count, window: %dd}", i, i+1)
	}
	for i := range 38 {
		f, g := fmt.Sprintf("x%d", i%20), fmt.Sprintf("x%d", (i*3+1)%20)
		rules += fmt.Sprintf("  - {name: more_%d, then: review, reason: A, when: '%s > %d and (missing(%s) or %s < %d) or request.attributes.channel == \"c%d\"'}\n",
			i, f, 100+i, g, g, i+1, i)
	}
	c, err := features.Parse([]byte(rows))
	if err != nil {
		t.Fatal(err)
	}
	b, err := parse(t, rules).Bind(c)
	if err != nil {
		t.Fatal(err)
	}
	if n, m := len(b.Policy().Rules()), len(c.Features()); n != 50 || m != 60 {
		t.Fatalf("%d rules, %d features", n, m)
	}
	r := fine("customer_requests_1h", 3, "payout_differs", 1, "attributes.channel", "c7", "reason", "unauthorised")
	for i := range 20 {
		r.Vector = append(r.Vector, float64(i))
	}
	return b, r
}

func BenchmarkFiftyRules(b *testing.B) {
	bound, r := fiftyRules(b)
	var ev policy.Evaluation
	b.ReportAllocs()
	for b.Loop() {
		bound.Evaluate(&r.Input, &ev)
		bound.Conclude(&ev, r.Situation)
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	bound, r := fiftyRules(t)
	var ev policy.Evaluation
	if n := testing.AllocsPerRun(100, func() {
		bound.Evaluate(&r.Input, &ev)
		bound.Conclude(&ev, r.Situation)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
