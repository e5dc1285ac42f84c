package ledger_test

import (
	"fmt"
	"testing"

	"vaglio"
	"vaglio/ledger"
)

// TestAClockThatIsSetBackGivesNothingTwice has a row for each thing that the ledger measures by time: what happened at a moment, and
// what is so once the clock is an hour before it.
func TestAClockThatIsSetBackGivesNothingTwice(t *testing.T) {
	const hour = vaglio.Hour
	for _, c := range []struct {
		name string
		run  func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant))
	}{
		{"a customer's counters keep what was decided ahead of the clock", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			record(t, l, request("rr_1", "c", "p"))
			for _, moment := range []vaglio.Instant{at - hour, at - 30*vaglio.Day, at + hour - 1} {
				set(moment)
				s, err := l.Standing(t.Context(), ledger.Subject{Customer: "c"})
				if must(t, err); s.Counters.Requests1h != 1 || s.Counters.Approved1h != 1999 {
					t.Errorf("at %v: %+v", moment, s.Counters)
				}
			}
		}},
		{"a reservation holds until its time", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			record(t, l, request("rr_1", "c", "p"))
			set(at - hour)
			if n, err := l.Expire(t.Context()); n != 0 || err != nil || reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}) != 1999 {
				t.Errorf("%d expired, %v", n, err)
			}
		}},
		{"what has expired stays so", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			record(t, l, request("rr_1", "c", "p"))
			set(at + hour)
			if n, err := l.Expire(t.Context()); n != 1 || err != nil {
				t.Errorf("%d expired, %v", n, err)
			}
			set(at)
			if _, err := l.Execute(t.Context(), "rr_1", ledger.Execution{State: ledger.Succeeded}); err == nil {
				t.Error("it was paid after it had expired")
			}
		}},
		{"a request keeps its first answer", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			r := request("rr_1", "c", "p")
			first := record(t, l, r)
			set(at - hour)
			again, repeated, err := l.Record(t.Context(), claim(r), subject(r), never)
			if err != nil || !repeated || string(again) != string(first) {
				t.Errorf("%s %t %v", again, repeated, err)
			}
		}},
		{"money that was told of counts from when it was known, and is told once", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			paid := []vaglio.Fact{money("e", vaglio.KindRefundPaid, "p", "", 500)}
			must(t, l.Move(t.Context(), paid))
			set(at - hour)
			must(t, l.Move(t.Context(), paid))
			if n, err := l.DropMovements(t.Context()); n != 0 || err != nil {
				t.Errorf("%d were dropped, %v", n, err)
			}
			set(at)
			s, err := l.Standing(t.Context(), ledger.Subject{Payment: "p", Currency: "EUR"})
			if must(t, err); len(s.Movements) != 1 || s.Movements[0].Amount != 500 {
				t.Errorf("%+v", s.Movements)
			}
		}},
		{"the outbox delivers in the order of recording", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			for i := range 4 {
				set(at - vaglio.Instant(i)*hour)
				r := request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i))
				decide(t, l, r, approval(r, at-vaglio.Instant(i)*hour, hour))
			}
			n := 0
			for _, batch := range deliverAll(t, l) {
				for _, f := range batch {
					if f.ID != fmt.Sprint("rr_", n) {
						t.Errorf("event %d is %s", n, f.ID)
					}
					n++
				}
			}
			if n != 4 {
				t.Errorf("%d events", n)
			}
		}},
		{"the audit log and its chain go by number", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			for i := range 3 {
				set(at - vaglio.Instant(i)*hour)
				must(t, l.Note(t.Context(), ledger.AuditEntry{Actor: "a", Action: fmt.Sprint(i)}))
			}
			entries, err := l.AuditLog(t.Context(), 0, 10)
			must(t, err)
			for i, e := range entries {
				if e.Action != fmt.Sprint(i) {
					t.Errorf("entry %d is %s", i, e.Action)
				}
			}
			intact(t, l)
		}},
		{"a day's budget of exploration is spent once", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			for i, want := range []bool{true, false, true, false, false} {
				day := at + []vaglio.Instant{0, -hour, vaglio.Day, vaglio.Day - hour, 0}[i]
				set(day)
				if ok, err := l.SpendExploration(t.Context(), day, 600, 1000); ok != want || err != nil {
					t.Errorf("spending %d: %t, %v", i, ok, err)
				}
			}
		}},
		{"a revoked key stays so", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			key, _, err := l.CreateKey(t.Context(), "shop", []string{ledger.ScopeScore}, at+hour)
			must(t, err)
			must(t, l.RevokeKey(t.Context(), key.ID))
			set(at - hour)
			if keys, err := l.Keys(t.Context()); err != nil || len(keys) != 1 || keys[0].RevokedAt == 0 {
				t.Errorf("%+v %v", keys, err)
			}
		}},
		{"what stays on a list stays on it", func(t *testing.T, l *ledger.Ledger, set func(vaglio.Instant)) {
			_, err := l.CreateList(t.Context(), "fraud", false, "anna")
			must(t, err)
			must(t, l.AddToList(t.Context(), "fraud", []ledger.ListValue{{Value: "d"}}, "anna"))
			set(at - hour)
			must(t, l.AddToList(t.Context(), "fraud", []ledger.ListValue{{Value: "d"}}, "anna"))
			if open, err := l.ListEntries(t.Context(), "fraud", "d", at-hour, 0, 10); len(open) != 1 || err != nil {
				t.Errorf("%+v %v", open, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBothEngines(t, func(t *testing.T, e engine) {
				k := clockAt(at)
				c.run(t, open(t, e.dsn, ledger.Options{Now: k.time}), k.set)
			})
		})
	}
}
