package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"vaglio/features"
	"vaglio/history"
	"vaglio/training"
)

func newPropose() *cobra.Command {
	var o overPeriod
	var p training.ProposeOptions
	var catalogue, maturity, out string
	cmd := &cobra.Command{
		Use:     "propose",
		Short:   "Look for features that a catalogue lacks and write it with those that pay",
		Example: "  vaglio features propose --from 2025-06-01 --until 2026-03-01 --out features.yaml",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := o.check(cmd); err != nil {
				return err
			}
			if out == "" {
				return usagef("%s wants --out FILE", cmd.CommandPath())
			}
			if p.Maturity, err = parseDays(maturity); err != nil {
				return usagef("--maturity: %v", err)
			}
			if p.Candidates < 1 || p.Candidates > 400 {
				return usagef("--candidates: want 1 to 400")
			}
			if p.Tries < 1 {
				return usagef("--tries: want 1 or more")
			}
			if p.Catalogue, err = catalogueText(catalogue); err != nil {
				return err
			}
			p.Period, p.Seed = o.period, o.seed
			var found training.Proposal
			err = o.run(cmd, func(_ *installation, h *history.Store, progress func(training.Progress)) (err error) {
				p.History, p.Progress = h, progress
				found, err = training.Propose(cmd.Context(), p)
				return err
			})
			if err != nil {
				return err
			}
			err = writeFile(out, func(file io.Writer) error {
				_, err := file.Write(found.YAML)
				return err
			})
			if err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
			if err := show(&o, cmd.OutOrStdout(), found, showProposal); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the catalogue is in %s: read it, edit it, train with --features %s\n", out, out)
			return nil
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&p.LabelsUntil}, "labels-until", "use the labels known then (default: --until)")
	maturityFlag(cmd, &maturity)
	f.StringVar(&catalogue, "features", "", "feature catalogue to extend (YAML; default: the embedded one)")
	f.IntVar(&p.Candidates, "candidates", 400, "candidates to look at, at most; 400 is the most")
	f.IntVar(&p.Tries, "tries", 24, "candidates to add one by one, at most, the most important first")
	f.StringVar(&out, "out", "", "file of the extended catalogue")
	return cmd
}

// catalogueText is a catalogue as it is written, with its comments; the embedded one of no path.
func catalogueText(path string) ([]byte, error) {
	if path == "" {
		return features.DefaultYAML(), nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	return source, nil
}

func showProposal(w io.Writer, p training.Proposal) {
	fmt.Fprintf(w, "%d of %d candidates computed over %d requests (%d frauds); %d carry more than shuffled columns\n",
		p.Looked, p.Possible, p.Rows, p.Frauds, p.Surviving)
	rows, title := p.Kept, "KEPT"
	if len(p.Rejected) > 0 {
		rows, title = p.Rejected, "NOT CONFIRMED"
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "none raises average precision beyond noise: the catalogue stays as it is")
		return
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{r.Name, fmt.Sprintf("%+.4f", r.Gain), fmt.Sprintf("%+.4f to %+.4f", r.Interval.Low, r.Interval.High), "- " + r.YAML()})
	}
	table(w, []string{title, "GAIN", "95 %", "ROW"}, cells, nil)
	fmt.Fprintf(w, "on later requests: average precision %.4f without them, %.4f with them, %+.4f to %+.4f more (95 %%)\n",
		p.Base, p.Extended, p.Interval.Low, p.Interval.High)
}

// autoFeatures extends a catalogue by what pays on the training period, for `train --auto-features`. It sets o.Catalogue and
// returns the catalogue's text with the reasons for its rows.
func autoFeatures(cmd *cobra.Command, o *training.Options, catalogue string, progress func(training.Progress)) ([]byte, error) {
	source, err := catalogueText(catalogue)
	if err != nil {
		return nil, err
	}
	found, err := training.Propose(cmd.Context(), training.ProposeOptions{History: o.History, Catalogue: source, Period: o.Train,
		LabelsUntil: o.LabelsUntil, Maturity: o.Maturity, Params: o.Params, Seed: o.Seed, Progress: progress})
	if err != nil {
		return nil, fmt.Errorf("propose features: %w", err)
	}
	showProposal(cmd.ErrOrStderr(), found)
	if o.Catalogue, err = features.Parse(found.YAML); err != nil {
		return nil, fmt.Errorf("read the proposed catalogue: %w", err)
	}
	return found.YAML, nil
}
