package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/api"
	"vaglio/client"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/scoring"
)

// A real server without a model, which all tests and examples call, and keys of it.
var serverURL, scoreKey, adminKey string

func TestMain(m *testing.M) {
	embedded.Main()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "client")
		try(err)
		defer os.RemoveAll(dir)
		clickHouse, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		try(err)
		defer clickHouse.Close()
		quiet := slog.New(slog.DiscardHandler)
		store, err := history.Open(context.Background(), clickHouse.DSN(), history.Options{Logger: quiet})
		try(err)
		defer store.Close()
		l, err := ledger.Open(context.Background(), filepath.Join(dir, "ledger.db"), ledger.Options{Logger: quiet})
		try(err)
		defer l.Close()
		_, adminKey, err = l.CreateKey(context.Background(), "admin", []string{ledger.ScopeAdmin}, 0)
		try(err)
		_, scoreKey, err = l.CreateKey(context.Background(), "score", []string{ledger.ScopeScore}, 0)
		try(err)
		engine := scoring.New(scoring.Options{History: store, Ledger: l, Budget: time.Minute, Logger: quiet})
		server := httptest.NewServer(api.New(api.Options{Engine: engine, Ledger: l, Logger: quiet}).Handler())
		defer server.Close()
		serverURL = server.URL
		return m.Run()
	}())
}

func try(err error) {
	if err != nil {
		panic(err)
	}
}

func connect(t *testing.T, url, key string, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(url, key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(id string) vaglio.Request {
	return vaglio.Request{ID: id, Type: "refund", Entities: vaglio.FieldsOf("customer", "c_"+id, "payment", "p_"+id), Amount: 1999, Currency: "EUR"}
}

func TestARequestIsDecidedOnceAndRead(t *testing.T) {
	c := connect(t, serverURL, adminKey)
	at, amount := vaglio.InstantOf(time.Now()), int64(1999)
	payment := vaglio.Event{ID: "evt_once", Kind: "payment", OccurredAt: at - vaglio.Hour, Entities: vaglio.FieldsOf("customer", "c_once", "payment", "p_once"),
		Amount: amount, Currency: "EUR"}
	for i := range 2 {
		if s, err := c.Events(t.Context(), payment); err != nil || s != (client.Stored{Stored: 1 - i, Repeated: i}) {
			t.Errorf("%+v, %v", s, err)
		}
	}
	r := request("once")
	first, err := c.Score(t.Context(), &r)
	if err != nil || first.RequestID != "once" || first.Verdict != vaglio.Review {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := c.Score(t.Context(), &r)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("%+v, %v", again, err)
	}
	if read, err := c.Decision(t.Context(), "once"); err != nil || !reflect.DeepEqual(read, first) {
		t.Errorf("%+v, %v", read, err)
	}
	for _, audience := range []string{"", "reviewer", "customer"} {
		if e, err := c.Explanation(t.Context(), first.ID, audience); err != nil || !strings.Contains(string(e), `"once"`) {
			t.Errorf("%s, %v", e, err)
		}
	}
	outcome := vaglio.ReportedOutcome{ID: "out_once", RequestID: "once", Outcome: vaglio.OutcomeChargeback, OccurredAt: at, Amount: &amount, Currency: "EUR"}
	if s, err := c.Outcomes(t.Context(), outcome); err != nil || s.Stored != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestABatchAnswersEachRequest(t *testing.T) {
	bad := request("batch_2")
	bad.Currency = "EURO"
	scored, err := connect(t, serverURL, scoreKey).ScoreBatch(t.Context(), []vaglio.Request{request("batch_1"), bad, request("batch_1")})
	if err != nil || len(scored) != 3 {
		t.Fatalf("%+v, %v", scored, err)
	}
	if scored[0].Err() != nil || scored[0].Decision.RequestID != "batch_1" || scored[0].Replayed == scored[2].Replayed {
		t.Errorf("%+v and %+v", scored[0], scored[2])
	}
	if err := scored[1].Err(); !errors.Is(err, client.ErrInvalid) || scored[1].Problem.Fields[0].Pointer != "/currency" {
		t.Errorf("%v", err)
	}
}

func TestARequestIsFollowedAndWithdrawn(t *testing.T) {
	c := connect(t, serverURL, scoreKey)
	r := request("followed/1")
	if _, err := c.Score(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Request(t.Context(), r.ID); err != nil || s.State != "pending_review" || s.RequestID != r.ID || s.ReviewDueAt == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Execute(t.Context(), r.ID, client.Execution{State: "submitted"}); !errors.Is(err, client.ErrConflict) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if s, err := c.Cancel(t.Context(), r.ID, "the customer called"); err != nil || s.State != "cancelled" {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

func TestProblemsAreErrorsOfTheirKind(t *testing.T) {
	c := connect(t, serverURL, scoreKey)
	is := func(err, kind error, typ string) {
		t.Helper()
		var p *client.Problem
		if !errors.Is(err, kind) || !errors.As(err, &p) || p.Type != "/problems/"+typ || p.Instance == "" {
			t.Errorf("%v", err)
		}
	}
	r := request("kinds")
	if _, err := c.Score(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	r.Amount++
	_, err := c.Score(t.Context(), &r)
	is(err, client.ErrConflict, "request-conflict")
	if want := "decide request kinds: 409 Another request has this id: a decided request has this id and other content; /amount differs"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v", err)
	}
	r = request("")
	_, err = c.Score(t.Context(), &r)
	is(err, client.ErrInvalid, "invalid-request")
	_, err = c.Decision(t.Context(), "a/b?c")
	is(err, client.ErrNotFound, "not-found")
	_, err = c.Events(t.Context(), vaglio.Event{ID: "x", Kind: "login", OccurredAt: 1, Entities: vaglio.FieldsOf("customer", "c")})
	is(err, client.ErrForbidden, "forbidden")
	_, err = connect(t, serverURL, "wrong").Decision(t.Context(), "x")
	is(err, client.ErrUnauthorized, "unauthorized")
	_, err = c.ScoreBatch(t.Context(), nil)
	is(err, client.ErrInvalid, "empty-body")
}

// script is a server that answers call after call by its functions, and notes the bodies.
func script(t *testing.T, answers ...http.HandlerFunc) (url string, bodies *[]string) {
	t.Helper()
	bodies = &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*bodies = append(*bodies, string(body))
		answers[min(len(*bodies), len(answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, bodies
}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, `{"stored":1}`)
	}
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	fmt.Fprint(w, `{"stor`)
}

func TestWhatWasRefusedForAMomentOrLostIsSentAgainAsItWas(t *testing.T) {
	url, bodies := script(t, status(503, "Retry-After", "7"), cut, half, status(502), status(504), status(429, "Retry-After", "1"), status(200))
	var waits []time.Duration
	c := connect(t, url, "", client.WithAttempts(7), client.WithBackoff(time.Second, 4*time.Second),
		client.WithSleep(func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }))
	if _, err := c.Events(t.Context(), vaglio.Event{ID: "evt_1", Kind: "login", OccurredAt: 1, Entities: vaglio.FieldsOf("customer", "c")}); err != nil {
		t.Fatal(err)
	}
	for _, body := range *bodies {
		if body != (*bodies)[0] || !strings.Contains(body, `"evt_1"`) {
			t.Errorf("%s, at first %s", body, (*bodies)[0])
		}
	}
	if len(*bodies) != 7 || len(waits) != 6 || waits[0] != 7*time.Second {
		t.Fatalf("%d attempts, waits %v", len(*bodies), waits)
	}
	for i, most := range []time.Duration{0, 2, 4, 4, 4, 4} {
		if i > 0 && (waits[i] < most*time.Second/2 || waits[i] > most*time.Second+1) {
			t.Errorf("wait %d is %v", i, waits[i])
		}
	}
}

func TestAnAnswerThatWouldComeAgainIsNotAskedForAgain(t *testing.T) {
	once := func(answer http.HandlerFunc, kind error, opts ...client.Option) {
		t.Helper()
		url, bodies := script(t, answer)
		opts = append(opts, client.WithSleep(func(context.Context, time.Duration) error { t.Error("it waits"); return nil }))
		_, err := connect(t, url, "", opts...).Decision(t.Context(), "x")
		if !errors.Is(err, kind) || len(*bodies) != 1 {
			t.Errorf("%d attempts, %v", len(*bodies), err)
		}
	}
	once(status(400), client.ErrInvalid)
	once(status(404), client.ErrNotFound)
	once(status(500), client.ErrUnavailable)
	once(status(503), client.ErrUnavailable, client.WithAttempts(1))
	once(status(200), client.ErrTooLarge, client.WithMaxAnswer(5))
	url, bodies := script(t, status(302, "Location", serverURL))
	var p *client.Problem
	if _, err := connect(t, url, "").Decision(t.Context(), "x"); !errors.As(err, &p) || p.Status != 302 || p.Type != "about:blank" || len(*bodies) != 1 {
		t.Errorf("%v", err)
	}
}

func TestAttemptsEndWithTheContext(t *testing.T) {
	url, bodies := script(t, status(503, "Retry-After", "3600"))
	c := connect(t, url, "")
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Decision(bounded, "x"); !errors.Is(err, client.ErrUnavailable) || len(*bodies) != 1 {
		t.Errorf("it waits beyond the deadline: %d attempts, %v", len(*bodies), err)
	}
	stopped, stop := context.WithCancel(t.Context())
	c = connect(t, url, "", client.WithSleep(func(ctx context.Context, _ time.Duration) error { stop(); return ctx.Err() }))
	if _, err := c.Decision(stopped, "x"); !errors.Is(err, context.Canceled) || len(*bodies) != 2 {
		t.Errorf("%d attempts, %v", len(*bodies), err)
	}
}

func TestConnectionsAreKeptAndCloseLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	c, err := client.New(serverURL, scoreKey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r := request(fmt.Sprintf("kept_%d", i))
		if _, err := c.Score(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestURLsThatAreNoServer(t *testing.T) {
	for _, url := range []string{"", "localhost:8080", "ftp://x", "http://", "http://x?y=1", "http://x#y", "http://a b"} {
		if _, err := client.New(url, ""); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
	if _, err := client.New("http://user:secret@x?y", ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
