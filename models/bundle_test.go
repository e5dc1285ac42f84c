package models_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vaglio"
	"vaglio/models"
)

func TestABundleComesBackAsItWasWritten(t *testing.T) {
	for _, kind := range []string{"gbdt", "dart", "zero", "deep"} {
		dir := filepath.Join(t.TempDir(), "bundles", "v1")
		if err := models.Write(dir, contents(t, kind, "v1")); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		b, err := models.Open(dir)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		id := b.Identity()
		if id.Name != "refund" || id.Version != "v1" || len(id.SHA256) != 64 || b.Manifest().Files["model.txt"] != id.SHA256 {
			t.Errorf("%s: identity %+v", kind, id)
		}
		if got := b.Catalogue().Names(); len(got) != len(columns) || got[5] != columns[5] {
			t.Errorf("%s: catalogue of %v", kind, got)
		}
		vec := sample(1, 5).X
		logOdds, err := b.LogOdds(vec)
		if err != nil {
			t.Fatal(err)
		}
		if p := b.Probability(logOdds); !(p > 0 && p < 1) || !(b.RiskScore(p) >= 0 && b.RiskScore(p) <= 100) {
			t.Errorf("%s: probability %v, risk score %v", kind, p, b.RiskScore(p))
		}
	}
}

func TestABundleIsSharedByManyGoroutines(t *testing.T) {
	b := opened(t)
	x := sample(200, 5).X
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			phi := make([]float64, len(columns))
			for i := 0; i < len(x); i += len(columns) {
				vec := x[i : i+len(columns)]
				logOdds, err := b.LogOdds(vec)
				base, err2 := b.Contributions(phi, vec)
				if sum := base + total(phi); err != nil || err2 != nil || math.Abs(sum-logOdds) > 1e-9 {
					t.Errorf("%v %v: %v instead of %v", err, err2, sum, logOdds)
				}
			}
		})
	}
	all.Wait()
}

func TestWriteLeavesNothingBehindWhenItRefuses(t *testing.T) {
	parent := t.TempDir()
	refused := func(want string, spoil func(*models.Contents)) {
		t.Helper()
		c := contents(t, "small", "v1")
		spoil(&c)
		if err := models.Write(filepath.Join(parent, "v1"), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
			t.Errorf("%q left %v, %v", want, left, err)
		}
	}
	refused("does not fit its catalogue: feature 0 is amount in the model, sum in the catalogue", func(c *models.Contents) {
		c.Catalogue = bytes.Replace(c.Catalogue, []byte("name: amount,"), []byte("name: sum,"), 1)
	})
	refused("does not fit its catalogue: the model reads merchant as a category", func(c *models.Contents) {
		before, _, _ := bytes.Cut(c.Catalogue, []byte("  - {name: merchant"))
		_, after, _ := bytes.Cut(c.Catalogue, []byte("  - {name: hour"))
		c.Catalogue = bytes.Join([][]byte{before, []byte("  - {name: merchant, expr: request.amount}\n  - {name: hour"), after}, nil)
	})
	refused("10 features in the model, 9 in the catalogue", func(c *models.Contents) {
		before, _, _ := bytes.Cut(c.Catalogue, []byte("  - {name: noise"))
		c.Catalogue = before
	})
	refused("row 3: leaves scores", func(c *models.Contents) { c.Golden[3].Raw += 1e-15 })
	refused("row 4: share contributes", func(c *models.Contents) { c.Golden[4].Contributions[2] += 1e-8 })
	refused("row 5: the base value is", func(c *models.Contents) { c.Golden[5].Base += 1e-8 })
	refused("row 0: score: a vector of 9 values", func(c *models.Contents) { c.Golden[0].Vector = c.Golden[0].Vector[:9] })
	refused("0 rows: want 1", func(c *models.Contents) { c.Golden = nil })
	refused("slope -1", func(c *models.Contents) { c.Calibration.Slope = -1 })
	refused("calibration.json: ", func(c *models.Contents) { c.Calibration.Intercept = math.NaN() })
	refused("percentile 1", func(c *models.Contents) { c.Calibration.Percentiles[1] = -1 })
	refused("version \"../v\"", func(c *models.Contents) { c.Manifest.Version = "../v" })
	refused("base currency", func(c *models.Contents) { c.Manifest.BaseCurrency = "" })
	refused("thresholds: approve below 0.9, deny from 0.2", func(c *models.Contents) {
		c.Manifest.Thresholds = models.Thresholds{ApproveBelow: 0.9, DenyFrom: 0.2}
	})
	refused("manifest.json: ", func(c *models.Contents) { c.Manifest.Metrics["auc"] = math.NaN() })
	refused("line 1: ", func(c *models.Contents) { c.Model = []byte("PK\x03\x04") })
}

func TestWriteRefusesAFolderThatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := models.Write(dir, contents(t, "small", "v1")); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesWhatIsNotAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v1")
	if err := models.Write(dir, contents(t, "small", "v1")); err != nil {
		t.Fatal(err)
	}
	refused := func(name, want string, change func([]byte) []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(bytes.Clone(good)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := models.Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, want)
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
	}
	longer := func(b []byte) []byte { return append(b, ' ') }
	for _, name := range []string{"model.txt", "features.yaml", "calibration.json", "golden.json"} {
		refused(name, name+" has SHA-256", longer)
	}
	refused("manifest.json", "/nonsense: unknown member", replace(`"name":`, `"nonsense": 1, "name":`))
	refused("manifest.json", "files are", replace("golden.json", "gold.json"))
	refused("manifest.json", "malformed JSON", func(b []byte) []byte { return b[:len(b)/2] })
	refused("manifest.json", "model.txt has SHA-256", func(b []byte) []byte {
		before, after, _ := bytes.Cut(b, []byte(`"model.txt": "`))
		return append(before, `"model.txt": "x`+string(after[1:])...)
	})
	refused("manifest.json", "over the limit", func([]byte) []byte { return make([]byte, 5<<20) })
	if _, err := models.Open(dir); err != nil {
		t.Errorf("put back, it is refused: %v", err)
	}
	if _, err := models.Open(filepath.Join(dir, "..", "v2")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing bundle: %v", err)
	}
}

func TestTheRegistryPointsAtBundlesThatOpen(t *testing.T) {
	r, err := models.OpenRegistry(filepath.Join(t.TempDir(), "models"))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := r.Current(models.Champion); ok || err != nil {
		t.Fatalf("an empty registry has a champion: %v", err)
	}
	for _, version := range []string{"v1", "v2"} {
		dir, err := r.Dir(version)
		if err != nil {
			t.Fatal(err)
		}
		if err := models.Write(dir, contents(t, "small", version)); err != nil {
			t.Fatal(err)
		}
		if err := r.Promote(models.Champion, models.Promotion{Version: version, At: promotedAt}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Promote(models.Challenger, models.Promotion{Version: "v1", At: promotedAt}); err != nil {
		t.Fatal(err)
	}
	if version, ok, err := r.Current(models.Champion); version != "v2" || !ok || err != nil {
		t.Errorf("champion %q, %v, %v", version, ok, err)
	}
	broken, _ := r.Dir("v3")
	other, _ := r.Dir("v4")
	v1, _ := r.Dir("v1")
	if err := errors.Join(os.Mkdir(broken, 0o755), os.CopyFS(other, os.DirFS(v1))); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{"v3": "manifest.json", "v4": "calls itself version v1", "v5": "no such file", "../v1": "version",
		"champion": "name of a stage", "": "version", ".hidden": "version", "v1/../v2": "version"} {
		if err := r.Promote(models.Champion, models.Promotion{Version: version, At: promotedAt}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("promote %q: got %v, want an error with %q", version, err, want)
		}
	}
	if err := r.Promote("../x", models.Promotion{Version: "v1", At: promotedAt}); err == nil {
		t.Error("promoted to a stage that there is not")
	}
	entries, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		line := e.Version + " " + e.Manifest.Version
		for _, s := range e.Stages {
			line += " " + string(s)
		}
		if e.Refused != nil {
			line += "refused"
		}
		got = append(got, line)
	}
	if want := "v1 v1 challenger|v2 v2 champion|v3 refused|v4 refused"; strings.Join(got, "|") != want {
		t.Errorf("listed %q", got)
	}
}

const promotedAt vaglio.Instant = 1_790_000_000_000

func TestAPointerThatLeadsElsewhereOrIsHalfWrittenIsRefused(t *testing.T) {
	dir := t.TempDir()
	r, err := models.OpenRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	line := func(version string) string { return `{"version":"` + version + `"}` + "\n" }
	for _, content := range []string{"", "v1\n", line("../../etc"), `{"version":"v1"}`, line("v1") + `{"version":"v2"}`, line("v1") + "\n",
		line("v1") + line("../v2"), `{"version":"v1","at":"yesterday"}` + "\n", `{"version":"v1","at":"2026-01-01T00:00:00Z","taken_back":"2026-01-02T00:00:00Z"}` + "\n",
		`{"version":"v1","until":"2026-01-02T00:00:00Z"}` + "\n", `{"version":"v1","share":2}` + "\n", strings.Repeat(line("v1"), 100_000),
		line(strings.Repeat("a", 1000))} {
		if err := os.WriteFile(filepath.Join(dir, "champion"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if version, _, err := r.Current(models.Champion); err == nil {
			t.Errorf("%.20q was followed to %q", content, version)
		}
	}
}

func opened(t testing.TB) *models.Bundle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "v1")
	if err := models.Write(dir, contents(t, "gbdt", "v1")); err != nil {
		t.Fatal(err)
	}
	b, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func total(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}
