// Package guard protects from what nobody meant: more automatic approvals in an hour than the policy allows, a rate of denials
// that can't be right, a model whose scores no longer look as they did. A guard that trips holds for all replicas, through
// the ledger, until its time is over or a person clears it.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring/policy"
)

// Names of the guards; a degraded decision names them as "guard_" + name.
const (
	Approvals  = "approvals"   // number of automatic approvals in an hour
	Approved   = "approved"    // their amount in an hour
	Denials    = "denials"     // share of denials in an hour
	ScoreDrift = "score_drift" // the model's scores, against those of its calibration
)

// minScores is the least number of scores that tell whether they moved.
const minScores = 100

// Options of a guard. Ledger is required.
type Options struct {
	Ledger *ledger.Ledger
	Now    func() time.Time       // nil: time.Now
	Logger *slog.Logger           // nil: slog.Default()
	Alert  func(ledger.GuardTrip) // called once for each trip by the replica that tripped it; nil: only the log tells
}

// Guard counts what this process decides and knows what the others did until the last [Guard.Sync]. Its methods may be called
// from any number of goroutines.
type Guard struct {
	ledger *ledger.Ledger
	now    func() time.Time
	log    *slog.Logger
	alert  func(ledger.GuardTrip)

	segments sync.Map                           // name → *segment; "" is all requests, of every segment
	trips    atomic.Pointer[[]ledger.GuardTrip] // that hold, as of the last Sync and with our own
	mu       sync.Mutex                         // of Sync and of tripping
}

// segment counts. What is not yet in the ledger is in fresh; shared is the ledger's last hour as of the last Sync.
type segment struct {
	mu     sync.Mutex
	fresh  map[int64]*ledger.GuardCount // by minute
	shared ledger.GuardCount            // summed over the last hour
	scores map[int64]*[10]int64         // by minute: risk scores of this process by tenths
}

// New makes a guard that has seen nothing.
func New(o Options) *Guard {
	g := &Guard{ledger: o.Ledger, now: o.Now, log: o.Logger, alert: o.Alert}
	if g.now == nil {
		g.now = time.Now
	}
	if g.log == nil {
		g.log = slog.Default()
	}
	if g.alert == nil {
		g.alert = func(ledger.GuardTrip) {}
	}
	return g
}

func (g *Guard) segment(name string) *segment {
	if s, ok := g.segments.Load(name); ok {
		return s.(*segment)
	}
	s, _ := g.segments.LoadOrStore(name, &segment{fresh: map[int64]*ledger.GuardCount{}, scores: map[int64]*[10]int64{}})
	return s.(*segment)
}

// Holds is the first trip that holds for a segment now; nil when none does. A trip of segment "" holds for all.
func (g *Guard) Holds(segment string, at vaglio.Instant) *ledger.GuardTrip {
	trips := g.trips.Load()
	if trips == nil {
		return nil
	}
	for i := range *trips {
		if t := &(*trips)[i]; (t.Segment == "" || t.Segment == segment) && t.Holds(at) {
			return t
		}
	}
	return nil
}

// Admit counts an automatic approval that is about to be recorded. It is false, with the trip, when the hour has no room for it,
// that of all requests or that of its segment: within this process exactly, among replicas up to what they did since the last
// Sync. What is counted and then not recorded errs on the safe side.
func (g *Guard) Admit(o *policy.Guards, name string, at vaglio.Instant, baseMinor int64) (*ledger.GuardTrip, bool) {
	limits, own := o.Segments[name]
	if trip, ok := g.admit("", o.Limits, o.Recover, at, baseMinor); !ok || name == "" {
		return trip, ok
	}
	if !own {
		limits = policy.Limits{Approvals: policy.Unlimited, Approved: policy.Unlimited}
	}
	return g.admit(name, limits, o.Recover, at, baseMinor)
}

func (g *Guard) admit(name string, l policy.Limits, lasting time.Duration, at vaglio.Instant, baseMinor int64) (*ledger.GuardTrip, bool) {
	s := g.segment(name)
	s.mu.Lock()
	sum := s.hour(at)
	over := ""
	switch {
	case sum.Approvals >= l.Approvals:
		over = Approvals
	case baseMinor > l.Approved || sum.Approved > l.Approved-baseMinor:
		over = Approved
	default:
		c := s.count(at)
		c.Approvals++
		c.Approved += baseMinor
	}
	s.mu.Unlock()
	if over == "" {
		return nil, true
	}
	detail := fmt.Sprintf("%d approvals of %d in the last hour", sum.Approvals, sum.Approved)
	return g.hold(over, name, detail, lasting, at), false
}

// Note counts a decision. riskScore is NaN without a model.
func (g *Guard) Note(name string, at vaglio.Instant, verdict vaglio.Verdict, riskScore float64) {
	g.segment("").note(at, verdict, riskScore)
	if name != "" {
		g.segment(name).note(at, verdict, math.NaN())
	}
}

func (s *segment) note(at vaglio.Instant, verdict vaglio.Verdict, riskScore float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.count(at)
	c.Decisions++
	if verdict == vaglio.Deny {
		c.Denials++
	}
	if riskScore >= 0 && riskScore <= 100 {
		minute := int64(at / vaglio.Minute)
		if s.scores[minute] == nil {
			s.scores[minute] = &[10]int64{}
		}
		s.scores[minute][min(9, int(riskScore/10))]++
	}
}

// Reviews is how many decisions of the last hour were neither approvals nor denials.
func (g *Guard) Reviews(at vaglio.Instant) int64 {
	s := g.segment("")
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.hour(at)
	return max(0, sum.Decisions-sum.Approvals-sum.Denials)
}

// count is the count of a moment's minute; the segment is locked.
func (s *segment) count(at vaglio.Instant) *ledger.GuardCount {
	minute := int64(at / vaglio.Minute)
	c := s.fresh[minute]
	if c == nil {
		c = &ledger.GuardCount{Minute: minute}
		s.fresh[minute] = c
	}
	return c
}

// hour is what is known of the last hour, and of what the clock has still before it when it was set back; the segment is locked.
func (s *segment) hour(at vaglio.Instant) ledger.GuardCount {
	sum := s.shared
	for minute, c := range s.fresh {
		if minute > int64(at/vaglio.Minute)-60 {
			add(&sum, c)
		}
	}
	return sum
}

func (s *segment) forgetScores() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.scores)
}

func add(sum, c *ledger.GuardCount) {
	sum.Decisions += c.Decisions
	sum.Approvals += c.Approvals
	sum.Approved += c.Approved
	sum.Denials += c.Denials
}

// hold makes a trip hold in this process at once; Sync brings it to the others.
func (g *Guard) hold(name, segment, detail string, lasting time.Duration, at vaglio.Instant) *ledger.GuardTrip {
	g.mu.Lock()
	defer g.mu.Unlock()
	var trips []ledger.GuardTrip
	if before := g.trips.Load(); before != nil {
		trips = *before
	}
	for i := range trips {
		if t := &trips[i]; t.Guard == name && t.Segment == segment && t.Holds(at) {
			return t
		}
	}
	trip := ledger.GuardTrip{ID: "guard_" + strings.ToLower(ulid.Make().String()), Guard: name, Segment: segment, Detail: detail, TrippedAt: at}
	if lasting > 0 {
		trip.Until = at + vaglio.Instant(lasting.Milliseconds())
	}
	trips = append(append([]ledger.GuardTrip(nil), trips...), trip)
	g.trips.Store(&trips)
	return &trips[len(trips)-1]
}

// Sync exchanges counts and trips with the ledger and looks whether rates have become impossible. A trip that a person cleared
// forgives what was counted before, see [ledger.Ledger.ClearGuard], and the scores of this process. Call it every second or so, from one goroutine.
func (g *Guard) Sync(ctx context.Context, o *policy.Guards) error {
	at := vaglio.InstantOf(g.now())
	if err := g.exchangeTrips(ctx); err != nil {
		return err
	}
	var counts []ledger.GuardCount
	g.segments.Range(func(name, value any) bool {
		counts = append(counts, value.(*segment).take(name.(string))...)
		return true
	})
	if len(counts) > 0 {
		if err := g.ledger.AddGuardCounts(ctx, counts); err != nil {
			g.giveBack(counts)
			return err
		}
	}
	if err := g.learn(ctx, at); err != nil {
		return err
	}
	g.judge("", o.Limits, o, at)
	for name, limits := range o.Segments {
		g.judge(name, limits, o, at)
	}
	g.judgeScores(o, at)
	return g.exchangeTrips(ctx)
}

// take empties what is fresh into the hour and returns it.
func (s *segment) take(name string) []ledger.GuardCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	var counts []ledger.GuardCount
	for minute, c := range s.fresh {
		c.Segment = name
		counts = append(counts, *c)
		add(&s.shared, c)
		delete(s.fresh, minute)
	}
	return counts
}

func (g *Guard) giveBack(counts []ledger.GuardCount) {
	for i := range counts {
		s := g.segment(counts[i].Segment)
		s.mu.Lock()
		c := s.count(vaglio.Instant(counts[i].Minute) * vaglio.Minute)
		add(c, &counts[i])
		s.shared.Decisions -= counts[i].Decisions
		s.shared.Approvals -= counts[i].Approvals
		s.shared.Approved -= counts[i].Approved
		s.shared.Denials -= counts[i].Denials
		s.mu.Unlock()
	}
}

// learn reads what all replicas decided in the last hour.
func (g *Guard) learn(ctx context.Context, at vaglio.Instant) error {
	counts, err := g.ledger.GuardCounts(ctx, at-59*vaglio.Minute)
	if err != nil {
		return err
	}
	sums := map[string]*ledger.GuardCount{}
	for i := range counts {
		name := counts[i].Segment
		if sums[name] == nil {
			g.segment(name) // others may have counted it alone
			sums[name] = &ledger.GuardCount{}
		}
		add(sums[name], &counts[i])
	}
	g.segments.Range(func(name, value any) bool {
		s := value.(*segment)
		s.mu.Lock()
		s.shared = ledger.GuardCount{}
		if sum := sums[name.(string)]; sum != nil {
			s.shared = *sum
		}
		for minute := range s.scores {
			if minute <= int64(at/vaglio.Minute)-60 {
				delete(s.scores, minute)
			}
		}
		s.mu.Unlock()
		return true
	})
	return nil
}

// judge trips the guard of denials.
func (g *Guard) judge(name string, l policy.Limits, o *policy.Guards, at vaglio.Instant) {
	s := g.segment(name)
	s.mu.Lock()
	sum := s.hour(at)
	s.mu.Unlock()
	if rate := float64(sum.Denials) / float64(sum.Decisions); sum.Decisions >= max(1, l.MinDecisions) && rate > l.DenyRate {
		g.hold(Denials, name, fmt.Sprintf("%d of %d decisions of the last hour are denials", sum.Denials, sum.Decisions), o.Recover, at)
	}
}

func (g *Guard) judgeScores(o *policy.Guards, at vaglio.Instant) {
	s := g.segment("")
	var scores [10]int64
	s.mu.Lock()
	for _, minute := range s.scores {
		for i, n := range minute {
			scores[i] += n
		}
	}
	s.mu.Unlock()
	if psi, n := stability(scores); o.MaxDrift > 0 && n >= max(minScores, o.MinDecisions) && psi > o.MaxDrift {
		g.hold(ScoreDrift, "", fmt.Sprintf("the scores of the last %d decisions differ from those of calibration: stability index %.2f", n, psi),
			o.Recover, at)
	}
}

// stability is the population stability index Σ (a − e) ln(a / e) over tenths, against calibration, where a risk score is a
// percentile and so every tenth holds as many; shares below 0.1 % count as that (Siddiqi, Credit Risk Scorecards, 2006).
func stability(scores [10]int64) (psi float64, n int64) {
	for _, c := range scores {
		n += c
	}
	if n == 0 {
		return 0, 0
	}
	const expected = 0.1
	for _, c := range scores {
		actual := math.Max(float64(c)/float64(n), 0.001)
		psi += (actual - expected) * math.Log(actual/expected)
	}
	return psi, n
}

// exchangeTrips records our trips and takes over those of others, also that they were cleared.
func (g *Guard) exchangeTrips(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	stored, err := g.ledger.GuardTrips(ctx, true)
	if err != nil {
		return err
	}
	known, err := g.ledger.GuardTrips(ctx, false)
	if err != nil {
		return err
	}
	seen := map[string]*ledger.GuardTrip{}
	for _, trips := range [][]ledger.GuardTrip{known, stored} {
		for i := range trips {
			seen[trips[i].ID] = &trips[i]
		}
	}
	if ours := g.trips.Load(); ours != nil {
		for _, t := range *ours {
			if now := seen[t.ID]; now != nil && now.ClearedAt != 0 {
				g.segment(t.Segment).forgetScores()
			}
			if seen[t.ID] != nil || !t.Holds(vaglio.InstantOf(g.now())) {
				continue
			}
			tripped, err := g.ledger.TripGuard(ctx, t)
			if err != nil {
				return err
			}
			if tripped {
				stored = append(stored, t)
				g.log.Error("a guard tripped", "guard", t.Guard, "segment", t.Segment, "detail", t.Detail)
				g.alert(t)
			}
		}
	}
	g.trips.Store(&stored)
	return nil
}
