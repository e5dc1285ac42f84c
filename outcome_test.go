package vaglio_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"vaglio"
)

const outcomeOf = `{"id":"out_1","request_id":"rr_1","outcome":"%s","occurred_at":"2026-11-22T12:00:00Z"%s}`

func TestEveryOutcomeIsItsEvent(t *testing.T) {
	covered := map[string]bool{}
	is := func(outcome, members, want string) {
		t.Helper()
		covered[outcome] = true
		o, err := vaglio.DecodeReportedOutcome(fmt.Appendf(nil, outcomeOf, outcome, members))
		if err != nil {
			t.Errorf("%s: %v", outcome, err)
			return
		}
		e := o.Event()
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", outcome, err)
		}
		if e.ID != "outcome:out_1" || e.Entities.Get("request") != "rr_1" || !e.FollowsRequest() || e.OccurredAt.String() != "2026-11-22T12:00:00.000Z" {
			t.Errorf("%s: %+v", outcome, e)
		}
		got := e.Kind
		for _, f := range e.Attributes {
			got += " " + f.Name + "=" + f.Value
		}
		if got != want {
			t.Errorf("%s: %s", outcome, got)
		}
	}
	// docs/models.md, Labels: what an outcome means for the request.
	is("chargeback", `,"amount":1999,"currency":"EUR"`, "chargeback")
	is("chargeback", `,"reference":"cb-1","fraud_type":"first_party"`, "chargeback fraud_type=first_party reference=cb-1")
	is("dispute_won", ``, "dispute_won")
	is("dispute_lost", ``, "dispute_lost")
	is("early_fraud_warning", ``, "early_fraud_warning")
	is("payment_returned", ``, "payment_returned")
	is("recall_requested", `,"fraud_type":"mule"`, "recall_requested fraud_type=mule")
	is("victim_report", ``, "fraud_confirmed fraud_type=third_party source=victim_report")
	is("verdict", `,"verdict":"deny"`, "fraud_confirmed source=review")
	is("verdict", `,"verdict":"approve"`, "fraud_cleared source=review")
	is("audit_clean", ``, "fraud_cleared source=audit")
	is("refund_reversed", ``, "refund_reversed")
	is("clear", `,"clears":"out_0"`, "fraud_cleared clears=outcome:out_0")
	if len(covered) != len(vaglio.ReportedOutcomes) {
		t.Errorf("%d of %d outcomes tried", len(covered), len(vaglio.ReportedOutcomes))
	}
}

func TestWrongOutcomesAreNamedByTheirFields(t *testing.T) {
	refused := func(body, pointers string) {
		t.Helper()
		_, err := vaglio.DecodeReportedOutcome([]byte(body))
		var invalid vaglio.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", body, err)
			return
		}
		var got []string
		for _, f := range invalid {
			got = append(got, f.Pointer)
		}
		if all := strings.Join(got, " "); all != pointers {
			t.Errorf("%s: %s", body, all)
		}
	}
	with := func(outcome, members string) string { return fmt.Sprintf(outcomeOf, outcome, members) }
	refused(`{}`, "/id /request_id /outcome /occurred_at")
	refused(with("theft", ""), "/outcome")
	refused(with("chargeback", `,"colour":"red"`), "/colour")
	refused(with("chargeback", `,"amount":1999`), "/currency")
	refused(with("chargeback", `,"currency":"EUR"`), "/amount")
	refused(with("chargeback", `,"amount":-1,"currency":"EURO"`), "/amount /currency")
	refused(with("chargeback", `,"fraud_type":"boredom"`), "/fraud_type")
	refused(with("chargeback", `,"verdict":"deny"`), "/verdict")
	refused(with("chargeback", `,"clears":"out_0"`), "/clears")
	refused(with("chargeback", `,"reference":"`+strings.Repeat("x", 257)+`"`), "/reference")
	refused(with("audit_clean", `,"fraud_type":"mule"`), "/fraud_type")
	refused(with("verdict", ``), "/verdict")
	refused(with("verdict", `,"verdict":"review"`), "/verdict")
	refused(with("verdict", `,"verdict":"approve","fraud_type":"mule"`), "/fraud_type")
	refused(with("clear", ``), "/clears")
	refused(strings.Replace(with("clear", `,"clears":"out_0"`), "out_1", strings.Repeat("x", 121), 1), "/id")
}

// FuzzDecodeReportedOutcome: what is taken is a valid event.
func FuzzDecodeReportedOutcome(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(outcomeOf, "verdict", `,"verdict":"deny"`)))
	f.Add([]byte(fmt.Sprintf(outcomeOf, "clear", `,"clears":"out_0"`)))
	f.Add([]byte(fmt.Sprintf(outcomeOf, "chargeback", `,"amount":1999,"currency":"EUR","reference":"\ud83d\ude00"`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := vaglio.DecodeReportedOutcome(body)
		if err != nil {
			return
		}
		e := o.Event()
		if err := e.Validate(); err != nil {
			t.Errorf("%v in %+v", err, e)
		}
	})
}
