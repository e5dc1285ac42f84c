package history_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/history/embedded"
)

var dsn string

func TestMain(m *testing.M) {
	embedded.Main()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "history")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		server, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		if err != nil {
			panic(err)
		}
		defer server.Close()
		dsn = server.DSN()
		return m.Run()
	}())
}

const t0 = vaglio.Instant(1_760_000_000_000)

func open(t *testing.T, base string) *history.Store {
	t.Helper()
	return openDatabase(t, strings.ToLower(t.Name()), base)
}

// openDatabase opens a history of its own in the one ClickHouse of these tests.
func openDatabase(t testing.TB, name, base string) *history.Store {
	t.Helper()
	s, err := history.Open(t.Context(), strings.TrimSuffix(dsn, "vaglio")+name,
		history.Options{BaseCurrency: base, Now: func() time.Time { return (t0 + vaglio.Day).Time() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func event(id, kind string, at vaglio.Instant, entities ...string) vaglio.Event {
	return vaglio.Event{ID: id, Kind: kind, OccurredAt: at, Entities: vaglio.FieldsOf(entities...)}
}

func paid(id string, at vaglio.Instant, amountMinor int64, currency string, entities ...string) vaglio.Event {
	e := event(id, vaglio.KindPayment, at, entities...)
	e.Amount, e.Currency = amountMinor, currency
	return e
}

func insert(t *testing.T, s *history.Store, events ...vaglio.Event) []vaglio.Outcome {
	t.Helper()
	outcomes, err := s.Import(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

func ids(facts []vaglio.Fact) []string {
	var out []string
	for _, f := range facts {
		out = append(out, f.ID)
	}
	slices.Sort(out)
	return out
}

var customer = vaglio.Entity{Kind: "customer", ID: "c"}

func timeline(t *testing.T, s *history.Store, entity vaglio.Entity, asOf vaglio.Instant) []vaglio.Fact {
	t.Helper()
	found, err := s.Timelines(t.Context(), []vaglio.Entity{entity}, asOf)
	if err != nil {
		t.Fatal(err)
	}
	return found[entity]
}

func TestAnEventIsStoredOncePerIDAndTheFirstWins(t *testing.T) {
	s := open(t, "EUR")
	first := paid("p", t0, 100, "EUR", "customer", "c")
	other := first
	other.Amount = 200
	got := insert(t, s, first, first, other)
	got = append(got, insert(t, s, first, other)...)
	want := []vaglio.Outcome{vaglio.Stored, vaglio.Repeated, vaglio.Conflicting, vaglio.Repeated, vaglio.Conflicting}
	if !slices.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	if facts := timeline(t, s, customer, t0+1); len(facts) != 1 || facts[0].Amount != 100 {
		t.Errorf("the timeline holds %v, want the first event alone", facts)
	}
	if n, err := s.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d events, %v; want 1", n, err)
	}
}

func TestATimelineHoldsWhatWasKnownAtTheMoment(t *testing.T) {
	s := open(t, "EUR")
	late := event("late", "login", t0-vaglio.Hour, "customer", "c")
	late.ObservedAt = t0 + vaglio.Hour
	insert(t, s,
		event("early", "login", t0-2*vaglio.Hour, "customer", "c"), late,
		event("now", "login", t0, "customer", "c"),
		event("ancient", "login", t0-vaglio.Horizon-3*vaglio.Hour, "customer", "c"),
		event("someone else", "login", t0-vaglio.Hour, "customer", "cc"))
	check := func(asOf vaglio.Instant, want ...string) {
		t.Helper()
		if got := ids(timeline(t, s, customer, asOf)); !slices.Equal(got, want) {
			t.Errorf("as of %v: %v, want %v", asOf, got, want)
		}
	}
	check(t0 - 2*vaglio.Hour)
	check(t0-2*vaglio.Hour+1, "early") // an event counts a millisecond after it occurred, within the horizon
	check(t0, "early")
	check(t0+1, "early", "now")
	check(t0+vaglio.Hour, "early", "late", "now")
}

func TestOnlyTheNewestOfAKindAreRead(t *testing.T) {
	s := open(t, "EUR")
	events := []vaglio.Event{event("label", "fraud_confirmed", t0-vaglio.Day, "customer", "c", "request", "r")}
	for i := range vaglio.NewestPerKind + 10 {
		events = append(events, event(fmt.Sprintf("l%04d", i), "login", t0-vaglio.Hour+vaglio.Instant(i), "customer", "c"))
	}
	insert(t, s, events...)
	got := ids(timeline(t, s, customer, t0))
	if len(got) != vaglio.NewestPerKind+1 || got[0] != "l0010" || got[2000] != "label" {
		t.Errorf("%d events from %v, want the label and the newest %d logins", len(got), got[0], vaglio.NewestPerKind)
	}
}

func TestAPayoutInstrumentEntersTheInstrumentsTimeline(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s,
		event("a", "login", t0-2, "customer", "c", "payout_instrument", "iban"),
		event("b", "login", t0-2, "customer", "d", "instrument", "iban", "payout_instrument", "iban"))
	if got := ids(timeline(t, s, vaglio.Entity{Kind: "instrument", ID: "iban"}, t0)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the instrument's timeline holds %v", got)
	}
}

func TestRequestsAreCompletedFromThePaymentAndLabelsFromTheRequest(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s, paid("p1", t0-vaglio.Day, 100, "EUR", "customer", "c", "payment", "p", "device", "d", "instrument", "i", "employee", "e"))
	insert(t, s,
		event("label", "fraud_confirmed", t0, "request", "r"),
		event("r", "refund_requested", t0-vaglio.Hour, "customer", "c", "payment", "p", "instrument", "own"),
		event("too early", "refund_requested", t0-vaglio.Day, "customer", "c", "payment", "p"))
	insert(t, s, event("later label", "fraud_confirmed", t0, "request", "r"))
	facts, err := s.Events(t.Context(), []string{"r", "label", "later label", "too early"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(id string, want vaglio.Fields) {
		t.Helper()
		if got := facts[id].Entities; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
	completed := vaglio.FieldsOf("customer", "c", "payment", "p", "device", "d", "instrument", "own")
	check("r", completed)
	check("label", completed.With("request", "r"))
	check("later label", completed.With("request", "r"))
	check("too early", vaglio.FieldsOf("customer", "c", "payment", "p")) // the payment was not known yet
	if got := ids(timeline(t, s, vaglio.Entity{Kind: "device", ID: "d"}, t0+1)); !slices.Equal(got, []string{"label", "later label", "p1", "r"}) {
		t.Errorf("the device's timeline holds %v", got)
	}
}

func TestMoneyIsConvertedAtTheRateOfTheDay(t *testing.T) {
	s := open(t, "EUR") // t0 is 2025-10-09
	n, err := s.ImportRates(t.Context(), strings.NewReader("Date,USD,JPY,\n2025-10-08,1.25,150,\n2025-10-07,1.20,N/A,\n2025-09-20,N/A,140,\n"))
	if err != nil || n != 4 {
		t.Fatalf("%d rates, %v; want 4", n, err)
	}
	check := func(amountMinor int64, currency string, at vaglio.Instant, want int64, known bool) {
		t.Helper()
		f, err := s.Prepare(paid("x", at, amountMinor, currency, "customer", "c"), at)
		if err != nil || f.BaseAmount != want || f.BaseKnown != known {
			t.Errorf("%d %s: %d, %v, %v; want %d, %v", amountMinor, currency, f.BaseAmount, f.BaseKnown, err, want, known)
		}
	}
	check(1000, "EUR", t0, 1000, true)
	check(1000, "USD", t0, 800, true)
	check(1000, "USD", t0-vaglio.Day, 800, true)
	check(1001, "USD", t0-2*vaglio.Day, 834, true) // 834.17 at the rate of the 7th
	check(1000, "JPY", t0, 667, true)              // no decimals of its own: 6.666… EUR
	check(1000, "USD", t0-3*vaglio.Day, 0, false)
	check(1000, "JPY", t0-10*vaglio.Day, 0, false) // the last rate is nine days old
	check(1000, "GBP", t0, 0, false)
	if _, err := s.ImportRates(t.Context(), strings.NewReader("Date,USD\n2025-10-08,minus\n")); err == nil || !strings.HasPrefix(err.Error(), "line 2: column USD") {
		t.Errorf("a bad rate: %v", err)
	}
}

func TestTheBaseCurrencyIsFixed(t *testing.T) {
	if got := open(t, "GBP").BaseCurrency(); got != "GBP" {
		t.Errorf("base currency %s", got)
	}
	if got := open(t, "").BaseCurrency(); got != "GBP" {
		t.Errorf("reopened without one: %s", got)
	}
	own := strings.TrimSuffix(dsn, "/vaglio") + "/" + strings.ToLower(t.Name())
	if _, err := history.Open(t.Context(), own, history.Options{BaseCurrency: "EUR"}); err == nil {
		t.Error("another base currency was taken")
	}
}

func TestWalkAndScanStreamEverythingOnce(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s, event("b", "login", t0-1, "customer", "c2"), event("a", "login", t0-2, "customer", "c1"), event("c", "login", t0-3, "customer", "c2"))
	var walked []string
	err := s.Walk(t.Context(), "customer", []string{"login"}, func(e vaglio.Entity, facts []vaglio.Fact) error {
		for _, f := range facts {
			walked = append(walked, e.ID+"/"+f.ID)
		}
		return nil
	})
	if want := []string{"c1/a", "c2/c", "c2/b"}; err != nil || !slices.Equal(walked, want) {
		t.Errorf("walked %v, %v; want %v", walked, err, want)
	}
	var scanned []string
	err = s.Scan(t.Context(), []string{"login"}, t0-2, t0, func(f vaglio.Fact) error {
		scanned = append(scanned, f.ID)
		return nil
	})
	if want := []string{"a", "b"}; err != nil || !slices.Equal(scanned, want) {
		t.Errorf("scanned %v, %v; want %v", scanned, err, want)
	}
}

func TestEventsFromTheFutureAreRefused(t *testing.T) {
	s := open(t, "EUR")
	_, err := s.Insert(t.Context(), []vaglio.Event{event("a", "login", t0+2*vaglio.Day+1, "customer", "c")})
	var invalid vaglio.Invalid
	if !errors.As(err, &invalid) || invalid[0].Pointer != "/0/occurred_at" {
		t.Errorf("got %v", err)
	}
}
