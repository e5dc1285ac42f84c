package features

import (
	"slices"

	"vaglio"
)

// Evidence lists for each of several groups of features of a request the ids of the events behind them: at most limit of them, each
// once, the first feature's first and of each feature the newest first. An expression's evidence is that of what it reads; a
// category has none.
func (c *Catalogue) Evidence(request *vaglio.Fact, states States, limit int, groups ...[]int) [][]string {
	s := c.scratch(request)
	defer c.scratches.Put(s)
	all := make([][]string, len(groups))
	each := min(limit, 8)
	room := make([]string, len(groups)*each)
	for g, group := range groups {
		ids := room[g*each : g*each : (g+1)*each]
		for _, feature := range group {
			for _, f := range c.evidence(s, states, limit, feature) {
				if len(ids) < limit && !slices.Contains(ids, f.id) {
					ids = append(ids, f.id)
				}
			}
			if len(ids) == limit {
				break
			}
		}
		all[g] = ids
	}
	return all
}

// evidence are the newest events behind one feature. They hold until the next call.
func (c *Catalogue) evidence(s *scratch, states States, limit, feature int) []occurrence {
	found := &s.latest
	found.limit, found.all = limit, found.all[:0]
	for _, at := range c.sources[feature] {
		if at.role < 0 {
			c.links[at.place].evidence(found, s, states, c.Neighbours(s.request, states))
		} else if entity, ok := c.roles[at.role].timeline(s.request); ok {
			if state := states(entity); state != nil {
				c.roles[at.role].aggregates[at.place].evidence(found, s, state)
			}
		}
	}
	return found.all
}

// latest keeps the newest of the occurrences that it is given, at most limit, each once, the newest first.
type latest struct {
	limit int
	all   []occurrence
}

func (n *latest) add(o occurrence) {
	i := len(n.all)
	for i > 0 && n.all[i-1].compare(o.at, o.id) < 0 {
		i--
	}
	if i == n.limit || i > 0 && n.all[i-1] == o {
		return
	}
	if len(n.all) == n.limit {
		n.all = n.all[:n.limit-1]
	}
	n.all = slices.Insert(n.all, i, o)
}

func (n *latest) addRow(r row) {
	if r.list != nil {
		n.add(r.occurrence())
	}
}

// over reports that nothing of this time or before is kept.
func (n *latest) over(at int64) bool {
	return len(n.all) == n.limit && (n.limit == 0 || at < int64(n.all[n.limit-1].at))
}

// evidence gives the events that make the value: all of the window, or those that are counted, or the one that is
// compared with.
func (a *aggregate) evidence(found *latest, s *scratch, state *State) {
	if len(a.pair) > 0 && s.strings[a.pairPath] == 0 {
		return
	}
	var usualValue int64
	switch a.function {
	case sinceFirst, sinceLast:
		found.addRow(a.edge(s, state))
		return
	case same:
		compared := a.compared(s, state)
		if compared.list == nil || a.which != usual {
			found.addRow(compared)
			return
		}
		usualValue = compared.value(a.column)
	}
	for l, w := range a.windows(s, state) {
		times := l.times()
		for i := w.end - 1; i >= w.begin && !found.over(times[i]); i-- {
			r := row{l, i}
			switch {
			case !a.passes(s, l, i):
			case (a.function == share || a.function == habit) && !a.inPart(s, l, i):
			case a.function == same && r.value(a.column) != usualValue:
			default:
				found.add(r.occurrence())
			}
		}
	}
}

// edge is the first or the last event that counts.
func (a *aggregate) edge(s *scratch, state *State) (chosen row) {
	first := a.function == sinceFirst
	for l, w := range a.windows(s, state) {
		step, i := -1, w.end-1 // the first that counts is the list's best
		if first {
			step, i = 1, w.begin
		}
		for i >= w.begin && i < w.end && !a.passes(s, l, i) {
			i += step
		}
		if i < w.begin || i == w.end {
			continue
		}
		if candidate := (row{l, i}); chosen.list == nil || (candidate.compare(chosen) < 0) == first {
			chosen = candidate
		}
	}
	return chosen
}

// evidence gives the events of neighbours that make the value.
func (k *link) evidence(found *latest, s *scratch, states States, neighbours []vaglio.Entity) {
	for _, n := range neighbours {
		state := states(n)
		if state == nil {
			continue
		}
		for l, i := range k.events(s, state) {
			if !k.isCleared(state, l, i) {
				found.add(row{l, i}.occurrence())
			}
		}
	}
}
