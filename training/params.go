package training

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vaglio/document"
	"vaglio/features"
	"vaglio/training/lightgbm"
)

// DefaultParams are LightGBM's parameters unless Options name others.
var DefaultParams = map[string]string{
	"learning_rate": "0.05", "num_leaves": "31", "max_depth": "8", "min_data_in_leaf": "20", "max_bin": "512",
	"feature_fraction": "0.8", "bagging_fraction": "0.9", "bagging_freq": "1", "lambda_l2": "5",
}

// setElsewhere are parameters with a place of their own.
var setElsewhere = map[string]string{"seed": "--seed", "num_iterations": "--rounds", "metric": "", "objective": "", "machines": "--machines",
	"local_listen_port": "--machine-rank"}

// ParseParams reads LightGBM's parameters from YAML: their names, or aliases, and values as LightGBM writes them; lists are
// texts such as "1,0,-1". All wrong places are told, by line. The names are those of the library; values are LightGBM's own
// to judge, in [Train].
func ParseParams(ctx context.Context, source []byte) (map[string]string, error) {
	const most = 64 << 10
	root, err := document.Parse(source, most)
	if err != nil {
		return nil, err
	}
	main, err := lightgbm.Parameters(ctx)
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	root.Each(func(key string, member document.Value) {
		name := main[key]
		place, elsewhere := setElsewhere[name]
		_, twice := params[name]
		switch {
		case name == "":
			member.Failf("LightGBM has no such parameter")
		case place != "":
			member.Failf("is set by %s", place)
		case elsewhere || lightgbm.Owned(name):
			member.Failf("is not for an analyst to set: vaglio sets it, or reads no models that were made with it")
		case twice:
			member.Failf("is another name of %s, which is given twice", name)
		default:
			value := member.Source()
			if strings.ContainsAny(value, " \t\r\n\"#=") {
				member.Failf("want a value without spaces, quotes, # and =")
			}
			params[name] = value
		}
	})
	return params, root.Err()
}

// params are those of every training of o.
func (o *Options) params() map[string]string {
	params := maps.Clone(DefaultParams)
	maps.Copy(params, o.Params)
	params["seed"] = strconv.FormatUint(o.Seed, 10)
	return params
}

// validation is what rounds are judged on: classes weigh there what LightGBM lets them weigh in the fit. Else the log loss of
// raw scores, which class weights move, would end the training in its first rounds.
func (s *split) validation(params map[string]string) lightgbm.Dataset {
	d := s.valid.dataset()
	honest, fraud := 1.0, 1.0
	if weight, err := strconv.ParseFloat(params["scale_pos_weight"], 64); err == nil {
		fraud = weight
	}
	if unbalanced := strings.ToLower(params["is_unbalance"]); unbalanced == "true" || unbalanced == "+" {
		frauds := float64(s.fit.positives())
		rest := float64(len(s.fit.Rows)) - frauds
		honest, fraud = max(1, frauds/rest), max(1, rest/frauds)
	}
	if honest == 1 && fraud == 1 {
		return d
	}
	if d.Weight == nil {
		d.Weight = slices.Repeat([]float64{1}, d.Rows)
	}
	for i, label := range d.Label {
		d.Weight[i] *= honest + label*(fraud-honest)
	}
	return d
}

// earlyStopping is after how many rounds without a better one training ends; 0 where LightGBM can't go back.
func earlyStopping(params map[string]string) int {
	if params["boosting"] == "dart" {
		return 0
	}
	return 50
}

// checkParams lets LightGBM refuse parameters before the replay that they would be used on.
func (o *Options) checkParams(ctx context.Context, c *features.Catalogue) error {
	d := lightgbm.Dataset{Names: c.Names(), Rows: 4, Label: []float64{0, 1, 0, 1}}
	d.X = make([]float64, d.Rows*len(d.Names))
	_, err := lightgbm.Train(ctx, lightgbm.Job{Params: o.params(), Rounds: 1, Train: d}, nil)
	if err == nil {
		return nil
	}
	if _, own, ok := strings.Cut(err.Error(), "LightGBM: "); ok { // in its own words, not where we were in the trial
		return fmt.Errorf("parameters: LightGBM: %s", own)
	}
	return fmt.Errorf("parameters: %w", err)
}
