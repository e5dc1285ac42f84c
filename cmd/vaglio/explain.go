package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
)

func newExplain() *cobra.Command {
	s := serving{budget: time.Minute}
	var asOf vaglio.Instant
	var svg, lang string
	var most int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain FILE|ID",
		Short: "Show what led to a decision: a recorded one by its id or its request's, or that of a request in a file, which is not recorded",
		Example: "  vaglio explain dec_01k…\n" +
			"  vaglio explain request.json --lang it --svg request.svg",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if !slices.Contains(vaglio.Languages, lang) {
				return usagef("--lang: want one of %s", strings.Join(vaglio.Languages, ", "))
			}
			if most < 1 {
				return usagef("--features: want at least 1")
			}
			in, err := newInstallation(cmd, s.wiring)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			stored, err := s.explained(cmd, in, args[0], asOf, lang)
			if err != nil {
				return err
			}
			x, err := scoring.Explain(stored)
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), &x, jsontext.Multiline(true))
			}
			w, ok := x.Waterfall(s.modelOf(in, x.Model), lang, most)
			if !ok {
				return fmt.Errorf("no model explains decision %s: it is degraded (%s)", x.DecisionID, strings.Join(x.DegradedReasons, ", "))
			}
			if svg != "" {
				if err := writeFile(svg, w.SVG); err != nil {
					return fmt.Errorf("write %s: %w", svg, err)
				}
			}
			printWaterfall(cmd.OutOrStdout(), &w)
			printReasons(cmd.OutOrStdout(), &x)
			return nil
		},
	}
	s.historyFlags(cmd)
	s.ledgerFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&s.model, "model", "", "for a request: folder of a bundle, or version in the registry (default: the champion)")
	f.StringVar(&s.policy, "policy", "", "for a request: policy file")
	f.Var(instantFlag{&asOf}, "as-of", "for a request: decide as of this time (default: now)")
	f.StringVar(&lang, "lang", vaglio.Languages[0], "language of the picture, and of the reasons of a request: "+strings.Join(vaglio.Languages, " or "))
	f.IntVar(&most, "features", 12, "show so many features, the others together")
	f.StringVar(&svg, "svg", "", "also write the waterfall as an SVG file")
	f.BoolVar(&asJSON, "json", false, "print everything as JSON instead")
	return cmd
}

// explained is the decision of a request in a file, or a recorded one: that needs neither history nor a model.
func (s *serving) explained(cmd *cobra.Command, in *installation, name string, asOf vaglio.Instant, lang string) (ledger.Stored, error) {
	l, err := in.openLedger(cmd.Context())
	if err != nil {
		return ledger.Stored{}, err
	}
	if _, err := os.Stat(name); err != nil {
		return l.Decision(cmd.Context(), name)
	}
	requests, err := readRequests(name)
	if err != nil {
		return ledger.Stored{}, err
	}
	if len(requests) != 1 {
		return ledger.Stored{}, fmt.Errorf("%s holds %d requests: explain takes one", name, len(requests))
	}
	store, err := in.openHistory(cmd.Context())
	if err != nil {
		return ledger.Stored{}, err
	}
	engine, _, err := s.engine(cmd.Context(), in, store, l)
	if err != nil {
		return ledger.Stored{}, err
	}
	answer, err := engine.Decide(cmd.Context(), &requests[0].Request, scoring.DecideOptions{DryRun: true, AsOf: asOf, Language: lang})
	if err != nil {
		return ledger.Stored{}, err
	}
	return ledger.Stored{RequestID: requests[0].ID, DecisionID: "of a dry run", Response: answer.Body, Inputs: answer.Inputs}, nil
}

// modelOf is the model that decided, nil if it is not to be had any more: then values lack units.
func (s *serving) modelOf(in *installation, identity *vaglio.ModelIdentity) *models.Bundle {
	if identity == nil {
		return nil
	}
	for _, name := range []string{s.model, identity.Version} {
		if bundle, err := in.openModel(name); err == nil && bundle.Identity() == *identity {
			return bundle
		}
	}
	return nil
}

// barWidth is that of the picture's bars in a terminal.
const barWidth = 44

// printWaterfall draws a line a feature: name, value, contribution, and the bar between the sums before and after it.
func printWaterfall(out io.Writer, w *scoring.Waterfall) {
	fmt.Fprintln(out, paint(out, bold, w.Title))
	fmt.Fprintln(out, w.Summary)
	fmt.Fprintln(out)
	low, high := w.Extent()
	column := func(v float64) int { return int(math.Round((v - low) / (high - low) * (barWidth - 1))) }
	label, value := max(utf8.RuneCountInString(w.Begin()), utf8.RuneCountInString(w.End())), 0
	for _, b := range w.Bars {
		label, value = max(label, utf8.RuneCountInString(b.Label)), max(value, utf8.RuneCountInString(b.Value))
	}
	line := func(name, shown, number, bar string) {
		fmt.Fprintln(out, strings.TrimRight(pad(name, label)+"  "+pad(shown, -value)+"  "+pad(number, -7)+"  "+bar, " "))
	}
	line(w.Begin(), "", w.Signed(w.Base), strings.Repeat(" ", column(w.Base))+"◆")
	for _, b := range w.Bars {
		from, to := min(column(b.From), column(b.To)), max(column(b.From), column(b.To))
		colour, piece := green, "░"
		if b.Contribution() > 0 {
			colour, piece = red, "█"
		}
		line(b.Label, b.Value, w.Signed(b.Contribution()), strings.Repeat(" ", from)+paint(out, colour, strings.Repeat(piece, to-from+1)))
	}
	line(w.End(), "", w.Signed(w.LogOdds), strings.Repeat(" ", column(w.LogOdds))+"◆")
}

// pad fills a text with spaces on the right, or on the left for a width below 0.
func pad(s string, width int) string {
	left := width < 0
	if left {
		width = -width
	}
	spaces := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
	if left {
		return spaces + s
	}
	return s + spaces
}

func printReasons(out io.Writer, x *scoring.ReviewerExplanation) {
	fmt.Fprintln(out)
	for _, r := range x.Reasons {
		sign, colour := "+", red
		if r.Direction == "lowers" {
			sign, colour = "−", green
		}
		fmt.Fprintf(out, "%s %s  %s\n", paint(out, colour, sign), paint(out, bold, r.Code), r.Text)
	}
	if c := x.Counterfactual; c != nil {
		fmt.Fprintf(out, "\n%s\n", c.Text)
	}
	if x.AdditivityError != nil {
		fmt.Fprintf(out, "\n%s\n", paint(out, dim, fmt.Sprintf("additivity error %.1e", *x.AdditivityError)))
	}
}
