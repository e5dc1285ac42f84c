package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio/api"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/scoring"
	"vaglio/training/lightgbm"
)

const goodRequest = `{"id":"rr_1","type":"refund","entities":{"customer":"c_secret","payment":"p_1"},"amount":1999,"currency":"EUR"}`

// server is the API, held against its description, before a real engine without a model, whose decisions are degraded reviews. Without a ledger in the
// options it gets an empty one and is open.
func server(t testing.TB, o api.Options) http.Handler {
	t.Helper()
	return conform(t, unchecked(t, o))
}

func unchecked(t testing.TB, o api.Options) http.Handler {
	t.Helper()
	if o.Ledger == nil {
		o.Ledger = emptyLedger(t)
		o.OpenAccess = true
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Engine = scoring.New(scoring.Options{History: events, Ledger: o.Ledger, Budget: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	return api.New(o).Handler()
}

var (
	clickHouseDSN string
	events        *history.Store // of all tests: their events have ids of their own
)

func TestMain(m *testing.M) {
	embedded.Main()
	lightgbm.Main()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "api")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		clickHouse, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		if err != nil {
			panic(err)
		}
		defer clickHouse.Close()
		clickHouseDSN = clickHouse.DSN()
		if events, err = history.Open(context.Background(), clickHouseDSN, history.Options{}); err != nil {
			panic(err)
		}
		defer events.Close()
		return m.Run()
	}())
}

func emptyLedger(t testing.TB) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ask sends one request; headers alternate names and values.
func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	if method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// problem is a decoded problem document.
type problem struct {
	Type, Title, Detail, Instance string
	Status                        int
	Errors                        []struct {
		Line               int
		Pointer, Parameter string
		Detail             string
	}
}

// places lists where the errors are, as line:pointer or ?parameter.
func (p problem) places() string {
	var out []string
	for _, e := range p.Errors {
		switch {
		case e.Parameter != "":
			out = append(out, "?"+e.Parameter)
		case e.Line > 0:
			out = append(out, fmt.Sprintf("%d:%s", e.Line, e.Pointer))
		default:
			out = append(out, e.Pointer)
		}
	}
	return strings.Join(out, " ")
}

func problemOf(t testing.TB, w *httptest.ResponseRecorder) problem {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("%d with Content-Type %q: %s", w.Code, got, w.Body)
	}
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if p.Status != w.Code || p.Instance != w.Header().Get("X-Request-Id") || p.Title == "" {
		t.Fatalf("status %d, X-Request-Id %q, problem %s", w.Code, w.Header().Get("X-Request-Id"), w.Body)
	}
	return p
}

func TestEveryBadRequestIsItsOwnClearProblem(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(body string, status int, kind api.Kind, places string) {
		t.Helper()
		p := problemOf(t, ask(h, "POST", "/v1/score", body))
		if p.Status != status || p.Type != "/problems/"+string(kind) || p.places() != places {
			t.Errorf("%.80s: %d %s %q %+v", body, p.Status, p.Type, p.places(), p)
		}
	}
	with := func(old, replacement string) string {
		changed := strings.Replace(goodRequest, old, replacement, 1)
		if changed == goodRequest {
			t.Fatalf("%q is not in the good request", old)
		}
		return changed
	}
	refused("", 400, api.EmptyBody, "")
	refused(" \n", 400, api.EmptyBody, "")
	refused("{", 400, api.MalformedJSON, "")
	refused(`{"id":"rr_1",}`, 400, api.MalformedJSON, "")
	refused(goodRequest+goodRequest, 400, api.MalformedJSON, "")
	refused(with(`"rr_1"`, `"rr_1","id":"rr_2"`), 400, api.MalformedJSON, "/id")
	refused(with(`"rr_1"`, "\"\xff\""), 400, api.MalformedJSON, "/id")
	refused(strings.Repeat("[", 20_000), 400, api.MalformedJSON, strings.Repeat("/0", 10_000))
	refused(`[]`, 422, api.InvalidRequest, "")
	refused(`null`, 422, api.InvalidRequest, "/id /type /entities/customer /currency /amount")
	refused(`{}`, 422, api.InvalidRequest, "/id /type /entities/customer /currency /amount")
	refused(with(`"amount"`, `"ammount"`), 422, api.InvalidRequest, "/ammount")
	refused(with(`1999`, `"1999"`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `19.99`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `1e400`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `99999999999999999999`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `-1`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `0`), 422, api.InvalidRequest, "/amount")
	refused(with(`1999`, `10000000000001`), 422, api.InvalidRequest, "/amount")
	refused(with(`EUR`, `EURO`), 422, api.InvalidRequest, "/currency")
	refused(with(`EUR`, `eur`), 422, api.InvalidRequest, "/currency")
	refused(with(`EUR`, `QQQ`), 422, api.InvalidRequest, "/currency")
	refused(with(`"refund"`, `"gift"`), 422, api.InvalidRequest, "/type")
	refused(with(`"customer"`, `"Customer"`), 422, api.InvalidRequest, "/entities/customer /entities")
	refused(with(`"c_secret"`, `17`), 422, api.InvalidRequest, "/entities/customer")
	refused(with(`"EUR"`, `"EUR","requested_at":"3026-01-01T00:00:00Z"`), 422, api.InvalidRequest, "/requested_at")
	refused(with(`"EUR"`, `"EUR","requested_at":1795341600`), 422, api.InvalidRequest, "/requested_at")
	refused(with(`"EUR"`, `"EUR","payment":{"rail":"pigeon","captured_amount":-1}`), 422, api.InvalidRequest, "/payment/rail /payment/captured_amount")
	refused(with(`"EUR"`, `"EUR","attributes":{"reason":"x"}`), 422, api.InvalidRequest, "/attributes/reason")
	refused(with(`"EUR"`, `true,"colour":"red"`), 422, api.InvalidRequest, "/colour /currency")
	refused(with(`rr_1`, strings.Repeat("x", 129)), 422, api.InvalidRequest, "/id")
	refused(with(`rr_1`, strings.Repeat("x", 1<<20)), 413, api.BodyTooLarge, "")
}

func TestAnAnswerListsAtMostAHundredErrors(t *testing.T) {
	var body strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&body, `,"x%d":0`, i)
	}
	p := problemOf(t, ask(server(t, api.Options{}), "POST", "/v1/score", "{"+body.String()[1:]+"}"))
	if len(p.Errors) != 100 || p.Detail != "more than 100 things are wrong, the first are listed" {
		t.Errorf("%d errors, %q", len(p.Errors), p.Detail)
	}
}

func TestQueryParametersAreStrict(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(target, places string) {
		t.Helper()
		method := "GET"
		if strings.HasPrefix(target, "/v1/score") {
			method = "POST"
		}
		p := problemOf(t, ask(h, method, target, goodRequest))
		if p.Status != 400 || p.Type != "/problems/invalid-parameter" || p.places() != places {
			t.Errorf("%s: %+v", target, p)
		}
	}
	refused("/v1/score?dryrun=true", "?dryrun")
	refused("/v1/score?dry_run=yes", "?dry_run")
	refused("/v1/score?dry_run=", "?dry_run")
	refused("/v1/score?dry_run=true&dry_run=false", "?dry_run")
	refused("/v1/score?as_of=2026-11-22T10:00:00Z", "?as_of")
	refused("/v1/score?dry_run=true&as_of=yesterday", "?as_of")
	refused("/v1/score?dry_run=true&as_of=2026-11-22", "?as_of")
	refused("/v1/score?dry_run=%zz", "")
	refused("/v1/decisions/dec_1?verbose=1", "?verbose")
	refused("/healthz?x", "?x")
}

func TestBodiesNeedTheirMediaType(t *testing.T) {
	h := server(t, api.Options{})
	refused := func(target string, headers ...string) {
		t.Helper()
		if p := problemOf(t, ask(h, "POST", target, `{`, headers...)); p.Status != 415 || p.Type != "/problems/unsupported-media-type" {
			t.Errorf("%s %v: %+v", target, headers, p)
		}
	}
	refused("/v1/score", "Content-Type", "")
	refused("/v1/score", "Content-Type", "text/plain")
	refused("/v1/score", "Content-Type", "application/x-ndjson")
	refused("/v1/score", "Content-Type", "application/json; charset=utf-16")
	refused("/v1/score", "Content-Encoding", "gzip")
	refused("/v1/events", "Content-Type", "text/csv")
	for _, taken := range []string{"application/json", "application/json; charset=UTF-8", "Application/JSON"} {
		if p := problemOf(t, ask(h, "POST", "/v1/score", `{`, "Content-Type", taken)); p.Status != 400 {
			t.Errorf("%s: %+v", taken, p)
		}
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	h := server(t, api.Options{})
	for _, target := range []string{"/", "/v1", "/v1/score/", "/v1/decisions/", "/v1/decisions/a/b", "/v1/decisions/a/explanation/", "//healthz"} {
		if p := problemOf(t, ask(h, "GET", target, "")); p.Status != 404 || p.Type != "/problems/not-found" {
			t.Errorf("%s: %+v", target, p)
		}
	}
	w := ask(h, "DELETE", "/v1/score", "")
	if p := problemOf(t, w); p.Status != 405 || p.Type != "/problems/method-not-allowed" || !strings.Contains(w.Header().Get("Allow"), "POST") {
		t.Errorf("%+v, Allow %q", p, w.Header().Get("Allow"))
	}
	if w := ask(h, "HEAD", "/healthz", ""); w.Code != 200 {
		t.Errorf("HEAD /healthz: %d", w.Code)
	}
}

func TestEveryAnswerHasAnIDAndSecurityHeaders(t *testing.T) {
	h := server(t, api.Options{})
	id := func(sent string) string {
		return ask(h, "GET", "/healthz", "", "X-Request-Id", sent).Header().Get("X-Request-Id")
	}
	if got := id("trace-1.A_b"); got != "trace-1.A_b" {
		t.Errorf("a harmless id became %q", got)
	}
	for _, sent := range []string{"", "a b", "a\"b", "<x>", strings.Repeat("x", 65)} {
		if got := id(sent); !regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`).MatchString(got) {
			t.Errorf("%q became %q, not a ULID", sent, got)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"} {
		if got := ask(h, "GET", "/nothing", "").Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAFaultOfOursIsAProblemThatTellsNothing(t *testing.T) {
	var log bytes.Buffer
	h := api.New(api.Options{Ledger: emptyLedger(t), OpenAccess: true, Logger: slog.New(slog.NewJSONHandler(&log, nil))}).Handler()
	w := ask(h, "POST", "/v1/score", goodRequest) // there is no engine
	p := problemOf(t, w)
	if p.Status != 500 || p.Type != "/problems/internal" || strings.Contains(w.Body.String(), "nil") {
		t.Errorf("%s", w.Body)
	}
	if !strings.Contains(log.String(), "nil pointer") || !strings.Contains(log.String(), p.Instance) {
		t.Errorf("the log does not tell more: %s", &log)
	}
	if metrics := ask(h, "GET", "/metrics", "").Body.String(); !strings.Contains(metrics, "vaglio_http_panics_total 1") {
		t.Errorf("not counted:\n%s", metrics)
	}
}

func TestTheAccessLogHoldsNoPersonalData(t *testing.T) {
	var log bytes.Buffer
	h := server(t, api.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	ask(h, "POST", "/v1/score?as_of=c_secret", goodRequest)
	ask(h, "POST", "/v1/score", strings.Replace(goodRequest, "EUR", "c_secret", 1))
	ask(h, "GET", "/v1/decisions/c_secret?c_secret", "")
	ask(h, "GET", "/c_secret", "")
	ask(h, "C_SECRET", "/", "")
	if strings.Contains(strings.ToLower(log.String()), "c_secret") {
		t.Errorf("%s", &log)
	}
	if lines := strings.Count(log.String(), `"msg":"request"`); lines != 5 {
		t.Errorf("%d lines for 5 requests:\n%s", lines, &log)
	}
	if want := `"method":"GET","route":"GET /v1/decisions/:id","status":400,`; !strings.Contains(log.String(), want) {
		t.Errorf("%s is not in\n%s", want, &log)
	}
}

func TestMetricsCountByRouteAndStatus(t *testing.T) {
	h := server(t, api.Options{})
	ask(h, "POST", "/v1/score", "{")
	ask(h, "POST", "/v1/score", "{")
	ask(h, "GET", "/made/up/1", "")
	metrics := ask(h, "GET", "/metrics", "").Body.String()
	for _, want := range []string{`vaglio_http_request_duration_seconds_count{route="POST /v1/score",status="400"} 2`,
		`vaglio_http_request_duration_seconds_count{route="unmatched",status="404"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not in\n%s", want, metrics)
		}
	}
}

// listen serves the API on a loopback port until end is called, which returns what Serve returned.
func listen(t *testing.T) (address string, end func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := api.New(api.Options{Ledger: emptyLedger(t), OpenAccess: true, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	return listener.Addr().String(), func() error { cancel(); return <-served }
}

// halfSent begins a POST and returns once the server is reading its body, of which one byte is missing.
func halfSent(t *testing.T, address, path, body string) (finish func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Expect: 100-continue\r\nConnection: close\r\n\r\n", path, len(body))
	answer := bufio.NewReader(conn)
	if line, err := answer.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q, %v", line, err)
	}
	fmt.Fprint(conn, body[:len(body)-1])
	return func() string {
		fmt.Fprint(conn, body[len(body)-1:])
		all, err := io.ReadAll(answer)
		if err != nil {
			t.Fatal(err)
		}
		return string(all)
	}
}

func TestShutdownFinishesWhatIsInFlight(t *testing.T) {
	address, end := listen(t)
	finish := halfSent(t, address, "/v1/score", "{}")
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	for { // until the listener is closed
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		conn.Close()
	}
	if answer := finish(); !strings.Contains(answer, "/problems/invalid-request") {
		t.Errorf("%s", answer)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTooManyAtOnceAreToldToComeBack(t *testing.T) {
	address, end := listen(t)
	var finish []func() string
	for range 8 { // as many as the route table allows
		finish = append(finish, halfSent(t, address, "/v1/events", "[]"))
	}
	response, err := http.Post("http://"+address+"/v1/events", "application/json", strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
	}
	for _, f := range finish {
		if answer := f(); !strings.Contains(answer, "/problems/empty-body") {
			t.Errorf("%s", answer)
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestTheDocumentedProblemsAreTheProblems(t *testing.T) {
	doc, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `/problems/([a-z-]+)` \\| (\\d+) \\|").FindAllStringSubmatch(string(doc), -1)
	for _, row := range rows {
		if got := fmt.Sprint(api.Problems[api.Kind(row[1])].Status); got != row[2] {
			t.Errorf("%s is documented with %s, has %s", row[1], row[2], got)
		}
	}
	if len(rows) != len(api.Problems) {
		t.Errorf("%d documented, %d exist", len(rows), len(api.Problems))
	}
}

func BenchmarkEmptyHandler(b *testing.B) {
	benchmark(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }), "/healthz", "")
}

func BenchmarkHealthz(b *testing.B) { benchmark(b, server(b, api.Options{}), "/healthz", "") }

func BenchmarkRefusedRequest(b *testing.B) {
	benchmark(b, server(b, api.Options{}), "/v1/score", strings.Replace(goodRequest, "EUR", "EURO", 1))
}

func benchmark(b *testing.B, h http.Handler, target, body string) {
	b.ReportAllocs()
	for b.Loop() {
		method := "GET"
		if body != "" {
			method = "POST"
		}
		ask(h, method, target, body)
	}
}
