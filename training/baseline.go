package training

import (
	"context"
	"errors"
	"fmt"
	"math"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring/policy"
)

// PolicyRules are a policy's rules without any model, as a baseline: what no rule holds up is approved. Rules about features
// that a matrix lacks are left out, and so is what only the ledger knows: caps, duplicates, what is left of a payment.
func PolicyRules(h *history.Store, p *policy.Policy) Rules {
	return func(ctx context.Context, m *Matrix) (Baseline, error) {
		bound, _ := p.BindLoose(m.Catalogue)
		verdicts := make([]vaglio.Verdict, len(m.Rows))
		var ev policy.Evaluation
		err := eachRequest(ctx, h, m, func(row int, f *vaglio.Fact) {
			request := vaglio.RequestOf(&f.Event)
			verdicts[row] = bound.RulesOnly(&policy.Input{Request: &request, Fact: f, Vector: m.vector(row), Probability: math.NaN(),
				RiskScore: math.NaN(), Moment: f.OccurredAt}, &ev)
		})
		return func(row int) vaglio.Verdict { return verdicts[row] }, err
	}
}

// eachRequest visits the event behind every row of a matrix once. A row whose event history no longer has is an error.
func eachRequest(ctx context.Context, h *history.Store, m *Matrix, visit func(row int, request *vaglio.Fact)) error {
	if len(m.Rows) == 0 {
		return nil
	}
	rows := make(map[string]int, len(m.Rows))
	for i := range m.Rows {
		rows[m.Rows[i].ID] = i
	}
	err := h.Scan(ctx, []string{vaglio.KindRefundRequested}, m.Rows[0].At, m.Rows[len(m.Rows)-1].At+1, func(f vaglio.Fact) error {
		if i, ok := rows[f.ID]; ok && m.Rows[i].At == f.OccurredAt {
			delete(rows, f.ID)
			visit(i, &f)
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("read the requests: %w", err)
	case len(rows) > 0:
		return errors.New("read the requests: history changed in between; run again")
	default:
		return nil
	}
}
