package scoring

import (
	"slices"

	"vaglio"
	"vaglio/ledger"
)

// exposureKinds are the kinds of events that move what may still leave a payment.
var exposureKinds = []string{vaglio.KindPayment, vaglio.KindRefundPaid, vaglio.KindRefundFailed, "refund_cancelled", vaglio.KindChargeback, "payment_returned"}

// settlingKinds end the reservation of the request that they name.
var settlingKinds = []string{vaglio.KindRefundPaid, vaglio.KindRefundFailed, "refund_cancelled"}

// exposure is what history shows of a payment's money, in minor units of the request's currency.
type exposure struct {
	paymentID string
	captured  int64
	gone      int64    // refunded, charged back or returned
	settled   []string // requests whose refund has been paid, failed or was cancelled
	known     bool     // of captured and gone
}

func paymentOf(f *vaglio.Fact) (vaglio.Entity, bool) {
	id := f.Entities.Get(vaglio.EntityPayment)
	return vaglio.Entity{Kind: vaglio.EntityPayment, ID: id}, id != ""
}

// exposureOf adds up a payment's timeline. What the request claims to be captured counts only while history has no
// payment; money in another currency than the request's makes the whole unknown.
func exposureOf(r *vaglio.Request, timelines map[vaglio.Entity][]vaglio.Fact, request *vaglio.Fact) exposure {
	entity, ok := paymentOf(request)
	if !ok {
		return exposure{}
	}
	e := exposure{paymentID: entity.ID, known: true}
	payments := 0
	for _, f := range timelines[entity] {
		switch f.Kind {
		case vaglio.KindPayment:
			payments++
			e.captured += f.Amount
		case vaglio.KindRefundPaid, vaglio.KindChargeback, "payment_returned":
			e.gone += f.Amount
		}
		if f.Currency != r.Currency && slices.Contains(exposureKinds[:2], f.Kind) {
			e.known = false
		}
		if id := f.Entities.Get(vaglio.EntityRequest); id != "" && slices.Contains(settlingKinds, f.Kind) {
			e.settled = append(e.settled, id)
		}
	}
	if payments == 0 {
		if r.Payment == nil || r.Payment.CapturedAmount == nil {
			e.known = false
		} else {
			e.captured = *r.Payment.CapturedAmount
		}
	}
	return e
}

// refundable is what was left before this decision, never below 0; false if it can't be told.
func (e *exposure) refundable(reservedMinor int64) (amountMinor int64, known bool) {
	return max(0, e.captured-e.gone-reservedMinor), e.known
}

func (e *exposure) payment(r *vaglio.Request) ledger.Payment {
	return ledger.Payment{ID: e.paymentID, Currency: r.Currency, Settled: e.settled}
}
