package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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
	"github.com/klauspost/compress/gzip"

	"vaglio"
	"vaglio/history/embedded"
	"vaglio/scoring"
	"vaglio/training/lightgbm"
)

// The tests run this very program as its users do, in processes of its own: the test binary is vaglio when asMain is set.
const asMain = "VAGLIO_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	embedded.Main()
	lightgbm.Main()
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	code := m.Run()
	os.RemoveAll(shared.dir)
	os.Exit(code)
}

func vaglioCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asMain+"=1")
	return cmd
}

// mustRun runs vaglio to its end and returns what it printed.
func mustRun(t testing.TB, args ...string) string {
	t.Helper()
	cmd := vaglioCommand(context.Background(), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("vaglio %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// shared is one installation with a simulated year and a champion, made once, by the commands alone.
var shared struct {
	once        sync.Once
	dir         string
	events      []vaglio.Event
	predictions map[string]string
}

const until = "2026-06-01"

func installed(t testing.TB) (data string) {
	t.Helper()
	shared.once.Do(func() {
		var err error
		if shared.dir, err = os.MkdirTemp("", "vaglio"); err != nil {
			t.Fatal(err)
		}
		in := func(name string) string { return filepath.Join(shared.dir, name) }
		mustRun(t, "simulate", "--customers", "2500", "--days", "365", "--seed", "7", "--until", until, "--request-share", "0.1", "--out", in("events.ndjson.gz"))
		mustRun(t, "import", "--data", in("data"), in("events.ndjson.gz"))
		mustRun(t, "train", "--data", in("data"), "--from", "2025-06-01", "--until", "2026-03-01", "--test-from", "2026-03-01", "--test-until", until,
			"--out", in("bundle"), "--version", "first", "--rounds", "60", "--promote")
		mustRun(t, "evaluate", "--data", in("data"), "--model", "first", "--from", "2026-03-01", "--until", until, "--predictions", in("predictions.csv"))
		shared.events, shared.predictions = readEvents(t, in("events.ndjson.gz")), readPredictions(t, in("predictions.csv"))
	})
	if shared.predictions == nil {
		t.Fatal("the shared installation could not be made")
	}
	return filepath.Join(shared.dir, "data")
}

func readEvents(t testing.TB, path string) []vaglio.Event {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var events []vaglio.Event
	for lines := bufio.NewScanner(plain); lines.Scan(); {
		e, err := vaglio.DecodeEvent(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func readPredictions(t testing.TB, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 100 || !slices.Equal(rows[0], []string{"request_id", "probability", "label"}) {
		t.Fatalf("%d rows of predictions, %v", len(rows), err)
	}
	predictions := map[string]string{}
	for _, row := range rows[1:] {
		predictions[row[0]] = row[1]
	}
	return predictions
}

// server is a running `vaglio serve`.
type server struct {
	t       testing.TB
	process *exec.Cmd
	url     string
	log     *logged
}

// logged is what a process says, to be read while it speaks.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// nextPort begins anywhere among the ports that the system gives to nobody who does not name them.
var nextPort = 26_000 + rand.IntN(5_000)

// freeAddress is one of this machine where nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		nextPort++
		listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", nextPort))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		return listener.Addr().String()
	}
}

func serve(t testing.TB, data string, args ...string) *server {
	t.Helper()
	address := freeAddress(t)
	s := &server{t: t, url: "http://" + address, log: &logged{}}
	s.process = vaglioCommand(context.Background(), append([]string{"serve", "--data", data, "--listen", address, "--budget", "20s"}, args...)...)
	s.process.Stderr = s.log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.untilReady()
	return s
}

func (s *server) untilReady() {
	s.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if response, err := http.Get(s.url + "/readyz"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
	s.t.Fatalf("vaglio serve is not ready after 5 minutes:\n%s", s.log)
}

func (s *server) stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
}

func (s *server) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

func (s *server) do(method, path, body string) (int, []byte) {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, answer
}

func (s *server) score(query string, r *vaglio.Request) (vaglio.Decision, []byte) {
	s.t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	status, answer := s.do("POST", "/v1/score"+query, string(body))
	if status != http.StatusOK {
		s.t.Fatalf("score: %d %s", status, answer)
	}
	d, err := vaglio.Decode[vaglio.Decision](answer)
	if err != nil {
		s.t.Fatalf("%v in %s", err, answer)
	}
	return d, answer
}

// refundOf asks a refund of a simulated payment that nobody has asked back.
func refundOf(t testing.TB, id string, nth int) vaglio.Request {
	t.Helper()
	asked := map[string]bool{}
	for i := range shared.events {
		if shared.events[i].Kind != vaglio.KindPayment {
			asked[shared.events[i].Entities.Get("payment")] = true
		}
	}
	for i := len(shared.events) - 1; i >= 0; i-- {
		e := &shared.events[i]
		if e.Kind == vaglio.KindPayment && !asked[e.Entities.Get("payment")] && e.Amount > 1000 {
			if nth--; nth < 0 {
				return vaglio.Request{ID: id, Type: "refund", Amount: e.Amount, Currency: e.Currency, Reason: "changed_mind",
					Entities: vaglio.FieldsOf("customer", e.Entities.Get("customer"), "payment", e.Entities.Get("payment"))}
			}
		}
	}
	t.Fatal("there is no payment left to ask back")
	return vaglio.Request{}
}

func TestADryRunAtAPastMomentGivesTheProbabilityOfTheEvaluation(t *testing.T) {
	s := serve(t, installed(t))
	compared := 0
	for i := range shared.events {
		e := &shared.events[i]
		want, evaluated := shared.predictions[e.ID]
		if !evaluated || compared == 40 {
			continue
		}
		compared++
		r := vaglio.RequestOf(e)
		d, _ := s.score("?dry_run=true&as_of="+e.OccurredAt.String(), &r)
		if d.FraudProbability == nil || strconv.FormatFloat(*d.FraudProbability, 'g', -1, 64) != want {
			t.Errorf("request %s: served %v, trained %s: the features differ", e.ID, d.FraudProbability, want)
		}
		if status, _ := s.do("GET", "/v1/decisions/"+e.ID, ""); !d.DryRun || status != http.StatusNotFound {
			t.Errorf("request %s: a dry run was recorded (%d)", e.ID, status)
		}
	}
	if compared != 40 {
		t.Errorf("compared %d requests", compared)
	}
}

func TestADecisionSurvivesKillsAndStaysTheSame(t *testing.T) {
	data := installed(t)
	s := serve(t, data)
	r := refundOf(t, "rr_killed", 0)
	first, want := s.score("", &r)
	if first.Degraded || first.FraudProbability == nil || first.RefundableAmount == nil || *first.RefundableAmount != r.Amount {
		t.Fatalf("the first decision is not a full one: %s", want)
	}
	s.kill()
	s = serve(t, data)
	if _, got := s.score("", &r); !bytes.Equal(got, want) {
		t.Errorf("after kill -9 of the server:\n%s\nwant\n%s", got, want)
	}
	killChildren(t, s.process.Process.Pid)
	if _, got := s.score("", &r); !bytes.Equal(got, want) {
		t.Errorf("after kill -9 of ClickHouse:\n%s\nwant\n%s", got, want)
	}
	s.untilReady()
	again := refundOf(t, "rr_after", 0)
	if d, body := s.score("", &again); d.Degraded || first.Verdict == vaglio.Approve && d.Verdict != vaglio.Deny {
		t.Errorf("a second refund of the whole payment after the restart: %s", body)
	}
	changed := r
	changed.Amount--
	body, err := json.Marshal(&changed)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.do("POST", "/v1/score", string(body)); status != http.StatusConflict || !bytes.Contains(answer, []byte("/amount")) {
		t.Errorf("the same id with another amount: %d %s", status, answer)
	}
}

// killChildren sends SIGKILL to the processes that another one has started.
func killChildren(t *testing.T, parent int) {
	t.Helper()
	killed := 0
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(child)
			if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
				t.Fatalf("kill %s: %v", child, err)
			}
			killed++
		}
	}
	if killed == 0 {
		t.Fatal("the server has no ClickHouse to kill")
	}
}

func TestARequestCountsForTheNextOneAtOnce(t *testing.T) {
	s := serve(t, installed(t))
	for i, want := range []string{"0", "1", "2"} {
		r := refundOf(t, fmt.Sprint("rr_burst_", i), 1)
		r.Amount = 100
		s.score("", &r)
		_, body := s.do("GET", "/v1/decisions/"+r.ID+"/explanation", "")
		x, err := vaglio.Decode[scoring.AuditorExplanation](body)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(x.Features, func(f scoring.FeatureInput) bool { return f.Name == "customer_requests_1h" })
		if got := fmt.Sprint(float64(x.Features[at].Value)); got != want {
			t.Errorf("request %d sees %s earlier requests in the hour, want %s", i, got, want)
		}
		if x.AdditivityError == nil || *x.AdditivityError > 1e-9 {
			t.Errorf("request %d: the contributions do not add up: %v", i, x.AdditivityError)
		}
	}
}

func TestNeverMoreIsApprovedThanWasCaptured(t *testing.T) {
	s := serve(t, installed(t))
	var mu sync.Mutex
	var work sync.WaitGroup
	approved, captured := int64(0), refundOf(t, "", 2).Amount
	for i := range 12 {
		work.Go(func() {
			r := refundOf(t, fmt.Sprint("rr_parallel_", i), 2)
			r.Amount = captured/3 + 1
			d, _ := s.score("", &r)
			mu.Lock()
			defer mu.Unlock()
			approved += d.ApprovedAmount
		})
	}
	work.Wait()
	if approved > captured {
		t.Errorf("approved %d of %d", approved, captured)
	}
	r := refundOf(t, "rr_too_much", 3)
	r.Amount = 2*r.Amount + 1
	if d, body := s.score("", &r); d.Verdict != vaglio.Deny || d.Rules[0].Name != "over_captured" {
		t.Errorf("twice the payment: %s", body)
	}
	r = refundOf(t, "rr_nowhere", 4)
	r.Entities = r.Entities.With("payment", "p_nowhere")
	if d, body := s.score("", &r); d.Verdict == vaglio.Approve || d.Rules[0].Name != "payment_unknown" {
		t.Errorf("an unknown payment: %s", body)
	}
}

func TestASecondServerOnTheSameFolderIsRefused(t *testing.T) {
	data := installed(t)
	serve(t, data)
	out, err := vaglioCommand(t.Context(), "serve", "--data", data, "--listen", "127.0.0.1:0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !bytes.Contains(out, []byte("in use")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWrongCallsEndWithTwoAndFailuresWithOne(t *testing.T) {
	empty := t.TempDir()
	check := func(wantCode int, wantText string, args ...string) {
		t.Helper()
		out, err := vaglioCommand(t.Context(), append(args, "--data", empty)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != wantCode || !strings.Contains(string(out), wantText) {
			t.Errorf("vaglio %s: %v: %s; want %d and %q", strings.Join(args, " "), err, out, wantCode, wantText)
		}
	}
	check(exitUsage, "unknown command", "nonsense")
	check(exitUsage, "unknown flag", "serve", "--nonsense")
	check(exitUsage, "--out", "simulate")
	check(exitUsage, "--from", "train")
	check(exitUsage, "neither an RFC 3339 time nor a date", "train", "--from", "yesterday")
	check(exitUsage, "customers", "simulate", "--customers", "-1", "--out", filepath.Join(empty, "x"))
	check(exitUsage, "takes 1 arguments", "features", "check")
	check(exitFailed, "no such file", "features", "check", filepath.Join(empty, "nowhere.yaml"))
	check(exitFailed, "no such file", "import", filepath.Join(empty, "nowhere.ndjson"))
	check(exitFailed, "without one the API is open", "serve", "--listen", "0.0.0.0:0")
	check(exitFailed, "want 1 to 64", "serve", "--model", "../escape", "--listen", "127.0.0.1:0")
}

func TestHelpShowsNoSecrets(t *testing.T) {
	cmd := vaglioCommand(t.Context(), "serve", "-h")
	cmd.Env = append(cmd.Env, "VAGLIO_CLICKHOUSE=clickhouse://user:hunter2@host:9000/db", "VAGLIO_BOOTSTRAP_KEY=hunter2hunter2hunter2")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("hunter2")) {
		t.Errorf("%v: %s", err, out)
	}
}
