package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"vaglio/native"
)

func newDoctor() *cobra.Command {
	var w wiring
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check that everything that Vaglio needs is there and works",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			healthy := true
			check := func(what string, try func(context.Context) (string, error)) {
				ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
				defer cancel()
				note, err := try(ctx)
				mark := paint(cmd.OutOrStdout(), green, "ok  ")
				if err != nil {
					mark, note, healthy = paint(cmd.OutOrStdout(), red, "FAIL"), err.Error(), false
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %-10s  %s\n", mark, what, note)
			}
			check("LightGBM", func(context.Context) (string, error) {
				_, err := native.Open("lib_lightgbm.so")
				return "its library loads", err
			})
			check("history", func(ctx context.Context) (string, error) {
				store, err := in.openHistory(ctx)
				if err != nil {
					return "", err
				}
				n, err := store.Count(ctx)
				return fmt.Sprintf("%d events, amounts in %s", n, store.BaseCurrency()), err
			})
			check("ledger", func(ctx context.Context) (string, error) {
				l, err := in.openLedger(ctx)
				if err != nil {
					return "", err
				}
				n, err := l.Backlog(ctx)
				return fmt.Sprintf("%d events wait for history", n), err
			})
			check("model", func(context.Context) (string, error) {
				bundle, err := in.openModel("")
				if err != nil {
					return "", err
				}
				return fmt.Sprintf("champion %s with %d features, its golden rows come out the same", bundle.Manifest().Version, len(bundle.Catalogue().Features())), nil
			})
			if !healthy {
				return errReported
			}
			return nil
		},
	}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	return cmd
}
