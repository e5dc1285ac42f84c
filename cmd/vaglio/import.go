package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio/history/ingest"
)

func newImport() *cobra.Command {
	var w wiring
	var mapping, onError, rejects, rates string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import [flags] FILE…",
		Short: "Import events from NDJSON or mapped CSV files (also .gz, - is standard input)",
		Example: "  vaglio import events.ndjson.gz\n  vaglio import --mapping mapping.yaml --on-error skip sales.csv.gz\n" +
			"  vaglio import --rates eurofxref-hist.csv",
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			if len(files) == 0 && rates == "" {
				return usagef("import wants files, or - for standard input")
			}
			o := ingest.Options{Rejects: rejects}
			switch onError {
			case "stop":
				o.OnError = ingest.Stop
			case "skip":
				o.OnError = ingest.Skip
			default:
				return usagef("--on-error is stop or skip, not %q", onError)
			}
			if mapping != "" {
				if o.Mapping, err = ingest.ReadMapping(mapping); err != nil {
					return err
				}
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			store, err := in.joinHistory(cmd.Context())
			if err != nil {
				return err
			}
			if rates != "" {
				file, err := os.Open(rates)
				if err != nil {
					return err
				}
				defer file.Close()
				n, err := store.ImportRates(cmd.Context(), file)
				if err != nil {
					return fmt.Errorf("import rates from %s: %w", rates, err)
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%d exchange rates stored\n", n)
			}
			if len(files) == 0 {
				return nil
			}
			o.Sink = store.Import
			bar := newProgress()
			o.Progress = func(p ingest.Progress) {
				bar.show(string(p.Phase), p.BytesDone, p.BytesTotal, "bytes", fmt.Sprintf("%d events, %.0f/s", p.Events, p.Rate))
			}
			report, err := ingest.Files(cmd.Context(), o, files)
			bar.end()
			if asJSON {
				if err := json.MarshalWrite(cmd.OutOrStdout(), &report, jsontext.Multiline(true)); err != nil {
					return err
				}
			} else {
				printReport(cmd, &report)
			}
			if err == nil && report.Rejected+report.Conflicts > 0 {
				return errReported
			}
			return err
		},
	}
	w.historyFlags(cmd)
	cmd.Flags().StringVar(&mapping, "mapping", "", "YAML file that turns CSV rows into events")
	cmd.Flags().StringVar(&onError, "on-error", "stop", "what a bad line does: stop, or skip it into the rejects file")
	cmd.Flags().StringVar(&rejects, "rejects", "", "rejects file of --on-error skip (default FILE.rejects)")
	cmd.Flags().StringVar(&rates, "rates", "", "also import exchange rates from a CSV in the ECB's layout")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func printReport(cmd *cobra.Command, r *ingest.Report) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%d lines, %d events: %d stored, %d stored before, %d conflicts, %d bad lines, %d lines without an event, in %.1f s\n",
		r.Lines, r.Events, r.Stored, r.Repeated, r.Conflicts, r.Rejected, r.NoEvent, r.Elapsed.Seconds())
	for i := range r.Rejects {
		fmt.Fprintln(cmd.ErrOrStderr(), paint(os.Stderr, red, r.Rejects[i].Error()))
	}
	if r.RejectsFile != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "all rejected lines are in %s\n", r.RejectsFile)
	}
}
