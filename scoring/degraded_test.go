package scoring_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/api"
	"vaglio/history"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/training/lightgbm"
)

// isDegraded checks that a decision is a review that owes nothing to a model.
func isDegraded(t *testing.T, d vaglio.Decision, reason string) {
	t.Helper()
	expect(t, "verdict", d.Verdict, vaglio.Review)
	expect(t, "degraded", d.Degraded, true)
	expect(t, "degraded reasons", strings.Join(d.DegradedReasons, " "), reason)
	expect(t, "risk level", d.RiskLevel, vaglio.RiskNotAssessed)
	expect(t, "approved", d.ApprovedAmount, 0)
	if d.FraudProbability != nil || d.RiskScore != nil || d.Model != nil || d.ExpectedLoss != nil || d.ReviewDueAt == 0 || d.ValidUntil != 0 {
		t.Errorf("a degraded review: %s", indented(d))
	}
}

func TestWithoutAModelEveryDecisionIsADegradedReview(t *testing.T) {
	s := newService(t)
	trusted(s)
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time, Budget: 30 * time.Second})
	d, first := s.decides(s.request("r"))
	isDegraded(t, d, scoring.DegradedModel)
	expect(t, "refundable", *d.RefundableAmount, 1000)
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "model") {
		t.Errorf("ready without a model: %v", err)
	}
	if x, _ := s.explained(d.ID); x.LogOdds != nil || x.Model != nil || x.AdditivityError != nil || len(x.Timelines) == 0 {
		t.Errorf("explanation %+v", x)
	}
	if err := s.UseModel(bundle); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("not ready with a model: %v", err)
	}
	if _, again := s.decides(s.request("r")); !bytes.Equal(again.Body, first.Body) {
		t.Errorf("the answer changed once there was a model: %s", again.Body)
	}
	d, _ = s.decides(s.request("next"))
	expect(t, "with a model", d.Degraded, false)
}

// The numbers of this model's leaves are so large that the two readings of its file, which add them up in different orders,
// can't agree to 1e-9. Its golden rows are LightGBM's own answers, so it opens.
func TestReadingsOfAModelThatDisagreeLeaveAReviewAndRaiseTheAlarm(t *testing.T) {
	contents, err := smallModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contents.Model = withLeavesTimes(t, contents.Model, 1e9)
	vectors := []float64{}
	for _, g := range contents.Golden {
		for _, v := range g.Vector {
			vectors = append(vectors, float64(v))
		}
	}
	columns := len(contents.Golden[0].Vector)
	raw, err := lightgbm.Predict(t.Context(), contents.Model, vectors, columns)
	if err != nil {
		t.Fatal(err)
	}
	contributions, err := lightgbm.Contributions(t.Context(), contents.Model, vectors, columns)
	if err != nil {
		t.Fatal(err)
	}
	for i := range contents.Golden {
		contents.Golden[i] = models.NewGolden(vectors[i*columns:(i+1)*columns], raw[i], contributions[i])
	}
	dir := filepath.Join(t.TempDir(), "enormous")
	if err := models.Write(dir, contents); err != nil {
		t.Fatal(err)
	}
	enormous, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}

	s := newService(t)
	trusted(s)
	if err := s.UseModel(enormous); err != nil {
		t.Fatal(err)
	}
	handler := api.New(api.Options{Engine: s.Engine, Ledger: s.ledger, OpenAccess: true, Now: s.clock.time, Logger: slog.New(slog.DiscardHandler)}).Handler()
	ask := func(method, path string, body []byte) string {
		t.Helper()
		call := httptest.NewRequest(method, "http://localhost"+path, bytes.NewReader(body))
		call.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, call)
		if answer.Code != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
		return answer.Body.String()
	}
	// By chance a sum of few numbers is exact: of several requests, some.
	disagree := 0
	for i := range 10 {
		s.imports(s.happened(fmt.Sprint("failed", i), "login_failed", t0-vaglio.Hour))
		body, err := json.Marshal(s.request(fmt.Sprint("r", i)))
		if err != nil {
			t.Fatal(err)
		}
		var d vaglio.Decision
		if err := json.Unmarshal([]byte(ask("POST", "/v1/score", body)), &d); err != nil {
			t.Fatal(err)
		}
		if d.Degraded {
			isDegraded(t, d, scoring.DegradedAdditivity)
			disagree++
		}
	}
	if disagree == 0 {
		t.Error("the readings agreed on every request")
	}
	if got := s.log.String(); strings.Count(got, "level=ERROR") != disagree || strings.Count(got, "the contributions are off by") != disagree {
		t.Errorf("%d decisions are degraded, the log has %s", disagree, got)
	}
	want := fmt.Sprintf(`vaglio_decisions_degraded_total{reason="contributions_disagree"} %d`, disagree)
	if got := ask("GET", "/metrics", nil); !strings.Contains(got, want+"\n") {
		t.Errorf("%s is not in\n%s", want, got)
	}

	if err := s.UseModel(bundle); err != nil {
		t.Fatal(err)
	}
	d, _ := s.decides(s.request("next"))
	expect(t, "by a model whose readings agree: degraded", d.Degraded, false)
}

// withLeavesTimes multiplies all leaves of LightGBM's text.
func withLeavesTimes(t *testing.T, text []byte, factor float64) []byte {
	t.Helper()
	blocks := strings.SplitAfter(string(text), "\n\n\n") // header and first tree, trees, what follows
	sizes := []string{}
	for i, block := range blocks {
		head, rest, isTree := strings.Cut(block, "leaf_value=")
		if !isTree {
			continue
		}
		line, rest, _ := strings.Cut(rest, "\n")
		values := strings.Fields(line)
		for k := range values {
			v, err := strconv.ParseFloat(values[k], 64)
			if err != nil {
				t.Fatal(err)
			}
			values[k] = strconv.FormatFloat(v*factor, 'g', 17, 64)
		}
		blocks[i] = head + "leaf_value=" + strings.Join(values, " ") + "\n" + rest
		sizes = append(sizes, strconv.Itoa(len(blocks[i])-max(0, strings.Index(blocks[i], "Tree="))))
	}
	before, rest, _ := strings.Cut(strings.Join(blocks, ""), "tree_sizes=")
	_, after, _ := strings.Cut(rest, "\n")
	return []byte(before + "tree_sizes=" + strings.Join(sizes, " ") + "\n" + after)
}

// wire passes connections on to ClickHouse until it is told to stall, so that nothing is answered any more, or cut.
type wire struct {
	address  string
	stalled  atomic.Bool
	listener net.Listener
	open     sync.Map
	accepts  sync.WaitGroup
	wait     sync.WaitGroup
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), listener: listener}
	w.accepts.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			w.open.Store(client, true)
			if w.stalled.Load() {
				continue
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			w.open.Store(server, true)
			w.wait.Go(func() { io.Copy(server, client); server.Close() })
			w.wait.Go(func() { w.copy(client, server); client.Close() })
		}
	})
	t.Cleanup(w.cut)
	return w
}

// copy passes answers on, and swallows them when stalled.
func (w *wire) copy(client io.Writer, server io.Reader) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if w.stalled.Load() {
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections and refuses new ones.
func (w *wire) cut() {
	w.listener.Close()
	w.accepts.Wait() // what it has accepted last is to be closed, too
	w.open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
	w.wait.Wait()
}

// overWire opens the shared history through a wire.
func overWire(t *testing.T) (*history.Store, *wire) {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, address.Host)
	address.Host = w.address
	far, err := history.Open(t.Context(), address.String(), history.Options{Now: now.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return far, w
}

// unbounded is less than a decision takes when nothing holds its budget: the driver waits 5 minutes for an answer.
const unbounded = 30 * time.Second

func TestAHistoryThatDoesNotAnswerLeavesAReviewWithinTheBudget(t *testing.T) {
	far, wire := overWire(t)
	const budget = time.Second
	s := newService(t, func(o *scoring.Options) { o.History = far })
	hurried := newService(t, func(o *scoring.Options) { o.History, o.Ledger, o.Budget = far, s.ledger, budget })
	trusted(s)
	d, _ := s.decides(s.request("before"))
	expect(t, "before: degraded", d.Degraded, false)

	wire.stalled.Store(true)
	started := time.Now()
	d, answer := hurried.decides(s.request("r"))
	isDegraded(t, d, scoring.DegradedHistory)
	if took := time.Since(started); took > unbounded {
		t.Errorf("took %v on a budget of %v", took, budget)
	}
	if d.RefundableAmount != nil {
		t.Errorf("%d refundable of a payment that can't be read", *d.RefundableAmount)
	}
	password, _ := url.Parse(dsn)
	if got := hurried.log.String(); !strings.Contains(got, scoring.DegradedHistory) || strings.Contains(got, password.User.String()) {
		t.Errorf("log: %s", got)
	}

	wire.stalled.Store(false)
	if _, again := s.decides(s.request("r")); !again.Repeated || !bytes.Equal(again.Body, answer.Body) {
		t.Errorf("later the answer is %s", again.Body)
	}
	d, _ = s.decides(s.request("after"))
	expect(t, "after: degraded", d.Degraded, false)
}

func TestAHistoryThatIsGoneLeavesAReview(t *testing.T) {
	far, wire := overWire(t)
	s := newService(t, func(o *scoring.Options) { o.History = far })
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("not ready: %v", err)
	}
	wire.cut()
	d, answer := s.decides(s.request("r"))
	isDegraded(t, d, scoring.DegradedHistory)
	if _, again := s.decides(s.request("r")); !again.Repeated || !bytes.Equal(again.Body, answer.Body) {
		t.Errorf("later the answer is %s", again.Body)
	}
	if n, err := s.ledger.Backlog(t.Context()); n != 1 || err != nil {
		t.Errorf("%d events wait for history, %v; want the request", n, err)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "history") {
		t.Errorf("ready without history: %v", err)
	}
}

func TestACallerWhoLeavesGetsNoDecision(t *testing.T) {
	s := newService(t)
	trusted(s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := s.request("r")
	if answer, err := s.Decide(ctx, &r, scoring.DecideOptions{}); err == nil {
		t.Errorf("a caller who had left got %s", answer.Body)
	}
	if n, err := s.ledger.Backlog(t.Context()); n != 0 || err != nil {
		t.Errorf("%d events wait, %v", n, err)
	}
	d, _ := s.decides(r)
	expect(t, "asked again", d.Degraded, false)
}

func TestANewConnectionThatStallsKeepsTheBudgetToo(t *testing.T) {
	far, wire := overWire(t)
	const budget = 300 * time.Millisecond
	s := newService(t, func(o *scoring.Options) { o.History, o.Budget = far, budget })
	wire.stalled.Store(true)
	for _, name := range []string{"first", "second", "third"} {
		started := time.Now()
		d, _ := s.decides(s.request(name))
		isDegraded(t, d, scoring.DegradedHistory)
		if took := time.Since(started); took > unbounded {
			t.Errorf("%s: took %v on a budget of %v", name, took, budget)
		}
	}
}
