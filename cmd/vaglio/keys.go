package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/ledger"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Create, list, rotate, limit and revoke API keys"}
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
	var rate float64
	create := &cobra.Command{Use: "create NAME", Short: "Create a key; its secret is shown once", Args: exactly(1),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			key, secret, err := l.CreateKey(cmd.Context(), args[0], scopes, expires)
			if err != nil {
				return err
			}
			if rate != 0 {
				if err := l.SetKeyRate(cmd.Context(), key.ID, rate); err != nil {
					return errors.Join(err, l.RevokeKey(cmd.Context(), key.ID))
				}
			}
			showSecret(cmd, key, secret)
			return nil
		})}
	create.Flags().Float64Var(&rate, "rate-limit", 0, "calls a second; 0: that of the server")
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
				rows = append(rows, []string{k.ID, k.Name, strings.Join(k.Scopes, ","), limit(k.RateLimit), moment(k.CreatedAt), moment(k.LastUsedAt),
					moment(k.ExpiresAt), moment(k.RevokedAt), k.Replaces})
			}
			table(cmd.OutOrStdout(), []string{"ID", "NAME", "SCOPES", "RATE", "CREATED", "LAST USED", "EXPIRES", "REVOKED", "REPLACES"}, rows, nil)
			return nil
		})}
	revoke := &cobra.Command{Use: "revoke ID", Short: "Revoke a key at once", Args: exactly(1),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			return l.RevokeKey(cmd.Context(), args[0])
		})}
	var overlap time.Duration
	rotate := &cobra.Command{Use: "rotate ID", Short: "Replace a key: a new one with the same rights; the old one ends after the overlap", Args: exactly(1),
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			key, secret, err := l.RotateKey(cmd.Context(), args[0], overlap)
			if err != nil {
				return err
			}
			showSecret(cmd, key, secret)
			return nil
		})}
	rotate.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "how long the old key stays usable")
	limitKey := &cobra.Command{Use: "limit ID RATE", Args: exactly(2),
		Short: "Limit a key to calls a second: a number, `server` for that of the server, or `none`",
		RunE: withLedger(func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			named, ok := map[string]float64{"server": 0, "none": -1}[args[1]]
			if ok {
				return l.SetKeyRate(cmd.Context(), args[0], named)
			}
			rate, err := strconv.ParseFloat(args[1], 64)
			if err != nil || rate <= 0 {
				return usagef("%q is neither a number of calls a second above 0 nor server nor none", args[1])
			}
			return l.SetKeyRate(cmd.Context(), args[0], rate)
		})}
	for _, sub := range []*cobra.Command{create, list, rotate, limitKey, revoke} {
		w.ledgerFlags(sub)
		cmd.AddCommand(sub)
	}
	return cmd
}

func showSecret(cmd *cobra.Command, key ledger.Key, secret string) {
	fmt.Fprintf(cmd.ErrOrStderr(), "key %s (%s); the secret is not shown again:\n", key.ID, strings.Join(key.Scopes, ", "))
	fmt.Fprintln(cmd.OutOrStdout(), secret)
}

// limit is a key's own rate in words.
func limit(perSecond float64) string {
	switch {
	case perSecond > 0:
		return strconv.FormatFloat(perSecond, 'g', -1, 64) + "/s"
	case perSecond < 0:
		return "none"
	default:
		return ""
	}
}

func moment(at vaglio.Instant) string {
	if at == 0 {
		return ""
	}
	return at.String()
}
