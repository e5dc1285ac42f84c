//go:build real

// Package examples runs the examples on the real files that they are about: VAGLIO_DATA names their folder.
package examples

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"vaglio"
	"vaglio/history/embedded"
)

var vaglioBinary string

func TestMain(m *testing.M) {
	embedded.Main()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vaglio-examples")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		vaglioBinary = filepath.Join(dir, "vaglio")
		if out, err := exec.Command("go", "build", "-o", vaglioBinary, "vaglio/cmd/vaglio").CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v\n%s", err, out))
		}
		return m.Run()
	}())
}

// run calls vaglio and returns all that it printed.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(vaglioBinary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("vaglio %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func data(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(os.Getenv("VAGLIO_DATA"), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: VAGLIO_DATA must name the folder of the example data", err)
	}
	return path
}

// head writes the first lines of a gzipped file to a file of its own.
func head(t *testing.T, from string, lines int) string {
	t.Helper()
	file, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for scanner := bufio.NewScanner(plain); lines > 0 && scanner.Scan(); lines-- {
		out.WriteString(scanner.Text() + "\n")
	}
	path := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(from), ".gz"))
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wants(t *testing.T, what, text string) {
	t.Helper()
	if !strings.Contains(text, what) {
		t.Errorf("want %q in:\n%s", what, text)
	}
}

func TestRealCancellationsOfOnlineRetailAreDecided(t *testing.T) {
	dir := t.TempDir()
	shop, simulated := filepath.Join(dir, "shop"), filepath.Join(dir, "simulated")
	lines := head(t, data(t, "online_retail.csv.gz"), 20_001) // with the header
	wants(t, "20000 lines, 893 events: 893 stored", run(t, "import", "--data", shop, "--base-currency", "GBP", "--mapping", "online-retail/mapping.yaml", lines))
	wants(t, "893 events: 0 stored, 893 stored before", run(t, "import", "--data", shop, "--mapping", "online-retail/mapping.yaml", lines))

	trainOnSimulation(t, simulated, "GBP", filepath.Join(dir, "bundle"))
	decisions := filepath.Join(dir, "decisions.ndjson")
	out := run(t, "score", "--data", shop, "--model", filepath.Join(dir, "bundle"), "--policy", "online-retail/policy.yaml",
		"--from", "2010-12-01", "--until", "2011-12-10", "--out", decisions)
	wants(t, "93 requests in", out)
	wants(t, "; 0 degraded", out)
	checkDecisions(t, decisions, 93)
}

// trainOnSimulation makes a model for a shop that has no fraud labels of its own.
func trainOnSimulation(t *testing.T, dir, currency, bundle string) {
	t.Helper()
	events := filepath.Join(t.TempDir(), "events.ndjson.gz")
	run(t, "simulate", "--customers", "2500", "--days", "365", "--seed", "3", "--until", "2026-06-01", "--request-share", "0.1", "--currency", currency, "--out", events)
	run(t, "import", "--data", dir, "--base-currency", currency, events)
	run(t, "train", "--data", dir, "--from", "2025-06-01", "--until", "2026-03-01", "--test-from", "2026-03-01", "--test-until", "2026-06-01", "--rounds", "60", "--out", bundle)
}

func checkDecisions(t *testing.T, path string, want int) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(content) {
		n++
		d, err := vaglio.Decode[vaglio.Decision](bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if d.FraudProbability == nil || !d.DryRun || d.Verdict == vaglio.Approve && d.ApprovedAmount == 0 || len(d.Rules) > 0 {
			t.Errorf("decision %s", line)
		}
	}
	if n != want {
		t.Errorf("%d decisions, want %d", n, want)
	}
}

func TestRealChargebacksTrainAModel(t *testing.T) {
	dir := t.TempDir()
	wants(t, "3199 lines, 6789 events: 6789 stored", run(t, "import", "--data", dir, "--mapping", "chargebacks/mapping.yaml", data(t, "chargebacks_sample.csv.gz")))
	predictions := filepath.Join(dir, "predictions.csv")
	run(t, "train", "--data", dir, "--features", "chargebacks/features.yaml", "--from", "2019-11-01", "--until", "2019-11-20", "--labels-until", "2019-12-20",
		"--maturity", "30d", "--test-from", "2019-11-20", "--test-until", "2019-12-02", "--version", "chargebacks", "--promote")
	out := run(t, "evaluate", "--data", dir, "--model", "chargebacks", "--from", "2019-11-20", "--until", "2019-12-02", "--maturity", "30d", "--predictions", predictions)
	auc, err := strconv.ParseFloat(regexp.MustCompile(`ROC AUC +([0-9.]+)`).FindStringSubmatch(out)[1], 64)
	if err != nil || auc < 0.6 {
		t.Errorf("%v: want an ROC AUC above 0.6, the amount alone gives that: %s", err, out)
	}
	file, err := os.Open(predictions)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 1000 {
		t.Errorf("%d predictions, %v", len(rows), err)
	}
}
