package history_test

import (
	"fmt"
	"strings"
	"testing"

	"vaglio"
)

func TestTimelinesAreReadByPrimaryKey(t *testing.T) {
	s := open(t, "EUR")
	var events []vaglio.Event
	for i := range 50_000 {
		events = append(events, thirdParty(i))
	}
	insert(t, s, events...)
	plan, err := s.TimelinesPlan(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c_7"}, {Kind: "device", ID: "d_70"}, {Kind: "payment", ID: "p_7"}}, t0)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	_, index, found := strings.Cut(text, "PrimaryKey")
	if !found || !strings.Contains(index, "(entity in 3-element set)") {
		t.Fatalf("the entities are not looked up by the primary key:\n%s", text)
	}
	_, counts, _ := strings.Cut(index, "Granules: ")
	var read, all int
	if _, err := fmt.Sscanf(counts, "%d/%d", &read, &all); err != nil || read > 6 || all < 500 {
		t.Errorf("three short timelines read %d of %d granules, want two each at most (%v):\n%s", read, all, err, text)
	}
}
