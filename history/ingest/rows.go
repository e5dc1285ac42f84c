package ingest

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"vaglio"
)

// rowDecoder evaluates a mapping. Not for concurrent use.
type rowDecoder struct {
	m    *Mapping
	vm   vm.VM
	env  map[string]any
	rows []map[string]any // one per record of the largest group so far, reused
	any  []any            // the same as expressions see it
	done []bool           // which of the named expressions have their value
}

func (m *Mapping) decoder() *rowDecoder {
	return &rowDecoder{m: m, env: map[string]any{}, done: make([]bool, len(m.lets)), vm: vm.VM{MemoryBudget: maxMemoryBudget}}
}

// load shows a group to the expressions.
func (d *rowDecoder) load(records []record, name string) {
	for len(d.rows) < len(records) {
		d.rows = append(d.rows, map[string]any{})
		d.any = append(d.any, d.rows[len(d.rows)-1])
	}
	for i := range records {
		for j, column := range d.m.columns {
			d.rows[i][column] = records[i].values[j]
		}
	}
	clear(d.done)
	d.env["row"], d.env["rows"] = d.rows[0], d.any[:len(records):len(records)]
	d.env["row_number"], d.env["file"] = records[0].number, filepath.Base(name)
}

// key of a record's group.
func (d *rowDecoder) key(rec record, name string) (string, error) {
	d.load([]record{rec}, name)
	return text(d, d.m.groupBy)
}

// events makes the events of one group; an error, an Invalid with pointers into the mapping, refuses all of them.
func (d *rowDecoder) events(g group, name string, finish func(*vaglio.Event) error) ([]vaglio.Event, error) {
	if g.broken != nil {
		return nil, g.broken
	}
	d.load(g.records, name)
	var events []vaglio.Event
	var bad vaglio.Invalid
	for i := range d.m.events {
		ev, made, wrong := d.event(&d.m.events[i])
		if made && wrong == nil {
			for _, check := range []func() error{ev.Validate, func() error { return finish(&ev) }} {
				if err := check(); err != nil {
					for _, f := range invalid(err) {
						wrong = append(wrong, vaglio.FieldError{Pointer: fmt.Sprintf("/events/%d%s", i, f.Pointer), Detail: f.Detail})
					}
				}
			}
		}
		bad = append(bad, wrong...)
		if made {
			events = append(events, ev)
		}
	}
	if bad != nil {
		return nil, bad
	}
	return events, nil
}

func (d *rowDecoder) event(m *eventMapping) (ev vaglio.Event, made bool, bad vaglio.Invalid) {
	check := func(e *expression, err error) {
		if err != nil {
			bad = append(bad, vaglio.FieldError{Pointer: e.at, Detail: err.Error()})
		}
	}
	if m.when != nil {
		when, err := value[bool](d, m.when)
		check(m.when, err)
		if !when {
			return ev, false, bad
		}
	}
	str := func(e *expression) string {
		s, err := text(d, e)
		check(e, err)
		return s
	}
	moment := func(e *expression) vaglio.Instant {
		if e == nil {
			return 0
		}
		t, err := value[time.Time](d, e)
		if year := t.UTC().Year(); err == nil && !t.IsZero() && (year < 1971 || year > 2199) {
			err = fmt.Errorf("%s is outside the years 1971 to 2199", t.Format(time.RFC3339))
		}
		check(e, err)
		if err != nil || t.IsZero() {
			return 0
		}
		return vaglio.InstantOf(t)
	}
	fields := func(named []letMapping) vaglio.Fields {
		fs := make(vaglio.Fields, 0, len(named))
		for _, f := range named {
			if s := str(f.value); s != "" {
				fs = fs.With(f.name, s)
			}
		}
		return fs
	}
	ev = vaglio.Event{ID: str(m.id), Kind: str(m.kind), OccurredAt: moment(m.occurredAt), ObservedAt: moment(m.observedAt),
		Entities: fields(m.entities), Attributes: fields(m.attributes)}
	if m.amount != nil {
		amount, err := value[*int](d, m.amount)
		check(m.amount, err)
		if amount != nil {
			if ev.Amount, ev.Currency = int64(*amount), str(m.currency); ev.Currency == "" {
				check(m.currency, errors.New("is required with an amount"))
			}
		}
	}
	return ev, true, bad
}

// text is the string of an expression, nil as "".
func text(d *rowDecoder, e *expression) (string, error) {
	if e.literal != "" {
		return e.literal, nil
	}
	return value[string](d, e)
}

// value evaluates an expression, and what it uses first. Nil is T's zero value; a *int tells it from zero.
func value[T any](d *rowDecoder, e *expression) (out T, err error) {
	v, err := d.run(e)
	if err != nil || v == nil {
		return out, err
	}
	if optional, ok := any(&out).(**int); ok {
		if n, ok := v.(int); ok {
			*optional = &n
			return out, nil
		}
	} else if v, ok := v.(T); ok {
		return v, nil
	}
	return out, fmt.Errorf("%s: want %s, it is %s", e.text, typeName(wanted[T]()), typeName(reflect.TypeOf(v)))
}

func wanted[T any]() reflect.Type {
	t := reflect.TypeFor[T]()
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func (d *rowDecoder) run(e *expression) (any, error) {
	for _, i := range e.lets {
		if d.done[i] {
			continue
		}
		let := d.m.lets[i]
		v, err := d.vm.Run(let.value.program, d.env)
		if err != nil {
			return nil, runError(let.value, err)
		}
		d.env[let.name], d.done[i] = v, true
	}
	v, err := d.vm.Run(e.program, d.env)
	if err != nil {
		return nil, runError(e, err)
	}
	return v, nil
}

// runError is the error of an expression on one line.
func runError(e *expression, err error) error {
	message := err.Error()
	if located := (*file.Error)(nil); errors.As(err, &located) {
		message = located.Message
	}
	return fmt.Errorf("%s: %s", e.text, message)
}
