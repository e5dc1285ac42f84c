package training

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vaglio"
	"vaglio/files"
	"vaglio/models"
	"vaglio/training/report"
)

// ReportParts is what a report shows besides an examination of the model. All of it may be missing.
type ReportParts struct {
	Before       *Matrix // to measure drift from: as a rule of the training period; nil: no drift
	DriftOf      string  // what is compared with what, in a sentence
	Correlations *Correlations
	Costs        *report.Costs
	Exploration  string // what was let through to learn from it, in a sentence
	Settings     []report.Setting
	Seed         uint64 // of samples
}

// swarmSample is how many requests a report explains one by one.
const swarmSample = 1000

// CostCurves are a plan's costs against both thresholds, for a report.
func CostCurves(plan *CostPlan, currency string) *report.Costs {
	digits, _ := vaglio.CurrencyDigits(currency)
	line := func(name string, points []CostPoint) report.Line {
		l := report.Line{Name: name}
		for _, p := range points {
			l.Points = append(l.Points, report.Point{X: p.Threshold, Y: p.Cost / math.Pow10(digits)})
		}
		return l
	}
	return &report.Costs{X: "Threshold (probability)", Y: "Cost, " + currency,
		Curves: []report.Line{line("by the probability below which is approved", plan.ByApproveBelow), line("by the probability from which is denied",
			plan.ByDenyFrom)},
		Marks: []report.Mark{{Name: "approve below", X: plan.Thresholds.ApproveBelow}, {Name: "deny from", X: plan.Thresholds.DenyFrom}},
		Reading: "Each point is what a threshold would have cost with the best other threshold beside it, in paid fraud, wrong denials and reviews; the " +
			"dashed lines are the recommended thresholds, where it cost least."}
}

// WriteReport writes report.html into a bundle's folder.
func (x *Examination) WriteReport(ctx context.Context, dir string, b *models.Bundle, parts ReportParts) (err error) {
	in, err := x.Report(ctx, b, parts)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := files.Write(filepath.Join(dir, fileReport), func(out io.Writer) error { return report.Write(out, in) }); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// labelTexts say for people what says fraud or clean.
var labelTexts = map[string]string{FromSilence.String(): "nothing was said by maturity", FromUnnamed.String(): "a label without a source",
	FromOther.String(): "a label of another source", FromReview.String(): "a reviewer's decision", FromVictimReport.String(): "the victim's report",
	FromPaymentReturned.String(): "the payment was returned", FromRecall.String(): "a recall by the payer's bank", FromDispute.String(): "a dispute's end",
	FromAudit.String(): "an audit of an approval", FromChargeback.String(): "a chargeback", FromInvestigation.String(): "an investigation"}

// Text says for people where the labels come from.
func (c *LabelCount) Text() string { return labelTexts[c.Source] }

func (x *Examination) tellLabels(in *report.Input) {
	for i := range x.Labels {
		c := &x.Labels[i]
		in.Labels = append(in.Labels, report.LabelCount{Source: c.Text(), Label: c.Label, Requests: c.Requests, Share: c.Share, Weight: c.Weight, Amount: c.Amount})
	}
	in.ReviewersShare = reviewersShare(x.Labels)
}

// Report is the input of a report on a model by its examination: importance, contributions and drift are measured here.
func (x *Examination) Report(ctx context.Context, b *models.Bundle, parts ReportParts) (*report.Input, error) {
	manifest := b.Manifest()
	in := &report.Input{Name: manifest.Name, Version: manifest.Version, SHA256: b.Identity().SHA256, CreatedAt: manifest.CreatedAt,
		Currency: manifest.BaseCurrency, Costs: parts.Costs, Exploration: parts.Exploration,
		Settings: settings(&manifest, b, parts.Settings)}
	for _, w := range []struct {
		name string
		models.Window
	}{
		{"training", manifest.Training}, {"calibration", manifest.Calibration},
		{"test", models.Window{From: x.From, Until: x.Until, Rows: x.Rows, Positives: x.Frauds}},
	} {
		if w.Rows > 0 {
			in.Windows = append(in.Windows, report.Window{Name: w.name, From: w.From, Until: w.Until, Rows: w.Rows, Frauds: w.Positives})
		}
	}
	x.tellMetrics(in)
	x.tellLabels(in)
	x.tellCurves(in)
	importance, err := MeasureImportance(ctx, b.Model, x.Matrix, parts.Seed)
	if err != nil {
		return nil, err
	}
	tellImportance(in, &importance)
	if parts.Correlations != nil {
		in.Groups = parts.Correlations.Groups
	}
	if in.Swarm, err = x.swarm(b.Model, parts.Seed); err != nil {
		return nil, err
	}
	if parts.Before == nil {
		return in, nil
	}
	drift, err := MeasureDrift(ctx, parts.Before, x.Matrix)
	in.DriftOf = parts.DriftOf
	for _, d := range drift {
		told := report.Drift{Feature: d.Feature, PSI: d.PSI, MissingBefore: d.MissingBefore, Missing: d.MissingNow, MedianBefore: "–", MedianNow: "–"}
		at := slices.Index(x.Matrix.Names, d.Feature)
		for from, into := range map[*float64]*string{d.MedianBefore: &told.MedianBefore, d.MedianNow: &told.MedianNow} {
			if from != nil {
				*into = x.Matrix.Catalogue.Shown(at, *from, vaglio.Languages[0], in.Currency, in.Currency)
			}
		}
		in.Drift = append(in.Drift, told)
	}
	return in, err
}

func settings(m *models.Manifest, b *models.Bundle, more []report.Setting) []report.Setting {
	out := slices.Clone(more)
	for _, name := range sortedKeys(m.Parameters) {
		out = append(out, report.Setting{Name: name, Value: m.Parameters[name]})
	}
	for _, name := range sortedKeys(m.Libraries) {
		out = append(out, report.Setting{Name: name + " version", Value: m.Libraries[name]})
	}
	return append(out, report.Setting{Name: "trees", Value: strconv.Itoa(b.Trees())},
		report.Setting{Name: "deepest tree", Value: strconv.Itoa(b.Depth()) + " splits"}, report.Setting{Name: "features", Value: strconv.Itoa(len(b.Names()))})
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// metricTexts say for people what metrics are called and mean, in the order in which they are shown.
var metricTexts = []struct {
	name, title, meaning string
	share, key           bool
}{
	{"roc_auc", "ROC AUC", "Chance that a fraud scores above an honest request; 0.5 is chance.", false, true},
	{"average_precision", "Average precision", "Precision averaged over all shares of fraud found; the share of fraud is chance.", false, true},
	{"recall_at_0_1pct_fpr", "Found at 0.1 % false positives", "Frauds found when 1 in 1,000 honest requests is flagged.", true, false},
	{"recall_at_0_5pct_fpr", "Found at 0.5 % false positives", "Frauds found when 5 in 1,000 honest requests are flagged.", true, false},
	{"recall_at_1pct_fpr", "Found at 1 % false positives", "Frauds found when 1 in 100 honest requests is flagged.", true, true},
	{"recall_at_5pct_fpr", "Found at 5 % false positives", "Frauds found when 5 in 100 honest requests are flagged.", true, false},
	{"fraud_amount_stopped", "Fraud money stopped", "Of the amounts of fraud, the share denied or sent to review by the thresholds.", true, true},
	{"honest_amount_held_up", "Honest money held up", "Of the amounts of honest requests, the share denied or sent to review.", true, true},
	{"frauds_stopped", "Frauds stopped", "Frauds denied or sent to review by the thresholds.", true, false},
	{atSameLoad, "Frauds stopped at its load", "Frauds found when as many requests are held up as by the other.", true, false},
	{"honest_held_up", "Honest requests held up", "Honest requests denied or sent to review.", true, false},
	{"expected_calibration_error", "Calibration error",
		"Mean distance of the probability said from the share that was fraud; resampling can only add to it, so it has no interval.", true, true},
	{"log_loss", "Log loss", "Mean surprise by the outcome; lower is better.", false, false},
	{"brier", "Brier score", "Mean squared error of the probability; lower is better.", false, false},
}

// MetricTitle is a metric's name for people, and whether it is a share.
func MetricTitle(name string) (title string, share bool) {
	for _, t := range metricTexts {
		if t.name == name {
			return t.title, t.share
		}
	}
	if k, ok := strings.CutPrefix(name, "card_precision_at_"); ok {
		return "Customers with fraud, " + k + " riskiest a day", true
	}
	if k, ok := strings.CutPrefix(name, "precision_at_"); ok {
		return "Precision, first " + k, true
	}
	return name, false
}

// Metric is a metric as people read it.
type Metric struct {
	Name, Title, Meaning string
	Value                float64
	Interval             *Interval // nil: none
	Share                bool      // to be shown in per cent
	key                  bool
}

// Metrics lists what could be measured, for people, in order.
func (e *Evaluation) Metrics() []Metric {
	values := e.metrics()
	var out []Metric
	add := func(m Metric) {
		v, ok := values[m.Name]
		if !ok {
			return
		}
		m.Value = v
		if i, ok := e.Intervals[m.Name]; ok {
			m.Interval = &i
		}
		out = append(out, m)
	}
	for _, t := range metricTexts {
		add(Metric{Name: t.name, Title: t.title, Meaning: t.meaning, Share: t.share, key: t.key})
	}
	other := func(name, meaning string, args ...any) {
		title, share := MetricTitle(name)
		add(Metric{Name: name, Title: title, Meaning: fmt.Sprintf(meaning, args...), Share: share})
	}
	c := e.CardPrecision
	other(fmt.Sprintf("card_precision_at_%d", c.K), "Of the %d riskiest customers of a day, those with a fraud; mean of %d days.", c.K, c.Days)
	for _, p := range e.PrecisionAt {
		other(fmt.Sprintf("precision_at_%d", p.K), "Frauds among the %d requests of highest probability.", p.K)
	}
	return out
}

func (x *Examination) tellMetrics(in *report.Input) {
	for _, m := range x.Metrics() {
		told := report.Metric{Name: m.Title, Meaning: m.Meaning, Value: m.Value, Share: m.Share, Key: m.key}
		if m.Interval != nil {
			told.Low, told.High = &m.Interval.Low, &m.Interval.High
		}
		in.Metrics = append(in.Metrics, told)
	}
	if x.Bootstrap.Resamples > 0 {
		in.Bootstrap = fmt.Sprintf("Intervals hold the true value in about 95 of 100 such tests: %d resamples of whole customers (seed %d), "+
			"since requests of one customer are alike.", x.Bootstrap.Resamples, x.Bootstrap.Seed)
	}
	in.Calibration.Error = x.CalibrationError
	for _, bin := range x.Curve {
		in.Calibration.Bins = append(in.Calibration.Bins, report.Bin{Weight: bin.Weight, Probability: bin.Probability, Fraud: bin.Fraud})
	}
	for _, v := range x.Verdicts {
		threshold := fmt.Sprintf("below %g", x.Thresholds.ApproveBelow)
		switch v.Verdict {
		case vaglio.Review:
			threshold = fmt.Sprintf("%g to %g", x.Thresholds.ApproveBelow, x.Thresholds.DenyFrom)
		case vaglio.Deny:
			threshold = fmt.Sprintf("from %g", x.Thresholds.DenyFrom)
		}
		in.Verdicts = append(in.Verdicts, report.Verdict{Name: string(v.Verdict), Threshold: threshold, Requests: v.Requests, Frauds: v.Frauds, Amount: v.Amount,
			FraudAmount: v.FraudAmount})
	}
	for _, t := range x.FraudTypes {
		in.FraudTypes = append(in.FraudTypes, report.FraudType{Name: t.Type, Frauds: t.Frauds, Denied: t.Denied, Stopped: t.Stopped, RecallAt1FPR: t.RecallAt1FPR})
	}
	in.TooFew = fmt.Sprintf("fewer than %d frauds or %d honest requests", fewestFrauds, fewestHonest)
	for _, s := range x.Segments {
		value := func(v *float64, name string) report.Value {
			out := report.Value{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
			if v != nil {
				out.Value = *v
			}
			if i, ok := s.Intervals[name]; ok {
				out.Low, out.High = i.Low, i.High
			}
			return out
		}
		in.Segments = append(in.Segments, report.Segment{By: s.By, Value: s.Value, Rows: s.Rows, Frauds: s.Frauds, ROCAUC: value(s.ROCAUC, segmentMetrics[0]),
			AveragePrecision: value(s.AveragePrecision, segmentMetrics[1]), RecallAt1: value(s.RecallAt1FPR, segmentMetrics[2]), TooFew: s.TooFew != ""})
	}
	for _, c := range x.Against {
		in.Comparisons = append(in.Comparisons, c.told())
	}
}

func (c *Comparison) told() report.Comparison {
	out := report.Comparison{With: c.With}
	for _, d := range c.Differences {
		if d.Model == nil || d.Other == nil || d.Interval == nil {
			continue
		}
		title, share := MetricTitle(d.Metric)
		out.Differences = append(out.Differences, report.Difference{Metric: title, Share: share, Model: *d.Model, Other: *d.Other, Difference: *d.Difference,
			Low: d.Interval.Low, High: d.Interval.High, Better: d.Verdict == DifferenceBetter, Worse: d.Verdict == DifferenceWorse})
	}
	return out
}

// curvePoints is how many thresholds a report's curves show, about.
const curvePoints = 240

func (x *Examination) tellCurves(in *report.Input) {
	rows := x.Matrix.Rows
	fraud, cluster := make([]bool, len(rows)), make([]int32, len(rows))
	for i := range rows {
		fraud[i] = rows[i].Fraud
	}
	curve := func(name string, score []float64) report.Curve {
		c := report.Curve{Name: name}
		for _, o := range newRanked(score, fraud, x.weight, cluster, 1).curve(curvePoints) {
			c.Points = append(c.Points, report.Operating{Recall: o.Recall, FalsePositiveRate: o.FalsePositiveRate, Precision: o.Precision})
		}
		return c
	}
	own := curve("this model", x.Probability)
	own.Marks = x.marks(verdictsOf(x.Probability, x.Thresholds))
	in.Curves = append(in.Curves, own)
	for _, o := range x.against {
		c := report.Curve{Name: o.name}
		if o.probabilities {
			c = curve(o.name, o.score)
		} else {
			c.Marks = x.marks(o.verdicts)
		}
		in.Curves = append(in.Curves, c)
	}
	in.Thresholds = []report.Mark{{Name: "approve below", X: x.Thresholds.ApproveBelow}, {Name: "deny from", X: x.Thresholds.DenyFrom}}
	for _, i := range drawRows(len(rows), importanceRows, 0) {
		in.Scores = append(in.Scores, report.Score{Probability: x.Probability[i], Fraud: fraud[i]})
	}
}

// marks are what denials, and denials and reviews together, flag.
func (x *Examination) marks(verdicts []vaglio.Verdict) []report.Operating {
	var out []report.Operating
	for _, flagged := range []struct {
		name string
		is   func(vaglio.Verdict) bool
	}{{"deny", func(v vaglio.Verdict) bool { return v == vaglio.Deny }}, {"deny or review", func(v vaglio.Verdict) bool { return v != vaglio.Approve }}} {
		var tp, fp, positives, negatives float64
		for i := range x.Matrix.Rows {
			all, caught := &negatives, &fp
			if x.Matrix.Rows[i].Fraud {
				all, caught = &positives, &tp
			}
			*all += x.weight[i]
			if flagged.is(verdicts[i]) {
				*caught += x.weight[i]
			}
		}
		if tp+fp > 0 {
			out = append(out, report.Operating{Name: flagged.name, Recall: tp / positives, FalsePositiveRate: fp / negatives, Precision: tp / (tp + fp)})
		}
	}
	return out
}

func tellImportance(in *report.Input, importance *Importance) {
	for _, f := range importance.Features {
		in.Features = append(in.Features, report.Feature{Name: f.Name, Contribution: f.MeanContribution, Gain: f.Gain,
			Splits: f.Splits, Share: f.Share, RecyclesPolicy: f.RecyclesPolicy, MadeOf: strings.Join(f.MadeOf, ", ")})
	}
}

func (x *Examination) swarm(model *models.Model, seed uint64) (*report.Swarm, error) {
	s := &report.Swarm{Features: x.Matrix.Names, Categorical: x.Matrix.Categorical}
	for _, i := range drawRows(len(x.Matrix.Rows), swarmSample, seed) {
		phi := make([]float64, len(s.Features))
		if _, err := model.Contributions(phi, x.Matrix.vector(i)); err != nil {
			return nil, fmt.Errorf("explain request %s: %w", x.Matrix.Rows[i].ID, err)
		}
		s.Values, s.Contributions = append(s.Values, x.Matrix.vector(i)), append(s.Contributions, phi)
	}
	return s, nil
}
