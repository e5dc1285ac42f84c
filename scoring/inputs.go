package scoring

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// Inputs is what a decision was made from, kept beside it: enough to explain it for ever and to take it again.
type Inputs struct {
	Moment        vaglio.Instant        `json:"moment"`
	Entities      vaglio.Fields         `json:"entities"`              // completed
	BaseAmount    *int64                `json:"base_amount,omitempty"` // minor units of the base currency; nil: unknown
	Language      string                `json:"language"`
	Timelines     []TimelineInput       `json:"timelines"`
	Model         *vaglio.ModelIdentity `json:"model"`
	Stage         string                `json:"stage,omitzero"` // of the model
	Features      []FeatureInput        `json:"features"`
	LogOdds       *float64              `json:"log_odds"`
	Base          *float64              `json:"base"` // log-odds before any feature is known
	PolicyVersion string                `json:"policy_version"`
	Lists         string                `json:"lists,omitzero"` // the revision of each
	Explored      bool                  `json:"explored,omitzero"`
	Shadows       []vaglio.Shadow       `json:"shadows,omitempty"`
	Concluded     `json:",inline"`
}

// Concluded is what a decision learned within the ledger's transaction.
type Concluded struct {
	CapturedMinor *int64             `json:"captured,omitempty"` // nil: unknown
	GoneMinor     int64              `json:"gone,omitzero"`
	ReservedMinor int64              `json:"reserved,omitzero"`
	Foreign       bool               `json:"foreign,omitzero"`
	Blind         bool               `json:"blind,omitzero"` // without what it should rest on
	QueueLoad     *float64           `json:"queue_load,omitempty"`
	Guard         *policy.GuardState `json:"guard,omitempty"`
	Standing      *ledger.Standing   `json:"standing,omitempty"`
}

// TimelineInput identifies the events that a decision saw of one entity.
type TimelineInput struct {
	Entity string `json:"entity"`
	Events int    `json:"events"`
	Hash   string `json:"hash"` // of the set of ids and times, in no order
}

// FeatureInput is one entry of the vector with what it contributed, in log-odds.
type FeatureInput struct {
	Name         string        `json:"name"`
	Value        models.Number `json:"value"`
	Contribution float64       `json:"contribution"`
}

// Explanation is a decision in numbers: base + all contributions = log-odds, up to AdditivityError.
type Explanation struct {
	DecisionID      string                `json:"decision_id"`
	RequestID       string                `json:"request_id"`
	Model           *vaglio.ModelIdentity `json:"model"`
	LogOdds         *float64              `json:"log_odds"`
	Base            *float64              `json:"base"`
	Features        []FeatureInput        `json:"features"`
	AdditivityError *float64              `json:"additivity_error"`
	FeaturesAsOf    vaglio.Instant        `json:"features_as_of"`
	Timelines       []TimelineInput       `json:"timelines"`
}

// Explanation reads a decision's numbers from what was stored with it; the model need not exist any more.
func (e *Engine) Explanation(ctx context.Context, id string) (Explanation, error) {
	stored, err := e.ledger.Decision(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	return explanationOf(stored)
}

func explanationOf(stored ledger.Stored) (Explanation, error) {
	if len(stored.Inputs) == 0 {
		return Explanation{}, fmt.Errorf("the inputs of decision %s: %w", stored.DecisionID, ledger.ErrNotKept)
	}
	var in Inputs
	if err := json.Unmarshal(stored.Inputs, &in); err != nil {
		return Explanation{}, fmt.Errorf("read the inputs of decision %s: %w", stored.DecisionID, err)
	}
	x := Explanation{DecisionID: stored.DecisionID, RequestID: stored.RequestID, Model: in.Model, LogOdds: in.LogOdds, Base: in.Base,
		Features: in.Features, FeaturesAsOf: in.Moment, Timelines: in.Timelines}
	if in.LogOdds != nil && in.Base != nil {
		contributions := make([]float64, len(in.Features))
		for i := range in.Features {
			contributions[i] = in.Features[i].Contribution
		}
		off := models.AdditivityError(*in.LogOdds, *in.Base, contributions)
		x.AdditivityError = &off
	}
	return x, nil
}
