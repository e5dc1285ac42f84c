package training_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/lists"
	"vaglio/scoring/policy"
	"vaglio/training"
)

var plantedModel struct {
	once   sync.Once
	bundle *models.Bundle
}

// plantedBundle is one model for all tests that only ask it; its features are those of smallYAML.
func plantedBundle(t *testing.T) *models.Bundle {
	t.Helper()
	plantedModel.once.Do(func() {
		bundle, _, err := training.Train(t.Context(), options(t, plantedHistory(t)))
		if err != nil {
			t.Fatal(err)
		}
		plantedModel.bundle = bundle
	})
	if plantedModel.bundle == nil {
		t.Fatal("there is no model")
	}
	return plantedModel.bundle
}

func parsePolicy(t *testing.T, yaml string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// livePolicy has rules of each kind, and limits that the traffic of the test runs into.
const livePolicy = `
name: live
thresholds: {approve_below: 0.3, deny_from: 0.8}
approval_valid: 6h
caps: {requests_1h: 4, requests_24h: 12, approvals_1h: 2, approvals_24h: 6, approved_amount_24h: 15000}
segments:
  - name: web
    when: request.attributes.channel == "web"
    thresholds: {approve_below: 0.4, deny_from: 0.9}
    caps: {requests_1h: 6, approvals_1h: 3}
rules:
  - {name: failed, when: login_failed_24h >= 2, then: review, reason: REFUND_VELOCITY}
  - {name: listed, when: 'in_list("bad", request.entities.device)', then: deny, mandatory: true}
  - {name: partner, when: 'in_list("partners", request.entities.merchant)', then: approve, override: true}
  - {name: statutory, when: request.reason == "unauthorised", at_most: review}
  - {name: large, when: request.amount > 4000, then: deny}
  - {name: large_in_shadow, when: request.amount > 1500, then: review, state: shadow}
  - {name: busy, when: counters.requests_24h >= 3, then: flag}
  - {name: much, when: counters.approved_amount_24h > 5000, then: review}
  - {name: later, when: probability > 0.1, then: review, from: 2026-04-29}
  - {name: off, when: request.amount > 0, then: deny, state: off}
`

// handClock stands still until it is moved.
type handClock struct{ at atomic.Int64 }

func (c *handClock) now() vaglio.Instant { return vaglio.Instant(c.at.Load()) }
func (c *handClock) time() time.Time     { return c.now().Time() }

// decided are verdicts with their rules in words, by request.
type decided map[string]string

func words(verdict vaglio.Verdict, rules []vaglio.RuleHit) string {
	text := string(verdict)
	for _, r := range rules {
		text += fmt.Sprintf(" %s:%s:%s", r.Name, r.Action, r.State)
	}
	return text
}

// relays empties the outbox into history.
func relays(t *testing.T, l *ledger.Ledger, h *history.Store) {
	t.Helper()
	once := func(relay func(ctx context.Context, done func()) error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := relay(ctx, cancel); err != nil {
			t.Fatal(err)
		}
	}
	once(func(ctx context.Context, done func()) error {
		return l.Relay(ctx, time.Hour, func(ctx context.Context, facts []vaglio.Fact) error {
			defer done()
			return h.Deliver(context.WithoutCancel(ctx), facts)
		})
	})
	once(func(ctx context.Context, done func()) error {
		return l.RelayDecisions(ctx, time.Hour, func(ctx context.Context, taken []vaglio.Taken) error {
			defer done()
			return h.DeliverDecisions(context.WithoutCancel(ctx), taken)
		})
	})
	if n, err := l.Backlog(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d messages still wait, %v", n, err)
	}
}

// liveDay is the period of the live decisions: four days.
var livePeriod = training.Period{From: t0 + 200*vaglio.Day, Until: t0 + 204*vaglio.Day}

func TestABacktestDecidesAsTheServiceDid(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	var clock handClock
	clock.at.Store(int64(livePeriod.From))
	bundle, p := plantedBundle(t), parsePolicy(t, livePolicy)
	h := newHistory(t, trafficBefore(random)...)
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Now: clock.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	engine := scoring.New(scoring.Options{History: h, Ledger: l, Policy: p, Now: clock.time, Budget: time.Minute})
	if err := engine.UseModel(bundle); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bad", "partners"} {
		if _, err := l.CreateList(t.Context(), name, name == "bad", "k"); err != nil {
			t.Fatal(err)
		}
	}

	const requests = 220
	live := decided{}
	var waiting []vaglio.Fact // what becomes of refunds
	seen := map[string]int{}
	for i := range requests {
		if random.IntN(8) > 0 { // else: at the same moment
			clock.at.Add(random.Int64N(int64(50 * vaglio.Minute)))
		}
		now := clock.now()
		slices.SortStableFunc(waiting, func(a, b vaglio.Fact) int { return int(a.KnownAt - b.KnownAt) })
		for len(waiting) > 0 && waiting[0].KnownAt <= now {
			if err := l.Move(t.Context(), waiting[:1]); err != nil {
				t.Fatal(err)
			}
			waiting = waiting[1:]
		}
		if i == 60 || i == 120 {
			if err := l.AddToList(t.Context(), pick("bad"), []ledger.ListValue{{Value: fmt.Sprint("d", i/60)}}, "k"); err != nil {
				t.Fatal(err)
			}
			expiring := ledger.ListValue{Value: "m1", ExpiresAt: now + vaglio.Day}
			if err := l.AddToList(t.Context(), "partners", []ledger.ListValue{expiring}, "k"); err != nil && i == 60 {
				t.Fatal(err)
			}
		}
		if i == 170 {
			if _, err := l.RemoveFromList(t.Context(), "bad", []string{"d1"}, "k"); err != nil {
				t.Fatal(err)
			}
		}
		if err := engine.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		payment := random.IntN(40)
		r := vaglio.Request{ID: fmt.Sprintf("rr%03d", i), Type: "refund", Amount: []int64{700, 700, 1200, 2500, 4500}[random.IntN(5)], Currency: "EUR",
			Reason: pick("other", "other", "unauthorised"), Entities: vaglio.FieldsOf("customer", fmt.Sprint("k", payment%8), "payment", fmt.Sprint("pay", payment)),
			Attributes: vaglio.FieldsOf("channel", pick("app", "web"))}
		if random.IntN(15) == 0 {
			r.Currency = "USD" // of which there is no rate
		}
		if random.IntN(15) == 0 {
			r.Entities = vaglio.FieldsOf("customer", "k9", "payment", fmt.Sprint("pay", payment)) // another customer's
		}
		answer, err := engine.Decide(t.Context(), &r, scoring.DecideOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := vaglio.Decode[vaglio.Decision](answer.Body)
		if err != nil || d.Degraded {
			t.Fatalf("request %s: %v, degraded by %v", r.ID, err, d.DegradedReasons)
		}
		live[r.ID] = words(d.Verdict, d.Rules)
		for _, rule := range d.Rules {
			seen[rule.Name]++
		}
		seen[string(d.Verdict)]++
		if kind := fate(random, d.Verdict); kind != "" {
			e := event("fate"+r.ID, kind, now+vaglio.Instant(1+random.Int64N(int64(5*vaglio.Hour))), "customer", r.Entities.Get("customer"),
				"payment", r.Entities.Get("payment"), "request", r.ID)
			e.Amount, e.Currency = r.Amount, r.Currency
			e.ObservedAt = e.OccurredAt + vaglio.Instant(random.Int64N(int64(3*vaglio.Hour)))
			imports(t, h, e)
			waiting = append(waiting, vaglio.Fact{Event: e, KnownAt: e.KnownAt()})
		}
	}
	for _, name := range []string{"approve", "review", "deny", "failed", "listed", "partner", "statutory", "large", "large_in_shadow", "busy", "much", "later",
		policy.RuleCaps, policy.RuleDuplicate, policy.RuleOverCaptured, policy.RulePaymentUnknown, policy.RulePaymentForeign} {
		if seen[name] == 0 {
			t.Errorf("%s never happened: the test does not show it", name)
		}
	}

	relays(t, l, h)
	var mirror lists.Mirror
	if err := mirror.Refresh(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	again := decided{}
	report, err := training.Backtest(t.Context(), training.BacktestOptions{History: h, Bundle: bundle, Policies: []*policy.Policy{p}, Lists: &mirror,
		Period: livePeriod, Decided: func(request *training.Row, _ *policy.Policy, out *policy.Outcome) {
			again[request.ID] = words(out.Verdict, out.Rules)
		}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Requests != requests {
		t.Errorf("%d requests", report.Requests)
	}
	for id, want := range live {
		if again[id] != want {
			t.Errorf("%s: live  %s\n\tagain %s", id, want, again[id])
		}
	}
	shadowIsTold(t, h, &report, live)
}

// trafficBefore are the payments and logins before and during the live decisions: of some the money was learnt late, of some it
// was pulled back, of some nobody knows anything.
func trafficBefore(random *rand.Rand) (events []vaglio.Event) {
	for i := range 40 {
		if i%10 == 9 {
			continue
		}
		e := event(fmt.Sprint("paid", i), vaglio.KindPayment, livePeriod.From-vaglio.Instant(random.Int64N(int64(30*vaglio.Day))), "customer", fmt.Sprint("k", i%8),
			"payment", fmt.Sprint("pay", i), "device", fmt.Sprint("d", i%5), "merchant", fmt.Sprint("m", i%6))
		e.Amount, e.Currency = 5000, "EUR"
		if i%7 == 3 {
			e.ObservedAt = livePeriod.From + 2*vaglio.Day
		}
		events = append(events, e)
		if i%9 == 4 {
			back := event(fmt.Sprint("back", i), vaglio.KindChargeback, livePeriod.From+vaglio.Day, "customer", fmt.Sprint("k", i%8), "payment", fmt.Sprint("pay", i))
			back.Amount, back.Currency = 4500, "EUR"
			events = append(events, back)
		}
	}
	for i := range 60 {
		e := event(fmt.Sprint("bad_login", i), "login_failed", livePeriod.From+vaglio.Instant(random.Int64N(int64(4*vaglio.Day))), "customer", fmt.Sprint("k", i%8))
		e.ObservedAt = e.OccurredAt + vaglio.Instant(random.Int64N(int64(6*vaglio.Hour)))
		events = append(events, e)
	}
	return events
}

// fate is what becomes of a request, as far as the ledger lets it.
func fate(random *rand.Rand, verdict vaglio.Verdict) string {
	switch n := random.IntN(6); {
	case verdict == vaglio.Approve && n < 2:
		return vaglio.KindRefundPaid
	case verdict == vaglio.Approve && n == 2:
		return vaglio.KindRefundFailed
	case verdict != vaglio.Deny && n == 3:
		return "refund_cancelled"
	default:
		return ""
	}
}

// shadowIsTold holds what live traffic tells of the rule in shadow against the back-test.
func shadowIsTold(t *testing.T, h *history.Store, report *training.BacktestReport, live decided) {
	t.Helper()
	shadow, err := training.ShadowRules(t.Context(), training.ShadowOptions{History: h, Period: livePeriod})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(report.Policies[0].Rules, func(r training.RuleShare) bool { return r.State == policy.Shadow })
	if at < 0 || len(shadow.Rules) != 1 || shadow.Decisions != len(live) {
		t.Fatalf("%+v", shadow)
	}
	got, want := shadow.Rules[0], report.Policies[0].Rules[at]
	hits := int64(0)
	for _, d := range live {
		if strings.Contains(d, "large_in_shadow:review:shadow") {
			hits++
		}
	}
	if got.Requests != want.Requests || got.Amount != want.Amount || got.Verdicts != want.Verdicts || got.Exclusive != want.Exclusive ||
		got.Requests.Total() != hits || got.Precision != nil {
		t.Errorf("live %+v\nagain %+v, %d hits", got, want, hits)
	}
	if len(got.Policies) != 1 || got.Policies[0] != report.Policies[0].Policy {
		t.Errorf("stood in %v", got.Policies)
	}
}
