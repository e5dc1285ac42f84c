package training

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
)

// LiveOptions say which decisions are looked at.
type LiveOptions struct {
	History *history.Store
	Period
	Cut      vaglio.Instant // labels learned later are not used
	Maturity vaglio.Instant // 0: DefaultMaturity
	Measure  MeasureOptions // Resamples and Seed
}

// Live is what models said on live traffic.
type Live struct {
	From      vaglio.Instant `json:"from"`
	Until     vaglio.Instant `json:"until"`
	Decisions int            `json:"decisions"`
	Scored    int            `json:"scored"` // those that a model took part in
	Pairs     []LivePair     `json:"pairs"`
}

// LivePair is a challenger or shadow beside the champion, on the decisions of which both said something. Frauds and clean ones are
// those whose label is settled. The label of a request that was held up or denied is also what that made of it, so the model that
// decided it is judged with some advantage.
type LivePair struct {
	Champion     string           `json:"champion"`
	Model        string           `json:"model"`
	Stage        models.Stage     `json:"stage"`
	Decisions    int              `json:"decisions"`
	Decided      int              `json:"decided_by_model"`
	Verdicts     []DecisionChange `json:"verdicts"` // A is the champion's verdict, B the model's; money in the base currency
	MeanChampion float64          `json:"mean_probability_champion"`
	MeanModel    float64          `json:"mean_probability_model"`
	MeanApart    float64          `json:"mean_probability_apart"` // of the absolute difference
	PSI          float64          `json:"psi"`                    // of the model's probabilities, over tenths of the champion's
	Labelled     int              `json:"labelled"`
	Frauds       int              `json:"frauds"`
	Differences  []Difference     `json:"differences"` // model − champion, on the labelled ones
	Unmeasured   string           `json:"unmeasured,omitzero"`
}

// liveDecision is one decision as each model saw it.
type liveDecision struct {
	request, customer string
	amount            int64
	baseKnown         bool
	said              map[string]liveSaid // by stage
	decidedBy         string
}

type liveSaid struct {
	version     string
	probability float64
	verdict     vaglio.Verdict
}

func readLive(d *vaglio.Taken) liveDecision {
	out := liveDecision{request: d.RequestID, customer: d.Customer, amount: d.BaseAmount, baseKnown: d.BaseKnown, decidedBy: d.Stage,
		said: map[string]liveSaid{}}
	verdict := d.Verdict
	if d.Explored {
		verdict = vaglio.Review
	}
	if d.Probability >= 0 && d.Probability <= 1 {
		out.said[d.Stage] = liveSaid{d.ModelVersion, d.Probability, verdict}
	}
	for _, s := range d.Shadows {
		if s.Probability >= 0 && s.Probability <= 1 {
			out.said[s.Stage] = liveSaid{s.ModelVersion, s.Probability, s.Verdict}
		}
	}
	return out
}

// liveKey tells pairs apart: models change within a period.
type liveKey struct {
	stage           models.Stage
	model, champion string
}

// CompareLive compares the models that took part in live decisions, as they were logged.
func CompareLive(ctx context.Context, o LiveOptions) (Live, error) {
	live := Live{From: o.From, Until: o.Until, Pairs: []LivePair{}}
	if err := o.check("compared"); err != nil {
		return live, err
	}
	var decisions []liveDecision
	err := o.History.ScanDecisions(ctx, o.From, o.Until, func(d vaglio.Taken) error {
		live.Decisions++
		l := readLive(&d)
		if len(l.said) > 0 {
			live.Scored++
		}
		if len(l.said) > 1 {
			decisions = append(decisions, l)
		}
		return nil
	})
	if err != nil {
		return live, err
	}
	rows, err := o.labels(ctx, decisions)
	if err != nil {
		return live, err
	}
	pairs := map[liveKey][]int{}
	for i := range decisions {
		champion, known := decisions[i].said[string(models.Champion)]
		for _, stage := range []models.Stage{models.Challenger, models.Shadow} {
			if said, ok := decisions[i].said[string(stage)]; ok && known {
				key := liveKey{stage, said.version, champion.version}
				pairs[key] = append(pairs[key], i)
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(pairs), func(a, b liveKey) int {
		return cmp.Or(cmp.Compare(a.stage, b.stage), cmp.Compare(a.champion, b.champion), cmp.Compare(a.model, b.model))
	}) {
		pair, err := o.pair(ctx, key, decisions, pairs[key], rows)
		if err != nil {
			return live, err
		}
		live.Pairs = append(live.Pairs, pair)
	}
	return live, nil
}

// labels are the settled rows of the decisions' requests, by id.
func (o *LiveOptions) labels(ctx context.Context, decisions []liveDecision) (map[string]*Row, error) {
	wanted := make(map[string]bool, len(decisions))
	for i := range decisions {
		wanted[decisions[i].request] = true
	}
	rows := map[string]*Row{}
	if len(wanted) == 0 {
		return rows, nil
	}
	labels, err := ReadLabels(ctx, o.History, o.From-decisionDelay, o.Cut)
	if err != nil {
		return nil, err
	}
	made, mature := newRowMaker(), maturityOf(o.Maturity, nil)
	err = o.History.Scan(ctx, []string{vaglio.KindRefundRequested}, o.From-decisionDelay, o.Until, func(f vaglio.Fact) error {
		if !wanted[f.ID] {
			return nil
		}
		row := made.row(&f)
		if label := labels.Of(&row); row.settled(o.Cut, mature) && label.apply(&row) {
			rows[row.ID] = &row
		}
		return nil
	})
	return rows, err
}

// liveMetrics are those that depend on no thresholds: a live policy has more than one pair.
var liveMetrics = []string{"roc_auc", "average_precision", "recall_at_1pct_fpr", "log_loss", "brier"}

func (o *LiveOptions) pair(ctx context.Context, key liveKey, decisions []liveDecision, of []int, labelled map[string]*Row) (LivePair, error) {
	p := LivePair{Champion: key.champion, Model: key.model, Stage: key.stage, Decisions: len(of), Differences: []Difference{}}
	rows := make([]Row, len(of))
	pa, pb := make([]float64, len(of)), make([]float64, len(of))
	va, vb := make([]vaglio.Verdict, len(of)), make([]vaglio.Verdict, len(of))
	var settled []Row
	var settledA, settledB []float64
	for k, i := range of {
		d := &decisions[i]
		a, b := d.said[string(models.Champion)], d.said[string(key.stage)]
		pa[k], pb[k], va[k], vb[k] = a.probability, b.probability, a.verdict, b.verdict
		rows[k] = Row{ID: d.request, Customer: d.customer, BaseAmount: d.amount, BaseKnown: d.baseKnown}
		if d.decidedBy == string(key.stage) {
			p.Decided++
		}
		p.MeanChampion += a.probability / float64(len(of))
		p.MeanModel += b.probability / float64(len(of))
		p.MeanApart += max(a.probability-b.probability, b.probability-a.probability) / float64(len(of))
		if row := labelled[d.request]; row != nil {
			rows[k].Fraud = row.Fraud
			settled, settledA, settledB = append(settled, *row), append(settledA, a.probability), append(settledB, b.probability)
			if row.Fraud {
				p.Frauds++
			}
		}
	}
	edges := tenths(pa)
	bins := len(edges) + 2
	p.PSI = stability(shares(pa, binOfNumber(edges), bins), shares(pb, binOfNumber(edges), bins))
	p.Verdicts, p.Labelled = decisionChanges(rows, va, vb), len(settled)
	if p.Frauds == 0 || p.Frauds == len(settled) {
		p.Unmeasured = fmt.Sprintf("%d of %d decisions have a settled label, %d of them fraud: both kinds are needed", len(settled), len(of), p.Frauds)
		return p, nil
	}
	m := o.Measure
	m.Currency = o.History.BaseCurrency()
	e, err := measure(ctx, settled, settledB, m, []opponent{{"champion", settledA, verdictsOf(settledA, defaultThresholds), true}})
	if err != nil {
		return p, err
	}
	for _, d := range e.Against[0].Differences {
		if slices.Contains(liveMetrics, d.Metric) {
			p.Differences = append(p.Differences, d)
		}
	}
	return p, nil
}
