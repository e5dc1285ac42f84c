package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
)

// personal is a decision as the service stores it: the customer stands in the request, the inputs, the event and analytics.
func personal(t *testing.T, l *ledger.Ledger, id, customer string, moment vaglio.Instant) []byte {
	t.Helper()
	r := request(id, customer, "p_"+id)
	r.Attributes = vaglio.FieldsOf("account", customer, "channel", "app")
	response, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
		e := inReview(r, moment)
		e.Inputs = fmt.Appendf(nil, `{"entities":{"customer":%q,"device":"d_%s"},"timelines":[{"entity":"customer:%s","events":17}],"log_odds":-1.2300}`,
			customer, customer, customer)
		e.Taken = vaglio.Taken{DecisionID: e.DecisionID, RequestID: id, Customer: customer, DecidedAt: moment, Verdict: vaglio.Review}
		return e, nil
	})
	must(t, err)
	return response
}

func exported(t *testing.T, l *ledger.Ledger, customer string) string {
	t.Helper()
	var out bytes.Buffer
	must(t, l.Export(t.Context(), customer, &out))
	return out.String()
}

func TestAForgottenCustomerIsNowhereAndHisRecordsStayTogether(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		for i := range 60 { // more than one transaction of forgetting
			personal(t, l, fmt.Sprintf("rr_%02d", i), "c_alice", at)
		}
		other := personal(t, l, "rr_other", "c_bob", at)
		_, err := l.Resolve(t.Context(), "rr_07", ledger.Resolution{Verdict: vaglio.Deny, By: "anna", Reason: "Alice phoned"}, nil)
		must(t, err)
		must(t, l.Note(t.Context(), ledger.AuditEntry{Actor: "key_1", Action: "customer.exported", Subject: "c_alice"}))
		for _, table := range []string{"decisions", "open_requests", "outbox"} {
			if text := contents(t, e, table); !strings.Contains(text, `"customer":"c_alice"`) {
				t.Fatalf("%s can't be read: %.300q", table, text)
			}
		}
		before := exported(t, l, "c_alice")
		device := vaglio.Entity{Kind: "device", ID: "d_c_alice"}
		done, err := l.Forget(t.Context(), "c_alice", "key_1", device, vaglio.Entity{Kind: "instrument", ID: "card_c_alice"})
		must(t, err)
		if done.Decisions != 60 || done.Revisions != 1 || done.Messages != 120 || done.Audit != 1 || !strings.HasPrefix(done.Pseudonym, "anon_") {
			t.Errorf("forgot %+v", done)
		}
		again, err := l.Forget(t.Context(), "c_alice", "key_1", device)
		must(t, err)
		if again.Pseudonym != done.Pseudonym || again.Pseudonyms[device] != done.Pseudonyms[device] || again.Decisions != 0 {
			t.Errorf("a second run says %+v", again)
		}
		must(t, l.ForgottenEverywhere(t.Context(), "c_alice", done.Pseudonym, "key_1"))
		for _, table := range []string{"decisions", "revisions", "open_requests", "outbox", "outbox_timelines", "movements", "audit_log", "forgetting"} {
			if text := contents(t, e, table); strings.Contains(strings.ToLower(text), "alice") {
				t.Errorf("%s still knows: %.300s", table, text)
			}
		}
		after := exported(t, l, done.Pseudonym)
		want := strings.NewReplacer("c_alice", done.Pseudonym, "card_c_alice", done.Pseudonyms[vaglio.Entity{Kind: "instrument", ID: "card_c_alice"}],
			"d_c_alice", done.Pseudonyms[device], "Alice phoned", "forgotten").Replace(before)
		if got := linesOf(after, "customer.forgotten"); got != linesOf(want, "customer.forgotten") {
			t.Errorf("got  %.2000s\nwant %.2000s", got, want)
		}
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "device", ID: done.Pseudonyms[device]}}, at+1)
		if err != nil || len(facts) != 60 {
			t.Errorf("%d facts of the renamed device, %v", len(facts), err)
		}
		r := request("rr_07", "c_alice", "p_rr_07")
		r.Attributes = vaglio.FieldsOf("account", "c_alice", "channel", "app")
		if answer, found, err := l.Lookup(t.Context(), claim(r)); !found || err != nil || !bytes.Contains(answer, []byte("rr_07")) {
			t.Errorf("the request again gets %s %v, %v", answer, found, err)
		}
		b := request("rr_other", "c_bob", "p_rr_other")
		b.Attributes = vaglio.FieldsOf("account", "c_bob", "channel", "app")
		if answer, _, err := l.Lookup(t.Context(), claim(b)); err != nil || !bytes.Equal(answer, other) {
			t.Errorf("another customer's answer became %s, %v", answer, err)
		}
		if state, err := l.Request(t.Context(), "rr_07"); err != nil || state.State != ledger.Denied || state.Customer != done.Pseudonym {
			t.Errorf("the request is %+v, %v", state, err)
		}
		intact(t, l)
	})
}

func TestListsThatNameAForgottenCustomerAreToldOrTakeHimOff(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		personal(t, l, "rr_1", "c_alice", at)
		device := vaglio.Entity{Kind: "device", ID: "d_c_alice"}
		for name, hashed := range map[string]bool{"fraud": false, "hidden": true, "vip": false} {
			_, err := l.CreateList(t.Context(), name, hashed, "anna")
			must(t, err)
			must(t, l.AddToList(t.Context(), name, []ledger.ListValue{{Value: "d_c_alice", Reason: "Alice's"}, {Value: "d_bob"}}, "anna"))
		}
		must(t, l.AddToList(t.Context(), "vip", []ledger.ListValue{{Value: "c_alice", Reason: "Alice"}}, "anna"))
		_, err := l.RemoveFromList(t.Context(), "vip", []string{"c_alice", "d_c_alice"}, "anna")
		must(t, err)

		done, err := l.Forget(t.Context(), "c_alice", "key_1", device)
		must(t, err)
		listed := func(want ...string) {
			t.Helper()
			all, err := l.Listed(t.Context(), done.Pseudonyms)
			must(t, err)
			var got []string
			for _, s := range all {
				if s.Until == 0 {
					got = append(got, s.List+" "+s.Kind)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("listed %q, want %q", got, want)
			}
		}
		listed("fraud device", "hidden device")
		must(t, l.ForgottenEverywhere(t.Context(), "c_alice", done.Pseudonym, "key_1"))
		listed("fraud device", "hidden device") // what is over got the new names, what is not stays
		for line := range strings.Lines(contents(t, e, "list_entries")) {
			if strings.Contains(line, " vip ") && strings.Contains(strings.ToLower(line), "alice") {
				t.Errorf("a stay that is over: %s", line)
			}
		}

		again, err := l.Forget(t.Context(), "c_alice", "key_1", device)
		must(t, err)
		done = again
		if n, err := l.Unlist(t.Context(), done.Pseudonyms, "key_1"); n != 2 || err != nil {
			t.Errorf("%d were taken off (%v)", n, err)
		}
		listed()
		must(t, l.ForgottenEverywhere(t.Context(), "c_alice", done.Pseudonym, "key_1"))
		if entries := contents(t, e, "list_entries"); strings.Contains(strings.ToLower(entries), "alice") || strings.Count(entries, "d_bob") != 2 {
			t.Errorf("the lists still know: %s", entries)
		}
		if open, err := l.ListEntries(t.Context(), "hidden", "d_bob", at, 0, 10); len(open) != 1 || err != nil {
			t.Errorf("another one's stays are %v, %v", open, err)
		}
		intact(t, l)
	})
}

func TestOtherServersHearThatACustomerWasForgotten(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		server, command := open(t, e.dsn, ledger.Options{}), open(t, e.dsn, ledger.Options{})
		personal(t, server, "rr_1", "c_alice", at)
		recent := func(customer string, want int) {
			t.Helper()
			facts, err := server.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: customer}}, at+1)
			if err != nil || len(facts) != want {
				t.Errorf("%d facts of %s, want %d (%v)", len(facts), customer, want, err)
			}
		}
		heard := func(before, want int64) {
			t.Helper()
			if n, err := server.Forgettings(t.Context(), before); n != want || err != nil {
				t.Errorf("%d were forgotten, want %d (%v)", n, want, err)
			}
		}
		recent("c_alice", 1)
		heard(0, 0)
		done, err := command.Forget(t.Context(), "c_alice", "key_1")
		must(t, err)
		heard(0, 0) // history may still know
		must(t, command.ForgottenEverywhere(t.Context(), "c_alice", done.Pseudonym, "key_1"))
		heard(0, 1)
		recent("c_alice", 0)
		recent(done.Pseudonym, 1)
		heard(1, 1)
	})
}

// contents is all that a table holds, as text; what is packed is read.
func contents(t *testing.T, e engine, table string) string {
	t.Helper()
	rows, err := e.raw.Query(`SELECT * FROM ` + table)
	must(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(t, err)
	var out strings.Builder
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		must(t, rows.Scan(into...))
		for _, v := range values {
			if b, ok := v.([]byte); ok {
				if text, err := ledger.ReadText(b); err == nil {
					b = text
				}
				v = string(b)
			}
			fmt.Fprint(&out, v, " ")
		}
		out.WriteString("\n")
	}
	must(t, rows.Err())
	return out.String()
}

// linesOf are the lines that do not hold a text.
func linesOf(text, without string) string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, without) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestAnExportHoldsEverythingOfACustomerAndNothingOfOthers(t *testing.T) {
	l := open(t, t.TempDir()+"/ledger.db", ledger.Options{})
	personal(t, l, "rr_1", "c_1", at)
	personal(t, l, "rr_2", "c_2", at)
	_, err := l.Resolve(t.Context(), "rr_1", ledger.Resolution{Verdict: vaglio.Deny, By: "anna"}, nil)
	must(t, err)
	kinds := map[string]int{}
	for line := range strings.Lines(exported(t, l, "c_1")) {
		var v struct {
			Source string         `json:"source"`
			Kind   string         `json:"kind"`
			Held   map[string]any `json:"held"`
		}
		must(t, json.Unmarshal([]byte(line), &v))
		kinds[v.Source+" "+v.Kind]++
		if strings.Contains(line, "rr_2") {
			t.Errorf("another customer's: %s", line)
		}
	}
	if fmt.Sprint(kinds) != "map[ledger decision:1 ledger message:2 ledger revision:1]" {
		t.Errorf("exported %v", kinds)
	}
}

func TestWhatIsOlderThanItMayBeIsSweptAndTheChainVerifies(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		clock := at
		l := open(t, e.dsn, ledger.Options{Now: func() time.Time { return clock.Time() }})
		for i := range 70 {
			personal(t, l, fmt.Sprintf("rr_%02d", i), "c_1", clock)
		}
		_, err := l.Resolve(t.Context(), "rr_00", ledger.Resolution{Verdict: vaglio.Deny, By: "anna", Reason: "because"}, nil)
		must(t, err)
		clock += 10 * vaglio.Day
		young := personal(t, l, "rr_young", "c_1", clock)
		day := 24 * time.Hour
		sweep := func(r ledger.Retention, want ledger.Swept) {
			t.Helper()
			got, err := l.Sweep(t.Context(), r)
			must(t, err)
			if got != want {
				t.Errorf("swept %+v, want %+v", got, want)
			}
			intact(t, l)
		}
		stored := func(id string) ledger.Stored {
			t.Helper()
			s, err := l.Decision(t.Context(), id)
			must(t, err)
			return s
		}
		sweep(ledger.Retention{}, ledger.Swept{})
		sweep(ledger.Retention{Inputs: 11 * day, Decisions: 11 * day, Audit: 11 * day}, ledger.Swept{})
		sweep(ledger.Retention{Inputs: 5 * day}, ledger.Swept{Inputs: 70})
		sweep(ledger.Retention{Inputs: 5 * day}, ledger.Swept{})
		if s := stored("rr_00"); s.Inputs != nil || len(s.Response) == 0 {
			t.Errorf("kept %+v", s)
		}
		sweep(ledger.Retention{Inputs: 5 * day, Decisions: 9 * day}, ledger.Swept{Decisions: 70})
		if _, err := l.Decision(t.Context(), "rr_00"); !errors.Is(err, ledger.ErrNotKept) {
			t.Errorf("read a decision that is no longer kept: %v", err)
		}
		old := request("rr_00", "c_1", "p_rr_00")
		old.Attributes = vaglio.FieldsOf("account", "c_1", "channel", "app")
		if _, _, err := l.Record(t.Context(), claim(old), subject(old), never); !errors.Is(err, ledger.ErrNotKept) {
			t.Errorf("decided again: %v", err)
		}
		old.Amount++
		if _, _, err := l.Record(t.Context(), claim(old), subject(old), never); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("other content: %v", err)
		}
		if state, err := l.Request(t.Context(), "rr_00"); err != nil || state.State != ledger.Denied || strings.Contains(fmt.Sprint(state), "anna") {
			t.Errorf("its state is %+v, %v", state, err)
		}
		if s := stored("rr_young"); !bytes.Equal(s.Response, young) || s.Inputs == nil {
			t.Errorf("kept %+v", s)
		}
		clock += 2 * vaglio.Day
		must(t, l.Note(t.Context(), ledger.AuditEntry{Actor: "a", Action: "b"}))
		entries, err := l.AuditLog(t.Context(), 0, 100)
		must(t, err)
		sweep(ledger.Retention{Audit: day}, ledger.Swept{Audit: len(entries) - 1})
		if left, err := l.AuditLog(t.Context(), 0, 100); err != nil || len(left) != 2 || left[1].Action != "retention.audit" {
			t.Errorf("%v is left, %v", left, err)
		}
	})
}
