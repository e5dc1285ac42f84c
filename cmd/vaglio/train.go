package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/training"
)

func newTrain() *cobra.Command {
	var w wiring
	var o training.Options
	var catalogue string
	var maturity string
	var promote, asJSON bool
	cmd := &cobra.Command{
		Use:     "train",
		Short:   "Train a model on labelled history and write it as a bundle",
		Example: "  vaglio train --from 2025-11-01 --until 2026-07-01 --test-from 2026-07-01 --test-until 2026-10-01 --promote",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Train.From == 0 || o.Train.Until == 0 || o.Test.From == 0 || o.Test.Until == 0 {
				return usagef("train wants --from, --until, --test-from and --test-until")
			}
			holdMatrix()
			if o.Maturity, err = parseDays(maturity); err != nil {
				return usagef("--maturity: %v", err)
			}
			if o.Catalogue, err = readCatalogue(catalogue); err != nil {
				return err
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			registry, err := in.registry()
			if err != nil {
				return err
			}
			if o.History, err = in.openHistory(cmd.Context()); err != nil {
				return err
			}
			return trainAndReport(cmd, o, registry, promote, asJSON)
		},
	}
	w.historyFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&o.Train.From}, "from", "begin of the training period")
	f.Var(instantFlag{&o.Train.Until}, "until", "end of the training period, exclusive")
	f.Var(instantFlag{&o.Test.From}, "test-from", "begin of the test period")
	f.Var(instantFlag{&o.Test.Until}, "test-until", "end of the test period, exclusive")
	f.Var(instantFlag{&o.LabelsUntil}, "labels-until", "train with the labels known then (default: --until, as on the day of training)")
	f.StringVar(&maturity, "maturity", "30d", "age from which a request without a label counts as clean")
	f.StringVar(&catalogue, "features", "", "feature catalogue (YAML; default: the embedded one)")
	f.StringVar(&o.Dir, "out", "", "folder of the bundle (default: its version in the registry below --data)")
	f.StringVar(&o.Version, "version", "", "version of the model (default: the time of training)")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of LightGBM")
	f.IntVar(&o.Rounds, "rounds", 0, "most rounds of boosting (default 500, stopped early)")
	f.BoolVar(&promote, "promote", false, "make the model champion")
	f.BoolVar(&asJSON, "json", false, "print the evaluation as JSON")
	return cmd
}

// holdMatrix sets the collector for a process whose heap is mostly a matrix that stays: its usual room for as much again is
// more than is needed.
func holdMatrix() { debug.SetGCPercent(50) }

// trainAndReport trains into the registry, or into o.Dir, prints the evaluation and promotes.
func trainAndReport(cmd *cobra.Command, o training.Options, registry *models.Registry, promote, asJSON bool) error {
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
	bar := newProgress()
	o.Progress = func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) }
	bundle, evaluation, err := training.Train(cmd.Context(), o)
	bar.end()
	if err != nil {
		return err
	}
	if err := printEvaluation(cmd.OutOrStdout(), &evaluation, asJSON); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "model %s is in %s\n", bundle.Manifest().Version, o.Dir)
	if !promote {
		return nil
	}
	if filepath.Clean(o.Dir) != filepath.Clean(inRegistry) {
		if err := os.CopyFS(inRegistry, os.DirFS(o.Dir)); err != nil {
			return fmt.Errorf("copy the bundle into the registry: %w", err)
		}
	}
	if err := registry.Promote(o.Version, models.Champion, vaglio.InstantOf(time.Now())); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "model %s is champion\n", o.Version)
	return nil
}

// parseDays reads 30d.
func parseDays(s string) (vaglio.Instant, error) {
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
