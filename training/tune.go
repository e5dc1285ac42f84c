package training

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"vaglio/training/lightgbm"
)

// knob is a parameter that is tuned. It is turned to a place from 0 to 1.
type knob struct {
	name      string
	choices   []string // nil: a number between low and high
	low, high float64  // above 0; places are spread by the logarithm
	whole     bool
}

// knobs are LightGBM's parameters that matter most for tables of a few dozen columns. Depth ends where LightGBM's own
// contributions, by which bundles are checked, lose their precision. Few bins hide the round amounts of fraud.
var knobs = []knob{
	{name: "max_bin", choices: []string{"255", "512", "1024", "4095"}},
	{name: "learning_rate", low: 0.02, high: 0.2},
	{name: "num_leaves", low: 8, high: 128, whole: true},
	{name: "max_depth", choices: []string{"4", "6", "8", "10", "12"}},
	{name: "min_data_in_leaf", low: 5, high: 200, whole: true},
	{name: "feature_fraction", low: 0.4, high: 1},
	{name: "bagging_fraction", low: 0.5, high: 1},
	{name: "lambda_l1", low: 0.001, high: 10},
	{name: "lambda_l2", low: 0.01, high: 100},
}

// value is the parameter at a place.
func (k *knob) value(place float64) string {
	if k.choices != nil {
		return k.choices[min(int(place*float64(len(k.choices))), len(k.choices)-1)]
	}
	v := k.low * math.Pow(k.high/k.low, place)
	if k.whole {
		return strconv.Itoa(int(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// trialRecord is one line of a file of trials.
type trialRecord struct {
	Trial            int                `json:"trial"`
	Places           []float64          `json:"places"` // of the knobs; none: all as they were given
	Params           map[string]string  `json:"params"`
	AveragePrecision float64            `json:"average_precision"` // on the validation, of the best round
	BestIteration    int                `json:"best_iteration"`
	Pruned           bool               `json:"pruned"`
	Rungs            map[string]float64 `json:"rungs"` // the best average precision by then, by round
}

func (r *trialRecord) String() string {
	if len(r.Params) == 0 {
		return fmt.Sprintf("%.4f in trial %d, with the parameters as they were", r.AveragePrecision, r.Trial+1)
	}
	parts := make([]string, 0, len(r.Params))
	for _, name := range slices.Sorted(maps.Keys(r.Params)) {
		parts = append(parts, name+" "+r.Params[name])
	}
	return fmt.Sprintf("%.4f in trial %d, with %s", r.AveragePrecision, r.Trial+1, strings.Join(parts, ", "))
}

// tuner looks for better parameters.
type tuner struct {
	seed  uint64
	knobs []knob
	done  []trialRecord
}

// tune tries parameters on a split and returns the best. Each trial is recorded before the next begins; trials that the file
// has already are not repeated, so the same tuning goes on where it was stopped, to the same end.
func (o *Options) tune(ctx context.Context, on split, params map[string]string) (_ map[string]string, err error) {
	t := &tuner{seed: o.Seed}
	for _, k := range knobs {
		if _, fixed := o.Params[k.name]; !fixed {
			t.knobs = append(t.knobs, k)
		}
	}
	identity, err := o.tuning(t, on, params)
	if err != nil {
		return nil, err
	}
	path := cmp.Or(o.TuneFile, filepath.Join(filepath.Dir(filepath.Clean(o.Dir)), ".tune-"+identity[:16]+".jsonl"))
	file, err := openTrials(path, identity, t)
	if err != nil {
		return nil, fmt.Errorf("trials in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if len(t.done) < o.Tune {
		if err := o.try(ctx, t, on, params, file); err != nil {
			if best := t.best(); best != nil && ctx.Err() != nil {
				return nil, fmt.Errorf("tuning ended after %d of %d trials; the best so far: %v; run the same again to go on from %s: %w",
					len(t.done), o.Tune, best, path, context.Cause(ctx))
			}
			return nil, fmt.Errorf("tune: %w", err)
		}
	}
	out := maps.Clone(params)
	maps.Copy(out, t.best().Params)
	return out, nil
}

func (o *Options) try(ctx context.Context, t *tuner, on split, params map[string]string, file *trialFile) (err error) {
	trials, err := lightgbm.OpenTrials(ctx, lightgbm.Job{Params: params, Train: on.fit.dataset(), Valid: on.validation(params)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, trials.Close()) }()
	for len(t.done) < o.Tune {
		r := t.next()
		trial := lightgbm.Trial{Params: r.Params, Rounds: o.Rounds, EarlyStopping: earlyStopping(params), Require: t.rungs()}
		tried, err := trials.Try(trial, func(now lightgbm.Round) {
			o.Progress(Progress{"tune", r.Trial, o.Tune, fmt.Sprintf("round %d: %.4f; best %v", now.Iteration, now.Metrics[lightgbm.RungMetric], t.best())})
		})
		if err != nil {
			return err
		}
		r.finish(tried)
		if err := file.append(&r); err != nil {
			return err
		}
		t.done = append(t.done, r)
		o.Progress(Progress{"tune", len(t.done), o.Tune, fmt.Sprintf("best %v", t.best())})
	}
	return nil
}

// tuning identifies what is tuned: the rows, the parameters that stay, what is turned, and the seed.
func (o *Options) tuning(t *tuner, on split, params map[string]string) (string, error) {
	h := sha256.New()
	if err := json.MarshalWrite(h, []any{params, o.Rounds, on.fit.Names, fmt.Sprint(t.knobs)}, json.Deterministic(true)); err != nil {
		return "", fmt.Errorf("describe the tuning: %w", err)
	}
	const chunk = 1 << 16
	buffer := make([]byte, 0, 8*chunk)
	for _, m := range []*Matrix{on.fit, on.valid} {
		d := m.dataset()
		for _, values := range [][]float64{d.X, d.Label, d.Weight} {
			for part := range slices.Chunk(values, chunk) {
				buffer = buffer[:0]
				for _, v := range part {
					buffer = binary.LittleEndian.AppendUint64(buffer, math.Float64bits(v))
				}
				h.Write(buffer)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// finish notes what came of a trial.
func (r *trialRecord) finish(tried lightgbm.Tried) {
	r.BestIteration, r.Pruned = tried.BestIteration, tried.Pruned
	r.AveragePrecision = metricsAt(tried.Rounds, tried.BestIteration)[lightgbm.RungMetric]
	r.Rungs = map[string]float64{}
	best := math.Inf(-1)
	for _, round := range tried.Rounds {
		best = math.Max(best, round.Metrics[lightgbm.RungMetric])
		if slices.Contains(rungs, round.Iteration) {
			r.Rungs[strconv.Itoa(round.Iteration)] = best
		}
	}
}

// best is the trial of the highest average precision, of several the first; nil before the first.
func (t *tuner) best() *trialRecord {
	var best *trialRecord
	for i := range t.done {
		if best == nil || t.done[i].AveragePrecision > best.AveragePrecision {
			best = &t.done[i]
		}
	}
	return best
}

// rungs are the rounds after which a trial is compared with those before it.
var rungs = []int{25, 50, 100, 200}

// enoughTrials must have reached a rung before one can be pruned there.
const enoughTrials = 5

// rungs are the medians of the trials so far (the median stopping rule: Golovin and others 2017, Google Vizier, 3.2).
func (t *tuner) rungs() (out []lightgbm.Rung) {
	for _, round := range rungs {
		var reached []float64
		for i := range t.done {
			if v, ok := t.done[i].Rungs[strconv.Itoa(round)]; ok {
				reached = append(reached, v)
			}
		}
		if len(reached) >= enoughTrials {
			slices.Sort(reached)
			out = append(out, lightgbm.Rung{Iteration: round, AtLeast: reached[(len(reached)-1)/2]})
		}
	}
	return out
}

const (
	evenTrials = 8    // are drawn by lot before the others teach anything
	goodShare  = 0.25 // of the trials count as good
	draws      = 24   // for each knob
	bandwidth  = 0.5  // of a kernel over the places of one trial; narrower with more
)

// next chooses a trial: first the parameters as they are, then some by lot, then by a tree-structured Parzen estimator
// (Bergstra and others 2011, Algorithms for Hyper-Parameter Optimization, section 4): for each knob of some places that are
// likely among good trials the one that is least so among the others. It depends on the seed and the trials so far alone.
func (t *tuner) next() trialRecord {
	r := trialRecord{Trial: len(t.done), Params: map[string]string{}}
	if r.Trial == 0 {
		return r
	}
	random := rand.New(rand.NewPCG(t.seed, uint64(r.Trial)))
	good, rest := t.ranked()
	r.Places = make([]float64, len(t.knobs))
	for i := range t.knobs {
		r.Places[i] = random.Float64()
		if r.Trial > evenTrials {
			r.Places[i] = parzen(random, places(good, i), places(rest, i))
		}
		r.Params[t.knobs[i].name] = t.knobs[i].value(r.Places[i])
	}
	return r
}

// ranked parts the trials into the good ones and the rest; pruned ones come after all others.
func (t *tuner) ranked() (good, rest []trialRecord) {
	ranked := slices.DeleteFunc(slices.Clone(t.done), func(r trialRecord) bool { return len(r.Places) == 0 })
	slices.SortStableFunc(ranked, func(a, b trialRecord) int {
		if a.Pruned != b.Pruned {
			if a.Pruned {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.AveragePrecision, a.AveragePrecision)
	})
	n := min(len(ranked), max(2, int(math.Ceil(goodShare*float64(len(ranked))))))
	return ranked[:n], ranked[n:]
}

func places(of []trialRecord, knob int) []float64 {
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i].Places[knob]
	}
	return out
}

// parzen draws places near the good ones and keeps that with the highest ratio of the two densities.
func parzen(random *rand.Rand, good, rest []float64) float64 {
	width := bandwidth / math.Sqrt(float64(len(good)+1))
	best, bestRatio := 0.0, math.Inf(-1)
	for range draws {
		place := random.Float64()
		if at := random.IntN(len(good) + 1); at < len(good) { // else by the even prior
			for place = -1; place < 0 || place >= 1; {
				place = good[at] + width*random.NormFloat64()
			}
		}
		if ratio := density(place, good, width) / density(place, rest, width); ratio > bestRatio {
			best, bestRatio = place, ratio
		}
	}
	return best
}

// density mixes an even prior with a normal kernel around each place.
func density(at float64, around []float64, width float64) float64 {
	sum := 1.0
	for _, place := range around {
		z := (at - place) / width
		sum += math.Exp(-z*z/2) / (width * math.Sqrt(2*math.Pi))
	}
	return sum / float64(len(around)+1)
}
