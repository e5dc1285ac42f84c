package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"vaglio/models"
)

func newModels() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "List and promote models"}
	withRegistry := func(use func(*cobra.Command, *models.Registry, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			in, err := newInstallation(cmd, wiring{})
			if err != nil {
				return err
			}
			registry, err := in.registry()
			if err != nil {
				return err
			}
			return use(cmd, registry, args)
		}
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List the models of the registry, with the reason where one is refused", Args: exactly(0),
			RunE: withRegistry(func(cmd *cobra.Command, registry *models.Registry, _ []string) error {
				entries, err := registry.List()
				if err != nil {
					return err
				}
				champion, _, err := registry.Current(models.Champion)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, e := range entries {
					stage, auc, ap, note := "", "", "", ""
					if e.Version == champion {
						stage = string(models.Champion)
					}
					if e.Refused != nil {
						note = "refused: " + e.Refused.Error()
					} else {
						auc = fmt.Sprintf("%.4f", e.Manifest.Metrics["roc_auc"])
						ap = fmt.Sprintf("%.4f", e.Manifest.Metrics["average_precision"])
						note = fmt.Sprintf("trained on %d requests until %s", e.Manifest.Training.Rows, e.Manifest.Training.Until)
					}
					rows = append(rows, []string{e.Version, stage, auc, ap, note})
				}
				table(cmd.OutOrStdout(), []string{"VERSION", "STAGE", "ROC AUC", "AVG PREC", "NOTE"}, rows, nil)
				return nil
			})},
		&cobra.Command{Use: "promote VERSION", Short: "Make a model champion; a running server takes it up", Args: exactly(1),
			RunE: withRegistry(func(cmd *cobra.Command, registry *models.Registry, args []string) error {
				if err := registry.Promote(args[0], models.Champion); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "model %s is champion\n", args[0])
				return nil
			})},
	)
	return cmd
}
