package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"vaglio"
	"vaglio/training/report"
)

// hostile is what a careless page would take for its own.
const hostile = `</svg><script>alert(1)</script>"'&`

// whole is an input with everything in it.
func whole() *report.Input {
	random := rand.New(rand.NewPCG(1, 2))
	low, high := 0.7, 0.8
	in := &report.Input{Name: "refund", Version: "v1" + hostile, SHA256: "ab12", CreatedAt: vaglio.Instant(1_780_000_000_000), Currency: "EUR",
		Windows:        []report.Window{{"training", 1_760_000_000_000, 1_770_000_000_000, 12345, 400}, {"test", 1_770_000_000_000, 1_775_000_000_000, 2000, 80}},
		Settings:       []report.Setting{{"seed", "7"}, {"max_bin", "512"}},
		Labels:         []report.LabelCount{{"an investigation", "fraud", 60, 0.03, 1, 500_000}, {"a reviewer's decision", "fraud", 20, 0.01, 0.5, 7000}},
		ReviewersShare: 0.25,
		Metrics: []report.Metric{{Name: "ROC AUC", Meaning: "Chance.", Value: 0.75, Low: &low, High: &high, Key: true},
			{Name: "Brier", Value: 0.03}, {Name: "not measured", Value: math.NaN(), Share: true, Key: true}},
		Bootstrap:  "500 resamples.",
		Thresholds: []report.Mark{{"approve below", 0.06}, {"deny from", 0.75}},
		Verdicts:   []report.Verdict{{"approve", "below 0.06", 1900, 20, 1_234_567, 8900}, {"deny", "from 0.75", 100, 60, 50_000, 40_000}},
		FraudTypes: []report.FraudType{{"ring" + hostile, 20, 0.1, 0.5, 0.4}},
		Segments: []report.Segment{{By: "channel", Value: "app", Rows: 1000, Frauds: 40, ROCAUC: report.Value{Value: 0.8, Low: 0.7, High: 0.9}},
			{By: "country", Value: "IT", Rows: 9, TooFew: true}},
		TooFew: "fewer than 10 frauds",
		Comparisons: []report.Comparison{{"champion v0", []report.Difference{{Metric: "ROC AUC", Model: 0.75, Other: 0.7, Difference: 0.05, Low: 0.01,
			High: 0.09, Better: true}}}},
		Costs: &report.Costs{X: "Deny from", Y: "Cost, EUR", Curves: []report.Line{{"cost", []report.Point{{0, 9000}, {0.5, 4000}, {1, 7000}}}},
			Marks: []report.Mark{{"in use", 0.75}, {"recommended", 0.5}}, Reading: "Lower is better."},
		Groups:      [][]string{{"feature_0", "feature_1"}},
		DriftOf:     "Test beside training.",
		Calibration: report.Calibration{Bins: []report.Bin{{100, 0.01, 0}, {100, 0.1, 0.12}, {100, 0.5, 0.6}}, Error: 0.02},
	}
	for i := range 50 {
		at := float64(i) / 49
		o := report.Operating{Recall: math.Sqrt(at), FalsePositiveRate: at, Precision: 1 - 0.9*at}
		if in.Curves == nil {
			in.Curves = []report.Curve{{Name: "this model"}, {Name: "rules", Marks: []report.Operating{{Name: "deny", Recall: 0.2, FalsePositiveRate: 0.01,
				Precision: 0.5}}}}
		}
		in.Curves[0].Points = append(in.Curves[0].Points, o)
	}
	in.Swarm = &report.Swarm{}
	for f := range 25 {
		name := fmt.Sprint("feature_", f)
		in.Features = append(in.Features, report.Feature{Name: name, Contribution: 1 / float64(f+1), Gain: float64(100 - f),
			Splits: 50 - f, Share: 0.04, RecyclesPolicy: f == 2, MadeOf: "refund_denied"})
		in.Drift = append(in.Drift, report.Drift{Feature: name, PSI: 1 / float64(f+2), MedianBefore: "1", MedianNow: "2"})
		in.Swarm.Features, in.Swarm.Categorical = append(in.Swarm.Features, name), append(in.Swarm.Categorical, f == 1)
	}
	for range 2000 {
		var values, contributions []float64
		for f := range in.Swarm.Features {
			v := random.NormFloat64()
			contributions = append(contributions, v/float64(f+1))
			if f == 0 && v > 1 {
				v = math.NaN()
			}
			values = append(values, v)
		}
		in.Swarm.Values, in.Swarm.Contributions = append(in.Swarm.Values, values), append(in.Swarm.Contributions, contributions)
		in.Scores = append(in.Scores, report.Score{Probability: random.Float64() * random.Float64(), Fraud: random.IntN(20) == 0})
	}
	return in
}

func written(t *testing.T, in *report.Input) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Write(&out, in); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// elements reads a page as XML, which is stricter than HTML.
func elements(t *testing.T, page string) (starts []xml.StartElement) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(page, "<!DOCTYPE html>")))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return starts
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			starts = append(starts, start.Copy())
		}
	}
}

func TestTheReportIsOneWellFormedFileThatNeedsNothingElse(t *testing.T) {
	page := written(t, whole())
	pictures := 0
	for _, e := range elements(t, page) {
		switch e.Name.Local {
		case "script", "link", "iframe", "object", "img", "image":
			t.Errorf("the page has a %s", e.Name.Local)
		case "svg":
			pictures++
			label := ""
			for _, a := range e.Attr {
				if a.Name.Local == "aria-label" {
					label = a.Value
				}
			}
			if label == "" {
				t.Errorf("picture %d has no name", pictures)
			}
		}
		for _, a := range e.Attr {
			if a.Name.Local == "src" || a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
				t.Errorf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
	if pictures != 8 || strings.Count(page, "<svg") != strings.Count(page, "<title>")-1 || strings.Count(page, "<figcaption>") != pictures {
		t.Errorf("%d pictures, %d titles with the page's, %d captions", pictures, strings.Count(page, "<title>"), strings.Count(page, "<figcaption>"))
	}
	if found := regexp.MustCompile(`(?i)https?:|url\(|@import|NaN|%!|ZgotmplZ`).FindString(page); found != "" {
		t.Errorf("the page holds %q", found)
	}
	if left := regexp.MustCompile(`#0[0-9A]0[0-9A]0[0-9A]\b`).FindString(page); left != "" {
		t.Errorf("colour %s follows neither light nor dark", left)
	}
	for _, want := range []string{"12,345", "12,345\u00a0EUR", "0.700 to 0.800", "too few", "&#43;0.050", "better", "recommended",
		"feature_2", "a reviewer&#39;s decision", "refund_denied", "25.0\u202f%"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	if first, second := written(t, whole()), written(t, whole()); first != second {
		t.Error("two reports on the same differ")
	}
}

func TestAReportLeavesOutWhatIsNotThere(t *testing.T) {
	page := written(t, &report.Input{Name: "refund", Version: "v1"})
	if elements(t, page); strings.Contains(page, "<svg") || strings.Contains(page, "<tbody>") {
		t.Error("an empty input has pictures or tables")
	}
	one := written(t, &report.Input{Scores: []report.Score{{Probability: 0, Fraud: true}}, Drift: []report.Drift{{Feature: "f", PSI: math.NaN()}},
		Features: []report.Feature{{Name: "f", Contribution: math.NaN()}}, Swarm: &report.Swarm{Features: []string{"f"}, Categorical: []bool{false},
			Values: [][]float64{{math.NaN()}}, Contributions: [][]float64{{0}}}, Costs: &report.Costs{Curves: []report.Line{{"flat", []report.Point{{0, 1}, {1, 1}}}}}})
	if elements(t, one); strings.Contains(one, "NaN") {
		t.Error("what is not measured is written as NaN")
	}
}

func TestContributionsThatDoNotFitTheirFeaturesAreRefused(t *testing.T) {
	in := whole()
	in.Swarm.Values[3] = in.Swarm.Values[3][1:]
	if err := report.Write(io.Discard, in); err == nil || !strings.Contains(err.Error(), "row 3") {
		t.Errorf("%v", err)
	}
}
