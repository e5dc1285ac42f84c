package guard_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
	"vaglio/scoring/guard"
	"vaglio/scoring/policy"
)

// server is a replica whose clock is ahead of the others'.
type server struct {
	*replicas
	guard  *guard.Guard
	ledger *ledger.Ledger
	ahead  vaglio.Instant
}

// serve starts a replica that has heard what the others said.
func (r *replicas) serve(dsn string, ahead vaglio.Instant) *server {
	r.Helper()
	s := &server{replicas: r, ahead: ahead}
	now := func() time.Time { return s.at().Time() }
	var err error
	if s.ledger, err = ledger.Open(r.Context(), dsn, ledger.Options{Now: now}); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { s.ledger.Close() })
	s.guard = guard.New(guard.Options{Ledger: s.ledger, Now: now, Logger: slog.New(slog.DiscardHandler)})
	r.sync(s.guard)
	return s
}

func (s *server) at() vaglio.Instant { return s.replicas.at() + s.ahead }

// lets asks for nine approvals and says how many there should be; then all hear of them.
func (s *server) lets(want int, others ...*server) {
	s.Helper()
	s.sync(s.guard)
	got := 0
	for range 9 {
		if _, ok := s.guard.Admit(&s.guards, "shop", s.at(), 1); ok {
			got++
		}
	}
	if got != want {
		s.Errorf("%d approvals, want %d", got, want)
	}
	s.sync(s.guard)
	for _, other := range others {
		other.sync(other.guard)
	}
}

func (s *server) holds(want string) {
	s.Helper()
	s.sync(s.guard)
	got := ""
	if trip := s.guard.Holds("shop", s.at()); trip != nil {
		got = trip.Guard
	}
	if got != want {
		s.Errorf("held by %q, want %q", got, want)
	}
}

func (s *server) clears() {
	s.Helper()
	trips, err := s.ledger.GuardTrips(s.Context(), true)
	if err != nil || len(trips) == 0 {
		s.Fatal(trips, err)
	}
	for _, trip := range trips {
		if err := s.ledger.ClearGuard(s.Context(), trip.ID, "anna"); err != nil {
			s.Fatal(err)
		}
	}
}

// TestAClockThatJumpsReopensNoCap has a cap of five approvals an hour, and half an hour until a guard recovers.
func TestAClockThatJumpsReopensNoCap(t *testing.T) {
	const minute, hour = vaglio.Minute, vaglio.Hour
	cases := []struct {
		name string
		run  func(r *replicas, dsn string)
	}{
		{"set back before anybody was told, a spent cap stays spent", func(r *replicas, dsn string) {
			s := r.serve(dsn, 0)
			for range 5 {
				r.admits(s.guard, 1, true)
			}
			r.after(-2 * hour)
			r.admits(s.guard, 1, false)
			s.lets(0)
		}},
		{"set back, a spent cap stays spent, also for a server that starts then", func(r *replicas, dsn string) {
			s := r.serve(dsn, 0)
			s.lets(5)
			for _, jump := range []vaglio.Instant{-2 * hour, 0, 2*hour + 59*minute} {
				r.after(jump)
				s.lets(0)
				r.serve(dsn, 0).lets(0)
			}
			r.after(2 * minute)
			r.serve(dsn, 0).lets(5)
		}},
		{"set back, a guard holds until its time", func(r *replicas, dsn string) {
			s := r.serve(dsn, 0)
			s.lets(5)
			r.after(-2 * hour)
			s.holds(guard.Approvals)
			r.after(2*hour + 30*minute - 1)
			s.holds(guard.Approvals)
			r.serve(dsn, 0).holds(guard.Approvals)
			r.after(1)
			s.holds("")
		}},
		{"set forward an hour passes early, and set back again it counts, with what came since", func(r *replicas, dsn string) {
			s := r.serve(dsn, 0)
			s.lets(5)
			r.after(2 * hour)
			s.holds("")
			s.lets(5)
			r.after(-2 * hour)
			s.holds(guard.Approvals)
			for range 3 { // until the clock has passed the minute ahead, and its hour
				s.lets(0)
				r.after(59 * minute)
			}
			r.after(4 * minute)
			s.lets(5)
		}},
		{"what a person forgave while the clock was ahead is forgiven, and nothing later", func(r *replicas, dsn string) {
			s := r.serve(dsn, 0)
			r.after(2 * hour)
			s.lets(5)
			s.clears()
			r.after(-2 * hour)
			s.holds("")
			s.lets(5)
			s.holds(guard.Approvals)
			r.serve(dsn, 0).lets(0)
			r.after(90 * minute)
			s.lets(5)
			r.serve(dsn, 0).lets(0)
		}},
		{"of two servers with clocks of their own the one ahead sees what the other did", func(r *replicas, dsn string) {
			a, b := r.serve(dsn, 0), r.serve(dsn, 10*minute)
			for range 3 {
				r.admits(a.guard, 1, true)
			}
			r.sync(a.guard, b.guard)
			b.lets(2, a)
			a.lets(0, b)
			r.after(49 * minute)
			b.lets(0, a)
			a.lets(0, b)
		}},
		{"of two servers with clocks of their own the one behind sees what the other did", func(r *replicas, dsn string) {
			a, b := r.serve(dsn, 0), r.serve(dsn, -10*minute)
			for range 3 {
				r.admits(a.guard, 1, true)
			}
			r.sync(a.guard, b.guard)
			b.lets(2, a)
			r.after(49 * minute)
			a.lets(0, b)
			b.lets(0, a)
		}},
		{"what the server ahead forgave is not forgiven to the others from then on", func(r *replicas, dsn string) {
			a, b := r.serve(dsn, 0), r.serve(dsn, 10*minute)
			a.lets(5, b)
			b.clears()
			r.sync(a.guard, b.guard)
			a.lets(5, b)
			b.lets(0, a)
			r.after(5 * minute)
			a.lets(0, b)
		}},
	}
	for _, engine := range []struct {
		name string
		dsn  func(*testing.T) string
	}{{"SQLite", func(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger.db") }},
		{"PostgreSQL", func(t *testing.T) string { return ledgertest.Postgres(t) }}} {
		for _, c := range cases {
			t.Run(engine.name+"/"+c.name, func(t *testing.T) {
				dsn := engine.dsn(t)
				c.run(newReplicasOn(t, dsn, func(g *policy.Guards) { g.Segments["shop"], g.Recover = limits(5, policy.Unlimited), 30*time.Minute }), dsn)
			})
		}
	}
}
