package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio/training"
)

func TestAModelIsEvaluatedReportedAndComparedFromTheCommandLine(t *testing.T) {
	data, page := installed(t), filepath.Join(t.TempDir(), "report.html")
	period := []string{"--data", data, "--from", "2026-03-01", "--until", until, "--resamples", "50"}
	out := mustRun(t, append([]string{"evaluate", "--model", "first", "--report", page}, period...)...)
	for _, want := range []string{"METRIC", "ROC AUC", "95 % INTERVAL", "KIND OF FRAUD", "SAID BY", "nothing was said by maturity", "SEGMENT", "approve below 0.06"} {
		if !strings.Contains(out, want) {
			t.Errorf("evaluate does not print %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b[") {
		t.Error("a pipe gets colours")
	}
	if html, err := os.ReadFile(page); err != nil || strings.Count(string(html), "<svg") < 7 {
		t.Errorf("the report has %d pictures, %v", strings.Count(string(html), "<svg"), err)
	}
	var c training.Compared
	if err := json.Unmarshal([]byte(mustRun(t, append([]string{"models", "compare", "first", "first", "--json"}, period...)...)), &c); err != nil {
		t.Fatal(err)
	}
	if c.A != c.B || c.Rows == 0 || len(c.Changes) != 10 || len(c.Decisions) != 9 {
		t.Errorf("compared %+v", c)
	}
	if out := mustRun(t, append([]string{"models", "compare", "first", "first", "--changes", "1"}, period...)...); !strings.Contains(out, "0 change") {
		t.Errorf("a model beside itself:\n%s", out)
	}
}

// The page's versions are those of the shared installation; its files are made here.
func TestThePageOfEvaluationRunsAsWritten(t *testing.T) {
	data, dir := installed(t), t.TempDir()
	policy := mustRun(t, "policy", "show", "default")
	costs, err := os.ReadFile("../../examples/costs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"policy.yaml": policy, "costs.yaml": string(costs)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, "simulate", "--customers", "2500", "--days", "365", "--seed", "7", "--until", until, "--request-share", "0.1",
		"--out", filepath.Join(dir, "events.ndjson.gz"), "--truth", filepath.Join(dir, "truth.csv"))
	page := documented(t, "../../docs/evaluation.md")
	said := make([]string, len(page))
	for i, args := range page {
		if comment := slices.Index(args, "#"); comment >= 0 {
			args = args[:comment]
		}
		for at, arg := range args {
			switch filepath.Ext(arg) {
			case ".html", ".csv", ".yaml":
				args[at] = filepath.Join(dir, arg)
			}
			if strings.HasPrefix(arg, "2026") && strings.HasSuffix(arg, "-080000") {
				args[at] = "first"
			}
		}
		said[i] = mustRun(t, append(args, "--data", data, "--resamples", "50")...)
	}
	if len(said) != 5 {
		t.Fatalf("the page has %d commands", len(said))
	}
	for i, wants := range [][]string{{"ROC AUC", "SAID BY", "Against rules"}, {"Against rules"}, {"least cost on", "approve_all"},
		{`"patterns": [`, `"account_takeover"`, `"source": "silence"`}, {"0 change"}} {
		for _, want := range wants {
			if !strings.Contains(said[i], want) {
				t.Errorf("%v does not say %q:\n%s", page[i], want, said[i])
			}
		}
	}
	for _, file := range []string{"report.html", "out.csv"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}
}
