package scoring_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"vaglio"
	"vaglio/scoring"
)

// always approves whatever the model says, as far as the rules let it.
var always = thresholds(1, 1)

func claims(capturedMinor int64) func(*vaglio.Request) {
	return func(r *vaglio.Request) { r.Payment = &vaglio.PaymentState{CapturedAmount: &capturedMinor} }
}

func TestWhatMayStillLeaveAPayment(t *testing.T) {
	const unknown = -1
	// left decides a request for EUR 10.00 after some events of the payment.
	left := func(name string, events func(*service) []vaglio.Event, want int64, verdict vaglio.Verdict, vary ...func(*vaglio.Request)) {
		t.Run(name, func(t *testing.T) {
			s := newService(t, always)
			s.imports(events(s)...)
			d, _ := s.decides(s.request("r", vary...))
			got := int64(unknown)
			if d.RefundableAmount != nil {
				got = *d.RefundableAmount
			}
			expect(t, "refundable", got, want)
			expect(t, "verdict", d.Verdict, verdict)
			approved := int64(0)
			if verdict == vaglio.Approve {
				approved = 1000
			}
			expect(t, "approved", d.ApprovedAmount, approved)
			rules := map[vaglio.Verdict]string{vaglio.Approve: "[]", vaglio.Deny: "[{over_captured deny active}]", vaglio.Review: "[{payment_unknown review active}]"}
			expect(t, "rules", fmt.Sprint(d.Rules), rules[verdict])
			codes := map[vaglio.Verdict]string{vaglio.Deny: "OVER_CAPTURED", vaglio.Review: "PAYMENT_UNKNOWN"}
			if want := codes[verdict]; want != "" && (d.Reasons[0].Code != want || d.Reasons[0].CustomerText == "") {
				t.Errorf("the first reason is not %s: %s", want, indented(d))
			}
		})
	}
	type events = []vaglio.Event
	none := func(*service) events { return nil }
	paid := func(s *service) vaglio.Event { return s.money("paid", "payment", t0-vaglio.Hour, 2500, "EUR") }
	after := func(kind string, amountMinor int64, currency string) func(*service) events {
		return func(s *service) events {
			return events{paid(s), s.money("after", kind, t0-vaglio.Minute, amountMinor, currency)}
		}
	}

	left("captured", func(s *service) events { return events{paid(s)} }, 2500, vaglio.Approve)
	left("captured in two parts", after("payment", 500, "EUR"), 3000, vaglio.Approve)
	left("captured to the cent", func(s *service) events { return events{s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR")} }, 1000, vaglio.Approve)
	left("captured less by a cent", func(s *service) events { return events{s.money("paid", "payment", t0-vaglio.Hour, 999, "EUR")} }, 999, vaglio.Deny)
	left("partly refunded", after("refund_paid", 1500, "EUR"), 1000, vaglio.Approve)
	left("refunded but for less", after("refund_paid", 1501, "EUR"), 999, vaglio.Deny)
	left("refunded beyond it", after("refund_paid", 9900, "EUR"), 0, vaglio.Deny)
	left("charged back", after("chargeback", 2500, "EUR"), 0, vaglio.Deny)
	left("returned", after("payment_returned", 2000, "EUR"), 500, vaglio.Deny)
	left("a refund that failed", after("refund_failed", 2500, "EUR"), 2500, vaglio.Approve)
	left("paid in another currency", func(s *service) events { return events{s.money("paid", "payment", t0-vaglio.Hour, 2500, "USD")} }, unknown, vaglio.Review)
	left("refunded in another currency", after("refund_paid", 100, "USD"), unknown, vaglio.Review)
	left("nothing known", none, unknown, vaglio.Review)
	left("the request's own word, history being silent", none, 2000, vaglio.Approve, claims(2000))
	left("the request's own word for too little", none, 500, vaglio.Deny, claims(500))
	left("the request's own word against history", func(s *service) events { return events{paid(s)} }, 2500, vaglio.Approve, claims(1_000_000))
	left("the request's own word beside refunds", func(s *service) events {
		return events{s.money("refund", "refund_paid", t0-vaglio.Minute, 1500, "EUR")}
	}, 500, vaglio.Deny, claims(2000))
	left("no payment named", none, unknown, vaglio.Review, claims(2000), func(r *vaglio.Request) {
		r.Entities = vaglio.FieldsOf("customer", r.Entities.Get("customer"))
	})
	left("paid, but not known yet", func(s *service) events {
		late := paid(s)
		late.ObservedAt = t0 + 1
		return events{late}
	}, unknown, vaglio.Review)
	left("refunded, but not known yet", func(s *service) events {
		late := s.money("late", "refund_paid", t0-vaglio.Minute, 2500, "EUR")
		late.ObservedAt = t0 + 1
		return events{paid(s), late}
	}, 2500, vaglio.Approve)
}

func TestAShopWithoutPaymentsInHistorySwitchesTheCheckOff(t *testing.T) {
	s := newService(t, withPolicy("thresholds: {approve_below: 1, deny_from: 1}\nrequire_payment: false"))
	d, _ := s.decides(s.request("unknown"))
	expect(t, "of an unknown payment", d.Verdict, vaglio.Approve)
	expect(t, "approved", d.ApprovedAmount, 1000)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1500, "EUR"))
	d, _ = s.decides(s.request("known"))
	expect(t, "of a payment that the first approval has used up", d.Verdict, vaglio.Deny)
}

func TestAnApprovalReservesUntilItExpires(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1500, "EUR"))
	refundable := func(name string, at vaglio.Instant, want int64, verdict vaglio.Verdict) {
		t.Helper()
		s.clock.set(at)
		d, _ := s.decides(s.request(name))
		expect(t, name+": refundable", *d.RefundableAmount, want)
		expect(t, name+": verdict", d.Verdict, verdict)
	}
	refundable("first", t0, 1500, vaglio.Approve)
	refundable("while the first is reserved", t0+1, 500, vaglio.Deny)
	refundable("in its last millisecond", t0+vaglio.Day-1, 500, vaglio.Deny)
	refundable("expired", t0+vaglio.Day, 1500, vaglio.Approve)
}

func TestAReviewReservesNothing(t *testing.T) {
	s := newService(t, thresholds(0, 1))
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1500, "EUR"))
	for _, name := range []string{"first", "second"} {
		d, _ := s.decides(s.request(name))
		expect(t, name, d.Verdict, vaglio.Review)
		expect(t, name+": refundable", *d.RefundableAmount, 1500)
		expect(t, name+": review due", d.ReviewDueAt, t0+30*vaglio.Minute)
		expect(t, name+": valid until", d.ValidUntil, 0)
	}
}

func TestTheFateOfARefundSettlesItsReservation(t *testing.T) {
	settles := func(name, kind string, amountMinor, want int64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			s := newService(t, always)
			s.imports(s.money("paid", "payment", t0-vaglio.Hour, 2500, "EUR"))
			s.decides(s.request("r"))
			s.clock.set(t0 + vaglio.Minute)
			d, _ := s.decidesWith(s.request("other", func(r *vaglio.Request) { r.Amount = 1501 }), scoring.DecideOptions{})
			expect(t, "refundable while reserved", *d.RefundableAmount, 1500)
			if _, err := s.Store(t.Context(), []vaglio.Event{s.money("fate", kind, t0+vaglio.Minute, amountMinor, "EUR", "request", "r")}); err != nil {
				t.Fatal(err)
			}
			s.clock.set(t0 + vaglio.Hour)
			d, _ = s.decides(s.request("next"))
			expect(t, "refundable", *d.RefundableAmount, want)
		})
	}
	settles("paid", "refund_paid", 1000, 1500)
	settles("paid in part: the rest stays reserved", "refund_paid", 400, 1500)
	settles("paid beyond it", "refund_paid", 1100, 1400)
	settles("failed", "refund_failed", 1000, 2500)
	settles("failed in part", "refund_failed", 400, 1900)
	settles("cancelled", "refund_cancelled", 1000, 2500)
}

func TestARefundOfAnotherRequestAddsToWhatIsReserved(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 2500, "EUR"))
	s.decides(s.request("r"))
	s.imports(s.money("elsewhere", "refund_paid", t0+1, 700, "EUR", "request", "unheard of"))
	s.clock.set(t0 + vaglio.Minute)
	d, _ := s.decides(s.request("next"))
	expect(t, "refundable", *d.RefundableAmount, 800)
	expect(t, "verdict", d.Verdict, vaglio.Deny)
}

func TestApprovalsNeverExceedWhatWasCapturedHoweverManyAskAtOnce(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 7500, "EUR"))
	var wait sync.WaitGroup
	answers := make([]scoring.Answer, 50)
	for i := range answers {
		r := s.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Amount += int64(i) }) // the same amount would be a duplicate
		wait.Go(func() {
			var err error
			if answers[i], err = s.Decide(context.WithoutCancel(t.Context()), &r, scoring.DecideOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	verdicts := map[vaglio.Verdict]int{}
	for _, a := range answers {
		verdicts[a.Verdict]++
	}
	if verdicts[vaglio.Approve] != 7 || verdicts[vaglio.Deny] != 43 {
		t.Errorf("50 requests of EUR 10.00 to 10.49 against EUR 75.00 captured: %v, want 7 approvals", verdicts)
	}
}

func TestMoneyGoneThatCantBeCountedLeavesTheExposureUnknown(t *testing.T) {
	for _, kind := range []string{"chargeback", "payment_returned"} {
		for name, change := range map[string]func(*vaglio.Event){
			"in another currency": func(e *vaglio.Event) { e.Amount, e.Currency = 1, "USD" },
			"without an amount":   func(e *vaglio.Event) { e.Amount, e.Currency = 0, "" },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				s := newService(t, always)
				gone := s.money("gone", kind, t0-vaglio.Minute, 0, "EUR")
				change(&gone)
				s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"), gone)
				if d, _ := s.decides(s.request("r")); d.Verdict != vaglio.Review || d.RefundableAmount != nil {
					t.Errorf("want a review and nothing told as refundable: %s", indented(d))
				}
			})
		}
	}
}

func TestARefundThatNamesOnlyItsRequestCounts(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"))
	d, _ := s.decides(s.request("r"))
	expect(t, "first", d.Verdict, vaglio.Approve)
	s.delivers()
	s.imports(vaglio.Event{ID: s.id("refund"), Kind: "refund_paid", OccurredAt: t0 + vaglio.Hour, Amount: 1000, Currency: "EUR",
		Entities: vaglio.FieldsOf("request", s.id("r"))})
	s.clock.set(t0 + vaglio.Day) // the reservation is over
	d, _ = s.decides(s.request("again"))
	expect(t, "the money is gone", d.Verdict, vaglio.Deny)
}

func TestRefundsBeyondTheHorizonStillCount(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-500*vaglio.Day, 1000, "EUR"), s.money("refunded", "refund_paid", t0-450*vaglio.Day, 1000, "EUR"))
	d, _ := s.decides(s.request("r", claims(1000)))
	if d.Verdict == vaglio.Approve {
		t.Errorf("approved %d of a payment that was refunded 450 days ago", d.ApprovedAmount)
	}
}

func TestADryRunOfNowSeesWhatIsReserved(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"))
	s.decides(s.request("first"))
	d, _ := s.decidesWith(s.request("second"), scoring.DecideOptions{DryRun: true})
	expect(t, "verdict", d.Verdict, vaglio.Deny)
}
