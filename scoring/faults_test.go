//go:build linux

package scoring_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/api"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
	"vaglio/models"
	"vaglio/scoring"
)

// An hour at 200 decisions a second is -outage 720000.
var outage = flag.Int("outage", 3000, "decisions taken while ClickHouse is away")

// handled asks the service through its API. With a body, a further argument is the Idempotency-Key.
func (s *service) handled(ctx context.Context, method, path string, body []byte, key ...string) *httptest.ResponseRecorder {
	handler := api.New(api.Options{Engine: s.Engine, Ledger: s.ledger, OpenAccess: true, Now: s.clock.time, Logger: slog.New(slog.DiscardHandler)}).Handler()
	call := httptest.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	call.Header.Set("Content-Type", "application/json")
	for _, k := range key {
		call.Header.Set("Idempotency-Key", k)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, call)
	return answer
}

// children are the processes that this one has started.
func children(t *testing.T) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsDecidedWhileClickHouseIsAwayArrivesOnceAndInOrder stops a ClickHouse of its own, so that it accepts and says nothing,
// and then kills it, so that it is started again.
func TestWhatIsDecidedWhileClickHouseIsAwayArrivesOnceAndInOrder(t *testing.T) {
	others := children(t)
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	own := slices.DeleteFunc(children(t), func(pid int) bool { return slices.Contains(others, pid) })
	if len(own) != 1 {
		t.Fatalf("its processes are %v", own)
	}
	s := newService(t, func(o *scoring.Options) {
		o.Budget, o.Logger = 20*time.Millisecond, slog.New(slog.DiscardHandler)
		if o.History, err = history.Open(t.Context(), server.DSN(), history.Options{Now: o.Now, Logger: o.Logger}); err != nil {
			t.Fatal(err)
		}
		store := o.History
		t.Cleanup(func() { store.Close() })
	})
	far, err := history.Open(t.Context(), server.DSN(), history.Options{Now: s.clock.time, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	signal(t, own[0], syscall.SIGSTOP)
	const customers = 64
	var deciding sync.WaitGroup
	for customer := range customers {
		deciding.Go(func() {
			for n := customer; n < *outage; n += customers {
				r := s.request(fmt.Sprintf("r%07d", n), func(r *vaglio.Request) {
					r.Amount = int64(n + 1)
					r.Entities = vaglio.FieldsOf("customer", s.id(fmt.Sprint("c", customer)), "payment", s.id(fmt.Sprint("p", n)))
				})
				if answer, err := s.Decide(context.Background(), &r, scoring.DecideOptions{}); err != nil || answer.Verdict != vaglio.Review || !answer.Degraded {
					t.Errorf("%s: %v %s", r.ID, err, answer.Body)
					return
				}
			}
		})
	}
	deciding.Wait()
	event, err := json.Marshal(s.money("paid", "payment", t0-vaglio.Hour, 5000, "EUR"))
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	if answer := s.handled(impatient, "POST", "/v1/events", event); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("an event got %d %s", answer.Code, answer.Body)
	}
	cancel()
	if n, err := s.ledger.Backlogs(t.Context()); n[ledger.TopicHistory] != *outage || n[ledger.TopicDecisions] != *outage || err != nil {
		t.Fatalf("%v wait, %v", n, err)
	}

	signal(t, own[0], syscall.SIGKILL)
	ctx, stop := context.WithCancel(context.Background())
	var relays sync.WaitGroup
	var order []string
	relays.Go(func() {
		if err := s.ledger.Relay(ctx, time.Millisecond, func(ctx context.Context, facts []vaglio.Fact) error {
			err := far.Deliver(ctx, facts)
			for i := range facts {
				if err == nil {
					order = append(order, facts[i].ID)
				}
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	relays.Go(func() {
		if err := s.ledger.RelayDecisions(ctx, time.Millisecond, far.DeliverDecisions); err != nil {
			t.Error(err)
		}
	})
	left := func() int {
		n, err := s.ledger.Backlogs(t.Context())
		if err != nil {
			t.Error(err)
		}
		return n[ledger.TopicHistory] + n[ledger.TopicDecisions]
	}
	for deadline := time.Now().Add(2*time.Minute + time.Duration(*outage)*time.Millisecond); left() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	relays.Wait()
	if n, err := far.Count(t.Context()); n != uint64(*outage) || err != nil {
		t.Errorf("history has %d events of %d, %v: the one that was refused is to be sent again", n, *outage, err)
	}
	taken := map[string]int{}
	if err := far.ScanDecisions(t.Context(), 0, t0+vaglio.Day, func(d vaglio.Taken) error { taken[d.RequestID]++; return nil }); err != nil {
		t.Fatal(err)
	}
	for n := range *outage {
		if id := s.id(fmt.Sprintf("r%07d", n)); taken[id] != 1 {
			t.Errorf("the decision of %s arrived %d times", id, taken[id])
		}
	}
	last := map[int]string{} // of each customer; ids rise
	for _, id := range order {
		n, err := strconv.Atoi(id[len(id)-7:])
		if err != nil {
			t.Fatal(err)
		}
		if id <= last[n%customers] {
			t.Errorf("%s was delivered after %s", id, last[n%customers])
		}
		last[n%customers] = id
	}
	if answer := s.handled(t.Context(), "POST", "/v1/events", event); answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), `"stored":1`) {
		t.Errorf("the event sent again got %d %s", answer.Code, answer.Body)
	}
}

func TestAFullOutboxRefusesNewRequestsUntilHistoryTakesThem(t *testing.T) {
	s := newService(t)
	full, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Now: s.clock.time, MaxOutbox: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { full.Close() })
	s.ledger = full
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: full, Now: s.clock.time, Budget: 30 * time.Second})
	ask := func(name string, want int) string {
		t.Helper()
		body, err := json.Marshal(s.request(name))
		if err != nil {
			t.Fatal(err)
		}
		answer := s.handled(t.Context(), "POST", "/v1/score", body)
		if answer.Code != want || (want == 503) != (answer.Header().Get("Retry-After") != "") {
			t.Errorf("%s got %d %s", name, answer.Code, answer.Body)
		}
		return answer.Body.String()
	}
	first := ask("first", 200)
	ask("second", 200)
	if refused := ask("third", 503); !strings.Contains(refused, "/problems/busy") {
		t.Error(refused)
	}
	if again := ask("first", 200); again != first {
		t.Errorf("what was decided before is now %s", again)
	}
	s.delivers()
	ask("third", 503) // analytics is behind
	ctx, stop := context.WithCancel(t.Context())
	if err := full.RelayDecisions(ctx, time.Hour, func(ctx context.Context, all []vaglio.Taken) error {
		defer stop()
		return store.DeliverDecisions(context.WithoutCancel(ctx), all)
	}); err != nil {
		t.Fatal(err)
	}
	ask("third", 200)
}

func TestABodyChangedInAnyByteNeverGetsAnotherDecision(t *testing.T) {
	s := newService(t)
	trusted(s)
	r := s.request("r", func(r *vaglio.Request) {
		r.Payment = &vaglio.PaymentState{Rail: "card", State: "settled"}
		r.Attributes = vaglio.FieldsOf("channel", "app")
		r.Language = "it"
	})
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	first := s.handled(t.Context(), "POST", "/v1/score", body, r.ID)
	if first.Code != http.StatusOK {
		t.Fatal(first.Code, first.Body)
	}
	statuses := map[int]int{}
	for i := range body {
		for _, other := range []byte{body[i] ^ 1, '"', ' ', 0xff} {
			if other == body[i] {
				continue
			}
			changed := bytes.Clone(body)
			changed[i] = other
			answer := s.handled(t.Context(), "POST", "/v1/score", changed, r.ID)
			statuses[answer.Code]++
			text := answer.Body.String()
			switch answer.Code {
			case http.StatusConflict:
				if !strings.Contains(text, "/problems/request-conflict") || !strings.Contains(text, `"pointer":"/`) {
					t.Errorf("%s\ngot %s", changed, text)
				}
			case http.StatusBadRequest, http.StatusUnprocessableEntity:
			default:
				t.Errorf("%s\ngot %d %s", changed, answer.Code, text)
			}
		}
	}
	if statuses[http.StatusConflict] < 100 || statuses[http.StatusBadRequest] < 100 || statuses[http.StatusUnprocessableEntity] < 100 {
		t.Errorf("answered %v", statuses)
	}
	if n, err := s.ledger.Backlog(t.Context()); n != 1 || err != nil {
		t.Errorf("%d requests were decided, %v", n, err)
	}
	if again := s.handled(t.Context(), "POST", "/v1/score", body, strconv.Quote(r.ID)); again.Body.String() != first.Body.String() {
		t.Errorf("in the end it is %s", again.Body)
	}
}

// TestAClockThatJumpsApprovesNothingTwice goes an hour back and forth between decisions about one payment.
func TestAClockThatJumpsApprovesNothingTwice(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Day, 3000, "EUR"))
	seen := map[string]bool{}
	ask := func(name string, amountMinor int64, want vaglio.Verdict) vaglio.Decision {
		t.Helper()
		d, _ := s.decides(s.request(name, func(r *vaglio.Request) { r.Amount = amountMinor }))
		at := vaglio.InstantOf(s.clock.time())
		if d.Verdict != want || d.FeaturesAsOf != at || d.DecidedAt != at || seen[d.ID] {
			t.Errorf("%s at %v: %s", name, at, indented(d))
		}
		if want == vaglio.Approve && d.ValidUntil <= d.DecidedAt {
			t.Errorf("%s is approved at %v until %v", name, d.DecidedAt, d.ValidUntil)
		}
		seen[d.ID] = true
		return d
	}
	first := ask("first", 1000, vaglio.Approve)
	s.clock.set(t0 - vaglio.Hour)
	repeated := func() {
		t.Helper()
		if d, answer := s.decides(s.request("first")); !answer.Repeated || d.ID != first.ID {
			t.Errorf("the first is %s", answer.Body)
		}
	}
	repeated()
	ask("back", 1100, vaglio.Approve)
	ask("too much", 1200, vaglio.Deny) // what was approved an hour ahead is still held back
	s.clock.set(t0 + vaglio.Hour)
	repeated()
	ask("ahead", 900, vaglio.Approve)
	if _, err := s.ledger.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.clock.set(t0)
	var paid int64
	for _, name := range []string{"first", "back", "ahead"} {
		state, err := s.ledger.Execute(t.Context(), s.id(name), ledger.Execution{State: ledger.Succeeded})
		var illegal *ledger.TransitionError
		switch {
		case err == nil:
			paid += state.ApprovedAmount
		case !errors.As(err, &illegal) || illegal.From != string(ledger.Expired): // it ended while the clock was ahead, and stays so
			t.Errorf("%s: %v", name, err)
		}
	}
	ask("rest", 3000-paid+1, vaglio.Deny)
	if paid > 3000 {
		t.Errorf("%d of 3000 were paid", paid)
	}
	// What is known only later does not count yet; it is an hour ahead of a clock that was set back.
	s.clock.set(t0 - vaglio.Hour + vaglio.Minute)
	s.imports(s.happened("failed", "login_failed", t0))
	d := ask("before it", 3001, vaglio.Deny)
	if _, features := s.explained(d.ID); features["customer_login_failed_24h"] != 0 || features["customer_requests_7d"] != 2 {
		t.Errorf("an hour before a failed login it sees %v", features)
	}
	report, err := s.ledger.Verify(t.Context(), nil)
	if err != nil || !report.Intact() {
		t.Errorf("the chain goes by number, not by time: %v %v", report.Problems, err)
	}
}

// TestAReplicaThatIsKilledLeavesTheOthersWhatItAnswered runs a second replica as a process of its own, on the same requests.
func TestAReplicaThatIsKilledLeavesTheOthersWhatItAnswered(t *testing.T) {
	const n, captured = 200, 100_000
	shared := ledgertest.Postgres(t)
	l, err := ledger.Open(t.Context(), shared, ledger.Options{Now: now.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := newService(t, always, func(o *scoring.Options) { o.Ledger = l })
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, captured, "EUR"))
	requests := make([]vaglio.Request, n)
	var text bytes.Buffer
	for i := range requests {
		requests[i] = s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Amount = 700 + int64(i) })
		line, err := json.Marshal(&requests[i])
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), replicaVariable+"="+strings.Join([]string{dsn, shared, modelDir}, " "))
	cmd.Stdin, cmd.Stderr = &text, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{}
	var ours sync.WaitGroup
	bodies := make([]string, n)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if d, err := vaglio.Decode[vaglio.Decision](lines.Bytes()); err == nil { // the last line may be cut
			theirs[d.RequestID] = lines.Text()
		}
		switch len(theirs) {
		case 10: // from here on both decide
			for sender := range 4 {
				ours.Go(func() {
					for i := n - 1 - sender; i >= 0; i -= 4 {
						answer, err := s.Decide(context.Background(), &requests[i], scoring.DecideOptions{})
						if err != nil {
							t.Error(err)
						}
						bodies[i] = string(answer.Body)
					}
				})
			}
		case 40:
			signal(t, cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	if err := cmd.Wait(); err == nil || len(theirs) < 40 {
		t.Fatalf("the other replica ended with %v after %d answers", err, len(theirs))
	}
	ours.Wait()
	var approved int64
	for i, body := range bodies {
		d, err := vaglio.Decode[vaglio.Decision]([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if approved += d.ApprovedAmount; theirs[requests[i].ID] != "" && theirs[requests[i].ID] != body {
			t.Errorf("%s was answered\n%s\nand after the kill\n%s", d.RequestID, theirs[d.RequestID], body)
		}
	}
	if waiting, err := l.Backlog(t.Context()); approved > captured || approved <= captured-2*n-700 || waiting != n || err != nil {
		t.Errorf("%d of %d were approved, %d requests wait, %v", approved, int64(captured), waiting, err)
	}
	if report, err := l.Verify(t.Context(), nil); err != nil || !report.Intact() {
		t.Errorf("the chain: %v %v", report.Problems, err)
	}
}

// replicaVariable makes the test binary a replica that decides what comes in: where history, ledger and model are.
const replicaVariable = "VAGLIO_SCORING_TEST_REPLICA"

func init() {
	if where := strings.Fields(os.Getenv(replicaVariable)); len(where) == 3 {
		panic(replica(where[0], where[1], where[2]))
	}
}

func replica(historyDSN, ledgerDSN, modelDir string) error {
	ctx := context.Background()
	clock := func() time.Time { return t0.Time() }
	o := scoring.Options{Now: clock, Budget: 30 * time.Second}
	always(&o)
	var err error
	if o.History, err = history.Open(ctx, historyDSN, history.Options{Now: clock}); err != nil {
		return err
	}
	if o.Ledger, err = ledger.Open(ctx, ledgerDSN, ledger.Options{Now: clock}); err != nil {
		return err
	}
	model, err := models.Open(modelDir)
	if err != nil {
		return err
	}
	e := scoring.New(o)
	if err := e.UseModel(model); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		r, err := vaglio.DecodeRequest(lines.Bytes())
		if err != nil {
			return err
		}
		answer, err := e.Decide(ctx, &r, scoring.DecideOptions{})
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", answer.Body)
	}
	select {} // until it is killed
}
