package guard_test

import (
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring/guard"
	"vaglio/scoring/policy"
)

// at is the moment at which the tests begin.
var at = vaglio.InstantOf(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))

// replicas are guards over one ledger, on one clock unless they have their own.
type replicas struct {
	*testing.T
	clock  atomic.Int64
	ledger *ledger.Ledger
	alerts []string
	guards policy.Guards
}

// limits are those of an hour's approvals alone.
func limits(approvals, approved int64) policy.Limits {
	return policy.Limits{Approvals: approvals, Approved: approved, DenyRate: 1}
}

func newReplicas(t *testing.T, set func(*policy.Guards)) *replicas {
	return newReplicasOn(t, filepath.Join(t.TempDir(), "ledger.db"), set)
}

func newReplicasOn(t *testing.T, dsn string, set func(*policy.Guards)) *replicas {
	r := &replicas{T: t, guards: policy.Guards{Limits: limits(policy.Unlimited, policy.Unlimited), Segments: map[string]policy.Limits{}}}
	set(&r.guards)
	r.clock.Store(int64(at))
	var err error
	if r.ledger, err = ledger.Open(t.Context(), dsn, ledger.Options{Now: r.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.ledger.Close() })
	return r
}

func (r *replicas) now() time.Time         { return r.at().Time() }
func (r *replicas) at() vaglio.Instant     { return vaglio.Instant(r.clock.Load()) }
func (r *replicas) after(d vaglio.Instant) { r.clock.Add(int64(d)) }

func (r *replicas) guard() *guard.Guard {
	return guard.New(guard.Options{Ledger: r.ledger, Now: r.now, Alert: func(t ledger.GuardTrip) { r.alerts = append(r.alerts, t.Guard) }})
}

func (r *replicas) sync(guards ...*guard.Guard) {
	r.Helper()
	for _, g := range guards {
		if err := g.Sync(r.Context(), &r.guards); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *replicas) admits(g *guard.Guard, amount int64, want bool) {
	r.Helper()
	if trip, ok := g.Admit(&r.guards, "shop", r.at(), amount); ok != want || ok == (trip != nil) {
		r.Errorf("admitted %t (%+v), want %t", ok, trip, want)
	}
}

func (r *replicas) holds(g *guard.Guard, segment, want string) {
	r.Helper()
	got := ""
	if trip := g.Holds(segment, r.at()); trip != nil {
		got = trip.Guard
	}
	if got != want {
		r.Errorf("segment %q is held by %q, want %q", segment, got, want)
	}
}

func TestApprovalsOfAnHourAreCappedOverReplicas(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.Segments["shop"] = limits(3, policy.Unlimited); g.Recover = 30 * time.Minute })
	a, b := r.guard(), r.guard()
	r.admits(a, 100, true)
	r.admits(a, 100, true)
	r.sync(a, b)
	r.admits(b, 100, true)
	r.sync(b, a)
	r.admits(a, 100, false)
	r.holds(a, "shop", guard.Approvals)
	r.holds(a, "another", "")
	r.holds(b, "shop", "")
	r.sync(a, b)
	r.holds(b, "shop", guard.Approvals)
	if len(r.alerts) != 1 {
		t.Errorf("alerts %v", r.alerts)
	}
	r.after(30 * vaglio.Minute)
	r.sync(a, b)
	r.holds(a, "shop", "")
	r.admits(a, 1, false) // the hour is still full
	r.after(31 * vaglio.Minute)
	r.sync(a, b)
	r.admits(b, 1, true)
}

func TestTheAmountOfAnHourIsCapped(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.Segments["shop"] = limits(policy.Unlimited, 1000) })
	g := r.guard()
	r.admits(g, 1001, false)
	g = r.guard()
	r.admits(g, 600, true)
	r.admits(g, 401, false)
	r.admits(g, 400, true)
	if _, ok := g.Admit(&r.guards, "another", r.at(), 1_000_000); !ok {
		t.Error("another segment is capped")
	}
}

func TestWhatAPersonClearedIsForgiven(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.Segments["shop"] = limits(1, policy.Unlimited) })
	a, b := r.guard(), r.guard()
	r.admits(a, 1, true)
	r.admits(a, 1, false)
	r.sync(a, b)
	r.after(vaglio.Minute)
	trips, err := r.ledger.GuardTrips(t.Context(), true)
	if err != nil || len(trips) != 1 {
		t.Fatal(trips, err)
	}
	if err := r.ledger.ClearGuard(t.Context(), trips[0].ID, "key_a"); err != nil {
		t.Fatal(err)
	}
	r.sync(a, b)
	r.holds(a, "shop", "")
	r.holds(b, "shop", "")
	r.after(vaglio.Minute)
	r.admits(a, 1, true)
	r.admits(a, 1, false)
}

func TestARateOfDenialsThatCantBeRightTrips(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.DenyRate, g.MinDecisions = 0.5, 10 })
	a, b := r.guard(), r.guard()
	note := func(g *guard.Guard, verdict vaglio.Verdict, times int) {
		for range times {
			g.Note("shop", r.at(), verdict, math.NaN())
		}
	}
	note(a, vaglio.Deny, 5)
	r.sync(a, b)
	r.holds(a, "shop", "") // too few to tell
	note(b, vaglio.Approve, 5)
	r.sync(b, a)
	r.holds(a, "shop", "")
	note(b, vaglio.Deny, 1)
	r.sync(b, a)
	r.holds(a, "shop", guard.Denials)
	r.holds(b, "", guard.Denials)
	if n := b.Reviews(r.at()); n != 5 {
		t.Errorf("%d reviews", n) // the five approvals were noted without being admitted
	}
}

func TestScoresThatMoveTrip(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.MaxDrift = 0.25 })
	g := r.guard()
	for i := range 1000 {
		g.Note("shop", r.at(), vaglio.Approve, float64(i%100))
	}
	r.sync(g)
	r.holds(g, "shop", "")
	for range 1000 {
		g.Note("shop", r.at(), vaglio.Approve, 99.9)
	}
	r.sync(g)
	r.holds(g, "shop", guard.ScoreDrift)
}

func TestConcurrentApprovalsNeverExceedTheCap(t *testing.T) {
	r := newReplicas(t, func(g *policy.Guards) { g.Limits = limits(50, policy.Unlimited) })
	g := r.guard()
	var admitted atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, ok := g.Admit(&r.guards, "shop", r.at(), 1); ok {
				admitted.Add(1)
			}
		})
	}
	r.sync(g)
	all.Wait()
	if n := admitted.Load(); n != 50 {
		t.Errorf("%d admitted", n)
	}
}
