package training

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"vaglio"
	"vaglio/history"
	"vaglio/scoring/policy"
)

// ShadowOptions say which live decisions are looked at. History is required.
type ShadowOptions struct {
	History      *history.Store
	Period                                 // of decisions
	Cut          vaglio.Instant            // labels learned later are not used; 0: all labels
	Maturity     vaglio.Instant            // age from which a request without a label counts as clean; 0: DefaultMaturity
	RailMaturity map[string]vaglio.Instant // that of rails that need more; nil: none, or DefaultRailMaturity when Maturity is 0, too
}

// ShadowReport says what rules in shadow have found in live traffic. Money is in minor units of the base currency.
type ShadowReport struct {
	From         vaglio.Instant `json:"from"`
	Until        vaglio.Instant `json:"until"`
	BaseCurrency string         `json:"base_currency"`
	Decisions    int            `json:"requests"` // taken live
	Warnings     []string       `json:"warnings"`
	Rules        []ShadowRule   `json:"rules"` // the most frequent first
}

// ShadowRule is a rule in shadow, with the policies in which it stood.
type ShadowRule struct {
	RuleShare
	Policies []string `json:"policies"` // versions, sorted
}

// shadowHit is a live decision on which rules in shadow fired.
type shadowHit struct {
	at         vaglio.Instant
	verdict    vaglio.Verdict
	baseAmount int64
	policy     string
	rules      []vaglio.RuleHit // all that fired
}

// ShadowRules counts the hits of rules in shadow among live decisions, with what the decisions were and what the requests turned
// out to be. In memory are the decisions that have such hits.
func ShadowRules(ctx context.Context, o ShadowOptions) (ShadowReport, error) {
	if err := o.check("observed"); err != nil {
		return ShadowReport{}, err
	}
	if o.Cut == 0 {
		o.Cut = math.MaxInt64
	}
	out := ShadowReport{From: o.From, Until: o.Until, BaseCurrency: o.History.BaseCurrency(), Warnings: []string{}, Rules: []ShadowRule{}}
	hits := map[string]shadowHit{} // by request
	first, last := vaglio.Instant(math.MaxInt64), vaglio.Instant(0)
	err := o.History.ScanDecisions(ctx, o.From, o.Until, func(d vaglio.Taken) error {
		out.Decisions++
		if slices.ContainsFunc(d.Rules, func(r vaglio.RuleHit) bool { return r.State == policy.Shadow }) {
			h := shadowHit{at: d.DecidedAt, verdict: d.Verdict, policy: d.PolicyVersion, rules: d.Rules}
			if d.BaseKnown {
				h.baseAmount = d.BaseAmount
			}
			hits[d.RequestID] = h
			first, last = min(first, d.DecidedAt), max(last, d.DecidedAt)
		}
		return nil
	})
	if err != nil {
		return ShadowReport{}, err
	}
	if out.Decisions == 0 {
		out.Warnings = append(out.Warnings, "no decision was taken in this period")
	}
	if len(hits) == 0 {
		return out, nil
	}
	known, err := shadowLabels(ctx, &o, hits, Period{max(0, first-vaglio.Hour), last + 1})
	if err != nil {
		return ShadowReport{}, err
	}
	if known == nil {
		out.Warnings = append(out.Warnings, "no label says fraud or clean of any request: there is money, but nothing of right and wrong")
	}
	rules, policies := map[vaglio.RuleHit]*RuleShare{}, map[vaglio.RuleHit]map[string]bool{}
	for request, h := range hits {
		label, ok := known[request]
		if !ok {
			label = labelUnsettled
		}
		noteRules(rules, &hit{label: label, amount: h.baseAmount}, h.verdict, h.rules)
		for _, r := range h.rules {
			if policies[r] == nil {
				policies[r] = map[string]bool{}
			}
			policies[r][h.policy] = true
		}
	}
	for _, r := range rulesOf(rules, false) {
		if r.State != policy.Shadow {
			continue
		}
		s := ShadowRule{RuleShare: r}
		for version := range policies[vaglio.RuleHit{Name: r.Rule, Action: r.Action, State: r.State}] {
			s.Policies = append(s.Policies, version)
		}
		slices.Sort(s.Policies)
		out.Rules = append(out.Rules, s)
	}
	return out, nil
}

// shadowLabels are what is known of some requests; nil if nobody labels.
func shadowLabels(ctx context.Context, o *ShadowOptions, hits map[string]shadowHit, asked Period) (map[string]string, error) {
	labels, err := ReadLabels(ctx, o.History, asked.From, o.Cut)
	if err != nil || labels.labelled == 0 {
		return nil, err
	}
	known := make(map[string]string, len(hits))
	rows := newRowMaker()
	err = o.History.Scan(ctx, []string{vaglio.KindRefundRequested}, asked.From, asked.Until, func(f vaglio.Fact) error {
		if _, ok := hits[f.ID]; ok {
			row := rows.row(&f)
			known[strings.Clone(f.ID)] = labelOf(labels, &row, o.Cut, maturityOf(o.Maturity, o.RailMaturity))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the requests of %d decisions: %w", len(hits), err)
	}
	return known, nil
}
