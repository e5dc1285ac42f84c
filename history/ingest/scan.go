package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"vaglio"
)

// decoders is how many goroutines decode, and queue how many chunks wait for the sink: about what it takes at once.
const (
	decoders = 2
	queue    = 12
)

// A chunk ends at this many lines or bytes, so that the queue's memory is bounded.
const (
	chunkLines = 1000
	chunkBytes = 256 << 10
)

// chunk is a piece of one input on its way: filled by the reader, decoded by one of the decoders, then taken in order.
type chunk struct {
	input     int
	bytesDone int64 // of all inputs, when the chunk was read
	lineCount int
	err       error // instead of anything else: reading ended with it

	// what was read: spans of text for NDJSON, groups of records for CSV
	text   []byte
	spans  []span
	groups []group

	// what came of it; lines tells the first line of each event
	decoded chan struct{}
	events  []vaglio.Event
	lines   []int
	bad     []Reject
	noEvent int
}

// span is one line of NDJSON in the chunk's text.
type span struct {
	from, to int
	line     int
	tooLong  bool
}

// scan reads all inputs and calls take with each decoded chunk, in order, from the calling goroutine. It returns when
// all its goroutines have ended.
func (im *importer) scan(ctx context.Context, take func(*chunk) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	ordered := make(chan *chunk, queue)
	work := make(chan *chunk, queue)
	send := func(c *chunk) bool {
		c.decoded = make(chan struct{})
		if c.err != nil {
			close(c.decoded)
		} else {
			select {
			case work <- c:
			case <-ctx.Done():
				return false
			}
		}
		select {
		case ordered <- c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	wg.Go(func() {
		defer close(ordered)
		defer close(work)
		var before int64
		for i := range im.inputs {
			if err := im.read(i, before, send); err != nil {
				send(&chunk{err: err})
				return
			}
			before += im.inputs[i].size
		}
	})
	for range decoders {
		wg.Go(func() {
			var rows *rowDecoder
			if im.Mapping != nil {
				rows = im.Mapping.decoder()
			}
			for c := range work {
				im.decode(c, rows)
				close(c.decoded)
			}
		})
	}
	for c := range ordered {
		select {
		case <-c.decoded:
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("import: %w", context.Cause(ctx))
		case c.err != nil:
			return c.err
		}
		if err := take(c); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// read cuts one input into chunks. send answers false when nobody wants more.
func (im *importer) read(i int, before int64, send func(*chunk) bool) error {
	in := &im.inputs[i]
	if in.format == formatParquet {
		err := im.readParquet(in, func(c *chunk, done int64) bool {
			c.input, c.bytesDone = i, before+done
			return send(c)
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", in.name, err)
		}
		return nil
	}
	lines, position, err := in.open()
	if err != nil {
		return err
	}
	emit := func(c *chunk) bool {
		c.input, c.bytesDone = i, before+position()
		return send(c)
	}
	if in.format == formatCSV {
		err = im.Mapping.read(lines, in.name, emit)
	} else {
		err = readNDJSON(lines, emit)
	}
	if err != nil {
		return fmt.Errorf("read %s after line %d: %w", in.name, lines.line, err)
	}
	return nil
}

func readNDJSON(lines *lineReader, emit func(*chunk) bool) error {
	k := ndjsonChunker{c: &chunk{}, emit: emit}
	for {
		line, tooLong, err := lines.next()
		if err != nil {
			if !k.end() || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 && !k.add(line, lines.line, tooLong) {
			return nil
		}
	}
}

// ndjsonChunker gathers lines of NDJSON into chunks.
type ndjsonChunker struct {
	c    *chunk // being filled
	emit func(*chunk) bool
}

// add takes one line, and copies it. It answers false when nobody wants more.
func (k *ndjsonChunker) add(line []byte, number int, tooLong bool) bool {
	c := k.c
	from := len(c.text)
	c.text = append(c.text, line...)
	c.spans = append(c.spans, span{from, len(c.text), number, tooLong})
	c.lineCount++
	if len(c.spans) < chunkLines && len(c.text) < chunkBytes {
		return true
	}
	k.c = &chunk{text: make([]byte, 0, len(c.text)+len(c.text)/8), spans: make([]span, 0, len(c.spans))}
	return k.emit(c) // from here on it is the decoders'
}

func (k *ndjsonChunker) end() bool { return len(k.c.spans) == 0 || k.emit(k.c) }

// decode turns what was read into events and rejects.
func (im *importer) decode(c *chunk, rows *rowDecoder) {
	name := im.inputs[c.input].name
	n := len(c.spans) + len(c.groups)
	c.events, c.lines = make([]vaglio.Event, 0, n), make([]int, 0, n)
	for _, s := range c.spans {
		text := c.text[s.from:s.to]
		if s.tooLong {
			c.bad = append(c.bad, Reject{name, s.line, vaglio.Invalid{{Detail: longLine}}, string(text[:keptOfLong])})
			continue
		}
		ev, err := vaglio.DecodeEvent(text)
		if err == nil {
			err = im.finish(&ev)
		}
		if err != nil {
			c.bad = append(c.bad, Reject{name, s.line, invalid(err), string(text)})
			continue
		}
		c.events, c.lines = append(c.events, ev), append(c.lines, s.line)
	}
	for _, g := range c.groups {
		events, err := rows.events(g, name, im.finish)
		if err != nil {
			c.bad = append(c.bad, Reject{name, g.line(), invalid(err), g.text(im.Mapping.columns)})
			continue
		}
		if len(events) == 0 {
			c.noEvent++
		}
		for _, ev := range events {
			c.events, c.lines = append(c.events, ev), append(c.lines, g.line())
		}
	}
	c.text, c.spans, c.groups = nil, nil, nil
}

// finish fills what an import may leave out and checks times against the clock.
func (im *importer) finish(ev *vaglio.Event) error {
	if ev.ObservedAt == 0 {
		ev.ObservedAt = ev.OccurredAt
	}
	var bad vaglio.Invalid
	for _, t := range []struct {
		pointer string
		at      vaglio.Instant
	}{{"/occurred_at", ev.OccurredAt}, {"/observed_at", ev.ObservedAt}} {
		if t.at > im.latest {
			bad = append(bad, vaglio.FieldError{Pointer: t.pointer,
				Detail: fmt.Sprintf("%s is more than 24 hours in the future (it is %s)", t.at, vaglio.InstantOf(im.began))})
		}
	}
	if ev.ObservedAt == ev.OccurredAt && len(bad) == 2 {
		bad = bad[:1]
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

const (
	longLine   = "is longer than 1 MiB; only its first KiB is kept here"
	keptOfLong = 1 << 10
)

// invalid is the error field by field.
func invalid(err error) vaglio.Invalid {
	var fields vaglio.Invalid
	if errors.As(err, &fields) {
		return fields
	}
	return vaglio.Invalid{{Detail: err.Error()}}
}
