package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"vaglio/simulate"
	"vaglio/training"
)

// foundPattern is how much of a simulated pattern is among the requests of highest probability.
type foundPattern struct {
	Pattern  string  `json:"pattern"`
	Requests int     `json:"requests"`
	Found    int     `json:"found"`
	Recall   float64 `json:"recall"`
}

// truthShare are the requests of highest probability among which patterns are looked for: what a team of reviewers could do.
const truthShare = 0.03

// readTruth reads the patterns by request that `vaglio simulate --truth` wrote. Honest requests are of their look-alike, if any.
func readTruth(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := csv.NewReader(file)
	header, err := in.Read()
	if err != nil || strings.Join(header, ",")+"\n" != simulate.TruthHeader {
		return nil, errors.Join(err, fmt.Errorf("%s was not written by vaglio simulate --truth", path))
	}
	patterns := map[string]string{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return patterns, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		patterns[row[0]] = row[2]
		if row[4] != "" {
			patterns[row[0]] = row[2] + ", " + row[4]
		}
	}
}

// findPatterns counts patterns, all and those among the requests of highest probability; of equal ones the first id.
func findPatterns(patterns map[string]string, predictions []training.Prediction) []foundPattern {
	sorted := slices.SortedFunc(slices.Values(predictions), func(a, b training.Prediction) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(a.RequestID, b.RequestID))
	})
	by := map[string]*foundPattern{}
	for i, p := range sorted {
		name, known := patterns[p.RequestID]
		if !known {
			name = "not simulated"
		}
		if by[name] == nil {
			by[name] = &foundPattern{Pattern: name}
		}
		by[name].Requests++
		if float64(i) < truthShare*float64(len(sorted)) {
			by[name].Found++
		}
	}
	var out []foundPattern
	for _, name := range slices.Sorted(maps.Keys(by)) {
		f := by[name]
		f.Recall = float64(f.Found) / float64(f.Requests)
		out = append(out, *f)
	}
	return out
}

func printPatterns(out io.Writer, found []foundPattern) {
	var rows [][]string
	for _, f := range found {
		rows = append(rows, []string{f.Pattern, strconv.Itoa(f.Requests), strconv.Itoa(f.Found), metricText(f.Recall, true)})
	}
	fmt.Fprintf(out, "\nSimulated patterns, labelled or not, among the %g %% of requests of highest probability\n", 100*truthShare)
	table(out, []string{"PATTERN", "REQUESTS", "FOUND", "SHARE"}, rows, nil)
}
