package training

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/history"
	"vaglio/models"
)

// Evaluation is how a model does on requests whose label is settled. Rates are weighted by the labels' weights; counts and sums of
// money are not. A pointer that is nil, or a key that Intervals lacks, could not be measured.
type Evaluation struct {
	From             vaglio.Instant      `json:"from"`
	Until            vaglio.Instant      `json:"until"`
	Rows             int                 `json:"rows"`
	Frauds           int                 `json:"frauds"`
	ROCAUC           float64             `json:"roc_auc"`           // chance that a fraud scores above an honest request
	AveragePrecision float64             `json:"average_precision"` // Σ (recall step) × precision, as scikit-learn defines it
	LogLoss          float64             `json:"log_loss"`          // mean, natural logarithm
	Brier            float64             `json:"brier"`             // mean squared error of the probability
	CalibrationError float64             `json:"expected_calibration_error"`
	RecallAt01FPR    float64             `json:"recall_at_0_1pct_fpr"` // largest at no more than 0.1 % false positives
	RecallAt05FPR    float64             `json:"recall_at_0_5pct_fpr"`
	RecallAt1FPR     float64             `json:"recall_at_1pct_fpr"`
	RecallAt5FPR     float64             `json:"recall_at_5pct_fpr"`
	PrecisionAt      []Precision         `json:"precision_at"`   // among the k requests of highest probability
	CardPrecision    CardPrecision       `json:"card_precision"` // see CardPrecision
	Thresholds       models.Thresholds   `json:"thresholds"`
	Money            Money               `json:"money"` // at the thresholds
	Verdicts         []VerdictCount      `json:"verdicts"`
	Intervals        map[string]Interval `json:"intervals"` // 95 %, by metric: see Bootstrap. The calibration error has none: noise only adds to it
	Bootstrap        Bootstrap           `json:"bootstrap"`
	Labels           []LabelCount        `json:"labels"`
	Segments         []Segment           `json:"segments"`
	FraudTypes       []FraudType         `json:"fraud_types"`
	Against          []Comparison        `json:"against"`
	Curve            []models.CurveBin   `json:"calibration_curve"`
	FraudsStopped    *float64            `json:"frauds_stopped"` // shares in review or denied by the thresholds
	HonestHeldUp     *float64            `json:"honest_held_up"`
	FraudAmount      *float64            `json:"fraud_amount_stopped"`
	HonestAmount     *float64            `json:"honest_amount_held_up"`
	Predictions      []Prediction        `json:"-"`
}

// Prediction is one request of an evaluation.
type Prediction struct {
	RequestID   string
	Probability float64
	Fraud       bool
}

// Precision is the share of frauds among the K requests of highest probability; nil of fewer requests than K.
type Precision struct {
	K         int      `json:"k"`
	Precision *float64 `json:"precision"`
}

// CardPrecision is the card precision at k (Dal Pozzolo and others, "Credit card fraud detection: a realistic modeling and a novel
// learning strategy", IEEE Transactions on Neural Networks and Learning Systems 29, 2018) with customers in place of cards: each
// day, in UTC, the share of the K customers of highest probability who have a fraud among their requests of the day; the mean
// over the days. Days with no more than K customers need no choice and are left out; nil where that is every day.
type CardPrecision struct {
	K         int      `json:"k"`
	Days      int      `json:"days"`
	Precision *float64 `json:"precision"`
}

// Money is what the thresholds do to it, in minor units of the base currency.
type Money struct {
	Currency       string `json:"currency"`
	FraudStopped   int64  `json:"fraud_stopped"` // in review or denied
	FraudPaid      int64  `json:"fraud_paid"`
	HonestHeldUp   int64  `json:"honest_held_up"` // in review or denied
	HonestPaid     int64  `json:"honest_paid"`
	UnknownAmounts int    `json:"unknown_amounts"` // requests whose amount has no rate: they count in no sum
}

// VerdictCount is what would have got a verdict by the thresholds.
type VerdictCount struct {
	Verdict     vaglio.Verdict `json:"decision"`
	Requests    int            `json:"requests"`
	Frauds      int            `json:"frauds"`
	Amount      int64          `json:"amount"` // minor units of the base currency
	FraudAmount int64          `json:"fraud_amount"`
}

// MeasureOptions say how predictions are judged.
type MeasureOptions struct {
	Thresholds        models.Thresholds // of the verdicts; zero: 0.06 and 0.75
	Currency          string            // the base currency, to be told
	TopK              []int             // of the precisions, above 0; nil: 50, 100, 500
	DailyK            int               // of the card precision; 0: 10
	Resamples         int               // 0: 500; below 0: no intervals
	Seed              uint64
	InversePropensity bool                              // weight by it, so that what was seldom looked into counts for its like
	New               func(row int) (isNew, known bool) // whether its customer was new; nil: unknown
	progress          func(done, total int)
}

func (o *MeasureOptions) fill() error {
	if o.Thresholds == (models.Thresholds{}) {
		o.Thresholds = defaultThresholds
	}
	if o.TopK == nil {
		o.TopK = []int{50, 100, 500}
	}
	o.TopK = slices.Compact(slices.Sorted(slices.Values(o.TopK)))
	o.DailyK, o.Resamples = cmp.Or(o.DailyK, 10), max(0, cmp.Or(o.Resamples, 500))
	const mostResamples = 100_000
	if o.DailyK < 1 || len(o.TopK) > 0 && o.TopK[0] < 1 || o.Resamples > mostResamples {
		return fmt.Errorf("precision at %v and %d a day, %d resamples: want counts above 0 and at most %d resamples", o.TopK, o.DailyK, o.Resamples, mostResamples)
	}
	return nil
}

// Evaluate scores the requests of a period with a bundle, as of their own moments, against the labels known at the cut.
func Evaluate(ctx context.Context, h *history.Store, b *models.Bundle, p Period, cut, maturity vaglio.Instant, progress func(Progress)) (Evaluation, error) {
	x, err := Examine(ctx, b, ExamineOptions{History: h, Period: p, Cut: cut, Maturity: maturity, Progress: progress})
	return x.Evaluation, err
}

// ExamineOptions say on which requests a model is judged, how, and against what.
type ExamineOptions struct {
	History *history.Store
	Period
	Cut      vaglio.Instant // labels learned later are not used
	Maturity vaglio.Instant // 0: DefaultMaturity
	Measure  MeasureOptions // Thresholds, Currency and New are filled in
	Champion *models.Bundle // to compare with; nil, or the same model: no comparison
	Rules    Rules          // to compare with; may be nil
	Progress func(Progress) // may be nil
}

// Examination is an evaluation with what it was made of.
type Examination struct {
	Evaluation
	Matrix      *Matrix
	Probability []float64 // by row
	weight      []float64
	against     []opponent
}

// Examine is Evaluate with choices: it also compares with the champion and with rules on the same rows.
func Examine(ctx context.Context, b *models.Bundle, o ExamineOptions) (Examination, error) {
	sets, err := o.matrices(ctx, b, o.Champion)
	if err != nil {
		return Examination{}, err
	}
	return ExamineMatrix(ctx, b, sets[0], sets[1], o)
}

// ExamineMatrix is Examine for labelled rows in hand, by the catalogues of the model and of the champion; without a champion
// theirs is nil. Of the options it reads no history, cut and maturity.
func ExamineMatrix(ctx context.Context, b *models.Bundle, own, theirs *Matrix, o ExamineOptions) (x Examination, err error) {
	x.Matrix = own
	if x.Probability, err = probabilities(ctx, b, x.Matrix); err != nil {
		return x, err
	}
	m := o.Measure
	m.Thresholds, m.Currency, m.New = b.Manifest().Thresholds, b.Manifest().BaseCurrency, x.Matrix.newCustomers()
	if o.Progress != nil {
		m.progress = func(done, total int) { o.Progress(Progress{Step: "evaluate", Done: done, Total: total}) }
	}
	var against []opponent
	if o.Champion != nil && o.Champion.Identity() != b.Identity() {
		p, err := probabilities(ctx, o.Champion, theirs)
		if err != nil {
			return x, err
		}
		theirs := o.Champion.Manifest()
		name := "champion " + theirs.Version
		if theirs.Training.Until > o.Period.From {
			name += ", which has learnt from some of these requests and flatters itself"
		}
		against = append(against, opponent{name, p, verdictsOf(p, theirs.Thresholds), true})
	}
	if o.Rules != nil {
		baseline, err := o.Rules(ctx, x.Matrix)
		if err != nil {
			return x, fmt.Errorf("rules to compare with: %w", err)
		}
		against = append(against, rulesOnly(baseline, len(x.Matrix.Rows)))
	}
	if x.weight, err = weights(x.Matrix.Rows, x.Probability, m.InversePropensity); err != nil {
		return x, err
	}
	x.against = against
	x.Evaluation, err = measure(ctx, x.Matrix.Rows, x.Probability, m, against)
	x.From, x.Until = o.From, o.Until
	return x, err
}

// matrices are the labelled rows of the period by the catalogue of each bundle: the same rows, in the same order. A bundle
// may be nil.
func (o *ExamineOptions) matrices(ctx context.Context, bundles ...*models.Bundle) ([]*Matrix, error) {
	if err := o.check("evaluation"); err != nil {
		return nil, err
	}
	out := make([]*Matrix, len(bundles))
	of := map[string]*Matrix{}
	for i, b := range bundles {
		if b == nil {
			continue
		}
		yaml, err := b.Catalogue().YAML()
		if err != nil {
			return nil, fmt.Errorf("write the catalogue of model %s: %w", b.Manifest().Version, err)
		}
		if of[string(yaml)] == nil {
			label := Options{History: o.History, Catalogue: b.Catalogue(), Maturity: o.Maturity, Progress: o.Progress,
				InversePropensity: o.Measure.InversePropensity}
			label.fill()
			if of[string(yaml)], err = label.labelled(ctx, o.Period, o.Cut, &learner{of: b.Catalogue()}); err != nil {
				return nil, err
			}
		}
		out[i] = of[string(yaml)]
		if !slices.EqualFunc(out[0].Rows, out[i].Rows, func(a, b Row) bool { return a.ID == b.ID && a.Fraud == b.Fraud }) {
			return nil, errors.New("history changed between two replays: run again")
		}
	}
	return out, nil
}

// probabilities scores every row of a matrix of the bundle's own catalogue.
func probabilities(ctx context.Context, b *models.Bundle, m *Matrix) ([]float64, error) {
	return score(ctx, b.Model, b.Calibration, m)
}

func score(ctx context.Context, model *models.Model, calibration *models.Calibration, m *Matrix) ([]float64, error) {
	out := make([]float64, len(m.Rows))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const block = 1000
	for from := 0; from < len(out); from += block {
		group.Go(func() error {
			for i := from; i < min(from+block, len(out)); i++ {
				logOdds, err := model.LogOdds(m.vector(i))
				if err != nil {
					return fmt.Errorf("score request %s: %w", m.Rows[i].ID, err)
				}
				out[i] = calibration.Probability(logOdds)
			}
			return ctx.Err()
		})
	}
	return out, group.Wait()
}

// Measure judges probabilities of fraud, by row, against the rows' labels. It refuses what is no probability or no weight, and
// rows of only one class.
func Measure(ctx context.Context, rows []Row, probability []float64, o MeasureOptions) (Evaluation, error) {
	return measure(ctx, rows, probability, o, nil)
}

func measure(ctx context.Context, rows []Row, probability []float64, o MeasureOptions, against []opponent) (Evaluation, error) {
	if err := o.fill(); err != nil {
		return Evaluation{}, err
	}
	weight, err := weights(rows, probability, o.InversePropensity)
	if err != nil {
		return Evaluation{}, err
	}
	g := newGround(rows, weight, &o)
	verdicts := verdictsOf(probability, o.Thresholds)
	own := g.board(probability, verdicts, true)
	e := Evaluation{Rows: len(rows), Thresholds: o.Thresholds, Bootstrap: Bootstrap{o.Resamples, intervalLevel, "customer", o.Seed},
		Intervals: map[string]Interval{}, Predictions: make([]Prediction, len(rows)), Labels: countLabels(rows),
		FraudTypes: fraudTypes(rows, own.ranked, probability, verdicts)}
	fraud := make([]bool, len(rows))
	for i := range rows {
		e.Predictions[i], fraud[i] = Prediction{rows[i].ID, probability[i], rows[i].Fraud}, rows[i].Fraud
		if rows[i].Fraud {
			e.Frauds++
		}
	}
	e.Curve, e.CalibrationError = models.ReliabilityCurve(probability, fraud, weight)
	e.Money, e.Verdicts = countVerdicts(rows, verdicts, o.Currency)
	segments := g.segments(own, &o)
	rivals := make([]*rival, len(against))
	for i := range against {
		rivals[i] = g.rival(own, &against[i])
	}
	parts := []measured{own, segments}
	for _, r := range rivals {
		parts = append(parts, r)
	}
	point, drawn, err := g.measureAll(ctx, &e.Bootstrap, parts, o.progress)
	if err != nil {
		return e, err
	}
	e.fill(own, point[0], drawn[0])
	e.Segments = segments.told(point[1], drawn[1])
	for i, r := range rivals {
		e.Against = append(e.Against, r.told(point[0], point[2+i], drawn[0], drawn[2+i]))
	}
	return e, nil
}

// weights checks what is to be measured and returns the weight of each row.
func weights(rows []Row, probability []float64, inversePropensity bool) ([]float64, error) {
	if len(rows) != len(probability) {
		return nil, fmt.Errorf("%d labelled requests, %d probabilities", len(rows), len(probability))
	}
	weight := make([]float64, len(rows))
	frauds, ofFraud, ofHonest := 0, 0.0, 0.0
	for i := range rows {
		row := &rows[i]
		if p := probability[i]; !(p >= 0 && p <= 1) {
			return nil, fmt.Errorf("request %s has no probability, but %v", row.ID, p)
		}
		weight[i] = row.Weight
		if inversePropensity {
			weight[i] /= row.Propensity
		}
		if w := weight[i]; !(w >= 0) || math.IsInf(w, 1) {
			return nil, fmt.Errorf("the label of request %s has weight %v and propensity %v", row.ID, row.Weight, row.Propensity)
		}
		if row.Fraud {
			frauds++
			ofFraud += weight[i]
		} else {
			ofHonest += weight[i]
		}
	}
	switch {
	case frauds == 0 || frauds == len(rows):
		return nil, fmt.Errorf("%d frauds among %d labelled requests: an evaluation needs both classes; choose a longer period", frauds, len(rows))
	case ofFraud == 0 || ofHonest == 0:
		return nil, errors.New("all labels of one class have weight 0: an evaluation needs labels of both classes that count")
	}
	return weight, nil
}

// fill sets the metrics by their names.
func (e *Evaluation) fill(b *board, point []float64, drawn [][]float64) {
	into := map[string]*float64{"roc_auc": &e.ROCAUC, "average_precision": &e.AveragePrecision, "log_loss": &e.LogLoss, "brier": &e.Brier,
		"recall_at_0_1pct_fpr": &e.RecallAt01FPR, "recall_at_0_5pct_fpr": &e.RecallAt05FPR, "recall_at_1pct_fpr": &e.RecallAt1FPR,
		"recall_at_5pct_fpr": &e.RecallAt5FPR}
	shares := map[string]**float64{"frauds_stopped": &e.FraudsStopped, "honest_held_up": &e.HonestHeldUp, "fraud_amount_stopped": &e.FraudAmount,
		"honest_amount_held_up": &e.HonestAmount}
	for i, name := range b.names {
		if field := into[name]; field != nil {
			*field = point[i]
		}
		if field := shares[name]; field != nil {
			*field = known(point[i])
		}
		if interval, ok := intervalOf(drawn[i]); ok && !math.IsNaN(point[i]) {
			e.Intervals[name] = interval
		}
	}
	for i, k := range b.topK {
		e.PrecisionAt = append(e.PrecisionAt, Precision{int(k), known(point[b.firstTop+i])})
	}
	e.CardPrecision = CardPrecision{b.dailyK, b.fullDays(), known(point[b.card])}
}

// known is nil for what could not be measured.
func known(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	return &v
}

func (e *Evaluation) metrics() map[string]float64 {
	m := map[string]float64{"roc_auc": e.ROCAUC, "average_precision": e.AveragePrecision, "log_loss": e.LogLoss, "brier": e.Brier,
		"recall_at_0_1pct_fpr": e.RecallAt01FPR, "recall_at_0_5pct_fpr": e.RecallAt05FPR, "recall_at_1pct_fpr": e.RecallAt1FPR,
		"recall_at_5pct_fpr": e.RecallAt5FPR, "expected_calibration_error": e.CalibrationError}
	for name, v := range map[string]*float64{"frauds_stopped": e.FraudsStopped, "honest_held_up": e.HonestHeldUp, "fraud_amount_stopped": e.FraudAmount,
		"honest_amount_held_up": e.HonestAmount} {
		if v != nil {
			m[name] = *v
		}
	}
	for _, p := range e.PrecisionAt {
		if p.Precision != nil {
			m[fmt.Sprintf("precision_at_%d", p.K)] = *p.Precision
		}
	}
	if p := e.CardPrecision; p.Precision != nil {
		m[fmt.Sprintf("card_precision_at_%d", p.K)] = *p.Precision
	}
	return m
}

func verdictsOf(probability []float64, t models.Thresholds) []vaglio.Verdict {
	out := make([]vaglio.Verdict, len(probability))
	for i, p := range probability {
		out[i] = decide(p, t)
	}
	return out
}

func countVerdicts(rows []Row, verdicts []vaglio.Verdict, currency string) (Money, []VerdictCount) {
	money := Money{Currency: currency}
	counts := []VerdictCount{{Verdict: vaglio.Approve}, {Verdict: vaglio.Review}, {Verdict: vaglio.Deny}}
	for i := range rows {
		row := &rows[i]
		c := &counts[slices.IndexFunc(counts, func(c VerdictCount) bool { return c.Verdict == verdicts[i] })]
		c.Requests++
		if row.Fraud {
			c.Frauds++
		}
		if !row.BaseKnown {
			money.UnknownAmounts++
			continue
		}
		c.Amount += row.BaseAmount
		into := &money.HonestPaid
		switch {
		case row.Fraud && c.Verdict == vaglio.Approve:
			into = &money.FraudPaid
		case row.Fraud:
			into = &money.FraudStopped
		case c.Verdict != vaglio.Approve:
			into = &money.HonestHeldUp
		}
		*into += row.BaseAmount
		if row.Fraud {
			c.FraudAmount += row.BaseAmount
		}
	}
	return money, counts
}
