package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
)

func newFeatures() *cobra.Command {
	cmd := &cobra.Command{Use: "features", Short: "Check and list feature catalogues"}
	cmd.AddCommand(
		&cobra.Command{Use: "check FILE", Short: "Check a catalogue; errors name line, feature and reason", Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				catalogue, err := readCatalogue(args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %d features\n", args[0], len(catalogue.Features()))
				return nil
			}},
		&cobra.Command{Use: "list [FILE]", Short: "List the features of a catalogue (default: the embedded one)", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				catalogue, err := readCatalogue(strings.Join(args, ""))
				if err != nil {
					return err
				}
				var rows [][]string
				for _, f := range catalogue.Features() {
					rows = append(rows, []string{f.Name, f.Entity, window(f), string(f.Unit), f.Reason})
				}
				table(cmd.OutOrStdout(), []string{"FEATURE", "ENTITY", "WINDOW", "UNIT", "REASON"}, rows, nil)
				return nil
			}},
	)
	return cmd
}

func window(f features.Feature) string {
	switch {
	case f.Window == 0:
		return ""
	case f.Window%vaglio.Day == 0:
		return fmt.Sprintf("%d d", f.Window/vaglio.Day)
	default:
		return fmt.Sprintf("%d h", f.Window/vaglio.Hour)
	}
}
