//go:build real

package examples

import (
	"math"
	"slices"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/history/ingest"
	"vaglio/training"
)

// The shop's invoices have customers, payments and amounts, but no devices: so the catalogue is asked about those.
const invoiceFeatures = `
name: invoices
features:
  - {name: requests_1h, entity: customer, events: [refund_requested], aggregate: count, window: 1h}
  - {name: requests_90d, entity: customer, events: [refund_requested], aggregate: count, window: 90d}
  - {name: since_request, entity: customer, events: [refund_requested], aggregate: since_last}
  - {name: paid_30d, entity: customer, events: [payment], aggregate: sum, of: amount, window: 30d}
  - {name: paid_mean, entity: customer, events: [payment], aggregate: mean, of: amount}
  - {name: paid_stddev, entity: customer, events: [payment], aggregate: stddev, of: amount, window: 180d}
  - {name: refunded_180d, entity: customer, events: [refund_paid], aggregate: sum, of: amount, window: 180d}
  - {name: refund_share, expr: refunded_180d / paid_30d}
  - {name: age, entity: customer, events: [payment], aggregate: since_first}
  - {name: payments_before, entity: customer, events: [payment], aggregate: distinct, of: payment, window: 30d, offset: 7d}
  - {name: payment_age, entity: payment, events: [payment], aggregate: since_first}
  - {name: captured, entity: payment, events: [payment], aggregate: sum, of: amount}
  - {name: share_of_captured, expr: request.amount / captured}
  - {name: country, categorical: request.attributes.country}
  - {name: hour, expr: request.hour}
`

func TestRealRequestsGetTheSameVectorsInServingAndTraining(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	h, err := history.Open(t.Context(), server.DSN(), history.Options{BaseCurrency: "GBP"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	mapping, err := ingest.ReadMapping("online-retail/every-invoice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ingest.Files(t.Context(), ingest.Options{Mapping: mapping, Sink: h.Import}, []string{data(t, "online_retail.csv.gz")}); err != nil {
		t.Fatal(err)
	}
	catalogue, err := features.Parse([]byte(invoiceFeatures))
	if err != nil {
		t.Fatal(err)
	}
	period := training.Period{From: instant(t, "2010-12-01"), Until: instant(t, "2011-07-15")}
	m, err := training.Replay(t.Context(), h, catalogue, period, func(training.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]vaglio.Fact{}
	if err := h.Scan(t.Context(), []string{vaglio.KindRefundRequested}, period.From, period.Until, func(f vaglio.Fact) error {
		requests[f.ID] = f
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	const want = 10_000
	if len(m.Rows) < want {
		t.Fatalf("%d requests, want %d", len(m.Rows), want)
	}
	width, differ := len(m.Names), 0
	live := make([]float64, width)
	for i, row := range m.Rows[:want] {
		r := requests[row.ID]
		timelines, err := h.Timelines(t.Context(), m.Catalogue.Timelines(&r), r.OccurredAt)
		if err != nil {
			t.Fatal(err)
		}
		m.Catalogue.Vector(live, &r, func(e vaglio.Entity) *features.State {
			state := m.Catalogue.NewState(e.Kind)
			for j := range timelines[e] {
				state.Add(&timelines[e][j])
			}
			return state
		})
		replayed := m.X[i*width : (i+1)*width]
		same := slices.EqualFunc(live, replayed, func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
		if !same {
			if differ++; differ < 4 {
				t.Errorf("request %s: live %v, replayed %v", row.ID, live, replayed)
			}
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d vectors differ", differ, want)
	}
}

func instant(t *testing.T, s string) vaglio.Instant {
	t.Helper()
	at, err := vaglio.ParseInstant(s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
