package training

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"vaglio"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/scoring"
)

// outcome is when a request was paid and denied, 0 if never.
type outcome struct {
	payment      string
	paid, denied vaglio.Instant
}

// ReadLabels reads what says fraud or clean of requests from a moment on, as far as it was known at the cut. A dispute is
// about the request that it names, else about those of its payment that were paid or denied before it. A label that names
// another event in attributes.clears takes just that back, and says nothing itself. Of a request that was denied, by an event or
// by a decision, and never paid silence says nothing.
func ReadLabels(ctx context.Context, h *history.Store, from, cut vaglio.Instant) (*Labels, error) {
	l := &Labels{of: map[string][]evidence{}}
	var disputes []vaglio.Fact // what depends on the outcome of requests
	asked, payments := map[string]outcome{}, map[string][]string{}
	cleared := map[string]bool{} // ids of events
	deny := func(request string, at vaglio.Instant) {
		if o, known := asked[request]; !known || o.denied == 0 || at < o.denied {
			o.denied = at
			asked[strings.Clone(request)] = o
		}
	}
	err := h.Scan(ctx, labelKinds, from, math.MaxInt64, func(f vaglio.Fact) error {
		switch request, payment := f.Entities.Get(vaglio.EntityRequest), f.Entities.Get(vaglio.EntityPayment); {
		case f.KnownAt > cut:
			if f.IsLabel() {
				l.Late++
			}
		case f.IsLabel() && f.Attributes.Get(vaglio.AttributeClears) != "":
			cleared[strings.Clone(f.Attributes.Get(vaglio.AttributeClears))] = true
		case f.IsLabel() || f.Kind == vaglio.KindRecallRequested && request != "":
			l.add(strings.Clone(request), outcome{}, &f, false)
		case f.Kind == vaglio.KindRefundDenied:
			if request != "" {
				deny(request, f.OccurredAt)
			}
		case request != "":
			if _, known := asked[request]; !known {
				asked[strings.Clone(request)] = outcome{}
			}
			disputes = append(disputes, slim(&f))
		case payment != "":
			payments[strings.Clone(payment)] = nil
			disputes = append(disputes, slim(&f))
		}
		return nil
	})
	if err == nil {
		err = h.ScanDenials(ctx, from, cut+1, func(request string, at vaglio.Instant) error {
			deny(request, at)
			return nil
		})
	}
	if err == nil && len(asked)+len(payments) > 0 {
		err = h.Scan(ctx, []string{vaglio.KindRefundPaid, vaglio.KindRefundDenied}, from, math.MaxInt64, func(f vaglio.Fact) error {
			if f.KnownAt <= cut {
				addOutcome(asked, payments, &f)
			}
			return nil
		})
	}
	var money map[string][]ledger.Movement
	if err == nil {
		money, err = readDisputed(ctx, h, disputes, asked, cut)
	}
	if err != nil {
		return nil, fmt.Errorf("read the labels: %w", err)
	}
	for request, o := range asked {
		if o.denied != 0 && o.paid == 0 {
			l.add(request, o, &vaglio.Fact{Event: vaglio.Event{Kind: vaglio.KindRefundDenied, OccurredAt: o.denied}}, false)
		}
	}
	for i := range disputes {
		f := &disputes[i]
		if request := f.Entities.Get(vaglio.EntityRequest); request != "" {
			o := asked[request]
			l.add(request, o, f, takesTwice(f, money[o.payment]))
			continue
		}
		for _, request := range payments[f.Entities.Get(vaglio.EntityPayment)] {
			if o := asked[request]; o.paid != 0 && o.paid <= f.OccurredAt || o.denied != 0 && o.denied <= f.OccurredAt {
				l.add(request, o, f, takesTwice(f, money[o.payment]))
			}
		}
	}
	for request, all := range l.of {
		if all = slices.DeleteFunc(all, func(e evidence) bool { return cleared[e.id] }); len(all) == 0 {
			delete(l.of, request)
			continue
		}
		l.of[request] = all
		if slices.ContainsFunc(all, evidence.judges) {
			l.labelled++
		}
		slices.SortFunc(all, func(a, b evidence) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	}
	return l, nil
}

// slim is what a dispute says, without the event's memory.
func slim(f *vaglio.Fact) vaglio.Fact {
	out := vaglio.Fact{Event: vaglio.Event{ID: strings.Clone(f.ID), Kind: strings.Clone(f.Kind), OccurredAt: f.OccurredAt, Amount: f.Amount,
		Currency: strings.Clone(f.Currency)}}
	for _, name := range []string{vaglio.EntityRequest, vaglio.EntityPayment} {
		if value := f.Entities.Get(name); value != "" {
			out.Entities = out.Entities.With(name, strings.Clone(value))
		}
	}
	for _, name := range []string{vaglio.AttributeSource, vaglio.AttributeFraudType, vaglio.AttributeWeight} {
		if value := f.Attributes.Get(name); value != "" {
			out.Attributes = out.Attributes.With(name, strings.Clone(value))
		}
	}
	return out
}

// addOutcome notes a refund_paid or refund_denied of a request that is disputed, or whose payment is.
func addOutcome(asked map[string]outcome, payments map[string][]string, f *vaglio.Fact) {
	request, payment := f.Entities.Get(vaglio.EntityRequest), f.Entities.Get(vaglio.EntityPayment)
	o, known := asked[request]
	_, disputed := payments[payment]
	if request == "" || !known && !disputed {
		return
	}
	request = strings.Clone(request)
	if o.payment == "" {
		o.payment = strings.Clone(payment)
		if disputed {
			payments[o.payment] = append(payments[o.payment], request)
		}
	}
	at := &o.paid
	if f.Kind == vaglio.KindRefundDenied {
		at = &o.denied
	}
	if *at == 0 || f.OccurredAt < *at {
		*at = f.OccurredAt
	}
	asked[request] = o
}

// disputedAtOnce bounds the payments whose timelines are in memory.
const disputedAtOnce = 1000

// readDisputed reads the money of the payments that were charged back or returned after a refund.
func readDisputed(ctx context.Context, h *history.Store, disputes []vaglio.Fact, asked map[string]outcome,
	cut vaglio.Instant) (map[string][]ledger.Movement, error) {
	wanted := map[string]bool{}
	refunded := map[string]bool{}
	for _, o := range asked {
		if o.paid != 0 {
			refunded[o.payment] = true
		}
	}
	for i := range disputes {
		f := &disputes[i]
		payment := cmp.Or(asked[f.Entities.Get(vaglio.EntityRequest)].payment, f.Entities.Get(vaglio.EntityPayment))
		if (f.Kind == vaglio.KindChargeback || f.Kind == vaglio.KindPaymentReturned) && refunded[payment] && payment != "" {
			wanted[payment] = true
		}
	}
	out := map[string][]ledger.Movement{}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(wanted)), disputedAtOnce) {
		entities := make([]vaglio.Entity, len(some))
		for i, id := range some {
			entities[i] = vaglio.Entity{Kind: vaglio.EntityPayment, ID: id}
		}
		timelines, err := h.Timelines(ctx, entities, cut)
		if err != nil {
			return nil, err
		}
		for of, facts := range timelines {
			out[of.ID] = refundsOf(facts)
		}
	}
	return out, nil
}

// refundsOf is what came in of a payment, and went out as refunds that stayed out.
func refundsOf(facts []vaglio.Fact) []ledger.Movement {
	var out []ledger.Movement
	for i := range facts {
		f := &facts[i]
		reversed := func(other vaglio.Fact) bool {
			return other.Kind == vaglio.KindRefundReversed && other.Entities.Get(vaglio.EntityRequest) == f.Entities.Get(vaglio.EntityRequest)
		}
		if f.Kind != vaglio.KindPayment && (f.Kind != vaglio.KindRefundPaid || slices.ContainsFunc(facts, reversed)) {
			continue
		}
		out = append(out, ledger.Movement{EventID: strings.Clone(f.ID), Kind: strings.Clone(f.Kind), RequestID: strings.Clone(f.Entities.Get(vaglio.EntityRequest)),
			Amount: f.Amount, Currency: strings.Clone(f.Currency), OccurredAt: f.OccurredAt})
	}
	return out
}

// takesTwice reports whether a chargeback or return takes back more of its payment than was left after the refunds before it.
// What can't be compared does: an unknown payment or amount, another currency.
func takesTwice(f *vaglio.Fact, money []ledger.Movement) bool {
	before := slices.DeleteFunc(slices.Clone(money), func(m ledger.Movement) bool { return m.OccurredAt > f.OccurredAt })
	payment := vaglio.Fact{Event: vaglio.Event{Entities: vaglio.FieldsOf(vaglio.EntityPayment, "of the dispute")}}
	left, known, _ := scoring.Refundable(&vaglio.Request{Currency: f.Currency}, &payment, &ledger.Standing{Movements: before})
	return f.Currency == "" || !known || f.Amount > left
}

// add notes what an event says of a request; twice: it takes back more than was left.
func (l *Labels) add(request string, o outcome, f *vaglio.Fact, twice bool) {
	fraudType := f.Attributes.Get(vaglio.AttributeFraudType)
	e := evidence{at: f.OccurredAt, source: sourceOf(f), weight: math.NaN()}
	for i := range labelRules {
		r := &labelRules[i]
		var before vaglio.Instant
		switch r.after {
		case vaglio.KindRefundPaid:
			before = o.paid
		case vaglio.KindRefundDenied:
			before = o.denied
		}
		if r.kind == f.Kind && (r.source == 0 || r.source == e.source) && (r.ofType == "" || r.ofType == fraudType) && (!r.twice || twice) &&
			(r.after == "" || before != 0 && before <= f.OccurredAt) {
			e.rules = append(e.rules, r)
			if r.reason == "" {
				break
			}
		}
	}
	if e.rules == nil {
		return
	}
	e.id, e.fraudType = strings.Clone(f.ID), knownFraudType(fraudType)
	if text := f.Attributes.Get(vaglio.AttributeWeight); text != "" {
		if weight, err := strconv.ParseFloat(text, 64); err == nil && weight >= 0 && weight <= 1 {
			e.weight = weight
		} else {
			l.BadWeights++
		}
	}
	l.of[request] = append(l.of[request], e)
}
