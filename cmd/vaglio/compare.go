package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/training"
)

func newModelsCompare() *cobra.Command {
	var w wiring
	var maturity string
	var o training.CompareOptions
	var asJSON, live bool
	cmd := &cobra.Command{
		Use:   "compare A B | compare --live",
		Short: "Compare two models on the same labelled requests: metrics, decisions that change, and why the largest changes",
		Long: "Compare model B with model A on the same labelled requests of a period: metrics with intervals of the difference, by paired\n" +
			"resamples, decisions that change by each model's own thresholds, and the largest changes with the features behind them.\n" +
			"A and B are versions in the registry or folders of bundles.\n\n" +
			"With --live: compare challenger and shadow with the champion on live decisions, as they were logged (default: the last 30 days).",
		Example: "  vaglio models compare 20260301-080000 20260601-080000 --from 2026-03-01 --until 2026-06-01\n" +
			"  vaglio models compare --live",
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if want := map[bool]int{false: 2, true: 0}[live]; len(args) != want {
				return usagef("models compare takes two models, or none with --live; not %d", len(args))
			}
			if live {
				return compareLive(cmd, w, &o, maturity, asJSON)
			}
			if o.From == 0 || o.Until == 0 {
				return usagef("models compare wants --from TIME and --until TIME")
			}
			if o.Maturity, err = parseDays(maturity); err != nil {
				return usagef("--maturity: %v", err)
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			a, err := in.openModel(args[0])
			if err != nil {
				return err
			}
			b, err := in.openModel(args[1])
			if err != nil {
				return err
			}
			if o.History, err = in.joinHistory(cmd.Context()); err != nil {
				return err
			}
			bar := newProgress()
			o.Cut = vaglio.InstantOf(time.Now())
			o.Progress = func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) }
			compared, err := training.Compare(cmd.Context(), a, b, o)
			bar.end()
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), &compared, json.Deterministic(true), jsontext.Multiline(true))
			}
			printCompared(cmd.OutOrStdout(), &compared, o.History.BaseCurrency())
			return nil
		},
	}
	w.historyFlags(cmd)
	measureFlags(cmd, &o.Period, &o.Measure, &maturity)
	cmd.Flags().IntVar(&o.Most, "changes", 10, "explain this many of the largest changes")
	cmd.Flags().BoolVar(&live, "live", false, "compare what models said on live decisions")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func printCompared(out io.Writer, c *training.Compared, currency string) {
	fmt.Fprintf(out, "A %s (approve below %g, deny from %g)\nB %s (approve below %g, deny from %g)\n%d requests of %s to %s, %d frauds\n\n",
		c.A.Version, c.ThresholdsA.ApproveBelow, c.ThresholdsA.DenyFrom, c.B.Version, c.ThresholdsB.ApproveBelow, c.ThresholdsB.DenyFrom, c.Rows,
		day(c.From), day(c.Until), c.Frauds)
	printDifferences(out, "B", "A", c.Differences)
	var rows [][]string
	same := 0
	for _, d := range c.Decisions {
		if d.A == d.B {
			same += d.Requests
		} else if d.Requests > 0 {
			rows = append(rows, []string{string(d.A), string(d.B), strconv.Itoa(d.Requests), strconv.Itoa(d.Frauds), moneyText(d.Amount, currency)})
		}
	}
	fmt.Fprintf(out, "\n%d decisions stay, %d change\n", same, c.Rows-same)
	if len(rows) > 0 {
		table(out, []string{"A", "B", "REQUESTS", "FRAUDS", "AMOUNT"}, rows, verdictColours)
	}
	if len(c.Changes) > 0 {
		fmt.Fprintln(out, "\nThe largest changes, with what features contribute in A and in B (log-odds)")
	}
	for _, s := range c.Changes {
		label := "clean"
		if s.Fraud {
			label = paint(out, red, "fraud")
		}
		fmt.Fprintf(out, "%s  %s  %.4f %s → %.4f %s\n", paint(out, bold, s.RequestID), label, s.ProbabilityA, s.VerdictA, s.ProbabilityB, s.VerdictB)
		rows = nil
		for _, f := range s.Features {
			rows = append(rows, []string{"  " + f.Feature, f.Value, contributionText(f.A), contributionText(f.B), f.Reason})
		}
		table(out, []string{"  FEATURE", "VALUE", "A", "B", "REASON"}, rows, dimmed(4))
	}
}

func contributionText(v *float64) string {
	if v == nil {
		return "not asked"
	}
	return fmt.Sprintf("%+.2f", *v)
}
