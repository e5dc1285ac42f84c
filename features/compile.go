package features

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"vaglio"
)

// compileAggregate turns a row into an aggregate and plans what the states of its timelines must keep for it.
func (c *Catalogue) compileAggregate(i int, s *spec) error {
	failf := func(format string, args ...any) error { return featureErrorf(s.line, s.Name, format, args...) }
	f, ok := functions[s.Aggregate]
	if !ok {
		return failf("there is no aggregate %q: there are %s", s.Aggregate, strings.Join(slices.Sorted(maps.Keys(functions)), ", "))
	}
	if err := s.checkFields(f); err != nil {
		return failf("%v", err)
	}
	entity, second, isPair := strings.Cut(s.Entity, "+")
	if !nameForm.MatchString(entity) || isPair && !nameForm.MatchString(second) {
		return failf("the entity %q is neither a kind of entity nor a pair of kinds (customer+device)", s.Entity)
	}
	if len(s.Events) == 0 {
		return failf("events lists the kinds of events to aggregate")
	}
	l := c.layoutOf(entity)
	a := aggregate{index: i, function: f, column: -1, currency: -1, scale: 1}
	for _, kind := range s.Events {
		if !nameForm.MatchString(kind) {
			return failf("%q is not a kind of event", kind)
		}
		at := l.addKind(kind)
		if slices.Contains(a.kinds, at) {
			return failf("the kind of event %s is given twice", kind)
		}
		a.kinds = append(a.kinds, at)
	}
	var err error
	if a.window, err = parseWindow(s.Window, vaglio.Horizon); err != nil {
		return failf("window: %v", err)
	}
	if a.offset, err = parseWindow(s.Offset, 0); err != nil {
		return failf("offset: %v", err)
	}
	if a.offset >= vaglio.Horizon {
		return failf("offset: %s is not before the horizon of %d days", s.Offset, vaglio.Horizon/vaglio.Day)
	}
	if a.where, err = c.filter(l, &a, s.Where); err != nil {
		return failf("where: %v", err)
	}
	if a.part, err = c.filter(l, &a, s.Part); err != nil {
		return failf("part: %v", err)
	}
	if err := c.compileValue(&a, l, entity, s); err != nil {
		return failf("%v", err)
	}
	if isPair {
		if a.pairPath, err = c.path("entities." + second); err != nil {
			return failf("%v", err)
		}
		a.pair = []int{l.keep(&a, column{columnEntity, second})}
		if timelineKind(second) == vaglio.EntityInstrument { // both roles of an instrument
			a.pair = []int{l.keep(&a, column{columnEntity, vaglio.EntityInstrument}), l.keep(&a, column{columnEntity, vaglio.EntityPayoutInstrument})}
		}
	}
	own := &c.features[i]
	own.Entity, own.Window = s.Entity, a.window
	if own.Unit == "" {
		own.Unit = unitOf(f, s.Of)
	}
	if f == linked {
		if err := c.compileLinked(a, s); err != nil {
			return failf("%v", err)
		}
		return nil
	}
	r := c.role(entity)
	r.aggregates = append(r.aggregates, a)
	return nil
}

// checkFields sees to the fields that belong to one aggregate alone, and that several names stand only where they may.
func (s *spec) checkFields(f function) error {
	for _, field := range []struct {
		name, value, example string
		of                   function
	}{
		{"part", s.Part, "a condition", share},
		{"which", s.Which, "usual, last or first", same},
		{"within", s.Within, "a span such as 2h", habit},
	} {
		switch {
		case field.value != "" && f != field.of:
			return fmt.Errorf("%s takes no %s", s.Aggregate, field.name)
		case field.value == "" && f == field.of:
			return fmt.Errorf("%s wants %s: %s", s.Aggregate, field.name, field.example)
		}
	}
	if strings.Contains(string(s.Of), ",") && f != linked {
		return fmt.Errorf("%s takes no list in of", s.Aggregate)
	}
	return nil
}

func unitOf(f function, of names) Unit {
	switch {
	case f == count || f == distinct || f == linked:
		return UnitCount
	case f == sinceFirst || f == sinceLast:
		return UnitHours
	case f == share || f == habit:
		return UnitShare
	case f == same:
		return UnitFlag
	case of == "amount":
		return UnitMoney
	default:
		return UnitNumber
	}
}

// compileValue finds the column that `of` names, and what else the function needs.
func (c *Catalogue) compileValue(a *aggregate, l *layout, entity string, s *spec) (err error) {
	of := string(s.Of)
	attribute, isAttribute := strings.CutPrefix(of, "attributes.")
	isAttribute = isAttribute && nameForm.MatchString(attribute)
	switch a.function {
	case linked: // compileLinked reads `of`
	case count, rate, share, habit, sinceFirst, sinceLast:
		if s.Of != "" {
			return fmt.Errorf("%s takes no of", s.Aggregate)
		}
		if a.function == habit {
			within, err := parseWindow(s.Within, 0)
			if err != nil {
				return fmt.Errorf("within: %w", err)
			}
			if within >= vaglio.Day/2 {
				return fmt.Errorf("within: %s on either side is the whole day", s.Within)
			}
			a.within = int64(within)
		}
	case distinct, same:
		path := "entities." + of
		switch {
		case isAttribute:
			a.column, path = l.keep(a, column{columnAttribute, attribute}), of
		case nameForm.MatchString(of):
			a.column = l.keep(a, column{columnEntity, of})
		default:
			return fmt.Errorf("%s is of a kind of entity (of: device) or an attribute (of: attributes.NAME)", s.Aggregate)
		}
		if a.function == same {
			known := false
			if a.which, known = whiches[s.Which]; !known {
				return fmt.Errorf("which: want usual, last or first, not %q", s.Which)
			}
			a.path, err = c.path(path)
		}
	default:
		switch {
		case isAttribute:
			a.column, a.scale = l.keep(a, column{columnDecimal, attribute}), decimalScale
		case of == "amount" && entity == vaglio.EntityPayment:
			a.column, a.currency, s.own = l.keep(a, column{kind: columnOwn}), l.keep(a, column{kind: columnCurrency}), true
		case of == "amount":
			a.column = l.keep(a, column{kind: columnBase})
		default:
			return fmt.Errorf("%s is of: amount or of: attributes.NAME", s.Aggregate)
		}
	}
	return err
}

// filter compiles a `where` or `part`. What reads the event alone is computed once, when the event enters the state.
func (c *Catalogue) filter(l *layout, a *aggregate, source string) (filter, error) {
	if source == "" {
		return filter{}, nil
	}
	compiler := compiler{catalogue: c, columns: func(wanted column) int { return l.keep(a, wanted) }}
	predicate, err := compiler.compile(source)
	if err != nil {
		return filter{}, err
	}
	if compiler.asks {
		return filter{asks: predicate}, nil
	}
	bit := slices.Index(l.filterTexts, source)
	if bit < 0 {
		if len(l.filters) == maxFilters {
			return filter{}, fmt.Errorf("a kind of timeline has at most %d conditions", maxFilters)
		}
		bit = len(l.filters)
		l.filters, l.filterTexts = append(l.filters, predicate), append(l.filterTexts, source)
	}
	for _, kind := range a.kinds {
		if k := &l.kinds[kind]; !slices.Contains(k.filters, bit) {
			k.filters = append(k.filters, bit)
		}
	}
	return filter{mask: 1 << bit}, nil
}

// role finds or adds the way in which features relate a request to the timeline of an entity that it names. The result
// is good until the next call.
func (c *Catalogue) role(entity string) *role {
	for i := range c.roles {
		if c.roles[i].entity == entity {
			return &c.roles[i]
		}
	}
	c.roles = append(c.roles, role{entity: entity, layout: c.layoutOf(entity)})
	return &c.roles[len(c.roles)-1]
}

func (c *Catalogue) layoutOf(entity string) *layout {
	kind := timelineKind(entity)
	if c.layouts[kind] == nil {
		c.layouts[kind] = &layout{entity: kind}
	}
	return c.layouts[kind]
}

func (l *layout) addKind(name string) int {
	if i := l.kind(name); i >= 0 {
		return i
	}
	l.kinds = append(l.kinds, kindLayout{name: name, width: 1, mask: -1})
	return len(l.kinds) - 1
}

// keep makes the states keep a column of the events that an aggregate reads.
func (l *layout) keep(a *aggregate, wanted column) int {
	c := slices.Index(l.columns, wanted)
	if c < 0 {
		c = len(l.columns)
		l.columns = append(l.columns, wanted)
	}
	for _, kind := range a.kinds {
		l.kinds[kind].keep(c)
	}
	return c
}

func (k *kindLayout) keep(column int) {
	for len(k.slots) <= column {
		k.slots = append(k.slots, -1)
	}
	if k.slots[column] < 0 {
		k.slots[column] = k.width
		k.width++
	}
}

// seal ends the planning.
func (l *layout) seal() {
	for i := range l.kinds {
		if k := &l.kinds[i]; len(k.filters) > 0 {
			k.mask = k.width
			k.width++
		}
	}
	l.other = kindLayout{width: 1, mask: -1}
	l.empty = newState(l)
}
