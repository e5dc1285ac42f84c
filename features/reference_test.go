package features_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/features"
)

// A second implementation of the aggregates, as slow and plain as their descriptions: from all facts, with arbitrary
// precision and no state. What the catalogue computes must agree with it for any row and any history.

// definition is a row of a random catalogue.
type definition struct {
	entity, pair, aggregate, of, which string
	events, via                        []string
	window, offset, within             vaglio.Instant
	where, part                        *clause
}

// clause is a condition in the language of catalogues, and what it means.
type clause struct {
	text  string
	holds func(event, request *vaglio.Fact) bool
}

var clauses = []clause{
	{`attributes.channel == "web"`, func(e, _ *vaglio.Fact) bool { return e.Attributes.Get("channel") == "web" }},
	{`attributes.channel != "web"`, func(e, _ *vaglio.Fact) bool { v := e.Attributes.Get("channel"); return v != "" && v != "web" }},
	{`attributes.channel in ["app", "web"]`, func(e, _ *vaglio.Fact) bool { return e.Attributes.Get("channel") != "" }},
	{`missing(entities.device)`, func(e, _ *vaglio.Fact) bool { return e.Entities.Get("device") == "" }},
	{`amount >= 200 and not (attributes.channel == "app")`, func(e, _ *vaglio.Fact) bool {
		return e.BaseKnown && e.BaseAmount >= 200 && e.Attributes.Get("channel") == "web"
	}},
	{`number(attributes.weight) > 0`, func(e, _ *vaglio.Fact) bool {
		v, err := strconv.ParseFloat(e.Attributes.Get("weight"), 64)
		return err == nil && v > 0
	}},
	{`attributes.channel == request.attributes.channel`, func(e, r *vaglio.Fact) bool {
		v := e.Attributes.Get("channel")
		return v != "" && v == r.Attributes.Get("channel")
	}},
	{`amount < request.amount`, func(e, r *vaglio.Fact) bool { return e.BaseKnown && r.BaseKnown && e.BaseAmount < r.BaseAmount }},
}

// span writes a window in hours.
func span(i vaglio.Instant) string { return fmt.Sprintf("%dh", i/vaglio.Hour) }

func (d *definition) row(name string) string {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, ", %s: %s", name, value)
		}
	}
	fmt.Fprintf(&b, "  - {name: %s, entity: %s, events: [%s], aggregate: %s", name, d.entity+d.pair, strings.Join(d.events, ", "), d.aggregate)
	field("of", d.of)
	if d.via != nil {
		field("of", "["+strings.Join(d.via, ", ")+"]")
	}
	field("which", d.which)
	for name, i := range map[string]vaglio.Instant{"window": d.window, "offset": d.offset, "within": d.within} {
		if i != 0 {
			field(name, span(i))
		}
	}
	for name, c := range map[string]*clause{"where": d.where, "part": d.part} {
		if c != nil {
			field(name, "'"+c.text+"'")
		}
	}
	return b.String() + "}\n"
}

// timeline is what was known of an entity at t, of each kind the newest that count, in order of time.
func timeline(facts []vaglio.Fact, kind, id string, t vaglio.Instant) []vaglio.Fact {
	byKind := map[string][]vaglio.Fact{}
	for _, f := range facts {
		if f.KnownAt <= t && slices.Contains(f.Timelines(), vaglio.Entity{Kind: kind, ID: id}) {
			byKind[f.Kind] = append(byKind[f.Kind], f)
		}
	}
	var all []vaglio.Fact
	for _, of := range byKind {
		slices.SortFunc(of, inTime)
		all = append(all, of[max(0, len(of)-vaglio.NewestPerKind):]...)
	}
	slices.SortFunc(all, inTime)
	return slices.DeleteFunc(all, func(f vaglio.Fact) bool { return f.OccurredAt < t-vaglio.Horizon })
}

func inTime(a, b vaglio.Fact) int {
	if a.OccurredAt != b.OccurredAt {
		return int(a.OccurredAt - b.OccurredAt)
	}
	return strings.Compare(a.ID, b.ID)
}

// named is the entity of a kind that a request names: an absent payout instrument is the source.
func named(request *vaglio.Fact, kind string) string {
	id := request.Entities.Get(kind)
	if kind == "payout_instrument" && id == "" {
		return request.Entities.Get("instrument")
	}
	return id
}

func (d *definition) windowOf(facts []vaglio.Fact, request *vaglio.Fact, entity, id string) []vaglio.Fact {
	if entity == "payout_instrument" {
		entity = "instrument"
	}
	window := d.window
	if window == 0 {
		window = vaglio.Horizon
	}
	until := request.OccurredAt - d.offset
	return slices.DeleteFunc(timeline(facts, entity, id, request.OccurredAt), func(f vaglio.Fact) bool {
		outside := f.OccurredAt < until-window || f.OccurredAt >= until || !slices.Contains(d.events, f.Kind)
		return outside || d.where != nil && !d.where.holds(&f, request)
	})
}

func (d *definition) value(facts []vaglio.Fact, request *vaglio.Fact) float64 {
	id := named(request, d.entity)
	if id == "" {
		return math.NaN()
	}
	if d.aggregate == "linked" {
		return d.linked(facts, request)
	}
	events := d.windowOf(facts, request, d.entity, id)
	if d.pair != "" {
		second := strings.TrimPrefix(d.pair, "+")
		wanted := named(request, second)
		if wanted == "" {
			return math.NaN()
		}
		events = slices.DeleteFunc(events, func(f vaglio.Fact) bool {
			ofInstrument := second == "instrument" || second == "payout_instrument"
			either := f.Entities.Get("instrument") == wanted || f.Entities.Get("payout_instrument") == wanted
			return f.Entities.Get(second) != wanted && !(ofInstrument && either)
		})
	}
	n := float64(len(events))
	switch d.aggregate {
	case "count":
		return n
	case "rate":
		from := request.OccurredAt - d.offset - d.window
		from = max(from, request.OccurredAt-vaglio.Horizon)
		if len(events) == 0 {
			return 0
		}
		if d.window == 0 {
			from = events[0].OccurredAt
		}
		return n / (float64(request.OccurredAt-d.offset-from) / float64(vaglio.Day))
	case "since_first", "since_last":
		if n == 0 {
			return math.NaN()
		}
		at := events[0].OccurredAt
		if d.aggregate == "since_last" {
			at = events[len(events)-1].OccurredAt
		}
		return float64(request.OccurredAt-at) / float64(vaglio.Hour)
	case "share", "habit":
		in := 0.0
		for i := range events {
			if d.part != nil && d.part.holds(&events[i], request) || d.within != 0 && d.near(&events[i], request) {
				in++
			}
		}
		return in / n
	case "distinct":
		seen := map[string]bool{}
		for i := range events {
			seen[d.textOf(&events[i])] = true
		}
		delete(seen, "")
		return float64(len(seen))
	case "same":
		return d.same(events, request)
	default:
		return d.moments(events, request)
	}
}

// near tells whether the two times of day, as angles of the clock, are within the span.
func (d *definition) near(event, request *vaglio.Fact) bool {
	ofDay := func(f *vaglio.Fact) vaglio.Instant {
		t := f.OccurredAt.Time()
		return vaglio.Instant(t.Hour())*vaglio.Hour + vaglio.Instant(t.Minute())*vaglio.Minute + vaglio.Instant(t.Second())*vaglio.Second +
			vaglio.Instant(t.Nanosecond()/1_000_000)
	}
	apart := max(ofDay(event), ofDay(request)) - min(ofDay(event), ofDay(request))
	return apart <= d.within || vaglio.Day-apart <= d.within
}

func (d *definition) textOf(f *vaglio.Fact) string {
	if attribute, ok := strings.CutPrefix(d.of, "attributes."); ok {
		return f.Attributes.Get(attribute)
	}
	return f.Entities.Get(d.of)
}

func (d *definition) same(events []vaglio.Fact, request *vaglio.Fact) float64 {
	own := d.textOf(request)
	if own == "" && d.of == "payout_instrument" {
		own = named(request, d.of)
	}
	events = slices.DeleteFunc(events, func(f vaglio.Fact) bool { return d.textOf(&f) == "" })
	if own == "" || len(events) == 0 {
		return math.NaN()
	}
	compared := d.textOf(&events[len(events)-1])
	switch d.which {
	case "first":
		compared = d.textOf(&events[0])
	case "usual":
		often, most := map[string]int{}, 0
		for i := range events {
			often[d.textOf(&events[i])]++
			most = max(most, often[d.textOf(&events[i])])
		}
		for i := range events { // of equals the newest stays
			if v := d.textOf(&events[i]); often[v] == most {
				compared = v
			}
		}
	}
	if compared == own {
		return 1
	}
	return 0
}

func (d *definition) moments(events []vaglio.Fact, request *vaglio.Fact) float64 {
	var values []*big.Rat
	for i := range events {
		f := &events[i]
		attribute, isAttribute := strings.CutPrefix(d.of, "attributes.")
		switch {
		case isAttribute && f.Attributes.Get(attribute) == "", !isAttribute && f.Currency == "":
			continue
		case isAttribute:
			v, ok := new(big.Rat).SetString(f.Attributes.Get(attribute))
			if !ok {
				return math.NaN()
			}
			values = append(values, v)
		case d.entity == "payment":
			if f.Currency != request.Currency {
				return math.NaN()
			}
			values = append(values, big.NewRat(f.Amount, 1))
		case !f.BaseKnown:
			return math.NaN()
		default:
			values = append(values, big.NewRat(f.BaseAmount, 1))
		}
	}
	sum, squares, n := new(big.Rat), new(big.Rat), big.NewRat(int64(len(values)), 1)
	for _, v := range values {
		sum.Add(sum, v)
		squares.Add(squares, new(big.Rat).Mul(v, v))
	}
	compare := func(a, b *big.Rat) int { return a.Cmp(b) }
	out := sum
	switch {
	case d.aggregate == "sum":
	case len(values) == 0:
		return math.NaN()
	case d.aggregate == "mean":
		out.Quo(sum, n)
	case d.aggregate == "min":
		out = slices.MinFunc(values, compare)
	case d.aggregate == "max":
		out = slices.MaxFunc(values, compare)
	default: // Var(x) = E(x²) − E(x)²
		mean := new(big.Rat).Quo(sum, n)
		variance := new(big.Rat).Sub(new(big.Rat).Quo(squares, n), new(big.Rat).Mul(mean, mean))
		root, _ := new(big.Float).Sqrt(new(big.Float).SetPrec(400).SetRat(variance)).Float64()
		return root
	}
	v, _ := out.Float64()
	return v
}

func (d *definition) linked(facts []vaglio.Fact, request *vaglio.Fact) float64 {
	own, t := request.Entities.Get("customer"), request.OccurredAt
	seen, identified := map[string]vaglio.Instant{}, false
	for _, kind := range d.via {
		ids := []string{request.Entities.Get(kind)}
		if kind == "instrument" {
			ids = append(ids, request.Entities.Get("payout_instrument"))
		}
		for _, id := range ids {
			if id == "" {
				continue
			}
			identified = true
			for _, f := range timeline(facts, kind, id, t) {
				if c := f.Entities.Get("customer"); c != "" && c != own && f.OccurredAt < t {
					seen[c] = max(seen[c], f.OccurredAt)
				}
			}
		}
	}
	if !identified {
		return math.NaN()
	}
	var customers []string
	for c := range seen {
		customers = append(customers, c)
	}
	slices.SortFunc(customers, func(a, b string) int {
		if seen[a] != seen[b] {
			return int(seen[b] - seen[a])
		}
		return strings.Compare(a, b)
	})
	n := 0.0
	for _, c := range customers[:min(32, len(customers))] {
		known := timeline(facts, "customer", c, t)
		if slices.ContainsFunc(d.windowOf(facts, request, "customer", c), func(label vaglio.Fact) bool {
			return label.Kind != "fraud_confirmed" || !slices.ContainsFunc(known, func(f vaglio.Fact) bool {
				return f.Kind == "fraud_cleared" && inTime(f, label) > 0 && f.Entities.Get("request") == label.Entities.Get("request")
			})
		}) {
			n++
		}
	}
	return n
}

var (
	eventKinds = []string{"payment", "login", "refund_requested", "fraud_confirmed", "fraud_cleared"}
	subset     = func(names ...string) *rapid.Generator[[]string] {
		return rapid.Custom(func(t *rapid.T) []string {
			return rapid.Permutation(names).Draw(t, "names")[:rapid.IntRange(1, len(names)).Draw(t, "number")]
		})
	}
)

func genDefinition(t *rapid.T) definition {
	hours := func(name string, from, to int) vaglio.Instant {
		return vaglio.Instant(rapid.IntRange(from, to).Draw(t, name)) * vaglio.Hour
	}
	clause := func(name string) *clause { return &clauses[rapid.IntRange(0, len(clauses)-1).Draw(t, name)] }
	d := definition{entity: rapid.SampledFrom([]string{"customer", "device", "instrument", "payment", "payout_instrument"}).Draw(t, "entity")}
	d.aggregate = rapid.SampledFrom([]string{"count", "rate", "sum", "mean", "min", "max", "stddev", "distinct", "share", "same", "habit",
		"since_first", "since_last", "linked"}).Draw(t, "aggregate")
	d.events = subset(eventKinds...).Draw(t, "events")
	d.pair = rapid.SampledFrom([]string{"", "", "+device", "+payout_instrument", "+instrument"}).Draw(t, "pair")
	if rapid.Bool().Draw(t, "windowed") {
		d.window = hours("window", 1, 24*20)
	}
	if rapid.IntRange(0, 3).Draw(t, "shifted") == 0 {
		d.offset = hours("offset", 1, 24*5)
	}
	if rapid.IntRange(0, 2).Draw(t, "filtered") == 0 {
		d.where = clause("where")
	}
	texts := []string{"device", "customer", "payout_instrument", "attributes.channel"}
	switch d.aggregate {
	case "sum", "mean", "min", "max", "stddev":
		d.of = rapid.SampledFrom([]string{"amount", "amount", "attributes.weight"}).Draw(t, "of")
	case "distinct":
		d.of = rapid.SampledFrom(texts).Draw(t, "of")
	case "same":
		d.of = rapid.SampledFrom(texts).Draw(t, "of")
		d.which = rapid.SampledFrom([]string{"usual", "last", "first"}).Draw(t, "which")
	case "share":
		d.part = clause("part")
	case "habit":
		d.within = hours("within", 1, 11)
	case "linked":
		d.entity, d.pair, d.via = "customer", "", subset("device", "instrument", "address").Draw(t, "via")
	}
	return d
}

// genFact draws a fact over few entities and moments, so that they meet.
func genFact(t *rapid.T, id string) vaglio.Fact {
	pick := func(name string, values ...string) string { return rapid.SampledFrom(values).Draw(t, name) }
	// Most within days of t0, on a grid so that times coincide; a few beyond the horizon or after t0.
	ago := vaglio.Instant(rapid.IntRange(-2, 200).Draw(t, "ago")) * 3 * vaglio.Hour
	if rapid.IntRange(0, 30).Draw(t, "ancient") == 0 {
		ago = vaglio.Horizon - vaglio.Instant(rapid.IntRange(-1, 1).Draw(t, "edge"))
	}
	e := vaglio.Event{ID: id, Kind: pick("kind", eventKinds...), OccurredAt: t0 - ago}
	e.ObservedAt = e.OccurredAt + rapid.SampledFrom([]vaglio.Instant{-vaglio.Hour, 0, 0, 1, 2 * vaglio.Day}).Draw(t, "late")
	e.Entities = vaglio.FieldsOf("customer", pick("customer", "", "c1", "c1", "c2", "c3"), "device", pick("device", "", "d1", "d2"),
		"instrument", pick("instrument", "", "i1", "i2"), "payout_instrument", pick("payout", "", "", "i1", "i2"),
		"payment", pick("payment", "", "p1", "p2"), "address", pick("address", "", "", "a1"), "request", pick("request", "r1", "r2"))
	e.Attributes = vaglio.FieldsOf("channel", pick("channel", "", "web", "app"), "weight", pick("weight", "", "", "1.5", "-0.000001", "999999999999", "12 kg"))
	f := vaglio.Fact{Event: e, KnownAt: e.KnownAt()}
	if rapid.Bool().Draw(t, "money") {
		f.Currency, f.Amount = pick("currency", "EUR", "EUR", "GBP"), rapid.Int64Range(0, 500).Draw(t, "amount")
		f.BaseAmount, f.BaseKnown = f.Amount*2, rapid.IntRange(0, 9).Draw(t, "rate") > 0
	}
	return f
}

func genHistory(t *rapid.T) []vaglio.Fact {
	facts := make([]vaglio.Fact, rapid.IntRange(0, 60).Draw(t, "facts"))
	for i := range facts {
		facts[i] = genFact(t, fmt.Sprintf("e%02d", i))
	}
	return facts
}

func genRequest(t *rapid.T) vaglio.Fact {
	request := genFact(t, "request")
	request.Kind, request.OccurredAt, request.ObservedAt, request.KnownAt = "refund_requested", t0, t0, t0+1
	return request
}

func genCatalogue(t *rapid.T) *features.Catalogue {
	text := "name: random\nfeatures:\n"
	for i, d := range rapid.SliceOfN(rapid.Custom(genDefinition), 1, 12).Draw(t, "definitions") {
		text += d.row(fmt.Sprint("f", i))
	}
	c, err := features.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s%v", text, err)
	}
	return c
}

func TestRandomCataloguesAgreeWithTheirPlainDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		definitions := rapid.SliceOfN(rapid.Custom(genDefinition), 10, 40).Draw(t, "definitions")
		text := "name: random\nfeatures:\n"
		for i := range definitions {
			text += definitions[i].row(fmt.Sprint("f", i))
		}
		c, err := features.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s%v", text, err)
		}
		facts, request := genHistory(t), genRequest(t)
		got := newTimelines(c).add(visible(facts, t0)...).vector(request)
		for i := range definitions {
			want := definitions[i].value(facts, &request)
			// Means and deviations round twice where the definition rounds once.
			if !same(got[i], want) && !(math.Abs(got[i]-want) <= 1e-14*math.Abs(want)) {
				t.Fatalf("got %v, want %v for %s", got[i], want, definitions[i].row("f"))
			}
		}
	})
}
