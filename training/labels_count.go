package training

import (
	"cmp"
	"slices"
)

// LabelCount is what the labels of one source, and one class, are among labelled requests.
type LabelCount struct {
	Source   string  `json:"source"` // see [LabelSource]
	Label    string  `json:"label"`  // fraud or clean
	Requests int     `json:"requests"`
	Share    float64 `json:"share"`  // of all requests
	Weight   float64 `json:"weight"` // mean of the labels' weights, without regard to propensity
	Amount   int64   `json:"amount"` // minor units of the base currency; requests without a rate count in no sum
}

// countLabels tells frauds first, and of either class the most frequent source first.
func countLabels(rows []Row) []LabelCount {
	out := []LabelCount{}
	for _, class := range []struct {
		name  string
		fraud bool
	}{{"fraud", true}, {"clean", false}} {
		counts := make([]LabelCount, len(labelSources))
		for i := range rows {
			row := &rows[i]
			if row.Fraud != class.fraud {
				continue
			}
			c := &counts[row.Source]
			c.Source, c.Label = row.Source.String(), class.name
			c.Requests++
			c.Share += 1 / float64(len(rows))
			c.Weight += row.Weight
			if row.BaseKnown {
				c.Amount += row.BaseAmount
			}
		}
		counts = slices.DeleteFunc(counts, func(c LabelCount) bool { return c.Requests == 0 })
		slices.SortStableFunc(counts, func(a, b LabelCount) int { return cmp.Compare(b.Requests, a.Requests) })
		for i := range counts {
			counts[i].Weight /= float64(counts[i].Requests)
		}
		out = append(out, counts...)
	}
	return out
}

// reviewersShare is the share of the frauds that reviewers' denials say; nothing else has shown them. NaN without frauds.
func reviewersShare(counts []LabelCount) float64 {
	reviewed, all := 0, 0
	for _, c := range counts {
		if c.Label == "fraud" {
			all += c.Requests
			if c.Source == FromReview.String() {
				reviewed += c.Requests
			}
		}
	}
	return float64(reviewed) / float64(all)
}
