package training

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/parquet"
)

// DatasetOptions say what a dataset holds.
type DatasetOptions struct {
	History   *history.Store
	Catalogue *features.Catalogue
	Period
	LabelsUntil vaglio.Instant // labels learned later are not used
	Maturity    vaglio.Instant
	Progress    func(Progress)
}

// DatasetFormat is the form of a dataset's file.
type DatasetFormat uint8

// The forms of a dataset.
const (
	Parquet DatasetFormat = iota
	CSV
)

// DatasetSize counts the rows of a dataset by what is known of them.
type DatasetSize struct{ Frauds, Clean, Unsettled int }

// Rows is all of them.
func (s DatasetSize) Rows() int { return s.Frauds + s.Clean + s.Unsettled }

// datasetColumns stand before the features.
var datasetColumns = []parquet.Column{{Name: "request_id", Type: parquet.Text}, {Name: "as_of", Type: parquet.Moment},
	{Name: "customer", Type: parquet.Text}, {Name: "label", Type: parquet.Whole}}

// WriteDataset writes one row for every request of a period, in order of time: its id, its moment, its customer, its label
// (1 fraud, 0 clean, nothing while it is not settled: by the rules of [Train]) and its features as of its moment, as training
// sees them. Numbers that are not known are NaN, in CSV empty; categories are their names, unknown ones empty.
func WriteDataset(ctx context.Context, o DatasetOptions, format DatasetFormat, out io.Writer) (size DatasetSize, err error) {
	if err := o.check("dataset's"); err != nil {
		return size, err
	}
	for _, column := range datasetColumns {
		if slices.Contains(o.Catalogue.Names(), column.Name) {
			return size, fmt.Errorf("the feature %s has the name of a column that each dataset has", column.Name)
		}
	}
	labels, err := ReadLabels(ctx, o.History, o.From, o.LabelsUntil)
	if err != nil {
		return size, err
	}
	m, err := Replay(ctx, o.History, o.Catalogue, o.Period, o.Progress)
	if err != nil {
		return size, err
	}
	t, err := newTable(format, m, out)
	if err != nil {
		return size, err
	}
	for i := range m.Rows {
		row := &m.Rows[i]
		label := unsettled
		switch {
		case !row.settled(o.LabelsUntil, o.Maturity):
			size.Unsettled++
		case labels[row.ID]:
			label = fraud
			size.Frauds++
		default:
			label = clean
			size.Clean++
		}
		if err := t.write(row, label, m.vector(i)); err != nil {
			return size, err
		}
		if i%10_000 == 0 {
			if err := ctx.Err(); err != nil {
				return size, err
			}
			o.Progress(Progress{Step: "write", Done: i, Total: len(m.Rows)})
		}
	}
	return size, t.end()
}

// rowLabel is what is known of a request.
type rowLabel int8

const (
	unsettled rowLabel = iota - 1
	clean
	fraud
)

// table takes a dataset row by row.
type table interface {
	write(row *Row, label rowLabel, vector []float64) error
	end() error
}

func newTable(format DatasetFormat, m *Matrix, out io.Writer) (table, error) {
	columns := slices.Clone(datasetColumns)
	for i, name := range m.Names {
		column := parquet.Column{Name: name, Type: parquet.Number}
		if m.Categorical[i] {
			column.Type = parquet.Category
		}
		columns = append(columns, column)
	}
	if format == Parquet {
		return &parquetTable{file: parquet.NewWriter(out, columns), features: m.Catalogue.Features()}, nil
	}
	t := &csvTable{out: csv.NewWriter(out), features: m.Catalogue.Features()}
	for i := range columns {
		t.cells = append(t.cells, columns[i].Name)
	}
	return t, t.out.Write(t.cells)
}

type parquetTable struct {
	file     *parquet.Writer
	features []features.Feature
	cells    []parquet.Value
}

func (t *parquetTable) write(row *Row, label rowLabel, vector []float64) error {
	known := parquet.Nothing()
	if label != unsettled {
		known = parquet.WholeOf(int64(label))
	}
	t.cells = append(t.cells[:0], parquet.TextOf(row.ID), parquet.MomentOf(row.At), parquet.TextOf(row.Customer), known)
	for i, v := range vector {
		if f := &t.features[i]; f.Categorical {
			t.cells = append(t.cells, parquet.TextOf(f.Category(v)))
		} else {
			t.cells = append(t.cells, parquet.NumberOf(v))
		}
	}
	return t.file.Write(t.cells)
}

func (t *parquetTable) end() error { return t.file.Close() }

type csvTable struct {
	out      *csv.Writer
	features []features.Feature
	cells    []string
}

func (t *csvTable) write(row *Row, label rowLabel, vector []float64) error {
	known := ""
	if label != unsettled {
		known = strconv.Itoa(int(label))
	}
	t.cells = append(t.cells[:0], row.ID, row.At.String(), row.Customer, known)
	for i, v := range vector {
		cell := ""
		switch f := &t.features[i]; {
		case f.Categorical:
			cell = f.Category(v)
		case !math.IsNaN(v):
			cell = strconv.FormatFloat(v, 'g', -1, 64)
		}
		t.cells = append(t.cells, cell)
	}
	return t.out.Write(t.cells)
}

func (t *csvTable) end() error {
	t.out.Flush()
	return t.out.Error()
}
