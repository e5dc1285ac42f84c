package scoring_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring"
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
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time})
	d, first := s.decides(s.request("r"))
	isDegraded(t, d, scoring.DegradedModel)
	expect(t, "refundable", *d.RefundableAmount, 1000)
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "model") {
		t.Errorf("ready without a model: %v", err)
	}
	if x, _ := s.explained(d.ID); x.LogOdds != nil || x.Model != nil || len(x.Features) != 0 || len(x.Timelines) == 0 {
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

// wire passes connections on to ClickHouse until it is told to stall, so that nothing is answered any more, or cut.
type wire struct {
	address  string
	stalled  atomic.Bool
	listener net.Listener
	open     sync.Map
	wait     sync.WaitGroup
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), listener: listener}
	w.wait.Go(func() {
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
	const budget = 3 * time.Second // enough for a healthy reading on a busy machine
	s := newService(t, func(o *scoring.Options) { o.History, o.Budget = far, budget })
	trusted(s)
	d, _ := s.decides(s.request("before"))
	expect(t, "before: degraded", d.Degraded, false)

	wire.stalled.Store(true)
	started := time.Now()
	d, answer := s.decides(s.request("r"))
	isDegraded(t, d, scoring.DegradedHistory)
	if took := time.Since(started); took > unbounded {
		t.Errorf("took %v on a budget of %v", took, budget)
	}
	if d.RefundableAmount != nil {
		t.Errorf("%d refundable of a payment that can't be read", *d.RefundableAmount)
	}
	password, _ := url.Parse(dsn)
	if got := s.log.String(); !strings.Contains(got, scoring.DegradedHistory) || strings.Contains(got, password.User.String()) {
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
