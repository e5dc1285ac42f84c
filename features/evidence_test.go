package features_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vaglio"
	"vaglio/features"
)

func TestEvidenceOfAnAbsentPairIsNothing(t *testing.T) {
	c := features.Default()
	tl := newTimelines(c).add(fact("without a device", "login", t0-vaglio.Hour, 0, "customer", "c"))
	request := fact("r", "refund_requested", t0, 100, "customer", "c")
	feature := slices.Index(c.Names(), "customer_device_age")
	if got := c.Evidence(&request, tl.state, 5, []int{feature})[0]; len(got) != 0 {
		t.Errorf("the age of no device rests on %v", got)
	}
}

func TestLessEvidenceIsTheNewestOfAll(t *testing.T) {
	c := features.Default()
	random := rand.New(rand.NewPCG(1, 2))
	kinds := c.EventKinds("customer")
	tl := newTimelines(c)
	for i := range 400 { // often several at one moment, in no order
		tl.add(fact(fmt.Sprint("e", random.IntN(1000), "_", i), kinds[random.IntN(len(kinds))], t0-vaglio.Instant(1+random.IntN(150))*vaglio.Hour, 100,
			"customer", fmt.Sprint("c", random.IntN(2)), "device", fmt.Sprint("d", random.IntN(2)), "payment", "p", "instrument", "i",
			"request", fmt.Sprint("r", random.IntN(9)), ".channel", []string{"app", "web"}[random.IntN(2)]))
	}
	request := fact("r", "refund_requested", t0, 100, "customer", "c0", "device", "d0", "payment", "p", "instrument", "i", ".channel", "app")
	seen := 0
	for feature, name := range c.Names() {
		all := c.Evidence(&request, tl.state, 1000, []int{feature})[0]
		seen = max(seen, len(all))
		for limit := range 8 {
			got := c.Evidence(&request, tl.state, limit, []int{feature})[0]
			if want := all[:min(limit, len(all))]; !slices.Equal(got, want) {
				t.Errorf("%s: %d of the evidence are %v, want %v", name, limit, got, want)
			}
		}
	}
	if seen < 50 {
		t.Errorf("no feature rests on more than %d events", seen)
	}
}

func TestACopyWithOneMoreFactLeavesTheStateAlone(t *testing.T) {
	c := features.Default()
	tl := newTimelines(c)
	for i := range 20 {
		tl.add(fact(string(rune('a'+i)), "payment", t0-vaglio.Instant(i+1)*vaglio.Hour, 100, "customer", "c"))
	}
	state := tl.state(vaglio.Entity{Kind: "customer", ID: "c"}).Snapshot()
	before, hash := state.Used(t0)
	more := fact("more", "payment", t0-30*vaglio.Minute, 100, "customer", "c")
	grown := state.With(&more)
	tl.add(fact("later", "payment", t0-10*vaglio.Minute, 100, "customer", "c"))
	if n, h := state.Used(t0); n != before || h != hash || before != 20 {
		t.Errorf("the state has %d events (%x) after it was copied, %d (%x) before", n, h, before, hash)
	}
	if n, _ := grown.Used(t0); n != 21 || !grown.Has("payment", "more") || grown.Has("payment", "later") || state.Has("payment", "more") {
		t.Errorf("the copy has %d events", n)
	}
}
