package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vaglio"
	"vaglio/history/embedded"
	"vaglio/models"
)

// The clock is that of testing/synctest: days pass as soon as everybody waits for them.
func TestARetrainingThatFailsIsRepeatedMoreAndMoreSeldom(t *testing.T) {
	registry, err := models.OpenRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var began []time.Time
		failures := 0
		train := func(context.Context) error {
			if began = append(began, time.Now()); len(began) == 9 {
				cancel()
			}
			return errors.New("no labels")
		}
		err := retrainWhenDue(ctx, registry, 3*vaglio.Day, train, func(next vaglio.Instant, failure error) {
			if failure != nil {
				failures++
			}
			if next != vaglio.InstantOf(time.Now()) && failure == nil {
				t.Errorf("without a model the first is due at %v, it is %v", next, time.Now())
			}
		})
		if err == nil || err.Error() != "no labels" || failures != 8 {
			t.Errorf("ended with %v after %d failures", err, failures)
		}
		var pauses []int
		for i := range began[1:] {
			pauses = append(pauses, int(began[i+1].Sub(began[i]).Round(time.Minute).Hours()))
		}
		if want := []int{1, 2, 4, 8, 16, 32, 64, 72}; !slices.Equal(pauses, want) {
			t.Errorf("pauses of %v hours, want %v", pauses, want)
		}
	})
}

// besides is a data folder with a champion that is easily beaten, and how a server on it reaches the shared history.
func besides(t *testing.T) (data string, flags []string) {
	t.Helper()
	from := installed(t)
	serve(t, from)
	dsn, running := embedded.Running(filepath.Join(from, "clickhouse"))
	if !running {
		t.Fatal("nobody says how to reach the shared history")
	}
	data = t.TempDir()
	mustRun(t, "train", "--data", data, "--clickhouse", dsn, "--from", "2025-09-01", "--until", "2026-01-01",
		"--test-from", "2026-01-01", "--test-until", "2026-02-01",
		"--rounds", "1", "--version", "first", "--promote")
	return data, []string{"--clickhouse", dsn}
}

// A server whose newest model of a retraining is too old, or missing, trains at once. Its settings name the day on which it trains.
func TestAServerRetrainsBesideItsWork(t *testing.T) {
	data, flags := besides(t)
	settings := configFile(t, "retrain:\n  as-of: 2026-06-01\n  rounds: 40\n  test: 60d\n")
	flags = append(flags, "--config", settings, "--retrain-every", "7d")
	decides := func(s *server) {
		t.Helper()
		r := refundOf(t, newID(), 40)
		if d, answer := s.score("?dry_run=true", &r); d.Degraded || d.FraudProbability == nil {
			t.Errorf("meanwhile it decides: %s", answer)
		}
	}
	history := func() string { return mustRun(t, "audit", "log", "--data", data) }

	s := serve(t, data, flags...)
	pid, err := strconv.Atoi(s.untilSaid(`msg="retraining begins" pid=(\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	to := func(process int, sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(process, sig); err != nil {
			t.Fatal(err)
		}
	}
	to(pid, syscall.SIGSTOP) // it must not be done before the server ends
	decides(s)
	to(s.process.Process.Pid, syscall.SIGTERM)
	untilToldToEnd(t, pid)
	to(pid, syscall.SIGCONT)
	_ = s.process.Wait() // a second signal would end it at once
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the retraining goes on without the server: %v", err)
	}
	if list := mustRun(t, "models", "list", "--data", data); strings.Contains(list, "challenger") {
		t.Errorf("the retraining that was ended promoted its model:\n%s", list)
	}

	s = serve(t, data, flags...)
	if said := s.untilSaid(`msg="retraining ended" said="(.*)"`); !strings.Contains(said, "is challenger; `vaglio models promote auto-") {
		t.Errorf("it said %s", said)
	}
	next, err := vaglio.ParseInstant(s.untilSaid(`(?s)retraining ended.*msg="next retraining" at=(\S+)`))
	if err != nil || next < vaglio.InstantOf(time.Now())+6*vaglio.Day {
		t.Errorf("just after a retraining the next one is due at %v, %v", next, err)
	}
	s.untilInUse(`"challenger":"auto-`)
	decides(s)
	list := mustRun(t, "models", "list", "--data", data)
	for _, want := range []string{`first +champion`, `auto-[0-9-]+ +challenger`} {
		if !regexp.MustCompile(want).MatchString(list) {
			t.Errorf("the list has no %q:\n%s", want, list)
		}
	}
	if said := history(); !strings.Contains(said, "model.retrained") {
		t.Errorf("the audit log has no retraining:\n%s", said)
	}
}

func TestAServerSurvivesARetrainingThatFails(t *testing.T) {
	data, flags := besides(t)
	settings := configFile(t, "retrain:\n  as-of: 2020-06-01\n")
	s := serve(t, data, append(flags, "--config", settings, "--retrain-every", "7d")...)
	if said := s.untilSaid(`msg="retraining failed" error="(.*)"`); !strings.Contains(said, "there are no requests in") {
		t.Errorf("it said %s", said)
	}
	next, err := vaglio.ParseInstant(s.untilSaid(`(?s)retraining failed.*msg="next retraining" at=(\S+)`))
	if now := vaglio.InstantOf(time.Now()); err != nil || next < now+50*vaglio.Minute || next > now+vaglio.Hour {
		t.Errorf("after a failure the next one is due at %v, %v", next, err)
	}
	r := refundOf(t, newID(), 41)
	if d, answer := s.score("?dry_run=true", &r); d.Degraded || d.FraudProbability == nil {
		t.Errorf("afterwards it decides: %s", answer)
	}
	if begun := strings.Count(s.log.String(), "retraining begins"); begun != 1 {
		t.Errorf("%d retrainings began", begun)
	}
	if said := mustRun(t, "audit", "log", "--data", data); !strings.Contains(said, "there are no requests in") {
		t.Errorf("the audit log does not say why:\n%s", said)
	}
}

// untilToldToEnd waits until SIGTERM waits for a process that is stopped.
func untilToldToEnd(t *testing.T, pid int) {
	t.Helper()
	pattern := regexp.MustCompile(`ShdPnd:\s+(\w+)`)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) { // in a minute the server kills it
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if pending, err := strconv.ParseUint(string(pattern.FindSubmatch(status)[1]), 16, 64); err == nil && pending&(1<<(syscall.SIGTERM-1)) != 0 {
			return
		}
	}
	t.Fatal("the server does not tell its retraining to end")
}

// untilSaid waits for a line of the log and returns the expression's group.
func (s *server) untilSaid(expression string) string {
	s.t.Helper()
	pattern := regexp.MustCompile(expression)
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if found := pattern.FindStringSubmatch(s.log.String()); found != nil {
			return found[1]
		}
	}
	s.t.Fatalf("the server did not say %s:\n%s", expression, s.log)
	return ""
}
