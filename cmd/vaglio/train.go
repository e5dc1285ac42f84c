package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/training"
	"vaglio/training/lightgbm"
)

func newTrain() *cobra.Command {
	var w wiring
	var t trainFlags
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a model on labelled history and write it as a bundle",
		Long: "Train a model on the labelled requests of one period, judge it on those of a later one, and write it as a bundle.\n" +
			"Wants --from, --until, --test-from and --test-until. Ctrl-C while trees grow leaves a model of those that there are, and while\n" +
			"parameters are tuned the trials, from which the same command goes on; before that it leaves nothing.",
		Example: "  vaglio train --from 2025-11-01 --until 2026-07-01 --test-from 2026-07-01 --test-until 2026-10-01 --promote\n" +
			"  vaglio train … --params params.yaml --tune 40 --folds 4",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			holdMatrix()
			o, err := t.options(cmd)
			if err != nil {
				return err
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			if o.History, err = in.joinHistory(cmd.Context()); err != nil {
				return err
			}
			return t.run(cmd, in, o)
		},
	}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	t.flags(cmd)
	return cmd
}

// trainFlags are the flags of train, and what they say.
type trainFlags struct {
	o                                        training.Options
	catalogue, params, maturity, gap, byRail string
	machines                                 []string
	rank                                     int
	promote, asJSON, refit, auto             bool
	promotion                                promotion
	costs, policy                            string
}

func (t *trainFlags) flags(cmd *cobra.Command) {
	f, o := cmd.Flags(), &t.o
	f.Var(instantFlag{&o.Train.From}, "from", "begin of the training period")
	f.Var(instantFlag{&o.Train.Until}, "until", "end of the training period, exclusive")
	f.Var(instantFlag{&o.Test.From}, "test-from", "begin of the test period")
	f.Var(instantFlag{&o.Test.Until}, "test-until", "end of the test period, exclusive")
	f.Var(instantFlag{&o.LabelsUntil}, "labels-until", "train with the labels known then (default: --until, as on the day of training)")
	maturityFlags(cmd, &t.maturity, &t.byRail)
	f.StringVar(&t.gap, "gap", "", "time between the requests that are fitted on and those that validate (default 30d, of a short period a tenth)")
	f.IntVar(&o.Folds, "folds", 0, "validate on so many later parts, each with a model of what came before (default: on the last fifth)")
	f.BoolVar(&t.refit, "refit", true, "after validation grow the model on all requests, the newest too; false keeps the one that was validated")
	f.BoolVar(&o.CustomerGuard, "customer-guard", false, "leave customers of the training requests out of validation and test")
	f.StringVar(&t.catalogue, "features", "", "feature catalogue (YAML; default: the embedded one, or that of --matrix)")
	f.BoolVar(&t.auto, "auto-features", false,
		"look for further features first, as features propose does, and train with those that pay (proposed.yaml in the bundle's folder)")
	f.StringSliceVar(&o.Matrix, "matrix", nil, "Parquet files of vaglio dataset to train on instead of a replay; they must cover both periods")
	f.StringVar(&t.params, "params", "", "LightGBM's parameters (YAML)")
	f.IntVar(&o.Rounds, "rounds", 0, "most rounds of boosting (default 500, stopped early)")
	f.IntVar(&o.Tune, "tune", 0, "try so many sets of the parameters that --params leaves open, and take the best")
	f.StringVar(&o.TuneFile, "tune-file", "", "file of the trials, to go on where it stopped (default: beside the bundle)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of LightGBM and of the trials")
	f.StringSliceVar(&t.machines, "machines", nil, "host:port of all machines that train together, in the same order on each")
	f.IntVar(&t.rank, "machine-rank", 0, "which of --machines this one is, from 0; the first writes the bundle")
	f.StringVar(&o.Dir, "out", "", "folder of the bundle (default: its version in the registry below --data)")
	f.StringVar(&o.Version, "version", "", "version of the model (default: the time of training)")
	f.BoolVar(&o.InversePropensity, "inverse-propensity", false, "let requests that exploration let through count for their like")
	f.BoolVar(&o.Finish.Report, "report", false, "write report.html into the bundle's folder")
	f.StringVar(&t.costs, "costs", "", "what mistakes cost (YAML): thresholds follow from it, and a recommended policy.yaml in the bundle's folder")
	f.StringVar(&t.policy, "policy", "", "policy in force: its segments, thresholds and rules (default: the published one, or else the default one)")
	f.BoolVar(&t.promote, "promote", false, "make the model champion, if the gate of models promote lets it pass")
	t.promotion.forceFlags(cmd)
	f.BoolVar(&t.asJSON, "json", false, "print the evaluation as JSON")
}

// options reads the files and texts that flags name.
func (t *trainFlags) options(cmd *cobra.Command) (training.Options, error) {
	o := t.o
	if o.Train.From == 0 || o.Train.Until == 0 || o.Test.From == 0 || o.Test.Until == 0 {
		return o, usagef("train wants --from, --until, --test-from and --test-until")
	}
	var err error
	if o.Maturity, o.RailMaturity, err = parseMaturity(t.maturity, t.byRail); err != nil {
		return o, err
	}
	if o.Gap, err = parseDays(t.gap); err != nil {
		return o, usagef("--gap: %v", err)
	}
	if t.gap != "" && o.Gap == 0 {
		o.Gap = -1
	}
	o.NoRefit = !t.refit
	if t.machines != nil {
		o.Network = &lightgbm.Network{Machines: t.machines, Self: t.rank}
	} else if cmd.Flags().Changed("machine-rank") {
		return o, usagef("--machine-rank wants --machines")
	}
	if t.auto && o.Matrix != nil {
		return o, usagef("--auto-features looks at history: it can't go with --matrix")
	}
	if t.catalogue != "" || o.Matrix == nil {
		if o.Catalogue, err = readCatalogue(t.catalogue); err != nil {
			return o, err
		}
	}
	if t.costs != "" {
		costs, err := readCosts(t.costs)
		if err != nil {
			return o, err
		}
		o.Finish.Costs = &costs
	}
	if err := t.promotion.check(); err != nil {
		return o, err
	}
	if t.params == "" {
		return o, nil
	}
	source, err := os.ReadFile(t.params)
	if err != nil {
		return o, fmt.Errorf("read LightGBM's parameters: %w", err)
	}
	if o.Params, err = training.ParseParams(cmd.Context(), source); err != nil {
		return o, fmt.Errorf("LightGBM's parameters %s: %w", t.params, err)
	}
	return o, nil
}

// maturityFlags are those of every command that labels requests.
func maturityFlags(cmd *cobra.Command, base, byRail *string) {
	maturityFlag(cmd, base)
	cmd.Flags().StringVar(byRail, "rail-maturity", "", "the same for rails on which payments come back late, such as card=90d; at least --maturity")
}

func maturityFlag(cmd *cobra.Command, base *string) {
	var rails []string
	for _, rail := range slices.Sorted(maps.Keys(training.DefaultRailMaturity)) {
		rails = append(rails, fmt.Sprintf("%dd on %s", training.DefaultRailMaturity[rail]/vaglio.Day, rail))
	}
	cmd.Flags().StringVar(base, "maturity", "", fmt.Sprintf("age from which a request without a label counts as clean (default %dd, %s)",
		training.DefaultMaturity/vaglio.Day, strings.Join(rails, ", ")))
}

// parseMaturity reads both; nothing given is 0 and nil, which package training has defaults for.
func parseMaturity(base, byRail string) (age vaglio.Instant, ofRails map[string]vaglio.Instant, err error) {
	if age, err = parseDays(base); err != nil {
		return 0, nil, usagef("--maturity: %v", err)
	}
	if ofRails, err = parseRails(byRail); err != nil {
		return 0, nil, usagef("--rail-maturity: %v", err)
	}
	return age, ofRails, nil
}

// parseRails reads card=90d,direct_debit=90d.
func parseRails(text string) (map[string]vaglio.Instant, error) {
	if text == "" {
		return nil, nil
	}
	byRail := map[string]vaglio.Instant{}
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		rail, days, ok := strings.Cut(part, "=")
		age, err := parseDays(days)
		if !ok || days == "" || err != nil || !slices.Contains(vaglio.Rails, rail) {
			return nil, fmt.Errorf("want rails (%s) with days such as card=90d, not %q", strings.Join(vaglio.Rails, ", "), part)
		}
		byRail[rail] = age
	}
	return byRail, nil
}

// holdMatrix sets the collector for a process whose heap is mostly a matrix that stays: its usual room for as much again is
// more than is needed.
func holdMatrix() { debug.SetGCPercent(50) }

// run trains into the registry, or into o.Dir, prints the evaluation and promotes. o.History is open.
func (t *trainFlags) run(cmd *cobra.Command, in *installation, o training.Options) error {
	registry, err := in.registry()
	if err != nil {
		return err
	}
	if o.Version == "" {
		o.Version = time.Now().UTC().Format("20060102-150405")
	}
	inRegistry, err := registry.Dir(o.Version)
	if err != nil {
		return err
	}
	if o.Dir == "" {
		o.Dir = inRegistry
	}
	if err := t.finish(cmd, in, &o); err != nil {
		return err
	}
	bar, took := newProgress(), laps{last: time.Now()}
	o.Progress = func(p training.Progress) {
		took.end(p.Step)
		if p.Step == "labels" {
			bar.end()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d requests have a settled label; %s\n", p.Done, p.Total, p.Note)
			return
		}
		bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note)
	}
	var proposed []byte
	if t.auto {
		if proposed, err = autoFeatures(cmd, &o, t.catalogue, o.Progress); err != nil {
			return err
		}
	}
	bundle, evaluation, err := training.Train(cmd.Context(), o)
	bar.end()
	took.end("write")
	if bundle != nil && proposed != nil {
		err = errors.Join(err, writeFile(filepath.Join(o.Dir, "proposed.yaml"), func(out io.Writer) error { _, err := out.Write(proposed); return err }))
	}
	switch {
	case bundle != nil:
	case err == nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "trained; the bundle is on the first machine, %s\n", o.Network.Machines[0])
		return nil
	case cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted before there was a model: %w", err)
	default:
		return err
	}
	manifest := bundle.Manifest()
	for _, f := range manifest.Folds {
		fmt.Fprintf(cmd.ErrOrStderr(), "validated on %d requests from %v: average precision %.4f, ROC AUC %.4f, best round %d\n",
			f.Validation.Rows, f.Validation.From, f.Metrics["average_precision"], f.Metrics["auc"], f.BestIteration)
	}
	if mean, several := manifest.Metrics["average_precision_folds_mean"]; several {
		fmt.Fprintf(cmd.ErrOrStderr(), "folds: average precision %.4f ± %.4f\n", mean, manifest.Metrics["average_precision_folds_sd"])
	}
	if printed := printEvaluation(cmd.OutOrStdout(), &evaluation, t.asJSON); err != nil || printed != nil {
		if err != nil && cmd.Context().Err() != nil && !manifest.Interrupted {
			err = fmt.Errorf("interrupted: the model is whole, what belongs beside it is not (`vaglio evaluate --model %s --report FILE` makes a report): %w",
				manifest.Version, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "model %s is in %s, and is not promoted\n", manifest.Version, o.Dir)
		return errors.Join(err, printed)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "model %s is in %s; it took %v\n", manifest.Version, o.Dir, &took)
	if !t.promote {
		return nil
	}
	if filepath.Clean(o.Dir) != filepath.Clean(inRegistry) {
		if err := models.Copy(inRegistry, o.Dir); err != nil {
			return err
		}
	}
	p := t.promotion
	p.Version, p.stage, p.actor = o.Version, models.Champion, actorCommand
	return in.promote(cmd, p, t.policy, o.History)
}

// laps adds up the time that steps took.
type laps struct {
	last  time.Time
	steps []string
	took  []time.Duration
}

// end counts the time since the last call for a step.
func (l *laps) end(step string) {
	now := time.Now()
	at := slices.Index(l.steps, step)
	if at < 0 {
		at = len(l.steps)
		l.steps, l.took = append(l.steps, step), append(l.took, 0)
	}
	l.took[at] += now.Sub(l.last)
	l.last = now
}

// String is "replay 1m2s, validate 40s" and so on, in the order in which steps ended first; those below a tenth of a second are left out.
func (l *laps) String() string {
	var parts []string
	for i, step := range l.steps {
		if took := l.took[i].Round(100 * time.Millisecond); took > 0 {
			parts = append(parts, fmt.Sprint(step, " ", took))
		}
	}
	return strings.Join(parts, ", ")
}

// finish fills in what a report and thresholds from money look at besides.
func (t *trainFlags) finish(cmd *cobra.Command, in *installation, o *training.Options) (err error) {
	if !o.Finish.Report && o.Finish.Costs == nil {
		return nil
	}
	l, err := in.openLedger(cmd.Context())
	if err != nil {
		return err
	}
	if o.Finish.Policy, err = policyInForce(cmd.Context(), l, t.policy); err != nil || !o.Finish.Report {
		return err
	}
	o.Finish.Champion, err = in.openOpponent(string(models.Champion))
	return err
}

// parseDays reads 30d.
func parseDays(s string) (vaglio.Instant, error) {
	if s == "" {
		return 0, nil
	}
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); n != 1 || err != nil || fmt.Sprintf("%dd", days) != s || days < 0 || days > 3650 {
		return 0, fmt.Errorf("want a number of days such as 30d, not %q", s)
	}
	return vaglio.Instant(days) * vaglio.Day, nil
}

func readCatalogue(path string) (*features.Catalogue, error) {
	if path == "" {
		return features.Default(), nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	catalogue, err := features.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue %s: %w", path, err)
	}
	return catalogue, nil
}
