package features_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vaglio"
	"vaglio/features"
)

// sixty is the default catalogue and twenty more rows, of all aggregates.
func sixty(b *testing.B) *features.Catalogue {
	rows, _, _ := strings.Cut(string(features.DefaultYAML()), "\n# Texts:")
	c, err := features.Parse([]byte(rows + `
  - {name: x1, entity: customer, events: [payment], aggregate: count, window: 30d}
  - {name: x2, entity: customer, events: [payment], aggregate: count, window: 30d, offset: 30d}
  - {name: x3, entity: customer, events: [payment], aggregate: rate, window: 30d}
  - {name: x4, entity: customer, events: [payment, spend], aggregate: rate}
  - {name: x5, entity: customer, events: [payment], aggregate: min, of: amount, window: 90d}
  - {name: x6, entity: customer, events: [payment], aggregate: max, of: amount, window: 90d}
  - {name: x7, entity: customer, events: [payment], aggregate: stddev, of: amount, window: 90d}
  - {name: x8, entity: customer, events: [payment], aggregate: sum, of: amount, window: 7d, where: attributes.channel == "app"}
  - {name: x9, entity: customer, events: [payment], aggregate: share, part: attributes.channel == "app", window: 90d}
  - {name: x10, entity: customer, events: [payment], aggregate: share, part: amount >= request.amount, window: 90d}
  - {name: x11, entity: customer, events: [payment, login], aggregate: same, of: device, which: usual, window: 90d}
  - {name: x12, entity: customer, events: [payment, login], aggregate: same, of: device, which: last}
  - {name: x13, entity: customer, events: [payment], aggregate: same, of: instrument, which: first}
  - {name: x14, entity: customer, events: [payment, login], aggregate: habit, within: 2h, window: 90d}
  - {name: x15, entity: customer, events: [payment], aggregate: distinct, of: merchant, window: 90d}
  - {name: x16, entity: customer+instrument, events: [payment], aggregate: count, window: 90d}
  - {name: x17, entity: instrument, events: [payment], aggregate: distinct, of: customer, window: 90d}
  - {name: x18, entity: device, events: [login], aggregate: since_last}
  - {name: x19, expr: x7 / x5}
  - {name: x20, expr: request.hour >= 22 or request.hour < 6}
`))
	if err != nil {
		b.Fatal(err)
	}
	if n := len(c.Features()); n != 60 {
		b.Fatalf("%d features", n)
	}
	return c
}

// A warm customer has 200 events; two other customers use the device.
func BenchmarkVector(b *testing.B) {
	c := sixty(b)
	tl := newTimelines(c)
	for i := range 200 {
		kind := []string{"payment", "login", "spend", "refund_requested"}[i%4]
		tl.add(fact(fmt.Sprint("e", i), kind, t0-vaglio.Instant(i)*13*vaglio.Hour, 100,
			"customer", "c", "device", fmt.Sprint("d", i%3), "instrument", "i", "payment", fmt.Sprint("p", i/4), ".reason", "other", ".channel", "app"))
	}
	for i, other := range []string{"c2", "c3"} {
		tl.add(fact("login"+other, "login", t0-vaglio.Day, 0, "customer", other, "device", "d1"),
			fact("label"+other, "fraud_confirmed", t0-vaglio.Instant(i+1)*vaglio.Hour, 0, "customer", other, "request", other))
	}
	request := fact("r", "refund_requested", t0, 250, "customer", "c", "device", "d1", "instrument", "i", "payment", "p1", ".reason", "other")
	dst := make([]float64, len(c.Features()))
	b.ReportAllocs()
	for b.Loop() {
		c.Vector(dst, &request, tl.state)
	}
}

// A hot entity: a million events of one kind come to one state, of which the newest 2,000 stay.
func BenchmarkAdd(b *testing.B) {
	const million = 1_000_000
	c := sixty(b)
	facts := make([]vaglio.Fact, million)
	for i := range facts {
		facts[i] = fact(fmt.Sprintf("evt_%07d", i), "payment", t0+vaglio.Instant(i), 100, "customer", "c", "device", "d", "instrument", "i", ".channel", "app")
	}
	run := func(name string, place func(i int) int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				state := c.NewState(vaglio.EntityCustomer)
				for i := range facts {
					state.Add(&facts[place(i)])
				}
				if state.Len() != vaglio.NewestPerKind {
					b.Fatal(state.Len())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/event")
		})
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(million)
	run("InOrder", func(i int) int { return i })
	run("RandomOrder", func(i int) int { return order[i] })
	run("Backwards", func(i int) int { return million - 1 - i })
	// The costliest order: each event belongs into the middle of a full list.
	run("IntoTheMiddle", func(i int) int {
		if i < vaglio.NewestPerKind/2 {
			return million - 1 - i
		}
		return i - vaglio.NewestPerKind/2
	})
}

// A cold state of 2,000 events, as history reads it (the newest first) and shuffled.
func BenchmarkLoad(b *testing.B) {
	c := sixty(b)
	facts := make([]vaglio.Fact, vaglio.NewestPerKind)
	for i := range facts {
		facts[i] = fact(fmt.Sprintf("evt_%07d", i), "payment", t0-vaglio.Instant(i), 100, "customer", "c", "device", "d", "instrument", "i", ".channel", "app")
	}
	run := func(name string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				state := c.NewState(vaglio.EntityCustomer)
				for i := range facts {
					state.Add(&facts[i])
				}
				b.ReportMetric(float64(state.Bytes())/vaglio.NewestPerKind, "B/event")
			}
		})
	}
	run("NewestFirst")
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
	run("Shuffled")
}
