package training_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/training"
)

var everything = training.Period{From: t0, Until: t0 + 100*vaglio.Day}

func replay(t *testing.T, h *history.Store, c *features.Catalogue, p training.Period) *training.Matrix {
	t.Helper()
	m, err := training.Replay(t.Context(), h, c, p, func(training.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// column returns a feature's values by request.
func column(t *testing.T, m *training.Matrix, name string) map[string]float64 {
	t.Helper()
	at := slices.Index(m.Names, name)
	if at < 0 {
		t.Fatalf("no feature %s", name)
	}
	values := map[string]float64{}
	for i, row := range m.Rows {
		values[row.ID] = m.X[i*len(m.Names)+at]
	}
	return values
}

// live computes a stored request's vector as a decision at its moment would.
func live(t *testing.T, h *history.Store, c *features.Catalogue, request *vaglio.Fact) []float64 {
	t.Helper()
	timelines, err := h.Timelines(t.Context(), c.Timelines(request), request.OccurredAt)
	if err != nil {
		t.Fatal(err)
	}
	vector := make([]float64, len(c.Features()))
	c.Vector(vector, request, func(e vaglio.Entity) *features.State {
		state := c.NewState(e.Kind)
		for i := range timelines[e] {
			state.Add(&timelines[e][i])
		}
		return state
	})
	return vector
}

// randomHistory has few entities, so that they meet often, and times that coincide; some events are observed late. One
// customer has more logins than count.
func randomHistory(random *rand.Rand) []vaglio.Event {
	kinds := []string{"payment", "payment", "refund_requested", "refund_requested", "refund_paid", "refund_denied", "login", "login_failed",
		"credentials_changed", "chargeback", "spend", "delivered", "payout_instrument_added", "step_up_failed", "support_contact", "account_opened", "payment_settled"}
	pick := func(names ...string) string { return names[random.IntN(len(names))] }
	var events []vaglio.Event
	for i := range 1200 {
		at := t0 - 20*vaglio.Day + vaglio.Instant(random.IntN(400))*6*vaglio.Hour
		e := event(fmt.Sprintf("e%04d", i), pick(kinds...), at, "customer", pick("c1", "c2", "c3"), "device", pick("", "d1", "d2"),
			"ip", pick("", "i1"), "payment", pick("p1", "p2", "p3", "p4"), "instrument", pick("", "card1", "card2"),
			"payout_instrument", pick("", "card1", "iban1"), "employee", pick("", "", "m1"))
		e.Attributes = vaglio.FieldsOf("reason", pick("", "other", "not_received"), "rail", pick("", "card", "sct_inst"), "payee_verification", pick("", "match", "new one"))
		e.Amount, e.Currency = int64(random.IntN(100_000)), "EUR"
		if e.Entities.Get("customer") == "c3" && e.Entities.Get("payment") == "p4" {
			e.Currency = pick("EUR", "USD") // there are no rates: dollars are unknown
		}
		if random.IntN(3) == 0 {
			e.ObservedAt = at + vaglio.Instant(random.IntN(20))*12*vaglio.Hour
		}
		events = append(events, e)
	}
	for i := range vaglio.NewestPerKind + 200 {
		e := event(fmt.Sprintf("l%04d", i), "login", t0+vaglio.Instant(random.IntN(int(20*vaglio.Day))), "customer", "c1", "device", fmt.Sprint("d", random.IntN(50)))
		if random.IntN(10) == 0 {
			e.ObservedAt = e.OccurredAt + vaglio.Instant(random.IntN(int(10*vaglio.Day)))
		}
		events = append(events, e)
	}
	return events
}

func TestAReplayIsBitForBitWhatLiveDecisionsSaw(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	events := randomHistory(random)
	random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	h := newHistory(t, events[:len(events)/2]...)
	imports(t, h, events[len(events)/2:]...)
	m := replay(t, h, features.Default(), everything)
	requests := map[string]vaglio.Fact{}
	err := h.Scan(t.Context(), []string{vaglio.KindRefundRequested}, everything.From, everything.Until, func(f vaglio.Fact) error {
		requests[f.ID] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Rows) != len(requests) || len(m.Rows) < 50 {
		t.Fatalf("%d rows of %d requests", len(m.Rows), len(requests))
	}
	known := make([]int, len(m.Names))
	for i, row := range m.Rows {
		request := requests[row.ID]
		if row.At != request.OccurredAt || i > 0 && (row.At < m.Rows[i-1].At || row.At == m.Rows[i-1].At && row.ID < m.Rows[i-1].ID) {
			t.Errorf("row %d, %s at %v, is not in order", i, row.ID, row.At)
		}
		want := live(t, h, m.Catalogue, &request)
		for j, got := range m.X[i*len(m.Names) : (i+1)*len(m.Names)] {
			if math.Float64bits(got) != math.Float64bits(want[j]) {
				t.Errorf("request %s: %s is %v in the replay, %v live", row.ID, m.Names[j], got, want[j])
			}
			if !math.IsNaN(got) {
				known[j]++
			}
		}
	}
	for j, n := range known {
		if n == 0 {
			t.Errorf("%s was never known: the history does not try it", m.Names[j])
		}
	}
}

func TestAReplayKnowsOnlyWhatWasKnownAtTheRequest(t *testing.T) {
	late := event("late", "login_failed", t0+vaglio.Hour, "customer", "c1")
	late.ObservedAt = t0 + 3*vaglio.Hour
	second := refund(2, t0+3*vaglio.Hour)
	second.Entities = vaglio.FieldsOf("customer", "c1")
	h := newHistory(t, event("before", "login_failed", t0, "customer", "c1"), event("same moment", "login_failed", t0+2*vaglio.Hour, "customer", "c1"),
		late, refund(1, t0+2*vaglio.Hour), second)
	got := column(t, replay(t, h, parse(t, smallYAML), everything), "login_failed_24h")
	if got["r1"] != 1 || got["r2"] != 3 {
		t.Errorf("failed logins %v, want 1, and 3 once the late one was observed", got)
	}
}

func TestRequestsOfOneMomentDontSeeEachOther(t *testing.T) {
	twin, next := refund(2, t0), refund(3, t0+1)
	twin.Entities, next.Entities = vaglio.FieldsOf("customer", "c1"), vaglio.FieldsOf("customer", "c1")
	h := newHistory(t, refund(1, t0), twin, next)
	c := parse(t, `
name: velocity
features:
  - {name: requests, entity: customer, events: [refund_requested], aggregate: count, window: 1h}
`)
	got := column(t, replay(t, h, c, everything), "requests")
	if got["r1"] != 0 || got["r2"] != 0 || got["r3"] != 2 {
		t.Errorf("earlier requests %v, want none, none and 2", got)
	}
}

func TestAPeriodIsHalfOpen(t *testing.T) {
	h := newHistory(t, refund(1, t0-1), refund(2, t0), refund(3, t0+vaglio.Day-1), refund(4, t0+vaglio.Day))
	m := replay(t, h, parse(t, smallYAML), training.Period{From: t0, Until: t0 + vaglio.Day})
	if len(m.Rows) != 2 || m.Rows[0].ID != "r2" || m.Rows[1].ID != "r3" {
		t.Errorf("rows %v, want r2 and r3", m.Rows)
	}
}

func TestOpenCategoriesAreLearntInTrainingAndStayAsTheyAre(t *testing.T) {
	h := newHistory(t, refund(1, t0, "channel", "web"), refund(2, t0+1, "channel", "app"), refund(3, t0+2, "channel", "app"), refund(4, t0+3),
		refund(5, t0+vaglio.Day, "channel", "phone"), refund(6, t0+vaglio.Day+1, "channel", "web"))
	first := replay(t, h, parse(t, smallYAML), training.Period{From: t0, Until: t0 + vaglio.Day})
	if got := first.Catalogue.Features()[2].Categories; !slices.Equal(got, []string{"app", "web"}) {
		t.Errorf("categories %v, want the most frequent first", got)
	}
	if got := column(t, first, "channel"); got["r1"] != 1 || got["r2"] != 0 || got["r4"] != -1 {
		t.Errorf("codes %v", got)
	}
	later := column(t, replay(t, h, first.Catalogue, training.Period{From: t0 + vaglio.Day, Until: t0 + 2*vaglio.Day}), "channel")
	if later["r5"] != -1 || later["r6"] != 1 {
		t.Errorf("codes %v, want -1 for the unknown one", later)
	}
}

func TestYoungRequestsAreLeftOutWhateverTheirLabel(t *testing.T) {
	o := options(t, plantedHistory(t))
	bundle, _, err := training.Train(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m := bundle.Manifest()
	// At maturity 10 days a fraud's label, which comes after 10 days, is known of every request that counts.
	evaluated := func(cut, maturity vaglio.Instant) training.Evaluation {
		t.Helper()
		e, err := training.Evaluate(t.Context(), o.History, bundle, testPeriod, cut, maturity, nil)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	all := evaluated(vaglio.InstantOf(today()), 0)
	e := evaluated(testPeriod.Until, 20*vaglio.Day)
	if e.Rows != 40*24+1 {
		t.Errorf("%d rows are 20 days old at the end of 60 days, want %d", e.Rows, 40*24+1)
	}
	byID := map[string]bool{}
	for _, p := range all.Predictions {
		byID[p.RequestID] = p.Fraud
	}
	for _, p := range e.Predictions {
		if p.Fraud != byID[p.RequestID] {
			t.Errorf("request %s has another label at the earlier cut", p.RequestID)
		}
	}
	if m.Calibration.Positives == 0 || m.Training.Positives == 0 {
		t.Errorf("manifest %+v", m)
	}
}
