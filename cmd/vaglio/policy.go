package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/scoring/policy"
)

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Check, compare, publish and show policies; \"default\" names the embedded one"}
	cmd.AddCommand(
		newPolicyCheck(),
		newPolicyDiff(),
		newPolicyBacktest(),
		newPolicyShadow(),
		newPolicyShow(),
		newPolicyPublish(),
		newPolicyApprove(),
		newPolicyRollback(),
		newPolicyHistory(),
	)
	return cmd
}

// readPolicy reads a policy file; "" and "default" are the embedded one.
func readPolicy(path string) (*policy.Policy, error) {
	if path == "" || path == "default" {
		return policy.Default(), nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	p, err := policy.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func newPolicyCheck() *cobra.Command {
	var catalogueFile string
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "Check policies: mistakes with line and rule, warnings, and the rules as a table",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			catalogue, err := readCatalogue(catalogueFile)
			if err != nil {
				return err
			}
			failed := false
			for _, path := range args {
				p, err := readPolicy(path)
				var bound *policy.Bound
				if err == nil {
					bound, err = p.Bind(catalogue)
				}
				if err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), err)
					failed = true
					continue
				}
				showPolicy(cmd.OutOrStdout(), path, p, append(p.Warnings(vaglio.InstantOf(time.Now())), bound.Warnings()...))
			}
			if failed {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&catalogueFile, "features", "", "catalogue of the model in use (default: the embedded one)")
	return cmd
}

func showPolicy(w io.Writer, path string, p *policy.Policy, warnings []string) {
	fmt.Fprintf(w, "%s is good: version %s, %d rules, %d segments\n", path, p.Version(), len(p.Rules()), len(p.Segments()))
	if lists := p.Lists(); len(lists) > 0 {
		fmt.Fprintf(w, "asks the lists %s\n", strings.Join(lists, ", "))
	}
	for _, warning := range warnings {
		fmt.Fprintln(w, paint(w, yellow, "warning: "+warning))
	}
	var rows [][]string
	for _, r := range p.Rules() {
		does := r.Action()
		for _, also := range []struct {
			set  bool
			text string
		}{{r.AtMost && r.Then != "", "at most review"}, {r.Override, "override"}, {r.Mandatory, "mandatory"}, {r.Due != policy.Due{}, "due " + r.Due.String()}} {
			if also.set {
				does += ", " + also.text
			}
		}
		rows = append(rows, []string{r.Name, r.State, does, r.Reason, strings.Join(r.Actions, " "), strings.Join(strings.Fields(r.When), " ")})
	}
	if len(rows) > 0 {
		table(w, []string{"RULE", "STATE", "THEN", "REASON", "ACTIONS", "WHEN"}, rows, nil)
	}
}

func newPolicyDiff() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "diff A B",
		Short:   "Show what changes from one policy to another: + added, - removed, ~ changed",
		Example: "  vaglio policy diff default mine.yaml",
		Args:    exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readPolicy(args[0])
			b, other := readPolicy(args[1])
			if err := errors.Join(err, other); err != nil {
				return err
			}
			changes := policy.Diff(a, b)
			out := cmd.OutOrStdout()
			if asJSON {
				return json.MarshalWrite(out, changes, jsontext.Multiline(true))
			}
			for _, c := range changes {
				colour := map[byte]string{'+': green, '-': red}[c.String()[0]]
				fmt.Fprintln(out, paint(out, colour, c.String()))
			}
			if len(changes) == 0 {
				fmt.Fprintln(out, "both say the same")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
