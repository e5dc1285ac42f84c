package training

import (
	"math"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
	"vaglio/scoring/policy"
)

// books are what one policy's own verdicts leave, as the ledger keeps it for the decisions to come: [ledger.Standing] describes
// what is told of them.
type books struct {
	approvalValid vaglio.Instant
	customers     map[string][]counted // in order of time
	payments      map[string][]opened  // in order of time
}

// counted is a decision of a customer.
type counted struct {
	at       vaglio.Instant
	approved bool
	amount   int64 // minor units of the base currency, of an approval
}

// opened is a request that was not denied.
type opened struct {
	id, currency string
	amount       int64
	approved     bool
	validUntil   vaglio.Instant // of an approval
}

// mostOpened and mostCounted are what the ledger reads of a payment, and of a customer's day.
const (
	mostOpened  = vaglio.NewestPerKind
	mostCounted = 5000
)

func newBooks(approvalValid vaglio.Instant) books {
	return books{approvalValid: approvalValid, customers: map[string][]counted{}, payments: map[string][]opened{}}
}

// situation is what the policy is told of a request: by the books, and by what is known of its payment's money.
func (b *books) situation(in *policy.Input, money *paymentMoney) policy.Situation {
	s := policy.Situation{Counters: b.counters(in.Request.Entities.Get(vaglio.EntityCustomer), in.Moment), QueueLoad: math.NaN()}
	var standing ledger.Standing
	if money != nil {
		standing.Movements = money.told[:money.known]
		standing.Incomplete = money.more != 0 && money.more <= in.Moment
	}
	if payment := in.Fact.Entities.Get(vaglio.EntityPayment); payment != "" {
		open := b.open(payment, in.Moment, money)
		standing.Incomplete = standing.Incomplete || len(open) > mostOpened
		for i := range open {
			o := &open[i]
			if o.currency != in.Request.Currency || o.id == in.Request.ID {
				continue
			}
			if o.approved {
				standing.Reserved = append(standing.Reserved, ledger.Reservation{RequestID: o.id, Amount: o.amount, ValidUntil: o.validUntil})
			}
			s.Duplicate = s.Duplicate || o.amount == in.Request.Amount
		}
	}
	s.RefundableMinor, s.RefundableKnown, s.Foreign = scoring.Refundable(in.Request, in.Fact, &standing)
	return s
}

// open are the requests of a payment that are not over; the others are forgotten.
func (b *books) open(payment string, at vaglio.Instant, money *paymentMoney) []opened {
	all := b.payments[payment]
	kept := all[:0]
	for _, o := range all {
		if over := o.approved && at >= o.validUntil; !over && (money == nil || !money.ended(&o)) {
			kept = append(kept, o)
		}
	}
	if len(kept) < len(all) {
		b.payments[payment] = kept
	}
	return kept
}

// counters are those of the last hour and day, both open at their beginning.
func (b *books) counters(customer string, at vaglio.Instant) (c policy.Counters) {
	all := b.customers[customer]
	gone := 0
	for gone < len(all) && (all[gone].at <= at-vaglio.Day || len(all)-gone > mostCounted) {
		gone++
	}
	if all = all[gone:]; gone > 0 {
		b.customers[customer] = all
	}
	for i := range all {
		n := &all[i]
		lately := n.at > at-vaglio.Hour
		c.Requests24h++
		if lately {
			c.Requests1h++
		}
		if !n.approved {
			continue
		}
		c.Approvals24h++
		c.Approved24h += n.amount
		if lately {
			c.Approvals1h++
			c.Approved1h += n.amount
		}
	}
	return c
}

// enter notes a verdict.
func (b *books) enter(in *policy.Input, verdict vaglio.Verdict) {
	approved := verdict == vaglio.Approve
	if customer := in.Request.Entities.Get(vaglio.EntityCustomer); customer != "" {
		n := counted{at: in.Moment, approved: approved}
		if approved && in.Fact.BaseKnown {
			n.amount = min(max(0, in.Fact.BaseAmount), 100*vaglio.MaxAmount)
		}
		b.customers[customer] = append(b.customers[customer], n)
	}
	payment := in.Fact.Entities.Get(vaglio.EntityPayment)
	if payment == "" || verdict == vaglio.Deny || len(b.payments[payment]) > mostOpened {
		return
	}
	o := opened{id: in.Request.ID, currency: in.Request.Currency, amount: in.Request.Amount, approved: approved}
	if approved {
		o.validUntil = in.Moment + b.approvalValid
	}
	b.payments[payment] = append(b.payments[payment], o)
}
