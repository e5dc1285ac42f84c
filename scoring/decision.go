package scoring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/features"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/guard"
	"vaglio/scoring/policy"
)

// decision is one request on its way.
type decision struct {
	engine    *Engine
	setup     *setup
	seat      *seat // whose model decides
	request   *vaglio.Request
	options   DecideOptions
	started   time.Time
	moment    vaglio.Instant // what is known at it counts
	remembers bool           // the memory is up to date

	fact       vaglio.Fact // the request as history will keep it, completed
	known      known
	states     features.States
	vector     []float64   // nil when history is gone
	assessment *assessment // nil without a model's answer
	blind      bool        // decided without what it should rest on
	stopped    policy.GuardState
	evaluation policy.Evaluation
	shadows    []vaglio.Shadow
	explored   bool // exploration lets it through, and has paid for it
	affordable bool // the day's budget of exploration had room for it, whether it was drawn or not
	admitted   bool // the guard has counted its approval

	exposure exposure
	shown    exposure        // by history alone; the search for a counterfactual went by it
	search   *search         // for a counterfactual; nil while an approval is expected
	told     []vaglio.Reason // by the model
	inputs   []byte          // encoded, see Inputs; without what conclude adds
	prepared vaglio.Decision // all of it that does not depend on other decisions
	outcome  policy.Outcome
	out      vaglio.Decision
}

// assessment is what a model says.
type assessment struct {
	logOdds, base, probability, riskScore float64
	contributions                         []float64
}

func (d *decision) riskScore() float64 {
	if d.assessment == nil {
		return math.NaN()
	}
	return d.assessment.riskScore
}

// Warnings of decisions that are sound all the same.
const (
	warningClock = "requested_at_differs" // by more than 5 minutes from the server's clock
	warningStale = "history_stale"        // the memory lags, so history was read afresh
)

func (d *decision) warn(warning string) { d.out.Warnings = append(d.out.Warnings, warning) }

func (d *decision) checkClock(now vaglio.Instant) error {
	off := d.request.RequestedAt - now
	switch {
	case d.request.RequestedAt == 0 || d.options.AsOf != 0:
	case off > clockTolerance:
		return vaglio.Invalid{{Pointer: "/requested_at", Detail: "is more than 5 minutes ahead of the server's clock"}}
	case off < -clockTolerance:
		d.warn(warningClock)
	}
	return nil
}

// degrade leaves the decision without what it should rest on.
func (d *decision) degrade(reason string, err error) {
	d.blind = true
	d.say(reason)
	d.engine.log.Error("decision is degraded", "request_id", d.request.ID, "reason", reason, "error", err)
}

func (d *decision) say(degraded string) {
	d.out.Degraded = true
	if !slices.Contains(d.out.DegradedReasons, degraded) {
		d.out.DegradedReasons = append(d.out.DegradedReasons, degraded)
	}
}

// takeSeat says which model decides: while a guard holds the scores to be wrong, the last good one, if the policy wants that.
func (d *decision) takeSeat() {
	d.seat = d.setup.decider(d.request.Entities.Get(vaglio.EntityCustomer))
	if d.options.AsOf != 0 || !d.setup.policy.Guards.LastModel || d.setup.fallback == nil {
		return
	}
	if trip := d.engine.guard.Holds("", d.moment); trip != nil && trip.Guard == guard.ScoreDrift {
		d.seat = d.setup.fallback
	}
}

// assess does all that needs no transaction.
func (d *decision) assess(ctx context.Context) error {
	lap := stopwatch(d.engine.now)
	fact, err := d.engine.history.Prepare(d.request.Event(d.moment), d.moment)
	if err != nil {
		return err
	}
	d.fact = fact
	reading, cancel := context.WithTimeout(ctx, d.engine.budget) // of all models together
	defer cancel()
	err = d.learn(reading)
	d.out.LatencyMS.History = lap()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		d.degrade(DegradedHistory, err)
	default:
		d.computeFeatures()
		d.out.LatencyMS.Features = lap()
		if err := d.score(lap); err != nil {
			return err
		}
	}
	d.evaluate()
	d.heedGuards()
	if d.assessment != nil {
		d.askShadows(reading)
		d.seekCounterfactual()
		d.out.LatencyMS.Explain = math.Round((d.out.LatencyMS.Explain+lap())*1000) / 1000
	}
	return nil
}

// score asks the model, and adds its contributions up to see that two readings of it agree.
func (d *decision) score(lap func() float64) (err error) {
	if d.seat.bundle == nil {
		d.degrade(DegradedModel, errors.New("no model is loaded"))
		return nil
	}
	a := assessment{contributions: make([]float64, len(d.vector))}
	if a.logOdds, err = d.seat.bundle.LogOdds(d.vector); err != nil {
		d.degrade(DegradedModel, err)
		return nil
	}
	a.probability = d.seat.bundle.Probability(a.logOdds)
	a.riskScore = d.seat.bundle.RiskScore(a.probability)
	d.out.LatencyMS.Model = lap()
	a.base, err = d.seat.bundle.Contributions(a.contributions, d.vector)
	if err == nil {
		if off := models.AdditivityError(a.logOdds, a.base, a.contributions); !(off <= maxAdditivityError) {
			err = fmt.Errorf("the contributions are off by %g", off)
		}
	}
	d.out.LatencyMS.Explain = lap()
	if err != nil {
		d.degrade(DegradedAdditivity, err)
		return nil
	}
	d.assessment = &a
	return nil
}

// stopwatch returns the milliseconds since it was last asked, to the microsecond.
func stopwatch(now func() time.Time) func() float64 {
	last := now()
	return func() float64 {
		t := now()
		lap := milliseconds(t.Sub(last))
		last = t
		return lap
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (d *decision) computeFeatures() {
	d.vector = make([]float64, len(d.seat.catalogue.Features()))
	d.states = d.known.state
	d.seat.catalogue.Vector(d.vector, &d.fact, d.states)
}

// evaluate has the policy do what it can without the transaction.
func (d *decision) evaluate() {
	in := policy.Input{Request: d.request, Fact: &d.fact, Vector: d.vector, Probability: math.NaN(), RiskScore: d.riskScore(),
		Moment: d.moment, Lists: &d.engine.lists}
	if d.assessment != nil {
		in.Probability, in.Thresholds = d.assessment.probability, d.seat.bundle.Manifest().Thresholds
	}
	d.seat.bound.Evaluate(&in, &d.evaluation)
}

// situation is what the policy is told of the transaction.
func (d *decision) situation(e exposure, standing *ledger.Standing) policy.Situation {
	refundable, known := e.refundable(e.reserved)
	return policy.Situation{Counters: policy.Counters(standing.Counters), RefundableMinor: refundable, RefundableKnown: known,
		Foreign: e.foreign, Degraded: d.blind, QueueLoad: math.Float64frombits(d.engine.queueLoad.Load()), Duplicate: standing.Duplicate != nil,
		Guard: d.stopped}
}

// heedGuards finds out what guards have stopped in the request's segment. What is decided as of an earlier moment is no concern
// of theirs.
func (d *decision) heedGuards() {
	if d.options.AsOf != 0 {
		return
	}
	segment := d.seat.bound.Conclude(&d.evaluation, policy.Situation{}).Segment
	trip := d.engine.guard.Holds(segment, d.moment)
	if trip == nil {
		return
	}
	d.say(degradedGuard + trip.Guard)
	if d.seat.stage != stageFallback {
		d.stopped = policy.GuardState{Review: true, Denials: trip.Guard == guard.Denials || trip.Guard == guard.ScoreDrift, Reason: trip.Detail}
	}
}

// askShadows has the models that do not decide say what they would.
func (d *decision) askShadows(ctx context.Context) {
	for _, s := range []*seat{d.setup.champion, d.setup.challenger, d.setup.shadow} {
		if s == nil || s == d.seat || s.bundle == nil {
			continue
		}
		said, err := d.shadow(ctx, s)
		if err != nil {
			d.engine.log.Warn("a model beside the one that decides does not answer", "stage", s.stage, "error", err)
			continue
		}
		d.shadows = append(d.shadows, said)
	}
}

// shadow is what a model of another seat would decide, by its score and the rules alone.
func (d *decision) shadow(ctx context.Context, s *seat) (vaglio.Shadow, error) {
	t := *d
	t.seat, t.out, t.evaluation = s, vaglio.Decision{}, policy.Evaluation{}
	if s.memory != d.seat.memory || s.memory == nil && !sameCatalogue(s.catalogue, d.seat.catalogue) {
		if err := t.learn(ctx); err != nil {
			return vaglio.Shadow{}, err
		}
		t.computeFeatures()
	}
	logOdds, err := s.bundle.LogOdds(t.vector)
	if err != nil {
		return vaglio.Shadow{}, err
	}
	a := assessment{logOdds: logOdds, probability: s.bundle.Probability(logOdds)}
	a.riskScore = s.bundle.RiskScore(a.probability)
	t.assessment = &a
	t.evaluate()
	out := s.bound.Conclude(&t.evaluation, t.situation(t.shown, &ledger.Standing{}))
	return vaglio.Shadow{ModelVersion: s.bundle.Manifest().Version, Stage: s.stage, Probability: a.probability, Verdict: out.Verdict}, nil
}

// prepare writes all of the decision that does not depend on what other decisions reserve, so that [decision.conclude], which
// runs alone in the ledger's transaction, has little to do.
func (d *decision) prepare(ctx context.Context) error {
	r, out := d.request, &d.out
	out.ID = "dec_" + strings.ToLower(ulid.Make().String())
	out.RequestID, out.DryRun = r.ID, d.options.DryRun
	d.describe()
	if err := d.explore(ctx); err != nil {
		d.engine.log.Error("exploration does not know its budget", "error", err)
	}
	if err := d.encodeInputs(); err != nil {
		return fmt.Errorf("encode the inputs of request %s: %w", r.ID, err)
	}
	out.Warnings, out.DegradedReasons = slices.Clip(out.Warnings), slices.Clip(out.DegradedReasons)
	d.prepared = d.out
	return nil
}

// describe writes what the request and the model say, before any policy.
func (d *decision) describe() {
	out := &d.out
	out.FeaturesAsOf = d.moment
	out.PolicyVersion = d.setup.policy.Version()
	out.Reversibility = policy.ReversibilityOf(d.request, d.moment)
	out.RiskLevel = vaglio.RiskNotAssessed
	if a := d.assessment; a != nil {
		identity := d.seat.bundle.Identity()
		out.Model = &identity
		out.FraudProbability, out.RiskScore, out.RiskLevel = &a.probability, &a.riskScore, riskLevel(a.riskScore)
		d.told = d.reasons(d.language())
	}
}

// draw is a number from 0 to 1, always the same for one decision and one use, that nobody can foresee: a decision's id is random.
func (d *decision) draw(use string) float64 {
	return float64(xxhash.Sum64String(use+d.out.ID)>>11) / (1 << 53)
}

// ruleExploration says that a request was let through to learn what becomes of it.
const ruleExploration = "exploration"

// explore draws whether the request is let through although the score alone is against it, and pays for it from the day's budget.
// What is not drawn asks the budget too: its chance was none if the budget had no room.
func (d *decision) explore(ctx context.Context) (err error) {
	x := d.setup.policy.Exploration
	if x.Share == 0 || d.options.DryRun ||
		!d.seat.bound.Conclude(&d.evaluation, d.situation(d.shown, &ledger.Standing{})).Explorable {
		return nil
	}
	if d.draw(ruleExploration) >= x.Share {
		d.affordable, err = d.engine.ledger.ExplorationAffords(ctx, d.moment, d.fact.BaseAmount, x.DailyBudget)
		return err
	}
	d.explored, err = d.engine.ledger.SpendExploration(ctx, d.moment, d.fact.BaseAmount, x.DailyBudget)
	d.affordable = d.explored
	return err
}

// responseBytes hold most answers.
const responseBytes = 3456

// conclude makes the decision, given what the ledger knows at this very moment. It may be called again, with what is known
// then, and begins anew: only the last answer counts.
func (d *decision) conclude(standing ledger.Standing) (ledger.Entry, error) {
	r, out, lang := d.request, &d.out, d.language()
	d.out = d.prepared
	out.DecidedAt = vaglio.InstantOf(d.engine.now())
	if d.vector != nil {
		d.exposure = exposureOf(r, &d.fact, d.known.payment, &standing)
	}
	situation := d.situation(d.exposure, &standing)
	d.outcome = d.seat.bound.Conclude(&d.evaluation, situation)
	if d.explored && d.outcome.Explorable {
		d.outcome.Verdict = vaglio.Approve
		d.outcome.Rules = append(d.outcome.Rules, vaglio.RuleHit{Name: ruleExploration, Action: string(vaglio.Approve), State: policy.Active})
	}
	d.outcome.Verdict = d.admit(d.outcome.Verdict, &situation)
	d.tell(situation, lang)
	if first := standing.Duplicate; first != nil {
		out.DuplicateOf = first.RequestID
	}
	out.Counterfactual = d.counterfactual(situation, lang)
	d.settle()
	if out.Verdict == vaglio.Review {
		if standing.Duplicate != nil {
			out.CaseID = standing.Duplicate.CaseID
		}
		if out.CaseID == "" && !out.DryRun {
			out.CaseID = "case_" + strings.ToLower(ulid.Make().String())
		}
	}
	took := milliseconds(d.engine.now().Sub(d.started))
	l := &out.LatencyMS
	l.Total, l.Store = took, math.Max(0, math.Round((took-l.History-l.Features-l.Model-l.Explain)*1000)/1000)
	response, err := out.AppendJSON(make([]byte, 0, responseBytes))
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("encode the decision of request %s: %w", r.ID, err)
	}
	inputs, err := d.concludedInputs(&standing, situation)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("encode the inputs of request %s: %w", r.ID, err)
	}
	return ledger.Entry{DecisionID: out.ID, Verdict: out.Verdict, Response: response, Inputs: inputs,
		Customer: r.Entities.Get(vaglio.EntityCustomer), Reserve: out.ApprovedAmount, BaseAmount: d.fact.BaseAmount, ValidUntil: out.ValidUntil,
		ReviewDueAt: out.ReviewDueAt, CaseID: out.CaseID, DuplicateOf: out.DuplicateOf, DecidedAt: out.DecidedAt, Event: d.fact, Taken: d.taken()}, nil
}

func span(d time.Duration) vaglio.Instant { return vaglio.Instant(d.Milliseconds()) }

// admit asks the guard whether the hour has room for one more approval. A full hour stops the segment, this request included.
func (d *decision) admit(verdict vaglio.Verdict, s *policy.Situation) vaglio.Verdict {
	if verdict != vaglio.Approve || d.options.DryRun || d.admitted {
		return verdict
	}
	trip, ok := d.engine.guard.Admit(&d.setup.policy.Guards, d.outcome.Segment, d.moment, d.fact.BaseAmount)
	if ok {
		d.admitted = true
		return verdict
	}
	d.say(degradedGuard + trip.Guard)
	s.Guard = policy.GuardState{Review: true, Reason: trip.Detail}
	d.outcome = d.seat.bound.Conclude(&d.evaluation, *s)
	return d.outcome.Verdict
}

// tell writes what the policy said.
func (d *decision) tell(s policy.Situation, lang string) {
	out := &d.out
	out.Verdict = d.outcome.Verdict
	out.Rules = append([]vaglio.RuleHit{}, d.outcome.Rules...)
	out.RequiredActions = append([]string{}, d.outcome.Actions...)
	if s.RefundableKnown {
		out.RefundableAmount = &s.RefundableMinor
	}
	if d.assessment != nil {
		out.ExpectedLoss = &vaglio.Money{Amount: d.outcome.ExpectedLossMinor, Currency: d.request.Currency}
	}
	out.Reasons = d.allReasons(lang)
	d.tellCustomer(lang)
}

// settle writes what the verdict means for the money and for reviewers.
func (d *decision) settle() {
	switch out := &d.out; out.Verdict {
	case vaglio.Approve:
		out.ApprovedAmount = d.request.Amount
		out.ValidUntil = out.DecidedAt + span(d.outcome.ApprovalValid)
	case vaglio.Review:
		out.ReviewDueAt = out.DecidedAt + span(d.outcome.ReviewWithin)
	}
}

// taken is the decision for analytics.
func (d *decision) taken() vaglio.Taken {
	out := &d.out
	t := vaglio.Taken{DecisionID: out.ID, RequestID: out.RequestID, Customer: d.request.Entities.Get(vaglio.EntityCustomer),
		Payment: d.fact.Entities.Get(vaglio.EntityPayment), DecidedAt: out.DecidedAt, Verdict: out.Verdict, Amount: d.request.Amount,
		Currency: d.request.Currency, BaseAmount: d.fact.BaseAmount, BaseKnown: d.fact.BaseKnown, ApprovedAmount: out.ApprovedAmount,
		Probability: math.NaN(), LogOdds: math.NaN(), RiskScore: d.riskScore(), PolicyVersion: out.PolicyVersion, Propensity: 1,
		Degraded: out.Degraded, DegradedReasons: out.DegradedReasons, Rules: out.Rules, Shadows: d.shadows, LatencyMS: out.LatencyMS.Total}
	if a := d.assessment; a != nil {
		t.Probability, t.LogOdds = a.probability, a.logOdds
		t.ModelVersion, t.Stage = out.Model.Version, d.seat.stage
	}
	if share := d.setup.policy.Exploration.Share; d.outcome.Explorable && share > 0 {
		switch t.Explored = d.explored; {
		case d.explored:
			t.Propensity = share
		case d.affordable:
			t.Propensity = 1 - share
		default:
			t.Propensity = 0
		}
	}
	t.Audit = out.Verdict == vaglio.Approve && !t.Explored && d.draw("audit") < d.setup.policy.AuditSample
	return t
}

func (d *decision) language() string {
	for _, lang := range []string{d.request.Language, d.options.Language} {
		if slices.Contains(vaglio.Languages, lang) {
			return lang
		}
	}
	return vaglio.Languages[0]
}

func riskLevel(score float64) string {
	switch {
	case score >= 95:
		return vaglio.RiskHigh
	case score >= 80:
		return vaglio.RiskElevated
	case score >= 0:
		return vaglio.RiskLow
	default:
		return vaglio.RiskNotAssessed
	}
}
