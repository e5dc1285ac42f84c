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
	if w := ask(server(t, api.Options{}), "POST", "/v1/events", body); w.Code != 200 {
		t.Errorf("%d bytes: %s", len(body), w.Body)
	}
}

func TestEventsAreStoredOnce(t *testing.T) {
	h := server(t, api.Options{})
	post := func(mediaType, body, want string) {
		t.Helper()
		if w := ask(h, "POST", "/v1/events", body, "Content-Type", mediaType); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%.80s: %d %s", body, w.Code, w.Body)
		}
	}
	one := func(id string) string { return strings.Replace(goodEvent, "evt_1", id, 1) }
	post("application/json", one("once_1"), `{"stored":1,"repeated":0}`)
	post("application/json", one("once_1"), `{"stored":0,"repeated":1}`)
	post("application/json", " ["+one("once_1")+", "+one("once_2")+"]\n", `{"stored":1,"repeated":1}`)
	post("application/x-ndjson", one("once_3")+"\n\r\n"+one("once_4"), `{"stored":2,"repeated":0}`)
	post("application/x-ndjson; charset=utf-8", one("once_5")+"\n"+one("once_5")+"\n", `{"stored":1,"repeated":1}`)

	other := strings.Replace(one("once_3"), "1999", "2000", 1)
	p := problemOf(t, ask(h, "POST", "/v1/events", "["+one("once_6")+","+other+"]"))
	if p.Status != 409 || p.Type != "/problems/event-conflict" || p.places() != "/1/id" || !strings.Contains(p.Errors[0].Detail, `"once_3"`) {
		t.Errorf("%+v", p)
	}
	post("application/json", one("once_6"), `{"stored":0,"repeated":1}`)
	metrics := ask(h, "GET", "/metrics", "").Body.String()
	for _, want := range []string{`{result="stored"} 6`, `{result="repeated"} 4`, `{result="conflict"} 1`} {
		if !strings.Contains(metrics, "vaglio_events_received_total"+want+"\n") {
			t.Errorf("%s is not in\n%s", want, metrics)
		}
	}
}

func TestOneWrongEventKeepsTheWholeCallOut(t *testing.T) {
	h := server(t, api.Options{})
	good := strings.Replace(goodEvent, "evt_1", "kept_out_1", 1)
	refused := func(bad, places string) {
		t.Helper()
		p := problemOf(t, ask(h, "POST", "/v1/events", good+"\n"+bad, "Content-Type", "application/x-ndjson"))
		if p.Status != 422 || p.Type != "/problems/invalid-events" || p.places() != places {
			t.Errorf("%+v", p)
		}
	}
	refused("{", "2:")
	refused(strings.Replace(goodEvent, "1999", "-1", 1), "2:/amount")
	p := problemOf(t, ask(h, "POST", "/v1/events", "["+good+","+strings.Replace(goodEvent, "2026", "2126", 1)+"]"))
	if p.Status != 422 || p.Type != "/problems/invalid-events" || !strings.HasSuffix(p.places(), "/occurred_at") {
		t.Errorf("from the future: %+v", p)
	}
	stored, err := events.Events(t.Context(), []string{"kept_out_1"})
	if err != nil || len(stored) != 0 {
		t.Errorf("%v, %v", stored, err)
	}
}
