// Package scoring decides requests. [Engine.Decide] is the way of a request: what is known of its entities, the vector, the
// model's probability with exact contributions, the policy (package policy), and the ledger that records it all once.
// decision.go holds its steps, known.go finds out what is known, memory.go keeps it in memory (package states), lineup.go says
// which models answer, attend.go follows what people change (packages lists and guard), exposure.go knows what may still leave
// a payment, reasons.go has the words, inputs.go what is kept for explanations and replay.
package scoring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring/guard"
	"vaglio/scoring/lists"
	"vaglio/scoring/policy"
)

// Reasons for which a decision is degraded: it was taken without what it should have rested on, and is a review. Beside these
// there is one for each guard that held it back, which may also have been decided by the last good model.
const (
	DegradedHistory    = "history_unavailable"
	DegradedModel      = "model_unavailable"
	DegradedAdditivity = "contributions_disagree" // our reading of the model differs from the scorer's

	degradedGuard = "guard_" // and its name
)

// DegradedReasons lists them.
var DegradedReasons = []string{DegradedHistory, DegradedModel, DegradedAdditivity, degradedGuard + guard.Approvals,
	degradedGuard + guard.Approved, degradedGuard + guard.Denials, degradedGuard + guard.ScoreDrift}

// maxAdditivityError is how far base + contributions may be from the model's log-odds.
const maxAdditivityError = 1e-9

// clockTolerance is how far requested_at may be off before it warns, and how far ahead it may be at all.
const clockTolerance = 5 * vaglio.Minute

// Options of an engine. History and Ledger are required.
type Options struct {
	History *history.Store
	Ledger  *ledger.Ledger
	Policy  *policy.Policy // nil: the one that was published, or the default one
	// Models opens a version that is not in use, for replays; nil: there are no others.
	Models func(version string) (*models.Bundle, error)
	Alert  func(ledger.GuardTrip) // told once when a guard trips here; nil: only the log is
	Now    func() time.Time       // nil: time.Now
	Budget time.Duration          // for reading history and outbox, for all models of a decision together; 0: 2 s
	Cache  int64                  // bytes for window states in memory, which [Engine.Follow] keeps up to date; 0: all is read afresh
	Logger *slog.Logger           // nil: slog.Default()
}

// Engine decides. Its methods may be called from any number of goroutines.
type Engine struct {
	history *history.Store
	ledger  *ledger.Ledger
	now     func() time.Time
	budget  time.Duration
	log     *slog.Logger
	cache   int64
	pinned  bool // the policy is not the published one
	models  func(version string) (*models.Bundle, error)

	changing    sync.Mutex // of setup
	refreshing  sync.Mutex // one Refresh at a time
	forgettings int64      // customers forgotten that the memory knows of
	setup       atomic.Pointer[setup]
	tail        atomic.Pointer[history.Tail]
	lists       lists.Mirror
	guard       *guard.Guard
	queueLoad   atomic.Uint64 // bits of a float64: open reviews to capacity, NaN when nobody asked
}

// New builds an engine without a model: until [Engine.UseModels] every decision is a degraded review.
func New(o Options) *Engine {
	e := &Engine{history: o.History, ledger: o.Ledger, now: o.Now, budget: o.Budget, cache: o.Cache, log: o.Logger, pinned: o.Policy != nil, models: o.Models}
	if e.now == nil {
		e.now = time.Now
	}
	if e.budget == 0 {
		e.budget = 2 * time.Second
	}
	if e.log == nil {
		e.log = slog.Default()
	}
	e.guard = guard.New(guard.Options{Ledger: o.Ledger, Now: e.now, Logger: e.log, Alert: o.Alert})
	e.queueLoad.Store(math.Float64bits(math.NaN()))
	first := &setup{policy: cmp.Or(o.Policy, policy.Default())}
	first.champion = &seat{stage: string(models.Champion), catalogue: features.Default()}
	first.champion.bound, _ = first.policy.BindLoose(first.champion.catalogue) // a model that does not fit it is refused
	e.setup.Store(first)
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
	d := decision{engine: e, setup: e.setup.Load(), request: r, options: o, started: started, moment: vaglio.InstantOf(started)}
	d.out.Warnings, d.out.DegradedReasons = []string{}, []string{}
	if _, current := e.Lag(); current {
		d.remembers = true
	} else if e.tail.Load() != nil {
		d.warn(warningStale)
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
	body, digest, err := r.Encode()
	if err != nil {
		return Answer{}, err
	}
	claim := ledger.Claim{RequestID: r.ID, Digest: digest, Body: body}
	if !o.DryRun {
		if stored, found, err := e.ledger.Lookup(ctx, claim); err != nil || found {
			return repeated(stored, err)
		}
	}
	d.takeSeat()
	if err := d.assess(ctx); err != nil {
		return Answer{}, err
	}
	if err := d.prepare(ctx); err != nil {
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
	e.guard.Note(d.outcome.Segment, d.moment, d.out.Verdict, d.riskScore())
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

// Unavailable reports whether an error of the engine or the ledger says that one of the databases can't be had now: the same
// again may work later.
func Unavailable(err error) bool { return ledger.Unavailable(err) || history.Unavailable(err) }

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
