package training_test

import (
	"maps"
	"strings"
	"testing"

	"vaglio/training"
)

func TestParametersAreReadByAnyOfTheirNames(t *testing.T) {
	got, err := training.ParseParams(t.Context(), []byte("eta: 0.1\nmax_leaves: 63\nboosting: gbdt\nextra_trees: true\nmonotone_constraints: \"1,0,-1\"\n"))
	want := map[string]string{"learning_rate": "0.1", "num_leaves": "63", "boosting": "gbdt", "extra_trees": "true", "monotone_constraints": "1,0,-1"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestEveryWrongParameterIsToldWithItsLine(t *testing.T) {
	_, err := training.ParseParams(t.Context(), []byte(strings.Join([]string{"eta: 0.1", "num_leafs: 31", "learning_rate: 0.2", "objective: regression",
		"num_class: 3", "seed: 7", "n_estimators: 10", "metric: auc", "max_bin: [1, 2]", "boosting: gbdt objective=regression", "machines: a:1"}, "\n")))
	if err == nil {
		t.Fatal("it was read")
	}
	for _, want := range []string{"line 2: num_leafs: LightGBM has no such parameter", "line 3: learning_rate: is another name of learning_rate",
		"line 4: objective: is not for an analyst", "line 5: num_class: is not for an analyst", "line 6: seed: is set by --seed",
		"line 7: n_estimators: is set by --rounds", "line 8: metric: is not for an analyst", "line 9: max_bin: want a text", "line 10: boosting: want a value without",
		"line 11: machines: is set by --machines"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q:\n%v", want, err)
		}
	}
	if _, err := training.ParseParams(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty file: %v", err)
	}
}
