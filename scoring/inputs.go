package scoring

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/scoring/states"
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

// concludedInputs are the inputs with what the transaction added. They are joined as texts, the first time in the room that
// encodeInputs left: other decisions wait meanwhile.
func (d *decision) concludedInputs(standing *ledger.Standing, s policy.Situation) ([]byte, error) {
	c := Concluded{GoneMinor: d.exposure.gone, ReservedMinor: d.exposure.reserved, Foreign: d.exposure.foreign, Blind: d.blind, Standing: standing}
	if d.exposure.known {
		c.CapturedMinor = &d.exposure.captured
	}
	if !math.IsNaN(s.QueueLoad) {
		c.QueueLoad = &s.QueueLoad
	}
	if s.Guard != (policy.GuardState{}) {
		c.Guard = &s.Guard
	}
	added, err := json.Marshal(&c)
	if err != nil {
		return nil, err
	}
	open := d.inputs[:len(d.inputs)-1] // neither is empty
	d.inputs = slices.Clip(d.inputs)
	return append(append(open, ','), added[1:]...), nil
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

// encodeInputs writes what is kept of the decision into d.inputs, but for what the transaction adds.
func (d *decision) encodeInputs() error {
	in := Inputs{Moment: d.moment, Entities: d.fact.Entities, Language: d.language(), PolicyVersion: d.setup.policy.Version(),
		Lists: d.engine.lists.Revisions(), Explored: d.explored, Shadows: d.shadows, Timelines: d.timelines()}
	if d.fact.BaseKnown {
		in.BaseAmount = &d.fact.BaseAmount
	}
	if a := d.assessment; a != nil {
		in.Model, in.Stage, in.LogOdds, in.Base = d.out.Model, d.seat.stage, &a.logOdds, &a.base
	}
	text, err := json.Marshal(&in)
	if err != nil {
		return err
	}
	// The many features go in by hand.
	head, tail, _ := bytes.Cut(text, []byte(`"features":[`)) // quotes are escaped within strings
	const perFeature, room = 80, 512
	d.inputs = append(make([]byte, 0, len(text)+perFeature*len(d.vector)+room), head...)
	d.inputs = append(d.inputs, `"features":[`...)
	d.inputs = d.appendFeatures(d.inputs)
	d.inputs = append(d.inputs, tail...)
	return nil
}

// timelines are those that were read and that features read, by kind and id.
func (d *decision) timelines() []TimelineInput {
	all := make([]TimelineInput, 0, len(d.known.timelines))
	sorted := slices.Clone(d.known.timelines)
	slices.SortFunc(sorted, func(a, b states.Timeline) int {
		return cmp.Or(cmp.Compare(a.Entity.Kind, b.Entity.Kind), cmp.Compare(a.Entity.ID, b.Entity.ID))
	})
	for _, tl := range sorted {
		if tl.State != nil {
			events, hash := tl.State.Used(d.moment)
			all = append(all, TimelineInput{tl.Entity.String(), events, fmt.Sprintf("%016x", hash)})
		}
	}
	return all
}

// appendFeatures appends a [FeatureInput] for each entry of the vector.
func (d *decision) appendFeatures(b []byte) []byte {
	features := d.seat.catalogue.Features()
	for i, v := range d.vector {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"name":"`...), features[i].Name...) // a-z, 0-9 and _
		b = models.Number(v).AppendJSON(append(b, `","value":`...))
		b = append(b, `,"contribution":`...)
		if d.assessment != nil {
			b = vaglio.AppendNumber(b, d.assessment.contributions[i])
		} else {
			b = append(b, '0')
		}
		b = append(b, '}')
	}
	return b
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
