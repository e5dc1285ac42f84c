package ingest

import (
	"bufio"
	"bytes"
	"container/list"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"vaglio"
)

// Bounds of grouping: how many records a group may have, and how much text may wait in all open groups.
const (
	maxGroup    = 10_000
	maxOpenText = 64 << 20
)

// record is one record of CSV or row of Parquet; its values are those of the mapping's columns, in the mapping's order.
type record struct {
	line   int    // where it begins, from 1; of a row its number
	number int    // among the records of its file, from 1
	text   string // "" of a row
	values []string
}

func (r *record) size() int {
	n := len(r.text)
	if n == 0 {
		for _, v := range r.values {
			n += len(v) + 16
		}
	}
	return n
}

// group is the records that one evaluation of the mapping sees: one, or those of one key.
type group struct {
	records []record
	broken  vaglio.Invalid // why it can't be used; nil: it can
}

func (g *group) line() int { return g.records[0].line }

// text is the records as they stood in the file; of rows the given columns as JSON.
func (g *group) text(columns []string) string {
	texts := make([]string, len(g.records))
	for i := range g.records {
		texts[i] = g.records[i].text
		if texts[i] == "" {
			texts[i] = string(eventJSON(nil, columns, g.records[i].values))
		}
	}
	return strings.Join(texts, "\n")
}

func (g *group) breaks(format string, args ...any) {
	g.broken = vaglio.Invalid{{Detail: fmt.Sprintf(format, args...)}}
}

// read cuts a CSV file into chunks of groups. It returns nil when emit wants no more.
func (m *Mapping) read(lines *lineReader, name string, emit func(*chunk) bool) error {
	r := &recordReader{lines: lines, comma: m.comma, fields: newFieldReader(m.comma)}
	positions, width, err := m.header(r)
	if err != nil {
		return err
	}
	groups := m.chunker(name, emit)
	for number := 1; ; number++ {
		rec, values, err := r.next(width)
		if errors.Is(err, io.EOF) {
			groups.end()
			return nil
		}
		var bad badRecord
		if err != nil && !errors.As(err, &bad) {
			return err
		}
		groups.c.lineCount++
		rec.number = number
		if err == nil {
			rec.values = make([]string, len(positions))
			for i, position := range positions {
				rec.values[i] = values[position]
			}
		}
		more, err := groups.open.add(rec, string(bad))
		if err != nil || !more {
			return err
		}
	}
}

// chunker cuts what a mapping reads into chunks of groups.
type chunker struct {
	c    *chunk // being filled
	open *grouping
	emit func(*chunk) bool
}

func (m *Mapping) chunker(name string, emit func(*chunk) bool) *chunker {
	k := &chunker{c: &chunk{}, emit: emit}
	size := 0
	k.open = m.grouping(name, func(g *group) bool {
		k.c.groups = append(k.c.groups, *g)
		for i := range g.records {
			size += g.records[i].size()
		}
		if len(k.c.groups) < chunkLines && size < chunkBytes {
			return true
		}
		full := k.c
		k.c, size = &chunk{groups: make([]group, 0, len(full.groups))}, 0
		return emit(full)
	})
	return k
}

// end closes all groups and emits what is left.
func (k *chunker) end() {
	if k.open.all() && (len(k.c.groups) > 0 || k.c.lineCount > 0) {
		k.emit(k.c)
	}
}

// header finds the mapping's columns in the first record.
func (m *Mapping) header(r *recordReader) (positions []int, width int, err error) {
	_, names, err := r.next(-1)
	if errors.Is(err, io.EOF) {
		return nil, 0, errors.New("it is empty: want a header line")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("header: %w", err)
	}
	var missing []string
	for _, column := range m.columns {
		i := slices.Index(names, column)
		if i < 0 {
			missing = append(missing, fmt.Sprintf("%q", column))
			continue
		}
		if slices.Contains(names[i+1:], column) {
			return nil, 0, fmt.Errorf("header: the column %q is there twice", column)
		}
		positions = append(positions, i)
	}
	if len(missing) > 0 {
		return nil, 0, fmt.Errorf("header: no column %s; there are %q (delimiter %q)", strings.Join(missing, ", "), names, m.comma)
	}
	return positions, len(names), nil
}

// badRecord is why one record can't be used, while the next one may.
type badRecord string

func (e badRecord) Error() string { return string(e) }

// recordReader cuts lines into records: a quoted field may hold line ends.
type recordReader struct {
	lines  *lineReader
	comma  byte
	fields *fieldReader
}

// next returns a record, whose values are valid until the next call, and its fields, width of them unless that is -1.
// The error is a badRecord, io.EOF, or ends the file.
func (r *recordReader) next(width int) (rec record, fields []string, err error) {
	var text []byte
	for quoted := false; ; {
		line, tooLong, err := r.lines.next()
		if err != nil {
			if !errors.Is(err, io.EOF) || text == nil {
				return rec, nil, err
			}
			break // within quotes: the field reader will say so
		}
		if text == nil {
			rec.line = r.lines.line
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
		}
		quoted = inQuotes(line, quoted, r.comma)
		switch {
		case quoted && (tooLong || len(text)+len(line) > maxLine):
			return rec, nil, fmt.Errorf("line %d opens a quote that does not close within 1 MiB", rec.line)
		case tooLong || len(text)+len(line) > maxLine:
			rec.text = string(append(text, line...)[:keptOfLong])
			return rec, nil, badRecord(longLine)
		case !quoted && text == nil:
			text = line
		case text == nil:
			text = append(make([]byte, 0, 2*len(line)), line...)
		default:
			text = append(append(text, '\n'), line...)
		}
		if !quoted {
			break
		}
	}
	rec.text = string(text)
	fields, err = r.fields.split(rec.text)
	switch {
	case err != nil:
		return rec, nil, err
	case !utf8.ValidString(rec.text):
		return rec, nil, badRecord("is not UTF-8")
	case width >= 0 && len(fields) != width:
		return rec, nil, badRecord(fmt.Sprintf("has %d fields, the header has %d", len(fields), width))
	}
	return rec, fields, nil
}

// inQuotes tells whether a line ends within a quoted field. A quote in the wrong place ends the record with its line, as
// it does for encoding/csv, so that the next one can be read.
func inQuotes(line []byte, quoted bool, comma byte) bool {
	if !quoted && bytes.IndexByte(line, '"') < 0 {
		return false
	}
	for rest := line; ; {
		if !quoted && len(rest) > 0 && rest[0] == '"' {
			quoted, rest = true, rest[1:]
		}
		if quoted {
			end := bytes.IndexByte(rest, '"')
			if end < 0 {
				return true
			}
			rest = rest[end+1:]
			if len(rest) > 0 && rest[0] == '"' {
				rest = rest[1:]
				continue
			}
			quoted = false
			if len(rest) == 0 || rest[0] != comma {
				return false
			}
		}
		end := bytes.IndexByte(rest, comma)
		if end < 0 || bytes.IndexByte(rest[:end], '"') >= 0 {
			return false
		}
		rest = rest[end+1:]
	}
}

// fieldReader splits single records, reusing one csv.Reader.
type fieldReader struct {
	text   strings.Reader
	buffer *bufio.Reader
	csv    *csv.Reader
}

func newFieldReader(comma byte) *fieldReader {
	f := &fieldReader{}
	f.buffer = bufio.NewReader(&f.text)
	f.csv = csv.NewReader(f.buffer) // takes a bufio.Reader as it is
	f.csv.Comma, f.csv.FieldsPerRecord, f.csv.ReuseRecord = rune(comma), -1, true
	return f
}

func (f *fieldReader) split(text string) ([]string, error) {
	f.text.Reset(text)
	f.buffer.Reset(&f.text)
	fields, err := f.csv.Read()
	if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
		return nil, badRecord(fmt.Sprintf("is not CSV at byte %d: %v", parse.Column, parse.Err))
	}
	return fields, err
}

// grouping gathers records into groups and closes them in the order of their last records.
type grouping struct {
	m        *Mapping
	rows     *rowDecoder
	name     string
	take     func(*group) bool // gets closed groups; false: nobody wants more
	open     map[string]*list.Element
	order    *list.List // of *openGroup, the one with the oldest last record first
	text     int        // bytes of all open groups
	previous *openGroup // the group of the record before; nil: none
	poison   int        // line of the unreadable record just before; 0: none
}

type openGroup struct {
	group
	key  string
	size int
	last int // number of its last record
}

func (m *Mapping) grouping(name string, take func(*group) bool) *grouping {
	return &grouping{m: m, rows: m.decoder(), name: name, take: take, open: map[string]*list.Element{}, order: list.New()}
}

// add takes one record, or a broken one. An unreadable record may belong to the group before or after it: those are
// refused with it, since a group that lacks a record would have a wrong sum.
func (o *grouping) add(rec record, broken string) (more bool, err error) {
	single := group{records: []record{rec}}
	if broken == "" && o.m.groupBy == nil {
		return o.take(&single), nil
	}
	var key string
	if broken == "" {
		key, err = o.rows.key(rec, o.name)
		if err != nil {
			broken = err.Error()
		}
	}
	if broken != "" {
		single.breaks("%s", broken)
		if o.previous != nil {
			o.previous.breaks("line %d, which may belong to it, can't be read", rec.line)
		}
		o.previous, o.poison = nil, rec.line
		return o.take(&single), nil
	}
	for front := o.order.Front(); front != nil && front.Value.(*openGroup).last < rec.number-o.m.groupWithin; front = o.order.Front() {
		if !o.done(front) {
			return false, nil
		}
	}
	element := o.open[key]
	if element == nil {
		element = o.order.PushBack(&openGroup{key: key})
		o.open[key] = element
	}
	o.order.MoveToBack(element)
	g := element.Value.(*openGroup)
	g.last, o.previous = rec.number, g
	switch {
	case o.poison != 0:
		g.breaks("line %d, which may belong to it, can't be read", o.poison)
	case len(g.records) == maxGroup:
		g.breaks("more than %d records have the key %q", maxGroup, key)
		return true, nil
	}
	o.poison = 0
	g.records = append(g.records, rec)
	g.size += rec.size()
	o.text += rec.size()
	if o.text > maxOpenText {
		return false, fmt.Errorf("groups of more than %d MiB are open: lower group_within (%d)", maxOpenText>>20, o.m.groupWithin)
	}
	return true, nil
}

func (o *grouping) done(element *list.Element) bool {
	g := o.order.Remove(element).(*openGroup)
	delete(o.open, g.key)
	o.text -= g.size
	return o.take(&g.group)
}

// all closes what is open.
func (o *grouping) all() bool {
	for front := o.order.Front(); front != nil; front = o.order.Front() {
		if !o.done(front) {
			return false
		}
	}
	return true
}
