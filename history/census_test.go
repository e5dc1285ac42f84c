package history_test

import (
	"slices"
	"testing"

	"vaglio"
	"vaglio/history"
)

func TestACensusCountsKindsByTimeline(t *testing.T) {
	h := open(t, "EUR")
	if _, err := h.Import(t.Context(), []vaglio.Event{paid("p", t0, 100, "EUR", "customer", "c1", "device", "d1"), event("l1", "login", t0, "customer", "c1"), event("l2", "login", t0+1, "customer", "c2"),
		event("later", "login", t0+2, "customer", "c1")}); err != nil {
		t.Fatal(err)
	}
	got, err := h.Census(t.Context(), t0, t0+2)
	if err != nil {
		t.Fatal(err)
	}
	want := []history.Census{{EntityKind: "customer", Kind: "login", Events: 2}, {EntityKind: "customer", Kind: vaglio.KindPayment, Events: 1, Money: true},
		{EntityKind: "device", Kind: vaglio.KindPayment, Events: 1, Money: true}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
