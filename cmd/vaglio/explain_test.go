package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio/scoring"
)

func TestExplainShowsWhatLedToADecision(t *testing.T) {
	data := installed(t)
	r := refundOf(t, "explained", 3)
	body, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, data)
	d, _ := s.score("", &r)
	s.stop()

	picture := filepath.Join(t.TempDir(), "waterfall.svg")
	out := mustRun(t, "explain", "--data", data, "--features", "5", "--svg", picture, d.ID)
	for _, part := range []string{"Request explained\n", string(d.Verdict) + " · probability of fraud", "Base: the mean of training", " other features",
		"Log-odds of fraud", d.Reasons[0].Code, d.Reasons[0].Text, "additivity error"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours where there is no terminal: %q", out)
	}
	if svg, err := os.ReadFile(picture); err != nil || !strings.HasPrefix(string(svg), "<svg ") {
		t.Errorf("the picture: %v, %.50s", err, svg)
	}
	var x scoring.ReviewerExplanation
	if err := json.Unmarshal([]byte(mustRun(t, "explain", "--data", data, "--json", "explained")), &x); err != nil || x.DecisionID != d.ID || len(x.Features) == 0 {
		t.Errorf("as JSON: %v, %+v", err, x)
	}
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "explain", "--data", data, "--lang", "it", file); !strings.Contains(out, "Richiesta explained\n") || !strings.Contains(out, "Log-odds di frode") {
		t.Errorf("in Italian:\n%s", out)
	}
	for _, wrong := range [][]string{{"nothing"}, {"explained", "--lang", "xx"}, {"explained", "--features", "0"}} {
		if err := vaglioCommand(context.Background(), append([]string{"explain", "--data", data}, wrong...)...).Run(); err == nil {
			t.Errorf("explain %v succeeded", wrong)
		}
	}
}
