package api_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/labstack/echo/v4"

	"vaglio"
	"vaglio/api"
	"vaglio/features"
	"vaglio/history"
	"vaglio/history/embedded/embeddedtest"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
	"vaglio/simulate"
	"vaglio/training"
	"vaglio/training/lightgbm"
)

var (
	benchCallers = flag.Int("callers", 64, "requests of BenchmarkScore at one time, each on a connection of its own")
	benchProfile = flag.String("profile", "", "file for a CPU profile of what BenchmarkScore measures, without its preparation")
)

const benchDays = 120

// benchWorld is a simulated shop, with a model of 200 trees of 31 leaves trained on it.
type benchWorld struct {
	history  *history.Store
	model    *models.Bundle
	payments []vaglio.Event // of the last months that nobody complained of, each of another customer before one comes again
}

var theBenchWorld = sync.OnceValues(func() (*benchWorld, error) {
	ctx := context.Background()
	h, err := history.Open(ctx, strings.TrimSuffix(clickHouseDSN, "vaglio")+"bench", history.Options{})
	if err != nil {
		return nil, err
	}
	w := &benchWorld{history: h}
	c := simulate.DefaultConfig()
	c.Customers, c.Days, c.RequestShare, c.Until = 8000, benchDays, 0.1, vaglio.InstantOf(time.Now())/vaglio.Hour*vaglio.Hour
	byCustomer, spoilt := map[string][]vaglio.Event{}, map[string]bool{}
	_, err = simulate.Run(ctx, c, func(all []vaglio.Event) error {
		for _, e := range all {
			switch e.Kind {
			case vaglio.KindRefundRequested:
				spoilt[e.Entities.Get(vaglio.EntityPayment)] = true
			case vaglio.KindChargeback, vaglio.KindFraudConfirmed, "early_fraud_warning", "payment_returned":
				spoilt[e.Entities.Get(vaglio.EntityCustomer)] = true
			}
			if e.Kind == vaglio.KindPayment && e.OccurredAt > c.Until-100*vaglio.Day && e.Amount > 1000 {
				id := e.Entities.Get(vaglio.EntityCustomer)
				byCustomer[id] = append(byCustomer[id], e)
			}
		}
		_, err := h.Import(ctx, all)
		return err
	}, nil)
	if err != nil {
		return nil, err
	}
	for turn := range 100 {
		for _, id := range slices.Sorted(maps.Keys(byCustomer)) {
			if turn < len(byCustomer[id]) && !spoilt[id] && !spoilt[byCustomer[id][turn].Entities.Get(vaglio.EntityPayment)] {
				w.payments = append(w.payments, byCustomer[id][turn])
			}
		}
	}
	w.model, err = benchModel(ctx, h, c.Until)
	return w, err
})

// benchModel is trained on the requests of the whole time, without regard to what it will be worth.
func benchModel(ctx context.Context, h *history.Store, until vaglio.Instant) (*models.Bundle, error) {
	catalogue, err := os.ReadFile("../features/default.yaml")
	if err != nil {
		return nil, err
	}
	m, err := training.Replay(ctx, h, features.Default(), training.Period{From: until - benchDays*vaglio.Day, Until: until}, func(training.Progress) {})
	if err != nil {
		return nil, err
	}
	labels, err := training.ReadLabels(ctx, h, until-benchDays*vaglio.Day, until)
	if err != nil {
		return nil, err
	}
	fraud, numbers := make([]bool, len(m.Rows)), make([]float64, len(m.Rows))
	for i := range m.Rows {
		if fraud[i] = labels.Of(&m.Rows[i]).Verdict == training.Fraud; fraud[i] {
			numbers[i] = 1
		}
	}
	width := len(m.Names)
	golden := m.X[:16*width]
	result, err := lightgbm.Train(ctx, lightgbm.Job{Params: training.DefaultParams, Rounds: 200, Golden: golden,
		Train: lightgbm.Dataset{Names: m.Names, Categorical: m.Categorical, Rows: len(m.Rows), X: m.X, Label: numbers}}, nil)
	if err != nil {
		return nil, err
	}
	model, err := models.ReadModel(result.Model)
	if err != nil {
		return nil, err
	}
	for i := range m.Rows {
		if numbers[i], err = model.LogOdds(m.X[i*width : (i+1)*width]); err != nil {
			return nil, err
		}
	}
	contents := models.Contents{Model: result.Model, Catalogue: catalogue, Manifest: models.Manifest{Name: "bench", Version: "1",
		BaseCurrency: h.BaseCurrency(), Thresholds: models.Thresholds{ApproveBelow: 0.3, DenyFrom: 0.9}}}
	if contents.Calibration, err = models.FitPlatt(numbers, fraud, nil); err != nil {
		return nil, err
	}
	for i, answer := range result.GoldenRaw {
		contents.Golden = append(contents.Golden, models.NewGolden(golden[i*width:(i+1)*width], answer, result.GoldenContributions[i]))
	}
	dir, err := os.MkdirTemp("", "api-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := models.Write(filepath.Join(dir, "model"), contents); err != nil {
		return nil, err
	}
	return models.Open(filepath.Join(dir, "model"))
}

// benchPolicy is the default policy, whose mix of verdicts the requests name: by thresholds of segments, so that explanations
// and counterfactuals are made as for any request. Without its limits to what one customer and one hour may have.
var benchPolicy = sync.OnceValues(func() (*policy.Policy, error) {
	text := string(policy.Default().Source())
	for _, change := range [][2]string{
		{"thresholds: {from: model}", `thresholds: {approve_below: 0.999, deny_from: 0.9999}
segments:
  - {name: watched, when: request.attributes.mix == "review", thresholds: {approve_below: 0.000000000001, deny_from: 0.9999}}
  - {name: barred, when: request.attributes.mix == "deny", thresholds: {approve_below: 0.0000000000001, deny_from: 0.000000000001}}
`},
		{"caps: {requests_1h: 5, requests_24h: 20, approvals_1h: 3, approvals_24h: 10, approved_amount_24h: 200000}",
			"caps: {requests_1h: 4000, requests_24h: 4000, approvals_1h: 4000, approvals_24h: 4000, approved_amount_24h: 200000000}"},
		{"customer_requests_1h >= 3 or payment_requests >= 1 and customer_since_last_request < 24", "customer_requests_1h >= 4000"},
	} {
		if !strings.Contains(text, change[0]) {
			return nil, fmt.Errorf("the default policy has no %q", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return policy.Parse([]byte(text))
})

// benchServer serves like `vaglio serve`, with a memory of so many bytes, and returns its address and a key.
func benchServer(b *testing.B, w *benchWorld, cache int64) (address, secret string) {
	b.Helper()
	p, err := benchPolicy()
	must(b, err)
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"), ledger.Options{})
	must(b, err)
	_, secret, err = l.CreateKey(b.Context(), "bench", []string{ledger.ScopeScore, ledger.ScopeAdmin}, 0)
	must(b, err)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	e := scoring.New(scoring.Options{History: w.history, Ledger: l, Policy: p, Cache: cache, Logger: log})
	must(b, e.UseModel(w.model))
	must(b, e.Refresh(b.Context()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	server := api.New(api.Options{Engine: e, Ledger: l, Logger: log})
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, job := range []func(context.Context) error{
		e.Follow,
		func(ctx context.Context) error { e.Attend(ctx); return nil },
		func(ctx context.Context) error { return l.Relay(ctx, time.Second, w.history.Deliver) },
		func(ctx context.Context) error { return l.RelayDecisions(ctx, time.Second, w.history.DeliverDecisions) },
		func(ctx context.Context) error { return server.Serve(ctx, listener) },
	} {
		work.Go(func() {
			if err := job(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	b.Cleanup(func() {
		stop()
		work.Wait()
		must(b, l.Close())
	})
	for _, current := e.Lag(); !current; _, current = e.Lag() {
		time.Sleep(time.Millisecond)
	}
	return listener.Addr().String(), secret
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var benchRequests atomic.Int64

// request is about one of the payments: of 100 about 90 are approved, 8 reviewed, 2 denied.
func (w *benchWorld) request(n int64) []byte {
	id := benchRequests.Add(1)
	p := &w.payments[n%int64(len(w.payments))]
	mix := "approve"
	switch {
	case id%50 == 0:
		mix = "deny"
	case id%50 <= 4:
		mix = "review"
	}
	r := vaglio.Request{ID: "rr_" + strconv.FormatInt(id, 10), Type: "refund", Amount: 1 + id/int64(len(w.payments)), Currency: p.Currency,
		Reason: "changed_mind", RequestedBy: "customer", Authentication: "password", Entities: p.Entities,
		Payment:    &vaglio.PaymentState{Rail: "card", State: "settled"},
		Attributes: vaglio.FieldsOf("channel", "app", "mix", mix)}
	body, err := json.Marshal(&r)
	if err != nil {
		panic(err)
	}
	return body
}

// caller is a keep-alive connection that asks no more than it must: the load generator shares the processors.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	head string

	out, answer []byte
}

func newCaller(address, path, secret string) (*caller, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, in: bufio.NewReaderSize(conn, 16<<10), head: "POST " + path + " HTTP/1.1\r\nHost: " + address +
		"\r\nAuthorization: Bearer " + secret + "\r\nContent-Type: application/json\r\nContent-Length: "}, nil
}

// post returns the answer's body, valid until the next call. The answer must say its length.
func (c *caller) post(body []byte) (status int, answer []byte, err error) {
	c.out = append(strconv.AppendInt(append(c.out[:0], c.head...), int64(len(body)), 10), "\r\n\r\n"...)
	if _, err := c.conn.Write(append(c.out, body...)); err != nil {
		return 0, nil, err
	}
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return status, nil, err
		}
		switch text := strings.TrimRight(string(line), "\r\n"); {
		case text == "":
			if status == 0 || length < 0 {
				return status, nil, fmt.Errorf("an answer of status %d and length %d", status, length)
			}
			c.answer = slices.Grow(c.answer[:0], length)[:length]
			_, err := io.ReadFull(c.in, c.answer)
			return status, c.answer, err
		case status == 0:
			status, err = strconv.Atoi(strings.Fields(text + " 0 0")[1])
		case strings.HasPrefix(text, "Content-Length: "):
			length, err = strconv.Atoi(text[len("Content-Length: "):])
		}
		if err != nil {
			return status, nil, err
		}
	}
}

// load posts b.N bodies from all callers and reports the rate, the latencies and the processors' time, that of the callers
// included; answers go to seen, from many goroutines.
func load(b *testing.B, address, path, secret string, body func(n int64) []byte, seen func([]byte)) {
	b.Helper()
	callers := make([]*caller, *benchCallers)
	for i := range callers {
		var err error
		callers[i], err = newCaller(address, path, secret)
		must(b, err)
		defer callers[i].conn.Close()
	}
	bodies := make([][]byte, b.N)
	for n := range bodies {
		bodies[n] = body(int64(n))
	}
	latencies := make([]time.Duration, b.N)
	var next atomic.Int64
	var work sync.WaitGroup
	b.ReportAllocs()
	watching, unwatch := context.WithCancel(b.Context())
	var watch sync.WaitGroup
	watch.Go(func() { watchMemory(watching, b, &next) })
	defer watch.Wait()
	defer unwatch()
	before := embeddedtest.Used()
	if *benchProfile != "" && b.N > 1 {
		f, err := os.Create(*benchProfile)
		must(b, err)
		defer f.Close()
		must(b, pprof.StartCPUProfile(f))
		defer pprof.StopCPUProfile()
	}
	b.ResetTimer()
	for _, c := range callers {
		work.Go(func() {
			for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
				started := time.Now()
				status, answer, err := c.post(bodies[n])
				latencies[n] = time.Since(started)
				if err != nil || status != http.StatusOK {
					b.Errorf("%d %s %v", status, answer, err)
					return
				}
				seen(answer)
			}
		})
	}
	work.Wait()
	b.StopTimer()
	before.Report(b)
	slices.Sort(latencies)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(ms(latencies[b.N/2]), "p50-ms")
	b.ReportMetric(ms(latencies[b.N*99/100]), "p99-ms")
}

// watchMemory prints what is in memory every 20 s.
func watchMemory(ctx context.Context, b *testing.B, answers *atomic.Int64) {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		status, _ := os.ReadFile("/proc/self/statm")
		pages, _ := strconv.Atoi(strings.Fields(string(status) + " 0 0")[1])
		b.Logf("after %7d answers: %4d MB resident, %4d MB of them live heap", answers.Load(), pages*os.Getpagesize()>>20, live[0].Value.Uint64()>>20)
	}
}

// BenchmarkScore is the whole way of a durable decision: HTTP, key, history, the model's 200 trees, explanation, policy, ledger,
// with many callers and the delivery to ClickHouse beside it. Warm: customers and payments are in memory. Cold: none is. Empty is
// an Echo handler that reads a request and answers as much, by the same callers.
func BenchmarkScore(b *testing.B) {
	w, err := theBenchWorld()
	must(b, err)
	parent := b
	for _, way := range []struct {
		name            string
		cache           int64
		payments, dryly int // dryly: of the payments are asked for before
	}{{"warm", 256 << 20, 24_000, 24_000}, {"cold", 1, 1 << 30, 0}} {
		pool := &benchWorld{w.history, w.model, w.payments[:min(way.payments, len(w.payments))]}
		start := sync.OnceValues(func() (address, secret string) {
			address, secret = benchServer(parent, pool, way.cache)
			pool.warmUp(parent, address, secret, way.dryly)
			return address, secret
		})
		b.Run(way.name, func(b *testing.B) {
			address, secret := start()
			var verdicts [3]atomic.Int64
			load(b, address, "/v1/score", secret, pool.request, func(answer []byte) {
				for i, verdict := range []string{"approve", "review", "deny"} {
					if bytes.Contains(answer, []byte(`"decision":"`+verdict)) {
						verdicts[i].Add(1)
					}
				}
				if bytes.Contains(answer, []byte(`"degraded":true`)) || bytes.Contains(answer, []byte("history_stale")) {
					b.Errorf("degraded: %s", answer)
				}
			})
			b.ReportMetric(100*float64(verdicts[0].Load())/float64(b.N), "%approved")
			b.ReportMetric(100*float64(verdicts[1].Load())/float64(b.N), "%reviewed")
		})
	}
	b.Run("empty", func(b *testing.B) {
		e := echo.New()
		answer := []byte(strings.Repeat("x", 2500))
		e.POST("/v1/score", func(c echo.Context) error {
			if _, err := io.ReadAll(c.Request().Body); err != nil {
				return err
			}
			c.Response().Header().Set("Content-Length", strconv.Itoa(len(answer)))
			return c.Blob(http.StatusOK, "application/json", answer)
		})
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(b, err)
		server := &http.Server{Handler: e}
		var work sync.WaitGroup
		work.Go(func() { _ = server.Serve(listener) })
		defer work.Wait()
		defer server.Close()
		load(b, listener.Addr().String(), "/v1/score", "none", w.request, func([]byte) {})
	})
}

// warmUp asks for the first n payments without recording anything.
func (w *benchWorld) warmUp(b *testing.B, address, secret string, n int) {
	var next atomic.Int64
	var work sync.WaitGroup
	for range *benchCallers {
		work.Go(func() {
			c, err := newCaller(address, "/v1/score?dry_run=true", secret)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.conn.Close()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if status, answer, err := c.post(w.request(i)); err != nil || status != http.StatusOK {
					b.Errorf("%d %s %v", status, answer, err)
					return
				}
			}
		})
	}
	work.Wait()
}
