package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/ledger"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Create, list and revoke API keys"}
	var w wiring
	withLedger := func(use func(*cobra.Command, *ledger.Ledger, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) (err error) {
			in, err := newInstallation(cmd, w)
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
	var scopes []string
	var expires vaglio.Instant
	create := &cobra.Command{Use: "create NAME", Short: "Create a key; its secret is shown once", Args: exactly(1),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			key, secret, err := l.CreateKey(cmd.Context(), args[0], scopes, expires)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "key %s (%s); the secret is not shown again:\n", key.ID, strings.Join(key.Scopes, ", "))
			fmt.Fprintln(cmd.OutOrStdout(), secret)
			return nil
		})}
	create.Flags().StringSliceVar(&scopes, "scopes", []string{ledger.ScopeScore}, "score, events, review, admin (which includes all)")
	create.Flags().Var(instantFlag{&expires}, "expires", "when the key stops working (default: never)")
	list := &cobra.Command{Use: "list", Short: "List the keys", Args: exactly(0),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			keys, err := l.Keys(cmd.Context())
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range keys {
				rows = append(rows, []string{k.ID, k.Name, strings.Join(k.Scopes, ","), moment(k.CreatedAt), moment(k.ExpiresAt), moment(k.RevokedAt)})
			}
			table(cmd.OutOrStdout(), []string{"ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "REVOKED"}, rows, nil)
			return nil
		})}
	revoke := &cobra.Command{Use: "revoke ID", Short: "Revoke a key at once", Args: exactly(1),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			return l.RevokeKey(cmd.Context(), args[0])
		})}
	for _, sub := range []*cobra.Command{create, list, revoke} {
		w.ledgerFlags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

func moment(at vaglio.Instant) string {
	if at == 0 {
		return ""
	}
	return at.String()
}
