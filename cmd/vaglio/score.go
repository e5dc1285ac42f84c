package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring"
	"vaglio/training"
)

func newScore() *cobra.Command {
	s := serving{budget: time.Minute} // nobody waits for a single answer
	var period training.Period
	var limit int
	var out string
	cmd := &cobra.Command{
		Use:   "score [FILE]",
		Short: "Decide requests without recording anything: those of a file now, or those of history as of their own moments",
		Example: "  vaglio score request.json\n" +
			"  vaglio score --from 2026-01-01 --until 2026-02-01 --limit 1000 --out decisions.ndjson",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			if (len(files) == 1) == (period.From != 0 || period.Until != 0) {
				return usagef("score wants either a FILE of requests or --from and --until")
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
			var requests []dryRequest
			if len(files) == 1 {
				requests, err = readRequests(files[0])
			} else {
				requests, err = requestsOf(cmd.Context(), store, period, limit)
			}
			if err != nil {
				return err
			}
			return scoreAll(cmd, engine, requests, out)
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&period.From}, "from", "decide the requests of history from here on")
	f.Var(instantFlag{&period.Until}, "until", "end of that period, exclusive")
	f.IntVar(&limit, "limit", 1000, "at most so many requests of history, the first ones")
	f.StringVar(&out, "out", "", "write the decisions as NDJSON (default: standard output for a file, nowhere for history)")
	return cmd
}

// dryRequest is a request with the moment of which it is decided; 0 is now.
type dryRequest struct {
	vaglio.Request
	asOf vaglio.Instant
}

// readRequests reads a file of requests, one a line, or a single one over many lines.
func readRequests(path string) ([]dryRequest, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if r, err := vaglio.DecodeRequest(content); err == nil {
		return []dryRequest{{Request: r}}, nil
	}
	var requests []dryRequest
	line := 0
	for text := range bytes.Lines(content) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		r, err := vaglio.DecodeRequest(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, line, err)
		}
		requests = append(requests, dryRequest{Request: r})
	}
	return requests, nil
}

func requestsOf(ctx context.Context, store *history.Store, p training.Period, limit int) ([]dryRequest, error) {
	var requests []dryRequest
	err := store.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From, p.Until, func(f vaglio.Fact) error {
		requests = append(requests, dryRequest{vaglio.RequestOf(&f.Event), f.OccurredAt})
		return nil
	})
	slices.SortFunc(requests, func(a, b dryRequest) int { return cmp.Or(cmp.Compare(a.asOf, b.asOf), cmp.Compare(a.ID, b.ID)) })
	return requests[:min(limit, len(requests))], err
}

// scoreAll decides in order and prints a summary.
func scoreAll(cmd *cobra.Command, engine *scoring.Engine, requests []dryRequest, out string) error {
	verdicts, degraded, reasons := map[vaglio.Verdict]int{}, 0, map[string]int{}
	decide := func(w *bufio.Writer) error {
		bar, started := newProgress(), time.Now()
		for i := range requests {
			answer, err := engine.Decide(cmd.Context(), &requests[i].Request, scoring.DecideOptions{DryRun: true, AsOf: requests[i].asOf})
			if err != nil {
				return fmt.Errorf("request %s: %w", requests[i].ID, err)
			}
			d, err := vaglio.Decode[vaglio.Decision](answer.Body)
			if err != nil {
				return fmt.Errorf("request %s: %w", requests[i].ID, err)
			}
			verdicts[d.Verdict]++
			if d.Degraded {
				degraded++
			}
			if len(d.Reasons) > 0 {
				reasons[d.Reasons[0].Code]++
			}
			if w != nil {
				if _, err := w.Write(append(answer.Body, '\n')); err != nil {
					return err
				}
			}
			bar.show("deciding", int64(i+1), int64(len(requests)), "requests", "")
		}
		bar.end()
		seconds := time.Since(started).Seconds()
		fmt.Fprintf(cmd.ErrOrStderr(), "%d requests in %.1f s: %d approve, %d review, %d deny; %d degraded\n",
			len(requests), seconds, verdicts[vaglio.Approve], verdicts[vaglio.Review], verdicts[vaglio.Deny], degraded)
		codes := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int { return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b)) })
		for _, code := range codes {
			fmt.Fprintf(cmd.ErrOrStderr(), "  %5d  strongest reason %s\n", reasons[code], code)
		}
		return nil
	}
	switch {
	case out != "":
		return writeFile(out, func(w io.Writer) error {
			buffered := bufio.NewWriter(w)
			return errors.Join(decide(buffered), buffered.Flush())
		})
	case len(requests) > 0 && requests[0].asOf == 0:
		buffered := bufio.NewWriter(cmd.OutOrStdout())
		return errors.Join(decide(buffered), buffered.Flush())
	default:
		return decide(nil)
	}
}
