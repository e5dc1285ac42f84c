package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"vaglio"
	"vaglio/models"
)

// longestWait bounds how long the clock is not looked at: it may be set.
const longestWait = time.Hour

// shortestPause is the least time from the end of a retraining to the next one.
const shortestPause = vaglio.Hour

// retrainWhenDue trains whenever the newest model that a retraining made is older than every, until ctx ends: then it returns the error
// of a training that was ended with it. After a failure it pauses for an hour, twice as long after each further one, and never longer
// than every. say hears when the next training is, and what went wrong before.
func retrainWhenDue(ctx context.Context, registry *models.Registry, every vaglio.Instant, train func(context.Context) error,
	say func(next vaglio.Instant, failure error)) error {
	var failure error
	var pause vaglio.Instant
	for {
		next, err := nextRetraining(registry, every)
		next = max(next, vaglio.InstantOf(time.Now())+pause)
		say(next, errors.Join(failure, err))
		if waitUntil(ctx, next) != nil {
			return nil
		}
		if failure = train(ctx); ctx.Err() != nil {
			return failure
		}
		if failure == nil {
			pause = 0
		}
		pause = min(every, max(shortestPause, 2*pause))
	}
}

// nextRetraining is when the newest model that a retraining made becomes too old; without one it is now. One whose training was
// interrupted does not count.
func nextRetraining(registry *models.Registry, every vaglio.Instant) (vaglio.Instant, error) {
	now := vaglio.InstantOf(time.Now())
	entries, err := registry.List()
	if err != nil {
		return now, err
	}
	newest := vaglio.Instant(0)
	for _, e := range entries {
		if strings.HasPrefix(e.Version, madeByRetrain) && !e.Manifest.Interrupted {
			newest = max(newest, e.Manifest.CreatedAt)
		}
	}
	return max(now, newest+every), nil
}

func waitUntil(ctx context.Context, at vaglio.Instant) error {
	for wait := time.Until(at.Time()); wait > 0; wait = time.Until(at.Time()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(wait, longestWait)):
		}
	}
	return nil
}

// keepRetraining runs retrainings beside a server until ctx ends, each in a process of its own, which goes along with the server's
// history and ledger, and gives way to it on the processors.
func (s *serving) keepRetraining(ctx context.Context, in *installation, registry *models.Registry, every vaglio.Instant) {
	beside := func(ctx context.Context) error { return s.retrainBeside(ctx, in) }
	err := retrainWhenDue(ctx, registry, every, beside, func(next vaglio.Instant, failure error) {
		if failure != nil {
			in.log.Error("retraining failed", "error", failure)
		}
		in.log.Info("next retraining", "at", next.String())
	})
	if err != nil {
		in.log.Info("retraining ended with the server", "said", err.Error())
	}
}

// retrainBeside hands on what the server's own flags say; those of retrain come from the environment and the configuration file.
func (s *serving) retrainBeside(ctx context.Context, in *installation) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	child := exec.CommandContext(ctx, self, "retrain", "--once")
	child.Env = os.Environ()
	for name, value := range map[string]string{"data": in.data, "config": s.config, "policy": s.policy, "clickhouse": in.wiring.clickhouse,
		"cluster": in.wiring.cluster, "ledger": in.wiring.ledger, "base-currency": in.wiring.baseCurrency} {
		if value != "" {
			child.Env = append(child.Env, variableOf(name)+"="+value)
		}
	}
	said := &lastLines{}
	child.Stdout, child.Stderr = said, said
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.Cancel, child.WaitDelay = func() error { return child.Process.Signal(syscall.SIGTERM) }, time.Minute
	if err := child.Start(); err != nil {
		return fmt.Errorf("start %s retrain: %w", self, err)
	}
	const niceness = 10
	if err := syscall.Setpriority(syscall.PRIO_PGRP, child.Process.Pid, niceness); err != nil {
		in.log.Warn("the retraining has the server's own priority", "error", err)
	}
	in.log.Info("retraining begins", "pid", child.Process.Pid)
	if err := child.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	in.log.Info("retraining ended", "said", said.String())
	return nil
}

// lastLines keeps the end of what is written to it.
type lastLines struct{ text []byte }

func (l *lastLines) Write(p []byte) (int, error) {
	const most = 1000
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-most):]
	return len(p), nil
}

func (l *lastLines) String() string {
	lines := strings.Split(strings.TrimSpace(string(l.text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
