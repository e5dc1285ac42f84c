package scoring_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"vaglio"
	"vaglio/scoring"
)

// TestModelsBesideTheOneThatDecidesNeitherDegradeNorHoldUpTheAnswer lets a challenger and a shadow, each with a catalogue of its own,
// read timelines from a history that says nothing any more, while the champion has its own in memory: what the champion leaves
// of the budget is all that they have, together.
func TestModelsBesideTheOneThatDecidesNeitherDegradeNorHoldUpTheAnswer(t *testing.T) {
	far, wire := overWire(t)
	const budget = time.Second
	s := newService(t, always, func(o *scoring.Options) { o.Cache, o.History, o.Budget = 1<<20, far, budget })
	challenger := s.trained(strings.Replace(catalogueYAML, "window: 24h", "window: 48h", 1), "challenger")
	shadow := s.trained(strings.Replace(catalogueYAML, "window: 24h", "window: 72h", 1), "shadow")
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { _ = s.Follow(ctx) })
	t.Cleanup(func() { cancel(); following.Wait() })
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 100_000, "EUR"))

	asked := 0
	ask := func(name string) vaglio.Decision {
		asked++
		s.clock.set(t0 + vaglio.Instant(asked)*vaglio.Second)                                                            // the memory is ahead of a moment at which it has a request
		d, _ := s.decides(s.request(fmt.Sprint(name, asked), func(r *vaglio.Request) { r.Amount = int64(100 + asked) })) // the same amount would be a duplicate
		return d
	}
	whole := func(d vaglio.Decision) bool {
		return !d.Degraded && len(d.Warnings) == 0 && d.Verdict == vaglio.Approve && d.FraudProbability != nil
	}
	var silent vaglio.Decision
	s.waitFor("an answer from memory while history is silent", func() bool { // on a busy machine the memory may have fallen behind by then
		wire.stalled.Store(false)
		if err := s.UseModels(scoring.Lineup{Champion: bundle}); err != nil {
			t.Fatal(err)
		}
		s.waitFor("the memory to follow", func() bool { _, current := s.Lag(); return current })
		if !whole(ask("warm")) {
			return false
		}
		wire.stalled.Store(true)
		if err := s.UseModels(scoring.Lineup{Champion: bundle, Challenger: challenger, Shadow: shadow}); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		silent = ask("silent")
		if took := time.Since(started); took > unbounded {
			t.Fatalf("took %v on a budget of %v", took, budget)
		}
		return whole(silent)
	})
	wire.stalled.Store(false)
	if said := s.analytics()[silent.RequestID].Shadows; len(said) != 0 {
		t.Errorf("models that could not read history said %v", said)
	}
	if log := s.log.String(); strings.Count(log, "a model beside the one that decides does not answer") < 2 || strings.Contains(log, "stage=champion") {
		t.Errorf("log: %s", log)
	}
}
