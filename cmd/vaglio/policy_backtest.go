package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring/lists"
	"vaglio/scoring/policy"
	"vaglio/training"
)

func newPolicyBacktest() *cobra.Command {
	var o overPeriod
	var b training.BacktestOptions
	var model, base, costs, maturity, byRail string
	var against []string
	cmd := &cobra.Command{
		Use:   "backtest",
		Short: "Decide the requests of a period again, with features and lists as they were then, and compare policies",
		Example: "  vaglio policy backtest --from 2026-03-01 --until 2026-06-01 --against mine.yaml\n" +
			"  What mine.yaml would have changed against the policy in force.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := o.check(cmd); err != nil {
				return err
			}
			b.Period = o.period
			if b.Maturity, b.RailMaturity, err = parseMaturity(maturity, byRail); err != nil {
				return err
			}
			if b.Examples < 0 || b.Examples > 1000 {
				return usagef("--examples: want a number from 0 to 1000")
			}
			if b.Examples == 0 {
				b.Examples = -1
			}
			if costs != "" {
				c, err := readCosts(costs)
				if err != nil {
					return err
				}
				b.Costs = &c
			}
			var others []*policy.Policy
			for _, path := range against {
				p, err := readPolicy(path)
				if err != nil {
					return err
				}
				others = append(others, p)
			}
			if b.Cut == 0 {
				b.Cut = vaglio.InstantOf(time.Now())
			}
			var report training.BacktestReport
			err = o.run(cmd, func(in *installation, h *history.Store, progress func(training.Progress)) error {
				b.History, b.Progress = h, progress
				l, err := in.openLedger(cmd.Context())
				if err != nil {
					return err
				}
				var mirror lists.Mirror
				if err := mirror.Refresh(cmd.Context(), l); err != nil {
					return err
				}
				first, err := policyInForce(cmd.Context(), l, base)
				if err != nil {
					return err
				}
				b.Policies, b.Lists = append([]*policy.Policy{first}, others...), &mirror
				if model != "none" {
					if b.Bundle, err = in.openModel(model); err != nil {
						return err
					}
				}
				report, err = training.Backtest(cmd.Context(), b)
				return err
			})
			if err != nil {
				return err
			}
			return show(&o, cmd.OutOrStdout(), report, showBacktest)
		},
	}
	o.pastFlags(cmd, &b.Cut, &maturity, &byRail)
	o.ledgerFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&base, "policy", "", "the policy to compare with (default: the one in force, or the embedded one)")
	f.StringArrayVar(&against, "against", nil, "a policy to be compared; may be given again")
	f.StringVar(&model, "model", "", "folder of a bundle, or version in the registry; none: rules alone (default: the champion)")
	f.StringVar(&costs, "costs", "", "judge by what mistakes cost (YAML; default: the costs of the policy, if it has any)")
	f.IntVar(&b.Examples, "examples", 10, "show this many requests of each kind of change, those of the largest amounts")
	return cmd
}

func newPolicyShadow() *cobra.Command {
	var o overPeriod
	var s training.ShadowOptions
	var maturity, byRail string
	cmd := &cobra.Command{
		Use:     "shadow",
		Short:   "Show what rules in shadow have found among live decisions",
		Example: "  vaglio policy shadow --from 2026-05-01 --until 2026-06-01",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := o.check(cmd); err != nil {
				return err
			}
			s.Period = o.period
			if s.Maturity, s.RailMaturity, err = parseMaturity(maturity, byRail); err != nil {
				return err
			}
			if s.Cut == 0 {
				s.Cut = vaglio.InstantOf(time.Now())
			}
			var report training.ShadowReport
			err = o.run(cmd, func(_ *installation, h *history.Store, _ func(training.Progress)) (err error) {
				s.History = h
				report, err = training.ShadowRules(cmd.Context(), s)
				return err
			})
			if err != nil {
				return err
			}
			return show(&o, cmd.OutOrStdout(), report, showShadowRules)
		},
	}
	o.pastFlags(cmd, &s.Cut, &maturity, &byRail)
	return cmd
}

// pastFlags are those of commands that judge the past by its labels.
func (o *overPeriod) pastFlags(cmd *cobra.Command, cut *vaglio.Instant, maturity, byRail *string) {
	o.historyFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&o.period.From}, "from", "begin of the period")
	f.Var(instantFlag{&o.period.Until}, "until", "end of the period, exclusive")
	f.Var(instantFlag{cut}, "labels-until", "use the labels known then (default: now)")
	maturityFlags(cmd, maturity, byRail)
	f.BoolVar(&o.asJSON, "json", false, "as JSON")
}

func showBacktest(w io.Writer, r training.BacktestReport) {
	model := "rules alone"
	if r.Model != "" {
		model = "model " + r.Model
	}
	fmt.Fprintf(w, "%d requests of %s to %s, %d frauds, %d clean, %d unsettled; %s\n", r.Requests, day(r.From), day(r.Until), r.Labels.Fraud,
		r.Labels.Clean, r.Labels.Unsettled, model)
	if r.Unknown > 0 {
		fmt.Fprintf(w, "%d requests have no rate of the day: they are in counts and not in money\n", r.Unknown)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, paint(w, yellow, "warning: "+warning))
	}
	for i := range r.Policies {
		p := &r.Policies[i]
		fmt.Fprintf(w, "\n%s\n", paint(w, bold, "Policy "+p.Policy))
		if len(p.LeftOut) > 0 {
			fmt.Fprintf(w, "left out, for want of their features: %s\n", strings.Join(p.LeftOut, ", "))
		}
		showVerdicts(w, &r, p)
		if p.Changes != nil {
			showChanges(w, &r, p)
		}
	}
}

func showVerdicts(w io.Writer, r *training.BacktestReport, p *training.Backtested) {
	money := func(minor int64) string { return moneyText(minor, r.BaseCurrency) }
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	var rows [][]string
	for _, v := range p.Verdicts {
		rows = append(rows, []string{string(v.Verdict), count(v.Requests.Total()), shareText(int(v.Requests.Total()), r.Requests), count(v.Requests.Fraud),
			count(v.Requests.Clean), count(v.Requests.Unsettled), money(v.Amount.Total()), money(v.Amount.Fraud), money(v.Amount.Clean)})
	}
	table(w, []string{"DECISION", "REQUESTS", "SHARE", "FRAUD", "CLEAN", "UNSETTLED", "AMOUNT", "FRAUD AMOUNT", "CLEAN AMOUNT"}, rows, verdictColours)
	fmt.Fprintf(w, "%.1f reviews a day, %d on the busiest\n", p.ReviewsPerDay, p.BusiestDay)
	if p.Money.Cost != nil {
		fmt.Fprintf(w, "cost of the settled requests, in hindsight: %s\n", money(*p.Money.Cost))
	}
	if len(p.Rules) > 0 {
		fmt.Fprintln(w)
		showRuleShares(w, p.Rules, r.BaseCurrency)
	}
	if len(p.Segments) < 2 {
		return
	}
	rows = nil
	for _, s := range p.Segments {
		row := []string{cmp.Or(s.Segment, "(none)")}
		frauds := int64(0)
		for _, v := range s.Verdicts {
			row, frauds = append(row, count(v.Requests.Total())), frauds+v.Requests.Fraud
		}
		row = append(row, count(frauds), money(s.Money.Approved), money(s.Money.FraudApproved), money(s.Money.HonestDenied))
		if s.Money.Cost != nil {
			row = append(row, money(*s.Money.Cost))
		} else {
			row = append(row, "")
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	table(w, []string{"SEGMENT", "APPROVED", "REVIEWED", "DENIED", "FRAUDS", "APPROVED AMOUNT", "FRAUD APPROVED", "HONEST DENIED", "COST"}, rows, nil)
}

func showRuleShares(w io.Writer, rules []training.RuleShare, currency string) {
	var rows [][]string
	withCosts := slices.ContainsFunc(rules, func(r training.RuleShare) bool { return r.Cost != nil })
	header := []string{"RULE", "STATE", "THEN", "HITS", "FRAUD", "CLEAN", "PRECISION", "ALONE", "AMOUNT", "FRAUD AMOUNT", "APPROVED", "REVIEWED", "DENIED"}
	if withCosts {
		header = append(header, "COST")
	}
	for i := range rules {
		r := &rules[i]
		precision := ""
		if r.Precision != nil {
			precision = percent(*r.Precision)
		}
		count := func(n int64) string { return strconv.FormatInt(n, 10) }
		row := []string{r.Rule, r.State, r.Action, count(r.Requests.Total()), count(r.Requests.Fraud), count(r.Requests.Clean), precision,
			count(r.Exclusive.Requests.Total()), moneyText(r.Amount.Total(), currency), moneyText(r.Amount.Fraud, currency), count(r.Verdicts.Approve),
			count(r.Verdicts.Review), count(r.Verdicts.Deny)}
		switch {
		case r.Cost != nil:
			row = append(row, moneyText(*r.Cost, currency))
		case withCosts:
			row = append(row, "")
		}
		rows = append(rows, row)
	}
	table(w, header, rows, func(column int, cell string) string {
		if column == 1 && cell == policy.Shadow {
			return dim
		}
		return ""
	})
}

func showChanges(w io.Writer, r *training.BacktestReport, p *training.Backtested) {
	c := p.Changes
	signed := func(minor int64) string {
		if minor > 0 {
			return "+" + moneyText(minor, r.BaseCurrency)
		}
		return moneyText(minor, r.BaseCurrency)
	}
	fmt.Fprintf(w, "\nAgainst %s: %d decisions stay, %d change\n", r.Policies[0].Policy, c.Same, r.Requests-c.Same)
	var rows [][]string
	for _, m := range c.Moved {
		rows = append(rows, []string{string(m.From), string(m.To), strconv.FormatInt(m.Requests.Total(), 10), strconv.FormatInt(m.Requests.Fraud, 10),
			strconv.FormatInt(m.Requests.Clean, 10), moneyText(m.Amount.Total(), r.BaseCurrency), moneyText(m.Amount.Fraud, r.BaseCurrency)})
	}
	if len(rows) > 0 {
		table(w, []string{"FROM", "TO", "REQUESTS", "FRAUD", "CLEAN", "AMOUNT", "FRAUD AMOUNT"}, rows, verdictColours)
	}
	text := fmt.Sprintf("approved %s, fraud approved %s, fraud stopped %s, honest held %s, honest denied %s", signed(c.Money.Approved),
		signed(c.Money.FraudApproved), signed(c.Money.FraudStopped), signed(c.Money.HonestHeld), signed(c.Money.HonestDenied))
	if c.Money.Cost != nil {
		text += ", cost " + signed(*c.Money.Cost)
	}
	fmt.Fprintln(w, text)
	rows = nil
	for _, m := range c.Moved {
		for i := range m.Examples {
			rows = append(rows, exampleRow(&m, &m.Examples[i], r.BaseCurrency))
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []string{"FROM", "TO", "REQUEST", "AT", "PROBABILITY", "AMOUNT", "LABEL", "RULES BEFORE", "RULES"}, rows, func(column int, cell string) string {
			if column == 6 && cell == "fraud" {
				return red
			}
			return verdictColours(column, cell)
		})
	}
}

func exampleRow(m *training.BacktestChange, e *training.BacktestExample, currency string) []string {
	probability, amount := "", ""
	if e.Probability != nil {
		probability = strconv.FormatFloat(*e.Probability, 'f', 4, 64)
	}
	if e.Amount != nil {
		amount = moneyText(*e.Amount, currency)
	}
	return []string{string(m.From), string(m.To), e.RequestID, e.At.String(), probability, amount, e.Label, strings.Join(e.RulesBefore, " "),
		strings.Join(e.Rules, " ")}
}

func showShadowRules(w io.Writer, r training.ShadowReport) {
	fmt.Fprintf(w, "%d decisions of %s to %s, %d rules in shadow fired\n", r.Decisions, day(r.From), day(r.Until), len(r.Rules))
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, paint(w, yellow, "warning: "+warning))
	}
	if len(r.Rules) == 0 {
		return
	}
	shares := make([]training.RuleShare, len(r.Rules))
	for i := range r.Rules {
		shares[i] = r.Rules[i].RuleShare
	}
	fmt.Fprintln(w)
	showRuleShares(w, shares, r.BaseCurrency)
}
