// Package ingest reads events from files into history: NDJSON as it stands, CSV through a [Mapping], gzipped or not, and
// Parquet either way.
// It decodes on two cores, keeps order, and hands batches to a [Sink]; what it can't take it names by file, line and
// field. [Files] is the way in; mapping.go tells what a mapping may say, and docs/import.md says it to users.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// Sink stores a batch and answers with one outcome per event, in order, as history.Store.Import does. It is called by
// one goroutine at a time, with at most [MaxBatch] events, and must not keep the slice. After an error the import ends.
type Sink = func(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error)

// MaxBatch is the size of batches: larger ones leave ClickHouse less to merge, and this many events fit anywhere.
const MaxBatch = 50_000

// OnError says what a bad line does.
type OnError uint8

const (
	// Stop reads and checks everything before anything is stored; bad lines end the import then.
	Stop OnError = iota
	// Skip writes bad lines to the rejects file and goes on.
	Skip
)

// Options of an import. Only Sink is required, and Mapping for CSV.
type Options struct {
	Mapping  *Mapping
	OnError  OnError
	Rejects  string // path of the rejects file of Skip; "": the first file's name with ".rejects" added
	Sink     Sink
	Now      func() time.Time // nil: time.Now
	Progress func(Progress)   // nil: none. Called about every thousand events, by the goroutine that called Files
	Stdin    io.Reader        // what "-" reads; nil: os.Stdin
	TempDir  string           // for spools; "": the system's
}

// MaxAhead is how far in the future an event may lie: farther ones are wrong clocks or wrong columns.
const MaxAhead = vaglio.Day

// Files imports the files in order; "-" is the standard input. Formats go by name: .ndjson, .jsonl and .json are one
// event per line, .csv needs the mapping, each with an optional .gz; gzip itself is told by content. The rows of .parquet
// go through the mapping if one is given, else its columns are an event's members. The standard input is what the mapping
// says, NDJSON without one.
//
// Requests (refund_requested) are stored after all other events of all files, and labels after requests, since history
// completes a request from its payment and a label from its request when it stores them.
//
// Everything is stored once per id, so an import that ended early, for whatever reason, can run again as it is. The
// Report is right in any case, also beside an error. Rejected and conflicting lines under Skip are no error.
func Files(ctx context.Context, o Options, paths []string) (Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Stdin == nil {
		o.Stdin = os.Stdin
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	im := &importer{Options: o, began: o.Now()}
	im.latest = vaglio.InstantOf(im.began) + MaxAhead
	err := im.run(ctx, paths)
	im.report.Elapsed = o.Now().Sub(im.began)
	return im.report, err
}

// importer is one call of Files.
type importer struct {
	Options
	began    time.Time
	latest   vaglio.Instant // the last moment that is not "in the future"
	inputs   []input
	report   Report
	meter    meter
	batch    batch
	requests spool
	labels   spool
	rejects  rejectsFile
}

// batch is what waits for the sink.
type batch struct {
	events []vaglio.Event
	places []place // of each event
}

// place is where an event came from.
type place struct {
	input int
	line  int
}

func (im *importer) run(ctx context.Context, paths []string) (err error) {
	defer func() { err = errors.Join(err, closeInputs(im.inputs)) }()
	if im.inputs, err = im.openInputs(paths); err != nil {
		return err
	}
	if im.OnError == Stop {
		if err := im.check(ctx); err != nil {
			return err
		}
	} else if err := im.rejects.aim(im.Rejects, im.inputs); err != nil {
		return err
	}
	if err := im.store(ctx); err != nil {
		return fmt.Errorf("%w; %d events were stored before that: they will be recognised when the import runs again", err, im.report.Stored)
	}
	return nil
}

// check reads everything, stores nothing, and refuses if there is a bad line.
func (im *importer) check(ctx context.Context) error {
	im.begin(Checking)
	err := im.scan(ctx, func(c *chunk) error {
		im.count(c)
		for _, bad := range c.bad {
			im.report.reject(bad)
		}
		if im.report.Rejected >= maxShown {
			return errEnough
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return fmt.Errorf("%w; nothing was stored", err)
	case im.report.Rejected == 0:
		im.report = Report{}
		return nil
	}
	more := ""
	if errors.Is(err, errEnough) {
		more = " (the rest was not looked at)"
	}
	if n := im.report.Rejected; n > 1 {
		more = fmt.Sprintf(", the first of %d bad lines%s", n, more)
	}
	return fmt.Errorf("%w%s; nothing was stored", &im.report.Rejects[0], more)
}

var errEnough = errors.New("enough bad lines")

// store reads everything and stores it: first what stands for itself, then requests, then labels.
func (im *importer) store(ctx context.Context) (err error) {
	im.requests = spool{dir: im.TempDir}
	im.labels = spool{dir: im.TempDir}
	defer func() { err = errors.Join(err, im.requests.close(), im.labels.close(), im.rejects.close()) }()

	im.begin(Storing)
	if err := im.scan(ctx, func(c *chunk) error { return im.take(ctx, c) }); err != nil {
		return err
	}
	if err := im.flush(ctx); err != nil {
		return err
	}
	im.begin(StoringDeferred)
	im.meter.total = im.requests.size + im.labels.size
	for _, s := range []*spool{&im.requests, &im.labels} {
		if err := s.each(func(at place, ev vaglio.Event, size int) error {
			im.meter.done += int64(size)
			im.meter.events++
			return im.add(ctx, at, ev)
		}); err != nil {
			return err
		}
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// take sorts one chunk into rejects, spools and the batch.
func (im *importer) take(ctx context.Context, c *chunk) error {
	im.count(c)
	for i := range c.bad {
		if err := im.reject(c.bad[i]); err != nil {
			return err
		}
	}
	for i := range c.events {
		ev, at := &c.events[i], place{c.input, c.lines[i]}
		var err error
		switch {
		case ev.Kind == vaglio.KindRefundRequested:
			err = im.requests.add(at, ev)
		case ev.FollowsRequest():
			err = im.labels.add(at, ev)
		default:
			err = im.add(ctx, at, *ev)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) add(ctx context.Context, at place, ev vaglio.Event) error {
	im.batch.events = append(im.batch.events, ev)
	im.batch.places = append(im.batch.places, at)
	if len(im.batch.events) < MaxBatch {
		return nil
	}
	return im.flush(ctx)
}

// flush hands the batch to the sink and counts what became of it.
func (im *importer) flush(ctx context.Context) error {
	b := &im.batch
	if len(b.events) == 0 {
		return nil
	}
	outcomes, err := im.Sink(ctx, b.events)
	if err != nil {
		return fmt.Errorf("store %d events: %w", len(b.events), err)
	}
	if len(outcomes) != len(b.events) {
		return fmt.Errorf("store %d events: the sink answered for %d", len(b.events), len(outcomes))
	}
	var conflict error
	for i, outcome := range outcomes {
		switch outcome {
		case vaglio.Stored:
			im.report.Stored++
		case vaglio.Repeated:
			im.report.Repeated++
		case vaglio.Conflicting:
			im.report.Conflicts++
			if err := im.conflict(b.places[i], &b.events[i]); err != nil && conflict == nil {
				conflict = err // after the whole batch is counted: it is stored
			}
		default:
			return fmt.Errorf("store event %s: the sink answered with the unknown outcome %d", b.events[i].ID, outcome)
		}
	}
	b.events, b.places = b.events[:0], b.places[:0]
	im.tell()
	return conflict
}

func (im *importer) conflict(at place, ev *vaglio.Event) error {
	text, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("write event %s: %w", ev.ID, err)
	}
	bad := Reject{File: im.inputs[at.input].name, Line: at.line, Text: string(text), Errors: vaglio.Invalid{
		{Pointer: "/id", Detail: fmt.Sprintf("another event is stored under the id %s, with other content", ev.ID)}}}
	im.report.show(bad)
	if im.OnError == Stop {
		return &bad
	}
	return im.rejects.write(bad, &im.report)
}

func (im *importer) reject(bad Reject) error {
	im.report.reject(bad)
	if im.OnError == Stop {
		return &bad // the file changed since it was checked
	}
	return im.rejects.write(bad, &im.report)
}

func (im *importer) count(c *chunk) {
	im.report.add(c)
	im.meter.done, im.meter.events = c.bytesDone, im.report.Events
	im.tell()
}
