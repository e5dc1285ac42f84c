package models_test

import (
	"errors"
	"strings"
	"testing"

	"vaglio/models"
)

func TestAChampionWasTestedAfterItsTraining(t *testing.T) {
	tested := models.Manifest{Training: models.Window{From: 0, Until: 100, Rows: 50, Positives: 5}, Test: models.Window{From: 100, Until: 200, Rows: 20, Positives: 2}}
	check := func(stage models.Stage, change func(*models.Manifest), want string) {
		t.Helper()
		m := tested
		change(&m)
		err := models.Refusal("v1", stage, m.Against(stage))
		if want == "" && err != nil || want != "" && (!errors.Is(err, models.ErrGate) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	check(models.Champion, func(*models.Manifest) {}, "")
	check(models.Champion, func(m *models.Manifest) { m.Test = models.Window{} }, "no test period")
	check(models.Champion, func(m *models.Manifest) { m.Test.From = 99 }, "before the end of its training")
	check(models.Champion, func(m *models.Manifest) { m.Test.Positives = 0 }, "0 frauds among 20")
	check(models.Champion, func(m *models.Manifest) { m.Interrupted = true }, "interrupted")
	check(models.Challenger, func(m *models.Manifest) { m.Interrupted = true }, "interrupted")
	check(models.Challenger, func(m *models.Manifest) { m.Test = models.Window{} }, "")
	check(models.Shadow, func(m *models.Manifest) { m.Test = models.Window{} }, "")
}
