package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
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
	if r.once {
		return r.round(cmd, registry)
	}
	train := func(context.Context) error { return r.round(cmd, registry) }
	return retrainWhenDue(cmd.Context(), registry, every, train, func(next vaglio.Instant, failure error) {
		if failure != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "retraining: %v\n", failure)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "the next training is at %s\n", next)
	})
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
