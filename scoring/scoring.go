// Package scoring decides requests. [Engine.Decide] is the way of a request: what is known of its entities, the vector,
// the model's probability with exact contributions, the policy, and the ledger that records it all once. known.go finds out
// what is known, memory.go keeps it in memory (package states), policy.go holds what becomes of a probability, exposure.go
// what may still leave a payment, reasons.go the words, inputs.go what is kept for explanations and replay.
package scoring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/states"
)

// Reasons for which a decision is degraded: it was taken without what it should have rested on, and is a review.
const (
	DegradedHistory    = "history_unavailable"
	DegradedModel      = "model_unavailable"
	DegradedAdditivity = "contributions_disagree" // our reading of the model differs from the scorer's
)

// DegradedReasons lists them.
var DegradedReasons = []string{DegradedHistory, DegradedModel, DegradedAdditivity}

// maxAdditivityError is how far base + contributions may be from the model's log-odds.
const maxAdditivityError = 1e-9

// clockTolerance is how far requested_at may be off before it warns, and how far ahead it may be at all.
const clockTolerance = 5 * vaglio.Minute

// Options of an engine. History and Ledger are required.
type Options struct {
	History *history.Store
	Ledger  *ledger.Ledger
	Policy  Policy
	Now     func() time.Time // nil: time.Now
	Budget  time.Duration    // for reading history; 0: 2 s
	Cache   int64            // bytes for window states in memory, which [Engine.Follow] keeps up to date; 0: all is read afresh
	Logger  *slog.Logger     // nil: slog.Default()
}

// Engine decides. Its methods may be called from any number of goroutines.
type Engine struct {
	history *history.Store
	ledger  *ledger.Ledger
	policy  Policy
	now     func() time.Time
	budget  time.Duration
	log     *slog.Logger
	cache   int64
	inUse   atomic.Pointer[inUse]
	tail    atomic.Pointer[history.Tail]
}

// New builds an engine without a model: until [Engine.UseModel] every decision is a degraded review.
func New(o Options) *Engine {
	e := &Engine{history: o.History, ledger: o.Ledger, policy: o.Policy.filled(), now: o.Now, budget: o.Budget, cache: o.Cache, log: o.Logger}
	if e.now == nil {
		e.now = time.Now
	}
	if e.budget == 0 {
		e.budget = 2 * time.Second
	}
	if e.log == nil {
		e.log = slog.Default()
	}
	return e
}

// DecideOptions vary one decision.
type DecideOptions struct {
	DryRun   bool           // records nothing
	AsOf     vaglio.Instant // of a dry run: decide with what was known then; 0: now
	Language string         // of the texts, unless the request names one; "" is the first of vaglio.Languages
}

// Answer is a decision as the ledger keeps it.
type Answer struct {
	Body            []byte // JSON of a vaglio.Decision
	Verdict         vaglio.Verdict
	Degraded        bool
	DegradedReasons []string
	Repeated        bool   // it had been decided before
	Inputs          []byte // of a dry run: what it was decided from, for [Explain]
}

// Decide answers a request: once recorded, the same request gets the same bytes for ever. Errors are a [vaglio.Invalid],
// [ledger.ErrConflict], [ledger.ErrOutboxFull], and whatever keeps the ledger from recording; a history or model that
// can't be had is no error but a degraded review.
func (e *Engine) Decide(ctx context.Context, r *vaglio.Request, o DecideOptions) (Answer, error) {
	started := e.now()
	d := decision{engine: e, request: r, options: o, started: started, moment: vaglio.InstantOf(started)}
	d.out.Warnings = []string{}
	if m := e.inUse.Load(); m != nil {
		d.bundle = m.bundle
		switch _, current := e.Lag(); {
		case current:
			d.memory = m.memory
		case e.tail.Load() != nil:
			d.warn(warningStale)
		}
	}
	switch {
	case o.AsOf != 0 && !o.DryRun:
		return Answer{}, vaglio.Invalid{{Detail: "only a dry run may be as of another moment"}}
	case o.AsOf > d.moment:
		return Answer{}, vaglio.Invalid{{Detail: "a decision can't be as of a moment that has not come"}}
	case o.AsOf != 0:
		d.moment = o.AsOf
	}
	if err := d.checkClock(vaglio.InstantOf(started)); err != nil {
		return Answer{}, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("encode request %s: %w", r.ID, err)
	}
	claim := ledger.Claim{RequestID: r.ID, Digest: r.Digest(), Body: body}
	if !o.DryRun {
		if stored, found, err := e.ledger.Lookup(ctx, claim); err != nil || found {
			return repeated(stored, err)
		}
	}
	if err := d.assess(ctx); err != nil {
		return Answer{}, err
	}
	if err := d.prepare(); err != nil {
		return Answer{}, err
	}
	if o.DryRun {
		var standing ledger.Standing
		if o.AsOf == 0 {
			if standing, err = e.ledger.Standing(ctx, d.subject()); err != nil {
				return Answer{}, err
			}
		}
		entry, err := d.conclude(standing)
		return Answer{Body: entry.Response, Inputs: entry.Inputs, Verdict: d.out.Verdict, Degraded: d.out.Degraded,
			DegradedReasons: d.out.DegradedReasons}, err
	}
	response, again, err := e.ledger.Record(ctx, claim, d.subject(), d.conclude)
	if err != nil || again {
		return repeated(response, err)
	}
	e.remember([]vaglio.Fact{d.fact})
	return Answer{Body: response, Verdict: d.out.Verdict, Degraded: d.out.Degraded, DegradedReasons: d.out.DegradedReasons}, nil
}

// repeated is the answer given before.
func repeated(body []byte, err error) (Answer, error) {
	if err != nil {
		return Answer{}, err
	}
	var d struct {
		Verdict  vaglio.Verdict `json:"decision"`
		Degraded bool           `json:"degraded"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return Answer{}, fmt.Errorf("read a stored decision: %w", err)
	}
	return Answer{Body: body, Verdict: d.Verdict, Degraded: d.Degraded, Repeated: true}, nil
}

// decision is one request on its way.
type decision struct {
	engine  *Engine
	request *vaglio.Request
	options DecideOptions
	started time.Time
	moment  vaglio.Instant // what is known at it counts
	bundle  *models.Bundle
	memory  *states.Cache // nil: everything is read afresh

	fact       vaglio.Fact // the request as history will keep it, completed
	known      known
	states     features.States
	vector     []float64
	inputs     []byte      // encoded, see Inputs; without what conclude adds
	assessment *assessment // nil without a model's answer
	exposure   exposure
	shown      exposure        // by history alone; the search for a counterfactual went by it
	search     *search         // for a counterfactual; nil while an approval is expected
	told       []vaglio.Reason // by the model
	prepared   vaglio.Decision // all of it that does not depend on other decisions
	out        vaglio.Decision
}

// assessment is what a model says.
type assessment struct {
	logOdds, base, probability, riskScore float64
	contributions                         []float64
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

func (d *decision) degrade(reason string, err error) {
	d.out.Degraded = true
	d.out.DegradedReasons = append(d.out.DegradedReasons, reason)
	d.engine.log.Error("decision is degraded", "request_id", d.request.ID, "reason", reason, "error", err)
}

// assess does all that needs no transaction.
func (d *decision) assess(ctx context.Context) error {
	d.out.DegradedReasons = []string{}
	lap := stopwatch(d.engine.now)
	fact, err := d.engine.history.Prepare(d.request.Event(d.moment), d.moment)
	if err != nil {
		return err
	}
	d.fact = fact
	err = d.learn(ctx)
	d.out.LatencyMS.History = lap()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		d.degrade(DegradedHistory, err)
		return nil
	case d.bundle == nil:
		d.degrade(DegradedModel, errors.New("no model is loaded"))
		return nil
	}
	d.computeFeatures()
	d.out.LatencyMS.Features = lap()
	a := assessment{contributions: make([]float64, len(d.vector))}
	if a.logOdds, err = d.bundle.LogOdds(d.vector); err != nil {
		d.degrade(DegradedModel, err)
		return nil
	}
	a.probability = d.bundle.Probability(a.logOdds)
	a.riskScore = d.bundle.RiskScore(a.probability)
	d.out.LatencyMS.Model = lap()
	a.base, err = d.bundle.Contributions(a.contributions, d.vector)
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
	d.seekCounterfactual()
	d.out.LatencyMS.Explain = math.Round((d.out.LatencyMS.Explain+lap())*1000) / 1000
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
	catalogue := d.bundle.Catalogue()
	d.vector = make([]float64, len(catalogue.Features()))
	d.states = d.known.state
	catalogue.Vector(d.vector, &d.fact, d.states)
}

// prepare writes all of the decision that does not depend on what other decisions reserve, so that [decision.conclude], which
// runs alone in the ledger's transaction, has little to do.
func (d *decision) prepare() (err error) {
	r, out := d.request, &d.out
	out.ID = "dec_" + strings.ToLower(ulid.Make().String())
	out.RequestID, out.DryRun = r.ID, d.options.DryRun
	out.FeaturesAsOf = d.moment
	out.PolicyVersion = d.engine.policy.Version
	out.Reversibility = reversibility(r, d.moment)
	out.Rules, out.RequiredActions = []vaglio.RuleHit{}, []string{}
	out.RiskLevel = vaglio.RiskNotAssessed
	if a := d.assessment; a != nil {
		identity := d.bundle.Identity()
		out.Model = &identity
		out.FraudProbability, out.RiskScore, out.RiskLevel = &a.probability, &a.riskScore, riskLevel(a.riskScore)
		out.ExpectedLoss = &vaglio.Money{Amount: int64(math.Round(a.probability * float64(r.Amount))), Currency: r.Currency}
		d.told = d.reasons(d.language())
	}
	if d.inputs, err = json.Marshal(d.kept()); err != nil {
		return fmt.Errorf("encode the inputs of request %s: %w", r.ID, err)
	}
	out.Warnings, out.DegradedReasons = slices.Clip(out.Warnings), slices.Clip(out.DegradedReasons)
	d.prepared = d.out
	return nil
}

// conclude makes the decision, given what the ledger knows at this very moment. It may be called again, with what is known
// then, and begins anew: only the last answer counts.
func (d *decision) conclude(standing ledger.Standing) (ledger.Entry, error) {
	r, out := d.request, &d.out
	lang := d.language()
	d.out = d.prepared
	out.DecidedAt = vaglio.InstantOf(d.engine.now())
	if !out.Degraded {
		d.exposure = exposureOf(r, &d.fact, d.known.payment, &standing)
	}
	d.engine.policy.apply(d, d.exposure.reserved)
	if first := standing.Duplicate; first != nil {
		out.DuplicateOf = first.RequestID
		if out.Verdict == vaglio.Approve {
			out.Verdict = vaglio.Review
			out.Rules = append(out.Rules, vaglio.RuleHit{Name: ruleDuplicate, Action: string(vaglio.Review), State: "active"})
		}
	}
	out.Reasons = append(d.ruleReasons(lang), d.told...)
	d.tellCustomer(lang)
	out.Counterfactual = d.counterfactual(lang)
	switch out.Verdict {
	case vaglio.Approve:
		out.ApprovedAmount = r.Amount
		out.ValidUntil = out.DecidedAt + d.engine.policy.validFor()
	case vaglio.Review:
		out.ReviewDueAt = out.DecidedAt + d.engine.policy.reviewWithin()
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
	response, err := json.Marshal(out)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("encode the decision of request %s: %w", r.ID, err)
	}
	inputs, err := d.concludedInputs(&standing)
	if err != nil {
		return ledger.Entry{}, fmt.Errorf("encode the inputs of request %s: %w", r.ID, err)
	}
	return ledger.Entry{DecisionID: out.ID, Verdict: out.Verdict, Response: response, Inputs: inputs,
		Customer: r.Entities.Get(vaglio.EntityCustomer), Reserve: out.ApprovedAmount, BaseAmount: d.fact.BaseAmount, ValidUntil: out.ValidUntil,
		ReviewDueAt: out.ReviewDueAt, CaseID: out.CaseID, DuplicateOf: out.DuplicateOf, DecidedAt: out.DecidedAt, Event: d.fact}, nil
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

// Decision returns a stored decision by its id or its request's; [ledger.ErrNotFound] if there is none.
func (e *Engine) Decision(ctx context.Context, id string) ([]byte, error) {
	stored, err := e.ledger.Decision(ctx, id)
	return stored.Response, err
}

// Ready is nil when decisions can be taken in full: history answers, the ledger answers, a model is loaded.
func (e *Engine) Ready(ctx context.Context) error {
	var failures []error
	if err := e.history.Ping(ctx); err != nil {
		failures = append(failures, fmt.Errorf("history: %w", err))
	}
	if _, err := e.ledger.Backlog(ctx); err != nil {
		failures = append(failures, fmt.Errorf("ledger: %w", err))
	}
	if e.Model() == nil {
		failures = append(failures, errors.New("model: none is loaded"))
	}
	return errors.Join(failures...)
}
