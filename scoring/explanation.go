package scoring

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
)

// Audience is who reads an explanation.
type Audience string

// The audiences. All three read the same stored decision.
const (
	Reviewer Audience = "reviewer" // everything
	Auditor  Audience = "auditor"  // the numbers, whether they add up, and every version involved
	Customer Audience = "customer" // sentences that are true and teach nothing
)

// Audiences lists them; the second is the default.
var Audiences = []Audience{Reviewer, Auditor, Customer}

// AuditorExplanation are the numbers of a decision with what it became and all that it was made by.
type AuditorExplanation struct {
	Explanation
	Verdict          vaglio.Verdict   `json:"decision"`
	FraudProbability *float64         `json:"fraud_probability"`
	RiskScore        *float64         `json:"risk_score"`
	Rules            []vaglio.RuleHit `json:"rules"`
	PolicyVersion    string           `json:"policy_version"`
	Degraded         bool             `json:"degraded"`
	DegradedReasons  []string         `json:"degraded_reasons"`
	DecidedAt        vaglio.Instant   `json:"decided_at"`
}

// ReviewerExplanation is everything.
type ReviewerExplanation struct {
	AuditorExplanation
	RiskLevel       string          `json:"risk_level"`
	Reasons         []vaglio.Reason `json:"reasons"`
	RequiredActions []string        `json:"required_actions"`
	Counterfactual  *vaglio.Change  `json:"counterfactual"`
	Warnings        []string        `json:"warnings"`
	currency        string          // of the request
}

// CustomerExplanation is what the customer may read: no number, no name of a rule, no code.
type CustomerExplanation struct {
	RequestID string         `json:"request_id"`
	Verdict   vaglio.Verdict `json:"decision"`
	Texts     []string       `json:"texts"` // for any channel, each once
	// EarlierContactTexts may go only to a contact that is older than the account's latest changes: whoever took the account
	// over reads the others.
	EarlierContactTexts []string `json:"earlier_contact_texts"`
}

// ExplanationFor explains a stored decision, by its id or its request's, to an audience: a [ReviewerExplanation], an
// [AuditorExplanation] or a [CustomerExplanation]. Texts are in the language in which the request was decided.
func (e *Engine) ExplanationFor(ctx context.Context, id string, audience Audience) (any, error) {
	stored, err := e.ledger.Decision(ctx, id)
	if err != nil {
		return nil, err
	}
	x, err := Explain(stored)
	if err != nil {
		return nil, err
	}
	switch audience {
	case Customer:
		return x.customer(), nil
	case Reviewer:
		return x, nil
	default:
		return x.AuditorExplanation, nil
	}
}

// Explain reads everything that explains a decision from what was stored with it, or from the answer of a dry run.
func Explain(stored ledger.Stored) (ReviewerExplanation, error) {
	var x ReviewerExplanation
	numbers, err := explanationOf(stored)
	if err != nil {
		return x, err
	}
	var d vaglio.Decision
	if err := json.Unmarshal(stored.Response, &d); err != nil {
		return x, fmt.Errorf("read decision %s: %w", stored.DecisionID, err)
	}
	x = ReviewerExplanation{AuditorExplanation: AuditorExplanation{Explanation: numbers, Verdict: d.Verdict, FraudProbability: d.FraudProbability,
		RiskScore: d.RiskScore, Rules: d.Rules, PolicyVersion: d.PolicyVersion, Degraded: d.Degraded, DegradedReasons: d.DegradedReasons,
		DecidedAt: d.DecidedAt}, RiskLevel: d.RiskLevel, Reasons: d.Reasons, RequiredActions: d.RequiredActions,
		Counterfactual: d.Counterfactual, Warnings: d.Warnings}
	if d.ExpectedLoss != nil {
		x.currency = d.ExpectedLoss.Currency
	}
	return x, nil
}

func (x *ReviewerExplanation) customer() CustomerExplanation {
	c := CustomerExplanation{RequestID: x.RequestID, Verdict: x.Verdict, Texts: []string{}, EarlierContactTexts: []string{}}
	add := func(to *[]string, text string) {
		if text != "" && !slices.Contains(*to, text) {
			*to = append(*to, text)
		}
	}
	for _, r := range x.Reasons {
		add(&c.Texts, r.CustomerText)
		add(&c.EarlierContactTexts, r.EarlierContactText)
	}
	return c
}
