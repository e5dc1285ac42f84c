package scoring

import (
	"context"
	"errors"
	"slices"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/scoring/states"
)

// known is what a decision knows: the window states of the request's entities and its payment's facts, as of its moment.
type known struct {
	timelines []states.Timeline // so few that a search through them is quicker than a map
	payment   []vaglio.Fact
}

func (k *known) state(e vaglio.Entity) *features.State {
	if i := k.place(e); i >= 0 {
		return k.timelines[i].State
	}
	return nil
}

func (k *known) place(e vaglio.Entity) int {
	for i := range k.timelines {
		if k.timelines[i].Entity == e {
			return i
		}
	}
	return -1
}

func (k *known) add(tl states.Timeline) {
	k.timelines = append(k.timelines, tl)
	if tl.Entity.Kind == vaglio.EntityPayment {
		k.payment = tl.Facts
	}
}

// learn finds out what is known at the decision's moment: through the cache, unless the moment is in the past or the cache
// has run ahead of it.
func (d *decision) learn(ctx context.Context) error {
	catalogue := d.seat.catalogue
	if d.remembers && d.seat.memory != nil && d.options.AsOf == 0 {
		err := d.gather(ctx, catalogue, d.recall)
		if !errors.Is(err, states.ErrAhead) {
			return err
		}
	}
	return d.gather(ctx, catalogue, func(ctx context.Context, entities []vaglio.Entity) error {
		return d.readAfresh(ctx, catalogue, entities)
	})
}

// gather learns of the request's own entities, completes it from its payment's, and learns of those that this adds, and of
// the neighbours that the catalogue's linked features ask for.
func (d *decision) gather(ctx context.Context, catalogue *features.Catalogue, learn func(context.Context, []vaglio.Entity) error) error {
	d.known = known{}
	wanted := catalogue.Timelines(&d.fact)
	payment, ok := paymentOf(&d.fact)
	if ok && !slices.Contains(wanted, payment) {
		wanted = append(wanted, payment)
	}
	if err := learn(ctx, wanted); err != nil {
		return err
	}
	if ok {
		history.Complete(&d.fact, d.known.payment)
		more := catalogue.Timelines(&d.fact)
		if err := d.learnMore(ctx, more, learn); err != nil {
			return err
		}
	}
	if err := d.learnMore(ctx, catalogue.Neighbours(&d.fact, d.known.state), learn); err != nil {
		return err
	}
	d.shown = exposureOf(d.request, &d.fact, d.known.payment, &ledger.Standing{})
	d.exposure = d.shown
	return nil
}

func (d *decision) learnMore(ctx context.Context, entities []vaglio.Entity, learn func(context.Context, []vaglio.Entity) error) error {
	entities = slices.DeleteFunc(entities, func(e vaglio.Entity) bool { return d.known.place(e) >= 0 })
	if len(entities) == 0 {
		return nil
	}
	return learn(ctx, entities)
}

// recall takes timelines from memory. What waits for delivery anywhere, and is not there yet, is added first.
func (d *decision) recall(ctx context.Context, entities []vaglio.Entity) error {
	waiting, err := d.engine.ledger.Recent(ctx, entities, d.moment)
	if err != nil {
		return err
	}
	view, err := d.seat.memory.View(ctx, entities, d.moment, waiting)
	if err != nil {
		return err
	}
	for _, tl := range view.Timelines() {
		if tl.State != nil && tl.State.Has(vaglio.KindRefundRequested, d.request.ID) {
			return states.ErrAhead // the request itself came in as an event: it must not count for itself
		}
		d.known.add(tl)
	}
	return nil
}

// readAfresh reads timelines from history. The outbox is read before ClickHouse: an event on its way from one to the other is
// then in at least one of them.
func (d *decision) readAfresh(ctx context.Context, catalogue *features.Catalogue, entities []vaglio.Entity) error {
	waiting, err := d.engine.ledger.Recent(ctx, entities, d.moment)
	if err != nil {
		return err
	}
	stored, err := d.engine.history.Timelines(ctx, entities, d.moment)
	if err != nil {
		return err
	}
	if stored == nil {
		stored = map[vaglio.Entity][]vaglio.Fact{}
	}
	join(stored, waiting, entities)
	for _, entity := range entities {
		state := catalogue.NewState(entity.Kind)
		facts := slices.DeleteFunc(stored[entity], func(f vaglio.Fact) bool { return f.ID == d.request.ID }) // it does not count for itself
		for i := range facts {
			if state != nil {
				state.Add(&facts[i])
			}
		}
		d.known.add(states.Timeline{Entity: entity, State: state, Facts: facts})
	}
	return nil
}

// join adds facts that wait for delivery to the timelines that they enter, unless they have arrived.
func join(timelines map[vaglio.Entity][]vaglio.Fact, waiting []vaglio.Fact, wanted []vaglio.Entity) {
	for _, f := range waiting {
		for _, entity := range f.Timelines() {
			arrived := func(known vaglio.Fact) bool { return known.ID == f.ID }
			if slices.Contains(wanted, entity) && !slices.ContainsFunc(timelines[entity], arrived) {
				timelines[entity] = append(timelines[entity], f)
			}
		}
	}
}
