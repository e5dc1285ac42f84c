package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// Report says exactly what an import did.
type Report struct {
	Lines    int64            // lines of NDJSON and records of CSV read, without blank lines and headers
	NoEvent  int64            // records of CSV (groups, if grouped) of which the mapping made no event
	Events   int64            // events read
	Kinds    map[string]int64 // events read, by kind
	Rejected int64            // bad lines (bad groups of lines, if grouped)

	Stored    int64 // events that are new
	Repeated  int64 // events that were stored before
	Conflicts int64 // events refused since another is stored under their id

	Rejects     []Reject // the first 20 bad lines and conflicts
	RejectsFile string   // where all of them are; "": none was written
	Elapsed     time.Duration
}

const maxShown = 20

// Reject is one line, record or group of records that was not imported, and why. As an error it reads
// "file:line: what is wrong".
type Reject struct {
	File   string
	Line   int            // the first line of it, from 1
	Errors vaglio.Invalid // pointers into the event, or, for CSV, into the mapping
	Text   string         // as it stood in the file; of a conflict: the event as JSON
}

func (r *Reject) Error() string { return fmt.Sprintf("%s:%d: %v", r.File, r.Line, r.Errors) }

// MarshalJSON writes {file, line, errors: [{pointer, detail}], text}. Text that is not UTF-8 comes as text_base64.
func (r *Reject) MarshalJSON() ([]byte, error) {
	wire := struct {
		File   string              `json:"file"`
		Line   int                 `json:"line"`
		Errors []vaglio.FieldError `json:"errors"`
		Text   string              `json:"text,omitzero"`
		Bytes  []byte              `json:"text_base64,omitempty"`
	}{File: r.File, Line: r.Line, Errors: r.Errors, Text: r.Text}
	if !utf8.ValidString(r.Text) {
		wire.Text, wire.Bytes = "", []byte(r.Text)
	}
	return json.Marshal(&wire, jsontext.AllowInvalidUTF8(true))
}

func (r *Report) add(c *chunk) {
	r.Lines += int64(c.lineCount)
	r.NoEvent += int64(c.noEvent)
	r.Events += int64(len(c.events))
	if r.Kinds == nil {
		r.Kinds = map[string]int64{}
	}
	for i := range c.events {
		r.Kinds[c.events[i].Kind]++
	}
}

func (r *Report) reject(bad Reject) {
	r.Rejected++
	r.show(bad)
}

func (r *Report) show(bad Reject) {
	if len(r.Rejects) < maxShown {
		r.Rejects = append(r.Rejects, bad)
	}
}

// rejectsFile is created with the first reject, replacing one of an earlier import.
type rejectsFile struct {
	path   string
	file   *os.File
	buffer *bufio.Writer
}

// aim sets the path, which must not be that of an input.
func (f *rejectsFile) aim(path string, inputs []input) error {
	if path == "" {
		path = inputs[0].name + ".rejects"
	}
	f.path = path
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rejects file: %w", err)
	}
	for i := range inputs {
		if in, err := os.Stat(inputs[i].path); err == nil && os.SameFile(there, in) {
			return fmt.Errorf("rejects file %s is one of the files to import", path)
		}
	}
	return nil
}

func (f *rejectsFile) write(bad Reject, report *Report) error {
	if f.file == nil {
		file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("rejects file: %w", err)
		}
		f.file, f.buffer = file, bufio.NewWriter(file)
		report.RejectsFile = f.path
	}
	line, err := json.Marshal(&bad, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return fmt.Errorf("rejects file: write %s:%d: %w", bad.File, bad.Line, err)
	}
	if _, err := f.buffer.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("rejects file: %w", err)
	}
	return nil
}

func (f *rejectsFile) close() error {
	if f.file == nil {
		return nil
	}
	if err := errors.Join(f.buffer.Flush(), f.file.Close()); err != nil {
		return fmt.Errorf("rejects file: %w", err)
	}
	return nil
}

// Phase of an import.
type Phase string

// The phases, in order. Reading happens only to the standard input, Checking only when a bad line stops.
const (
	Reading         Phase = "reading"
	Checking        Phase = "checking"
	Storing         Phase = "storing"
	StoringDeferred Phase = "storing requests and labels"
)

// Progress of one phase.
type Progress struct {
	Phase      Phase
	BytesDone  int64 // as stored, so compressed ones of a compressed file
	BytesTotal int64 // 0: not known
	Events     int64
	Rate       float64       // events per second in this phase
	TimeLeft   time.Duration // of this phase; 0: not known
}

type meter struct {
	phase               Phase
	since               time.Time
	done, total, events int64
}

func (im *importer) begin(phase Phase) {
	im.meter = meter{phase: phase, since: im.Now()}
	for i := range im.inputs {
		im.meter.total += im.inputs[i].size
	}
}

func (im *importer) tell() {
	m := &im.meter
	p := Progress{Phase: m.phase, BytesDone: m.done, BytesTotal: m.total, Events: m.events}
	if elapsed := im.Now().Sub(m.since); elapsed > 0 {
		p.Rate = float64(m.events) / elapsed.Seconds()
		if m.done > 0 && m.total > m.done {
			p.TimeLeft = time.Duration(float64(elapsed) * float64(m.total-m.done) / float64(m.done))
		}
	}
	im.Progress(p)
}
