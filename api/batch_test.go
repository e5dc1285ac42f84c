package api_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
	"vaglio/api"
)

// entry is one of a batch's answer.
type entry struct {
	Status   int            `json:"status"`
	Replayed bool           `json:"replayed"`
	Decision jsontext.Value `json:"decision"`
	Problem  *problem       `json:"problem"`
}

func decode(t testing.TB, body []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(body, v, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func requestWithID(id string) string { return strings.Replace(goodRequest, "rr_1", id, 1) }

func TestABadRequestOfABatchFailsAlone(t *testing.T) {
	h := server(t, api.Options{})
	alone := ask(h, "POST", "/v1/score", requestWithID("rr_0"))
	w := ask(h, "POST", "/v1/score/batch", "["+strings.Join([]string{requestWithID("rr_1"), strings.Replace(requestWithID("rr_2"), "EUR", "EURO", 1),
		requestWithID("rr_0"), `7`, `{"id":"a","id":"b"}`, strings.Replace(requestWithID("rr_0"), "1999", "5", 1), "\"\xff\"", requestWithID("rr_3")}, ", ")+"]")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var entries []entry
	decode(t, w.Body.Bytes(), &entries)
	var got []string
	for _, e := range entries {
		one := fmt.Sprint(e.Status)
		if e.Problem != nil {
			one += " " + e.Problem.Type + " " + e.Problem.places()
		}
		got = append(got, one)
	}
	want := "200|422 /problems/invalid-request /currency|200|422 /problems/invalid-request |400 /problems/malformed-json /id|" +
		"409 /problems/request-conflict /amount|400 /problems/malformed-json |200"
	if all := strings.Join(got, "|"); all != want {
		t.Errorf("%s", all)
	}
	if !entries[2].Replayed || !bytes.Equal(entries[2].Decision, alone.Body.Bytes()) || entries[0].Replayed {
		t.Errorf("decided before, alone: %s\nand in the batch: %s", alone.Body, entries[2].Decision)
	}
	if again := ask(h, "POST", "/v1/score", requestWithID("rr_3")); !bytes.Equal(again.Body.Bytes(), entries[7].Decision) {
		t.Errorf("%s, in the batch %s", again.Body, entries[7].Decision)
	}
}

func TestARequestTwiceInABatchIsDecidedOnce(t *testing.T) {
	h := server(t, api.Options{})
	requests := make([]string, 200)
	for i := range requests {
		requests[i] = requestWithID(fmt.Sprintf("twice_%d", i%100))
	}
	var entries []entry
	decode(t, ask(h, "POST", "/v1/score/batch", "["+strings.Join(requests, ",")+"]").Body.Bytes(), &entries)
	if len(entries) != 200 {
		t.Fatalf("%d entries", len(entries))
	}
	for i := range 100 {
		var d vaglio.Decision
		decode(t, entries[i].Decision, &d)
		if d.RequestID != fmt.Sprintf("twice_%d", i) || !bytes.Equal(entries[i].Decision, entries[i+100].Decision) || entries[i].Replayed == entries[i+100].Replayed {
			t.Errorf("%d: %s and %s", i, entries[i].Decision, entries[i+100].Decision)
		}
	}
}

func TestBatchesThatAreNone(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(body string, status int, kind api.Kind) {
		t.Helper()
		if p := problemOf(t, ask(h, "POST", "/v1/score/batch", body)); p.Status != status || p.Type != "/problems/"+string(kind) {
			t.Errorf("%.80s: %+v", body, p)
		}
	}
	refused("", 400, api.EmptyBody)
	refused("[]", 400, api.EmptyBody)
	refused("[1,", 400, api.MalformedJSON)
	refused("[1 2]", 400, api.MalformedJSON)
	refused("[1]x", 400, api.MalformedJSON)
	refused("[1][1]", 400, api.MalformedJSON)
	refused("{", 400, api.MalformedJSON)
	refused(goodRequest, 422, api.InvalidRequest)
	refused("["+strings.Repeat("0,", 1000)+"0]", 413, api.BodyTooLarge)
	refused("["+strings.Repeat(" ", 8<<20)+"0]", 413, api.BodyTooLarge)
	refused(strings.Repeat("[", 20_000), 400, api.MalformedJSON)
}
