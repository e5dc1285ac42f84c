// Package report writes what is to be known of a model as one HTML file that needs nothing else: no script, no font, no
// address. [Write] is all of it; page.html is the page, pictures.go and beeswarm.go draw with gonum/plot, theme.go makes its
// SVGs follow light and dark. The package measures nothing: package training fills the [Input].
package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"vaglio"
)

// Input is what a report shows. What is empty, or a nil pointer, is left out or said to be missing; NaN counts as missing.
type Input struct {
	Name, Version, SHA256 string
	CreatedAt             vaglio.Instant
	Currency              string // of all money, which is in minor units
	Windows               []Window
	Settings              []Setting
	Labels                []LabelCount
	ReviewersShare        float64 // of the frauds, that only reviewers' decisions say

	Metrics     []Metric
	Bootstrap   string  // how intervals were made
	Curves      []Curve // the model's first
	Calibration Calibration
	Scores      []Score
	Thresholds  []Mark // probabilities
	Verdicts    []Verdict
	FraudTypes  []FraudType
	Segments    []Segment
	TooFew      string // what a segment must hold to have numbers
	Comparisons []Comparison
	Costs       *Costs
	Exploration string // what was let through to learn from it, in a sentence; "" without

	Features []Feature // by falling importance
	Swarm    *Swarm
	Groups   [][]string // features that say the same
	Drift    []Drift
	DriftOf  string // what is compared with what
}

// Window is a period of labelled requests with its part in the training.
type Window struct {
	Name         string
	From, Until  vaglio.Instant
	Rows, Frauds int
}

// Setting is a parameter, seed or version.
type Setting struct{ Name, Value string }

// LabelCount is what the labels of one source and class are among the judged requests.
type LabelCount struct {
	Source, Label string // for people; fraud or clean
	Requests      int
	Share, Weight float64 // of all requests; of each label, in the mean
	Amount        int64
}

// Metric is a measured number with its interval; nil ends are not known.
type Metric struct {
	Name      string // for people
	Meaning   string // in a sentence
	Value     float64
	Low, High *float64
	Share     bool // shown in per cent
	Key       bool // among the few at the top of the page
}

// Curve is what thresholds of one way of deciding do, from the strictest to the loosest.
type Curve struct {
	Name   string
	Points []Operating
	Marks  []Operating // with names
}

// Operating is one threshold, with a name where it is marked.
type Operating struct {
	Name                                 string
	Recall, FalsePositiveRate, Precision float64
}

// Calibration compares probabilities with what happened.
type Calibration struct {
	Bins  []Bin
	Error float64 // expected calibration error
}

// Bin are requests of neighbouring probability.
type Bin struct{ Weight, Probability, Fraud float64 }

// Score is one request's probability.
type Score struct {
	Probability float64
	Fraud       bool
}

// Verdict is what gets one verdict by the thresholds.
type Verdict struct {
	Name                string
	Threshold           string // the probabilities that lead to it
	Requests, Frauds    int
	Amount, FraudAmount int64
}

// FraudType is how much of a kind of fraud is found, in shares.
type FraudType struct {
	Name                          string
	Frauds                        int
	Denied, Stopped, RecallAt1FPR float64
}

// Segment is a part of the requests; TooFew to have numbers.
type Segment struct {
	By, Value                           string
	Rows, Frauds                        int
	ROCAUC, AveragePrecision, RecallAt1 Value
	TooFew                              bool
}

// Value is a number with its interval; NaN is not measured.
type Value struct{ Value, Low, High float64 }

// Comparison is with another way of deciding, on the same requests.
type Comparison struct {
	With        string
	Differences []Difference
}

// Difference is model − other.
type Difference struct {
	Metric              string
	Share               bool
	Model, Other        float64
	Difference, Low     float64
	High                float64
	Better, Worse, Load bool // Better or Worse: beyond noise
}

// Costs are curves of expected cost against a threshold.
type Costs struct {
	X, Y    string // the axes
	Curves  []Line
	Marks   []Mark // thresholds in use or recommended
	Reading string // one sentence
}

// Line is a named line.
type Line struct {
	Name   string
	Points []Point
}

// Point is a place in a picture.
type Point struct{ X, Y float64 }

// Mark is a place on the x axis.
type Mark struct {
	Name string
	X    float64
}

// Feature is what the model makes of one.
type Feature struct {
	Name           string
	Contribution   float64 // mean of |contribution| in log-odds
	Gain           float64
	Splits         int
	Share          float64 // of all contributions
	RecyclesPolicy bool
	MadeOf         string // of which it recycles policy
}

// Swarm is the contributions of a sample of requests: by row, then by feature, as Features lists them.
type Swarm struct {
	Features      []string
	Categorical   []bool
	Values        [][]float64 // NaN is missing
	Contributions [][]float64
}

// Drift is how much a feature's distribution moved: the population stability index.
type Drift struct {
	Feature                 string
	PSI                     float64
	MissingBefore, Missing  float64 // shares
	MedianBefore, MedianNow string
}

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": count, "number": number, "share": share, "metric": metric, "between": between, "date": date, "part": part, "portion": portion,
	"money": func(int64) string { return "" }, "signed": signed, "join": strings.Join, "recycled": recycled, "drifted": drifted, "steady": steady,
	"add": func(a, b int) int { return a + b }, "weight": func(w float64) string { return strconv.FormatFloat(w, 'f', 2, 64) },
}).Parse(pageHTML))

// view is the input with its pictures drawn.
type view struct {
	*Input
	Pictures map[string]*picture
	Key      []Metric
}

// Write writes the page. The same input gives the same bytes.
func Write(w io.Writer, in *Input) error {
	v := view{Input: in, Pictures: map[string]*picture{}}
	for _, m := range in.Metrics {
		if m.Key {
			v.Key = append(v.Key, m)
		}
	}
	for _, p := range pictures {
		drawn, err := p.draw(in)
		if err != nil {
			return fmt.Errorf("draw %s: %w", p.name, err)
		}
		if drawn != nil {
			v.Pictures[p.name] = drawn
		}
	}
	ofCurrency, err := page.Clone()
	if err != nil {
		return err
	}
	return ofCurrency.Funcs(template.FuncMap{"money": func(minor int64) string { return money(minor, in.Currency) }}).Execute(w, v)
}

const missing = "–"

func count(n int) string { return grouped(strconv.Itoa(n)) }

// grouped puts commas between thousands, as the texts of reasons do.
func grouped(digits string) string {
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return missing
	case size >= 1000:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size != 0 && size < 0.001:
		return strconv.FormatFloat(v, 'g', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}

func share(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return missing
	}
	digits := 1
	if v != 0 && math.Abs(v) < 0.001 {
		digits = 2
	}
	return strconv.FormatFloat(100*v, 'f', digits, 64) + "\u202f%"
}

func metric(v float64, isShare bool) string {
	if isShare {
		return share(v)
	}
	return number(v)
}

func between(low, high *float64, isShare bool) string {
	if low == nil || high == nil {
		return ""
	}
	return metric(*low, isShare) + " to " + metric(*high, isShare)
}

// signed writes a difference; that of shares is in percentage points.
func signed(v float64, isShare bool) string {
	text := strings.Replace(metric(v, isShare), "-", "−", 1)
	if isShare {
		text = strings.TrimSuffix(text, "%") + "pp"
	}
	if v > 0 {
		text = "+" + text
	}
	return text
}

func part(a, b int) string {
	if b == 0 {
		return missing
	}
	return portion(float64(a) / float64(b))
}

// portion writes a share of requests with one digit: what is below that is said to be.
func portion(v float64) string {
	if v > 0 && v < 0.0005 {
		return "< 0.1\u202f%"
	}
	return strconv.FormatFloat(100*v, 'f', 1, 64) + "\u202f%"
}

func date(at vaglio.Instant) string {
	if at == 0 {
		return missing
	}
	return at.Time().UTC().Format("2 January 2006")
}

func money(minor int64, currency string) string {
	digits, ok := vaglio.CurrencyDigits(currency)
	if !ok {
		digits = 2
	}
	whole := minor
	for range digits {
		whole /= 10
	}
	return strings.TrimSpace(grouped(strconv.FormatInt(whole, 10)) + "\u00a0" + currency)
}

func recycled(features []Feature) []Feature {
	out := slices.DeleteFunc(slices.Clone(features), func(f Feature) bool { return !f.RecyclesPolicy })
	slices.SortStableFunc(out, func(a, b Feature) int { return cmp.Compare(b.Share, a.Share) })
	return out
}

// mostDrifted bounds the list of features that moved.
const mostDrifted = 12

func drifted(all []Drift) []Drift { return all[:min(len(all), mostDrifted)] }

// steady says of the others that they moved less.
func steady(all []Drift) string {
	if len(all) <= mostDrifted {
		return ""
	}
	return fmt.Sprintf("The other %d features have an index of at most %s.", len(all)-mostDrifted, number(all[mostDrifted].PSI))
}
