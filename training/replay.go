package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
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
	ID    string
	At    vaglio.Instant
	Fraud bool // meaningful once labelled
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
	labels := make([]float64, len(m.Rows))
	for i := range m.Rows {
		if m.Rows[i].Fraud {
			labels[i] = 1
		}
	}
	return lightgbm.Dataset{Names: m.Names, Categorical: m.Categorical, Rows: len(m.Rows), X: m.X, Label: labels}
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
// the period's requests, the most frequent first.
func Replay(ctx context.Context, h *history.Store, catalogue *features.Catalogue, p Period, progress func(Progress)) (*Matrix, error) {
	var requests []vaglio.Fact
	err := h.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From, p.Until, func(f vaglio.Fact) error {
		requests = append(requests, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(requests, func(a, b vaglio.Fact) int {
		return cmp.Or(cmp.Compare(a.OccurredAt, b.OccurredAt), cmp.Compare(a.ID, b.ID))
	})
	if catalogue, err = learnCategories(catalogue, requests); err != nil {
		return nil, err
	}
	m := &Matrix{Catalogue: catalogue, Names: catalogue.Names(), Rows: make([]Row, len(requests))}
	for _, f := range catalogue.Features() {
		m.Categorical = append(m.Categorical, f.Categorical)
	}
	m.X = make([]float64, len(requests)*len(m.Names))
	rows := make(map[string]int, len(requests))
	for i := range requests {
		m.Rows[i] = Row{ID: requests[i].ID, At: requests[i].OccurredAt}
		rows[requests[i].ID] = i
	}
	around := neighbours{of: make([][]features.Neighbour, len(requests))}
	if err := m.fill(ctx, h, p, requests, rows, &around, progress); err != nil {
		return nil, err
	}
	if err := m.link(ctx, h, requests, around.of); err != nil {
		return nil, err
	}
	for i := range requests {
		catalogue.FinishVector(m.vector(i), &requests[i])
	}
	return m, nil
}

// fill walks the timelines, one kind of entity a goroutine: each writes columns of its own.
func (m *Matrix) fill(ctx context.Context, h *history.Store, p Period, requests []vaglio.Fact, rows map[string]int, around *neighbours, progress func(Progress)) error {
	kinds := m.Catalogue.EntityKinds()
	expected := 0 // parts of vectors
	for i := range requests {
		expected += len(m.Catalogue.Timelines(&requests[i]))
	}
	var done atomic.Int64
	var reporting sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, kind := range kinds {
		events := m.Catalogue.EventKinds(kind)
		if events != nil {
			events = append(events, vaglio.KindRefundRequested)
			slices.Sort(events)
		}
		group.Go(func() error {
			return h.Walk(ctx, kind, slices.Compact(events), func(entity vaglio.Entity, facts []vaglio.Fact) error {
				n := m.replayTimeline(entity, facts, p, rows, around)
				if total := done.Add(int64(n)); n > 0 && total/5000 != (total-int64(n))/5000 {
					reporting.Lock()
					defer reporting.Unlock()
					progress(Progress{Step: "replay", Done: int(total), Total: expected})
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if int(done.Load()) != expected {
		return fmt.Errorf("replay: %d of %d parts of vectors are there: history changed in between; run again", done.Load(), expected)
	}
	progress(Progress{Step: "replay", Done: expected, Total: expected})
	return nil
}

// replayTimeline computes one entity's part of the vectors of the period's requests and returns how many. The facts come
// in the order in which they became known.
func (m *Matrix) replayTimeline(entity vaglio.Entity, facts []vaglio.Fact, p Period, rows map[string]int, around *neighbours) int {
	var requests []*vaglio.Fact
	for i := range facts {
		if facts[i].Kind == vaglio.KindRefundRequested && p.contains(facts[i].OccurredAt) {
			requests = append(requests, &facts[i])
		}
	}
	if len(requests) == 0 {
		return 0
	}
	slices.SortFunc(requests, func(a, b *vaglio.Fact) int { return cmp.Compare(a.OccurredAt, b.OccurredAt) })
	state := m.Catalogue.NewState(entity.Kind)
	next, n := 0, 0
	for _, r := range requests {
		for ; next < len(facts) && facts[next].KnownAt <= r.OccurredAt; next++ {
			state.Add(&facts[next])
		}
		row, ok := rows[r.ID]
		if !ok || !slices.Contains(m.Catalogue.Timelines(r), entity) {
			continue
		}
		m.Catalogue.VectorPart(m.vector(row), r, entity, state)
		around.add(row, m.Catalogue.NeighboursPart(r, entity, state))
		n++
	}
	return n
}

// neighbours are those of the requests, for features that look beyond a request's own entities.
type neighbours struct {
	mu sync.Mutex
	of [][]features.Neighbour // by row
}

func (n *neighbours) add(row int, part []features.Neighbour) {
	if len(part) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[row] = append(n.of[row], part...)
}

// link is the second pass, for features that read the timelines of a request's neighbours: each customer's at the moments
// of the requests around it.
func (m *Matrix) link(ctx context.Context, h *history.Store, requests []vaglio.Fact, around [][]features.Neighbour) error {
	kinds := m.Catalogue.LinkedKinds()
	if kinds == nil {
		return nil
	}
	rows := map[string][]int{} // by the customer that is their neighbour, in order of time
	for row := range requests {
		for _, customer := range m.Catalogue.Linked(around[row]) {
			rows[customer.ID] = append(rows[customer.ID], row)
		}
	}
	err := h.Walk(ctx, vaglio.EntityCustomer, kinds, func(customer vaglio.Entity, facts []vaglio.Fact) error {
		state, next := m.Catalogue.NewState(vaglio.EntityCustomer), 0
		for _, row := range rows[customer.ID] {
			for ; next < len(facts) && facts[next].KnownAt <= requests[row].OccurredAt; next++ {
				state.Add(&facts[next])
			}
			m.Catalogue.LinkedPart(m.vector(row), &requests[row], around[row], customer, state)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay linked customers: %w", err)
	}
	return nil
}

func learnCategories(catalogue *features.Catalogue, requests []vaglio.Fact) (*features.Catalogue, error) {
	learnt := map[int][]string{}
	for _, feature := range catalogue.OpenCategories() {
		counts := map[string]int{}
		for i := range requests {
			if value := catalogue.CategoryOf(feature, &requests[i]); value != "" {
				counts[value]++
			}
		}
		values := make([]string, 0, len(counts))
		for value := range counts {
			values = append(values, value)
		}
		slices.SortFunc(values, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
		learnt[feature] = values[:min(len(values), maxLearntCategories)]
	}
	if len(learnt) == 0 {
		return catalogue, nil
	}
	return catalogue.WithCategories(learnt)
}

// label keeps the rows whose label is settled at the cut: of requests old enough to be mature, fraud if the newest label
// known by then says so, clean otherwise. Younger requests are left out whatever their label: keeping only the labelled
// ones among them would keep mostly frauds.
func (m *Matrix) label(labels Labels, cut, maturity vaglio.Instant) *Matrix {
	out := *m
	out.Rows, out.X = nil, nil
	for i, row := range m.Rows {
		if row.At+maturity > cut {
			continue
		}
		row.Fraud = labels[row.ID]
		out.Rows = append(out.Rows, row)
		out.X = append(out.X, m.vector(i)...)
	}
	return &out
}

// Labels tell the frauds by request id; an honest request is false or absent.
type Labels map[string]bool

// ReadLabels reads the labels of requests from a moment on, as they were known at the cut: of several the one that occurred
// last holds, so fraud_cleared takes fraud_confirmed back.
func ReadLabels(ctx context.Context, h *history.Store, from, cut vaglio.Instant) (Labels, error) {
	newest := map[string]vaglio.Fact{}
	err := h.Scan(ctx, []string{vaglio.KindFraudConfirmed, vaglio.KindFraudCleared}, from, math.MaxInt64, func(f vaglio.Fact) error {
		id := f.Entities.Get(vaglio.EntityRequest)
		before, known := newest[id]
		if f.KnownAt <= cut && (!known || cmp.Or(cmp.Compare(before.OccurredAt, f.OccurredAt), cmp.Compare(before.ID, f.ID)) < 0) {
			f.Attributes = nil
			newest[id] = f
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the labels: %w", err)
	}
	labels := make(Labels, len(newest))
	for id, f := range newest {
		labels[id] = f.Kind == vaglio.KindFraudConfirmed
	}
	return labels, nil
}
