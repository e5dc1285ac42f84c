package scoring_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
)

// What people control beside the models: policies, lists, caps, guards, exploration, and which model decides.

// refreshes takes up what the ledger says.
func (s *service) refreshes() {
	s.t.Helper()
	if err := s.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) publishes(text string) *policy.Policy {
	s.t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.ledger.ProposePolicy(s.t.Context(), ledger.PolicyText{Version: p.Version(), Name: p.Name, Source: []byte(text)}, "k", "test", false); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// analytics are the decisions that have been recorded, as they reach history.
func (s *service) analytics() map[string]vaglio.Taken {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	taken := map[string]vaglio.Taken{}
	err := s.ledger.RelayDecisions(ctx, 1, func(_ context.Context, some []vaglio.Taken) error {
		for _, t := range some {
			taken[t.RequestID] = t
		}
		cancel()
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return taken
}

func TestThePublishedPolicyIsTakenUp(t *testing.T) {
	s := newService(t)
	trusted(s)
	strict := s.publishes("name: strict\nthresholds: {approve_below: 0, deny_from: 1}")
	d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
	expect(t, "before it is taken up", d.PolicyVersion, policy.Default().Version())
	s.refreshes()
	d, _ = s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
	expect(t, "policy", d.PolicyVersion, strict.Version())
	expect(t, "verdict", d.Verdict, vaglio.Review)

	s.publishes("name: elsewhere\nrules: [{name: a, when: no_such_feature > 1, then: review}]")
	if err := s.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "no_such_feature") {
		t.Errorf("a policy about features that the model does not have was taken up: %v", err)
	}
	expect(t, "policy", s.Policy().Version(), strict.Version())
	if _, err := s.ledger.RollbackPolicy(t.Context(), "k", "wrong model"); err != nil {
		t.Fatal(err)
	}
	s.refreshes()

	pinned := newService(t, always)
	pinned.publishes("name: strict\nthresholds: {approve_below: 0, deny_from: 1}")
	before := pinned.Policy().Version()
	pinned.refreshes()
	expect(t, "a policy of one's own", pinned.Policy().Version(), before)
}

func TestAModelWithoutTheFeaturesOfThePolicyIsRefused(t *testing.T) {
	s := newService(t, withPolicy("rules: [{name: a, when: customer_login_failed_24h > 3, then: review}]"))
	other := s.trained(strings.ReplaceAll(catalogueYAML, "customer_login_failed_24h", "customer_failures"), "other")
	if err := s.UseModel(other); err == nil || !strings.Contains(err.Error(), "customer_login_failed_24h") {
		t.Errorf("got %v", err)
	}
	expect(t, "model", s.Model().Manifest().Version, "1")
}

// trained is the small model with another catalogue, of the same features in the same order; a feature that the catalogue has under another name is renamed.
func (s *service) trained(catalogue, version string) *models.Bundle {
	s.t.Helper()
	c, err := smallModel(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	c.Catalogue, c.Manifest.Version = []byte(catalogue), version
	for old, now := range map[string]string{"customer_login_failed_24h": "customer_failures"} {
		if !strings.Contains(catalogue, old) {
			c.Model = []byte(strings.ReplaceAll(string(c.Model), old, now))
		}
	}
	dir := filepath.Join(s.t.TempDir(), version)
	if err := models.Write(dir, c); err != nil {
		s.t.Fatal(err)
	}
	b, err := models.Open(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func TestAListedDeviceIsDenied(t *testing.T) {
	s := newService(t)
	trusted(s)
	if _, err := s.ledger.CreateList(t.Context(), "confirmed_fraud", true, "k"); err != nil {
		t.Fatal(err)
	}
	dry := scoring.DecideOptions{DryRun: true}
	d, _ := s.decidesWith(s.request("r"), dry)
	expect(t, "before", d.Verdict, vaglio.Approve)
	if err := s.ledger.AddToList(t.Context(), "confirmed_fraud", []ledger.ListValue{{Value: s.id("d")}}, "k"); err != nil {
		t.Fatal(err)
	}
	s.refreshes()
	d, _ = s.decidesWith(s.request("r"), dry)
	expect(t, "listed", d.Verdict, vaglio.Deny)
	if len(d.Rules) != 1 || d.Rules[0].Name != "listed" || d.Reasons[0].Code != "LINKED_FRAUD" || !strings.Contains(d.Reasons[0].Text, "on the list") {
		t.Errorf("rules %v, reasons %+v", d.Rules, d.Reasons)
	}
	d, _ = s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true, Language: "it"})
	if !strings.Contains(d.Reasons[0].Text, "elenco") {
		t.Errorf("in Italian: %s", d.Reasons[0].Text)
	}
	s.clock.set(t0 + 10)
	defer s.clock.set(t0)
	d, _ = s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true, AsOf: t0 - 1})
	expect(t, "as of the moment before it was listed", d.Verdict, vaglio.Approve)
}

func TestABurstOfOneCustomerDoesNotPass(t *testing.T) {
	s := newService(t)
	var events []vaglio.Event
	for i := range 100 {
		events = append(events, s.happened(fmt.Sprint("paid", i), "payment", t0-80*vaglio.Hour, func(e *vaglio.Event) {
			e.Amount, e.Currency, e.Entities = 1000, "EUR", e.Entities.With("payment", s.id(fmt.Sprint("p", i)))
		}))
	}
	s.imports(events...)
	var approved atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			r := s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Entities = r.Entities.With("payment", s.id(fmt.Sprint("p", i))) })
			answer, err := s.Decide(context.WithoutCancel(t.Context()), &r, scoring.DecideOptions{})
			if err != nil {
				t.Error(err)
			}
			if answer.Verdict == vaglio.Approve {
				approved.Add(1)
			}
		})
	}
	all.Wait()
	if n := approved.Load(); n == 0 || n > policy.Default().Caps.Approvals1h {
		t.Errorf("%d of 100 were approved", n)
	}
	d, _ := s.decides(s.request("next", func(r *vaglio.Request) { r.Amount = 999 }))
	expect(t, "next", d.Verdict, vaglio.Review)
	expect(t, "rule", d.Rules[0].Name, policy.RuleCaps)
}

func TestAGuardThatTripsTurnsApprovalsIntoReviews(t *testing.T) {
	var alerts []string
	s := newService(t, withPolicy("thresholds: {approve_below: 1, deny_from: 1}\nguards: {approvals_per_hour: 2, on_trip: review, recover: manual}"),
		func(o *scoring.Options) { o.Alert = func(g ledger.GuardTrip) { alerts = append(alerts, g.Guard) } })
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 100_000, "EUR"))
	verdict := func(name string, amount int64, want vaglio.Verdict, degraded string) {
		t.Helper()
		d, _ := s.decides(s.request(name, func(r *vaglio.Request) { r.Amount = amount }))
		expect(t, name, d.Verdict, want)
		expect(t, name+" is degraded", strings.Join(d.DegradedReasons, " "), degraded)
	}
	verdict("first", 1, vaglio.Approve, "")
	verdict("second", 2, vaglio.Approve, "")
	verdict("third", 3, vaglio.Review, "guard_approvals")
	s.refreshes()
	verdict("fourth", 4, vaglio.Review, "guard_approvals")
	if len(alerts) != 1 {
		t.Errorf("alerts %v", alerts)
	}
	trips, err := s.ledger.GuardTrips(t.Context(), true)
	if err != nil || len(trips) != 1 {
		t.Fatalf("trips %v, %v", trips, err)
	}
	if err := s.ledger.ClearGuard(t.Context(), trips[0].ID, "k"); err != nil {
		t.Fatal(err)
	}
	s.clock.set(t0 + vaglio.Minute)
	s.refreshes()
	verdict("fifth", 5, vaglio.Approve, "")
}

func TestScoresThatMoveBringTheLastGoodModelBack(t *testing.T) {
	s := newService(t, withPolicy("guards: {score_drift: {max_psi: 0.2}, on_trip: last_good_model}"))
	trusted(s)
	next := s.trained(catalogueYAML+"\n# another\n", "2")
	if err := s.UseModels(scoring.Lineup{Champion: next, Fallback: bundle}); err != nil {
		t.Fatal(err)
	}
	for i := range 110 { // the same score again and again is no distribution
		r := s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Amount = int64(i + 1) })
		if _, err := s.Decide(t.Context(), &r, scoring.DecideOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.refreshes()
	d, _ := s.decides(s.request("after"))
	expect(t, "model", d.Model.Version, "1")
	expect(t, "degraded", strings.Join(d.DegradedReasons, " "), "guard_score_drift")
}

func TestExplorationLetsAFewThroughAndKeepsItsBudget(t *testing.T) {
	s := newService(t, withPolicy("thresholds: {approve_below: 0, deny_from: 1}\nexploration: {share: 0.5, max_amount: 1000, daily_budget: 3000}"))
	var events []vaglio.Event
	for i := range 40 {
		events = append(events, s.happened(fmt.Sprint("paid", i), "payment", t0-80*vaglio.Hour, func(e *vaglio.Event) {
			e.Amount, e.Currency, e.Entities = 1000, "EUR", e.Entities.With("payment", s.id(fmt.Sprint("p", i)))
		}))
	}
	s.imports(events...)
	approved := 0
	for i := range 40 {
		d, _ := s.decides(s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Entities = r.Entities.With("payment", s.id(fmt.Sprint("p", i))) }))
		if d.Verdict == vaglio.Approve {
			approved++
			expect(t, "rule", d.Rules[len(d.Rules)-1].Name, "exploration")
		}
	}
	expect(t, "approved, of a budget for three", approved, 3)
	explored, without := 0, 0
	for id, taken := range s.analytics() {
		switch {
		case taken.Explored:
			explored++
		case taken.Propensity == 0: // nothing could let it through any more
			without++
			continue
		}
		if taken.Propensity != 0.5 {
			t.Errorf("%s: propensity %v", id, taken.Propensity)
		}
	}
	expect(t, "explored in analytics", explored, 3)
	expect(t, "those that came after the budget was spent are told", without >= 20, true)
}

func TestWhatIsExploredCountsAgainstTheCapsOfGuards(t *testing.T) {
	s := newService(t, withPolicy("thresholds: {approve_below: 0, deny_from: 1}\nexploration: {share: 0.5, max_amount: 1000, daily_budget: 90000}\n"+
		"guards: {approvals_per_hour: 1, on_trip: review, recover: manual}"))
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 100_000, "EUR"))
	for i := range 40 { // half of them are drawn
		s.decides(s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Amount = int64(100 + i) }))
	}
	approved := 0
	for id, taken := range s.analytics() {
		expect(t, id+" is explored", taken.Explored, taken.Verdict == vaglio.Approve)
		if taken.Explored {
			approved++
		}
	}
	expect(t, "approved", approved, 1)
}

func TestACustomerIsAlwaysDecidedByTheSameModelAndTheOthersAreHeard(t *testing.T) {
	s := newService(t, plain)
	second, third := s.trained(catalogueYAML+"\n# two\n", "2"), s.trained(catalogueYAML+"\n# three\n", "3")
	if err := s.UseModels(scoring.Lineup{Champion: bundle, Challenger: second, Share: 0.3, Shadow: third}); err != nil {
		t.Fatal(err)
	}
	decided := map[string]int{}
	for i := range 200 {
		of := func(r *vaglio.Request) { r.Entities = r.Entities.With("customer", s.id(fmt.Sprint("c", i))) }
		d, _ := s.decides(s.request(fmt.Sprint("r", i), of))
		decided[d.Model.Version]++
		again, _ := s.decidesWith(s.request(fmt.Sprint("again", i), of), scoring.DecideOptions{DryRun: true})
		expect(t, "the same model again", again.Model.Version, d.Model.Version)
	}
	if n := decided["2"]; decided["3"] != 0 || n < 30 || n > 90 {
		t.Errorf("decided %v, want about 60 of 200 by model 2", decided)
	}
	for id, taken := range s.analytics() {
		said := map[string]float64{taken.ModelVersion: taken.Probability}
		for _, shadow := range taken.Shadows {
			said[shadow.ModelVersion] = shadow.Probability
		}
		if len(said) != 3 || said["1"] != said["2"] || said["1"] != said["3"] || math.IsNaN(said["1"]) || taken.Stage == "shadow" {
			t.Errorf("%s: %v of stage %s", id, said, taken.Stage)
		}
	}
	if err := s.UseModels(scoring.Lineup{Champion: bundle, Share: 2}); err == nil {
		t.Error("a share of 200 %")
	}
}
