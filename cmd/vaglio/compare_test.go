package main

import (
	"os"
	"path/filepath"
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
