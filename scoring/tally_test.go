package scoring

import (
	"fmt"
	"math"
	"testing"

	"vaglio"
	"vaglio/ledger"
)

// TestEveryCentIsCountedOnce looks inside the package: it is about the arithmetic alone, whoever told what.
func TestEveryCentIsCountedOnce(t *testing.T) {
	const moment = vaglio.Instant(1_000_000)
	id := 0
	fact := func(eventID, kind, request, customer string, minor int64, currency string, at vaglio.Instant) vaglio.Fact {
		if eventID == "" {
			id++
			eventID = fmt.Sprint("evt_", id)
		}
		return vaglio.Fact{Event: vaglio.Event{ID: eventID, Kind: kind, OccurredAt: at, Amount: minor, Currency: currency,
			Entities: vaglio.FieldsOf("customer", customer, "payment", "p", "request", request)}}
	}
	paid := func(minor int64) vaglio.Fact {
		return fact("", vaglio.KindPayment, "", "c", minor, "EUR", moment-1000)
	}
	refund := func(eventID, request string, minor int64) vaglio.Fact {
		return fact(eventID, vaglio.KindRefundPaid, request, "c", minor, "EUR", moment-500)
	}
	other := func(kind string, minor int64, currency string) vaglio.Fact {
		return fact("", kind, "", "c", minor, currency, moment-100)
	}
	movement := func(f vaglio.Fact) ledger.Movement {
		return ledger.Movement{EventID: f.ID, Kind: f.Kind, RequestID: f.Entities.Get("request"), Customer: f.Entities.Get("customer"),
			Amount: f.Amount, Currency: f.Currency, OccurredAt: f.OccurredAt}
	}
	reserves := func(request string, minor int64) ledger.Standing {
		return ledger.Standing{Reserved: []ledger.Reservation{{RequestID: request, Amount: minor}}}
	}
	const unknown = -1
	left := func(name string, want int64, standing ledger.Standing, facts ...vaglio.Fact) {
		t.Helper()
		r := vaglio.Request{ID: "r", Amount: 100, Currency: "EUR", Entities: vaglio.FieldsOf("customer", "c", "payment", "p")}
		request := vaglio.Fact{Event: vaglio.Event{ID: "r", Entities: r.Entities}}
		// Whoever tells an event, history or the ledger or both, and in whatever order: it is the same.
		for split := range len(facts) + 1 {
			for _, overlap := range []int{0, split} {
				s := standing
				for _, f := range facts[split-overlap:] {
					s.Movements = append([]ledger.Movement{movement(f)}, s.Movements...)
				}
				e := exposureOf(&r, &request, facts[:split], &s)
				got, known := e.refundable(e.reserved)
				if !known {
					got = unknown
				}
				if got != want {
					t.Errorf("%s: %d is left, want %d, with %d facts of history and %d movements: %+v", name, got, want, split, len(s.Movements), e)
				}
			}
		}
	}
	none := ledger.Standing{}
	left("nothing is known", unknown, none)
	left("captured", 1000, none, paid(1000))
	left("captured in two parts", 1500, none, paid(1000), paid(500))
	left("refunded in part", 600, none, paid(1000), refund("", "", 400))
	left("refunded in pieces of one request", 300, none, paid(1000), refund("", "a", 400), refund("", "a", 300))
	left("refunds of two requests", 300, none, paid(1000), refund("", "a", 400), refund("", "b", 300))
	left("told by the execution and by an event", 600, none, paid(1000), refund("a:paid", "a", 400), refund("", "a", 400))
	left("told by the execution and by events, which say more", 400, none, paid(1000), refund("a:paid", "a", 400), refund("", "a", 350), refund("", "a", 250))
	left("told by the execution, which says more, and by an event", 400, none, paid(1000), refund("a:paid", "a", 600), refund("", "a", 350))
	left("named like the execution of another request", 200, none, paid(1000), refund("a:paid", "b", 400), refund("", "a", 400))
	left("a reservation", 600, reserves("a", 400), paid(1000))
	left("a reservation that a refund has settled", 600, reserves("a", 400), paid(1000), refund("", "a", 400))
	left("a reservation of which a piece was paid", 600, reserves("a", 400), paid(1000), refund("", "a", 300))
	left("a reservation paid in pieces", 600, reserves("a", 400), paid(1000), refund("", "a", 300), refund("", "a", 100))
	left("a reservation paid beyond what was approved", 450, reserves("a", 400), paid(1000), refund("", "a", 300), refund("", "a", 250))
	left("a reservation that its execution has settled for less", 700, reserves("a", 400), paid(1000), refund("a:paid", "a", 300))
	left("a reservation of which a piece failed, released by the ledger alone", 600, reserves("a", 400), paid(1000), fact("", vaglio.KindRefundFailed, "a", "c", 100, "EUR", moment))
	left("a reservation beside another request's refund", 300, reserves("a", 400), paid(1000), refund("", "b", 300))
	left("a chargeback", 700, none, paid(1000), other(vaglio.KindChargeback, 300, "EUR"))
	left("a chargeback of all after a refund", 0, none, paid(1000), refund("", "", 400), other(vaglio.KindChargeback, 1000, "EUR"))
	left("returned by the bank", 0, none, paid(1000), other("payment_returned", 1000, "EUR"))
	left("paid in another currency", unknown, none, other(vaglio.KindPayment, 1000, "USD"))
	left("refunded in another currency", unknown, none, paid(1000), other(vaglio.KindRefundPaid, 1, "USD"))
	left("charged back without an amount", unknown, none, paid(1000), other(vaglio.KindChargeback, 0, ""))
	left("failed after it was paid", unknown, none, paid(1000), other("payment_failed", 0, ""))
	left("paid after it failed", 1000, none, fact("", "payment_failed", "", "c", 0, "", moment-2000), paid(1000))
	left("more than the ledger reads", unknown, ledger.Standing{Incomplete: true}, paid(1000))
	left("reserved beyond 63 bits", 0, ledger.Standing{Reserved: []ledger.Reservation{{RequestID: "a", Amount: math.MaxInt64}, {RequestID: "b", Amount: math.MaxInt64}}}, paid(1000))
	left("refunded beyond 63 bits", 0, none, paid(1000), refund("", "a", math.MaxInt64), refund("", "b", math.MaxInt64))
	left("what moves no money", 1000, none, paid(1000), other("login", 500, "EUR"), fact("", "refund_requested", "r2", "c", 900, "EUR", moment))

	foreign := fact("", vaglio.KindPayment, "", "somebody", 1000, "EUR", moment)
	r := vaglio.Request{Currency: "EUR", Entities: vaglio.FieldsOf("customer", "c", "payment", "p")}
	e := exposureOf(&r, &vaglio.Fact{Event: vaglio.Event{Entities: r.Entities}}, nil, &ledger.Standing{Movements: []ledger.Movement{movement(foreign)}})
	if !e.foreign {
		t.Error("the payment of another customer is not noticed when only the ledger tells of it")
	}
}
