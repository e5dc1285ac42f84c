package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/training"
)

// retraining are the flags of a retraining.
type retraining struct {
	wiring
	train                trainFlags
	every, window, tests string
	stage, share         string
	asOf                 vaglio.Instant // 0: now
	once                 bool
}

func newRetrain() *cobra.Command {
	var r retraining
	cmd := &cobra.Command{
		Use:   "retrain",
		Short: "Train on the newest history, hold the model against the champion, and make it challenger at most",
		Long: "Train on a window of the newest history, hold the model against the champion, and make it challenger, or shadow: never champion.\n" +
			"Without --once it goes on and trains when the newest model is older than --every. Only one runs on a registry at a time.",
		Example: "  vaglio retrain --once --stage challenger --share 5%      # from cron\n" +
			"  vaglio retrain --every 7d --stage shadow",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	r.flags(cmd)
	return cmd
}

func (r *retraining) flags(cmd *cobra.Command) {
	r.historyFlags(cmd)
	r.ledgerFlags(cmd)
	f, o := cmd.Flags(), &r.train.o
	f.StringVar(&r.every, "every", "7d", "train when the newest model that a retraining made is so old")
	f.BoolVar(&r.once, "once", false, "train now, once")
	f.Var(instantFlag{&r.asOf}, "as-of", "choose the periods as on this day (default: now)")
	f.StringVar(&r.window, "window", "365d", "train on so many days before the test period")
	f.StringVar(&r.tests, "test", "30d", "test on so many days, the newest ones whose labels are settled")
	maturityFlags(cmd, &r.train.maturity, &r.train.byRail)
	f.StringVar(&r.train.gap, "gap", "30d", "time between the requests that are fitted on and those that validate")
	f.StringVar(&r.train.catalogue, "features", "", "feature catalogue (YAML; default: the champion's, or else the embedded one)")
	f.StringVar(&r.train.params, "params", "", "LightGBM's parameters (YAML)")
	f.IntVar(&o.Rounds, "rounds", 0, "most rounds of boosting (default 500, stopped early)")
	f.IntVar(&o.Folds, "folds", 0, "validate on so many later parts")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of LightGBM")
	f.BoolVar(&o.InversePropensity, "inverse-propensity", false, "let requests that exploration let through count for their like")
	f.StringVar(&r.train.costs, "costs", "", "what mistakes cost (YAML): thresholds follow from it")
	f.StringVar(&r.train.policy, "policy", "", "policy in force (default: the published one, or else the default one)")
	f.StringVar(&r.stage, "stage", string(models.Challenger), "what a model that passes becomes: challenger, shadow, or none")
	f.StringVar(&r.share, "share", "0%", "of customers for whom the challenger decides; 0% only watches")
}

// actorRetrain is who did it, in the audit log.
const actorRetrain = "retrain"

// madeByRetrain marks the versions that a retraining made.
const madeByRetrain = "auto-"

// longestWait bounds how long the clock is not looked at: it may be set.
const longestWait = time.Hour

func (r *retraining) run(cmd *cobra.Command) (err error) {
	every, err := parseDays(r.every)
	if err == nil && every == 0 && !r.once {
		err = errors.New("want 1d or more")
	}
	if err != nil {
		return usagef("--every: %v", err)
	}
	if stage := models.Stage(r.stage); stage != models.Challenger && stage != models.Shadow && r.stage != "none" {
		return usagef("--stage %s: a retraining makes a challenger, a shadow, or none; `vaglio models promote` makes a champion", r.stage)
	}
	if _, err := parseShare(r.share); err != nil {
		return usagef("--share: %v", err)
	}
	in, err := newInstallation(cmd, r.wiring)
	if err != nil {
		return err
	}
	registry, err := in.registry()
	if err != nil {
		return err
	}
	if _, err := r.options(cmd, in, vaglio.InstantOf(time.Now())); err != nil {
		return err
	}
	unlock, err := lockRetraining(in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for !r.once {
		next, err := nextRetraining(registry, every)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "the next training is at %s\n", next)
		if waitUntil(cmd.Context(), next) != nil {
			return nil
		}
		if err := r.round(cmd, registry); err != nil {
			if cmd.Context().Err() != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "retraining: %v; it is tried again in %v\n", err, longestWait)
			if waitUntil(cmd.Context(), vaglio.InstantOf(time.Now().Add(longestWait))) != nil {
				return nil
			}
		}
	}
	return r.round(cmd, registry)
}

// lockRetraining keeps a second retraining away from a registry.
func lockRetraining(in *installation) (unlock func() error, err error) {
	lock := flock.New(filepath.Join(in.data, "models", ".retrain.lock"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the retraining: %w", err)
	}
	if !held {
		return nil, errors.New("another retraining runs on this registry")
	}
	return lock.Unlock, nil
}

// nextRetraining is when the newest model that a retraining made becomes too old; without one it is now.
func nextRetraining(registry *models.Registry, every vaglio.Instant) (vaglio.Instant, error) {
	entries, err := registry.List()
	if err != nil {
		return 0, err
	}
	next := vaglio.InstantOf(time.Now())
	newest := vaglio.Instant(0)
	for _, e := range entries {
		if strings.HasPrefix(e.Version, madeByRetrain) {
			newest = max(newest, e.Manifest.CreatedAt)
		}
	}
	return max(next, newest+every), nil
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

// round trains once, gates, promotes to what --stage says, and notes what it did. History is its own only as long as it lasts:
// a server may start in between.
func (r *retraining) round(cmd *cobra.Command, registry *models.Registry) (err error) {
	in, err := newInstallation(cmd, r.wiring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	now := vaglio.InstantOf(time.Now())
	version := madeByRetrain + now.Time().UTC().Format("20060102-150405")
	done := retrained{}
	defer func() {
		if err != nil {
			done.Error = err.Error()
		}
		l, opened := in.openLedger(context.WithoutCancel(cmd.Context()))
		if opened == nil {
			opened = noteModel(context.WithoutCancel(cmd.Context()), l, actorRetrain, "model.retrained", version, done)
		}
		err = errors.Join(err, opened)
	}()
	o, err := r.options(cmd, in, now)
	if err != nil {
		return err
	}
	done.From, done.Until, done.TestFrom, done.TestUntil = o.Train.From, o.Train.Until, o.Test.From, o.Test.Until
	fmt.Fprintf(cmd.ErrOrStderr(), "retraining: %s to %s, tested on %s to %s\n", day(o.Train.From), day(o.Train.Until), day(o.Test.From), day(o.Test.Until))
	store, err := in.joinHistory(cmd.Context())
	if err != nil {
		return err
	}
	o.History, o.Version = store, version
	t := r.train
	if err := t.run(cmd, in, o); err != nil {
		return err
	}
	return r.promote(cmd, in, registry, version, &done, o)
}

// retrained is what a retraining did, for the audit log.
type retrained struct {
	From      vaglio.Instant `json:"from,omitzero"`
	Until     vaglio.Instant `json:"until,omitzero"`
	TestFrom  vaglio.Instant `json:"test_from,omitzero"`
	TestUntil vaglio.Instant `json:"test_until,omitzero"`
	Stage     string         `json:"stage,omitzero"` // that it was promoted to; "": none
	Against   []string       `json:"against,omitempty"`
	Found     string         `json:"found,omitzero"` // beside the champion
	Error     string         `json:"error,omitzero"`
}

// options are the rolling windows: the test are the newest days whose labels are settled, the training what lies before.
func (r *retraining) options(cmd *cobra.Command, in *installation, now vaglio.Instant) (training.Options, error) {
	window, err := parseDays(r.window)
	if err == nil && window == 0 {
		err = errors.New("want 1d or more")
	}
	if err != nil {
		return training.Options{}, usagef("--window: %v", err)
	}
	tests, err := parseDays(r.tests)
	if err == nil && tests == 0 {
		err = errors.New("want 1d or more")
	}
	if err != nil {
		return training.Options{}, usagef("--test: %v", err)
	}
	maturity, err := parseDays(r.train.maturity)
	if err != nil {
		return training.Options{}, usagef("--maturity: %v", err)
	}
	t := r.train
	t.refit = true
	t.o.Test.Until = cmp.Or(r.asOf, now)/vaglio.Day*vaglio.Day - cmp.Or(maturity, training.DefaultMaturity)
	t.o.Test.From = t.o.Test.Until - tests
	t.o.Train = training.Period{From: t.o.Test.From - window, Until: t.o.Test.From}
	t.o.Finish.Report = true
	o, err := t.options(cmd)
	if err != nil || t.catalogue != "" {
		return o, err
	}
	champion, err := in.openOpponent(string(models.Champion))
	if champion != nil {
		o.Catalogue, err = catalogueOf(champion)
	}
	return o, err
}

// catalogueOf is what a model was trained with. Categories that the embedded catalogue leaves open are open again.
func catalogueOf(b *models.Bundle) (*features.Catalogue, error) {
	own, embedded := b.Catalogue(), features.Default()
	learnt := map[int][]string{}
	for _, i := range embedded.OpenCategories() {
		if i < len(own.Features()) {
			learnt[i] = own.Features()[i].Categories
		}
	}
	closed, err := embedded.WithCategories(learnt)
	if err != nil { // the champion's features are others
		return own, nil //nolint:nilerr // then there is nothing to open
	}
	a, err := own.YAML()
	if err != nil {
		return nil, err
	}
	if b, err := closed.YAML(); err != nil || string(a) != string(b) {
		return own, err
	}
	return embedded, nil
}

// promote gates a model as if it were to be champion, and makes it what --stage says: never champion.
func (r *retraining) promote(cmd *cobra.Command, in *installation, registry *models.Registry, version string, done *retrained, o training.Options) error {
	l, err := in.openLedger(cmd.Context())
	if err != nil {
		return err
	}
	judged := promotion{Promotion: models.Promotion{Version: version}, stage: models.Champion, actor: actorRetrain}
	gated, err := in.gate(cmd, registry, l, judged, r.train.policy, o.History)
	if err != nil {
		return err
	}
	for _, against := range gated.Against {
		done.Against = append(done.Against, against.Error())
	}
	if gated.Champion != "" && gated.Requests > 0 {
		done.Found = gatedText(&gated)
		fmt.Fprintln(cmd.ErrOrStderr(), done.Found)
	}
	out := cmd.OutOrStdout()
	switch {
	case len(gated.Against) > 0:
		fmt.Fprintf(out, "model %s is promoted to nothing: %v\n", version, errors.Join(gated.Against...))
		return nil
	case r.stage == "none":
		fmt.Fprintf(out, "model %s passed the gate; `vaglio models promote %s` makes it champion\n", version, version)
		return nil
	}
	share, err := parseShare(r.share)
	if err != nil {
		return usagef("--share: %v", err)
	}
	stage := models.Stage(r.stage)
	if stage != models.Challenger {
		share = 0
	}
	if err := registry.Promote(stage, models.Promotion{Version: version, At: vaglio.InstantOf(time.Now()), Share: share}); err != nil {
		return err
	}
	done.Stage = r.stage
	fmt.Fprintf(out, "model %s is %s; `vaglio models promote %s` makes it champion\n", version, stage, version)
	return nil
}

// keepRetraining runs a retraining in a process of its own whenever the newest model is older than every, until ctx ends. It
// goes along with the server's history and ledger, and gives way to it on the processors.
func keepRetraining(ctx context.Context, in *installation, every vaglio.Instant) {
	registry, err := in.registry()
	for err == nil {
		var next vaglio.Instant
		if next, err = nextRetraining(registry, every); err != nil || waitUntil(ctx, next) != nil {
			break
		}
		if failure := retrainBeside(ctx, in); ctx.Err() == nil && failure != nil {
			in.log.Error("retraining failed, and is tried again in an hour", "error", failure)
			if waitUntil(ctx, vaglio.InstantOf(time.Now().Add(longestWait))) != nil {
				break
			}
		}
	}
	if err != nil {
		in.log.Error("there will be no retraining", "error", err)
	}
}

func retrainBeside(ctx context.Context, in *installation) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	child := exec.CommandContext(ctx, self, "retrain", "--once")
	child.Env = append(os.Environ(), "VAGLIO_DATA="+in.data)
	for name, value := range map[string]string{"clickhouse": in.wiring.clickhouse, "cluster": in.wiring.cluster, "ledger": in.wiring.ledger,
		"base-currency": in.wiring.baseCurrency} {
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
