package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/files"
	"vaglio/simulate"
)

func newSimulate() *cobra.Command {
	c := simulate.DefaultConfig()
	var out, truth string
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Write a synthetic history with known fraud patterns, for demos and tests",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("simulate wants --out FILE")
			}
			if c.Until == 0 {
				c.Until = vaglio.InstantOf(time.Now()) / vaglio.Day * vaglio.Day
			}
			if err := c.Validate(); err != nil {
				return usageError{err}
			}
			started := time.Now()
			bar := newProgress()
			var summary simulate.Summary
			err := writeFile(out, func(events io.Writer) error {
				return writeFile(truth, func(truths io.Writer) (err error) {
					summary, err = simulate.Write(cmd.Context(), c, events, truths, func(done, total int) {
						bar.show("simulating", int64(done), int64(total), "customers", "")
					})
					return err
				})
			})
			bar.end()
			if err != nil {
				return err
			}
			seconds := time.Since(started).Seconds()
			fmt.Fprintf(cmd.OutOrStdout(), "%d events of %d customers (synthetic), %d payments, %d requests, %d of them fraud, %d labelled so; %.0f events/s\n",
				summary.Events, summary.Customers, summary.Payments, summary.Requests, summary.Frauds, summary.Confirmed, float64(summary.Events)/seconds)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Customers, "customers", c.Customers, "number of customers")
	f.IntVar(&c.Days, "days", c.Days, "days of history")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed: the same one gives the same history")
	f.Var(instantFlag{&c.Until}, "until", "end of the history, exclusive (default: today's midnight, UTC)")
	f.StringVar(&out, "out", "", "NDJSON file to write, gzip if it ends in .gz")
	f.StringVar(&truth, "truth", "", "also write which requests are fraud, and of which pattern, as CSV")
	f.StringVar(&c.Currency, "currency", c.Currency, "currency of the shop (ISO 4217)")
	f.Float64Var(&c.RequestShare, "request-share", c.RequestShare, "requests per payment")
	f.Float64Var(&c.FraudShare, "fraud-share", c.FraudShare, "frauds per request")
	return cmd
}

// writeFile lets write fill a file, zipped if it is named .gz, which appears under its name only when it is complete; "" calls write
// with nil.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return write(nil)
	}
	return files.Write(path, func(out io.Writer) error {
		if !strings.HasSuffix(path, ".gz") {
			return write(out)
		}
		zipped, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(write(zipped), zipped.Close())
	})
}
