//go:build real

package examples

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is an interpreter with the notebook's requirements, made once for each content of them below .deps.
func python(t *testing.T) string {
	t.Helper()
	requirements, err := os.ReadFile("notebook/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(requirements)
	dir, err := filepath.Abs("../.deps/notebook-" + hex.EncodeToString(digest[:6]))
	if err != nil {
		t.Fatal(err)
	}
	interpreter := filepath.Join(dir, "bin", "python")
	if _, err := os.Stat(filepath.Join(dir, "whole")); err == nil {
		return interpreter
	}
	for _, args := range [][]string{{"python3", "-m", "venv", "--clear", dir},
		{interpreter, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:", "-r", "notebook/requirements.txt"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "whole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return interpreter
}

func TestRealNotebookTrainsAModelThatIsImported(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	const until = "2026-06-01"
	run(t, "simulate", "--customers", "2500", "--days", "365", "--seed", "7", "--until", until, "--request-share", "0.1", "--out", in("events.ndjson.gz"))
	run(t, "import", "--data", in("data"), in("events.ndjson.gz"))
	run(t, "dataset", "--data", in("data"), "--from", "2025-06-01", "--until", until, "--out", in("requests.csv"))
	catalogue := "../features/default.yaml"
	if out, err := exec.Command(python(t), "notebook/train.py", in("requests.csv"), catalogue, in("out")).CombinedOutput(); err != nil {
		t.Fatalf("train.py: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	out := run(t, "models", "import", "--data", in("data"), in("out/model.txt"), "--features", catalogue, "--golden", in("out/golden.csv"),
		"--calibration", in("out/scores.csv"), "--version", "python-1")
	if !strings.Contains(out, "model python-1 answers as it did where it was trained, on 64 golden rows") {
		t.Errorf("import: %s", out)
	}
	run(t, "models", "promote", "--data", in("data"), "python-1", "--force", "--reason", "tested in the notebook")
	if show := run(t, "models", "show", "--data", in("data"), "python-1"); !strings.Contains(show, "champion") || !strings.Contains(show, "calibrated by") {
		t.Errorf("show: %s", show)
	}
}
