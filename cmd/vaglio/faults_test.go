package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"vaglio"
)

// A file that may not grow is a full disk, once the signal that comes with it is ignored.
func init() {
	if os.Getenv(asMain) != "" {
		signal.Ignore(syscall.SIGXFSZ)
	}
}

// newID is an id that no run of a test has used before.
func newID() string { return "rr_" + ulid.Make().String() }

// signalChildren sends a signal to the processes that a server has started.
func (s *server) signalChildren(sig syscall.Signal) {
	s.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.process.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	sent := 0
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			pid, err := strconv.Atoi(child)
			if err != nil || syscall.Kill(pid, sig) != nil {
				s.t.Fatalf("signal %s: %v", child, err)
			}
			sent++
		}
	}
	if sent == 0 {
		s.t.Fatal("the server has no ClickHouse")
	}
}

// metric is the value of a gauge without labels.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	status, body := s.do("GET", "/metrics", "")
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
	if status != http.StatusOK || found == nil {
		s.t.Fatalf("%s is not in the answer: %d %s", name, status, body)
	}
	v, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func TestWithAClickHouseThatSaysNothingDecisionsAreReviewsInTimeAndArriveLater(t *testing.T) {
	s := serve(t, installed(t), "--budget", "80ms")
	s.signalChildren(syscall.SIGSTOP)
	r := refundOf(t, newID(), 5)
	started := time.Now()
	d, first := s.score("", &r)
	if d.Verdict != vaglio.Review || !d.Degraded || len(d.DegradedReasons) != 1 || d.DegradedReasons[0] != "history_unavailable" {
		t.Errorf("with a ClickHouse that says nothing: %s", first)
	}
	if took := time.Since(started); took > 30*time.Second { // the driver waits for minutes
		t.Errorf("it took %v", took)
	}
	if n := s.metric("vaglio_outbox_events"); n < 1 {
		t.Errorf("%v events wait", n)
	}
	if status, body := s.do("GET", "/readyz", ""); status != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("history")) {
		t.Errorf("ready: %d %s", status, body)
	}
	s.signalChildren(syscall.SIGKILL)
	s.untilReady()
	for deadline := time.Now().Add(3 * time.Minute); s.metric("vaglio_outbox_events") > 0 || s.metric("vaglio_outbox_decisions") > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the outbox is not delivered:\n%s", s.log)
		}
	}
	if _, again := s.score("", &r); !bytes.Equal(again, first) {
		t.Errorf("later it is %s, want %s", again, first)
	}
}

func TestAFullDiskIsAnswered503AndNothingIsLost(t *testing.T) {
	data := installed(t)
	s := serve(t, data)
	before := refundOf(t, newID(), 6)
	_, first := s.score("", &before)
	var usual unix.Rlimit
	limit := func(to *unix.Rlimit, was *unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(s.process.Process.Pid, unix.RLIMIT_FSIZE, to, was); err != nil {
			t.Fatal(err)
		}
	}
	limit(nil, &usual)
	limit(&unix.Rlimit{Cur: 4096, Max: usual.Max}, nil)
	bodies := map[string]string{}
	for i := range 5 {
		r := refundOf(t, newID(), 7+i)
		body, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		bodies[r.ID] = string(body)
		status, answer := s.do("POST", "/v1/score", string(body))
		if status != http.StatusServiceUnavailable || !bytes.Contains(answer, []byte("/problems/not-ready")) {
			t.Errorf("with a full disk: %d %s", status, answer)
		}
		if status, answer := s.do("GET", "/v1/decisions/"+r.ID, ""); status != http.StatusNotFound {
			t.Errorf("what was refused: %d %s", status, answer)
		}
	}
	if status, answer := s.do("GET", "/v1/decisions/"+before.ID, ""); status != http.StatusOK || !bytes.Equal(answer, first) {
		t.Errorf("what was decided before: %d %s", status, answer)
	}
	limit(&usual, nil)
	for id, body := range bodies {
		if status, answer := s.do("POST", "/v1/score", body); status != http.StatusOK {
			t.Errorf("%s, when there is room again: %d %s", id, status, answer)
		}
	}
	if _, again := s.score("", &before); !bytes.Equal(again, first) {
		t.Errorf("the decision from before is %s, want %s", again, first)
	}
	s.stop()
	mustRun(t, "audit", "verify", "--data", data)
}
