package training

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
)

// BacktestOptions say which part of the past is decided again, and how. History and Policies are required.
type BacktestOptions struct {
	History *history.Store
	Bundle  *models.Bundle // nil: rules alone, by the default catalogue; the score then asks for a review of everything
	// Policies are put to the same requests, the others compared with the first. Rules of the embedded policy that ask for features
	// that the catalogue has not are left out; any other policy has to fit.
	Policies []*policy.Policy
	Lists    policy.Lists // are asked as of each request's moment; nil: nothing is known of lists
	Period
	Cut          vaglio.Instant            // labels learned later are not used; 0: all labels
	Maturity     vaglio.Instant            // age from which a request without a label counts as clean; 0: DefaultMaturity
	RailMaturity map[string]vaglio.Instant // that of rails that need more; nil: none, or DefaultRailMaturity when Maturity is 0, too
	Costs        *policy.Costs             // judge all policies by these; nil: those of the first policy, if it has any
	Examples     int                       // of each kind of change; 0: 10; below 0: none
	// Decided is told of each decision in the period, in order of time, and may be nil. The outcome holds until it returns.
	Decided  func(request *Row, p *policy.Policy, out *policy.Outcome)
	Progress func(Progress) // may be nil
}

// maxExamples bounds the examples of each kind of change.
const maxExamples = 1000

func (o *BacktestOptions) fill() error {
	if err := o.check("back-test's"); err != nil {
		return err
	}
	if o.From < 0 {
		return errors.New("the back-test's period begins before 1970")
	}
	if len(o.Policies) == 0 {
		return errors.New("the back-test wants a policy")
	}
	if o.Bundle != nil {
		if trained, base := o.Bundle.Manifest().BaseCurrency, o.History.BaseCurrency(); trained != base {
			return fmt.Errorf("model %s was trained on amounts in %s, history keeps %s", o.Bundle.Manifest().Version, trained, base)
		}
	}
	if o.Cut == 0 {
		o.Cut = math.MaxInt64
	}
	if o.Costs == nil {
		o.Costs = o.Policies[0].Costs
	}
	switch {
	case o.Examples == 0:
		o.Examples = 10
	case o.Examples < 0 || o.Examples > maxExamples:
		o.Examples = min(max(0, o.Examples), maxExamples)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return nil
}

// warmUp is how long before the period requests are decided as well, without being reported, so that its first customers have
// counters and its first payments reservations.
const warmUp = vaglio.Day

// Backtest decides the requests of a period again, in order of time, as decisions at their moments would have: with features,
// lists and the payments' money as they were known then. Of its own earlier verdicts each policy sees what the ledger would have
// told: the customer's counters, and the approvals that hold money back until the refund is known to be paid, failed or
// cancelled, or [policy.Policy].ApprovalValid is over. What happened to payments in truth stays as it happened. Guards, review
// capacity and exploration, which belong to the running service, do not act. What a request said beside its event
// (`payment.captured_amount`, `payment.reversible_until`, `partial`) is in no history and counts as not said.
//
// In memory are the matrix, the requests' events packed, and the money of the payments that they name.
func Backtest(ctx context.Context, o BacktestOptions) (BacktestReport, error) {
	if err := o.fill(); err != nil {
		return BacktestReport{}, err
	}
	catalogue := features.Default()
	if o.Bundle != nil {
		catalogue = o.Bundle.Catalogue()
	}
	contenders := make([]*contender, len(o.Policies))
	for i, p := range o.Policies {
		var err error
		if contenders[i], err = newContender(p, catalogue); err != nil {
			return BacktestReport{}, err
		}
	}
	labels, err := ReadLabels(ctx, o.History, max(0, o.From-warmUp), o.Cut)
	if err != nil {
		return BacktestReport{}, err
	}
	past, err := readPast(ctx, &o, catalogue)
	if err != nil {
		return BacktestReport{}, err
	}
	report := newBacktestReport(&o, contenders, labels)
	if err := past.decide(ctx, &o, contenders, &report); err != nil {
		return BacktestReport{}, err
	}
	if report.Requests == 0 {
		return BacktestReport{}, fmt.Errorf("there are no requests from %v to %v", o.From, o.Until)
	}
	report.finish(&o, contenders)
	return report, nil
}

// contender is a policy being tried: it lives through the period with books of its own.
type contender struct {
	policy  *policy.Policy
	bound   *policy.Bound
	dropped []string
	ev      policy.Evaluation
	books   books
	out     policy.Outcome // of the request under way
	result  tally
}

func newContender(p *policy.Policy, catalogue *features.Catalogue) (t *contender, err error) {
	t = &contender{policy: p, books: newBooks(vaglio.Instant(p.ApprovalValid.Milliseconds()))}
	if p == policy.Default() {
		t.bound, t.dropped = p.BindLoose(catalogue)
		return t, nil
	}
	if t.bound, err = p.Bind(catalogue); err != nil {
		return nil, fmt.Errorf("policy %s does not fit the model's features: %w", p.Version(), err)
	}
	return t, nil
}

// decide takes one decision and enters it in the books.
func (t *contender) decide(in *policy.Input, money *paymentMoney) {
	t.bound.Evaluate(in, &t.ev)
	s := t.books.situation(in, money)
	t.out = t.bound.Conclude(&t.ev, s)
	t.books.enter(in, t.out.Verdict)
}

// past is what a back-test has in memory.
type past struct {
	matrix      *Matrix
	requests    []history.Packed // by row
	probability []float64        // by row; nil without a model
	money       map[string]*paymentMoney
}

func readPast(ctx context.Context, o *BacktestOptions, catalogue *features.Catalogue) (*past, error) {
	p := Period{From: max(0, o.From-warmUp), Until: o.Until}
	m, err := replay(ctx, o.History, catalogue, &learner{of: catalogue}, p, o.Progress)
	if err != nil {
		return nil, err
	}
	out := &past{matrix: m, requests: make([]history.Packed, len(m.Rows))}
	if o.Bundle != nil {
		if out.probability, err = probabilities(ctx, o.Bundle, m); err != nil {
			return nil, err
		}
	}
	err = eachRequest(ctx, o.History, m, func(row int, f *vaglio.Fact) { out.requests[row] = history.Pack(f) })
	if err == nil {
		o.Progress(Progress{Step: "payments"})
		out.money, err = readMoney(ctx, o.History, p)
	}
	return out, err
}

// decide has each policy decide each request, in order of time.
func (p *past) decide(ctx context.Context, o *BacktestOptions, contenders []*contender, report *BacktestReport) error {
	m := p.matrix
	in := policy.Input{Probability: math.NaN(), RiskScore: math.NaN(), Lists: o.Lists}
	if o.Bundle != nil {
		in.Thresholds = o.Bundle.Manifest().Thresholds
	}
	for i := range m.Rows {
		if i%5000 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			o.Progress(Progress{Step: "decide", Done: i, Total: len(m.Rows)})
		}
		row := &m.Rows[i]
		fact := p.requests[i].Unpack()
		request := vaglio.RequestOf(&fact.Event)
		in.Request, in.Fact, in.Vector, in.Moment = &request, &fact, m.vector(i), row.At
		if p.probability != nil {
			in.Probability = p.probability[i]
			in.RiskScore = o.Bundle.RiskScore(in.Probability)
		}
		money := p.money[fact.Entities.Get(vaglio.EntityPayment)]
		money.advance(row.At)
		for _, t := range contenders {
			t.decide(&in, money)
		}
		if row.At >= o.From {
			report.note(row, &in, contenders)
			for _, c := range contenders {
				if o.Decided != nil {
					o.Decided(row, c.policy, &c.out)
				}
			}
		}
	}
	return nil
}

// paymentMoney is what became known of a payment's money, in that order.
type paymentMoney struct {
	told    []ledger.Movement
	knownAt []vaglio.Instant // of each
	known   int              // how many are known at the moment that the back-test has come to
	more    vaglio.Instant   // from here on there is more than a decision reads; 0: never
}

// advance goes to a later moment.
func (p *paymentMoney) advance(to vaglio.Instant) {
	for p != nil && p.known < len(p.told) && p.knownAt[p.known] <= to {
		p.known++
	}
}

// ended reports whether what is known ends a request: an approval by the fate of its whole refund, a review by any word of one,
// and by the denial of whoever decided in truth.
func (p *paymentMoney) ended(o *opened) bool {
	var refund ledger.Refund
	for i := range p.told[:p.known] {
		m := &p.told[i]
		switch settles := scoring.Settles(m.Kind); {
		case m.RequestID != o.id:
		case settles && o.approved:
			refund.Add(m, o.currency)
		case settles, !o.approved && m.Kind == vaglio.KindRefundDenied:
			return true
		}
	}
	return o.approved && refund.Rest(o.amount) == 0
}

// readMoney reads the money of the payments that requests of the period name, in one pass.
func readMoney(ctx context.Context, h *history.Store, p Period) (map[string]*paymentMoney, error) {
	parts := make([]*moneyReader, runtime.GOMAXPROCS(0))
	visitors := make([]func(*history.Step) error, len(parts))
	for i := range parts {
		parts[i] = &moneyReader{of: map[string]*paymentMoney{}, texts: map[string]string{}, ofKind: map[string]int{}}
		visitors[i] = parts[i].visit
	}
	kinds := append(scoring.MoneyKinds(), vaglio.KindRefundDenied)
	if err := h.Replay(ctx, vaglio.EntityPayment, kinds, p.From, p.Until, visitors); err != nil {
		return nil, fmt.Errorf("read the money of payments: %w", err)
	}
	all := parts[0].of
	for _, part := range parts[1:] {
		for id, money := range part.of {
			all[id] = money
		}
	}
	return all, nil
}

// moneyReader collects the money of payments, one timeline after the other.
type moneyReader struct {
	of     map[string]*paymentMoney
	texts  map[string]string // kept once
	entity vaglio.Entity
	ofKind map[string]int // facts of the timeline
}

func (r *moneyReader) visit(step *history.Step) error {
	if step.Entity != r.entity {
		r.entity = vaglio.Entity{Kind: step.Entity.Kind, ID: strings.Clone(step.Entity.ID)}
		clear(r.ofKind)
	}
	f := &step.Fact
	if step.Asks || f.Kind == vaglio.KindRefundRequested {
		return nil
	}
	p := r.of[r.entity.ID]
	if p == nil {
		p = &paymentMoney{}
		r.of[r.entity.ID] = p
	}
	if n := len(p.told); n > 0 && p.told[n-1].EventID == f.ID {
		return nil // repeated
	}
	if r.ofKind[f.Kind] == vaglio.NewestPerKind {
		return nil
	}
	if r.ofKind[f.Kind]++; r.ofKind[f.Kind] == vaglio.NewestPerKind && p.more == 0 {
		p.more = f.KnownAt
	}
	p.told = append(p.told, ledger.Movement{EventID: strings.Clone(f.ID), Kind: r.once(f.Kind), RequestID: strings.Clone(f.Entities.Get(vaglio.EntityRequest)),
		Customer: r.once(f.Entities.Get(vaglio.EntityCustomer)), Amount: f.Amount, Currency: r.once(f.Currency), OccurredAt: f.OccurredAt})
	p.knownAt = append(p.knownAt, f.KnownAt)
	return nil
}

// once keeps one copy of what comes often.
func (r *moneyReader) once(text string) string {
	kept, ok := r.texts[text]
	if !ok {
		kept = strings.Clone(text)
		r.texts[kept] = kept
	}
	return kept
}
