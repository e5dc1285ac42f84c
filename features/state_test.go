package features_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vaglio"
)

// hot is a customer with far more events than count, in a random order of arrival, some of equal times.
func hot(seed uint64) []vaglio.Fact {
	random := rand.New(rand.NewPCG(seed, 1))
	facts := make([]vaglio.Fact, 3*vaglio.NewestPerKind)
	for i := range facts {
		channel := []string{"", "web", "app"}[random.IntN(3)]
		facts[i] = fact(fmt.Sprintf("e%d", i), []string{"payment", "payment", "login"}[i%3], t0-vaglio.Instant(1+random.IntN(4000))*vaglio.Minute,
			random.Int64N(1000), "customer", "c1", "device", fmt.Sprint("d", random.IntN(5)), "request", "r1")
		if channel != "" {
			facts[i].Attributes = vaglio.FieldsOf("channel", channel)
		}
	}
	random.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
	return facts
}

var hotDefinitions = []definition{
	{entity: "customer", aggregate: "count", events: []string{"payment", "login"}},
	{entity: "customer", aggregate: "sum", of: "amount", events: []string{"payment"}, where: &clauses[0]},
	{entity: "customer", aggregate: "since_first", events: []string{"payment"}},
	{entity: "customer", aggregate: "distinct", of: "device", events: []string{"login"}},
	{entity: "customer", aggregate: "same", of: "device", which: "usual", events: []string{"login"}},
	{entity: "customer", aggregate: "share", part: &clauses[6], events: []string{"payment"}},
	{entity: "customer", aggregate: "habit", within: vaglio.Hour, events: []string{"payment"}},
	{entity: "customer", pair: "+device", aggregate: "count", events: []string{"login"}},
}

func TestAHotTimelineKeepsItsNewestEventsInAnyOrderOfArrival(t *testing.T) {
	var rows string
	for i := range hotDefinitions {
		rows += hotDefinitions[i].row(fmt.Sprint("f", i))
	}
	c := parse(t, rows)
	request := fact("r", "refund_requested", t0, 250, "customer", "c1", "device", "d1", ".channel", "app")
	facts := hot(1)
	check := func(order string, arrange func([]vaglio.Fact)) {
		t.Helper()
		arranged := slices.Clone(facts)
		arrange(arranged)
		tl := newTimelines(c).add(arranged...)
		got := tl.vector(request)
		for i := range hotDefinitions {
			if want := hotDefinitions[i].value(facts, &request); !same(got[i], want) {
				t.Errorf("%s: got %v, want %v for %s", order, got[i], want, hotDefinitions[i].row("f"))
			}
		}
		state := tl.state(vaglio.Entity{Kind: "customer", ID: "c1"})
		if state.Len() != 2*vaglio.NewestPerKind {
			t.Errorf("%s: %d events are kept, want the newest %d of two kinds", order, state.Len(), vaglio.NewestPerKind)
		}
		if perEvent := state.Bytes() / state.Len(); perEvent < 32 || perEvent > 160 {
			t.Errorf("%s: %d bytes an event", order, perEvent)
		}
	}
	check("as they came", func([]vaglio.Fact) {})
	check("in order", func(fs []vaglio.Fact) { slices.SortFunc(fs, inTime) })
	check("backwards", func(fs []vaglio.Fact) { slices.SortFunc(fs, inTime); slices.Reverse(fs) })
	check("from the middle outwards", func(fs []vaglio.Fact) {
		slices.SortFunc(fs, inTime)
		middle := len(fs) / 2
		sorted := slices.Clone(fs)
		for i := range fs {
			if i%2 == 0 {
				fs[i] = sorted[middle+i/2]
			} else {
				fs[i] = sorted[middle-1-i/2]
			}
		}
	})
}

func TestASnapshotStaysAsItWasWhileEventsComeIn(t *testing.T) {
	c := parse(t, hotDefinitions[0].row("n")+hotDefinitions[1].row("total")+hotDefinitions[3].row("devices"))
	state := c.NewState("customer")
	request := fact("r", "refund_requested", t0, 250, "customer", "c1", "device", "d1", ".channel", "app")
	vector := func(i int) []float64 {
		dst := make([]float64, len(c.Features()))
		c.Vector(dst, &request, newTimelines(c).add(hot(2)[:i]...).state)
		return dst
	}
	type kept struct {
		until    int
		snapshot timelines
	}
	var snapshots []kept
	entity := vaglio.Entity{Kind: "customer", ID: "c1"}
	for i, f := range hot(2) {
		if i%500 == 7 {
			tl := newTimelines(c)
			tl.states[entity] = state.Snapshot()
			snapshots = append(snapshots, kept{i, tl})
			if state.Snapshot() != tl.states[entity] {
				t.Error("a snapshot of an unchanged state is another one")
			}
		}
		state.Add(&f)
	}
	for _, k := range snapshots {
		if got, want := k.snapshot.vector(request), vector(k.until); !slices.Equal(got, want) {
			t.Errorf("the snapshot after %d events gives %v, want %v", k.until, got, want)
		}
	}
}

func TestASnapshotIsReadWhileItsStateIsWritten(t *testing.T) {
	c := parse(t, hotDefinitions[0].row("n")+hotDefinitions[1].row("total"))
	state := c.NewState("customer")
	request := fact("r", "refund_requested", t0, 250, "customer", "c1")
	done := make(chan struct{})
	defer func() { <-done }()
	snapshots := make(chan timelines, 8)
	go func() {
		defer close(done)
		for tl := range snapshots {
			tl.vector(request)
		}
	}()
	for i, f := range hot(3) {
		if i%50 == 0 {
			tl := newTimelines(c)
			tl.states[vaglio.Entity{Kind: "customer", ID: "c1"}] = state.Snapshot()
			snapshots <- tl
		}
		state.Add(&f)
	}
	close(snapshots)
}

func TestSumsOfAttributesDoNotOverflow(t *testing.T) {
	c := parse(t, `
  - {name: total, entity: customer, events: [payment], aggregate: sum, of: attributes.weight}
  - {name: negative, entity: customer, events: [login], aggregate: sum, of: attributes.weight}
  - {name: spread, entity: customer, events: [payment, login], aggregate: stddev, of: attributes.weight}
`)
	tl := newTimelines(c)
	for i := range vaglio.NewestPerKind {
		at := t0 - vaglio.Instant(i+1)*vaglio.Minute
		tl.add(fact(fmt.Sprint("p", i), "payment", at, 0, "customer", "c", ".weight", "999999999999.999999"),
			fact(fmt.Sprint("l", i), "login", at, 0, "customer", "c", ".weight", "-999999999999.999999"))
	}
	got := tl.vector(fact("r", "refund_requested", t0, 1, "customer", "c"))
	// 2,000 · (10^12 − 10^-6), and the deviation of ±x from 0 is x
	if want := []float64{2e15 - 0.002, -2e15 + 0.002, 1e12 - 1e-6}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
