package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio/ledger"
	"vaglio/scoring"
	"vaglio/training"
)

func newReplay() *cobra.Command {
	s := serving{budget: time.Minute}
	var period training.Period
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay DECISION|REQUEST",
		Short: "Take decisions again, from their inputs and from history as it was known then: the same, or what differs",
		Long: "Take decisions again, from their inputs and from history as it was known then: the same, or what differs.\n\n" +
			"Exit code 1 when a decision comes out otherwise, or can't be taken again from its inputs. Nothing is recorded. The embedded\n" +
			"ClickHouse has one user at a time: beside a running server, ask POST /v1/decisions/{id}/replay.",
		Example: "  vaglio replay rr_1\n  vaglio replay --from 2026-11-01 --until 2026-12-01",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (len(args) == 1) == (period.From != 0 || period.Until != 0) || len(args) == 0 && period.From >= period.Until {
				return usagef("replay wants either a decision or --from and --until, a time after it")
			}
			in, err := newInstallation(cmd, s.wiring)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			store, err := in.openHistory(cmd.Context())
			if err != nil {
				return err
			}
			l, err := in.openLedger(cmd.Context())
			if err != nil {
				return err
			}
			engine, _, err := s.engine(cmd.Context(), in, store, l)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return replayOne(cmd, engine, args[0], asJSON)
			}
			return replayMany(cmd, engine, l, period, asJSON)
		},
	}
	s.historyFlags(cmd)
	s.ledgerFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&period.From}, "from", "take again what was decided from this time on")
	f.Var(instantFlag{&period.Until}, "until", "and before this one")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func replayOne(cmd *cobra.Command, engine *scoring.Engine, id string, asJSON bool) error {
	r, err := engine.Replay(cmd.Context(), id)
	if err != nil {
		return err
	}
	if asJSON {
		err = json.MarshalWrite(cmd.OutOrStdout(), &r, jsontext.Multiline(true))
	} else {
		printReplayed(cmd.OutOrStdout(), &r)
	}
	if err == nil && !holds(&r) {
		err = errReported
	}
	return err
}

// holds reports whether the decision is confirmed: the same from its inputs, and not another one from history.
func holds(r *scoring.Replayed) bool {
	return r.FromInputs.Same && (r.FromHistory.Same || r.FromHistory.Unavailable != "")
}

func printReplayed(out io.Writer, r *scoring.Replayed) {
	fmt.Fprintf(out, "%s of request %s, decided %s\n", r.DecisionID, r.RequestID, r.DecidedAt)
	for _, from := range []struct {
		what string
		c    *scoring.Comparison
	}{{"from its inputs", &r.FromInputs}, {"from history", &r.FromHistory}} {
		c := from.c
		switch {
		case c.Unavailable != "":
			fmt.Fprintf(out, "  %s: can't be taken again: %s\n", from.what, c.Unavailable)
		case c.Same:
			fmt.Fprintf(out, "  %s: the same\n", from.what)
		default:
			fmt.Fprintf(out, "  %s: %s\n", from.what, paint(out, red, "differs"))
		}
		for _, d := range append(c.Differences, c.Features...) {
			fmt.Fprintf(out, "    %s: %s then, %s now\n", d.Name, shortened(string(d.Then)), shortened(string(d.Now)))
		}
		for _, t := range c.Timelines {
			fmt.Fprintf(out, "    events of %s: %d then, %d now", t.Entity, t.Then, t.Now)
			if len(t.CameLater) > 0 {
				fmt.Fprintf(out, "; came later: %s", strings.Join(t.CameLater, ", "))
			}
			fmt.Fprintln(out)
		}
	}
}

// shortened keeps a value on its line.
func shortened(text string) string {
	const most = 100
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// tallied counts how decisions came out again.
type tallied struct {
	Same        int `json:"same"`
	Different   int `json:"different"`
	Unavailable int `json:"unavailable"`
}

func (t *tallied) count(c *scoring.Comparison) {
	switch {
	case c.Unavailable != "":
		t.Unavailable++
	case c.Same:
		t.Same++
	default:
		t.Different++
	}
}

func (t *tallied) String() string {
	return fmt.Sprintf("%d the same, %d different, %d can't be taken again", t.Same, t.Different, t.Unavailable)
}

// replayReport is what --json prints of many decisions.
type replayReport struct {
	Decisions   int                `json:"decisions"`
	FromInputs  tallied            `json:"from_inputs"`
	FromHistory tallied            `json:"from_history"`
	Examples    []scoring.Replayed `json:"examples"` // the first that did not hold
}

const (
	replayPage     = 500
	replayExamples = 10
)

func replayMany(cmd *cobra.Command, engine *scoring.Engine, l *ledger.Ledger, period training.Period, asJSON bool) error {
	ctx := cmd.Context()
	total, err := l.CountReplayable(ctx, period.From, period.Until)
	if err != nil {
		return err
	}
	report := replayReport{Examples: []scoring.Replayed{}}
	failed := 0
	shows := newProgress()
	defer shows.end()
	for after := (ledger.Place{}); ; {
		page, err := l.Replayable(ctx, period.From, period.Until, after, replayPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1]
		for _, p := range page {
			r, err := engine.Replay(ctx, p.RequestID)
			if err != nil {
				return fmt.Errorf("request %s: %w", p.RequestID, err)
			}
			report.Decisions++
			report.FromInputs.count(&r.FromInputs)
			report.FromHistory.count(&r.FromHistory)
			if !holds(&r) {
				if failed++; failed <= replayExamples {
					report.Examples = append(report.Examples, r)
				}
			}
			shows.show("replay", int64(report.Decisions), total, "decisions", fmt.Sprintf("%d differ", failed))
		}
	}
	shows.end()
	if asJSON {
		err = json.MarshalWrite(cmd.OutOrStdout(), &report, jsontext.Multiline(true))
	} else {
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "%d decisions\n  from their inputs: %s\n  from history: %s\n", report.Decisions, &report.FromInputs, &report.FromHistory)
		for i := range report.Examples {
			printReplayed(out, &report.Examples[i])
		}
		if failed > replayExamples {
			fmt.Fprintf(out, "and %d more\n", failed-replayExamples)
		}
	}
	if err == nil && failed > 0 {
		err = errReported
	}
	return err
}
