package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vaglio"
)

// Prepare turns an event into the fact that history would keep: ObservedAt defaults to the given moment, money is
// converted at the rate of the day. Events from the future are refused with a [vaglio.Invalid].
func (s *Store) Prepare(e vaglio.Event, observedAt vaglio.Instant) (vaglio.Fact, error) {
	if e.OccurredAt > s.now()+maxClockSkew {
		return vaglio.Fact{}, vaglio.Invalid{{Pointer: "/occurred_at", Detail: "is more than a day ahead of the clock"}}
	}
	if e.ObservedAt == 0 {
		e.ObservedAt = observedAt
	}
	f := vaglio.Fact{Event: e, KnownAt: e.KnownAt()}
	if e.Currency != "" {
		f.BaseAmount, f.BaseKnown = s.rates.convert(e.Amount, e.Currency, s.baseCurrency, e.OccurredAt)
	}
	return f, nil
}

// Insert stores live events: those without observed_at were observed now. Events that are refused are a [vaglio.Invalid]
// whose pointers begin with the place in the slice (/3/occurred_at); then none is stored.
func (s *Store) Insert(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
	return s.insert(ctx, events, func(*vaglio.Event) vaglio.Instant { return s.now() })
}

// Import stores events of the past: those without observed_at were observed as they occurred.
func (s *Store) Import(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
	return s.insert(ctx, events, func(e *vaglio.Event) vaglio.Instant { return e.OccurredAt })
}

func (s *Store) insert(ctx context.Context, events []vaglio.Event, observed func(*vaglio.Event) vaglio.Instant) ([]vaglio.Outcome, error) {
	facts := make([]sent, len(events))
	var bad vaglio.Invalid
	for i := range events {
		f, err := s.Prepare(events[i], observed(&events[i]))
		var invalid vaglio.Invalid
		switch {
		case errors.As(err, &invalid):
			for _, wrong := range invalid {
				bad = append(bad, vaglio.FieldError{Pointer: fmt.Sprintf("/%d%s", i, wrong.Pointer), Detail: wrong.Detail})
			}
		case err != nil:
			return nil, err
		default:
			facts[i] = sent{f, events[i].Digest()}
		}
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return s.store(ctx, facts)
}

// Deliver stores facts that were acknowledged before, such as the ledger's outbox; requests that were decided without history
// are completed first. A repetition changes nothing.
func (s *Store) Deliver(ctx context.Context, facts []vaglio.Fact) error {
	all := make([]sent, len(facts))
	for i := range facts {
		all[i] = sent{facts[i], facts[i].Digest()}
	}
	outcomes, err := s.store(ctx, all)
	for i, outcome := range outcomes {
		if outcome == vaglio.Conflicting {
			s.log.Error("an event of the outbox is in history with other content", "event_id", facts[i].ID)
		}
	}
	return err
}

// sent is a fact with the digest of the event as its sender wrote it.
type sent struct {
	vaglio.Fact
	digest [32]byte
}

// store keeps the facts whose id is new, and uses the slice up. An outcome is given only once everything is stored.
func (s *Store) store(ctx context.Context, facts []sent) ([]vaglio.Outcome, error) {
	s.storing.Lock()
	defer s.storing.Unlock()
	ids := make([]string, len(facts))
	for i := range facts {
		ids[i] = facts[i].ID
	}
	stored, err := s.digests(ctx, ids)
	if err != nil {
		return nil, err
	}
	outcomes := make([]vaglio.Outcome, len(facts))
	fresh := facts[:0] // what is looked at lies never before what is kept
	for i := range facts {
		switch digest, known := stored[facts[i].ID]; {
		case !known:
			outcomes[i] = vaglio.Stored
			stored[facts[i].ID] = facts[i].digest
			fresh = append(fresh, facts[i])
		case digest == facts[i].digest:
			outcomes[i] = vaglio.Repeated
		default:
			outcomes[i] = vaglio.Conflicting
		}
	}
	if err := s.complete(ctx, fresh); err != nil {
		return nil, err
	}
	if err := s.write(ctx, fresh); err != nil {
		return nil, err
	}
	return outcomes, nil
}

func (s *Store) digests(ctx context.Context, ids []string) (map[string][32]byte, error) {
	found := make(map[string][32]byte, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	ctx, names, err := withStrings(ctx, "wanted", ids)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "SELECT id, digest FROM events WHERE id IN "+names+" ORDER BY id, precedence DESC LIMIT 1 BY id")
	if err != nil {
		return nil, fmt.Errorf("look event ids up: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, digest string
		if err := rows.Scan(&id, &digest); err != nil {
			return nil, fmt.Errorf("look event ids up: %w", err)
		}
		found[id] = [32]byte([]byte(digest))
	}
	return found, rows.Err()
}

// ownRoles are kinds of entities that say who did what in this very event; they are never taken over from another one.
var ownRoles = []string{vaglio.EntityRequest, vaglio.EntityPayoutInstrument, "employee"}

// Complete fills the entities that a request lacks from its payment's earliest fact known at the request's moment; earlier
// requests don't count. The facts come in no order. It is then complete for good, whatever more is heard of the payment.
func Complete(request *vaglio.Fact, payment []vaglio.Fact) {
	request.Completed = true
	var first *vaglio.Fact
	for i := range payment {
		f := &payment[i]
		if f.Kind == vaglio.KindRefundRequested || f.KnownAt > request.OccurredAt {
			continue
		}
		if first == nil || f.OccurredAt < first.OccurredAt || f.OccurredAt == first.OccurredAt && f.ID < first.ID {
			first = f
		}
	}
	if first == nil {
		return
	}
	request.Entities = slices.Clone(request.Entities)
	request.Complete(slices.DeleteFunc(slices.Clone(first.Entities), func(f vaglio.Field) bool { return slices.Contains(ownRoles, f.Name) }))
}

// lacksPayment reports whether the event is a request that nobody has completed.
func (f *sent) lacksPayment() bool { return f.Kind == vaglio.KindRefundRequested && !f.Completed }

// complete fills the entities of requests from their payments, then those of labels from their requests, by what is
// stored and what comes in the same batch.
func (s *Store) complete(ctx context.Context, facts []sent) error {
	var payments []vaglio.Entity
	for i := range facts {
		if id := facts[i].Entities.Get(vaglio.EntityPayment); id != "" && facts[i].lacksPayment() {
			payments = append(payments, vaglio.Entity{Kind: vaglio.EntityPayment, ID: id})
		}
	}
	timelines, err := s.firstOfPayments(ctx, payments)
	if err != nil {
		return err
	}
	requests := map[string]vaglio.Fields{}
	var missing []string
	for i := range facts {
		f := &facts[i]
		if id := f.Entities.Get(vaglio.EntityPayment); id != "" && len(payments) > 0 && f.Kind != vaglio.KindRefundRequested {
			timelines[id] = append(timelines[id], f.Fact)
		}
	}
	for i := range facts {
		f := &facts[i]
		if f.lacksPayment() {
			Complete(&f.Fact, timelines[f.Entities.Get(vaglio.EntityPayment)])
		}
		if f.Kind == vaglio.KindRefundRequested {
			requests[f.ID] = f.Entities
		}
	}
	for i := range facts {
		if request := facts[i].Entities.Get(vaglio.EntityRequest); facts[i].FollowsRequest() && requests[request] == nil {
			missing = append(missing, request)
		}
	}
	stored, err := s.Events(ctx, missing)
	if err != nil {
		return err
	}
	for id, f := range stored {
		requests[id] = f.Entities
	}
	for i := range facts {
		if facts[i].FollowsRequest() {
			facts[i].Entities = slices.Clone(facts[i].Entities)
			facts[i].Complete(requests[facts[i].Entities.Get(vaglio.EntityRequest)])
		}
	}
	return nil
}

// firstOfPayments reads of each payment the events from which a request could be completed, by the payment's id.
func (s *Store) firstOfPayments(ctx context.Context, payments []vaglio.Entity) (map[string][]vaglio.Fact, error) {
	found := map[string][]vaglio.Fact{}
	if len(payments) == 0 {
		return found, nil
	}
	ctx, names, err := withStrings(ctx, "wanted", entityNames(payments))
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, "SELECT entity, payload FROM timelines WHERE entity IN "+names+
		" AND kind != 'refund_requested' ORDER BY entity, id, precedence DESC LIMIT 1 BY entity, id")
	if err != nil {
		return nil, fmt.Errorf("read the payments of requests: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var payload []byte
		if err := rows.Scan(&name, &payload); err != nil {
			return nil, fmt.Errorf("read the payments of requests: %w", err)
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return nil, fmt.Errorf("read the payments of requests: %w", err)
		}
		id := entityOf(name).ID
		found[id] = append(found[id], fact)
	}
	return found, rows.Err()
}
