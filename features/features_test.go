package features_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/features"
)

const t0 = vaglio.Instant(1_760_000_000_000)

// timelines holds every fact in the state of each of its timelines, as a reader of history would.
type timelines struct {
	catalogue *features.Catalogue
	states    map[vaglio.Entity]*features.State
}

func newTimelines(c *features.Catalogue) timelines {
	return timelines{c, map[vaglio.Entity]*features.State{}}
}

func (tl timelines) add(facts ...vaglio.Fact) timelines {
	for i := range facts {
		for _, entity := range facts[i].Timelines() {
			if tl.states[entity] == nil {
				state := tl.catalogue.NewState(entity.Kind)
				if state == nil {
					continue
				}
				tl.states[entity] = state
			}
			tl.states[entity].Add(&facts[i])
		}
	}
	return tl
}

func (tl timelines) state(e vaglio.Entity) *features.State { return tl.states[e] }

func (tl timelines) vector(request vaglio.Fact) []float64 {
	dst := make([]float64, len(tl.catalogue.Features()))
	tl.catalogue.Vector(dst, &request, tl.state)
	return dst
}

// fact takes entities by name and attributes by their name after a dot; an amount of 0 is no money.
func fact(id, kind string, at vaglio.Instant, amountMinor int64, fields ...string) vaglio.Fact {
	e := vaglio.Event{ID: id, Kind: kind, OccurredAt: at, ObservedAt: at, Amount: amountMinor}
	if amountMinor != 0 {
		e.Currency = "EUR"
	}
	for i := 0; i < len(fields); i += 2 {
		if name := fields[i]; name[0] == '.' {
			e.Attributes = e.Attributes.With(name[1:], fields[i+1])
		} else {
			e.Entities = e.Entities.With(name, fields[i+1])
		}
	}
	return vaglio.Fact{Event: e, KnownAt: e.KnownAt(), BaseAmount: amountMinor, BaseKnown: amountMinor != 0}
}

func parse(t testing.TB, rows string) *features.Catalogue {
	t.Helper()
	c, err := features.Parse([]byte("name: test\nfeatures:\n" + rows))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func same(a, b float64) bool { return a == b || a != a && b != b }

func TestAggregatesOfACustomersPayments(t *testing.T) {
	check := func(row string, want float64) {
		t.Helper()
		c := parse(t, "  - {name: x, entity: customer, events: [payment], "+row+"}\n")
		tl := newTimelines(c).add(
			fact("a", "payment", t0-10*vaglio.Day, 500, "customer", "c", "device", "d1", ".channel", "web", ".weight", "0.1"),
			fact("b", "payment", t0-2*vaglio.Day, 100, "customer", "c", "device", "d2", ".channel", "app", ".weight", "0.2"),
			fact("c", "payment", t0-6*vaglio.Hour, 300, "customer", "c", "device", "d2", ".channel", "app", ".weight", "x"),
			fact("d", "payment", t0-1, 200, "customer", "c", ".channel", "web"),
			fact("e", "payment", t0, 9999, "customer", "c"),
			fact("f", "login", t0-vaglio.Hour, 0, "customer", "c", "device", "d3"),
			fact("g", "payment", t0-vaglio.Hour, 7777, "customer", "other"),
		)
		request := fact("r", "refund_requested", t0, 250, "customer", "c", "device", "d2", ".channel", "app")
		if got := tl.vector(request)[0]; !same(got, want) {
			t.Errorf("%s: got %v, want %v", row, got, want)
		}
	}
	nan := math.NaN()
	check("aggregate: count", 4)
	check("aggregate: count, window: 7d", 3)
	check("aggregate: count, window: 6h", 2) // the window's start is inside, its end is not
	check("aggregate: count, window: 7d, offset: 7d", 1)
	check("aggregate: sum, of: amount", 1100)
	check("aggregate: mean, of: amount, window: 7d", 200)
	check("aggregate: min, of: amount", 100)
	check("aggregate: max, of: amount", 500)
	check("aggregate: stddev, of: amount, window: 7d", math.Sqrt(60000)/3) // of 100, 300, 200: sqrt(n·Σx² − (Σx)²)/n
	check("aggregate: distinct, of: device", 2)
	check("aggregate: distinct, of: attributes.channel", 2)
	check("aggregate: since_first", 240)
	check("aggregate: since_last, where: attributes.channel == 'app'", 6)
	check("aggregate: count, where: attributes.channel == request.attributes.channel", 2)
	check("aggregate: count, where: amount >= 200 and amount < 500", 2)
	check("aggregate: count, where: missing(attributes.weight)", 1)
	check("aggregate: sum, of: attributes.weight, where: attributes.weight != 'x'", 0.3)
	check("aggregate: sum, of: attributes.weight", nan) // one weight is no number: the sum is unknown
	check("aggregate: count, where: number(attributes.weight) > 0.15", 1)
	check("aggregate: share, part: attributes.channel == 'app'", 0.5)
	check("aggregate: share, part: amount < request.amount, window: 6h", 0.5)
	check("aggregate: share, part: attributes.channel == 'app', window: 1h, offset: 30d", nan)
	check("aggregate: share, part: missing(attributes.channel)", 0)
	check("aggregate: rate, window: 7d", 3.0/7)
	check("aggregate: rate", 0.4) // four in the ten days since the first
	check("aggregate: rate, window: 1h, offset: 30d", 0)
	check("aggregate: same, of: device, which: usual", 1)
	check("aggregate: same, of: device, which: first", 0)
	check("aggregate: same, of: device, which: last", 1)                // the newest one that names a device
	check("aggregate: same, of: attributes.channel, which: usual", 0)   // two each: the newest is web
	check("aggregate: same, of: attributes.channel, which: last", 0)    // web
	check("aggregate: same, of: attributes.nowhere, which: usual", nan) // the request has none
	check("aggregate: same, of: device, which: last, window: 1h", nan)  // no event has one
	check("aggregate: habit, within: 1h", 0.75)
	check("aggregate: habit, within: 6h", 1) // its ends are inside
	check("aggregate: habit, within: 359m, window: 1d", 0.5)
	check("aggregate: mean, of: amount, window: 1h, offset: 30d", nan)
	check("aggregate: sum, of: amount, window: 1h, offset: 30d", 0)
}

func TestPairsAndRolesOfInstruments(t *testing.T) {
	c := parse(t, `
  - {name: device_age, entity: customer+device, events: [login], aggregate: since_first}
  - {name: payout_age, entity: customer+payout_instrument, events: [payment, refund_paid], aggregate: since_first}
  - {name: payout_customers, entity: payout_instrument, events: [payment, refund_paid], aggregate: distinct, of: customer}
  - {name: differs, expr: request.entities.payout_instrument != request.entities.instrument}
  - {name: ip_count, entity: ip, events: [login], aggregate: count}
`)
	tl := newTimelines(c).add(
		fact("a", "login", t0-3*vaglio.Hour, 0, "customer", "c", "device", "d"),
		fact("b", "login", t0-9*vaglio.Hour, 0, "customer", "c", "device", "other"),
		fact("c", "payment", t0-5*vaglio.Hour, 10, "customer", "c", "instrument", "card"),
		fact("d", "refund_paid", t0-4*vaglio.Hour, 10, "customer", "mule", "payout_instrument", "card", "instrument", "m"),
		fact("e", "refund_paid", t0-2*vaglio.Hour, 10, "customer", "c", "payout_instrument", "iban", "instrument", "card"),
	)
	check := func(want []float64, entities ...string) {
		t.Helper()
		if got := tl.vector(fact("r", "refund_requested", t0, 10, entities...)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	nan := math.NaN()
	check([]float64{3, 2, 1, 1, nan}, "customer", "c", "device", "d", "payout_instrument", "iban", "instrument", "card")
	check([]float64{nan, 5, 2, 0, 0}, "customer", "c", "instrument", "card", "ip", "i") // absent payout: the source
	check([]float64{nan, nan, 0, nan, nan}, "customer", "c", "payout_instrument", "new")
	check([]float64{nan, nan, nan, nan, nan}, "customer", "c")
}

func TestMoneyOfAPaymentIsInItsOwnCurrency(t *testing.T) {
	c := parse(t, `
  - {name: captured, entity: payment, events: [payment], aggregate: sum, of: amount}
  - {name: share, expr: request.amount / captured}
  - {name: paid, entity: customer, events: [payment], aggregate: sum, of: amount}
  - {name: ratio, expr: request.amount / paid}
`)
	pounds := fact("p", "payment", t0-vaglio.Hour, 1000, "payment", "p", "customer", "c")
	pounds.Currency, pounds.BaseAmount = "GBP", 1200
	request := fact("r", "refund_requested", t0, 500, "payment", "p", "customer", "c")
	request.Currency, request.BaseAmount = "GBP", 600
	if got := newTimelines(c).add(pounds).vector(request); !slices.Equal(got, []float64{1000, 0.5, 1200, 0.5}) {
		t.Errorf("in one foreign currency: %v", got)
	}
	request.Currency = "USD"
	if got := newTimelines(c).add(pounds).vector(request); got[0] == got[0] || got[1] == got[1] {
		t.Errorf("the captured amount in another currency is %v, want unknown", got[:2])
	}
	pounds.BaseKnown, request.Currency = false, "GBP"
	if got := newTimelines(c).add(pounds).vector(request); got[0] != 1000 || got[2] == got[2] {
		t.Errorf("without a rate: %v, want 1000 in its own currency and an unknown sum in the base currency", got)
	}
}

func TestExpressionsAndCategories(t *testing.T) {
	request := fact("r", "refund_requested", vaglio.Instant(1_763_850_600_000), 250, "customer", "c", ".reason", "other", ".rail", "card")
	check := func(row string, want float64) {
		t.Helper()
		c := parse(t, "  - {name: none, entity: customer, events: [login], aggregate: since_last}\n  - {name: x, "+row+"}\n")
		if got := newTimelines(c).vector(request)[1]; !same(got, want) {
			t.Errorf("%s: got %v, want %v", row, got, want)
		}
	}
	nan := math.NaN()
	check("expr: request.hour", 22) // 2025-11-22T22:30:00Z, a Saturday
	check("expr: request.weekday", 6)
	check("expr: request.amount / 0", nan)
	check("expr: none + 1", nan)
	check("expr: none < 5", nan)
	check("expr: none < 5 or true", 1)
	check("expr: none < 5 and false", 0)
	check("expr: not (none < 5)", nan)
	check("expr: missing(none)", 1)
	check("expr: 'missing(none) ? 7 : 8'", 7)
	check("expr: 'none < 1 ? 7 : 8'", nan)
	check("expr: 'request.reason in [\"other\", \"duplicate\"]'", 1)
	check("expr: request.attributes.nope == \"x\"", nan)
	check("expr: 'max(request.amount, 1000) - abs(-1)'", 999)
	check("categorical: request.reason, categories: [duplicate, other]", 1)
	check("categorical: request.reason, categories: [duplicate]", -1)
	check("categorical: request.attributes.nope, categories: [duplicate]", -1)
}

func TestCatalogueErrorsNameLineFeatureAndReason(t *testing.T) {
	check := func(rows, want string) {
		t.Helper()
		_, err := features.Parse([]byte("name: test\nfeatures:\n" + rows))
		if err == nil || err.Error() != want {
			t.Errorf("%s\n got: %v\nwant: %s", rows, err, want)
		}
	}
	check("  - {name: x, expr: y + 1}", `line 3: feature "x": "y + 1": there is no feature "y"`)
	check("  - {name: x, expr: y}\n  - {name: y, expr: x}", `line 3: feature "x": the expression reads itself, through other features or directly`)
	check("  - {name: x, expr: 1 +}", `line 3: feature "x": "1 +": unexpected token EOF (1:3)`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: count, window: 0d}", `line 3: feature "x": window: want a positive whole number of m, h, d or w, or all, not "0d"`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: count, window: 500d}", `line 3: feature "x": window: 500d is beyond the horizon of 400 days`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: median}", `line 3: feature "x": there is no aggregate "median": there are count, distinct, habit, linked, max, mean, min, rate, same, share, since_first, since_last, stddev, sum`)
	check("  - {name: x, entity: customer, aggregate: count}", `line 3: feature "x": events lists the kinds of events to aggregate`)
	check("  - &x {name: x, expr: '1'}\n  - *x", `line 4: anchors, aliases, tags and merges have no place here`)
	check(strings.Repeat("[", 100_000), `line 3: is nested too deep`)
	check(strings.Repeat("- ", 100_000), `line 3: is nested too deep`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: count, window: 5}", `line 3: feature "x": window: want a positive whole number of m, h, d or w, or all, not "5"`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: share}", `line 3: feature "x": share wants part: a condition`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: share, part: nope == 1}", `line 3: feature "x": part: "nope == 1": an event has no number "nope"; number(attributes.nope) reads an attribute`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: count, part: amount > 1}", `line 3: feature "x": count takes no part`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: same, of: device}", `line 3: feature "x": same wants which: usual, last or first`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: same, of: device, which: odd}", `line 3: feature "x": which: want usual, last or first, not "odd"`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: same, which: last}", `line 3: feature "x": same is of a kind of entity (of: device) or an attribute (of: attributes.NAME)`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: habit}", `line 3: feature "x": habit wants within: a span such as 2h`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: habit, within: 12h}", `line 3: feature "x": within: 12h on either side is the whole day`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: habit, within: 0h}", `line 3: feature "x": within: want a positive whole number of m, h, d or w, or all, not "0h"`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: rate, of: amount}", `line 3: feature "x": rate takes no of`)
	check("  - {name: x, entity: customer, events: [payment], aggregate: sum, of: [amount, device]}", `line 3: feature "x": sum takes no list in of`)
	check("  - {name: x, entity: customer, events: [fraud_confirmed], aggregate: linked}", `line 3: feature "x": linked wants of: the kinds of identifiers that link customers ([device, instrument])`)
	check("  - {name: x, entity: device, events: [fraud_confirmed], aggregate: linked, of: ip}", `line 3: feature "x": linked is of the entity customer, not "device"`)
	check("  - {name: x, entity: customer+ip, events: [fraud_confirmed], aggregate: linked, of: ip}", `line 3: feature "x": linked is of the entity customer, not "customer+ip"`)
	check("  - {name: x, entity: customer, events: [fraud_confirmed], aggregate: linked, of: [device, customer]}", `line 3: feature "x": "customer" is not a kind of identifier that links customers`)
	check("  - {name: x, entity: customer, events: [fraud_confirmed], aggregate: linked, of: [device, device]}", `line 3: feature "x": the identifier device is given twice`)
	check("  - {name: x, entity: customer, events: [fraud_confirmed], aggregate: linked, of: payout_instrument}", `line 3: feature "x": a payout_instrument links as an instrument: write instrument`)
	check("  - {name: x, expr: '1', part: amount > 1}", `line 3: feature "x": entity, events, of, window, offset, where, part, which and within belong to an aggregate`)
	check("  - {name: x, expr: y}\n  - {name: y, expr: z}\n  - {name: z, expr: x / 0}", `line 3: feature "x": the expression reads itself, through other features or directly`)
	check("  - {name: x, expr: '1'}\n  - {name: x, expr: '2'}", `line 4: feature "x": the name is taken`)
	check("  - {name: x}", `line 3: feature "x": want exactly one of aggregate, expr and categorical`)
	check("  - {name: x, expr: request.nope}", `line 3: feature "x": "request.nope": request.nope is not a number`)
	check("  - {name: x, expr: 'map([1], # + 1)'}", `line 3: feature "x": "map([1], # + 1)": there is no function map of 2 arguments`)
}

func TestTheDefaultCatalogueSurvivesItsOwnYAML(t *testing.T) {
	written, err := features.Default().YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := features.Parse(written)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.Names(), features.Default().Names(); !slices.Equal(got, want) {
		t.Errorf("names differ: %v, want %v", got, want)
	}
	rewritten, err := again.YAML()
	if err != nil || string(rewritten) != string(written) {
		t.Errorf("writing twice differs: %v", err)
	}
}

func visible(facts []vaglio.Fact, at vaglio.Instant) []vaglio.Fact {
	return slices.DeleteFunc(slices.Clone(facts), func(f vaglio.Fact) bool { return f.KnownAt > at })
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

func TestOnlyTheNewestEventsOfAKindCount(t *testing.T) {
	c := parse(t, `
  - {name: n, entity: customer, events: [payment], aggregate: count}
  - {name: first, entity: customer, events: [payment, login], aggregate: since_first}
`)
	tl := newTimelines(c).add(fact("login", "login", t0-300*vaglio.Day, 0, "customer", "c"))
	for i := range vaglio.NewestPerKind + 500 {
		tl.add(fact(fmt.Sprint("p", i), "payment", t0-vaglio.Instant(i+1)*vaglio.Minute, 1, "customer", "c"))
	}
	got := tl.vector(fact("r", "refund_requested", t0, 1, "customer", "c"))
	if got[0] != vaglio.NewestPerKind || got[1] != 300*24 {
		t.Errorf("got %v, want the newest %d payments and the login that they did not push out", got, vaglio.NewestPerKind)
	}
}

func TestEvidenceNamesTheEventsBehindAFeature(t *testing.T) {
	c := parse(t, `
  - {name: paid, entity: customer, events: [payment], aggregate: sum, of: amount, window: 7d}
  - {name: share, expr: request.amount / paid}
`)
	tl := newTimelines(c).add(
		fact("old", "payment", t0-8*vaglio.Day, 1, "customer", "c"),
		fact("a", "payment", t0-vaglio.Day, 1, "customer", "c"),
		fact("b", "payment", t0-vaglio.Hour, 1, "customer", "c"))
	request := fact("r", "refund_requested", t0, 1, "customer", "c")
	check := func(limit int, want ...string) {
		t.Helper()
		if got := c.Evidence(&request, tl.state, limit, []int{1})[0]; !slices.Equal(got, want) {
			t.Errorf("evidence %v, want %v", got, want)
		}
	}
	check(5, "b", "a")
	check(1, "b")
}

func TestAFeatureWithoutADescriptionDescribesItself(t *testing.T) {
	check := func(row, want string) {
		t.Helper()
		if got := parse(t, "  - {name: a, expr: '1'}\n  - {name: x, "+row+"}\n").Features()[1].Description; got != want {
			t.Errorf("%s: %q, want %q", row, got, want)
		}
	}
	check("entity: customer, events: [refund_requested], aggregate: count, window: 7d", "number of refund_requested events of the customer in 7 days")
	check("entity: customer, events: [a, b, c], aggregate: since_last, window: all", "hours since the last a, b or c event of the customer")
	check("entity: customer+payout_instrument, events: [payment], aggregate: sum, of: amount, window: 1d, offset: 1w", "sum of the amount of payment events of the customer with this payout instrument in 1 day, up to 1 week ago")
	check("entity: device, events: [login], aggregate: distinct, of: customer, where: attributes.channel == 'app'", "number of different values of customer in login events of the device where attributes.channel == 'app'")
	check("entity: customer, events: [login], aggregate: same, of: attributes.country, which: usual", "whether the request's country is the usual one in login events of the customer")
	check("entity: customer, events: [payment], aggregate: habit, within: 2h, window: 90d", "share within 2 hours of the request's time of day (UTC) among payment events of the customer in 90 days")
	check("entity: customer, events: [fraud_confirmed], aggregate: linked, of: [device, address], window: 365d", "number of other customers who share a device or address and have fraud_confirmed events in 365 days, net of fraud_cleared")
	check("expr: a + 1", "a + 1")
	check("categorical: request.attributes.payee_verification", "the request's payee verification")
	check("expr: a + 1, description: mine", "mine")
}

func TestEvidenceIsWhatMakesTheValue(t *testing.T) {
	check := func(row string, want ...string) {
		t.Helper()
		c := parse(t, "  - {name: x, entity: customer, events: [payment], "+row+"}\n")
		tl := newTimelines(c).add(
			fact("a", "payment", t0-30*vaglio.Hour, 1, "customer", "c", "device", "d1", ".channel", "app"),
			fact("b", "payment", t0-24*vaglio.Hour, 1, "customer", "c", "device", "d2"),
			fact("c", "payment", t0-12*vaglio.Hour, 1, "customer", "c", "device", "d1"))
		request := fact("r", "refund_requested", t0, 1, "customer", "c", "device", "d2")
		if got := c.Evidence(&request, tl.state, 5, []int{0})[0]; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", row, got, want)
		}
	}
	check("aggregate: rate", "c", "b", "a")
	check("aggregate: share, part: attributes.channel == 'app'", "a")
	check("aggregate: habit, within: 1h", "b")
	check("aggregate: same, of: device, which: usual", "c", "a")
	check("aggregate: same, of: device, which: last", "c")
	check("aggregate: same, of: device, which: first", "a")
	check("aggregate: same, of: device, which: first, window: 1h")
	check("aggregate: since_first", "a")
}
