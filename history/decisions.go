package history

import (
	"context"
	"fmt"
	"math"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"vaglio"
)

const decisionColumns = `decided_at, decision_id, request_id, customer, payment, verdict, amount, currency, base_amount, base_known,
	approved_amount, probability, log_odds, risk_score, model_version, policy_version, stage, explored, propensity, audit, degraded,
	degraded_reasons, rule_names, rule_actions, rule_states, shadow_models, shadow_stages, shadow_probabilities, shadow_verdicts, latency_ms`

// DeliverDecisions stores decisions for analytics, such as those of the ledger's outbox. A decision that is stored already
// stays as it is: a repetition changes nothing.
func (s *Store) DeliverDecisions(ctx context.Context, decisions []vaglio.Taken) error {
	if len(decisions) == 0 {
		return nil
	}
	s.storing.Lock()
	defer s.storing.Unlock()
	stored, err := s.storedDecisions(ctx, decisions)
	if err != nil {
		return err
	}
	batch, err := s.conn.PrepareBatch(ctx, "INSERT INTO decisions ("+decisionColumns+", precedence)")
	if err != nil {
		return fmt.Errorf("insert decisions: %w", err)
	}
	defer batch.Close()
	precedence := uint64(math.MaxInt64 - s.now())
	for i := range decisions {
		d := &decisions[i]
		if stored[d.DecisionID] {
			continue
		}
		stored[d.DecisionID] = true
		if err := batch.Append(append(decisionRow(d), precedence)...); err != nil {
			return fmt.Errorf("insert decision %s: %w", d.DecisionID, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert decisions: %w", err)
	}
	return nil
}

// storedDecisions looks up which of the decisions are stored, within the span of time that they are of.
func (s *Store) storedDecisions(ctx context.Context, decisions []vaglio.Taken) (map[string]bool, error) {
	ids := make([]string, len(decisions))
	first, last := decisions[0].DecidedAt, decisions[0].DecidedAt
	for i := range decisions {
		ids[i] = decisions[i].DecisionID
		first, last = min(first, decisions[i].DecidedAt), max(last, decisions[i].DecidedAt)
	}
	ctx, names, err := withStrings(ctx, "wanted", ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "SELECT decision_id FROM decisions WHERE decided_at >= ? AND decided_at <= ? AND decision_id IN "+names,
		int64(first), int64(last))
	if err != nil {
		return nil, fmt.Errorf("look decisions up: %w", err)
	}
	defer rows.Close()
	found := make(map[string]bool, len(ids))
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("look decisions up: %w", err)
		}
		found[id] = true
	}
	return found, rows.Err()
}

// ScanDecisions streams the decisions taken in [from, until), each once, ordered by time.
func (s *Store) ScanDecisions(ctx context.Context, from, until vaglio.Instant, visit func(vaglio.Taken) error) error {
	return s.scanDecisions(ctx, "decided_at >= ? AND decided_at < ?", []any{int64(from), int64(until)}, visit)
}

// ScanDenials streams the requests that were denied in [from, until), some of them more than once, in no order.
func (s *Store) ScanDenials(ctx context.Context, from, until vaglio.Instant, visit func(requestID string, at vaglio.Instant) error) error {
	rows, err := s.conn.Query(ctx, "SELECT request_id, decided_at FROM decisions WHERE decided_at >= ? AND decided_at < ? AND verdict = ?",
		int64(from), int64(until), string(vaglio.Deny))
	if err != nil {
		return fmt.Errorf("scan the denials: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return fmt.Errorf("scan the denials: %w", err)
		}
		if err := visit(id, vaglio.Instant(at)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("scan the denials: %w", err)
	}
	return nil
}

func (s *Store) scanDecisions(ctx context.Context, which string, bound []any, visit func(vaglio.Taken) error) error {
	rows, err := s.conn.Query(ctx, "SELECT "+decisionColumns+" FROM decisions WHERE "+which+
		" ORDER BY decided_at, decision_id, precedence DESC LIMIT 1 BY decided_at, decision_id", bound...)
	if err != nil {
		return fmt.Errorf("scan the decisions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		d, err := scanDecision(rows)
		if err != nil {
			return fmt.Errorf("scan the decisions: %w", err)
		}
		if err := visit(d); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("scan the decisions: %w", err)
	}
	return nil
}

// decisionRow is a decision in the order of decisionColumns.
func decisionRow(d *vaglio.Taken) []any {
	rules := [3][]string{}
	for _, r := range d.Rules {
		for i, v := range []string{r.Name, r.Action, r.State} {
			rules[i] = append(rules[i], v)
		}
	}
	shadows := [3][]string{}
	var probabilities []float64
	for _, sh := range d.Shadows {
		for i, v := range []string{sh.ModelVersion, sh.Stage, string(sh.Verdict)} {
			shadows[i] = append(shadows[i], v)
		}
		probabilities = append(probabilities, sh.Probability)
	}
	return []any{int64(d.DecidedAt), d.DecisionID, d.RequestID, d.Customer, d.Payment, string(d.Verdict), d.Amount, d.Currency, d.BaseAmount,
		d.BaseKnown, d.ApprovedAmount, d.Probability, d.LogOdds, d.RiskScore, d.ModelVersion, d.PolicyVersion, d.Stage, d.Explored,
		d.Propensity, d.Audit, d.Degraded, d.DegradedReasons, rules[0], rules[1], rules[2], shadows[0], shadows[1], probabilities, shadows[2],
		d.LatencyMS}
}

func scanDecision(row driver.Rows) (d vaglio.Taken, err error) {
	var decidedAt int64
	var verdict string
	var names, actions, states, models, stages, verdicts []string
	var probabilities []float64
	err = row.Scan(&decidedAt, &d.DecisionID, &d.RequestID, &d.Customer, &d.Payment, &verdict, &d.Amount, &d.Currency, &d.BaseAmount, &d.BaseKnown,
		&d.ApprovedAmount, &d.Probability, &d.LogOdds, &d.RiskScore, &d.ModelVersion, &d.PolicyVersion, &d.Stage, &d.Explored, &d.Propensity,
		&d.Audit, &d.Degraded, &d.DegradedReasons, &names, &actions, &states, &models, &stages, &probabilities, &verdicts, &d.LatencyMS)
	if err != nil {
		return d, err
	}
	d.DecidedAt, d.Verdict = vaglio.Instant(decidedAt), vaglio.Verdict(verdict)
	for i := range names {
		d.Rules = append(d.Rules, vaglio.RuleHit{Name: names[i], Action: actions[i], State: states[i]})
	}
	for i := range models {
		d.Shadows = append(d.Shadows, vaglio.Shadow{ModelVersion: models[i], Stage: stages[i], Probability: probabilities[i], Verdict: vaglio.Verdict(verdicts[i])})
	}
	return d, nil
}
