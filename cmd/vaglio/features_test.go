package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

func TestAFeatureIsShownWithTheEventsBehindIt(t *testing.T) {
	data := installed(t)
	request := refundOf(t, "rr_explained", 2)
	body, err := json.Marshal(&request)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := vaglioCommand(t.Context(), "features", "explain", file, "--data", data).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); fields[0] == "payment_age" {
			if len(fields) != 6 || fields[2] != "hours" || fields[4] != "payment" {
				t.Errorf("want a value in hours and the payment behind it: %s", line)
			}
			return
		}
	}
	t.Errorf("payment_age is not shown: %s", out)
}
