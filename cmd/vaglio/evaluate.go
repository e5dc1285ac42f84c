package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
	"vaglio/training/report"
)

func newEvaluate() *cobra.Command {
	var w wiring
	var model, against, maturity, predictions, page, costs, policyFile, truth string
	var o training.ExamineOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "evaluate",
		Short: "Measure a model on the labelled requests of a period",
		Example: "  vaglio evaluate --from 2026-03-01 --until 2026-06-01\n" +
			"  vaglio evaluate --model 20260601-080000 --from 2026-03-01 --until 2026-06-01 --report report.html --predictions out.csv",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.From == 0 || o.Until == 0 {
				return usagef("evaluate wants --from TIME and --until TIME")
			}
			if o.Maturity, err = parseDays(maturity); err != nil {
				return usagef("--maturity: %v", err)
			}
			var recommend training.RecommendOptions
			if costs != "" {
				if recommend.Costs, err = readCosts(costs); err != nil {
					return err
				}
			}
			var patterns map[string]string
			if truth != "" {
				if patterns, err = readTruth(truth); err != nil {
					return fmt.Errorf("read the truth: %w", err)
				}
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			bundle, err := in.openModel(model)
			if err != nil {
				return err
			}
			if o.Champion, err = in.openOpponent(against); err != nil {
				return err
			}
			if o.History, err = in.joinHistory(cmd.Context()); err != nil {
				return err
			}
			l, err := in.openLedger(cmd.Context())
			if err != nil {
				return err
			}
			if recommend.Policy, err = policyInForce(cmd.Context(), l, policyFile); err != nil {
				return err
			}
			o.Rules, recommend.Seed = training.PolicyRules(o.History, recommend.Policy), o.Measure.Seed
			bar := newProgress()
			o.Cut = vaglio.InstantOf(time.Now())
			o.Progress = func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) }
			defer bar.end()
			x, err := training.Examine(cmd.Context(), bundle, o)
			if err != nil {
				return err
			}
			var plan *training.CostPlan
			if costs != "" {
				found, err := training.RecommendWithin(cmd.Context(), o.History, training.Scored{Matrix: x.Matrix, Probability: x.Probability},
					bundle.Manifest().Thresholds, recommend)
				if err != nil {
					return err
				}
				plan = &found
			}
			if predictions != "" {
				if err := writeFile(predictions, func(out io.Writer) error { return writePredictions(out, x.Predictions) }); err != nil {
					return fmt.Errorf("write %s: %w", predictions, err)
				}
			}
			if page != "" {
				if err := writeReport(cmd, page, bundle, &x, &o, plan); err != nil {
					return err
				}
			}
			bar.end()
			out, told := cmd.OutOrStdout(), evaluated{Evaluation: &x.Evaluation, Costs: plan}
			if patterns != nil {
				told.Patterns = findPatterns(patterns, x.Predictions)
			}
			if asJSON {
				return json.MarshalWrite(out, &told, json.Deterministic(true), jsontext.Multiline(true))
			}
			if err := printEvaluation(out, &x.Evaluation, false); err != nil {
				return err
			}
			if patterns != nil {
				printPatterns(out, told.Patterns)
			}
			if plan != nil {
				fmt.Fprintln(out)
				showCostPlan(out, *plan)
			}
			return nil
		},
	}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	measureFlags(cmd, &o.Period, &o.Measure, &maturity)
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "folder of a bundle, or version in the registry (default: the champion)")
	f.StringVar(&against, "against", "champion", "compare on the same rows with a version, a bundle's folder, the champion if there is one, or none")
	f.StringVar(&predictions, "predictions", "", "also write request_id,probability,label as CSV")
	f.StringVar(&page, "report", "", "also write a report as one HTML file")
	f.StringVar(&truth, "truth", "", "also tell what is found of each pattern, by the CSV of vaglio simulate --truth")
	f.StringVar(&costs, "costs", "", "what mistakes cost (YAML): also the thresholds that follow, chosen on the earlier half, judged on the later")
	f.StringVar(&policyFile, "policy", "", "policy in force, whose rules alone are compared with (default: the published one, or else the default one)")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// evaluated is an evaluation as --json prints it.
type evaluated struct {
	*training.Evaluation
	Costs    *training.CostPlan `json:"costs,omitzero"`
	Patterns []foundPattern     `json:"patterns,omitempty"`
}

// measureFlags are those of commands that judge models on a period.
func measureFlags(cmd *cobra.Command, p *training.Period, m *training.MeasureOptions, maturity *string) {
	f := cmd.Flags()
	f.Var(instantFlag{&p.From}, "from", "begin of the period")
	f.Var(instantFlag{&p.Until}, "until", "end of the period, exclusive")
	maturityFlag(cmd, maturity)
	f.IntSliceVar(&m.TopK, "top", []int{50, 100, 500}, "measure the precision of this many requests of highest probability")
	f.IntVar(&m.DailyK, "top-daily", 10, "measure how many of each day's riskiest customers had a fraud")
	f.IntVar(&m.Resamples, "resamples", 500, "resamples behind the intervals; -1: no intervals")
	f.Uint64Var(&m.Seed, "seed", 1, "seed of the resamples")
	f.BoolVar(&m.InversePropensity, "inverse-propensity", false, "let requests that were explored with a small chance count for their like")
}

// openOpponent opens what a model is compared with; nil is nothing.
func (in *installation) openOpponent(name string) (*models.Bundle, error) {
	switch name {
	case "none":
		return nil, nil
	case string(models.Champion):
		bundle, err := in.openModel("")
		if errors.Is(err, errNoChampion) {
			return nil, nil
		}
		return bundle, err
	default:
		return in.openModel(name)
	}
}

// driftDays bounds the requests of training that a report compares with: drift is against what the model learnt last.
const driftDays = 90 * vaglio.Day

func writeReport(cmd *cobra.Command, path string, bundle *models.Bundle, x *training.Examination, o *training.ExamineOptions,
	plan *training.CostPlan) error {
	parts := training.ReportParts{Seed: o.Measure.Seed}
	if plan != nil {
		parts.Costs = training.CostCurves(plan, bundle.Manifest().BaseCurrency)
	}
	explored, err := training.ReadExploration(cmd.Context(), o.History, o.Period, o.Cut, o.Maturity)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	parts.Exploration = explored.Text(bundle.Manifest().BaseCurrency)
	if w := bundle.Manifest().Training; w.Until > 0 {
		learnt := training.Period{From: max(w.From, w.Until-driftDays), Until: w.Until}
		before, err := training.Replay(cmd.Context(), o.History, bundle.Catalogue(), learnt, o.Progress)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if len(before.Rows) > 0 {
			parts.Before = before
			parts.DriftOf = fmt.Sprintf("The judged requests beside those of %s to %s, from which the model learnt.", day(learnt.From), day(learnt.Until))
		}
	}
	correlations, err := training.Correlate(cmd.Context(), x.Matrix, training.DefaultCorrelation, o.Measure.Seed)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	parts.Correlations = &correlations
	input, err := x.Report(cmd.Context(), bundle, parts)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := writeFile(path, func(out io.Writer) error { return report.Write(out, input) }); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func day(at vaglio.Instant) string { return at.Time().UTC().Format(time.DateOnly) }

func writePredictions(w io.Writer, predictions []training.Prediction) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"request_id", "probability", "label"}); err != nil {
		return err
	}
	for _, p := range predictions {
		label := "0"
		if p.Fraud {
			label = "1"
		}
		if err := out.Write([]string{p.RequestID, strconv.FormatFloat(p.Probability, 'g', -1, 64), label}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// printEvaluation prints tables: metrics with intervals, decisions, kinds of fraud, segments, comparisons.
func printEvaluation(out io.Writer, e *training.Evaluation, asJSON bool) error {
	if asJSON {
		return json.MarshalWrite(out, e, json.Deterministic(true), jsontext.Multiline(true))
	}
	fmt.Fprintf(out, "%d requests of %s to %s, %d frauds (%.1f %%)\n\n", e.Rows, day(e.From), day(e.Until), e.Frauds,
		100*float64(e.Frauds)/float64(max(1, e.Rows)))
	var rows [][]string
	for _, m := range e.Metrics() {
		interval := ""
		if m.Interval != nil {
			interval = metricText(m.Interval.Low, m.Share) + " to " + metricText(m.Interval.High, m.Share)
		}
		rows = append(rows, []string{m.Title, metricText(m.Value, m.Share), interval})
	}
	table(out, []string{"METRIC", "VALUE", "95 % INTERVAL"}, rows, dimmed(2))
	rows = nil
	money := func(minor int64) string { return moneyText(minor, e.Money.Currency) }
	for _, v := range e.Verdicts {
		rows = append(rows, []string{string(v.Verdict), strconv.Itoa(v.Requests), shareText(v.Requests, e.Rows), money(v.Amount), strconv.Itoa(v.Frauds),
			money(v.FraudAmount)})
	}
	fmt.Fprintf(out, "\nBy the thresholds: approve below %g, deny from %g\n", e.Thresholds.ApproveBelow, e.Thresholds.DenyFrom)
	table(out, []string{"DECISION", "REQUESTS", "SHARE", "AMOUNT", "FRAUDS", "FRAUD AMOUNT"}, rows, verdictColours)
	if len(e.FraudTypes) > 0 {
		rows = nil
		for _, t := range e.FraudTypes {
			rows = append(rows, []string{t.Type, strconv.Itoa(t.Frauds), metricText(t.Denied, true), metricText(t.Stopped, true), metricText(t.RecallAt1FPR, true)})
		}
		fmt.Fprintln(out)
		table(out, []string{"KIND OF FRAUD", "FRAUDS", "DENIED", "DENIED OR IN REVIEW", "FOUND AT 1 % FPR"}, rows, nil)
	}
	printLabels(out, e)
	printSegments(out, e.Segments)
	for _, c := range e.Against {
		fmt.Fprintf(out, "\nAgainst %s, on the same requests\n", c.With)
		printDifferences(out, "THIS MODEL", "OTHER", c.Differences)
	}
	return nil
}

func printLabels(out io.Writer, e *training.Evaluation) {
	var rows [][]string
	for i := range e.Labels {
		c := &e.Labels[i]
		rows = append(rows, []string{c.Label, c.Text(), strconv.Itoa(c.Requests), shareText(c.Requests, e.Rows), moneyText(c.Amount, e.Money.Currency),
			strconv.FormatFloat(c.Weight, 'f', 2, 64)})
	}
	fmt.Fprintln(out)
	table(out, []string{"LABEL", "SAID BY", "REQUESTS", "SHARE", "AMOUNT", "WEIGHT"}, rows, nil)
}

func printSegments(out io.Writer, segments []training.Segment) {
	var rows [][]string
	by := ""
	for _, s := range segments {
		name := ""
		if s.By != by {
			name, by = s.By, s.By
		}
		row := []string{name, s.Value, strconv.Itoa(s.Rows), strconv.Itoa(s.Frauds)}
		if s.TooFew != "" {
			row = append(row, "too few", "", "")
		} else {
			row = append(row, withInterval(s.ROCAUC, s.Intervals, "roc_auc", false), withInterval(s.AveragePrecision, s.Intervals, "average_precision", false),
				withInterval(s.RecallAt1FPR, s.Intervals, "recall_at_1pct_fpr", true))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(out)
	table(out, []string{"SEGMENT", "", "REQUESTS", "FRAUDS", "ROC AUC", "AVERAGE PRECISION", "FOUND AT 1 % FPR"}, rows, func(_ int, cell string) string {
		if cell == "too few" {
			return dim
		}
		return ""
	})
}

func printDifferences(out io.Writer, model, other string, differences []training.Difference) {
	var rows [][]string
	for _, d := range differences {
		if d.Difference == nil {
			continue
		}
		title, share := training.MetricTitle(d.Metric)
		interval := "not measurable"
		if d.Interval != nil {
			interval = signedText(d.Interval.Low, share) + " to " + signedText(d.Interval.High, share)
		}
		rows = append(rows, []string{title, metricText(*d.Model, share), metricText(*d.Other, share), signedText(*d.Difference, share), interval, d.Verdict})
	}
	table(out, []string{"METRIC", model, other, "DIFFERENCE", "95 % INTERVAL", "BEYOND NOISE"}, rows, func(column int, cell string) string {
		switch {
		case column == 4:
			return dim
		case cell == training.DifferenceBetter:
			return green
		case cell == training.DifferenceWorse:
			return red
		default:
			return ""
		}
	})
}

func withInterval(v *float64, intervals map[string]training.Interval, name string, share bool) string {
	if v == nil {
		return "not measurable"
	}
	text := metricText(*v, share)
	if i, ok := intervals[name]; ok {
		text += " (" + metricText(i.Low, share) + " to " + metricText(i.High, share) + ")"
	}
	return text
}

func metricText(v float64, share bool) string {
	if share {
		return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

// signedText writes a difference; that of shares is in percentage points.
func signedText(v float64, share bool) string {
	if share {
		return fmt.Sprintf("%+.1f pp", 100*v)
	}
	return fmt.Sprintf("%+.4f", v)
}

func shareText(part, whole int) string { return metricText(float64(part)/float64(max(1, whole)), true) }

func moneyText(minor int64, currency string) string {
	digits, ok := vaglio.CurrencyDigits(currency)
	if !ok {
		digits = 0
	}
	whole := minor
	for range digits {
		whole /= 10
	}
	return fmt.Sprintf("%d %s", whole, currency)
}

// dimmed paints one column.
func dimmed(of int) func(column int, cell string) string {
	return func(column int, _ string) string {
		if column == of {
			return dim
		}
		return ""
	}
}

func verdictColours(_ int, cell string) string {
	switch vaglio.Verdict(cell) {
	case vaglio.Approve:
		return green
	case vaglio.Review:
		return yellow
	case vaglio.Deny:
		return red
	default:
		return ""
	}
}
