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
	Maturity    vaglio.Instant // age from which a request without a label counts as clean
	// RailMaturity is that of rails that need more; nil: none, or DefaultRailMaturity when Maturity is 0, too.
	RailMaturity map[string]vaglio.Instant
	Progress     func(Progress)
}

// DatasetFormat is the form of a dataset's file.
type DatasetFormat uint8

// The forms of a dataset.
const (
	Parquet DatasetFormat = iota
	CSV
)

// DatasetSize counts the rows of a dataset by what is known of them.
type DatasetSize struct{ Frauds, Clean, Unlabelled, Unsettled int }

// Rows is all of them.
func (s DatasetSize) Rows() int { return s.Frauds + s.Clean + s.Unlabelled + s.Unsettled }

// Shard is one of some parts of equal length of a period, counted from 1.
type Shard struct{ Which, Of int }

// ParseShard reads 2/8.
func ParseShard(text string) (s Shard, err error) {
	n, err := fmt.Sscanf(text, "%d/%d", &s.Which, &s.Of)
	if n != 2 || err != nil || fmt.Sprintf("%d/%d", s.Which, s.Of) != text || s.Which < 1 || s.Which > s.Of || s.Of > 10_000 {
		return s, fmt.Errorf("want a part and a number of parts such as 1/4, not %q", text)
	}
	return s, nil
}

// Part is the shard's part of a period. The parts of a period meet and don't overlap.
func (s Shard) Part(p Period) Period {
	length, of := int64(p.Until-p.From), int64(s.Of)
	at := func(which int64) vaglio.Instant { // without overflow, and at the end exactly
		return p.From + vaglio.Instant(length/of*which+length%of*which/of)
	}
	return Period{at(int64(s.Which) - 1), at(int64(s.Which))}
}

// datasetColumns stand before the features.
var datasetColumns = []parquet.Column{{Name: "request_id", Type: parquet.Text}, {Name: "as_of", Type: parquet.Moment},
	{Name: "customer", Type: parquet.Text}, {Name: "label", Type: parquet.Whole}, {Name: "label_weight", Type: parquet.Number},
	{Name: "fraud_type", Type: parquet.Category}, {Name: "request_channel", Type: parquet.Category},
	{Name: "request_country", Type: parquet.Category}, {Name: "request_rail", Type: parquet.Category}, {Name: "request_type", Type: parquet.Category},
	{Name: "request_reason", Type: parquet.Category}, {Name: "base_amount", Type: parquet.Whole}}

// WriteDataset writes one row for every request of a period, in order of time: its id, its moment, its customer, its label
// (1 fraud, 0 clean, nothing while it is not settled or where evidence says neither: by the rules of [Train]), what it said of
// itself, and its features as of its moment, as training sees them. Numbers that are not known are NaN, in CSV empty;
// categories are their names, unknown ones empty. A Parquet file can be trained on: see [Options].
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
	describes, err := describe(o.Catalogue, o.History.BaseCurrency(), o.Period)
	if err != nil {
		return size, err
	}
	t, err := newTable(format, m, describes, out)
	if err != nil {
		return size, err
	}
	for i := range m.Rows {
		row := &m.Rows[i]
		label := labels.Of(row)
		switch {
		case !row.settled(o.LabelsUntil, maturityOf(o.Maturity, o.RailMaturity)):
			label = Label{}
			size.Unsettled++
		case label.Verdict == Unlabelled:
			size.Unlabelled++
		case label.Verdict == Fraud:
			size.Frauds++
		default:
			if label.Verdict == Silent {
				label = Label{Verdict: Clean, Weight: 1}
			}
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

// class is 1 for fraud and 0 for clean.
func (l Label) class() int64 {
	if l.Verdict == Fraud {
		return 1
	}
	return 0
}

// table takes a dataset row by row.
type table interface {
	write(row *Row, label Label, vector []float64) error
	end() error
}

func newTable(format DatasetFormat, m *Matrix, describes string, out io.Writer) (table, error) {
	columns := slices.Clone(datasetColumns)
	for i, name := range m.Names {
		column := parquet.Column{Name: name, Type: parquet.Number}
		if m.Categorical[i] {
			column.Type = parquet.Category
		}
		columns = append(columns, column)
	}
	if format == Parquet {
		t := &parquetTable{file: parquet.NewWriter(out, columns), features: m.Catalogue.Features()}
		t.file.Describe(matrixKey, describes)
		return t, nil
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

func (t *parquetTable) write(row *Row, label Label, vector []float64) error {
	known, amount, weight := parquet.Nothing(), parquet.Nothing(), math.NaN()
	if label.Verdict == Clean || label.Verdict == Fraud {
		known, weight = parquet.WholeOf(label.class()), label.Weight
	}
	if row.BaseKnown {
		amount = parquet.WholeOf(row.BaseAmount)
	}
	text := parquet.TextOf
	t.cells = append(t.cells[:0], text(row.ID), parquet.MomentOf(row.At), text(row.Customer), known, parquet.NumberOf(weight), text(label.FraudType),
		text(row.Channel), text(row.Country), text(row.Rail), text(row.Type), text(row.Reason), amount)
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

func (t *csvTable) write(row *Row, label Label, vector []float64) error {
	known, weight, amount := "", "", ""
	if label.Verdict == Clean || label.Verdict == Fraud {
		known, weight = strconv.FormatInt(label.class(), 10), strconv.FormatFloat(label.Weight, 'g', -1, 64)
	}
	if row.BaseKnown {
		amount = strconv.FormatInt(row.BaseAmount, 10)
	}
	t.cells = append(t.cells[:0], row.ID, row.At.String(), row.Customer, known, weight, label.FraudType, row.Channel, row.Country, row.Rail,
		row.Type, row.Reason, amount)
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
