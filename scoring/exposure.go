package scoring

import (
	"math"

	"vaglio"
	"vaglio/ledger"
)

// effect is what an event of a payment's timeline does to the payment's money.
type effect uint8

const (
	none     effect = iota
	captures        // money came in
	returns         // money is back, or pulled back
	voids           // the payment came to nothing, unless money came in later
)

// effects by kind of event; other kinds move no money.
var effects = map[string]effect{
	vaglio.KindPayment: captures, vaglio.KindRefundPaid: returns, vaglio.KindChargeback: returns, "payment_returned": returns,
	"payment_failed": voids, "payment_cancelled": voids,
}

// settlingKinds end the reservation of the request that they name.
var settlingKinds = map[string]bool{vaglio.KindRefundPaid: true, vaglio.KindRefundFailed: true, "refund_cancelled": true}

// exposure is what history shows of a payment's money, in minor units of the request's currency.
type exposure struct {
	paymentID string
	captured  int64
	gone      int64    // refunded, charged back or returned
	settled   []string // requests whose refund has been paid, failed or was cancelled
	known     bool     // of captured and gone
	foreign   bool     // the payment is another customer's
}

func paymentOf(f *vaglio.Fact) (vaglio.Entity, bool) {
	id := f.Entities.Get(vaglio.EntityPayment)
	return vaglio.Entity{Kind: vaglio.EntityPayment, ID: id}, id != ""
}

// exposureOf adds up the facts of the request's payment. What the request claims to be captured counts only while history
// has no payment. The whole is unknown when money is in another currency than the request's or of no amount, when the
// payment failed last, and when there are more facts of a kind than are read.
func exposureOf(r *vaglio.Request, request *vaglio.Fact, payment []vaglio.Fact) exposure {
	entity, ok := paymentOf(request)
	if !ok {
		return exposure{}
	}
	e := exposure{paymentID: entity.ID, known: true}
	counts := map[string]int{}
	var lastIn, lastVoid vaglio.Instant
	for i := range payment {
		f := &payment[i]
		what := effects[f.Kind]
		counts[f.Kind]++
		if (what == captures || what == returns) && f.Currency != r.Currency || what != none && counts[f.Kind] == vaglio.NewestPerKind {
			e.known = false
		}
		switch what {
		case captures:
			e.captured += f.Amount
			lastIn = max(lastIn, f.OccurredAt)
			owner := f.Entities.Get(vaglio.EntityCustomer)
			e.foreign = e.foreign || owner != "" && owner != r.Entities.Get(vaglio.EntityCustomer)
		case returns:
			e.gone += f.Amount
		case voids:
			lastVoid = max(lastVoid, f.OccurredAt)
		}
		if id := f.Entities.Get(vaglio.EntityRequest); id != "" && settlingKinds[f.Kind] {
			e.settled = append(e.settled, id)
		}
	}
	switch {
	case lastVoid > lastIn:
		e.known = false
	case counts[vaglio.KindPayment] > 0:
	case r.Payment == nil || r.Payment.CapturedAmount == nil:
		e.known = false
	default:
		e.captured = *r.Payment.CapturedAmount
	}
	return e
}

// refundable is what was left before this decision, never below 0; false if it can't be told.
func (e *exposure) refundable(reservedMinor int64) (amountMinor int64, known bool) {
	left := e.captured - e.gone
	if reservedMinor > math.MaxInt64/2 { // the ledger's sum is saturated
		return 0, e.known
	}
	return max(0, left-reservedMinor), e.known
}

func (e *exposure) payment(r *vaglio.Request) ledger.Payment {
	return ledger.Payment{ID: e.paymentID, Currency: r.Currency, Settled: e.settled}
}
