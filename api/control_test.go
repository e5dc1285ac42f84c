package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vaglio"
	"vaglio/api"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
	"vaglio/training/lightgbm"
)

// The routes by which people change what decides: policy, lists, models, guards; and the replay of what was decided.

// smallModel is a model that finds large amounts suspicious.
var smallModel = sync.OnceValues(func() (models.Contents, error) {
	const rows = 400
	d := lightgbm.Dataset{Names: []string{"amount", "hour"}, Rows: rows}
	for i := range rows {
		d.X = append(d.X, float64(i*100), float64(i%24))
		d.Label = append(d.Label, float64((i*7919%rows+i)/rows))
	}
	result, err := lightgbm.Train(context.Background(), lightgbm.Job{Params: map[string]string{"num_leaves": "4"}, Rounds: 4, Train: d, Golden: d.X[:32]}, nil)
	if err != nil {
		return models.Contents{}, err
	}
	c := models.Contents{Model: result.Model, Catalogue: []byte("name: small\nfeatures:\n  - {name: amount, expr: request.amount}\n  - {name: hour, expr: request.hour}\n"),
		Manifest: models.Manifest{Name: "small", BaseCurrency: "EUR", Thresholds: models.Thresholds{ApproveBelow: 0.9, DenyFrom: 0.99}}}
	for i, raw := range result.GoldenRaw {
		c.Golden = append(c.Golden, models.NewGolden(d.X[2*i:2*i+2], raw, result.GoldenContributions[i]))
	}
	c.Calibration = models.Uncalibrated(result.GoldenRaw)
	return c, nil
})

// registry has the versions refund-1 and refund-2 of the small model, the second one champion.
func registry(t testing.TB) *models.Registry {
	t.Helper()
	contents, err := smallModel()
	if err != nil {
		t.Fatal(err)
	}
	r, err := models.OpenRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{"refund-1", "refund-2"} {
		dir, err := r.Dir(version)
		contents.Manifest.Version = version
		if err == nil {
			err = models.Write(dir, contents)
		}
		if err == nil {
			err = r.Promote(models.Champion, models.Promotion{Version: version, At: vaglio.Instant(1_790_000_000_000 + i)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// prepared is a ledger in which the examples of the description are there: a policy to go back to, one that waits, a guard.
func prepared(t testing.TB) *ledger.Ledger {
	t.Helper()
	l := emptyLedger(t)
	for _, name := range []string{"one", "two", "three"} {
		p, err := policy.Parse([]byte("name: " + name))
		if err == nil {
			_, err = l.ProposePolicy(t.Context(), ledger.PolicyText{Version: p.Version(), Name: name, Source: p.Source()}, "somebody", "test", name == "three")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.TripGuard(t.Context(), ledger.GuardTrip{ID: "guard_1", Guard: "denials", Detail: "60 of 100 in the last hour"}); err != nil {
		t.Fatal(err)
	}
	return l
}

// deciding is the API before an engine with the small model.
func deciding(t *testing.T, o api.Options) http.Handler {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	o.Models, o.Logger, o.OpenAccess = registry(t), quiet, true
	o.Engine = scoring.New(scoring.Options{History: events, Ledger: o.Ledger, Logger: quiet, Models: o.Models.Open, Budget: time.Minute})
	b, err := o.Models.Open("refund-2")
	if err == nil {
		err = o.Engine.UseModel(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conform(t, api.New(o).Handler())
}

// answer sends a request that is to be answered 200, into a T.
func answer[T any](t *testing.T, h http.Handler, method, target, body string, headers ...string) (out T) {
	t.Helper()
	w := ask(h, method, target, body, append([]string{"Content-Type", "application/json"}, headers...)...)
	if w.Code != 200 {
		t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	decode(t, w.Body.Bytes(), &out)
	return out
}

// refusal sends a request that is to be refused: kind, places and detail in one text.
func refusal(t *testing.T, h http.Handler, method, target, body string, headers ...string) string {
	t.Helper()
	p := problemOf(t, ask(h, method, target, body, append([]string{"Content-Type", "application/json"}, headers...)...))
	text := strings.TrimPrefix(p.Type, "/problems/") + " " + p.places()
	for _, e := range p.Errors {
		text += ", " + e.Detail
	}
	return text
}

func TestRoutesThatChangeWhatDecidesWantTheirScope(t *testing.T) {
	l := prepared(t)
	h := server(t, api.Options{Ledger: l, Models: registry(t)})
	secrets := map[string]string{}
	for _, scope := range ledger.Scopes {
		secrets[scope] = secretOf(t, l, scope)
	}
	for target, scopes := range map[string]string{"GET /v1/policy": "admin", "POST /v1/policy": "admin", "POST /v1/policy/publications/9/approve": "admin",
		"POST /v1/policy/rollback": "admin", "GET /v1/policy/x": "admin", "GET /v1/lists": "review admin", "POST /v1/lists": "admin",
		"GET /v1/lists/x/entries": "review admin", "POST /v1/lists/x/entries": "review admin", "DELETE /v1/lists/x/entries": "admin",
		"GET /v1/models": "admin", "POST /v1/models/x/promote": "admin", "POST /v1/models/rollback": "admin", "GET /v1/guards": "review admin",
		"POST /v1/guards/x/clear": "admin", "POST /v1/decisions/x/replay": "review admin"} {
		method, path, _ := strings.Cut(target, " ")
		for scope, secret := range secrets {
			refused := ask(h, method, path, "", "Authorization", "Bearer "+secret).Code == http.StatusForbidden
			if refused == strings.Contains(scopes, scope) {
				t.Errorf("%s with %s: refused is %t", target, scope, refused)
			}
		}
		if code := ask(h, method, path, "").Code; code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", target, code)
		}
	}
}

type publishedPolicy struct {
	Publication ledger.Publication
	InForce     bool `json:"in_force"`
	Warnings    []string
}

type shownPolicy struct {
	Version, Name, Published, Source string
	Rules                            []struct{ Name, Then, State string }
	Warnings                         []string
	Publications                     []ledger.Publication
}

func TestAPolicyIsPublishedAndCountsAtOnce(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l})
	inUse := func() shownPolicy { return answer[shownPolicy](t, h, "GET", "/v1/policy", "") }
	if before := inUse(); before.Name != "default" || len(before.Rules) != 12 || before.Published != "" || len(before.Publications) != 0 {
		t.Errorf("%+v", before)
	}
	const strict = "name: strict\nthresholds: {approve_below: 0, deny_from: 0}\nrules:\n  - {name: all, when: amount > 1, then: deny, reason: MADE_UP}\n"
	first := answer[publishedPolicy](t, h, "POST", "/v1/policy?reason=hard+times", strict, "Content-Type", "application/yaml")
	if !first.InForce || first.Publication.Turn != 1 || first.Publication.Author != "open" || first.Publication.Reason != "hard times" ||
		len(first.Warnings) != 1 || !strings.Contains(first.Warnings[0], "denies every request") {
		t.Errorf("%+v", first)
	}
	after := inUse()
	if after.Version != first.Publication.Version || after.Published != after.Version || after.Source != strict || after.Rules[0].Then != "deny" {
		t.Errorf("%+v", after)
	}
	if d := answer[vaglio.Decision](t, h, "POST", "/v1/score?dry_run=true", goodRequest); d.PolicyVersion != after.Version || d.Verdict != vaglio.Deny {
		t.Errorf("%+v", d)
	}
	second := answer[publishedPolicy](t, h, "POST", "/v1/policy", `{"source":"name: mild","reason":"better"}`)
	back := answer[publishedPolicy](t, h, "POST", "/v1/policy/rollback", `{"reason":"too mild"}`)
	if now := inUse(); back.Publication.Version != after.Version || now.Version != after.Version || len(now.Publications) != 3 {
		t.Errorf("after the rollback: %+v", now)
	}
	old := answer[shownPolicy](t, h, "GET", "/v1/policy/"+second.Publication.Version, "")
	if old.Source != "name: mild" || len(old.Publications) != 1 {
		t.Errorf("%+v", old)
	}
	entries, err := l.AuditLog(t.Context(), 0, 10)
	if err != nil || len(entries) != 3 || entries[0].Action != "policy.published" || entries[0].Actor != "open" || entries[2].Action != "policy.rolled_back" {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestWrongPoliciesAreRefusedByLine(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l})
	refused := func(source, want string) {
		t.Helper()
		for _, got := range []string{refusal(t, h, "POST", "/v1/policy?reason=x", source, "Content-Type", "application/yaml"),
			strings.ReplaceAll(refusal(t, h, "POST", "/v1/policy", string(jsonOf(t, map[string]string{"source": source, "reason": "x"}))), "/source", "")} {
			if !strings.HasPrefix(got, want) {
				t.Errorf("%q: %s", source, got)
			}
		}
	}
	refused("name: x\ncolour: red\nrules:\n  - {name: a, when: amount >, then: deny}\n", "invalid-policy 2: 4:, ")
	refused("rules:\n  - {name: a, when: customer_age > 3, then: deny}\n", `invalid-policy 2:, rule "a": there is no feature "customer_age"`)
	refused("name: x\nname: y\n", "invalid-policy ")
	refused("name: [", "invalid-policy ")
	refused("# nothing", "invalid-policy ")
	check := func(got, want string) {
		t.Helper()
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	check(refusal(t, h, "POST", "/v1/policy", "name: x", "Content-Type", "application/yaml"), "invalid-parameter ?reason")
	check(refusal(t, h, "POST", "/v1/policy?reason=x", `{"source":"name: x","reason":"x"}`), "invalid-parameter ?reason")
	check(refusal(t, h, "POST", "/v1/policy", `{}`), "invalid-request /source /reason")
	check(refusal(t, h, "POST", "/v1/policy", `{"source":"name: x","reason":"a\nb"}`), "invalid-request /reason")
	check(refusal(t, h, "POST", "/v1/policy", `{"source":`), "malformed-json")
	check(refusal(t, h, "POST", "/v1/policy?reason=x", strings.Repeat("#", 4<<20+1), "Content-Type", "application/yaml"), "body-too-large")
	check(refusal(t, h, "POST", "/v1/policy?reason=x", strings.Repeat("#", 1<<20+1), "Content-Type", "application/yaml"), "invalid-policy")
	check(refusal(t, h, "POST", "/v1/policy/rollback", `{"reason":"x"}`), "not-found")
	check(refusal(t, h, "POST", "/v1/policy/rollback", `{}`), "invalid-request /reason")
	check(refusal(t, h, "POST", "/v1/policy/publications/x/approve", ""), "not-found")
	check(refusal(t, h, "GET", "/v1/policy/none", ""), "not-found")
	check(refusal(t, h, "GET", "/v1/policy/a%00b", ""), "not-found")
	if all, err := l.Publications(t.Context()); len(all) > 0 || err != nil {
		t.Errorf("published: %+v, %v", all, err)
	}
}

func TestAPolicyWaitsForASecondKey(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l, PolicyFourEyes: true})
	one, other := "Bearer "+secretOf(t, l, ledger.ScopeAdmin), "Bearer "+secretOf(t, l, ledger.ScopeAdmin)
	waits := answer[publishedPolicy](t, h, "POST", "/v1/policy", `{"source":"name: mine","reason":"mine"}`, "Authorization", one)
	inUse := func() string { return answer[shownPolicy](t, h, "GET", "/v1/policy", "", "Authorization", one).Name }
	if waits.InForce || inUse() != "default" {
		t.Errorf("%+v is in force alone", waits)
	}
	approve := fmt.Sprintf("/v1/policy/publications/%d/approve", waits.Publication.ID)
	if got := refusal(t, h, "POST", approve, "", "Authorization", one); !strings.HasPrefix(got, "four-eyes") {
		t.Errorf("its author: %s", got)
	}
	if done := answer[publishedPolicy](t, h, "POST", approve, "", "Authorization", other); !done.InForce || inUse() != "mine" {
		t.Errorf("%+v", done)
	}
	if got := refusal(t, h, "POST", approve, "", "Authorization", other); !strings.HasPrefix(got, "not-found") {
		t.Errorf("twice: %s", got)
	}
}

func TestWhatIsOnAListDecides(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l})
	verdict := func(id, device string) vaglio.Verdict {
		t.Helper()
		body := strings.Replace(requestWithID(id), `"customer"`, `"device":"`+device+`","customer"`, 1)
		return answer[vaglio.Decision](t, h, "POST", "/v1/score", body).Verdict
	}
	const target = "/v1/lists/confirmed_fraud/entries"
	answer[ledger.List](t, h, "POST", "/v1/lists", `{"name":"confirmed_fraud","hashed":true}`)
	answer[ledger.List](t, h, "POST", "/v1/lists", `{"name":"confirmed_fraud","hashed":true}`)
	if got := verdict("list_1", "d_bad"); got == vaglio.Deny {
		t.Errorf("before: %s", got)
	}
	answer[map[string]int](t, h, "POST", target, `[{"value":"d_bad","reason":"ring"},{"value":"d_worse"}]`)
	if got := verdict("list_2", "d_bad"); got != vaglio.Deny {
		t.Errorf("on the list: %s", got)
	}
	if removed := answer[map[string]int](t, h, "DELETE", target, `["d_bad","d_never"]`); removed["removed"] != 1 {
		t.Errorf("%v", removed)
	}
	if got := verdict("list_3", "d_bad"); got == vaglio.Deny {
		t.Errorf("off the list: %s", got)
	}
	if w := ask(h, "DELETE", target+"?value=d_worse", ""); w.Code != 200 || w.Body.String() != `{"removed":1}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	entries, err := l.AuditLog(t.Context(), 0, 10)
	said := fmt.Sprint(entries)
	if err != nil || len(entries) != 4 || strings.Contains(said, "d_bad") || strings.Contains(said, "ring") {
		t.Errorf("%s, %v", said, err)
	}
}

type entriesPage struct {
	Entries []ledger.ListEntry
	Next    string
}

func TestAListIsReadPageByPageOrByValue(t *testing.T) {
	h := server(t, api.Options{})
	const target = "/v1/lists/vip/entries"
	answer[ledger.List](t, h, "POST", "/v1/lists", `{"name":"vip"}`)
	answer[ledger.List](t, h, "POST", "/v1/lists", `{"name":"others"}`)
	for i := range 5 {
		answer[map[string]int](t, h, "POST", target, fmt.Sprintf(`[{"value":"c_%d","expires_at":"2100-01-01T00:00:00Z"}]`, i))
	}
	var seen []string
	var next string
	for cursor := ""; len(seen) == 0 || next != ""; cursor = "&cursor=" + next {
		page := answer[entriesPage](t, h, "GET", target+"?limit=2"+cursor, "")
		for _, e := range page.Entries {
			seen = append(seen, e.Value)
		}
		if next = page.Next; next != "" {
			if got := refusal(t, h, "GET", "/v1/lists/others/entries?cursor="+next, ""); !strings.HasPrefix(got, "invalid-parameter ?cursor") {
				t.Errorf("the cursor of another list: %s", got)
			}
		}
	}
	if strings.Join(seen, " ") != "c_0 c_1 c_2 c_3 c_4" {
		t.Errorf("%v", seen)
	}
	if one := answer[entriesPage](t, h, "GET", target+"?value=c_3", ""); len(one.Entries) != 1 || one.Entries[0].Author != "open" {
		t.Errorf("%+v", one)
	}
	if lists := answer[struct{ Lists []ledger.List }](t, h, "GET", "/v1/lists", ""); len(lists.Lists) != 2 || lists.Lists[1].Revision != 5 {
		t.Errorf("%+v", lists)
	}
	check := func(got, want string) {
		t.Helper()
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	check(refusal(t, h, "POST", "/v1/lists", `{"name":"VIP"}`), "invalid-request /name")
	check(refusal(t, h, "POST", "/v1/lists", `{"name":"vip","hashed":true}`), "invalid-request /hashed")
	check(refusal(t, h, "POST", target, `[]`), "invalid-request")
	check(refusal(t, h, "POST", target, `[{"value":"a"},{"value":""},{"value":"b\u0000"}]`), "invalid-request /1/value /2/value")
	check(refusal(t, h, "POST", target, `[{"value":"a","expires_at":"2001-01-01T00:00:00Z"}]`), "invalid-request /0/expires_at")
	check(refusal(t, h, "POST", target, `[{"value":"a","color":1}]`), "invalid-request /0/color")
	check(refusal(t, h, "POST", target, "["+strings.Repeat(`{"value":"a"},`, 5000)+`{"value":"a"}]`), "invalid-request")
	check(refusal(t, h, "POST", "/v1/lists/none/entries", `[{"value":"a"}]`), "not-found")
	check(refusal(t, h, "GET", "/v1/lists/none/entries", ""), "not-found")
	check(refusal(t, h, "GET", "/v1/lists/a%00b/entries", ""), "not-found")
	check(refusal(t, h, "GET", target+"?value=", ""), "invalid-parameter ?value")
	check(refusal(t, h, "DELETE", target, ""), "invalid-parameter ?value")
	check(refusal(t, h, "DELETE", target+"?value=a", `["a"]`), "invalid-parameter ?value")
	check(refusal(t, h, "DELETE", target, `["a",""]`), "invalid-request /1")
	check(refusal(t, h, "DELETE", target, `["a"]`, "Content-Type", "text/plain"), "unsupported-media-type")
}

func TestModelsArePromotedAndRolledBack(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l})
	type line struct {
		Version, Refused string
		Stages           []string
	}
	stages := func() string {
		out := ""
		for _, m := range answer[struct{ Models []line }](t, h, "GET", "/v1/models", "").Models {
			out += fmt.Sprint(m.Version, m.Stages, " ")
		}
		return out
	}
	check := func(got, want string) {
		t.Helper()
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	check(stages(), "refund-1[] refund-2[champion] ")
	answer[map[string]string](t, h, "POST", "/v1/models/refund-1/promote", `{"stage":"challenger","share":0.1,"reason":"looks better"}`)
	check(stages(), "refund-1[challenger] refund-2[champion] ")
	answer[map[string]string](t, h, "POST", "/v1/models/rollback", `{"stage":"champion"}`)
	check(stages(), "refund-1[champion challenger] refund-2[] ")
	check(refusal(t, h, "POST", "/v1/models/rollback", `{"stage":"champion"}`), "not-found")
	check(refusal(t, h, "POST", "/v1/models/rollback", `{"stage":"king"}`), "invalid-request /stage")
	check(refusal(t, h, "POST", "/v1/models/refund-9/promote", `{"stage":"champion"}`), "not-found")
	check(refusal(t, h, "POST", "/v1/models/..%2Fmodels/promote", `{"stage":"champion"}`), "not-found")
	check(refusal(t, h, "POST", "/v1/models/refund-1/promote", `{"stage":"shadow","share":0.5,"reason":"\n"}`), "invalid-request /share /reason")
	answer[publishedPolicy](t, h, "POST", "/v1/policy", `{"source":"rules: [{name: large, when: amount > 5, then: review, reason: X}]","reason":"x"}`)
	answer[map[string]string](t, h, "POST", "/v1/models/refund-2/promote", `{"stage":"shadow"}`)
	check(refusal(t, h, "POST", "/v1/models/refund-2/promote", `{"stage":"champion"}`), "model-refused")
	answer[map[string]string](t, h, "POST", "/v1/models/refund-2/promote", `{"stage":"champion","reason":"the other one is broken"}`)
	check(stages(), "refund-1[challenger] refund-2[champion shadow] ")
	entries, err := l.AuditLog(t.Context(), 0, 10)
	if err != nil || len(entries) != 5 || entries[0].Action != "model.promoted" || string(entries[0].Detail) != `{"stage":"challenger","share":0.1,"reason":"looks better"}` {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestAModelThatThePolicyCannotUseIsNotPromoted(t *testing.T) {
	r := registry(t)
	contents, err := smallModel()
	if err != nil {
		t.Fatal(err)
	}
	contents.Manifest.Version, contents.Manifest.BaseCurrency = "pounds", "GBP"
	dir, err := r.Dir("pounds")
	if err == nil {
		err = models.Write(dir, contents)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := server(t, api.Options{Models: r})
	w := ask(h, "POST", "/v1/models/pounds/promote", `{"stage":"champion"}`)
	if p := problemOf(t, w); p.Type != "/problems/model-refused" || !strings.Contains(p.Detail, "GBP") {
		t.Errorf("%+v", p)
	}
	answer[publishedPolicy](t, h, "POST", "/v1/policy", `{"source":"rules: [{name: many, when: customer_requests_1h > 5, then: review, reason: X}]","reason":"x"}`)
	p := problemOf(t, ask(h, "POST", "/v1/models/refund-1/promote", `{"stage":"champion"}`))
	if p.Type != "/problems/model-refused" || !strings.Contains(p.Detail, "customer_requests_1h") || strings.Contains(w.Body.String(), filepath.Dir(dir)) {
		t.Errorf("%+v", p)
	}
}

func TestAGuardIsShownAndCleared(t *testing.T) {
	l := prepared(t)
	h := server(t, api.Options{Ledger: l, OpenAccess: true})
	minute := int64(vaglio.InstantOf(time.Now()) / vaglio.Minute)
	if err := l.AddGuardCounts(t.Context(), []ledger.GuardCount{{Minute: minute, Decisions: 3, Approvals: 1, Approved: 500, Denials: 1},
		{Minute: minute - 1, Decisions: 2}, {Minute: minute - 90, Decisions: 50}, {Minute: minute, Segment: "vip", Decisions: 1}}); err != nil {
		t.Fatal(err)
	}
	type guards struct {
		Trips []struct {
			ledger.GuardTrip
			Holds bool
		}
		LastHour []struct {
			Segment              string
			Decisions, Approvals int64
		} `json:"last_hour"`
	}
	g := answer[guards](t, h, "GET", "/v1/guards", "")
	if len(g.Trips) != 1 || !g.Trips[0].Holds || g.Trips[0].Guard != "denials" || len(g.LastHour) != 2 || g.LastHour[0].Decisions != 5 || g.LastHour[1].Segment != "vip" {
		t.Errorf("%+v", g)
	}
	if g = answer[guards](t, h, "POST", "/v1/guards/guard_1/clear", ""); g.Trips[0].Holds || g.Trips[0].ClearedBy != "open" {
		t.Errorf("%+v", g)
	}
	for _, id := range []string{"guard_1", "guard_2", "a%00b"} {
		if got := refusal(t, h, "POST", "/v1/guards/"+id+"/clear", ""); !strings.HasPrefix(got, "not-found") {
			t.Errorf("%s: %s", id, got)
		}
	}
}

func TestADecisionIsTakenAgain(t *testing.T) {
	l := emptyLedger(t)
	h := deciding(t, api.Options{Ledger: l})
	answer[vaglio.Decision](t, h, "POST", "/v1/score", requestWithID("again_1"))
	again := answer[scoring.Replayed](t, h, "POST", "/v1/decisions/again_1/replay", "")
	if again.RequestID != "again_1" || !again.FromInputs.Same || !again.FromHistory.Same {
		t.Errorf("%+v", again)
	}
	if got := refusal(t, h, "POST", "/v1/decisions/never/replay", ""); !strings.HasPrefix(got, "not-found") {
		t.Error(got)
	}
}
