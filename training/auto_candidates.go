package training

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
)

// maxCandidates bounds what one proposal looks at.
const maxCandidates = 400

// fewestRequestsWith is the share of requests that must carry a kind of entity for its timelines to be looked at.
const fewestRequestsWith = 0.02

// candidates lists rows that a catalogue lacks: aggregates over each kind of event in the timelines of each entity that
// requests carry, of each the most telling first, at most limit, and how many there would have been. Denials and labels are left
// out: they would feed past policy back.
func candidates(ctx context.Context, h *history.Store, base *features.Catalogue, p Period, limit int) (rows []features.Row, possible int, err error) {
	carried, requests, err := carriedEntities(ctx, h, p)
	if err != nil {
		return nil, 0, err
	}
	census, err := h.Census(ctx, p.From-90*vaglio.Day, p.Until)
	if err != nil {
		return nil, 0, err
	}
	known := surroundings{kinds: map[string]map[string]history.Census{}, carried: carried}
	for _, c := range census {
		if slices.Contains(policyKinds, c.Kind) || float64(c.Events) < max(20, 0.01*requests) {
			continue
		}
		if known.kinds[c.EntityKind] == nil {
			known.kinds[c.EntityKind] = map[string]history.Census{}
		}
		known.kinds[c.EntityKind][c.Kind] = c
	}
	names := map[string]bool{}
	for _, name := range base.Names() {
		names[name] = true
	}
	places := known.places()
	for round, more := 0, true; more; round++ { // each place gives one at a time, so that the bound leaves none of them out
		more = false
		for _, at := range places {
			forms := known.forms(at)
			if round >= len(forms) {
				continue
			}
			more = true
			r := forms[round]
			r.Entity, r.Events = cmp.Or(r.Entity, at.entity), []string{at.kind}
			r.Name = nameOf(&r)
			r.Reason = reasonOf(base, at, &r)
			if len(r.Name) > vaglio.MaxNameBytes || names[r.Name] || base.Has(&r) {
				continue
			}
			names[r.Name] = true
			if possible++; len(rows) < limit {
				rows = append(rows, r)
			}
		}
	}
	return rows, possible, nil
}

// carriedEntities are the kinds of entities that requests of a period name, by their share, those that hardly any names left out,
// and the number of requests.
func carriedEntities(ctx context.Context, h *history.Store, p Period) (counts map[string]float64, requests float64, err error) {
	counts = map[string]float64{}
	err = h.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From, p.Until, func(f vaglio.Fact) error {
		requests++
		for _, e := range f.Entities {
			if counts[e.Name] == 0 {
				counts[strings.Clone(e.Name)] = 0
			}
			counts[e.Name]++
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	for kind, n := range counts {
		if counts[kind] = n / requests; counts[kind] < fewestRequestsWith || kind == vaglio.EntityRequest {
			delete(counts, kind)
		}
	}
	if len(counts) == 0 {
		return nil, 0, fmt.Errorf("no refund request in [%v, %v)", p.From, p.Until)
	}
	return counts, requests, nil
}

// surroundings are what history holds around requests.
type surroundings struct {
	carried map[string]float64                   // share of requests, by role of entity
	kinds   map[string]map[string]history.Census // by kind of timeline and kind of event
}

// place is a kind of event in the timelines of an entity.
type place struct {
	entity string // as requests name it
	kind   string
	money  bool
}

func timelineOf(entity string) string {
	if entity == vaglio.EntityPayoutInstrument {
		return vaglio.EntityInstrument
	}
	return entity
}

// places are all of them, those of most requests and most events first.
func (s *surroundings) places() []place {
	type counted struct {
		place
		share  float64
		events uint64
	}
	var all []counted
	for entity, share := range s.carried {
		for kind, c := range s.kinds[timelineOf(entity)] {
			all = append(all, counted{place{entity, kind, c.Money}, share, c.Events})
		}
	}
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(b.events, a.events), cmp.Compare(a.entity, b.entity), cmp.Compare(a.kind, b.kind))
	})
	out := make([]place, len(all))
	for i := range all {
		out[i] = all[i].place
	}
	return out
}

// others are the kinds of entities that events of a kind name besides the place's own: what can be counted distinctly.
func (s *surroundings) others(at place) []string {
	var out []string
	for kind, events := range s.kinds {
		if _, named := events[at.kind]; named && kind != timelineOf(at.entity) && kind != vaglio.EntityRequest && kind != vaglio.EntityPayment {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}

// forms are the aggregates of a place, the most telling ones first. The timeline of a payment is short: windows tell nothing there.
func (s *surroundings) forms(at place) []features.Row {
	sinceLast, sinceFirst := features.Row{Aggregate: "since_last", Window: "all"}, features.Row{Aggregate: "since_first", Window: "all"}
	if at.entity == vaglio.EntityPayment {
		return []features.Row{{Aggregate: "count", Window: "all"}, sinceLast, sinceFirst}
	}
	rows := append(windows("count", "", "24h"), sinceLast)
	others := s.others(at)
	if at.money {
		rows = append(rows, windows("sum", "amount", "30d")...)
	}
	for _, other := range others {
		if at.entity != vaglio.EntityCustomer && other == vaglio.EntityCustomer { // who shares it
			rows = slices.Insert(rows, 1, windows("distinct", other, "30d")...)
		}
		if at.entity == vaglio.EntityCustomer && s.carried[other] > 0 { // whether it is known to the customer
			rows = append(rows, features.Row{Entity: at.entity + "+" + other, Aggregate: "since_first", Window: "all"})
		}
	}
	rows = append(append(rows, windows("count", "", "6h", "7d", "30d")...), sinceFirst)
	if at.money {
		rows = slices.Concat(rows, windows("mean", "amount", "30d"), windows("max", "amount", "30d"), windows("sum", "amount", "24h", "7d", "90d"))
	}
	for _, other := range others {
		rows = append(rows, windows("distinct", other, "7d", "90d")...)
		if at.entity == vaglio.EntityCustomer && s.carried[other] > 0 {
			rows = append(rows, features.Row{Entity: at.entity + "+" + other, Aggregate: "count", Window: "30d"})
		}
	}
	return append(append(rows, windows("count", "", "1h", "90d")...), features.Row{Aggregate: "habit", Window: "90d", Within: "2h"})
}

func windows(aggregate, of string, spans ...string) []features.Row {
	var rows []features.Row
	for _, span := range spans {
		rows = append(rows, features.Row{Aggregate: aggregate, Of: of, Window: span})
	}
	return rows
}

// nameOf says what a row computes: device_login_count_6h, customer_payment_sum_30d, ip_login_distinct_customer_7d.
func nameOf(r *features.Row) string {
	parts := []string{strings.ReplaceAll(r.Entity, "+", "_"), r.Events[0], r.Aggregate}
	if r.Aggregate == "distinct" {
		parts = append(parts, r.Of)
	}
	if r.Window != "all" {
		parts = append(parts, r.Window)
	}
	return strings.Join(parts, "_")
}

// reasonByKind is what an event speaks for, in the codes of the default catalogue.
var reasonByKind = map[string]string{
	"login": "ACCOUNT_CHANGED", "login_failed": "ACCOUNT_CHANGED", "credentials_changed": "ACCOUNT_CHANGED", "step_up_passed": "ACCOUNT_CHANGED",
	"step_up_failed": "ACCOUNT_CHANGED", "account_opened": "TRUSTED_HISTORY", "payout_instrument_added": "PAYOUT_ELSEWHERE",
	vaglio.KindRefundPaid: "REFUND_HISTORY", vaglio.KindRefundFailed: "REFUND_HISTORY", "refund_cancelled": "REFUND_HISTORY",
	"spend": "CREDIT_USED", "withdrawal": "CREDIT_USED", "delivered": "CLAIM_CONFLICT", "support_contact": "CLAIM_CONFLICT",
	"payment_settled": "NOT_SETTLED", "payment_failed": "NOT_SETTLED", "payment_cancelled": "NOT_SETTLED", vaglio.KindPaymentReturned: "LINKED_FRAUD",
	vaglio.KindChargeback: "LINKED_FRAUD", "early_fraud_warning": "LINKED_FRAUD", vaglio.KindDisputeWon: "LINKED_FRAUD", vaglio.KindDisputeLost: "LINKED_FRAUD",
	vaglio.KindRecallRequested: "LINKED_FRAUD",
}

// reasonOf chooses a code that the catalogue has texts for, "" for none: by whose timeline it is, then by the event, then by what is
// measured of it.
func reasonOf(base *features.Catalogue, at place, r *features.Row) string {
	short := slices.Contains([]string{"1h", "6h", "24h", "7d"}, r.Window)
	code := reasonByKind[at.kind]
	switch {
	case at.entity == "employee":
		code = "EMPLOYEE_PATTERN"
	case at.entity != vaglio.EntityCustomer && at.entity != vaglio.EntityPayment:
		code = "SHARED_IDENTIFIERS"
	case at.kind == vaglio.KindRefundRequested && (short || r.Aggregate == "since_last"):
		code = "REFUND_VELOCITY"
	case at.kind == vaglio.KindRefundRequested:
		code = "REFUND_HISTORY"
	case at.kind == vaglio.KindPayment && r.Of == "amount":
		code = "AMOUNT_UNUSUAL"
	case at.kind == vaglio.KindPayment && (short || at.entity == vaglio.EntityPayment):
		code = "QUICK_TURNAROUND"
	case at.kind == vaglio.KindPayment:
		code = "TRUSTED_HISTORY"
	}
	if !base.HasReason(code) {
		return ""
	}
	return code
}
