package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

func newThresholds() *cobra.Command {
	var o overPeriod
	var labelsUntil vaglio.Instant
	var model, maturity, costs, base, out string
	cmd := &cobra.Command{
		Use:   "thresholds",
		Short: "Derive a model's thresholds from what mistakes cost, and write a policy with them",
		Example: "  vaglio models thresholds --costs costs.yaml --from 2026-03-01 --until 2026-06-01 --out policy.yaml\n" +
			"  The earlier half of the period chooses the thresholds, the later half tells what they save.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if costs == "" {
				return usagef("%s wants --costs FILE: examples/costs.yaml is one", cmd.CommandPath())
			}
			age, err := parseDays(maturity)
			if err != nil {
				return usagef("--maturity: %v", err)
			}
			r := training.RecommendOptions{Seed: o.seed}
			if r.Costs, err = readCosts(costs); err != nil {
				return err
			}
			text := policy.DefaultYAML()
			if base != "" {
				if text, err = os.ReadFile(base); err != nil {
					return fmt.Errorf("read the policy: %w", err)
				}
			}
			if r.Policy, err = policy.Parse(text); err != nil {
				return err
			}
			if labelsUntil == 0 {
				labelsUntil = vaglio.InstantOf(time.Now())
			}
			var plan training.CostPlan
			var version string
			err = o.run(cmd, func(in *installation, h *history.Store, progress func(training.Progress)) error {
				bundle, err := in.openModel(model)
				if err != nil {
					return err
				}
				version = bundle.Manifest().Name + "-" + bundle.Manifest().Version
				plan, err = training.RecommendFor(cmd.Context(), bundle, o.period, training.Options{History: h, LabelsUntil: labelsUntil, Maturity: age,
					Now: time.Now, Progress: progress}, r)
				return err
			})
			if err != nil {
				return err
			}
			if err := show(&o, cmd.OutOrStdout(), plan, showCostPlan); err != nil || out == "" {
				return err
			}
			recommended, err := plan.Policy(text, version)
			if err != nil {
				return err
			}
			err = writeFile(out, func(file io.Writer) error {
				_, err := file.Write(recommended)
				return err
			})
			if err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the policy with these thresholds is in %s\n", out)
			return nil
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&costs, "costs", "", "what mistakes cost (YAML)")
	f.StringVar(&model, "model", "", "folder of a bundle, or version in the registry (default: the champion)")
	f.StringVar(&base, "policy", "", "policy in force: its segments, and all that is kept of it (default: the embedded one)")
	f.StringVar(&out, "out", "", "file of the recommended policy")
	f.Var(instantFlag{&labelsUntil}, "labels-until", "use the labels known then (default: now)")
	maturityFlag(cmd, &maturity)
	return cmd
}

// readCosts reads a file of costs.
func readCosts(path string) (policy.Costs, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return policy.Costs{}, fmt.Errorf("read the costs: %w", err)
	}
	costs, err := policy.ParseCosts(content)
	if err != nil {
		return policy.Costs{}, fmt.Errorf("%s: %w", path, err)
	}
	return costs, nil
}

func showCostPlan(w io.Writer, p training.CostPlan) {
	pair := func(t models.Thresholds) string {
		return fmt.Sprintf("approve below %s, deny from %s", strconv.FormatFloat(t.ApproveBelow, 'f', -1, 64), strconv.FormatFloat(t.DenyFrom, 'f', -1, 64))
	}
	fmt.Fprintf(w, "%s: least cost on %d requests with %d frauds", pair(p.Thresholds), p.Requests, p.Frauds)
	if p.PerHour > 0 {
		fmt.Fprintf(w, ", at most %g reviews in 95 of 100 hours", p.PerHour)
	}
	fmt.Fprintln(w)
	for _, s := range p.Segments {
		name := "segment " + s.Segment
		if s.Segment == "" {
			name = "all others"
		}
		fmt.Fprintf(w, "%s: %s, %d requests with %d frauds\n", name, pair(s.Thresholds), s.Requests, s.Frauds)
	}
	if p.UnknownAmounts > 0 {
		fmt.Fprintf(w, "%d requests are left out: no rate of the day for their amount\n", p.UnknownAmounts)
	}
	fmt.Fprintf(w, "\nOn %s, money in minor units of the base currency:\n", p.JudgedOn)
	var rows [][]string
	for i, o := range p.Outcomes {
		saved := ""
		if i > 0 {
			s := p.Savings[i-1]
			if saved = strconv.FormatInt(s.Amount, 10); s.Interval != nil {
				saved += fmt.Sprintf(" (%.0f to %.0f)", s.Interval.Low, s.Interval.High)
			}
		}
		rows = append(rows, []string{o.Way, strconv.FormatInt(o.Cost, 10), saved, strconv.Itoa(o.Approved), strconv.Itoa(o.Reviewed), strconv.Itoa(o.Denied),
			strconv.Itoa(o.FraudsPaid), strconv.Itoa(o.HonestHit), percent(o.BusyHours)})
	}
	table(w, []string{"DECIDED BY", "COST", "SAVED (95 %)", "APPROVED", "REVIEWED", "DENIED", "FRAUDS APPROVED", "HONEST DENIED", "BUSY HOURS"}, rows, nil)
}
