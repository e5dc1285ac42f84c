package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/ledger"
)

// withBoth runs a command on ledger and history.
func withBoth(w *wiring, use func(*cobra.Command, *ledger.Ledger, *history.Store, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		in, err := newInstallation(cmd, *w)
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
		return use(cmd, l, store, args)
	}
}

// maxForgetting is how often history is looked through: what was on its way there comes in behind the first look.
const maxForgetting = 5

func newForget() *cobra.Command {
	var w wiring
	var actor string
	var lists bool
	cmd := &cobra.Command{Use: "forget CUSTOMER", Short: "Give a customer, and what is his alone, a random name everywhere", Args: exactly(1),
		Long: "Give a customer, and the devices, instruments and addresses that are his alone, random names in ledger and history.\n\n" +
			"What belongs together stays together, and nothing leads to him. It can't be undone. Cut off, it can be run again.\n" +
			"Running servers drop what they have in memory within seconds. Lists that name him keep him, and are told; --lists takes him off.",
		RunE: withBoth(&w, func(cmd *cobra.Command, l *ledger.Ledger, store *history.Store, args []string) error {
			ctx, customer := cmd.Context(), args[0]
			own, err := store.Own(ctx, customer)
			if err != nil {
				return err
			}
			done, err := l.Forget(ctx, customer, actor, own...)
			if err != nil {
				return err
			}
			unlisted := 0
			if lists {
				if unlisted, err = l.Unlist(ctx, done.Pseudonyms, actor); err != nil {
					return err
				}
			}
			listed, err := l.Listed(ctx, done.Pseudonyms)
			if err != nil {
				return err
			}
			now := vaglio.InstantOf(time.Now())
			listed = slices.DeleteFunc(listed, func(s ledger.Listing) bool { return s.Until != 0 && s.Until <= now }) // these get the new names
			var events, decisions int
			for range maxForgetting {
				n, err := store.Forget(ctx, customer, done.Pseudonyms)
				if err != nil {
					return err
				}
				events, decisions = events+n.Events, decisions+n.Decisions
				if n == (history.Forgotten{}) {
					break
				}
			}
			if err := l.ForgottenEverywhere(ctx, customer, done.Pseudonym, actor); err != nil {
				return err
			}
			return json.MarshalWrite(cmd.OutOrStdout(), &struct {
				Pseudonym string            `json:"pseudonym"`
				Entities  int               `json:"entities"` // renamed, the customer included
				Ledger    ledger.Forgotten  `json:"ledger"`
				History   history.Forgotten `json:"history"`
				Unlisted  int               `json:"unlisted"` // taken off lists
				Listed    []ledger.Listing  `json:"listed"`   // that still name him
			}{done.Pseudonym, len(done.Pseudonyms), done, history.Forgotten{Events: events, Decisions: decisions}, unlisted,
				append([]ledger.Listing{}, listed...)})
		})}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&actor, "actor", "command line", "who does it, for the audit log")
	cmd.Flags().BoolVar(&lists, "lists", false, "take him off all lists too, block-lists included")
	return cmd
}

func newExport() *cobra.Command {
	var w wiring
	var actor string
	cmd := &cobra.Command{Use: "export CUSTOMER", Short: "Write everything held of a customer as NDJSON", Args: exactly(1),
		RunE: withBoth(&w, func(cmd *cobra.Command, l *ledger.Ledger, store *history.Store, args []string) error {
			out := &counting{Writer: cmd.OutOrStdout()}
			err := errors.Join(l.Export(cmd.Context(), args[0], out), store.Export(cmd.Context(), args[0], out))
			if out.bytes == 0 {
				return err // of a customer that nobody knows nothing is written down either
			}
			return errors.Join(err, l.Note(cmd.Context(), ledger.AuditEntry{Actor: actor, Action: "customer.exported", Subject: args[0]}))
		})}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&actor, "actor", "command line", "who does it, for the audit log")
	return cmd
}

// counting counts what is written.
type counting struct {
	io.Writer
	bytes int
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.bytes += n
	return n, err
}

func newSweep() *cobra.Command {
	var w wiring
	var inputs, decisions, audit string
	cmd := &cobra.Command{Use: "sweep", Short: "Remove from the ledger what is older than it may be", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			var keep ledger.Retention
			for _, f := range []struct {
				name, text string
				into       *time.Duration
			}{{"inputs", inputs, &keep.Inputs}, {"decisions", decisions, &keep.Decisions}, {"audit", audit, &keep.Audit}} {
				if f.text == "" {
					continue
				}
				span, err := parseDays(f.text)
				if err != nil || span == 0 {
					return usagef("--%s: want a number of days such as 90d", f.name)
				}
				*f.into = time.Duration(span) * time.Millisecond
			}
			swept, err := l.Sweep(cmd.Context(), keep)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed: inputs of %d decisions, texts of %d, %d customers of movements, %d audit entries\n", swept.Inputs, swept.Decisions,
				swept.Movements, swept.Audit)
			return nil
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&inputs, "inputs", "", "how long to keep what decisions were made from, such as 90d (default: for ever)")
	cmd.Flags().StringVar(&decisions, "decisions", "", "how long to keep texts of requests and decisions (default: for ever)")
	cmd.Flags().StringVar(&audit, "audit", "", "how long to keep entries of the audit log (default: for ever)")
	return cmd
}
