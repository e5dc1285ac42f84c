// Package parquet writes tables to Parquet files, the form in which notebooks and data lakes read them, and reads those of
// others as rows of text. [Writer] takes rows one at a time; [File], in read.go, gives them back column by column.
package parquet

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"vaglio"
)

// Type is what a column of a written table holds.
type Type uint8

// The types of columns. All but Number may hold nothing; a number that is not known is NaN.
const (
	Text     Type = iota
	Category      // text of few different values, kept in a dictionary
	Moment        // UTC milliseconds
	Whole         // 64 bits
	Number        // float64
)

// Column is one column of a table to write.
type Column struct {
	Name string
	Type Type
}

// Value is one cell.
type Value = parquet.Value

// TextOf is a cell of Text or Category, "" for nothing.
func TextOf(s string) Value {
	if s == "" {
		return Value{}
	}
	return parquet.ByteArrayValue([]byte(s))
}

// MomentOf is a cell of Moment.
func MomentOf(at vaglio.Instant) Value { return parquet.Int64Value(int64(at)) }

// WholeOf is a cell of Whole.
func WholeOf(n int64) Value { return parquet.Int64Value(n) }

// NumberOf is a cell of Number.
func NumberOf(v float64) Value { return parquet.DoubleValue(v) }

// Nothing is an empty cell of any type but Number.
func Nothing() Value { return Value{} }

// groupRows is how many rows stand together in the file, and with them how much of it is in memory while it is written.
const groupRows = 64 << 10

// Writer writes one table. Not for concurrent use.
type Writer struct {
	columns []Column
	file    *parquet.Writer //nolint:staticcheck // its successor wants a Go struct; our columns are known at run time only
	cells   []Value
	rows    []parquet.Row // of cells
}

// NewWriter begins a table. The file is complete when Close has returned nil; out stays open.
func NewWriter(out io.Writer, columns []Column) *Writer {
	nodes := parquet.Group{}
	for _, c := range columns {
		nodes[c.Name] = c.node()
	}
	schema := parquet.NewSchema("table", ordered{nodes, columns})
	return &Writer{columns: columns, file: parquet.NewWriter(out, schema, parquet.MaxRowsPerRowGroup(groupRows),
		parquet.Compression(&zstd.Codec{}), parquet.CreatedBy("vaglio", vaglio.Version, ""))}
}

// Describe puts a text beside the rows, under a key: see [File.Description].
func (w *Writer) Describe(key, text string) { w.file.SetKeyValueMetadata(key, text) }

func (c Column) node() parquet.Node {
	switch c.Type {
	case Category:
		return parquet.Optional(parquet.Encoded(parquet.String(), &parquet.RLEDictionary))
	case Moment:
		return parquet.Optional(parquet.Timestamp(parquet.Millisecond))
	case Whole:
		return parquet.Optional(parquet.Int(64))
	case Number:
		return parquet.Leaf(parquet.DoubleType)
	default:
		return parquet.Optional(parquet.String())
	}
}

// Write adds one row, with a cell for each column.
func (w *Writer) Write(cells []Value) error {
	if len(cells) != len(w.columns) {
		return fmt.Errorf("write a row of %d cells to %d columns", len(cells), len(w.columns))
	}
	for i, cell := range cells {
		level := 1
		if cell.IsNull() || w.columns[i].Type == Number {
			level = 0
		}
		w.cells = append(w.cells, cell.Level(0, level, i))
	}
	if len(w.cells) < 1024*len(w.columns) {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	w.rows = w.rows[:0]
	for row := range slices.Chunk(w.cells, len(w.columns)) {
		w.rows = append(w.rows, row)
	}
	w.cells = w.cells[:0]
	if _, err := w.file.WriteRows(w.rows); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// Close writes what is left and the end of the file.
func (w *Writer) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// ordered is a group whose fields keep the order of the columns; the library's own sorts them by name.
type ordered struct {
	parquet.Group
	columns []Column
}

// Fields implements parquet.Node.
func (o ordered) Fields() []parquet.Field {
	fields := o.Group.Fields()
	place := make(map[string]int, len(o.columns))
	for i, c := range o.columns {
		place[c.Name] = i
	}
	slices.SortFunc(fields, func(a, b parquet.Field) int { return cmp.Compare(place[a.Name()], place[b.Name()]) })
	return fields
}
