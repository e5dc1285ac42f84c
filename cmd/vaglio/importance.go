package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/training"
)

// featureWork are the commands that tell what features are worth.
func featureWork() []*cobra.Command {
	return []*cobra.Command{newImportance(), newDrop(), newCorrelation(), newPropose()}
}

// overPeriod is what commands that replay a period share.
type overPeriod struct {
	wiring
	period training.Period
	seed   uint64
	asJSON bool
}

func (o *overPeriod) flags(cmd *cobra.Command) {
	o.historyFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&o.period.From}, "from", "begin of the period")
	f.Var(instantFlag{&o.period.Until}, "until", "end of the period, exclusive")
	o.otherFlags(cmd)
}

func (o *overPeriod) otherFlags(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of samples and trainings")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as JSON")
}

func (o *overPeriod) check(cmd *cobra.Command) error {
	if o.period.From == 0 || o.period.Until == 0 {
		return usagef("%s wants --from TIME and --until TIME", cmd.CommandPath())
	}
	return nil
}

// run opens what the work needs; the progress is shown until it is done.
func (o *overPeriod) run(cmd *cobra.Command, work func(in *installation, h *history.Store, progress func(training.Progress)) error) (err error) {
	holdMatrix()
	in, err := newInstallation(cmd, o.wiring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	store, err := in.joinHistory(cmd.Context())
	if err != nil {
		return err
	}
	bar := newProgress()
	defer bar.end()
	return work(in, store, func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) })
}

// show prints a result as JSON or by its own table.
func show[T any](o *overPeriod, w io.Writer, result T, plain func(io.Writer, T)) error {
	if o.asJSON {
		if err := json.MarshalWrite(w, result, jsontext.Multiline(true)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w)
		return err
	}
	plain(w, result)
	return nil
}

func newImportance() *cobra.Command {
	var o overPeriod
	var model string
	cmd := &cobra.Command{
		Use:     "importance",
		Short:   "Show what a model makes of each feature: contributions, gain, splits",
		Example: "  vaglio features importance --from 2026-03-01 --until 2026-06-01",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			var found training.Importance
			err := o.run(cmd, func(in *installation, h *history.Store, progress func(training.Progress)) error {
				bundle, err := in.openModel(model)
				if err != nil {
					return err
				}
				found, err = training.Importances(cmd.Context(), h, bundle, o.period, o.seed, progress)
				return err
			})
			if err != nil {
				return err
			}
			return show(&o, cmd.OutOrStdout(), found, showImportance)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&model, "model", "", "folder of a bundle, or version in the registry (default: the champion)")
	return cmd
}

func showImportance(w io.Writer, m training.Importance) {
	var rows [][]string
	for _, f := range m.Features {
		others, mark := percent(f.ShareOfOthers), ""
		if f.RecyclesPolicy {
			others, mark = "", "recycles past policy"
		}
		rows = append(rows, []string{f.Name, fmt.Sprintf("%.4f", f.MeanContribution), percent(f.Share), others,
			strconv.FormatFloat(f.Gain, 'f', 0, 64), strconv.Itoa(f.Splits), mark})
	}
	table(w, []string{"FEATURE", "MEAN |CONTRIBUTION|", "SHARE", "OF OTHERS", "GAIN", "SPLITS", ""}, rows, nil)
	fmt.Fprintf(w, "\nmean over %d of %d requests (seed %d), in log-odds; %s of it is recycled policy: made of denials and labels\n",
		m.Rows, m.SampleOf, m.Seed, percent(m.RecycledShare))
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

func newDrop() *cobra.Command {
	var o overPeriod
	var d training.DropOptions
	var labelsUntil vaglio.Instant
	var model, maturity string
	var only []string
	cmd := &cobra.Command{
		Use:     "drop",
		Short:   "Train without each feature, and each group of correlated ones, and compare",
		Example: "  vaglio features drop --model 20260601-120000",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := parseDays(maturity)
			if err != nil {
				return usagef("--maturity: %v", err)
			}
			if d.Rounds < 1 || d.Seeds < 1 || d.Rows < 1000 {
				return usagef("--rounds and --seeds want 1 or more, --rows 1000 or more")
			}
			d.Seed = o.seed
			for _, name := range only {
				d.Groups = append(d.Groups, []string{name})
			}
			var found training.DropCheck
			err = o.run(cmd, func(in *installation, h *history.Store, progress func(training.Progress)) error {
				bundle, err := in.openModel(model)
				if err != nil {
					return err
				}
				found, _, err = training.CheckFeatures(cmd.Context(), bundle, training.Options{History: h, LabelsUntil: labelsUntil, Maturity: age,
					Now: time.Now, Progress: progress}, d)
				return err
			})
			if err != nil {
				return err
			}
			return show(&o, cmd.OutOrStdout(), found, showDrops)
		},
	}
	o.historyFlags(cmd)
	o.otherFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "folder of a bundle, or version in the registry (default: the champion)")
	f.StringSliceVar(&only, "only", nil, "leave out only these features, each on its own")
	f.IntVar(&d.Rounds, "rounds", 60, "rounds of boosting of each training")
	f.IntVar(&d.Seeds, "seeds", 3, "trainings of each group")
	f.IntVar(&d.Rows, "rows", 50_000, "requests to look at, at most: all frauds up to half of them, honest ones evenly over time")
	f.Var(instantFlag{&labelsUntil}, "labels-until", "use the labels known then (default: the end of the model's training period)")
	maturityFlag(cmd, &maturity)
	return cmd
}

func showDrops(w io.Writer, check training.DropCheck) {
	var rows [][]string
	for _, d := range check.Dropped {
		mark := d.Verdict
		if d.RecyclesPolicy {
			mark = strings.TrimPrefix(mark+", recycles past policy", ", ")
		}
		rows = append(rows, []string{fmt.Sprintf("%+.4f", d.Loss), fmt.Sprintf("%+.4f to %+.4f", d.Interval.Low, d.Interval.High),
			strings.Join(d.Features, ", "), mark})
	}
	table(w, []string{"LOSS", "95 %", "WITHOUT", ""}, rows, nil)
	fmt.Fprintf(w, "\nloss of average precision, %.4f with all features: %d rounds, %d seeds, %d requests to train, %d (%d frauds) to compare\n",
		check.AveragePrecision, check.Rounds, check.Seeds, check.Rows, check.ValidRows, check.ValidFrauds)
}

func newCorrelation() *cobra.Command {
	var o overPeriod
	var catalogue string
	var threshold float64
	cmd := &cobra.Command{
		Use:     "correlation",
		Short:   "Find groups of features that say the same",
		Example: "  vaglio features correlation --from 2026-01-01 --until 2026-06-01",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if !(threshold > 0 && threshold <= 1) {
				return usagef("--threshold: want a number above 0 and at most 1")
			}
			c, err := readCatalogue(catalogue)
			if err != nil {
				return err
			}
			var found training.Correlations
			err = o.run(cmd, func(_ *installation, h *history.Store, progress func(training.Progress)) error {
				m, err := training.Replay(cmd.Context(), h, c, o.period, progress)
				if err != nil {
					return err
				}
				found, err = training.Correlate(cmd.Context(), m, threshold, o.seed)
				return err
			})
			if err != nil {
				return err
			}
			return show(&o, cmd.OutOrStdout(), found, showCorrelations)
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&catalogue, "features", "", "feature catalogue (YAML; default: the embedded one)")
	f.Float64Var(&threshold, "threshold", training.DefaultCorrelation, "least |rho| of each pair in a group")
	return cmd
}

func showCorrelations(w io.Writer, c training.Correlations) {
	for _, kind := range []struct {
		title  string
		groups [][]string
	}{{"say the same", c.Groups}, {"are missing together", c.MissingTogether}} {
		for i, group := range kind.groups {
			fmt.Fprintf(w, "group %d of features that %s: %s\n", i+1, kind.title, strings.Join(group, ", "))
		}
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, p := range c.Pairs {
		rows = append(rows, []string{p.A, p.B, fmt.Sprintf("%+.3f", p.Rho), fmt.Sprintf("%+.3f", p.Missing), strconv.Itoa(p.Rows)})
	}
	table(w, []string{"FEATURE", "FEATURE", "RHO", "MISSING", "KNOWN TO BOTH"}, rows, func(column int, cell string) string {
		if rho, err := strconv.ParseFloat(cell, 64); column == 2 && err == nil && math.Abs(rho) >= c.Threshold {
			return bold
		}
		return ""
	})
	fmt.Fprintf(w, "\nSpearman's rho over %d of %d requests, pairs from %.2f on\n", c.Rows, c.SampleOf, c.Threshold)
}
