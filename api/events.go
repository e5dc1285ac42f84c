package api

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// Limits of one call with events. Larger imports are `vaglio import`'s.
const (
	maxEvents     = 20_000
	maxEventBytes = 256 << 10 // a valid event with every field at its limit and every character escaped fits
)

// sentEvents is a body of events being read: what is good, where each came from, and what is wrong.
type sentEvents struct {
	of     eventBody
	events []vaglio.Event
	places []place
	faults []fault
}

// eventBody is what the routes that store events differ in.
type eventBody struct {
	decode            func([]byte) (vaglio.Event, error) // of one; an error is a vaglio.Invalid
	name              string                             // of one
	invalid, conflict Kind
}

var (
	plainEvents = eventBody{vaglio.DecodeEvent, "event", InvalidEvents, EventConflict}
	outcomes    = eventBody{decodeOutcome, "outcome", InvalidOutcomes, OutcomeConflict}
)

// decodeOutcome reads an outcome as the event of history that it is.
func decodeOutcome(b []byte) (vaglio.Event, error) {
	o, err := vaglio.DecodeReportedOutcome(b)
	if err != nil {
		return vaglio.Event{}, err
	}
	return o.Event(), nil
}

// place is where an event stood in the body.
type place struct {
	line   int    // of NDJSON, from 1
	prefix string // of its JSON pointers
}

// events stores one event, an array of them or NDJSON: all of them or, when any is wrong, none.
func (s *Server) events(x *exchange) error { return s.store(x, plainEvents) }

// outcomes stores what became of requests, as events stores events.
func (s *Server) outcomes(x *exchange) error { return s.store(x, outcomes) }

func (s *Server) store(x *exchange, of eventBody) error {
	body, err := x.body()
	if err != nil {
		return err
	}
	sent := sentEvents{of: of}
	first := bytes.TrimLeft(body, " \t\r\n")[0]
	switch {
	case strings.HasPrefix(x.Request().Header.Get("Content-Type"), typeNDJSON):
		err = sent.lines(body)
	case first == '[':
		err = sent.array(body)
	default:
		if err = sent.add(body, place{}); len(sent.faults) > 0 {
			err = wellFormed(body)
		}
	}
	if err != nil {
		return err
	}
	if len(sent.faults) > 0 {
		return invalidFields(of.invalid, sent.faults)
	}
	if len(sent.events) == 0 {
		return problemf(EmptyBody, "want at least one %s", of.name)
	}
	became, err := s.engine.Store(x.Request().Context(), sent.events)
	var invalid vaglio.Invalid
	if errors.As(err, &invalid) {
		return invalidFields(of.invalid, sent.locate(invalid))
	}
	if err != nil {
		return err
	}
	return s.stored(x, &sent, became)
}

// full reports that there is no sense in reading on: the answer lists no more faults than are there.
func (sent *sentEvents) full() bool { return len(sent.faults) > maxFaults }

// add decodes one event.
func (sent *sentEvents) add(raw []byte, at place) error {
	if len(sent.events) == maxEvents {
		return problemf(BodyTooLarge, "at most %d %ss", maxEvents, sent.of.name)
	}
	if len(raw) > maxEventBytes {
		sent.fault(at, vaglio.Invalid{{Detail: fmt.Sprintf("is larger than %d bytes", maxEventBytes)}})
		return nil
	}
	ev, err := sent.of.decode(raw)
	var invalid vaglio.Invalid
	switch {
	case errors.As(err, &invalid):
		sent.fault(at, invalid)
	case err != nil:
		return err
	default:
		sent.events = append(sent.events, ev)
		sent.places = append(sent.places, at)
	}
	return nil
}

func (sent *sentEvents) fault(at place, invalid vaglio.Invalid) {
	sent.faults = append(sent.faults, faults(invalid, at.line, at.prefix)...)
}

// array reads element by element, so that a hostile array costs no more than what is kept of it.
func (sent *sentEvents) array(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if _, err := dec.ReadToken(); err != nil {
		return malformed(err)
	}
	for i := 0; dec.PeekKind() != ']'; i++ {
		raw, err := dec.ReadValue()
		if err != nil {
			return malformed(err)
		}
		if err := sent.add(raw, place{prefix: fmt.Sprintf("/%d", i)}); err != nil {
			return err
		}
		if sent.full() {
			return nil
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformed(err)
	}
	return atEnd(dec)
}

// lines reads one event per line; empty lines are left out.
func (sent *sentEvents) lines(body []byte) error {
	line := 0
	for raw := range bytes.Lines(body) {
		line++
		raw = bytes.TrimSpace(raw)
		if len(raw) == 0 {
			continue
		}
		if err := sent.add(raw, place{line: line}); err != nil {
			return err
		}
		if sent.full() {
			return nil
		}
	}
	return nil
}

// locate puts what is wrong with /<index> of the events into terms of the body.
func (sent *sentEvents) locate(invalid vaglio.Invalid) []fault {
	var out []fault
	for _, f := range invalid {
		index, rest, _ := strings.Cut(strings.TrimPrefix(f.Pointer, "/"), "/")
		at := place{}
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(sent.places) {
			at, f.Pointer = sent.places[i], "/"+rest
		}
		out = append(out, faults(vaglio.Invalid{f}, at.line, at.prefix)...)
	}
	return out
}

// outcomeNames are the labels of the metric.
var outcomeNames = map[vaglio.Outcome]string{vaglio.Stored: "stored", vaglio.Repeated: "repeated", vaglio.Conflicting: "conflict"}

// stored answers what became of the events; conflicts make it a problem, though the others are stored.
func (s *Server) stored(x *exchange, sent *sentEvents, became []vaglio.Outcome) error {
	count := map[vaglio.Outcome]int{}
	conflicts := &problem{kind: sent.of.conflict}
	for i, outcome := range became {
		count[outcome]++
		if outcome != vaglio.Stored && outcome != vaglio.Repeated {
			id, at := strings.TrimPrefix(sent.events[i].ID, vaglio.OutcomePrefix), sent.places[i]
			conflicts.errors = append(conflicts.errors, faults(vaglio.Invalid{{Pointer: "/id",
				Detail: fmt.Sprintf("another %s is stored under %q; the first wins", sent.of.name, id)}}, at.line, at.prefix)...)
		}
	}
	for outcome, name := range outcomeNames {
		s.metrics.events.WithLabelValues(name).Add(float64(count[outcome]))
	}
	if n := len(conflicts.errors); n > 0 {
		conflicts.detail = fmt.Sprintf("%d stored, %d repeated, %d refused", count[vaglio.Stored], count[vaglio.Repeated], n)
		conflicts.errors = conflicts.errors[:min(n, maxFaults)]
		return conflicts
	}
	return x.json(http.StatusOK, &storedWire{count[vaglio.Stored], count[vaglio.Repeated]})
}

// storedWire is the answer when nothing was refused.
type storedWire struct {
	Stored   int `json:"stored"`
	Repeated int `json:"repeated"`
}
