package api_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"vaglio"
	"vaglio/api"
	"vaglio/ledger"
)

func TestAListIsReadPageByPage(t *testing.T) {
	h := server(t, api.Options{})
	var entries []entry
	requests := make([]string, 7)
	for i := range requests {
		requests[i] = strings.Replace(requestWithID(fmt.Sprintf("page_%d", i)), `"amount":1999`, fmt.Sprintf(`"amount":%d`, i+1), 1)
	}
	decode(t, ask(h, "POST", "/v1/score/batch", "["+strings.Join(requests, ",")+"]").Body.Bytes(), &entries)
	seen := map[string]bool{}
	latest := ledger.Place{DecidedAt: 1 << 62}
	target, pages := "/v1/decisions?limit=3&customer=c_secret&from=2020-01-01T00:00:00Z", 0
	for target != "" {
		w := ask(h, "GET", target, "")
		if w.Code != 200 {
			t.Fatalf("%s: %s", target, w.Body)
		}
		var page struct {
			Decisions []ledger.Listed `json:"decisions"`
			Next      string          `json:"next"`
		}
		decode(t, w.Body.Bytes(), &page)
		for _, d := range page.Decisions {
			if seen[d.RequestID] || d.DecidedAt > latest.DecidedAt || d.DecidedAt == latest.DecidedAt && d.RequestID >= latest.RequestID || d.Verdict != vaglio.Review {
				t.Errorf("%+v after %+v", d, latest)
			}
			seen[d.RequestID], latest = true, ledger.Place{DecidedAt: d.DecidedAt, RequestID: d.RequestID}
		}
		pages++
		target = ""
		if link := regexp.MustCompile(`^<(.*)>; rel="next"$`).FindStringSubmatch(w.Header().Get("Link")); link != nil {
			target = link[1]
		}
		if (target == "") != (page.Next == "") || !strings.Contains(target, page.Next) {
			t.Errorf("next %q, Link %q", page.Next, target)
		}
	}
	if len(seen) != 7 || pages != 3 {
		t.Errorf("%d decisions on %d pages", len(seen), pages)
	}
}

func TestPagesThatAreNone(t *testing.T) {
	h := server(t, api.Options{})
	ask(h, "POST", "/v1/score/batch", "["+requestWithID("a")+","+requestWithID("b")+"]")
	var page struct {
		Next string `json:"next"`
	}
	decode(t, ask(h, "GET", "/v1/decisions?customer=c_secret&limit=1", "").Body.Bytes(), &page)
	refused := func(query, places string) {
		t.Helper()
		p := problemOf(t, ask(h, "GET", "/v1/decisions"+query, ""))
		if p.Status != 400 || p.Type != "/problems/invalid-parameter" || p.places() != places {
			t.Errorf("%s: %+v", query, p)
		}
	}
	refused("", "?customer")
	refused("?customer=", "?customer")
	refused("?customer=c&limit=0", "?limit")
	refused("?customer=c&limit=501", "?limit")
	refused("?customer=c&limit=x", "?limit")
	refused("?customer=c&from=yesterday", "?from")
	refused("?customer=c&cursor=", "?cursor")
	refused("?customer=c&cursor=x!", "?cursor")
	refused("?customer=c&cursor="+page.Next, "?cursor") // of another list
	refused("?customer=c_secret&cursor="+page.Next[:len(page.Next)-2], "?cursor")
	if w := ask(h, "GET", "/v1/decisions?customer=c_secret&limit=5&cursor="+page.Next, ""); w.Code != 200 {
		t.Errorf("with another limit: %s", w.Body)
	}
}
