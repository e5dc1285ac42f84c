package vaglio_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"vaglio"
)

func TestAnInstantIsMillisecondsInUTC(t *testing.T) {
	check := func(text, want string) {
		t.Helper()
		at, err := vaglio.ParseInstant(text)
		if err != nil || at.String() != want {
			t.Errorf("%s: %v, %v; want %s", text, at, err, want)
		}
	}
	check("2026-11-22T10:00:00.1239Z", "2026-11-22T10:00:00.123Z")
	check("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00.000Z")
	check("2026-11-22", "2026-11-22T00:00:00.000Z")
	for _, bad := range []string{"", "yesterday", "2026-13-01", "1969-01-01T00:00:00Z", "2300-01-01", "2026-11-22 10:00"} {
		if at, err := vaglio.ParseInstant(bad); err == nil {
			t.Errorf("%q was read as %v", bad, at)
		}
	}
}

func TestEveryWrongFieldOfARequestIsNamed(t *testing.T) {
	const good = `{"id":"r","type":"refund","entities":{"customer":"c"},"amount":1,"currency":"EUR"}`
	check := func(old, new string, pointers ...string) {
		t.Helper()
		_, err := vaglio.DecodeRequest([]byte(strings.Replace(good, old, new, 1)))
		var invalid vaglio.Invalid
		errors.As(err, &invalid)
		var got []string
		for _, f := range invalid {
			got = append(got, f.Pointer)
		}
		if strings.Join(got, " ") != strings.Join(pointers, " ") {
			t.Errorf("%s instead of %s: %v, want %v", new, old, err, pointers)
		}
	}
	check("", "")
	check(`"id":"r"`, `"id":""`, "/id")
	check(`"refund"`, `"gift"`, "/type")
	check(`"customer":"c"`, `"device":"d"`, "/entities/customer")
	check(`"customer":"c"`, `"customer":7`, "/entities/customer")
	check(`"customer":"c"`, `"customer":"c","customer":"d"`, "/entities/customer")
	check(`"amount":1`, `"amount":0`, "/amount")
	check(`"amount":1`, `"amount":-1`, "/amount")
	check(`"amount":1`, `"amount":1.5`, "/amount")
	check(`"amount":1`, `"amount":99999999999999`, "/amount")
	check(`"EUR"`, `"EURO"`, "/currency")
	check(`"EUR"`, `"eur"`, "/currency")
	check(`"EUR"`, `"EUR","colour":"red","id2":1`, "/colour", "/id2")
	check(`"EUR"`, `"EUR","payment":{"rail":"pigeon","captured_amount":-1}`, "/payment/rail", "/payment/captured_amount")
	check(`"EUR"`, `"EUR","attributes":{"rail":"card"}`, "/attributes/rail")
	check(`"EUR"`, `"EUR","requested_at":"2026-11-22"`, "/requested_at")
	check(`"amount":1,"currency":"EUR"`, `"amount":"1","currency":7`, "/amount", "/currency")
	check(good, good+"{}", "")
	check(good, "[]", "")
	check(good, "", "")
	check(`"c"`, `"`+strings.Repeat("x", 257)+`"`, "/entities/customer")
	check(`"c"`, `"a\u0000b"`, "/entities/customer")
}

func TestSpellingDoesNotChangeARequestsDigest(t *testing.T) {
	decode := func(text string) vaglio.Request {
		t.Helper()
		r, err := vaglio.DecodeRequest([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := decode(`{"id":"r","type":"refund","entities":{"customer":"c","device":"d"},"amount":1,"currency":"EUR"}`)
	b := decode(` { "currency":"EUR", "amount":1, "entities":{"device":"\u0064","customer":"c"},"type":"refund","id":"r"}`)
	if a.Digest() != b.Digest() {
		t.Error("the same content in another spelling has another digest")
	}
	b.Amount = 2
	if a.Digest() == b.Digest() {
		t.Error("another amount has the same digest")
	}
}

func genFields(t *rapid.T, label string) vaglio.Fields {
	var fs vaglio.Fields
	for name, value := range rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_]{0,8}`), rapid.StringMatching(`[a-zà-ü"\\/<> ]{1,12}`), 1, 5).Draw(t, label) {
		fs = fs.With(name, value)
	}
	return fs
}

func TestAnEventSurvivesItsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := vaglio.Event{ID: rapid.StringMatching(`[ -~]{1,20}`).Draw(t, "id"), Kind: "payment", Entities: genFields(t, "entities"),
			OccurredAt: vaglio.Instant(rapid.Int64Range(1e12, 2e12).Draw(t, "at")), Attributes: genFields(t, "attributes"),
			ObservedAt: vaglio.Instant(rapid.Int64Range(1e12, 2e12).Draw(t, "seen")), Amount: rapid.Int64Range(0, 1e9).Draw(t, "amount"), Currency: "JPY"}
		text, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := vaglio.DecodeEvent(text)
		if err != nil || back.Digest() != e.Digest() || back.ObservedAt != e.ObservedAt || back.Amount != e.Amount {
			t.Fatalf("%s came back as %+v, %v", text, back, err)
		}
	})
}

func TestARequestSurvivesItsEvent(t *testing.T) {
	r := vaglio.Request{ID: "r", Type: "refund", Entities: vaglio.FieldsOf("customer", "c", "payment", "p"), Amount: 5, Currency: "EUR", Reason: "other",
		RequestedBy: "customer", Authentication: "strong", Payment: &vaglio.PaymentState{Rail: "card", State: "settled"}, Attributes: vaglio.FieldsOf("channel", "app")}
	e := r.Event(1e12)
	if e.KnownAt() != 1e12+1 || e.Attributes.Get("rail") != "card" || e.Attributes.Get("channel") != "app" {
		t.Errorf("the event is %+v", e)
	}
	back := vaglio.RequestOf(&e)
	if back.RequestedAt = 0; back.Digest() != r.Digest() {
		t.Errorf("came back as %+v", back)
	}
}

func TestAPayoutInstrumentIsARoleOfTheInstrument(t *testing.T) {
	e := vaglio.Event{Entities: vaglio.FieldsOf("customer", "c", "instrument", "card", "payout_instrument", "iban")}
	if got := e.Timelines(); len(got) != 3 || got[1] != (vaglio.Entity{Kind: "instrument", ID: "card"}) || got[2] != (vaglio.Entity{Kind: "instrument", ID: "iban"}) {
		t.Errorf("timelines %v", got)
	}
	e.Entities = e.Entities.With("payout_instrument", "card")
	if got := e.Timelines(); len(got) != 2 {
		t.Errorf("the same instrument in two roles has timelines %v", got)
	}
}

func TestAnEventEntersTheTimelinesThatItLists(t *testing.T) {
	values := []string{"", "a", "b"}
	for _, instrument := range values {
		for _, payout := range values {
			e := vaglio.Event{Entities: vaglio.FieldsOf("customer", "a", "instrument", instrument, "payout_instrument", payout)}
			for _, kind := range []string{"customer", "device", "instrument", "payout_instrument"} {
				for _, id := range values {
					entity := vaglio.Entity{Kind: kind, ID: id}
					if want := slices.Contains(e.Timelines(), entity); e.Enters(entity) != want {
						t.Errorf("%v enters %v: %t, want %t", e.Entities, entity, !want, want)
					}
				}
			}
		}
	}
}
