package ledger_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

// The stores of what people control: policies, lists and guards.

func policies(t *testing.T, open opener) {
	l := open(ledger.Options{})
	if v, err := l.CurrentPolicy(t.Context()); v != "" || err != nil {
		t.Fatalf("in force before any was published: %q, %v", v, err)
	}
	propose := func(version string, fourEyes bool) ledger.Publication {
		t.Helper()
		p, err := l.ProposePolicy(t.Context(), ledger.PolicyText{Version: version, Name: "p", Source: []byte("name: " + version)}, "key_a", "because", fourEyes)
		must(t, err)
		return p
	}
	inForce := func(want string) {
		t.Helper()
		if got, err := l.CurrentPolicy(t.Context()); got != want || err != nil {
			t.Errorf("in force is %q, %v; want %q", got, err, want)
		}
	}
	propose("p-1", false)
	inForce("p-1")
	waits := propose("p-2", true)
	inForce("p-1")
	if _, err := l.ApprovePolicy(t.Context(), waits.ID, "key_a"); !errors.Is(err, ledger.ErrFourEyes) {
		t.Errorf("its author approved: %v", err)
	}
	approved, err := l.ApprovePolicy(t.Context(), waits.ID, "key_b")
	must(t, err)
	if approved.Turn != 2 || approved.Approver != "key_b" || approved.TurnedAt != at {
		t.Errorf("approved is %+v", approved)
	}
	inForce("p-2")
	if _, err := l.ApprovePolicy(t.Context(), waits.ID, "key_b"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("approved twice: %v", err)
	}
	if back, err := l.RollbackPolicy(t.Context(), "key_b", "it denied too much"); err != nil || back.Version != "p-1" {
		t.Errorf("rolled back to %+v, %v", back, err)
	}
	inForce("p-1")
	text, err := l.Policy(t.Context(), "p-2")
	if err != nil || string(text.Source) != "name: p-2" {
		t.Errorf("p-2 is %q, %v", text.Source, err)
	}
	if _, err := l.Policy(t.Context(), "p-9"); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
	if all, err := l.Publications(t.Context()); err != nil || len(all) != 3 || all[0].Version != "p-1" || all[2].Turn != 1 {
		t.Errorf("publications %+v, %v", all, err)
	}
}

func lists(t *testing.T, open opener) {
	var now atomic.Int64
	now.Store(int64(at))
	l := open(ledger.Options{Now: func() time.Time { return vaglio.Instant(now.Load()).Time() }})
	for _, hashed := range []bool{false, true} {
		name := fmt.Sprintf("list_%t", hashed)
		made, err := l.CreateList(t.Context(), name, hashed, "k")
		must(t, err)
		if again, err := l.CreateList(t.Context(), name, hashed, "k"); err != nil || string(again.Salt) != string(made.Salt) {
			t.Errorf("made again: %+v, %v", again, err)
		}
		if _, err := l.CreateList(t.Context(), name, !hashed, "k"); err == nil {
			t.Error("made again of another kind")
		}
		must(t, l.AddToList(t.Context(), name, []ledger.ListValue{{Value: "a", Reason: "ring"}, {Value: "b", ExpiresAt: at + 10}}, "key_a"))
		now.Store(int64(at) + 5)
		must(t, l.AddToList(t.Context(), name, []ledger.ListValue{{Value: "a", Reason: "worse"}}, "key_b"))
		if n, err := l.RemoveFromList(t.Context(), name, []string{"b", "never"}, "key_b"); n != 1 || err != nil {
			t.Errorf("removed %d, %v", n, err)
		}
		open, err := l.ListEntries(t.Context(), name, "", at+5, 0, 10)
		must(t, err)
		if len(open) != 1 || open[0].Reason != "worse" || open[0].AddedAt != at+5 || open[0].Value == "a" == hashed {
			t.Errorf("on it are %+v", open)
		}
		if one, err := l.ListEntries(t.Context(), name, "a", at+5, 0, 10); err != nil || len(one) != 1 {
			t.Errorf("a is %+v, %v", one, err)
		}
		changes, err := l.ListChanges(t.Context(), name, 0, 0, 10)
		must(t, err)
		stays := map[string][]vaglio.Instant{}
		digest := func(v string) string { d := made.Digest(v); return string(d[:]) }
		for _, e := range changes {
			stays[string(e.Digest[:])] = append(stays[string(e.Digest[:])], e.AddedAt, e.Until())
		}
		if got := fmt.Sprint(stays[digest("a")], stays[digest("b")]); got != fmt.Sprint([]vaglio.Instant{at, at + 5, at + 5, 0}, []vaglio.Instant{at, at + 5}) {
			t.Errorf("stays are %s", got)
		}
		last := changes[len(changes)-1]
		if more, err := l.ListChanges(t.Context(), name, last.Revision, last.ID, 10); len(more) != 0 || err != nil {
			t.Errorf("after the last change come %+v, %v", more, err)
		}
		now.Store(int64(at))
	}
	wrong := func(err error) {
		t.Helper()
		var bad vaglio.Invalid
		if !errors.As(err, &bad) {
			t.Errorf("got %v", err)
		}
	}
	wrong(l.AddToList(t.Context(), "list_true", nil, "k"))
	wrong(l.AddToList(t.Context(), "list_true", []ledger.ListValue{{}}, "k"))
	wrong(l.AddToList(t.Context(), "list_true", []ledger.ListValue{{Value: "x", ExpiresAt: at}}, "k"))
	_, err := l.CreateList(t.Context(), "No!", false, "k")
	wrong(err)
	if err := l.AddToList(t.Context(), "nowhere", []ledger.ListValue{{Value: "x"}}, "k"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func guards(t *testing.T, open opener) {
	var now atomic.Int64
	now.Store(int64(at))
	l := open(ledger.Options{Now: func() time.Time { return vaglio.Instant(now.Load()).Time() }})
	minute := int64(at / vaglio.Minute)
	for range 2 {
		must(t, l.AddGuardCounts(t.Context(), []ledger.GuardCount{{Minute: minute, Segment: "vip", Decisions: 5, Approvals: 3, Approved: 700, Denials: 1},
			{Minute: minute - 1, Decisions: 1}}))
	}
	counts, err := l.GuardCounts(t.Context(), at)
	if err != nil || len(counts) != 1 || counts[0] != (ledger.GuardCount{Minute: minute, Segment: "vip", Decisions: 10, Approvals: 6, Approved: 1400, Denials: 2}) {
		t.Errorf("counts %+v, %v", counts, err)
	}
	trip := func(id, segment string, until vaglio.Instant, want bool) {
		t.Helper()
		got, err := l.TripGuard(t.Context(), ledger.GuardTrip{ID: id, Guard: "approvals", Segment: segment, Until: until})
		if must(t, err); got != want {
			t.Errorf("%s tripped: %t", id, got)
		}
	}
	hold := func(want int) {
		t.Helper()
		if open, err := l.GuardTrips(t.Context(), true); len(open) != want || err != nil {
			t.Errorf("hold: %+v, %v; want %d", open, err, want)
		}
	}
	trip("one", "", at+10, true)
	trip("two", "", at+10, false)
	trip("three", "vip", 0, true)
	hold(2)
	now.Add(10)
	hold(1)
	trip("four", "", 0, true)
	must(t, l.ClearGuard(t.Context(), "three", "key_a"))
	if err := l.ClearGuard(t.Context(), "three", "key_a"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("cleared twice: %v", err)
	}
	hold(1)
	if all, err := l.GuardTrips(t.Context(), false); len(all) != 3 || err != nil || all[0].ID != "four" {
		t.Errorf("trips %+v, %v", all, err)
	}
}

func exploring(t *testing.T, open opener) {
	l := open(ledger.Options{})
	spend := func(when vaglio.Instant, amount int64, want bool) {
		t.Helper()
		if got, err := l.ExplorationAffords(t.Context(), when, amount, 1000); got != want || err != nil {
			t.Errorf("affords %d of 1000: %t, %v", amount, got, err)
		}
		if got, err := l.SpendExploration(t.Context(), when, amount, 1000); got != want || err != nil {
			t.Errorf("%d of 1000: %t, %v", amount, got, err)
		}
	}
	spend(at, 1001, false)
	spend(at, 600, true)
	spend(at, 401, false)
	spend(at, 400, true)
	spend(at, 1, false)
	spend(at+vaglio.Day, 1000, true)
}
