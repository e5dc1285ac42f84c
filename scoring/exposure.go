package scoring

import (
	"maps"
	"math"
	"slices"

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

// settlingKinds settle or release what is reserved for the request that they name, or a part of it. What was paid counts from
// anywhere; what failed was released by the ledger, which knows whether it was approved by then.
var settlingKinds = map[string]bool{vaglio.KindRefundPaid: true, vaglio.KindRefundFailed: true, "refund_cancelled": true}

// exposure is what is known of a payment's money, in minor units of the request's currency.
type exposure struct {
	captured int64
	gone     int64 // refunded, charged back or returned
	reserved int64 // held back by open approvals of other requests
	known    bool  // of captured and gone
	foreign  bool  // the payment is another customer's
}

func paymentOf(f *vaglio.Fact) (vaglio.Entity, bool) {
	id := f.Entities.Get(vaglio.EntityPayment)
	return vaglio.Entity{Kind: vaglio.EntityPayment, ID: id}, id != ""
}

// exposureOf adds up the money of the request's payment: what history shows and what the ledger was told, each event once.
// A request's refund that its execution told and events that name it told too counts once, by the larger of the two sums. Of a
// reservation counts what its [ledger.Refund] leaves of it. What the request claims to be captured counts only while nobody tells of a
// payment. The whole is unknown when money is in another currency than the request's or of no amount, when the payment failed
// last, and when there are more facts of a kind, or more rows in the ledger, than are read.
func exposureOf(r *vaglio.Request, request *vaglio.Fact, history []vaglio.Fact, standing *ledger.Standing) exposure {
	if _, ok := paymentOf(request); !ok {
		return exposure{}
	}
	t := tally{request: r, seen: map[string]bool{}, counts: map[string]int{}, refunds: map[string]*ledger.Refund{}}
	t.known = !standing.Incomplete
	for i := range history {
		f := &history[i]
		t.counts[f.Kind]++
		if effects[f.Kind] != none && t.counts[f.Kind] == vaglio.NewestPerKind {
			t.known = false
		}
		t.add(&ledger.Movement{EventID: f.ID, Kind: f.Kind, RequestID: f.Entities.Get(vaglio.EntityRequest),
			Customer: f.Entities.Get(vaglio.EntityCustomer), Amount: f.Amount, Currency: f.Currency, OccurredAt: f.OccurredAt})
	}
	for i := range standing.Movements {
		t.add(&standing.Movements[i])
	}
	return t.sum(standing.Reserved)
}

// tally is an exposure being added up.
type tally struct {
	exposure
	request          *vaglio.Request
	seen             map[string]bool           // ids of events
	counts           map[string]int            // by kind
	refunds          map[string]*ledger.Refund // by request
	paid             bool                      // somebody told of a payment
	lastIn, lastVoid vaglio.Instant
}

func (t *tally) add(m *ledger.Movement) {
	what := effects[m.Kind]
	if t.seen[m.EventID] || what == none {
		return
	}
	t.seen[m.EventID] = true
	if (what == captures || what == returns) && m.Currency != t.request.Currency {
		t.known = false
	}
	switch {
	case m.Kind == vaglio.KindRefundPaid && m.RequestID != "":
		of := t.refunds[m.RequestID]
		if of == nil {
			of = &ledger.Refund{}
			t.refunds[m.RequestID] = of
		}
		of.Add(m, t.request.Currency)
	case what == captures:
		t.paid = true
		t.captured = plus(t.captured, m.Amount)
		t.lastIn = max(t.lastIn, m.OccurredAt)
		t.foreign = t.foreign || m.Customer != "" && m.Customer != t.request.Entities.Get(vaglio.EntityCustomer)
	case what == voids:
		t.lastVoid = max(t.lastVoid, m.OccurredAt)
	case what == returns:
		t.gone = plus(t.gone, m.Amount)
	}
}

func (t *tally) sum(reserved []ledger.Reservation) exposure {
	for _, r := range t.refunds {
		t.gone = plus(t.gone, r.Paid())
	}
	for _, r := range reserved {
		if of := t.refunds[r.RequestID]; of == nil {
			t.reserved = plus(t.reserved, r.Amount)
		} else {
			t.reserved = plus(t.reserved, of.Rest(r.Amount))
		}
	}
	switch {
	case t.lastVoid > t.lastIn:
		t.known = false
	case t.paid:
	case t.request.Payment == nil || t.request.Payment.CapturedAmount == nil:
		t.known = false
	default:
		t.captured = *t.request.Payment.CapturedAmount
	}
	return t.exposure
}

// plus adds amounts from 0; a sum beyond 63 bits stays at the largest number.
func plus(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// refundable is what was left before this decision, never below 0; false if it can't be told.
func (e *exposure) refundable(reservedMinor int64) (amountMinor int64, known bool) {
	return max(0, e.captured-plus(e.gone, reservedMinor)), e.known
}

// Settles reports whether events of a kind tell of the refund of the request that they name: see [ledger.Refund].
func Settles(kind string) bool { return settlingKinds[kind] }

// MoneyKinds are the kinds of events of a payment that [Refundable] reads, sorted.
func MoneyKinds() []string {
	kinds := slices.AppendSeq(slices.Collect(maps.Keys(effects)), maps.Keys(settlingKinds))
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// Refundable is what a decision finds left of its request's payment, in minor units of the request's currency, when the standing
// is all that is known of it; false if it can't be told. foreign: the payment is another customer's.
func Refundable(r *vaglio.Request, request *vaglio.Fact, standing *ledger.Standing) (amountMinor int64, known, foreign bool) {
	e := exposureOf(r, request, nil, standing)
	amountMinor, known = e.refundable(e.reserved)
	return amountMinor, known, e.foreign
}

// subject is what the decision of a request is about, to the ledger.
func (d *decision) subject() ledger.Subject {
	return ledger.Subject{Customer: d.request.Entities.Get(vaglio.EntityCustomer), Payment: d.fact.Entities.Get(vaglio.EntityPayment),
		Currency: d.request.Currency, Amount: d.request.Amount}
}
