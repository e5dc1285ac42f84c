package scoring_test

import (
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/scoring"
)

func (s *service) replays(id string) scoring.Replayed {
	s.t.Helper()
	again, err := s.Replay(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return again
}

func isSame(t *testing.T, c scoring.Comparison) {
	t.Helper()
	if !c.Same || c.Unavailable != "" || len(c.Differences)+len(c.Features)+len(c.Timelines) > 0 {
		t.Errorf("it came out otherwise: %+v", c)
	}
}

func TestADecisionTakenAgainIsTheSame(t *testing.T) {
	for name, vary := range map[string]func(*scoring.Options){"default": func(*scoring.Options) {}, "plain": plain, "approving": always,
		"reviewing": thresholds(0, 1), "as in a shop": withPolicy("costs: {}\nrequire_payment: false")} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, vary)
			risky(s)
			s.decides(s.request("r", func(r *vaglio.Request) { r.Reason = "unauthorised"; r.Language = "it" }))
			s.delivers()
			s.clock.set(t0 + vaglio.Hour)
			again := s.replays(s.id("r"))
			isSame(t, again.FromInputs)
			isSame(t, again.FromHistory)
			s.decides(s.request("second"))
			again = s.replays(s.id("second"))
			isSame(t, again.FromInputs)
			isSame(t, again.FromHistory)
			s.clock.set(t0)
		})
	}
}

func TestADecisionTakenAgainNamesWhatCameLater(t *testing.T) {
	s := newService(t, plain)
	trusted(s)
	s.decides(s.request("r"))
	s.delivers()
	now.set(t0 + vaglio.Hour)
	defer now.set(t0)
	s.clock.set(t0 + vaglio.Hour)
	s.imports(s.happened("late", "login_failed", t0-vaglio.Hour))
	again := s.replays(s.id("r"))
	isSame(t, again.FromInputs)
	c := again.FromHistory
	if c.Same || len(c.Timelines) != 2 {
		t.Fatalf("from history: %+v", c)
	}
	for _, tl := range c.Timelines {
		if tl.Now != tl.Then+1 || len(tl.CameLater) != 1 || tl.CameLater[0] != s.id("late") {
			t.Errorf("%+v", tl)
		}
	}
	named := false
	for _, f := range c.Features {
		named = named || f.Name == "customer_login_failed_24h" && string(f.Then) == "0" && string(f.Now) == "1"
	}
	if !named {
		t.Errorf("features that differ: %+v", c.Features)
	}
}

func TestADecisionWhoseModelIsGoneSaysSo(t *testing.T) {
	s := newService(t)
	trusted(s)
	s.decides(s.request("r"))
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time, Budget: 30 * time.Second})
	again := s.replays(s.id("r"))
	if c := again.FromInputs; c.Same || !strings.Contains(c.Unavailable, "model") {
		t.Errorf("%+v", c)
	}
}

func TestADecisionWithoutHistoryIsTakenAgainFromItsInputs(t *testing.T) {
	far, wire := overWire(t)
	s := newService(t, func(o *scoring.Options) { o.History = far })
	wire.cut()
	s.decides(s.request("r"))
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time, Budget: 30 * time.Second})
	again := s.replays(s.id("r"))
	isSame(t, again.FromInputs)
	if again.FromHistory.Unavailable == "" {
		t.Errorf("%+v", again.FromHistory)
	}
}
