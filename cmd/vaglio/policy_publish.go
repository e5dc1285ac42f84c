package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// actor is who runs the command, for the audit log.
func actor() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("cli:%d", os.Getuid())
	}
	return "cli:" + u.Username
}

// maxReason bounds a reason as the API does.
const maxReason = 500

// reasonFlag is why something is changed; it has to be given.
func reasonFlag(cmd *cobra.Command) *string {
	reason := cmd.Flags().String("reason", "", "why, for the audit log (required)")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if strings.TrimSpace(*reason) == "" || len(*reason) > maxReason || strings.ContainsFunc(*reason, unicode.IsControl) {
			return usagef("--reason: want one line of 1 to %d bytes that says why", maxReason)
		}
		return nil
	}
	return reason
}

func newPolicyPublish() *cobra.Command {
	var w wiring
	var fourEyes bool
	cmd := &cobra.Command{Use: "publish FILE", Short: "Publish a policy: running servers decide by it within a second", Args: exactly(1),
		Example: "  vaglio policy publish policy.yaml --reason 'large amounts get a look'"}
	reason := reasonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		in, err := newInstallation(cmd, w)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		p, err := readPolicy(args[0])
		if err != nil {
			return err
		}
		warnings, err := in.fits(p)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		for _, warning := range warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), paint(cmd.ErrOrStderr(), yellow, "warning: "+warning))
		}
		l, err := in.openLedger(cmd.Context())
		if err != nil {
			return err
		}
		published, err := l.ProposePolicy(cmd.Context(), ledger.PolicyText{Version: p.Version(), Name: p.Name, Source: p.Source()}, actor(), *reason, fourEyes)
		if err != nil {
			return err
		}
		if fourEyes {
			fmt.Fprintf(cmd.OutOrStdout(), "policy %s waits for a second person: vaglio policy approve %d\n", published.Version, published.ID)
			return nil
		}
		inForce(cmd, published)
		return nil
	}
	w.ledgerFlags(cmd)
	cmd.Flags().BoolVar(&fourEyes, "four-eyes", false, "wait until another person approves it")
	return cmd
}

func inForce(cmd *cobra.Command, p ledger.Publication) {
	fmt.Fprintf(cmd.OutOrStdout(), "policy %s is in force\n", p.Version)
}

// fits holds a policy against the features of the models that are current for a stage; without any, against the default ones.
func (in *installation) fits(p *policy.Policy) (warnings []string, err error) {
	registry, err := in.registry()
	if err != nil {
		return nil, err
	}
	catalogues := map[string]*features.Catalogue{}
	for _, stage := range models.Stages {
		version, ok, err := registry.Current(stage)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		bundle, err := registry.Open(version)
		if err != nil {
			return nil, err
		}
		catalogues["model "+version] = bundle.Catalogue()
	}
	if len(catalogues) == 0 {
		catalogues["default features"] = features.Default()
	}
	warnings = p.Warnings(vaglio.InstantOf(time.Now()))
	var failures []error
	for name, catalogue := range catalogues {
		bound, err := p.Bind(catalogue)
		if err != nil {
			failures = append(failures, fmt.Errorf("it does not fit the %s: %w", name, err))
			continue
		}
		for _, warning := range bound.Warnings() {
			warnings = append(warnings, name+": "+warning)
		}
	}
	return warnings, errors.Join(failures...)
}

func newPolicyApprove() *cobra.Command {
	var w wiring
	cmd := &cobra.Command{Use: "approve ID", Short: "Bring a policy into force as the second person, by the number of its publication", Args: exactly(1),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return usagef("%q is not the number of a publication: see vaglio policy history", args[0])
			}
			published, err := l.ApprovePolicy(cmd.Context(), id, actor())
			if err != nil {
				return err
			}
			inForce(cmd, published)
			return nil
		})}
	w.ledgerFlags(cmd)
	return cmd
}

func newPolicyRollback() *cobra.Command {
	var w wiring
	cmd := &cobra.Command{Use: "rollback", Short: "Bring the policy before the present one into force again, at once", Args: exactly(0)}
	reason := reasonFlag(cmd)
	cmd.RunE = withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
		published, err := l.RollbackPolicy(cmd.Context(), actor(), *reason)
		if err != nil {
			return err
		}
		inForce(cmd, published)
		return nil
	})
	w.ledgerFlags(cmd)
	return cmd
}

func newPolicyHistory() *cobra.Command {
	var w wiring
	var asJSON bool
	cmd := &cobra.Command{Use: "history", Short: "List what was published or waits to be, the newest first", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			all, err := l.Publications(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), append([]ledger.Publication{}, all...), jsontext.Multiline(true))
			}
			last := int64(0)
			for _, p := range all {
				last = max(last, p.Turn)
			}
			var rows [][]string
			for _, p := range all {
				state := "was in force from " + moment(p.TurnedAt)
				switch p.Turn {
				case 0:
					state = "waits since " + moment(p.ProposedAt)
				case last:
					state = "in force since " + moment(p.TurnedAt)
				}
				rows = append(rows, []string{strconv.FormatInt(p.ID, 10), p.Version, state, p.Author, p.Approver, p.Reason})
			}
			table(cmd.OutOrStdout(), []string{"ID", "VERSION", "STATE", "AUTHOR", "APPROVER", "REASON"}, rows, nil)
			return nil
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func newPolicyShow() *cobra.Command {
	var w wiring
	cmd := &cobra.Command{Use: "show [FILE|VERSION]", Short: "Print a policy (default: the published one, or else the embedded one, to start from)",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := shownPolicy(cmd, w, args)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(source)
			return err
		}}
	w.ledgerFlags(cmd)
	return cmd
}

// shownPolicy is the text of a file, of the embedded policy or of one in the ledger, which is not made for it.
func shownPolicy(cmd *cobra.Command, w wiring, args []string) (source []byte, err error) {
	data, err := cmd.Flags().GetString("data")
	if err != nil {
		return nil, err
	}
	_, noLedger := os.Stat(filepath.Join(data, "ledger.db"))
	if len(args) == 1 {
		_, noFile := os.Stat(args[0])
		if args[0] == "default" || noFile == nil || noLedger != nil && w.ledger == "" {
			p, err := readPolicy(args[0])
			if err != nil {
				return nil, err
			}
			return p.Source(), nil
		}
	}
	if noLedger != nil && w.ledger == "" {
		return policy.DefaultYAML(), nil
	}
	in, err := newInstallation(cmd, w)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	l, err := in.openLedger(cmd.Context())
	if err != nil {
		return nil, err
	}
	if len(args) == 1 {
		text, err := l.Policy(cmd.Context(), args[0])
		return text.Source, err
	}
	p, err := policyInForce(cmd.Context(), l, "")
	if err != nil {
		return nil, err
	}
	return p.Source(), nil
}
