package policy_test

import (
	"testing"

	"vaglio/features"
	"vaglio/scoring/policy"
)

func TestTheDefaultPolicyIsWhole(t *testing.T) {
	p := policy.Default()
	if n := len(p.Rules()); n != 12 {
		t.Errorf("%d rules", n)
	}
	if w := p.Warnings(0); len(w) > 0 {
		t.Errorf("%v", w)
	}
	b, err := p.Bind(features.Default())
	if err != nil {
		t.Fatal(err)
	}
	if w := b.Warnings(); len(w) > 0 {
		t.Errorf("%v", w)
	}
	t.Log(p.Version(), p.Lists())
}
