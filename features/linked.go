package features

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unique"

	"vaglio"
)

// maxNeighbours bounds how many customers around a request are looked at.
const maxNeighbours = 32

// Neighbour is another customer, seen in the timeline of an identifier that a request names.
type Neighbour struct {
	Customer string
	Via      string         // the kind of the identifier
	SeenAt   vaglio.Instant // when last
}

// link is a compiled `linked` feature: the number of neighbours whose own timelines hold an event that counts.
type link struct {
	aggregate
	via              []string // kinds of identifiers
	confirmed        int      // kinds of events of the layout, -1 for none
	cleared, request int      // kind of events, and column
}

func (c *Catalogue) compileLinked(a aggregate, s *spec) error {
	if s.Entity != vaglio.EntityCustomer {
		return fmt.Errorf("linked is of the entity customer, not %q", s.Entity)
	}
	if s.Of == "" {
		return fmt.Errorf("linked wants of: the kinds of identifiers that link customers ([device, instrument])")
	}
	k := link{aggregate: a, confirmed: -1}
	for _, kind := range s.Of.list() {
		switch {
		case kind == vaglio.EntityPayoutInstrument:
			return fmt.Errorf("a payout_instrument links as an instrument: write instrument")
		case !nameForm.MatchString(kind) || kind == vaglio.EntityCustomer:
			return fmt.Errorf("%q is not a kind of identifier that links customers", kind)
		case slices.Contains(k.via, kind):
			return fmt.Errorf("the identifier %s is given twice", kind)
		}
		k.via = append(k.via, kind)
		c.role(kind)
		if kind == vaglio.EntityInstrument {
			c.role(vaglio.EntityPayoutInstrument)
		}
		c.layoutOf(kind).identifies = true
	}
	c.role(vaglio.EntityCustomer)
	if l := c.layoutOf(vaglio.EntityCustomer); slices.Contains(s.Events, vaglio.KindFraudConfirmed) {
		k.confirmed, k.cleared = l.addKind(vaglio.KindFraudConfirmed), l.addKind(vaglio.KindFraudCleared)
		k.request = l.keep(&aggregate{kinds: []int{k.confirmed, k.cleared}}, column{columnEntity, vaglio.EntityRequest})
	}
	c.links = append(c.links, k)
	return nil
}

// Neighbours lists the customers whose states the linked features of a request ask for, beside those of
// [Catalogue.Timelines], which must be at hand; nil without such features.
func (c *Catalogue) Neighbours(request *vaglio.Fact, states States) []vaglio.Entity {
	if len(c.links) == 0 {
		return nil
	}
	var all []Neighbour
	for i := range c.roles {
		if entity, ok := c.roles[i].timeline(request); ok && c.roles[i].layout.identifies {
			all = c.neighboursVia(all, request, entity, states(entity))
		}
	}
	return c.Linked(all)
}

// NeighboursPart is what one entity's timeline, as of the request's moment, tells of a request's neighbours: the first
// pass of a replay entity by entity, beside [Catalogue.VectorPart]. The parts of one request, in any order, are the
// neighbours that [Catalogue.Linked] and [Catalogue.LinkedPart] take.
func (c *Catalogue) NeighboursPart(request *vaglio.Fact, entity vaglio.Entity, state *State) []Neighbour {
	for i := range c.roles {
		if of, ok := c.roles[i].timeline(request); ok && of == entity && c.roles[i].layout.identifies {
			return c.neighboursVia(nil, request, entity, state)
		}
	}
	return nil
}

// Linked lists the customers whose timelines the second pass of a replay looks at for a request with these neighbours.
func (c *Catalogue) Linked(neighbours []Neighbour) []vaglio.Entity {
	var out []vaglio.Entity
	var nearest []Neighbour
	for i := range c.links {
		nearest = c.links[i].nearest(nearest[:0], neighbours)
		for _, n := range nearest {
			if e := (vaglio.Entity{Kind: vaglio.EntityCustomer, ID: n.Customer}); !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}

// LinkedKinds lists the kinds of events that the second pass reads in customers' timelines, sorted; nil without linked
// features, and then it is not needed.
func (c *Catalogue) LinkedKinds() []string {
	var kinds []string
	for i := range c.links {
		k := &c.links[i]
		kinds = append(kinds, c.source.Features[k.index].Events...)
		if k.confirmed >= 0 {
			kinds = append(kinds, vaglio.KindFraudCleared)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// LinkedPart adds one neighbour's part, from its state as of the request's moment, to the linked features of dst, which
// began as zeros: the second pass of a replay, one call for each of [Catalogue.Linked]. A neighbour without any event of
// [Catalogue.LinkedKinds] adds nothing and may be left out. One dst takes one call at a time.
func (c *Catalogue) LinkedPart(dst []float64, request *vaglio.Fact, neighbours []Neighbour, customer vaglio.Entity, state *State) {
	s := c.scratch(request)
	defer c.scratches.Put(s)
	for i := range c.links {
		k := &c.links[i]
		s.nearest = k.nearest(s.nearest[:0], neighbours)
		if slices.ContainsFunc(s.nearest, func(n Neighbour) bool { return n.Customer == customer.ID }) && k.holds(s, state) {
			dst[k.index]++
		}
	}
}

// readLinks computes the linked features; all states are at hand.
func (c *Catalogue) readLinks(dst []float64, s *scratch, states States) {
	s.neighbours = s.neighbours[:0]
	for i := range c.roles {
		if entity, ok := c.roles[i].timeline(s.request); ok && c.roles[i].layout.identifies {
			s.neighbours = c.neighboursVia(s.neighbours, s.request, entity, states(entity))
		}
	}
	for i := range c.links {
		k := &c.links[i]
		dst[k.index] = 0
		s.nearest = k.nearest(s.nearest[:0], s.neighbours)
		for _, n := range s.nearest {
			state := states(vaglio.Entity{Kind: vaglio.EntityCustomer, ID: n.Customer})
			if state != nil && k.holds(s, state) {
				dst[k.index]++
			}
		}
	}
}

// absentLinks makes the linked features NaN of a request that names no customer or none of the identifiers.
func (c *Catalogue) absentLinks(dst []float64, request *vaglio.Fact) {
	for i := range c.links {
		if !c.links[i].applies(request) {
			dst[c.links[i].index] = math.NaN()
		}
	}
}

func (k *link) applies(request *vaglio.Fact) bool {
	named := func(kind string) bool {
		return request.Entities.Get(kind) != "" ||
			kind == vaglio.EntityInstrument && request.Entities.Get(vaglio.EntityPayoutInstrument) != ""
	}
	return named(vaglio.EntityCustomer) && slices.ContainsFunc(k.via, named)
}

// neighboursVia adds the neighbours of one identifier: of those seen in the horizon before the request the
// maxNeighbours that were seen last, of several seen at once those with the smallest ids.
func (c *Catalogue) neighboursVia(all []Neighbour, request *vaglio.Fact, identifier vaglio.Entity, state *State) []Neighbour {
	own := request.Entities.Get(vaglio.EntityCustomer)
	if state == nil || own == "" {
		return all
	}
	before, t, me := len(all), int64(request.OccurredAt), unique.Make(own)
	for i := range state.lists {
		l, start := &state.lists[i], len(all)
		times := l.times()
		for j := first(times, t) - 1; j >= 0 && times[j] >= t-int64(vaglio.Horizon); j-- {
			seen := vaglio.Instant(times[j])
			if len(all)-start >= maxNeighbours && seen < all[start+maxNeighbours-1].SeenAt {
				break
			}
			who := l.customers[l.head+j]
			if who == me || who == nobody {
				continue
			}
			customer := who.Value()
			if slices.ContainsFunc(all[start:], func(n Neighbour) bool { return n.Customer == customer }) {
				continue
			}
			all = append(all, Neighbour{customer, identifier.Kind, seen})
		}
	}
	return all[:before+nearest(all[before:])]
}

// nearest appends those of the neighbours that count for the feature.
func (k *link) nearest(dst, neighbours []Neighbour) []Neighbour {
	for _, n := range neighbours {
		if slices.Contains(k.via, n.Via) {
			dst = append(dst, n)
		}
	}
	return dst[:nearest(dst)]
}

// nearest brings the maxNeighbours customers that were seen last to the front, each once, and returns how many they are.
func nearest(ns []Neighbour) int {
	if len(ns) == 0 {
		return 0
	}
	slices.SortFunc(ns, func(a, b Neighbour) int {
		return cmp.Or(strings.Compare(a.Customer, b.Customer), cmp.Compare(b.SeenAt, a.SeenAt))
	})
	n := len(slices.CompactFunc(ns, func(a, b Neighbour) bool { return a.Customer == b.Customer }))
	slices.SortFunc(ns[:n], func(a, b Neighbour) int {
		return cmp.Or(cmp.Compare(b.SeenAt, a.SeenAt), strings.Compare(a.Customer, b.Customer))
	})
	return min(n, maxNeighbours)
}

// holds tells whether a neighbour's timeline has an event that counts.
func (k *link) holds(s *scratch, state *State) bool {
	for l, i := range k.events(s, state) {
		if !k.isCleared(state, l, i) {
			return true
		}
	}
	return false
}

// isCleared tells whether a label was taken back: by a fraud_cleared of the same request that is later by
// (occurred_at, id).
func (k *link) isCleared(state *State, l *list, i int) bool {
	if k.confirmed < 0 || l != state.list(k.confirmed) {
		return false
	}
	request := l.values(k.request)[i]
	cleared := state.list(k.cleared)
	for j := cleared.position(l.times()[i], l.id(i)); j < cleared.n; j++ {
		if cleared.values(k.request)[j] == request {
			return true
		}
	}
	return false
}
