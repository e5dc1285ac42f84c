package history_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/history"
)

func TestAForgottenCustomerLeavesRecordsThatBelongTogetherAndNotToHim(t *testing.T) {
	s := open(t, "EUR")
	alice := []vaglio.Event{
		paid("p1", t0-vaglio.Day, 100, "EUR", "customer", "c_alice", "payment", "p", "device", "d_alice", "ip", "ip_cafe", "merchant", "m"),
		event("in", "login", t0-vaglio.Hour, "customer", "c_alice", "device", "d_alice", "ip", "ip_cafe"),
		event("r", "refund_requested", t0-1, "customer", "c_alice", "payment", "p", "payout_instrument", "iban_alice"),
		event("failed", "login_failed", t0-2*vaglio.Hour, "device", "d_alice"), // names no customer
	}
	alice[2].Attributes = vaglio.FieldsOf("account", "c_alice", "channel", "app")
	insert(t, s, alice...)
	bob := paid("p2", t0-vaglio.Day, 200, "EUR", "customer", "c_bob", "payment", "q", "ip", "ip_cafe", "merchant", "m")
	insert(t, s, bob)
	if err := s.DeliverDecisions(t.Context(), []vaglio.Taken{taken("r", t0, "c_alice"), taken("s", t0, "c_bob")}); err != nil {
		t.Fatal(err)
	}
	own, err := s.Own(t.Context(), "c_alice")
	want := []vaglio.Entity{{Kind: "device", ID: "d_alice"}, {Kind: "instrument", ID: "iban_alice"}}
	if err != nil || !slices.Equal(own, want) {
		t.Fatalf("his own are %v, %v; want %v", own, err, want)
	}
	if text := held(t, s, "c_alice"); strings.Count(text, "\n") != 4 {
		t.Errorf("exported %s", text)
	}
	names := vaglio.Pseudonyms{{Kind: "customer", ID: "c_alice"}: "anon_1", own[0]: "anon_2", own[1]: "anon_3"}
	if n := s.CountRows(t, "timelines", "alice"); n < 10 {
		t.Errorf("only %d rows of his timelines are found", n)
	}
	for range 2 { // again, as after a run that was cut off
		done, err := s.Forget(t.Context(), "c_alice", names)
		if err != nil {
			t.Fatal(err)
		}
		if done != (history.Forgotten{Events: 4, Decisions: 1}) && done != (history.Forgotten{}) {
			t.Errorf("forgot %+v", done)
		}
	}
	for _, table := range []string{"events", "timelines", "arrivals", "decisions"} {
		if n := s.CountRows(t, table, "alice"); n != 0 {
			t.Errorf("%s still has %d rows of him", table, n)
		}
	}
	check := func(kind, id string, want ...string) {
		t.Helper()
		if got := ids(timeline(t, s, vaglio.Entity{Kind: kind, ID: id}, t0+1)); !slices.Equal(got, want) {
			t.Errorf("%s %s: %v, want %v", kind, id, got, want)
		}
	}
	check("customer", "c_alice")
	check("customer", "anon_1", "in", "p1", "r")
	check("device", "anon_2", "failed", "in", "p1", "r") // the request was completed from the payment
	check("instrument", "anon_3", "r")
	check("payment", "p", "p1", "r")
	check("ip", "ip_cafe", "in", "p1", "p2", "r")
	check("merchant", "m", "p1", "p2", "r")
	check("customer", "c_bob", "p2")
	if n, err := s.Count(t.Context()); n != 5 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	if got := insert(t, s, alice[0], bob); !slices.Equal(got, []vaglio.Outcome{vaglio.Conflicting, vaglio.Repeated}) {
		t.Errorf("sent again: %v", got)
	}
	if text := held(t, s, "c_alice"); text != "" {
		t.Errorf("exported %s", text)
	}
	if text := held(t, s, "anon_1"); strings.Count(text, "\n") != 4 || !strings.Contains(text, `"account":"anon_1"`) {
		t.Errorf("exported %s", text)
	}
}

func held(t *testing.T, s *history.Store, customer string) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Export(t.Context(), customer, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestForgettingManyEventsTakesSeveralRounds(t *testing.T) {
	s := open(t, "EUR")
	var events []vaglio.Event
	for i := range 2500 {
		events = append(events, event(fmt.Sprint("l", i), "login", t0-vaglio.Instant(i), "customer", "c", "merchant", "m"))
	}
	insert(t, s, events...)
	done, err := s.Forget(t.Context(), "c", vaglio.Pseudonyms{customer: "anon"})
	if err != nil || done.Events != 2500 {
		t.Fatalf("forgot %+v, %v", done, err)
	}
	if left, now := len(timeline(t, s, customer, t0+1)), held(t, s, "anon"); left != 0 || strings.Count(now, "\n") != 2500 {
		t.Errorf("%d are left, %d have the new name", left, strings.Count(now, "\n"))
	}
}
