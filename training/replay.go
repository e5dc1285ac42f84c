package training

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/training/lightgbm"
)

// Row is one request of a matrix.
type Row struct {
	ID         string
	At         vaglio.Instant
	Customer   string  // "" if the request names none
	*Traits            // never nil, shared by rows that are alike
	BaseAmount int64   // minor units of the base currency; meaningless unless BaseKnown
	Weight     float64 // of its label, 0..1; 1 until labelled
	Propensity float64 // chance with which its outcome could become known, above 0 and up to 1
	BaseKnown  bool
	Fraud      bool        // meaningful once labelled
	Source     LabelSource // likewise
	FraudType  string      // "" if clean or unknown
}

// Traits are what segments of requests are cut by, as the requests said them: "" what they did not say.
type Traits struct{ Channel, Country, Rail, Type, Reason string }

// rowMaker makes rows out of requests; what several have in common is kept once.
type rowMaker struct {
	customers map[string]string
	traits    map[Traits]*Traits
}

func newRowMaker() *rowMaker {
	return &rowMaker{customers: map[string]string{}, traits: map[Traits]*Traits{}}
}

// row clones all that it keeps: else it would keep the whole event.
func (k *rowMaker) row(request *vaglio.Fact) Row {
	customer, known := k.customers[request.Entities.Get(vaglio.EntityCustomer)]
	if !known {
		customer = strings.Clone(request.Entities.Get(vaglio.EntityCustomer))
		k.customers[customer] = customer
	}
	get := request.Attributes.Get
	said := Traits{Channel: get("channel"), Country: get("country"), Rail: get("rail"), Type: get("type"), Reason: get("reason")}
	traits := k.traits[said]
	if traits == nil {
		traits = &Traits{strings.Clone(said.Channel), strings.Clone(said.Country), strings.Clone(said.Rail), strings.Clone(said.Type),
			strings.Clone(said.Reason)}
		k.traits[*traits] = traits
	}
	return Row{ID: strings.Clone(request.ID), At: request.OccurredAt, Customer: customer, Traits: traits, BaseAmount: request.BaseAmount,
		BaseKnown: request.BaseKnown, Weight: 1, Propensity: 1}
}

// Matrix is the features of requests, each as of its own moment, sorted by (At, ID).
type Matrix struct {
	Catalogue   *features.Catalogue // with all categories set
	Names       []string
	Categorical []bool
	Rows        []Row
	X           []float64 // row-major, len(Rows) × len(Names)
}

func (m *Matrix) vector(row int) []float64 { return m.X[row*len(m.Names) : (row+1)*len(m.Names)] }

func (m *Matrix) positives() int {
	n := 0
	for i := range m.Rows {
		if m.Rows[i].Fraud {
			n++
		}
	}
	return n
}

// bothClasses is nil when there are frauds and honest requests.
func (m *Matrix) bothClasses() error {
	if n := m.positives(); n == 0 || n == len(m.Rows) {
		return fmt.Errorf("%d frauds among %d labelled requests: both classes are needed; choose a longer period", n, len(m.Rows))
	}
	return nil
}

func (m *Matrix) dataset() lightgbm.Dataset {
	d := lightgbm.Dataset{Names: m.Names, Categorical: m.Categorical, Rows: len(m.Rows), X: m.X, Label: make([]float64, len(m.Rows))}
	for i := range m.Rows {
		if m.Rows[i].Fraud {
			d.Label[i] = 1
		}
	}
	d.Weight = m.weights()
	return d
}

// weights are what rows count for in training: the weight of the label, and more if its outcome had less of a chance to
// become known. nil: all 1.
func (m *Matrix) weights() []float64 {
	one := true
	weights := make([]float64, len(m.Rows))
	for i := range m.Rows {
		weights[i] = m.Rows[i].Weight / m.Rows[i].Propensity
		one = one && weights[i] == 1
	}
	if one {
		return nil
	}
	return weights
}

// splitByTime cuts the matrix after a share of its rows; requests of one moment stay together.
func (m *Matrix) splitByTime(share float64) (earlier, later *Matrix) {
	cut := int(share * float64(len(m.Rows)))
	for cut > 0 && cut < len(m.Rows) && m.Rows[cut].At == m.Rows[cut-1].At {
		cut++
	}
	part := func(from, until int) *Matrix {
		p := *m
		p.Rows, p.X = m.Rows[from:until], m.X[from*len(m.Names):until*len(m.Names)]
		return &p
	}
	return part(0, cut), part(cut, len(m.Rows))
}

// maxLearntCategories bounds the categories that training takes over from the requests of a period.
const maxLearntCategories = 64

// Replay computes the vector of every request of a period as a live decision at its moment would have: history is walked
// timeline by timeline, each event entering when it became known. Categories that the catalogue leaves open are those of
// the period's requests, the most frequent first. In memory are the matrix, about 150 bytes more a request, and, with
// linked features, the requests that have neighbours.
func Replay(ctx context.Context, h *history.Store, catalogue *features.Catalogue, p Period, progress func(Progress)) (*Matrix, error) {
	return replay(ctx, h, catalogue, newLearner(catalogue), p, progress)
}

// replay learns the categories that learnt asks for: none of a catalogue that a model was trained with.
func replay(ctx context.Context, h *history.Store, catalogue *features.Catalogue, learnt *learner, p Period, progress func(Progress)) (*Matrix, error) {
	m, rows := &Matrix{}, newRowMaker()
	expected := 0 // parts of vectors
	err := h.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From, p.Until, func(f vaglio.Fact) error {
		m.Rows = append(m.Rows, rows.row(&f))
		expected += len(catalogue.Timelines(&f))
		learnt.add(&f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(m.Rows, func(a, b Row) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID)) })
	if catalogue, err = learnt.catalogue(); err != nil {
		return nil, err
	}
	m.Catalogue, m.Names = catalogue, catalogue.Names()
	for _, f := range catalogue.Features() {
		m.Categorical = append(m.Categorical, f.Categorical)
	}
	m.X = make([]float64, len(m.Rows)*len(m.Names))
	r := newReplayer(m)
	report := func(done int64) { progress(Progress{Step: "replay", Done: int(done), Total: expected}) }
	if err := r.fill(ctx, h, p, report); err != nil {
		return nil, err
	}
	if done := r.done.Load(); int(done) != expected {
		return nil, fmt.Errorf("replay: %d of %d parts of vectors are there: history changed in between; run again", done, expected)
	}
	if err := r.link(ctx, h); err != nil {
		return nil, err
	}
	finished := 0
	err = h.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From, p.Until, func(f vaglio.Fact) error {
		if row, ok := r.row(&f); ok {
			catalogue.FinishVector(m.vector(row), &f)
			finished++
		}
		return nil
	})
	if err == nil && finished != len(m.Rows) {
		err = fmt.Errorf("replay: %d of %d requests are there: history changed in between; run again", finished, len(m.Rows))
	}
	report(int64(expected))
	return m, err
}

// replayer fills a matrix. Its visitors work side by side: each part of a vector is columns of its own.
type replayer struct {
	matrix *Matrix
	rows   map[string]int32 // by request id
	done   atomic.Int64     // parts of vectors
	around neighbours
}

func newReplayer(m *Matrix) *replayer {
	r := &replayer{matrix: m, rows: make(map[string]int32, len(m.Rows))}
	for i := range m.Rows {
		r.rows[m.Rows[i].ID] = int32(i)
	}
	if m.Catalogue.LinkedKinds() != nil {
		r.around.of = make([][]features.Neighbour, len(m.Rows))
		r.around.requests = make(map[int]history.Packed)
	}
	return r
}

// row is a request's place in the matrix.
func (r *replayer) row(request *vaglio.Fact) (int, bool) {
	row, ok := r.rows[request.ID]
	return int(row), ok && r.matrix.Rows[row].At == request.OccurredAt
}

// fill walks the timelines, two kinds of entity at a time.
func (r *replayer) fill(ctx context.Context, h *history.Store, p Period, report func(done int64)) error {
	catalogue := r.matrix.Catalogue
	var reporting sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, kind := range catalogue.EntityKinds() {
		visitors := make([]func(*history.Step) error, runtime.GOMAXPROCS(0))
		for i := range visitors {
			visit := r.visitor()
			visitors[i] = func(step *history.Step) error {
				if visit(step) {
					if done := r.done.Add(1); done%5000 == 0 {
						reporting.Lock()
						defer reporting.Unlock()
						report(done)
					}
				}
				return nil
			}
		}
		group.Go(func() error { return h.Replay(ctx, kind, catalogue.EventKinds(kind), p.From, p.Until, visitors) })
	}
	return group.Wait()
}

// visitor takes timelines one after another and tells whether a step filled a part of a vector.
func (r *replayer) visitor() func(*history.Step) bool {
	m := r.matrix
	var entity vaglio.Entity
	var state *features.State
	lastRow := -1
	return func(step *history.Step) bool {
		if step.Entity != entity {
			entity, state, lastRow = step.Entity, m.Catalogue.NewState(step.Entity.Kind), -1
		}
		if !step.Asks {
			state.Add(&step.Fact)
			return false
		}
		row, ok := r.row(&step.Fact)
		if !ok || row == lastRow || !slices.Contains(m.Catalogue.Timelines(&step.Fact), entity) {
			return false
		}
		lastRow = row
		m.Catalogue.VectorPart(m.vector(row), &step.Fact, entity, state)
		if r.around.of != nil {
			r.around.add(row, &step.Fact, m.Catalogue.NeighboursPart(&step.Fact, entity, state))
		}
		return true
	}
}

// neighbours are those of the requests, for features that look beyond a request's own entities.
type neighbours struct {
	mu       sync.Mutex
	of       [][]features.Neighbour // by row
	requests map[int]history.Packed // the rows that have neighbours
}

func (n *neighbours) add(row int, request *vaglio.Fact, part []features.Neighbour) {
	if len(part) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[row] = append(n.of[row], part...)
	if _, known := n.requests[row]; !known {
		n.requests[row] = history.Pack(request)
	}
}

// link is the second pass, for features that read the timelines of a request's neighbours: each customer's at the moments
// of the requests around it.
func (r *replayer) link(ctx context.Context, h *history.Store) error {
	m, around := r.matrix, &r.around
	kinds := m.Catalogue.LinkedKinds()
	if kinds == nil {
		return nil
	}
	rows := map[string][]int{} // by the customer that is their neighbour, in order of time
	for row := range around.of {
		for _, customer := range m.Catalogue.Linked(around.of[row]) {
			rows[customer.ID] = append(rows[customer.ID], row)
		}
	}
	err := h.Walk(ctx, vaglio.EntityCustomer, kinds, func(customer vaglio.Entity, facts []vaglio.Fact) error {
		state, next := m.Catalogue.NewState(vaglio.EntityCustomer), 0
		for _, row := range rows[customer.ID] {
			for ; next < len(facts) && facts[next].KnownAt <= m.Rows[row].At; next++ {
				state.Add(&facts[next])
			}
			request := around.requests[row].Unpack()
			m.Catalogue.LinkedPart(m.vector(row), &request, around.of[row], customer, state)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay linked customers: %w", err)
	}
	return nil
}

// learner counts the values of the categories that a catalogue leaves open.
type learner struct {
	of     *features.Catalogue
	open   []int // features
	counts []map[string]int
}

func newLearner(catalogue *features.Catalogue) *learner {
	l := &learner{of: catalogue, open: catalogue.OpenCategories()}
	for range l.open {
		l.counts = append(l.counts, map[string]int{})
	}
	return l
}

func (l *learner) add(request *vaglio.Fact) {
	for i, feature := range l.open {
		if value := l.of.CategoryOf(feature, request); value != "" {
			if _, known := l.counts[i][value]; !known {
				value = strings.Clone(value)
			}
			l.counts[i][value]++
		}
	}
}

// catalogue is the one with all categories set.
func (l *learner) catalogue() (*features.Catalogue, error) {
	if len(l.open) == 0 {
		return l.of, nil
	}
	learnt := map[int][]string{}
	for i, feature := range l.open {
		counts := l.counts[i]
		values := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
		learnt[feature] = values[:min(len(values), maxLearntCategories)]
	}
	return l.of.WithCategories(learnt)
}
