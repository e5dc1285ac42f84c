package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
)

// ProposeOptions say what to look for. Requests of the period are cut by time in three: the first 60 % train, the next 20 %
// choose, the last 20 % confirm.
type ProposeOptions struct {
	History     *history.Store
	Catalogue   []byte // YAML; nil: the default one
	Period      Period
	LabelsUntil vaglio.Instant    // 0: the end of the period
	Maturity    vaglio.Instant    // 0: DefaultMaturity
	Params      map[string]string // of LightGBM, over DefaultParams
	Candidates  int               // at most; 0: 400, which is the most
	Rows        int               // requests looked at, at most; 0: 40,000: all frauds up to half of them, honest requests evenly
	Rounds      int               // of each training; 0: 60
	Tries       int               // candidates tried on their own, the most important first; 0: 24
	Seed        uint64
	Progress    func(Progress) // may be nil
}

// Kept is a proposed row.
type Kept struct {
	features.Row
	Gain     float64  `json:"gain"` // of average precision on the choosing part, over the rows before it
	Interval Interval `json:"interval"`
}

// Proposal is what a search for features came to.
type Proposal struct {
	Possible  int `json:"possible"`  // candidates that history offers
	Looked    int `json:"looked"`    // of them, that were computed
	Surviving int `json:"surviving"` // that beat their shadows
	Rows      int `json:"rows"`      // requests looked at
	Frauds    int `json:"frauds"`
	// Base and Extended are the average precision on the confirming part, without and with what was kept or rejected as a whole.
	Base     float64  `json:"base"`
	Extended float64  `json:"extended"`
	Interval Interval `json:"interval"` // of their difference
	Kept     []Kept   `json:"kept"`     // none where the confirming part could not tell their gain from noise
	Rejected []Kept   `json:"rejected"` // chosen, then not confirmed
	YAML     []byte   `json:"-"`        // the catalogue with the rows kept, to read and edit
}

// Propose looks for rows that a catalogue lacks. Candidates are aggregates × windows × entities over what history holds. They
// must beat their shadows: the same columns with their rows shuffled, which carry nothing (Kursa and Rudnicki, "Feature
// selection with the Boruta package", 2010). Those that do are added one by one, the most important first; one stays if it
// raises the average precision of the choosing part beyond noise. Last, all that stayed must raise it on the confirming part,
// which nothing has looked at.
func Propose(ctx context.Context, o ProposeOptions) (Proposal, error) {
	if err := o.Period.check("searched"); err != nil {
		return Proposal{}, err
	}
	o.fill()
	base, err := features.Parse(o.Catalogue)
	if err != nil {
		return Proposal{}, fmt.Errorf("read the catalogue: %w", err)
	}
	var out Proposal
	rows, possible, err := candidates(ctx, o.History, base, o.Period, o.Candidates)
	if err != nil {
		return Proposal{}, fmt.Errorf("find candidates: %w", err)
	}
	out.Possible, out.Looked = possible, len(rows)
	m, err := o.matrix(ctx, base, rows)
	if err != nil {
		return Proposal{}, err
	}
	out.Rows, out.Frauds = len(m.Rows), m.positives()
	s := search{m: m, base: len(base.Names()), rows: rows, seed: o.Seed, report: o.Progress,
		trial: trial{params: o.Params, rounds: o.Rounds, seeds: 3, seed: o.Seed}}
	if err := s.split(); err != nil {
		return Proposal{}, err
	}
	survivors, err := s.beatShadows(ctx)
	if err != nil {
		return Proposal{}, err
	}
	out.Surviving = len(survivors)
	chosen, err := s.choose(ctx, survivors[:min(len(survivors), o.Tries)])
	if err != nil {
		return Proposal{}, err
	}
	if err := s.confirm(ctx, chosen, &out); err != nil {
		return Proposal{}, err
	}
	added := make([]features.Row, len(out.Kept))
	for i := range added {
		added[i] = out.Kept[i].Row
	}
	out.YAML, err = features.Extend(o.Catalogue, added)
	return out, err
}

func (o *ProposeOptions) fill() {
	if o.Catalogue == nil {
		o.Catalogue = features.DefaultYAML()
	}
	o.Candidates = min(cmp.Or(o.Candidates, maxCandidates), maxCandidates)
	o.Rows, o.Rounds, o.Tries = cmp.Or(o.Rows, 40_000), cmp.Or(o.Rounds, 60), cmp.Or(o.Tries, 24)
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
}

// chunkBytes bounds the matrix of one replay: candidates are computed in as many replays as that takes.
const chunkBytes = 512 << 20

// matrix is the sampled requests with the features of the catalogue and then the candidates.
func (o *ProposeOptions) matrix(ctx context.Context, base *features.Catalogue, rows []features.Row) (*Matrix, error) {
	whole, err := o.sample(ctx, base, "the catalogue")
	if err != nil {
		return nil, err
	}
	chunk := max(8, chunkBytes/8/max(1, whole.requests))
	parts := []*Matrix{whole.Matrix}
	for from := 0; from < len(rows); from += chunk {
		until := min(from+chunk, len(rows))
		catalogue, err := features.CatalogueOf(rows[from:until])
		if err != nil {
			return nil, fmt.Errorf("candidates: %w", err)
		}
		part, err := o.sample(ctx, catalogue, fmt.Sprintf("candidates %d to %d of %d", from+1, until, len(rows)))
		if err != nil {
			return nil, err
		}
		parts = append(parts, part.Matrix)
	}
	return beside(parts)
}

type sample struct {
	*Matrix
	requests int // labelled, before thinning
}

// sample replays the period and keeps a sample of its labelled requests, the same for every catalogue.
func (o *ProposeOptions) sample(ctx context.Context, catalogue *features.Catalogue, what string) (sample, error) {
	labelling := Options{History: o.History, Catalogue: catalogue, Train: o.Period, LabelsUntil: o.LabelsUntil, Maturity: o.Maturity,
		Progress: func(p Progress) { p.Note = what; o.Progress(p) }}
	labelling.fill()
	m, err := labelling.labelled(ctx, o.Period, labelling.LabelsUntil, newLearner(catalogue))
	if err == nil {
		err = m.bothClasses()
	}
	if err != nil {
		return sample{}, err
	}
	return sample{m.thinned(o.Rows), len(m.Rows)}, nil
}

// beside joins the columns of matrices of the same rows.
func beside(parts []*Matrix) (*Matrix, error) {
	out := *parts[0]
	out.Names, out.Categorical, out.X = nil, nil, nil
	for _, part := range parts {
		if !slices.EqualFunc(part.Rows, out.Rows, func(a, b Row) bool { return a.ID == b.ID && a.Fraud == b.Fraud }) {
			return nil, errors.New("replay: history changed in between; run again")
		}
		out.Names, out.Categorical = append(out.Names, part.Names...), append(out.Categorical, part.Categorical...)
	}
	out.X = make([]float64, 0, len(out.Rows)*len(out.Names))
	for i := range out.Rows {
		for _, part := range parts {
			out.X = append(out.X, part.vector(i)...)
		}
	}
	return &out, nil
}

// columns is a matrix of some columns of m, with further ones shuffled by a source of chance, as shadows.
func (m *Matrix) columns(cols, shadows []int, random *rand.Rand) *Matrix {
	out := *m
	out.Names, out.Categorical = nil, nil
	for _, col := range cols {
		out.Names, out.Categorical = append(out.Names, m.Names[col]), append(out.Categorical, m.Categorical[col])
	}
	for _, col := range shadows {
		out.Names, out.Categorical = append(out.Names, "SHADOW_"+m.Names[col]), append(out.Categorical, m.Categorical[col])
	}
	width, own := len(out.Names), len(m.Names)
	out.X = make([]float64, len(m.Rows)*width)
	for row := range m.Rows {
		for i, col := range cols {
			out.X[row*width+i] = m.X[row*own+col]
		}
	}
	for i, col := range shadows {
		for row, from := range random.Perm(len(m.Rows)) {
			out.X[row*width+len(cols)+i] = m.X[from*own+col]
		}
	}
	return &out
}

// search is the way from candidates to what is kept.
type search struct {
	m      *Matrix
	base   int            // columns of the catalogue; behind them stand the candidates
	rows   []features.Row // of the candidates
	trial  trial
	seed   uint64
	report func(Progress)

	fit, choosing, confirming *Matrix
}

func (s *search) split() error {
	earlier, later := s.m.splitByTime(0.6)
	s.fit = earlier
	s.choosing, s.confirming = later.splitByTime(0.5)
	for _, part := range []struct {
		name string
		m    *Matrix
	}{{"first 60 %", s.fit}, {"next 20 %", s.choosing}, {"last 20 %", s.confirming}} {
		if err := part.m.bothClasses(); err != nil {
			return fmt.Errorf("%s of the period: %w", part.name, err)
		}
	}
	return nil
}

func firstN(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Bounds of the comparison with shadows.
const (
	shadowBatch   = 100 // candidates in one model, each with its shadow
	shadowRounds  = 3   // shuffles of each
	explainedRows = 5_000
)

// beatShadows returns the columns of candidates whose mean |contribution| on the choosing part was above that of every shadow in
// all shuffles but one, the most important first.
func (s *search) beatShadows(ctx context.Context) ([]int, error) {
	wins, weight := map[int]int{}, map[int]float64{}
	batches := (len(s.rows) + shadowBatch - 1) / shadowBatch
	for b := range batches {
		var cols []int
		for col := s.base + b; col < len(s.m.Names); col += batches { // spread: neighbours resemble one another
			cols = append(cols, col)
		}
		all := slices.Concat(firstN(s.base), cols)
		for k := range shadowRounds {
			s.report(Progress{Step: "compare with shadows", Done: b*shadowRounds + k, Total: batches * shadowRounds})
			random := rand.New(rand.NewPCG(s.seed, uint64(b*shadowRounds+k)))
			model, err := s.trial.train(ctx, s.fit.columns(all, cols, random), uint64(k))
			if err != nil {
				return nil, err
			}
			valid := s.choosing.columns(all, cols, random)
			mean, err := meanContributions(ctx, model, valid, drawRows(len(valid.Rows), explainedRows, s.seed))
			if err != nil {
				return nil, err
			}
			strongest := slices.Max(mean[len(all):])
			for i, col := range cols {
				weight[col] += mean[s.base+i]
				if mean[s.base+i] > strongest {
					wins[col]++
				}
			}
		}
	}
	s.report(Progress{Step: "compare with shadows", Done: batches * shadowRounds, Total: batches * shadowRounds})
	survivors := slices.Sorted(maps.Keys(wins))
	survivors = slices.DeleteFunc(survivors, func(col int) bool { return wins[col] < shadowRounds-1 })
	slices.SortStableFunc(survivors, func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
	return survivors, nil
}

// chosenColumn is a candidate that raised the average precision of the choosing part.
type chosenColumn struct {
	col      int
	gain     float64
	interval Interval
}

func (s *search) ranked(ctx context.Context, fit, valid *Matrix, cols []int) ([]*ranked, error) {
	return s.trial.run(ctx, fit.columns(cols, nil, nil), valid.columns(cols, nil, nil))
}

// choose adds candidates one by one.
func (s *search) choose(ctx context.Context, survivors []int) ([]chosenColumn, error) {
	if len(survivors) == 0 {
		return nil, nil
	}
	var chosen []chosenColumn
	cols := firstN(s.base)
	before, err := s.ranked(ctx, s.fit, s.choosing, cols)
	if err != nil {
		return nil, err
	}
	for i, col := range survivors {
		s.report(Progress{Step: "try", Done: i, Total: len(survivors), Note: s.m.Names[col]})
		with, err := s.ranked(ctx, s.fit, s.choosing, append(cols, col))
		if err != nil {
			return nil, err
		}
		gain, interval, err := gainOf(ctx, before, with, s.seed)
		if err != nil {
			return nil, err
		}
		if interval.Low > 0 {
			chosen, cols, before = append(chosen, chosenColumn{col, gain, interval}), append(cols, col), with
		}
	}
	s.report(Progress{Step: "try", Done: len(survivors), Total: len(survivors)})
	return chosen, nil
}

// confirm trains on both earlier parts and compares on the last.
func (s *search) confirm(ctx context.Context, chosen []chosenColumn, out *Proposal) error {
	if len(chosen) == 0 {
		return nil
	}
	s.report(Progress{Step: "confirm", Total: 2})
	earlier := *s.m
	n := len(s.fit.Rows) + len(s.choosing.Rows)
	earlier.Rows, earlier.X = s.m.Rows[:n], s.m.X[:n*len(s.m.Names)]
	cols := firstN(s.base)
	without, err := s.ranked(ctx, &earlier, s.confirming, cols)
	if err != nil {
		return err
	}
	for _, c := range chosen {
		cols = append(cols, c.col)
	}
	s.report(Progress{Step: "confirm", Done: 1, Total: 2})
	with, err := s.ranked(ctx, &earlier, s.confirming, cols)
	if err != nil {
		return err
	}
	gain, interval, err := gainOf(ctx, without, with, s.seed)
	if err != nil {
		return err
	}
	s.report(Progress{Step: "confirm", Done: 2, Total: 2})
	out.Base, out.Extended, out.Interval = meanPrecision(without), meanPrecision(with), interval
	for i, c := range chosen {
		k := Kept{s.rows[c.col-s.base], c.gain, c.interval}
		var comment strings.Builder
		if i == 0 {
			fmt.Fprintf(&comment, "proposed: average precision %s with the rows below, from %.4f, on later requests (95 %%: %s to %s)\n",
				signed(gain), out.Base, signed(interval.Low), signed(interval.High))
		}
		fmt.Fprintf(&comment, "average precision %s when it was added (95 %%: %s to %s)", signed(c.gain), signed(c.interval.Low), signed(c.interval.High))
		k.Comment = comment.String()
		if interval.Low > 0 {
			out.Kept = append(out.Kept, k)
		} else {
			out.Rejected = append(out.Rejected, k)
		}
	}
	return nil
}

func signed(v float64) string { return fmt.Sprintf("%+.4f", math.Round(v*1e4)/1e4) }
