package api_test

import (
	"fmt"
	"strings"
	"testing"

	"vaglio/api"
)

const goodEvent = `{"id":"evt_1","kind":"payment","occurred_at":"2026-11-22T10:00:00Z","entities":{"customer":"c_1"},"amount":1999,"currency":"EUR"}`

func TestWrongEventsAreNamedByLineAndPointer(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(mediaType, body string, status int, kind api.Kind, places string) {
		t.Helper()
		p := problemOf(t, ask(h, "POST", "/v1/events", body, "Content-Type", mediaType))
		if p.Status != status || p.Type != "/problems/"+string(kind) || p.places() != places {
			t.Errorf("%.80s: %d %s %q %+v", body, p.Status, p.Type, p.places(), p)
		}
	}
	bad := strings.Replace(goodEvent, "EUR", "EURO", 1)
	one := "application/json"
	refused(one, "", 400, api.EmptyBody, "")
	refused(one, "[]", 400, api.EmptyBody, "")
	refused(one, "{", 400, api.MalformedJSON, "")
	refused(one, goodEvent+goodEvent, 400, api.MalformedJSON, "")
	refused(one, bad, 422, api.InvalidEvents, "/currency")
	refused(one, `7`, 422, api.InvalidEvents, "")
	refused(one, `{"id":"a","kind":"payment"}`, 422, api.InvalidEvents, "/occurred_at /entities")
	refused(one, "["+goodEvent+","+bad+"]", 422, api.InvalidEvents, "/1/currency")
	refused(one, "["+goodEvent+",7]", 422, api.InvalidEvents, "/1")
	refused(one, "["+goodEvent+",", 400, api.MalformedJSON, "")
	refused(one, "["+goodEvent+"}", 400, api.MalformedJSON, "")
	refused(one, "["+goodEvent+" "+goodEvent+"]", 400, api.MalformedJSON, "")
	refused(one, "["+goodEvent+"]x", 400, api.MalformedJSON, "")
	refused(one, "["+goodEvent+"][]", 400, api.MalformedJSON, "")
	lines := "application/x-ndjson"
	refused(lines, "\n\n", 400, api.EmptyBody, "")
	refused(lines, goodEvent+"\r\n\n"+bad+"\n{\n", 422, api.InvalidEvents, "3:/currency 4:")
	refused(lines, goodEvent+goodEvent, 422, api.InvalidEvents, "1:")
	refused(lines, "["+goodEvent+"]", 422, api.InvalidEvents, "1:")
	refused(lines, strings.Repeat(" ", 16<<20)+"{}", 413, api.BodyTooLarge, "")
	refused(lines, `{"id":"`+strings.Repeat("x", 256<<10)+`"}`, 422, api.InvalidEvents, "1:")
	refused(lines, strings.Repeat(goodEvent+"\n", 20_001), 413, api.BodyTooLarge, "")
}

func TestAHostileArrayIsReadOnlyAsFarAsItsErrorsAreListed(t *testing.T) {
	p := problemOf(t, ask(server(t, api.Options{}), "POST", "/v1/events", "["+strings.Repeat("0,", 8<<20-2)+"0]"))
	if p.Status != 422 || len(p.Errors) != 100 || p.Errors[99].Pointer != "/99" {
		t.Errorf("%d with %d errors", p.Status, len(p.Errors))
	}
}

func TestTheLargestValidEventFits(t *testing.T) {
	escaped := func(n int) string { return strings.Repeat(`\u0061`, n) }
	fields := func() string {
		var b strings.Builder
		for i := range 64 {
			fmt.Fprintf(&b, `,"%s%02d":"%s"`, escaped(62), i, escaped(256))
		}
		return b.String()[1:]
	}
	body := fmt.Sprintf(`{"id":"%s","kind":"payment","occurred_at":"2026-11-22T10:00:00Z","entities":{%s},"attributes":{%s}}`, escaped(128), fields(), fields())
	if p := problemOf(t, ask(server(t, api.Options{}), "POST", "/v1/events", body)); p.Type != "/problems/internal" {
		t.Errorf("did not reach the engine, which is not there: %+v", p) // %d bytes
	}
}
