package history_test

import (
	"slices"
	"testing"

	"vaglio"
)

func TestDeliveredRequestsAreCompletedUnlessTheirDecisionDidSo(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s, paid("p_1", t0-10, 100, "EUR", "customer", "c", "payment", "p", "device", "d"))
	degraded := vaglio.Fact{Event: event("degraded", vaglio.KindRefundRequested, t0, "customer", "c", "payment", "p"), KnownAt: t0 + 1}
	degraded.ObservedAt = t0
	decided := degraded
	decided.ID, decided.Completed = "decided", true
	if err := s.Deliver(t.Context(), []vaglio.Fact{degraded, decided}); err != nil {
		t.Fatal(err)
	}
	if got := ids(timeline(t, s, vaglio.Entity{Kind: "device", ID: "d"}, t0+1)); !slices.Equal(got, []string{"degraded", "p_1"}) {
		t.Errorf("the device has %v, want the payment and the request that was not complete", got)
	}
	if got := ids(timeline(t, s, customer, t0+1)); !slices.Equal(got, []string{"decided", "degraded", "p_1"}) {
		t.Errorf("the customer has %v, want all", got)
	}
}
