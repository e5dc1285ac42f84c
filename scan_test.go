package vaglio_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"vaglio"
)

// An escape in a member's name sends a line to the general decoder, and means the same.
func TestTheQuickWayToReadEventsEqualsTheStrictOne(t *testing.T) {
	check := func(t interface{ Errorf(string, ...any) }, line string) {
		quick, quickErr := vaglio.DecodeEvent([]byte(line))
		strict, strictErr := vaglio.DecodeEvent([]byte(strings.Replace(line, `"id"`, `"\u0069d"`, 1)))
		if message := func(err error) string { return fmt.Sprint(err) }; quickErr == nil || strictErr == nil {
			if message(quickErr) != message(strictErr) || !reflect.DeepEqual(quick, strict) {
				t.Errorf("%s\n quick %+v %v\nstrict %+v %v", line, quick, quickErr, strict, strictErr)
			}
		}
	}
	const line = `{"id":"e","kind":"payment","occurred_at":"2024-02-29T23:59:59.9Z","entities":{"payment":"p","customer":"c"},` +
		`"amount":-12,"currency":"EUR","attributes":{}}`
	replaced := func(from, to string) { check(t, strings.Replace(line, from, to, 1)) }
	replaced("", "")
	for _, amount := range []string{"0", "00", "-0", "01", "1.0", "1e2", "12 ", "+1", "-", "123456789012345678", "9223372036854775807", "9223372036854775808", "null", `"1"`} {
		replaced("-12", amount)
	}
	for _, moment := range []string{"2023-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2024-04-31T00:00:00Z", "2024-12-31T23:59:60Z",
		"2024-01-01T24:00:00Z", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.1234567899Z", "2024-01-01T00:00:00.0009Z", "2024-01-01T00:00:00,5Z", "2024-01-01",
		"2024-01-01T00:00:00+01:00", "2024-1-01T00:00:00Z", "1970-12-31T23:59:59.999Z", "1971-01-01T00:00:00Z", "2199-12-31T23:59:59.999Z", "2200-01-01T00:00:00Z", ""} {
		replaced("2024-02-29T23:59:59.9Z", moment)
	}
	replaced(`"attributes":{}`, `"attributes":{"a":"1","a":"2"}`)
	replaced(`"attributes":{}`, `"attributes":{"a":1}`)
	replaced(`"attributes":{}`, `"attributes":null`)
	replaced(`"attributes":{}`, `"attributes":{"ä":"é"}`)
	replaced(`"attributes":{}`, `"attributes":{"a":""}`)
	replaced(`"attributes":{}`, `"attributes":{"a":"`+"\x7f"+`"}`)
	replaced(`"attributes":{}`, `"attributes":{"a":"`+"\u0085"+`"}`)
	replaced(`,"attributes":{}`, `,`)
	replaced(`,"attributes":{}`, `,"kind":"payment"`)
	replaced(`,"attributes":{}`, `,"Kind":"payment"`)
	check(t, line+" \n")
	check(t, line+"{}")

	rapid.Check(t, func(t *rapid.T) { check(t, mutated(t, line)) })
	rapid.Check(t, func(t *rapid.T) {
		at := vaglio.Instant(rapid.Int64Range(31_536_000_000, 7_258_118_399_999).Draw(t, "at"))
		e := vaglio.Event{ID: "e", Kind: "login", OccurredAt: at, Entities: vaglio.FieldsOf("customer", "c")}
		text, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if decoded, err := vaglio.DecodeEvent(text); err != nil || !reflect.DeepEqual(decoded.OccurredAt, at) {
			t.Errorf("%s: got %v %v", text, decoded.OccurredAt, err)
		}
	})
}

func mutated(t *rapid.T, line string) string {
	b := []byte(line)
	for range rapid.IntRange(0, 3).Draw(t, "mutations") {
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			b[at] = rapid.SampledFrom([]byte("\"{}[],:0129.-eE \\\n\tTZ\x80\x01é")).Draw(t, "byte")
		case 1:
			b = append(b[:at], b[at+1:]...)
		default:
			b = append(b[:at], append([]byte{b[at]}, b[at:]...)...)
		}
	}
	return string(b)
}

func TestTheQuickWayToReadRequestsEqualsTheStrictOne(t *testing.T) {
	check := func(t interface{ Errorf(string, ...any) }, text string) {
		quick, quickErr := vaglio.DecodeRequest([]byte(text))
		strict, strictErr := vaglio.DecodeRequest([]byte(strings.Replace(text, `"id"`, `"\u0069d"`, 1)))
		if quickErr == nil || strictErr == nil {
			if fmt.Sprint(quickErr) != fmt.Sprint(strictErr) || !reflect.DeepEqual(quick, strict) {
				t.Errorf("%s\n quick %+v %v\nstrict %+v %v", text, quick, quickErr, strict, strictErr)
			}
		}
	}
	const text = `{"id":"r","type":"refund","entities":{"payment":"p","customer":"c"},"amount":12,"currency":"EUR","partial":true,` +
		`"reason":"other","requested_at":"2024-02-29T23:59:59.9Z","requested_by":"customer","authentication":"none",` +
		`"payment":{"rail":"card","state":"settled","captured_amount":20,"reversible_until":"2025-02-28T00:00:00Z"},"attributes":{"a":"1"},"language":"it"}`
	check(t, text)
	replaced := func(from, to string) { check(t, strings.Replace(text, from, to, 1)) }
	for _, value := range []string{"false", "truefalse", "tru", "null", " true ", "1", `"true"`, "True"} {
		replaced(`true`, value)
	}
	for _, value := range []string{`{}`, `null`, `{"rail":"card","rail":"card"}`, `{"captured_amount":0}`, `{"captured_amount":null}`, `{"a":1}`, `{"state":""}`, `[]`} {
		replaced(`{"rail":"card","state":"settled","captured_amount":20,"reversible_until":"2025-02-28T00:00:00Z"}`, value)
	}
	for _, member := range []string{`,"id":"r"`, `,"Type":"refund"`, `,"amount":12`, `,"entities":{}`, ``, `,`} {
		replaced(`,"language":"it"`, member)
	}
	for _, attributes := range []string{`{}`, `null`, `{"a":"1","a":"2"}`, `{"b":"1","a":"\u00e9"}`, `{"type":"refund"}`} {
		replaced(`{"a":"1"}`, attributes)
	}
	replaced(`"currency"`, strings.Repeat(" ", 5000)+`"currency"`)
	rapid.Check(t, func(t *rapid.T) { check(t, mutated(t, text)) })
}
