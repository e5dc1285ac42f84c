package main

import (
	"cmp"
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

// liveDays are looked back on without --from.
const liveDays = 30 * vaglio.Day

// compareLive compares what models said on live decisions.
func compareLive(cmd *cobra.Command, w wiring, asked *training.CompareOptions, maturity string, asJSON bool) (err error) {
	o := training.LiveOptions{Period: asked.Period, Cut: vaglio.InstantOf(time.Now()), Measure: asked.Measure}
	if o.Maturity, err = parseDays(maturity); err != nil {
		return usagef("--maturity: %v", err)
	}
	o.Until = cmp.Or(o.Until, o.Cut)
	o.From = cmp.Or(o.From, o.Until-liveDays)
	in, err := newInstallation(cmd, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if o.History, err = in.joinHistory(cmd.Context()); err != nil {
		return err
	}
	live, err := training.CompareLive(cmd.Context(), o)
	if err != nil {
		return err
	}
	if asJSON {
		return json.MarshalWrite(cmd.OutOrStdout(), &live, json.Deterministic(true), jsontext.Multiline(true))
	}
	printLive(cmd.OutOrStdout(), &live, o.History.BaseCurrency())
	return nil
}

func printLive(out io.Writer, l *training.Live, currency string) {
	fmt.Fprintf(out, "%d decisions of %s to %s, %d of them with a model\n", l.Decisions, day(l.From), day(l.Until), l.Scored)
	if len(l.Pairs) == 0 {
		fmt.Fprintln(out, "no challenger or shadow took part in them beside a champion")
	}
	for i := range l.Pairs {
		printPair(out, &l.Pairs[i], currency)
	}
}

func printPair(out io.Writer, p *training.LivePair, currency string) {
	fmt.Fprintf(out, "\n%s %s beside the champion %s: %d decisions, %d of them its own\n", p.Stage, paint(out, bold, p.Model), p.Champion, p.Decisions, p.Decided)
	fmt.Fprintf(out, "mean probability %.4f, of the champion %.4f; %.4f apart on average; population stability index %.3f\n", p.MeanModel, p.MeanChampion,
		p.MeanApart, p.PSI)
	var rows [][]string
	same := 0
	for _, d := range p.Verdicts {
		if d.A == d.B {
			same += d.Requests
		}
		if d.Requests > 0 {
			rows = append(rows, []string{string(d.A), string(d.B), strconv.Itoa(d.Requests), moneyText(d.Amount, currency), strconv.Itoa(d.Frauds)})
		}
	}
	fmt.Fprintf(out, "they agree on %s\n", shareText(same, p.Decisions))
	table(out, []string{"CHAMPION", "MODEL", "REQUESTS", "AMOUNT", "KNOWN FRAUDS"}, rows, verdictColours)
	if p.Unmeasured != "" {
		fmt.Fprintln(out, p.Unmeasured)
		return
	}
	fmt.Fprintf(out, "on %d decisions with a settled label, %d of them fraud:\n", p.Labelled, p.Frauds)
	printDifferences(out, "MODEL", "CHAMPION", p.Differences)
}
