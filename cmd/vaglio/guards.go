package main

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/ledger"
)

func newGuards() *cobra.Command {
	cmd := &cobra.Command{Use: "guards", Short: "List the guards that tripped, and clear one"}
	var w wiring
	var asJSON bool
	list := &cobra.Command{Use: "list", Short: "List the guards that tripped, the newest first", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			trips, err := l.GuardTrips(cmd.Context(), false)
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), append([]ledger.GuardTrip{}, trips...), jsontext.Multiline(true))
			}
			var rows [][]string
			for _, t := range trips {
				rows = append(rows, []string{t.ID, t.Guard, t.Segment, t.TrippedAt.String(), guardState(&t), t.Detail})
			}
			table(cmd.OutOrStdout(), []string{"ID", "GUARD", "SEGMENT", "TRIPPED", "STATE", "DETAIL"}, rows, nil)
			return nil
		})}
	list.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	reset := &cobra.Command{Use: "clear ID", Short: "Clear a guard: running servers go on within a second", Args: exactly(1),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			if err := l.ClearGuard(cmd.Context(), args[0], actor()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "guard %s is cleared\n", args[0])
			return nil
		})}
	for _, sub := range []*cobra.Command{list, reset} {
		w.ledgerFlags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

func guardState(t *ledger.GuardTrip) string {
	switch {
	case t.ClearedAt != 0:
		return fmt.Sprintf("cleared %s by %s", t.ClearedAt, t.ClearedBy)
	case t.Until == 0:
		return "holds until cleared"
	case t.Holds(vaglio.InstantOf(time.Now())):
		return "holds until " + t.Until.String()
	default:
		return "held until " + t.Until.String()
	}
}
