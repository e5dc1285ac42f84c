package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/features"
	"vaglio/parquet"
)

// matrixKey names the text beside the rows of a dataset in which it says what it is.
const matrixKey = "vaglio.matrix"

// description is what a dataset says of itself, so that its rows can be trained on.
type description struct {
	Catalogue    string         `json:"catalogue"` // as it was given: with open categories
	BaseCurrency string         `json:"base_currency"`
	From         vaglio.Instant `json:"from"`
	Until        vaglio.Instant `json:"until"`
}

func describe(c *features.Catalogue, baseCurrency string, p Period) (string, error) {
	yaml, err := c.YAML()
	if err != nil {
		return "", fmt.Errorf("write the catalogue: %w", err)
	}
	b, err := json.Marshal(description{string(yaml), baseCurrency, p.From, p.Until})
	return string(b), err
}

// matrixFile is a dataset's file that is trained on.
type matrixFile struct {
	path string
	description
}

// openMatrix reads what files say of themselves. They must have been made with one catalogue, which it returns.
func openMatrix(paths []string, baseCurrency string) ([]matrixFile, *features.Catalogue, error) {
	files := make([]matrixFile, len(paths))
	for i, path := range paths {
		files[i].path = path
		err := withParquet(path, func(f *parquet.File) error {
			text := f.Description(matrixKey)
			if text == "" {
				return errors.New("it was not written by vaglio dataset")
			}
			return json.Unmarshal([]byte(text), &files[i].description)
		})
		if err != nil {
			return nil, nil, fmt.Errorf("matrix %s: %w", path, err)
		}
		switch d := &files[i]; {
		case d.Catalogue != files[0].Catalogue:
			return nil, nil, fmt.Errorf("matrix %s has other features than %s: write both with the same catalogue", path, files[0].path)
		case d.BaseCurrency != baseCurrency:
			return nil, nil, fmt.Errorf("matrix %s has amounts in %s, history in %s", path, d.BaseCurrency, baseCurrency)
		}
	}
	slices.SortFunc(files, func(a, b matrixFile) int { return cmp.Compare(a.From, b.From) })
	catalogue, err := features.Parse([]byte(files[0].Catalogue))
	if err != nil {
		return nil, nil, fmt.Errorf("matrix %s: %w", files[0].path, err)
	}
	return files, catalogue, nil
}

func withParquet(path string, read func(*parquet.File) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f, err := parquet.Open(file, info.Size())
	if err != nil {
		return err
	}
	return read(f)
}

// covered is nil when each moment of a period is in one of the files, and an error that names the gap otherwise.
func covered(files []matrixFile, p Period) error {
	at := p.From
	for i := range files {
		if files[i].From > at {
			break
		}
		at = max(at, files[i].Until)
	}
	if at < p.Until {
		return fmt.Errorf("no file of the matrix has the requests from %v on, up to %v: give all of its parts", at, p.Until)
	}
	return nil
}

// readMatrix is [replay] from files.
func readMatrix(ctx context.Context, files []matrixFile, learnt *learner, p Period, progress func(Progress)) (*Matrix, error) {
	catalogue := learnt.of
	if err := covered(files, p); err != nil {
		return nil, err
	}
	r := &matrixReader{m: &Matrix{Names: catalogue.Names()}, period: p, rows: newRowMaker()}
	for _, f := range catalogue.Features() {
		r.m.Categorical = append(r.m.Categorical, f.Categorical)
		r.categories = append(r.categories, newCategories(&f))
	}
	columns := r.m.Names
	for _, c := range datasetColumns {
		columns = append(columns, c.Name)
	}
	for i := range files {
		if files[i].From >= p.Until || files[i].Until <= p.From {
			continue
		}
		err := withParquet(files[i].path, func(f *parquet.File) error {
			n := 0
			var wrong error
			err := f.Each(columns, func(values []string) bool {
				if n++; n%10_000 == 0 {
					progress(Progress{Step: "read", Done: n, Total: int(f.Rows()), Note: files[i].path})
					wrong = ctx.Err()
				}
				if wrong == nil {
					wrong = r.add(values)
				}
				return wrong == nil
			})
			if wrong != nil {
				return fmt.Errorf("row %d: %w", n, wrong)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("matrix %s: %w", files[i].path, err)
		}
	}
	return r.end(learnt)
}

// matrixReader takes rows of text.
type matrixReader struct {
	m          *Matrix
	period     Period
	rows       *rowMaker
	categories []*categories // by column; nil of numbers
}

// categories are codes of a column's values, in the order in which they came.
type categories struct {
	code   map[string]int
	values []string
	counts []int
}

func newCategories(f *features.Feature) *categories {
	if !f.Categorical {
		return nil
	}
	return &categories{code: map[string]int{}}
}

func (r *matrixReader) add(values []string) error {
	cols := len(r.m.Names)
	own := values[cols:]
	at, err := vaglio.ParseInstant(own[1])
	if err != nil {
		return err
	}
	if at < r.period.From || at >= r.period.Until {
		return nil
	}
	request := vaglio.Fact{Event: vaglio.Event{ID: own[0], OccurredAt: at, Attributes: vaglio.FieldsOf("channel", own[6], "country", own[7],
		"rail", own[8], "type", own[9], "reason", own[10])}}
	if own[2] != "" {
		request.Entities = vaglio.FieldsOf(vaglio.EntityCustomer, own[2])
	}
	if own[11] != "" {
		if request.BaseAmount, err = strconv.ParseInt(own[11], 10, 64); err != nil {
			return err
		}
		request.BaseKnown = true
	}
	r.m.Rows = append(r.m.Rows, r.rows.row(&request))
	for i, text := range values[:cols] {
		c := r.categories[i]
		if c != nil {
			r.m.X = append(r.m.X, float64(c.of(text)))
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", r.m.Names[i], err)
		}
		r.m.X = append(r.m.X, v)
	}
	return nil
}

func (c *categories) of(text string) int {
	if text == "" {
		return -1
	}
	code, known := c.code[text]
	if !known {
		text = strings.Clone(text)
		code = len(c.values)
		c.code[text], c.values, c.counts = code, append(c.values, text), append(c.counts, 0)
	}
	c.counts[code]++
	return code
}

// end sorts the rows, refuses one that comes twice, and gives categories the codes of the catalogue.
func (r *matrixReader) end(learnt *learner) (*Matrix, error) {
	m := r.m
	for i, feature := range learnt.open {
		c := r.categories[feature]
		for code, text := range c.values {
			learnt.counts[i][text] = c.counts[code]
		}
	}
	catalogue, err := learnt.catalogue()
	if err != nil {
		return nil, err
	}
	m.Catalogue = catalogue
	for col, f := range catalogue.Features() {
		c := r.categories[col]
		if c == nil {
			continue
		}
		final := make([]float64, len(c.values))
		for code, text := range c.values {
			final[code] = float64(slices.Index(f.Categories, text))
		}
		for i := range m.Rows {
			if v := &m.vector(i)[col]; *v >= 0 {
				*v = final[int(*v)]
			}
		}
	}
	return m, m.sort()
}

// sort puts the rows in order of (At, ID), in place.
func (m *Matrix) sort() error {
	order := make([]int32, len(m.Rows))
	for i := range order {
		order[i] = int32(i)
	}
	compare := func(a, b int32) int {
		return cmp.Or(cmp.Compare(m.Rows[a].At, m.Rows[b].At), cmp.Compare(m.Rows[a].ID, m.Rows[b].ID))
	}
	slices.SortFunc(order, compare)
	for i := 1; i < len(order); i++ {
		if compare(order[i-1], order[i]) == 0 {
			return fmt.Errorf("request %s is in the matrix twice: give each of its parts once", m.Rows[order[i]].ID)
		}
	}
	held := make([]float64, len(m.Names))
	for start := range order { // along the cycles of the permutation; a place that is done points to itself
		if int(order[start]) == start {
			continue
		}
		row := m.Rows[start]
		copy(held, m.vector(start))
		at := start
		for {
			from := int(order[at])
			order[at] = int32(at)
			if from == start {
				m.Rows[at] = row
				copy(m.vector(at), held)
				break
			}
			m.Rows[at] = m.Rows[from]
			copy(m.vector(at), m.vector(from))
			at = from
		}
	}
	return nil
}
