package scoring

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/scoring/states"
)

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
	var room [64]FeatureInput
	in.Features = d.features(room[:0])
	const perFeature, perTimeline, rest = 75, 120, 1200
	e := vaglio.Encoder{Bytes: make([]byte, 0, perFeature*len(in.Features)+perTimeline*len(in.Timelines)+rest)}
	in.encode(&e)
	d.inputs = e.Bytes
	return e.Err
}

// features appends each entry of the vector.
func (d *decision) features(all []FeatureInput) []FeatureInput {
	known := d.seat.catalogue.Features()
	for i, v := range d.vector {
		f := FeatureInput{Name: known[i].Name, Value: models.Number(v)}
		if d.assessment != nil {
			f.Contribution = d.assessment.contributions[i]
		}
		all = append(all, f)
	}
	return all
}

// timelines are those that were read and that features read, by kind and id.
func (d *decision) timelines() []TimelineInput {
	var room [16]states.Timeline
	sorted := room[:0]
	for _, tl := range d.known.timelines {
		if tl.State != nil {
			sorted = append(sorted, tl)
		}
	}
	slices.SortFunc(sorted, func(a, b states.Timeline) int {
		return cmp.Or(cmp.Compare(a.Entity.Kind, b.Entity.Kind), cmp.Compare(a.Entity.ID, b.Entity.ID))
	})
	all := make([]TimelineInput, len(sorted))
	for i, tl := range sorted {
		events, hash := tl.State.Used(d.moment)
		all[i] = TimelineInput{tl.Entity.String(), events, hex.EncodeToString(binary.BigEndian.AppendUint64(nil, hash))}
	}
	return all
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
	e := vaglio.Encoder{Bytes: d.inputs}
	d.inputs = slices.Clip(d.inputs)
	c.encode(&e)
	e.Raw(`}`)
	return e.Bytes, e.Err
}

// encode appends the JSON of the inputs, but for what is [Concluded] and the brace behind it.
func (in *Inputs) encode(e *vaglio.Encoder) {
	e.Moment(`{"moment":`, in.Moment)
	e.Fields(`,"entities":`, in.Entities)
	if in.BaseAmount != nil {
		e.Integer(`,"base_amount":`, *in.BaseAmount)
	}
	e.Text(`,"language":`, in.Language)
	e.Raw(`,"timelines":[`)
	for i := range in.Timelines {
		t := &in.Timelines[i]
		e.Comma(i)
		e.Text(`{"entity":`, t.Entity)
		e.Integer(`,"events":`, int64(t.Events))
		e.Text(`,"hash":`, t.Hash)
		e.Raw(`}`)
	}
	e.Model(`],"model":`, in.Model)
	e.NotEmpty(`,"stage":`, in.Stage)
	e.Raw(`,"features":[`)
	for i := range in.Features {
		f := &in.Features[i]
		e.Comma(i)
		e.Text(`{"name":`, f.Name)
		e.Raw(`,"value":`)
		e.Bytes = f.Value.AppendJSON(e.Bytes)
		e.Number(`,"contribution":`, f.Contribution)
		e.Raw(`}`)
	}
	e.Optional(`],"log_odds":`, in.LogOdds)
	e.Optional(`,"base":`, in.Base)
	e.Text(`,"policy_version":`, in.PolicyVersion)
	e.NotEmpty(`,"lists":`, in.Lists)
	if in.Explored {
		e.Raw(`,"explored":true`)
	}
	if len(in.Shadows) > 0 {
		e.Raw(`,"shadows":[`)
		for i := range in.Shadows {
			s := &in.Shadows[i]
			e.Comma(i)
			e.Text(`{"model_version":`, s.ModelVersion)
			e.Text(`,"stage":`, s.Stage)
			e.Number(`,"probability":`, s.Probability)
			e.Text(`,"decision":`, string(s.Verdict))
			e.Raw(`}`)
		}
		e.Raw(`]`)
	}
}

// encode appends the members that follow.
func (c *Concluded) encode(e *vaglio.Encoder) {
	if c.CapturedMinor != nil {
		e.Integer(`,"captured":`, *c.CapturedMinor)
	}
	if c.GoneMinor != 0 {
		e.Integer(`,"gone":`, c.GoneMinor)
	}
	if c.ReservedMinor != 0 {
		e.Integer(`,"reserved":`, c.ReservedMinor)
	}
	if c.Foreign {
		e.Raw(`,"foreign":true`)
	}
	if c.Blind {
		e.Raw(`,"blind":true`)
	}
	if c.QueueLoad != nil {
		e.Number(`,"queue_load":`, *c.QueueLoad)
	}
	if c.Guard != nil {
		e.Boolean(`,"guard":{"Review":`, c.Guard.Review)
		e.Boolean(`,"Denials":`, c.Guard.Denials)
		e.Text(`,"Reason":`, c.Guard.Reason)
		e.Raw(`}`)
	}
	if c.Standing != nil {
		encodeStanding(e, c.Standing)
	}
}

func encodeStanding(e *vaglio.Encoder, s *ledger.Standing) {
	e.Raw(`,"standing":{"reserved":[`)
	for i := range s.Reserved {
		r := &s.Reserved[i]
		e.Comma(i)
		e.Text(`{"request_id":`, r.RequestID)
		e.Integer(`,"amount":`, r.Amount)
		e.Moment(`,"valid_until":`, r.ValidUntil)
		e.Raw(`}`)
	}
	e.Raw(`],"movements":[`)
	for i := range s.Movements {
		m := &s.Movements[i]
		e.Comma(i)
		e.Text(`{"event_id":`, m.EventID)
		e.Text(`,"kind":`, m.Kind)
		e.NotEmpty(`,"request_id":`, m.RequestID)
		e.NotEmpty(`,"customer":`, m.Customer)
		e.Integer(`,"amount":`, m.Amount)
		e.Text(`,"currency":`, m.Currency)
		e.Moment(`,"occurred_at":`, m.OccurredAt)
		e.Raw(`}`)
	}
	e.Raw(`]`)
	n := &s.Counters
	e.Integer(`,"counters":{"requests_1h":`, int64(n.Requests1h))
	e.Integer(`,"requests_24h":`, int64(n.Requests24h))
	e.Integer(`,"approvals_1h":`, int64(n.Approvals1h))
	e.Integer(`,"approvals_24h":`, int64(n.Approvals24h))
	e.Integer(`,"approved_1h":`, n.Approved1h)
	e.Integer(`,"approved_24h":`, n.Approved24h)
	e.Raw(`}`)
	if s.Duplicate != nil {
		e.Text(`,"duplicate":{"request_id":`, s.Duplicate.RequestID)
		e.NotEmpty(`,"case_id":`, s.Duplicate.CaseID)
		e.Raw(`}`)
	}
	if s.Incomplete {
		e.Raw(`,"incomplete":true`)
	}
	e.Raw(`}`)
}
