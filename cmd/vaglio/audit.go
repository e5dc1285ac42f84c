package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio/ledger"
)

// withLedger runs a command on an open ledger.
func withLedger(w *wiring, use func(*cobra.Command, *ledger.Ledger, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		in, err := newInstallation(cmd, *w)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		l, err := in.openLedger(cmd.Context())
		if err != nil {
			return err
		}
		return use(cmd, l, args)
	}
}

func newAudit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Verify that decisions and the audit log are as they were written; export the root; read the log"}
	var w wiring
	var against string
	var asJSON bool
	verify := &cobra.Command{Use: "verify", Short: "Find any change of decisions, revisions and the audit log", Args: exactly(0),
		Long: "Find any change, deletion, insertion or other order in decisions, revisions and the audit log, and say where.\n\n" +
			"Without --root, who can write the database can make the chain anew or cut off its end unseen: export roots with\n" +
			"`vaglio audit root`, keep them where he can't write, and give one here.",
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			var roots []ledger.AuditRoot
			if against != "" {
				text, err := os.ReadFile(against)
				if err != nil {
					return fmt.Errorf("read the exported root: %w", err)
				}
				var root ledger.AuditRoot
				if err := json.Unmarshal(text, &root, json.RejectUnknownMembers(true)); err != nil || len(root.Hash) != 64 {
					return usagef("%s is not a root that `vaglio audit root` wrote", against)
				}
				roots = append(roots, root)
			}
			var leaves int64
			shows := newProgress()
			report, err := l.Verify(cmd.Context(), func(done, total int64) {
				shows.show("verify", done, total, "leaves", "")
				leaves = done
			}, roots...)
			shows.end()
			if err != nil {
				return err
			}
			if asJSON {
				if err := json.MarshalWrite(cmd.OutOrStdout(), &report, jsontext.WithIndent("  ")); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout())
			} else {
				for _, p := range report.Problems {
					fmt.Fprintln(cmd.OutOrStdout(), p)
				}
				if report.More > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "and %d more\n", report.More)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d blocks, %d leaves: %d rows as they were sealed, %d removed by retention; root %d %s\n", report.Blocks, leaves,
					report.Rows, report.Removed, report.Root.Seq, report.Root.Hash)
			}
			if !report.Intact() {
				return errReported
			}
			return nil
		})}
	verify.Flags().StringVar(&against, "root", "", "file with a root exported before")
	verify.Flags().BoolVar(&asJSON, "json", false, "the report as JSON")
	root := &cobra.Command{Use: "root", Short: "Print the chain's present root as JSON, to be kept elsewhere", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			root, err := l.Root(cmd.Context())
			if err != nil {
				return err
			}
			if err := json.MarshalWrite(cmd.OutOrStdout(), &root); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return nil
		})}
	var after int64
	var limit int
	var logJSON bool
	log := &cobra.Command{Use: "log", Short: "List who did what", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			entries, err := l.AuditLog(cmd.Context(), after, limit)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, e := range entries {
				if logJSON {
					if err := json.MarshalWrite(cmd.OutOrStdout(), &e); err != nil {
						return err
					}
					fmt.Fprintln(cmd.OutOrStdout())
				}
				rows = append(rows, []string{strconv.FormatInt(e.Seq, 10), e.At.String(), e.Actor, e.Action, e.Subject, string(e.Detail)})
			}
			if !logJSON {
				table(cmd.OutOrStdout(), []string{"SEQ", "AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL"}, rows, nil)
			}
			return nil
		})}
	log.Flags().Int64Var(&after, "after", 0, "only entries behind the one with this number")
	log.Flags().IntVar(&limit, "limit", 100, "at most so many")
	log.Flags().BoolVar(&logJSON, "json", false, "one JSON object a line")
	for _, sub := range []*cobra.Command{verify, root, log} {
		w.ledgerFlags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}
