package features_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/features"
)

const linkedRow = "  - {name: n, entity: customer, events: [fraud_confirmed], aggregate: linked, of: [device, instrument, address], window: 30d}\n"

func TestLinkedCountsNeighboursWithConfirmedFraud(t *testing.T) {
	c := parse(t, linkedRow)
	label := func(id, kind string, daysAgo int, customer, request string) vaglio.Fact {
		return fact(id, kind, t0-vaglio.Instant(daysAgo)*vaglio.Day, 0, "customer", customer, "request", request)
	}
	seen := fact("seen", "login", t0-90*vaglio.Day, 0, "customer", "other", "device", "d")
	confirmed := label("l1", "fraud_confirmed", 10, "other", "r1")
	check := func(want float64, facts ...vaglio.Fact) {
		t.Helper()
		request := fact("r", "refund_requested", t0, 1, "customer", "me", "device", "d", "payout_instrument", "i")
		if got := newTimelines(c).add(facts...).vector(request)[0]; !same(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	check(0)
	check(0, seen)
	check(1, seen, confirmed)
	check(0, seen, label("l1", "fraud_confirmed", 31, "other", "r1"))
	check(0, seen, confirmed, label("l2", "fraud_cleared", 9, "other", "r1"))
	check(1, seen, confirmed, label("l2", "fraud_cleared", 9, "other", "another request"))
	check(1, seen, confirmed, label("l2", "fraud_cleared", 11, "other", "r1"), label("l0", "fraud_cleared", 10, "other", "r1"))
	check(0, seen, confirmed, label("l2", "fraud_cleared", 10, "other", "r1")) // at the same moment, and the later id
	check(0, fact("seen", "login", t0-90*vaglio.Day, 0, "customer", "me", "device", "d"), label("l1", "fraud_confirmed", 10, "me", "r1"))
	check(1, fact("paid", "payment", t0-vaglio.Day, 1, "customer", "other", "instrument", "i"), confirmed) // our payout is their card
	check(0, fact("seen", "login", t0, 0, "customer", "other", "device", "d"), confirmed)                  // with the request, not before it
	check(0, seen, fact("l1", "fraud_confirmed", t0, 0, "customer", "other", "request", "r1"))
	check(0, fact("seen", "login", t0-vaglio.Horizon-1, 0, "customer", "other", "device", "d"), confirmed)
	two := fact("two", "login", t0-vaglio.Day, 0, "customer", "third", "device", "d")
	check(2, seen, confirmed, two, label("l3", "fraud_confirmed", 1, "third", "r3"), label("l4", "fraud_confirmed", 1, "third", "r4"))

	for _, entities := range [][]string{{"customer", "me"}, {"device", "d"}} {
		if got := newTimelines(c).add(seen, confirmed).vector(fact("r", "refund_requested", t0, 1, entities...))[0]; got == got {
			t.Errorf("a request of %v has %v linked frauds, want NaN", entities, got)
		}
	}
}

func TestLinkedLooksAtTheThirtyTwoNeighboursSeenLast(t *testing.T) {
	c := parse(t, linkedRow)
	tl := newTimelines(c)
	for i := range 40 { // c39 was seen last, but c00 and c08 at the same moment
		at := t0 - vaglio.Day + vaglio.Instant(max(i, 8))
		id := fmt.Sprintf("c%02d", i)
		tl.add(fact("login"+id, "login", at, 0, "customer", id, "device", "d"),
			fact("again"+id, "custom_kind", at-vaglio.Day, 0, "customer", id, "address", "a"),
			fact("label"+id, "fraud_confirmed", at, 0, "customer", id, "request", id))
	}
	request := fact("r", "refund_requested", t0, 1, "customer", "me", "device", "d", "address", "a")
	if got := tl.vector(request)[0]; got != 32 {
		t.Errorf("%v linked frauds, want 32", got)
	}
	neighbours := c.Neighbours(&request, tl.state)
	if len(neighbours) != 32 || neighbours[0].ID != "c39" || neighbours[30].ID != "c09" || neighbours[31].ID != "c00" {
		t.Errorf("neighbours are %v, want c39 to c09 and, of those seen at one moment, c00", neighbours)
	}
	if got := c.Evidence(&request, tl.state, 1, []int{0})[0]; !slices.Equal(got, []string{"labelc39"}) {
		t.Errorf("evidence %v, want the newest label", got)
	}
}

func TestOneFeatureOfALinkDoesNotSeeTheIdentifiersOfAnother(t *testing.T) {
	c := parse(t, `
  - {name: by_device, entity: customer, events: [fraud_confirmed], aggregate: linked, of: device}
  - {name: by_address, entity: customer, events: [chargeback], aggregate: linked, of: [address]}
`)
	tl := newTimelines(c).add(
		fact("a", "login", t0-2, 0, "customer", "x", "device", "d"), fact("b", "delivered", t0-2, 0, "customer", "y", "address", "a"),
		fact("c", "fraud_confirmed", t0-2, 0, "customer", "y", "request", "r"), fact("d", "chargeback", t0-2, 1, "customer", "y"))
	request := fact("r", "refund_requested", t0, 1, "customer", "me", "device", "d", "address", "a")
	if got := tl.vector(request); !slices.Equal(got, []float64{0, 1}) {
		t.Errorf("got %v, want 0 by device and 1 by address", got)
	}
	if got := c.LinkedKinds(); !slices.Equal(got, []string{"chargeback", "fraud_cleared", "fraud_confirmed"}) {
		t.Errorf("the second pass reads %v", got)
	}
}

// replayed computes a request's vector as a replay does: timeline by timeline, and linked customers in a second pass.
func replayed(c *features.Catalogue, facts []vaglio.Fact, request *vaglio.Fact) []float64 {
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, func(a, b vaglio.Fact) int { return int(a.KnownAt - b.KnownAt) })
	stateOf := func(entity vaglio.Entity, kinds []string) *features.State {
		state := c.NewState(entity.Kind)
		for i := range facts {
			f := &facts[i]
			if f.KnownAt <= request.OccurredAt && slices.Contains(f.Timelines(), entity) && (kinds == nil || slices.Contains(kinds, f.Kind)) {
				state.Add(f)
			}
		}
		return state
	}
	vector := make([]float64, len(c.Features()))
	var neighbours []features.Neighbour
	for _, entity := range c.Timelines(request) {
		state := stateOf(entity, c.EventKinds(entity.Kind))
		c.VectorPart(vector, request, entity, state)
		neighbours = append(neighbours, c.NeighboursPart(request, entity, state)...)
	}
	for _, customer := range c.Linked(neighbours) {
		c.LinkedPart(vector, request, neighbours, customer, stateOf(customer, c.LinkedKinds()))
	}
	c.FinishVector(vector, request)
	return vector
}

func TestAReplayEntityByEntityEqualsTheLiveVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts, request := genHistory(t), genRequest(t)
		for _, c := range []*features.Catalogue{features.Default(), genCatalogue(t)} {
			live := newTimelines(c).add(visible(facts, t0)...).vector(request)
			if got := replayed(c, facts, &request); !sameBits(got, live) {
				t.Fatalf("replayed %v, live %v", got, live)
			}
		}
	})
}

func TestNeitherOrderNorRepetitionNorTheFutureChangesAVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, facts, request := genCatalogue(t), genHistory(t), genRequest(t)
		want := newTimelines(c).add(visible(facts, t0)...).vector(request)
		inOtherOrder := rapid.Permutation(visible(facts, t0)).Draw(t, "order")
		if got := newTimelines(c).add(append(inOtherOrder, inOtherOrder...)...).vector(request); !sameBits(got, want) {
			t.Fatalf("in another order, and twice: %v, want %v", got, want)
		}
		for i := range 20 { // at or after t, or known only then
			f := genFact(t, fmt.Sprint("later", i))
			if f.KnownAt <= t0 {
				if rapid.Bool().Draw(t, "happens later") {
					f.OccurredAt += t0 - f.OccurredAt
				}
				f.ObservedAt = max(f.ObservedAt, t0+1)
				f.KnownAt = f.Event.KnownAt()
			}
			facts = append(facts, f)
		}
		if got := newTimelines(c).add(visible(facts, t0)...).vector(request); !sameBits(got, want) {
			t.Fatalf("with what was not known yet: %v, want %v", got, want)
		}
		// Even a state that holds what happens at or after t, known early by a wrong clock, does not look at it.
		ahead := fact("ahead", "payment", t0, 100, "customer", "c1", "device", "d1", "instrument", "i1")
		if got := newTimelines(c).add(append(visible(facts, t0), ahead)...).vector(request); !sameBits(got, want) {
			t.Fatalf("with an event at t: %v, want %v", got, want)
		}
	})
}

func TestValuesOfAMissingLinkAreMissingInExpressions(t *testing.T) {
	c := parse(t, linkedRow+"  - {name: any, expr: n >= 1}\n")
	got := newTimelines(c).vector(fact("r", "refund_requested", t0, 1, "customer", "me"))
	if !math.IsNaN(got[0]) || !math.IsNaN(got[1]) {
		t.Errorf("got %v, want NaN", got)
	}
}
