package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPoliciesAreCheckedComparedAndShown(t *testing.T) {
	run := func(wantErr bool, args ...string) string {
		t.Helper()
		root := newRoot()
		var out strings.Builder
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append([]string{"policy"}, args...))
		if err := root.Execute(); (err != nil) != wantErr {
			t.Errorf("%v: %v, %s", args, err, &out)
		}
		return out.String()
	}
	has := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in %s", want, out)
			}
		}
	}
	mine, bad := filepath.Join(t.TempDir(), "mine.yaml"), filepath.Join(t.TempDir(), "bad.yaml")
	text := strings.Replace(run(false, "show"), "approval_valid: 24h", "approval_valid: 12h", 1) + "  - {name: never, when: probability > 1, then: flag}\n"
	if err := os.WriteFile(mine, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("rules: [{name: x, when: no_such_feature > 1, then: flag}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	has(run(true, "check", "default", mine, bad), "default is good: version default-", "asks the lists confirmed_fraud", "statutory_claim",
		`rule "never": can never fire: probability > 1`, `line 1: rule "x": there is no feature "no_such_feature"`)
	has(run(false, "diff", "default", mine), "~ policy: approval_valid: 24h → 12h", "+ rule never: when: probability > 1, then: flag")
	has(run(false, "diff", mine, mine), "both say the same")
	has(run(false, "diff", "default", mine, "--json"), `"field": "approval_valid"`)
	run(true, "diff", mine)
}
