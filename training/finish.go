package training

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"vaglio"
	"vaglio/files"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// Finish says what a training leaves beside the model.
type Finish struct {
	// Costs, when not nil, choose the thresholds on the requests of validation; the test period judges them. The recommended policy
	// goes into the bundle's folder.
	Costs *policy.Costs
	// Policy is the one in force: its segments and thresholds, and its rules as a baseline of the report; nil: the default one.
	Policy *policy.Policy
	// Report writes report.html into the bundle's folder.
	Report bool
	// Champion is compared with in the report; may be nil.
	Champion *models.Bundle
}

func (f *Finish) policy() *policy.Policy {
	if f.Policy != nil {
		return f.Policy
	}
	return policy.Default()
}

// Names of the files that [Finish] adds to a bundle's folder.
const (
	fileReport = "report.html"
	filePolicy = "policy.yaml"
)

// plan chooses thresholds by costs, nil without costs.
func (o *Options) plan(ctx context.Context, f *fitted, test *Matrix) (*CostPlan, error) {
	if o.Finish.Costs == nil {
		return nil, nil
	}
	choose := Scored{Matrix: f.unseen.matrix(), Probability: make([]float64, len(f.unseen.logOdds))}
	for i, logOdds := range f.unseen.logOdds {
		choose.Probability[i] = f.calibration.Probability(logOdds)
	}
	judged, err := score(ctx, f.model, &f.calibration, test)
	if err != nil {
		return nil, err
	}
	plan, err := Recommend(ctx, o.History, choose, Scored{test, judged}, defaultThresholds,
		RecommendOptions{Costs: *o.Finish.Costs, Policy: o.Finish.Policy, Seed: o.Seed})
	if err != nil {
		return nil, fmt.Errorf("thresholds from costs: %w", err)
	}
	return &plan, nil
}

// finish writes what goes beside the model into the bundle's folder.
func (o *Options) finish(ctx context.Context, b *models.Bundle, f *fitted, test *Matrix, plan *CostPlan) error {
	if plan != nil {
		text, err := plan.Policy(o.Finish.policy().Source(), b.Manifest().Name+"-"+b.Manifest().Version)
		if err == nil {
			err = files.Write(filepath.Join(o.Dir, filePolicy), func(out io.Writer) error { _, err := out.Write(text); return err })
		}
		if err != nil {
			return fmt.Errorf("recommend a policy: %w", err)
		}
	}
	if !o.Finish.Report {
		return nil
	}
	theirs, err := o.championsRows(ctx, test)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	x, err := ExamineMatrix(ctx, b, test, theirs, ExamineOptions{History: o.History, Period: o.Test, Measure: MeasureOptions{Seed: o.Seed,
		InversePropensity: o.InversePropensity}, Champion: o.Finish.Champion, Rules: PolicyRules(o.History, o.Finish.policy()), Progress: o.Progress})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	parts := ReportParts{Before: f.fit, DriftOf: "The requests of the test period beside those that the trees were grown on.", Seed: o.Seed}
	correlations, err := Correlate(ctx, test, DefaultCorrelation, o.Seed)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	parts.Correlations = &correlations
	if plan != nil {
		parts.Costs = CostCurves(plan, b.Manifest().BaseCurrency)
	}
	explored, err := ReadExploration(ctx, o.History, o.Test, vaglio.InstantOf(o.Now()), o.Maturity)
	if err != nil {
		return err
	}
	parts.Exploration = explored.Text(b.Manifest().BaseCurrency)
	return x.WriteReport(ctx, o.Dir, b, parts)
}

// championsRows are the rows of the test by the champion's features.
func (o *Options) championsRows(ctx context.Context, test *Matrix) (*Matrix, error) {
	champion := o.Finish.Champion
	if champion == nil {
		return nil, nil
	}
	own, err := test.Catalogue.YAML()
	if err != nil {
		return nil, err
	}
	theirs, err := champion.Catalogue().YAML()
	if err != nil {
		return nil, err
	}
	if string(own) == string(theirs) {
		return test, nil
	}
	replayed, err := replay(ctx, o.History, champion.Catalogue(), &learner{of: champion.Catalogue()}, o.Test, o.Progress)
	if err != nil {
		return nil, err
	}
	return replayed.as(test.Rows)
}

// as are the rows of m that have the ids of given ones, which are in the same order, with what is known of them.
func (m *Matrix) as(rows []Row) (*Matrix, error) {
	out := *m
	out.Rows, out.X = rows, make([]float64, 0, len(rows)*len(m.Names))
	at := 0
	for i := range m.Rows {
		if at < len(rows) && m.Rows[i].ID == rows[at].ID {
			out.X = append(out.X, m.vector(i)...)
			at++
		}
	}
	if at < len(rows) {
		return nil, errors.New("history changed between two replays: run again")
	}
	return &out, nil
}

// matrix is the rows that were predicted, of all parts.
func (p *predictions) matrix() *Matrix {
	if len(p.parts) == 1 {
		return p.parts[0]
	}
	all := *p.parts[0]
	all.Rows, all.X = slices.Clone(all.Rows), slices.Clone(all.X)
	for _, part := range p.parts[1:] {
		all.Rows, all.X = append(all.Rows, part.Rows...), append(all.X, part.X...)
	}
	return &all
}
