package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio/models"
)

// exported is a bundle of the registry as files of a model trained elsewhere.
func exported(t *testing.T, bundle string) (model, catalogue, golden string) {
	t.Helper()
	var rows []models.Golden
	b, err := os.ReadFile(filepath.Join(bundle, "golden.json"))
	if err == nil {
		err = json.Unmarshal(b, &rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]string{append(m.Names(), "raw")}
	for _, g := range rows {
		var line []string
		for _, v := range append(g.Vector, g.Raw) {
			line = append(line, strconv.FormatFloat(float64(v), 'g', -1, 64))
		}
		lines = append(lines, line)
	}
	golden = filepath.Join(t.TempDir(), "golden.csv")
	f, err := os.Create(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := csv.NewWriter(f).WriteAll(lines); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bundle, "model.txt"), filepath.Join(bundle, "features.yaml"), golden
}

func TestARunningServerFollowsPromotionsAndRollbacks(t *testing.T) {
	data := installed(t)
	model, catalogue, golden := exported(t, filepath.Join(data, "models", "first"))
	s := serve(t, data)
	decides := func(version string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(3 * time.Minute); got != version && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			r := refundOf(t, "follows", 9)
			d, _ := s.score("?dry_run=true", &r)
			if d.Degraded || d.Model == nil {
				t.Fatalf("degraded while models change: %v", d.DegradedReasons)
			}
			got = d.Model.Version
		}
		if got != version {
			t.Fatalf("the server decides by %s, want %s\n%s", got, version, s.log)
		}
	}
	decides("first")
	out := mustRun(t, "models", "import", "--data", data, "--features", catalogue, "--golden", golden, "--version", "elsewhere", model)
	if !strings.Contains(out, "model elsewhere answers as it did where it was trained") {
		t.Errorf("import: %s", out)
	}
	refused, err := vaglioCommand(t.Context(), "models", "promote", "--data", data, "elsewhere").CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "there is no test period\n--force --reason TEXT") {
		t.Errorf("a model without a test: %v, %s", err, refused)
	}
	decides("first")
	mustRun(t, "models", "promote", "--data", data, "elsewhere", "--force", "--reason", "ticket 4711")
	decides("elsewhere")

	pointer := filepath.Join(data, "models", "champion")
	whole, err := os.ReadFile(pointer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pointer, whole[:3], 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(s.log.String(), "can't be taken up"); time.Sleep(50 * time.Millisecond) {
		decides("elsewhere")
		if time.Now().After(deadline) {
			t.Fatalf("a half-written pointer is not in the log:\n%s", s.log)
		}
	}
	decides("elsewhere")
	if err := os.WriteFile(pointer, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "models", "rollback", "--data", data); out != "model first is champion again\n" {
		t.Errorf("rollback: %s", out)
	}
	decides("first")
	s.stop()

	list := mustRun(t, "models", "list", "--data", data)
	for _, want := range []string{"first      champion", "elsewhere"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	show := mustRun(t, "models", "show", "--data", data, "first")
	for _, want := range []string{"roc_auc", "calibrated by", "expected, over", "champion           since 20", "requests, "} {
		if !strings.Contains(show, want) {
			t.Errorf("no %q in\n%s", want, show)
		}
	}
	if show := mustRun(t, "models", "show", "--data", data, "elsewhere"); !strings.Contains(show, ", taken back 20") || !strings.Contains(show, ": ticket 4711") {
		t.Errorf("the rollback, or why it was promoted, is not shown:\n%s", show)
	}
	audit := mustRun(t, "audit", "log", "--data", data)
	for _, want := range []string{"model.promoted", "ticket 4711", "there is no test period", "model.rolled_back"} {
		if !strings.Contains(audit, want) {
			t.Errorf("no %q in the audit log:\n%s", want, audit)
		}
	}
}
