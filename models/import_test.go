package models_test

import (
	"bytes"
	"encoding/csv"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vaglio/models"
)

// goldenCSV is a golden file as a notebook writes it.
func goldenCSV(t *testing.T, explained bool) string {
	t.Helper()
	result, x := train(t, "small"), odd(60, 3)
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	header := append([]string{"raw"}, columns...)
	if explained {
		header = append(header, "base")
		for _, name := range columns {
			header = append(header, "contribution:"+name)
		}
	}
	text := func(v float64) string {
		if math.IsNaN(v) {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	rows := [][]string{header}
	for i, raw := range result.GoldenRaw {
		row := []string{text(raw)}
		for _, v := range x[i*len(columns) : (i+1)*len(columns)] {
			row = append(row, text(v))
		}
		if explained {
			contributions := result.GoldenContributions[i]
			row = append(row, text(contributions[len(columns)]))
			for _, v := range contributions[:len(columns)] {
				row = append(row, text(v))
			}
		}
		rows = append(rows, row)
	}
	if err := out.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAModelTrainedElsewhereGoesThroughTheSameGate(t *testing.T) {
	write := func(csv string) error {
		t.Helper()
		c := contents(t, "small", "v1")
		golden, err := models.ReadGoldenCSV(strings.NewReader(csv), columns)
		if err != nil {
			return err
		}
		c.Golden, c.Calibration = golden, models.Uncalibrated([]float64{-3, -1, 0})
		return models.Write(filepath.Join(t.TempDir(), "v1"), c)
	}
	for _, explained := range []bool{true, false} {
		if err := write(goldenCSV(t, explained)); err != nil {
			t.Errorf("contributions %v: %v", explained, err)
		}
	}
	refused := func(want, old, replacement string, line int) {
		t.Helper()
		lines := strings.SplitAfter(goldenCSV(t, true), "\n")
		lines[line] = strings.Replace(lines[line], old, replacement, 1)
		if err := write(strings.Join(lines, "")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q for %q: got %v, want an error with %q", replacement, old, err, want)
		}
	}
	raw := func(line int) string {
		value, _, _ := strings.Cut(strings.Split(goldenCSV(t, true), "\n")[line], ",")
		return value
	}
	refused("row 2: leaves scores", raw(3), raw(3)+"1", 3)
	refused(`line 1: there is no column "raw"`, "raw,", "", 0)
	refused(`line 1: column "rew" is given twice or means nothing here`, "raw,", "rew,", 0)
	refused(`line 1: column "amount" is given twice`, "count", "amount", 0)
	refused(`line 1: there is no column "contribution:noise"`, ",contribution:noise", "", 0)
	refused(`line 4: raw is "x"`, raw(3), "x", 3)
	refused("line 4: raw is NaN", raw(3), "", 3)
	refused("wrong number of fields", raw(3)+",", "", 3)
	if _, err := models.ReadGoldenCSV(strings.NewReader(""), columns); err == nil {
		t.Error("an empty file was read")
	}
}

func TestScoresToCalibrateOn(t *testing.T) {
	logOdds, fraud, err := models.ReadScoresCSV(strings.NewReader("label,log_odds\n0,-1.5\n1,2\n"))
	if err != nil || len(logOdds) != 2 || logOdds[0] != -1.5 || fraud[0] || !fraud[1] {
		t.Errorf("%v %v %v", logOdds, fraud, err)
	}
	for text, want := range map[string]string{"log_odds,label\n1,2\n": "line 2: label 2", "log_odds,label\nx,1\n": `line 2: log_odds is "x"`,
		"log_odds\n1\n": `there is no column "label"`} {
		if _, _, err := models.ReadScoresCSV(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
}
