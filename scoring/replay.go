package scoring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
	"vaglio/features"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// Replayed is a stored decision taken again, twice: from the inputs stored with it, and from history as it was known then.
type Replayed struct {
	DecisionID  string         `json:"decision_id"`
	RequestID   string         `json:"request_id"`
	DecidedAt   vaglio.Instant `json:"decided_at"`
	FromInputs  Comparison     `json:"from_inputs"`
	FromHistory Comparison     `json:"from_history"`
}

// Comparison says how a decision taken again differs from the stored one. latency_ms and decided_at are left out.
type Comparison struct {
	Same        bool              `json:"same"`
	Unavailable string            `json:"unavailable,omitzero"` // why it could not be taken again
	Differences []Difference      `json:"differences,omitempty"`
	Features    []Difference      `json:"features,omitempty"` // values of the vector
	Timelines   []TimelineChanged `json:"timelines,omitempty"`
}

// Difference is a member of the decision, or a feature, that came out otherwise.
type Difference struct {
	Name string         `json:"name"`
	Then jsontext.Value `json:"then"`
	Now  jsontext.Value `json:"now"`
}

// TimelineChanged is an entity whose events differ from those that the decision saw.
type TimelineChanged struct {
	Entity    string   `json:"entity"`
	Then      int      `json:"then"` // events
	Now       int      `json:"now"`
	CameLater []string `json:"came_later,omitempty"` // ids that were stored after the decision, though they tell of before
}

// Replay takes a stored decision, by its id or its request's, again. [ledger.ErrNotFound] if there is none.
func (e *Engine) Replay(ctx context.Context, id string) (Replayed, error) {
	stored, err := e.ledger.Decision(ctx, id)
	if err != nil {
		return Replayed{}, err
	}
	out := Replayed{DecisionID: stored.DecisionID, RequestID: stored.RequestID, DecidedAt: stored.DecidedAt}
	again, err := e.again(ctx, &stored)
	if err != nil {
		why := Comparison{Unavailable: err.Error()}
		out.FromInputs, out.FromHistory = why, why
		return out, nil
	}
	if out.FromInputs, err = again.fromInputs(); err != nil {
		return Replayed{}, err
	}
	out.FromHistory, err = again.fromHistory(ctx)
	return out, err
}

// again is a stored decision on its way once more.
type again struct {
	stored *ledger.Stored
	then   vaglio.Decision
	inputs Inputs
	base   decision // with the model and the policy of then, knowing nothing yet
}

// again finds what decided then. The error says what is not there any more.
func (e *Engine) again(ctx context.Context, stored *ledger.Stored) (*again, error) {
	a := &again{stored: stored}
	if len(stored.Inputs) == 0 {
		return nil, fmt.Errorf("the inputs of decision %s: %w", stored.DecisionID, ledger.ErrNotKept)
	}
	r, err := vaglio.Decode[vaglio.Request](stored.Request)
	if err == nil {
		a.then, err = vaglio.Decode[vaglio.Decision](stored.Response)
	}
	if err == nil {
		err = json.Unmarshal(stored.Inputs, &a.inputs)
	}
	if err != nil {
		return nil, fmt.Errorf("read decision %s: %w", stored.DecisionID, err)
	}
	p, err := e.policyOf(ctx, a.inputs.PolicyVersion)
	if err != nil {
		return nil, err
	}
	s := &seat{stage: a.inputs.Stage, catalogue: features.Default()}
	if m := a.then.Model; m != nil {
		if s.bundle, err = e.modelOf(m); err != nil {
			return nil, err
		}
		s.catalogue = s.bundle.Catalogue()
	}
	if err := s.bind(e, p); err != nil {
		return nil, err
	}
	fact, err := e.history.Prepare(r.Event(a.inputs.Moment), a.inputs.Moment)
	if err != nil {
		return nil, err
	}
	a.base = decision{engine: e, setup: &setup{policy: p, champion: s}, seat: s, request: &r, moment: a.inputs.Moment, fact: fact,
		started: a.inputs.Moment.Time(), options: DecideOptions{DryRun: true, AsOf: a.inputs.Moment, Language: a.inputs.Language}}
	return a, nil
}

func (e *Engine) policyOf(ctx context.Context, version string) (*policy.Policy, error) {
	for _, p := range []*policy.Policy{e.Policy(), policy.Default()} {
		if p.Version() == version {
			return p, nil
		}
	}
	text, err := e.ledger.Policy(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("the policy of then: %w", err)
	}
	return policy.Parse(text.Source)
}

func (e *Engine) modelOf(m *vaglio.ModelIdentity) (*models.Bundle, error) {
	for _, s := range e.setup.Load().seats() {
		if s.bundle != nil && s.bundle.Identity() == *m {
			return s.bundle, nil
		}
	}
	if e.models == nil {
		return nil, fmt.Errorf("the model of then, %s: %w", m.Version, ledger.ErrNotFound)
	}
	b, err := e.models(m.Version)
	if err != nil {
		return nil, fmt.Errorf("the model of then: %w", err)
	}
	if b.Identity() != *m {
		return nil, fmt.Errorf("the model of then, %s with SHA-256 %s, is another one now", m.Version, m.SHA256)
	}
	return b, nil
}

// fromInputs scores the stored vector and puts it through the policy with what the ledger told then.
func (a *again) fromInputs() (Comparison, error) {
	d := a.base
	d.fact.Entities, d.fact.BaseKnown, d.fact.BaseAmount = a.inputs.Entities, false, 0
	if a.inputs.BaseAmount != nil {
		d.fact.BaseKnown, d.fact.BaseAmount = true, *a.inputs.BaseAmount
	}
	for _, f := range a.inputs.Features {
		d.vector = append(d.vector, float64(f.Value))
	}
	if len(d.vector) > 0 && len(d.vector) != len(d.seat.catalogue.Features()) {
		return Comparison{Unavailable: "the features of then are others"}, nil
	}
	if err := a.score(&d); err != nil {
		return Comparison{Unavailable: err.Error()}, nil
	}
	now, err := a.conclude(&d, a.exposure())
	if err != nil {
		return Comparison{}, err
	}
	// Events are not among the inputs: what they are evidence of is.
	for i := range now.Reasons {
		if i < len(a.then.Reasons) && now.Reasons[i].Code == a.then.Reasons[i].Code {
			now.Reasons[i].Evidence = a.then.Reasons[i].Evidence
		}
	}
	now.Counterfactual = a.then.Counterfactual // its search asked events, too: from history it is done again
	return a.compare(now)
}

// score asks the model of then, if one answered then.
func (a *again) score(d *decision) error {
	d.blind = a.inputs.Blind
	if a.inputs.LogOdds == nil {
		return nil
	}
	s := assessment{contributions: make([]float64, len(d.vector))}
	var err error
	if s.logOdds, err = d.seat.bundle.LogOdds(d.vector); err != nil {
		return err
	}
	s.probability = d.seat.bundle.Probability(s.logOdds)
	s.riskScore = d.seat.bundle.RiskScore(s.probability)
	if s.base, err = d.seat.bundle.Contributions(s.contributions, d.vector); err != nil {
		return err
	}
	d.assessment = &s
	return nil
}

func (a *again) exposure() exposure {
	e := exposure{gone: a.inputs.GoneMinor, reserved: a.inputs.ReservedMinor, foreign: a.inputs.Foreign}
	if a.inputs.CapturedMinor != nil {
		e.known, e.captured = true, *a.inputs.CapturedMinor
	}
	return e
}

// standing is what the ledger told then.
func (a *again) standing() *ledger.Standing {
	if a.inputs.Standing == nil {
		return &ledger.Standing{}
	}
	return a.inputs.Standing
}

// conclude has the policy decide in the situation of then.
func (a *again) conclude(d *decision, e exposure) (vaglio.Decision, error) {
	d.exposure, d.shown = e, e
	d.evaluate()
	s := d.situation(e, a.standing())
	s.QueueLoad = math.NaN()
	if a.inputs.QueueLoad != nil {
		s.QueueLoad = *a.inputs.QueueLoad
	}
	if a.inputs.Guard != nil {
		s.Guard = *a.inputs.Guard
	}
	d.outcome = d.seat.bound.Conclude(&d.evaluation, s)
	if d.explored = a.inputs.Explored; d.explored && d.outcome.Explorable {
		d.outcome.Verdict = vaglio.Approve
		d.outcome.Rules = append(d.outcome.Rules, vaglio.RuleHit{Name: ruleExploration, Action: string(vaglio.Approve), State: policy.Active})
	}
	// What no computation gives, and what is of the moment alone, is that of then.
	then, out := &a.then, &d.out
	out.ID, out.RequestID, out.CaseID, out.DecidedAt, out.LatencyMS = then.ID, then.RequestID, then.CaseID, then.DecidedAt, then.LatencyMS
	out.Warnings, out.Degraded, out.DegradedReasons = then.Warnings, then.Degraded, then.DegradedReasons
	d.describe()
	d.tell(s, d.language())
	if first := a.standing().Duplicate; first != nil {
		out.DuplicateOf = first.RequestID
	}
	d.settle()
	return *out, nil
}

// fromHistory decides with what history shows of then now.
func (a *again) fromHistory(ctx context.Context) (Comparison, error) {
	d := a.base
	if err := d.learn(ctx); err != nil {
		return Comparison{Unavailable: err.Error()}, nil
	}
	if len(a.inputs.Features) == 0 {
		return Comparison{Unavailable: "history could not be read then"}, nil
	}
	d.computeFeatures()
	if err := a.score(&d); err != nil {
		return Comparison{Unavailable: err.Error()}, nil
	}
	now, err := a.conclude(&d, exposureOf(d.request, &d.fact, d.known.payment, a.standing()))
	if err != nil {
		return Comparison{}, err
	}
	if d.assessment != nil && now.Verdict != vaglio.Approve && !d.blind {
		d.seekCounterfactual()
		now.Counterfactual = d.counterfactual(d.situation(d.exposure, a.standing()), d.language())
	}
	c, err := a.compare(now)
	if err != nil {
		return c, err
	}
	for i, f := range a.inputs.Features {
		if i < len(d.vector) && math.Float64bits(float64(f.Value)) != math.Float64bits(d.vector[i]) &&
			!(math.IsNaN(float64(f.Value)) && math.IsNaN(d.vector[i])) {
			then, errA := json.Marshal(f.Value)
			value, errB := json.Marshal(models.Number(d.vector[i]))
			if err := errors.Join(errA, errB); err != nil {
				return c, err
			}
			c.Features = append(c.Features, Difference{f.Name, then, value})
		}
	}
	if c.Timelines, err = a.timelines(ctx, &d); err != nil {
		return c, err
	}
	c.Same = c.Same && len(c.Features) == 0 && len(c.Timelines) == 0
	return c, nil
}

// timelines compares the events of each entity with those of then, and tells which were stored later.
func (a *again) timelines(ctx context.Context, d *decision) ([]TimelineChanged, error) {
	then := map[string]TimelineInput{}
	for _, t := range a.inputs.Timelines {
		then[t.Entity] = t
	}
	now := map[string]TimelineInput{}
	entities := map[string]vaglio.Entity{}
	for _, t := range d.timelines() {
		now[t.Entity] = t
	}
	for _, tl := range d.known.timelines {
		entities[tl.Entity.String()] = tl.Entity
	}
	var changed []TimelineChanged
	names := slices.Sorted(maps.Keys(now))
	for _, name := range slices.Sorted(maps.Keys(then)) {
		if _, both := now[name]; !both {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if then[name] == now[name] {
			continue
		}
		c := TimelineChanged{Entity: name, Then: then[name].Events, Now: now[name].Events}
		if entity, ok := entities[name]; ok {
			var err error
			if c.CameLater, err = d.cameLater(ctx, entity, a.stored.DecidedAt); err != nil {
				return nil, err
			}
		}
		changed = append(changed, c)
	}
	return changed, nil
}

// maxCameLater bounds the events that a replay names of one entity.
const maxCameLater = 100

// cameLater are the events of an entity that were known at the decision's moment by their own account, and stored after it.
func (d *decision) cameLater(ctx context.Context, entity vaglio.Entity, after vaglio.Instant) ([]string, error) {
	timelines, err := d.engine.history.Timelines(ctx, []vaglio.Entity{entity}, d.moment)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range timelines[entity] {
		ids = append(ids, f.ID)
	}
	stored, err := d.engine.history.StoredAt(ctx, ids)
	if err != nil {
		return nil, err
	}
	later := slices.DeleteFunc(ids, func(id string) bool { return stored[id] <= after || id == d.request.ID })
	return later[:min(len(later), maxCameLater)], nil
}

// compare holds a decision against the stored one, member by member.
func (a *again) compare(now vaglio.Decision) (Comparison, error) {
	encoded, err := json.Marshal(&now)
	if err != nil {
		return Comparison{}, fmt.Errorf("encode decision %s again: %w", a.then.ID, err)
	}
	var x, y map[string]jsontext.Value
	if err := errors.Join(json.Unmarshal(a.stored.Response, &x), json.Unmarshal(encoded, &y)); err != nil {
		return Comparison{}, fmt.Errorf("read decision %s: %w", a.then.ID, err)
	}
	c := Comparison{Same: true}
	names := slices.Sorted(maps.Keys(x))
	for name := range y {
		if x[name] == nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if name == "latency_ms" || name == "decided_at" || string(x[name]) == string(y[name]) {
			continue
		}
		c.Same = false
		c.Differences = append(c.Differences, Difference{name, cmpValue(x[name]), cmpValue(y[name])})
	}
	return c, nil
}

// cmpValue is a member that may be missing.
func cmpValue(v jsontext.Value) jsontext.Value {
	if v == nil {
		return jsontext.Value("null")
	}
	return v
}
