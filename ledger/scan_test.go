package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

func scanning(t *testing.T, open opener) {
	now := at
	l := open(ledger.Options{Now: func() time.Time { return now.Time() }})
	for i := range 5 {
		r := request(fmt.Sprint("rr_", i), fmt.Sprint("c_", i), fmt.Sprint("p_", i))
		_, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
			e := approval(r, at+vaglio.Instant(i/2), 10*vaglio.Minute) // two in each millisecond
			if e.Inputs = []byte("{}"); i == 3 {
				e.Inputs = nil
			}
			return e, nil
		})
		must(t, err)
	}
	for limit := 1; limit < 5; limit++ {
		var got string
		var after ledger.Place
		for {
			page, err := l.Replayable(t.Context(), at, at+2, after, limit)
			must(t, err)
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1]
			for _, p := range page {
				got += fmt.Sprint(" ", p.RequestID)
			}
		}
		if got != " rr_0 rr_1 rr_2" {
			t.Errorf("by %d: %s", limit, got)
		}
	}
	if n, err := l.CountReplayable(t.Context(), at, at+2); n != 3 || err != nil {
		t.Errorf("there are %d, %v", n, err)
	}
}

func controlled(t *testing.T, open opener) {
	l := open(ledger.Options{})
	text := ledger.PolicyText{Version: "p-1", Name: "p", Source: []byte("name: p")}
	waits, err := l.ProposePolicy(t.Context(), text, "key_a", "summer", true)
	must(t, err)
	_, err = l.ApprovePolicy(t.Context(), waits.ID, "key_a")
	if err == nil {
		t.Error("its author approved")
	}
	_, err = l.ApprovePolicy(t.Context(), waits.ID, "key_b")
	must(t, err)
	text.Version = "p-2"
	_, err = l.ProposePolicy(t.Context(), text, "key_a", "", false)
	must(t, err)
	_, err = l.RollbackPolicy(t.Context(), "key_c", "too strict")
	must(t, err)
	_, err = l.CreateList(t.Context(), "vip", false, "k")
	must(t, err)
	must(t, l.AddToList(t.Context(), "vip", []ledger.ListValue{{Value: "a"}, {Value: "b"}}, "key_a"))
	_, err = l.RemoveFromList(t.Context(), "vip", []string{"a", "c"}, "key_b")
	must(t, err)
	_, err = l.TripGuard(t.Context(), ledger.GuardTrip{ID: "guard_1", Guard: "denials"})
	must(t, err)
	must(t, l.ClearGuard(t.Context(), "guard_1", "key_c"))
	if err := l.ClearGuard(t.Context(), "guard_1", "key_c"); err == nil {
		t.Error("cleared twice")
	}
	entries, err := l.AuditLog(t.Context(), 0, 100)
	must(t, err)
	got := ""
	for _, e := range entries {
		got += fmt.Sprintln(e.Actor, e.Action, e.Subject, string(e.Detail))
	}
	want := `key_a policy.proposed p-1 {"publication":1,"reason":"summer"}
key_b policy.approved p-1 {"publication":1,"reason":"summer"}
key_a policy.published p-2 {"publication":2,"reason":""}
key_c policy.rolled_back p-1 {"publication":3,"reason":"too strict"}
k list.created vip {"hashed":false}
key_a list.added vip {"values":2}
key_b list.removed vip {"values":1}
key_c guard.cleared guard_1 
`
	if got != want {
		t.Errorf("the audit log says\n%s", got)
	}
}
