package parquet

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// File is a Parquet file to read. Not for concurrent use.
type File struct {
	file    *parquet.File
	leaves  []parquet.LeafColumn
	columns []string
}

// maxScale bounds the decimals of a number; the widest type in use has 76 digits.
const maxScale = 100

// Open reads the footer of a file.
func Open(r io.ReaderAt, size int64) (f *File, err error) {
	defer recovered(&err)
	file, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("read Parquet: %w", err)
	}
	f = &File{file: file}
	for _, path := range file.Schema().Columns() {
		leaf, ok := file.Schema().Lookup(path...)
		if l := leaf.Node.Type().LogicalType(); l != nil && l.Decimal != nil && (l.Decimal.Scale < 0 || l.Decimal.Scale > maxScale) {
			return nil, fmt.Errorf("read Parquet: column %s has %d decimals", strings.Join(path, "."), l.Decimal.Scale)
		}
		if ok && leaf.MaxRepetitionLevel == 0 {
			f.leaves = append(f.leaves, leaf)
			f.columns = append(f.columns, strings.Join(path, "."))
		}
	}
	return f, nil
}

// Columns names the columns of single values; those within structures have their path, joined by dots. Lists and maps
// are left out.
func (f *File) Columns() []string { return f.columns }

// Rows is how many rows the file says that it has.
func (f *File) Rows() int64 { return f.file.NumRows() }

// Description is the text that stands beside the rows under a key, "" if there is none.
func (f *File) Description(key string) string {
	text, _ := f.file.Lookup(key)
	return text
}

// Each reads some columns, row by row, until visit answers false. The values are text in one form whatever the types:
// times in RFC 3339, those without a time zone without it; dates as 2006-01-02; decimals with all their digits;
// floating-point numbers as the shortest that reads back, without an exponent; true and false; nothing as "". The slice is
// the next row's too. Damaged files are errors.
func (f *File) Each(columns []string, visit func(values []string) bool) (err error) {
	defer recovered(&err)
	readers := make([]columnReader, len(columns))
	for i, name := range columns {
		at := slices.Index(f.columns, name)
		if at < 0 {
			return fmt.Errorf("read Parquet: no column %q", name)
		}
		readers[i] = columnReader{leaf: f.leaves[at], text: textOf(f.leaves[at].Node.Type())}
	}
	values := make([]string, len(columns))
	for _, group := range f.file.RowGroups() {
		for i := range readers {
			readers[i].open(group)
		}
		more, err := eachOf(group, readers, values, visit)
		for i := range readers {
			err = errors.Join(err, readers[i].pages.Close())
		}
		if err != nil {
			return fmt.Errorf("read Parquet: %w", err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

func eachOf(group parquet.RowGroup, readers []columnReader, values []string, visit func([]string) bool) (more bool, err error) {
	for range group.NumRows() {
		for i := range readers {
			if values[i], err = readers[i].next(); err != nil {
				return false, fmt.Errorf("column %s: %w", strings.Join(readers[i].leaf.Path, "."), err)
			}
		}
		if !visit(values) {
			return false, nil
		}
	}
	return true, nil
}

// recovered makes an error of a panic: the library trusts what a file says about itself.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("read Parquet: the file is damaged: %v", r)
	}
}

// columnReader reads one column of one row group after another.
type columnReader struct {
	leaf   parquet.LeafColumn
	text   func(parquet.Value) string
	pages  parquet.Pages
	page   parquet.ValueReader
	buffer [512]parquet.Value
	ready  []parquet.Value // of the buffer
}

func (c *columnReader) open(group parquet.RowGroup) {
	c.pages, c.page, c.ready = group.ColumnChunks()[c.leaf.ColumnIndex].Pages(), nil, nil
}

// next gives the value of the next row. A file whose column ends early is damaged.
func (c *columnReader) next() (string, error) {
	for len(c.ready) == 0 {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return "", notEOF(err)
			}
			c.page = page.Values()
		}
		n, err := c.page.ReadValues(c.buffer[:])
		c.ready = c.buffer[:n]
		switch {
		case errors.Is(err, io.EOF):
			c.page = nil
		case err != nil:
			return "", err
		case n == 0:
			return "", io.ErrNoProgress
		}
	}
	v := c.ready[0]
	c.ready = c.ready[1:]
	if v.IsNull() {
		return "", nil
	}
	return c.text(v), nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// textOf tells how values of a type are written.
func textOf(t parquet.Type) func(parquet.Value) string {
	logical := t.LogicalType()
	if logical == nil {
		logical = &format.LogicalType{}
	}
	kind := t.Kind()
	switch {
	case logical.Decimal != nil:
		return func(v parquet.Value) string { return decimal(v, int(logical.Decimal.Scale)) }
	case logical.Timestamp != nil:
		layout := "2006-01-02T15:04:05.999999999"
		if logical.Timestamp.IsAdjustedToUTC {
			layout += "Z"
		}
		return func(v parquet.Value) string {
			return timeIn(v.Int64(), logical.Timestamp.Unit).Format(layout)
		}
	case logical.Date != nil:
		return func(v parquet.Value) string { return time.Unix(int64(v.Int32())*86400, 0).UTC().Format(time.DateOnly) }
	case logical.Time != nil && kind == parquet.Int32:
		return func(v parquet.Value) string {
			return timeIn(int64(v.Int32()), logical.Time.Unit).Format("15:04:05.999999999")
		}
	case logical.Time != nil:
		return func(v parquet.Value) string {
			return timeIn(v.Int64(), logical.Time.Unit).Format("15:04:05.999999999")
		}
	case logical.UUID != nil:
		return func(v parquet.Value) string {
			b := v.ByteArray()
			return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		}
	}
	unsigned := logical.Integer != nil && !logical.Integer.IsSigned
	switch kind {
	case parquet.Boolean:
		return func(v parquet.Value) string { return strconv.FormatBool(v.Boolean()) }
	case parquet.Int32:
		return func(v parquet.Value) string {
			if unsigned {
				return strconv.FormatUint(uint64(v.Uint32()), 10)
			}
			return strconv.FormatInt(int64(v.Int32()), 10)
		}
	case parquet.Int64:
		return func(v parquet.Value) string {
			if unsigned {
				return strconv.FormatUint(v.Uint64(), 10)
			}
			return strconv.FormatInt(v.Int64(), 10)
		}
	case parquet.Int96: // nanoseconds of a day, then the Julian day: https://parquet.apache.org/docs/file-format/types/
		return func(v parquet.Value) string {
			words := v.Int96()
			nanoseconds := int64(uint64(words[1])<<32 | uint64(words[0]))
			return time.Unix((int64(words[2])-2440588)*86400, nanoseconds).UTC().Format("2006-01-02T15:04:05.999999999")
		}
	case parquet.Float:
		return func(v parquet.Value) string { return strconv.FormatFloat(float64(v.Float()), 'f', -1, 32) }
	case parquet.Double:
		return func(v parquet.Value) string { return strconv.FormatFloat(v.Double(), 'f', -1, 64) }
	default:
		return func(v parquet.Value) string { return string(v.ByteArray()) }
	}
}

func timeIn(n int64, unit format.TimeUnit) time.Time {
	switch {
	case unit.Millis != nil:
		return time.UnixMilli(n).UTC()
	case unit.Micros != nil:
		return time.UnixMicro(n).UTC()
	default:
		return time.Unix(0, n).UTC()
	}
}

// decimal writes an unscaled number, which is an integer or the bytes of one in two's complement, the highest first.
func decimal(v parquet.Value, scale int) string {
	var n big.Int
	switch v.Kind() {
	case parquet.Int32:
		n.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		n.SetInt64(v.Int64())
	default:
		b := v.ByteArray()
		n.SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			n.Sub(&n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	digits := new(big.Int).Abs(&n).String()
	if scale > 0 {
		if short := scale + 1 - len(digits); short > 0 {
			digits = strings.Repeat("0", short) + digits
		}
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if n.Sign() < 0 {
		return "-" + digits
	}
	return digits
}
