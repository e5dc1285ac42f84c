package history_test

import (
	"fmt"
	"testing"
	"time"

	"vaglio"
)

func TestATimelineOfManyEventsIsReadInBounds(t *testing.T) {
	s := open(t, "EUR")
	const total, batch = 300_000, 50_000
	for from := 0; from < total; from += batch {
		events := make([]vaglio.Event, batch)
		for i := range events {
			events[i] = event(fmt.Sprint("e", from+i), "login", t0-vaglio.Instant(total-from-i)*vaglio.Second, "merchant", "m")
		}
		insert(t, s, events...)
	}
	began := time.Now()
	facts := timeline(t, s, vaglio.Entity{Kind: "merchant", ID: "m"}, t0)
	t.Logf("%d of %d events in %v", len(facts), total, time.Since(began))
	if len(facts) != vaglio.NewestPerKind || facts[0].ID != fmt.Sprint("e", total-1) {
		t.Errorf("%d events, the first is %s: want the newest %d", len(facts), facts[0].ID, vaglio.NewestPerKind)
	}
}
