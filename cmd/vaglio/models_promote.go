package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/training"
)

// actorCommand is who did it, in the audit log.
const actorCommand = "command line"

// promotion is what somebody wants, and what speaks for it all the same.
type promotion struct {
	models.Promotion
	stage models.Stage
	force bool
	actor string
}

func stageFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("stage", string(models.Champion),

		"champion, which decides; challenger, which decides for a share of customers; shadow, which only watches")
}

// forceFlags overrule the gate.
func (p *promotion) forceFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.force, "force", false, "promote although the gate refuses; wants --reason")
	cmd.Flags().StringVar(&p.Reason, "reason", "", "why, recorded with the promotion")
}

func (p *promotion) check() error {
	if p.force && p.Reason == "" {
		return usagef("--force wants --reason TEXT: it is recorded with the promotion")
	}
	return nil
}

// parseShare reads 5% or 0.05.
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("want a share of customers such as 5%%, not %q", text)
	}
	return share, nil
}

func newModelsPromote() *cobra.Command {
	var w wiring
	var p promotion
	var share, policyFile string
	cmd := &cobra.Command{Use: "promote VERSION", Short: "Make a model champion, challenger or shadow; a running server takes it up", Args: exactly(1),
		Long: "Make a model champion, challenger or shadow; a running server takes it up.\n\n" +
			"A champion must have been tested on requests after its training, and may not be worse than the present champion, in average\n" +
			"precision or in money, beyond noise, on the newest labelled requests that neither has learnt from.",
		Example: "  vaglio models promote 20260601-080000 --stage challenger --share 5%\n" +
			"  vaglio models promote 20260601-080000\n" +
			"  vaglio models promote elsewhere --force --reason \"ticket 4711: the champion does not know the new channel\""}
	stage := stageFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		p.Version, p.stage, p.actor = args[0], models.Stage(*stage), actorCommand
		if err := p.check(); err != nil {
			return err
		}
		if p.stage == models.Challenger {
			if p.Share, err = parseShare(share); err != nil {
				return usagef("--share: %v", err)
			}
		} else if cmd.Flags().Changed("share") {
			return usagef("--share is a challenger's")
		}
		in, err := newInstallation(cmd, w)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		return in.promote(cmd, p, policyFile, nil)
	}
	w.historyFlags(cmd)
	w.ledgerFlags(cmd)
	p.forceFlags(cmd)
	cmd.Flags().StringVar(&share, "share", "5%", "of customers for whom a challenger decides; 0% only watches")
	cmd.Flags().StringVar(&policyFile, "policy", "", "policy that says what mistakes cost (default: the published one, or else the default one)")
	return cmd
}

// promote puts a model of the registry through the gate, promotes it, and notes it in the audit log. The history that it is
// held against the champion on is opened when it is needed, unless it is given.
func (in *installation) promote(cmd *cobra.Command, p promotion, policyFile string, store *history.Store) error {
	ctx := cmd.Context()
	registry, err := in.registry()
	if err != nil {
		return err
	}
	l, err := in.openLedger(ctx)
	if err != nil {
		return err
	}
	gated, err := in.gate(cmd, registry, l, p, policyFile, store)
	if err != nil {
		return err
	}
	if gated.Champion != "" && gated.Requests > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), gatedText(&gated))
	}
	if err := gated.Err(p.Version, p.stage); err != nil && !p.force {
		return fmt.Errorf("%w\n--force --reason TEXT promotes it all the same", err)
	}
	p.At = vaglio.InstantOf(time.Now())
	if err := registry.Promote(p.stage, p.Promotion); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "model %s is %s\n", p.Version, p.stage)
	detail := stageDetail{Stage: p.stage, Share: p.Share, Reason: p.Reason}
	for _, against := range gated.Against {
		detail.Against = append(detail.Against, against.Error())
	}
	return noteModel(ctx, l, p.actor, "model.promoted", p.Version, detail)
}

// gate asks what speaks against a promotion. What is forced is not held against the champion.
func (in *installation) gate(cmd *cobra.Command, registry *models.Registry, l *ledger.Ledger, p promotion, policyFile string,
	store *history.Store) (training.Gated, error) {
	model, err := registry.Open(p.Version)
	if err != nil {
		return training.Gated{}, err
	}
	manifest := model.Manifest()
	if p.force {
		return training.Gated{Against: manifest.Against(p.stage)}, nil
	}
	var champion *models.Bundle
	o := training.GateOptions{Cut: vaglio.InstantOf(time.Now()), Measure: training.MeasureOptions{Seed: 1}}
	if version, ok, err := registry.Current(models.Champion); err != nil {
		return training.Gated{}, err
	} else if ok && p.stage == models.Champion && version != p.Version && len(manifest.Against(p.stage)) == 0 {
		if champion, err = registry.Open(version); err != nil {
			return training.Gated{}, fmt.Errorf("open the champion, to compare with it: %w", err)
		}
		if o.Policy, err = policyInForce(cmd.Context(), l, policyFile); err != nil {
			return training.Gated{}, err
		}
		if o.History = store; store == nil {
			if o.History, err = in.joinHistory(cmd.Context()); err != nil {
				return training.Gated{}, err
			}
		}
	}
	bar := newProgress()
	defer bar.end()
	o.Progress = func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) }
	return training.Gate(cmd.Context(), model, champion, p.stage, o)
}

// policyInForce is the policy of a file, or the published one, or the default one.
func policyInForce(ctx context.Context, l *ledger.Ledger, file string) (*policy.Policy, error) {
	if file != "" {
		return readPolicy(file)
	}
	version, err := l.CurrentPolicy(ctx)
	if err != nil || version == "" {
		return policy.Default(), err
	}
	text, err := l.Policy(ctx, version)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(text.Source)
	if err != nil {
		return nil, fmt.Errorf("the published policy %s: %w", version, err)
	}
	return p, nil
}

func gatedText(g *training.Gated) string {
	text := fmt.Sprintf("beside the champion %s, on %d requests of %s to %s with %d frauds", g.Champion, g.Requests, day(g.From), day(g.Until), g.Frauds)
	if d := g.Ranking; d.Interval != nil {
		text += fmt.Sprintf(": average precision %+.4f (95 %%: %+.4f to %+.4f)", *d.Difference, d.Interval.Low, d.Interval.High)
	}
	if s := g.Money; s.Interval != nil {
		text += fmt.Sprintf(", its thresholds save %d minor units (%.0f to %.0f)", s.Amount, s.Interval.Low, s.Interval.High)
	}
	return text
}

// stageDetail is what the audit log keeps of a change of stages.
type stageDetail struct {
	Stage   models.Stage `json:"stage"`
	Share   float64      `json:"share,omitzero"`
	Reason  string       `json:"reason,omitzero"`
	Against []string     `json:"against,omitempty"` // what the gate found
}

func noteModel(ctx context.Context, l *ledger.Ledger, actor, action, version string, detail any) error {
	text, err := json.Marshal(detail, json.Deterministic(true))
	if err != nil {
		return err
	}
	return l.Note(ctx, ledger.AuditEntry{Actor: actor, Action: action, Subject: version, Detail: text})
}

// changeStage runs a change of a stage and notes it.
func changeStage(w *wiring, change func(*cobra.Command, *models.Registry) (stage models.Stage, action, version string, err error),
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) (err error) {
		in, err := newInstallation(cmd, *w)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.Close()) }()
		registry, err := in.registry()
		if err != nil {
			return err
		}
		l, err := in.openLedger(cmd.Context())
		if err != nil {
			return err
		}
		stage, action, version, err := change(cmd, registry)
		if err != nil {
			return err
		}
		return noteModel(cmd.Context(), l, actorCommand, action, version, stageDetail{Stage: stage})
	}
}

func newModelsRollback() *cobra.Command {
	var w wiring
	cmd := &cobra.Command{Use: "rollback", Short: "Take the last promotion back; a running server takes the model before it up", Args: exactly(0)}
	stage := stageFlag(cmd)
	cmd.RunE = changeStage(&w, func(cmd *cobra.Command, registry *models.Registry) (models.Stage, string, string, error) {
		version, err := registry.Rollback(models.Stage(*stage), vaglio.InstantOf(time.Now()))
		if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "model %s is %s again\n", version, *stage)
		}
		return models.Stage(*stage), "model.rolled_back", version, err
	})
	w.ledgerFlags(cmd)
	return cmd
}

func newModelsWithdraw() *cobra.Command {
	var w wiring
	var stage string
	cmd := &cobra.Command{Use: "withdraw --stage challenger|shadow", Args: exactly(0),
		Short: "Leave a stage empty: the champion decides for all, or nothing watches"}
	cmd.RunE = changeStage(&w, func(cmd *cobra.Command, registry *models.Registry) (models.Stage, string, string, error) {
		of := models.Stage(stage)
		if of != models.Challenger && of != models.Shadow {
			return of, "", "", usagef("models withdraw wants --stage challenger or --stage shadow")
		}
		version, ok, err := registry.Current(of)
		if err == nil && !ok {
			err = fmt.Errorf("there is no %s", of)
		}
		if err != nil {
			return of, "", "", err
		}
		if err := registry.Withdraw(of, vaglio.InstantOf(time.Now())); err != nil {
			return of, "", "", err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "model %s is no longer %s\n", version, of)
		return of, "model.withdrawn", version, nil
	})
	cmd.Flags().StringVar(&stage, "stage", "", "challenger or shadow")
	w.ledgerFlags(cmd)
	return cmd
}
