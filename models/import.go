package models

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// contributionColumn begins the names of golden.csv's columns of contributions.
const contributionColumn = "contribution:"

// ReadGoldenCSV reads vectors with LightGBM's own answers, for a model that was trained elsewhere. The header names, in any
// order, every feature of the model once, "raw" (LightGBM's raw score) and, all of them or none, "base" and
// "contribution:FEATURE" for every feature (LightGBM's pred_contrib, whose last column is the base). An empty cell is a
// missing value; categories are their codes, -1 for an unknown one. Without contributions only scores are compared.
func ReadGoldenCSV(r io.Reader, names []string) ([]Golden, error) {
	columns := append(slices.Clone(names), "raw")
	optional := []string{"base"}
	for _, name := range names {
		optional = append(optional, contributionColumn+name)
	}
	var golden []Golden
	err := readCSV(r, columns, optional, maxGolden, func(value func(string) (float64, error), explained bool) error {
		read := func(names []string, prefix string) ([]float64, error) {
			values := make([]float64, len(names))
			for i, name := range names {
				var err error
				if values[i], err = value(prefix + name); err != nil {
					return nil, err
				}
			}
			return values, nil
		}
		vector, err := read(names, "")
		if err != nil {
			return err
		}
		raw, err := value("raw")
		if err != nil {
			return err
		}
		if !isFinite(raw) {
			return fmt.Errorf("raw is %v", raw)
		}
		if !explained {
			golden = append(golden, Golden{Vector: numbers(vector), Raw: Number(raw)})
			return nil
		}
		contributions, err := read(names, contributionColumn)
		if err != nil {
			return err
		}
		base, err := value("base")
		golden = append(golden, NewGolden(vector, raw, append(contributions, base)))
		return err
	})
	return golden, err
}

// maxScores bounds the rows that a calibration is fitted on.
const maxScores = 5_000_000

// ReadScoresCSV reads raw scores with labels to calibrate on: columns log_odds and label (1 fraud, 0 not), in any order.
func ReadScoresCSV(r io.Reader) (logOdds []float64, fraud []bool, err error) {
	err = readCSV(r, []string{"log_odds", "label"}, nil, maxScores, func(value func(string) (float64, error), _ bool) error {
		score, err := value("log_odds")
		if err != nil {
			return err
		}
		label, err := value("label")
		if err != nil {
			return err
		}
		if label != 0 && label != 1 {
			return fmt.Errorf("label %v is neither 0 nor 1", label)
		}
		logOdds, fraud = append(logOdds, score), append(fraud, label == 1)
		return nil
	})
	return logOdds, fraud, err
}

// Uncalibrated takes the model's own probability as it is, and percentiles among these scores, of which there must be two.
func Uncalibrated(logOdds []float64) Calibration {
	c := Calibration{Method: MethodPlatt, Slope: 1}
	c.setPercentiles(logOdds)
	return c
}

// readCSV reads numbers: all the columns, and all or none of the optional ones. Errors name the line.
func readCSV(r io.Reader, columns, optional []string, most int, row func(value func(column string) (float64, error), whole bool) error) error {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	header, err := in.Read()
	if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	at := map[string]int{}
	for i, name := range header {
		name = strings.TrimPrefix(name, "\ufeff")
		if _, twice := at[name]; twice || !slices.Contains(columns, name) && !slices.Contains(optional, name) {
			return fmt.Errorf("line 1: column %q is given twice or means nothing here", name)
		}
		at[name] = i
	}
	whole := len(at) > len(columns)
	if whole {
		columns = append(columns, optional...)
	}
	for _, name := range columns {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("line 1: there is no column %q", name)
		}
	}
	var record []string
	value := func(column string) (float64, error) {
		cell := record[at[column]]
		if cell == "" {
			return math.NaN(), nil
		}
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil {
			return 0, fmt.Errorf("%s is %.40q", column, cell)
		}
		return v, nil
	}
	for n := 0; ; n++ {
		if record, err = in.Read(); errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := in.FieldPos(0)
		if n == most {
			return fmt.Errorf("line %d: more than %d rows", line, most)
		}
		if err := row(value, whole); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}
