package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vaglio.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// failing runs vaglio and returns what it said on its way to an exit code.
func failing(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	out, err := vaglioCommand(t.Context(), args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("vaglio %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), exit.ExitCode()
}

func TestAFlagGoesBeforeAVariableBeforeTheFileBeforeTheDefault(t *testing.T) {
	path := configFile(t, `
# for all commands
clickhouse: clickhouse://vaglio:hush@db:9000/vaglio?password=hush
budget: 3s
serve:
  budget: 80ms
  listen: 127.0.0.1:9999
keys create:
  scopes: [score, events]
`)
	row := func(name string, args ...string) string {
		t.Helper()
		out := mustRun(t, append([]string{"config", "show", "--config", path}, args...)...)
		for line := range strings.Lines(out) {
			if fields := strings.Fields(line); fields[0] == name {
				return strings.Join(fields[1:], " ")
			}
		}
		t.Fatalf("no %s in\n%s", name, out)
		return ""
	}
	is := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	is(row("budget"), "80ms "+path+":6")
	is(row("budget", "demo"), "3s "+path+":4")
	is(row("cache"), "268435456 default")
	is(row("scopes", "keys", "create"), "score,events "+path+":9")
	is(row("clickhouse"), "clickhouse://vaglio:xxxxx@db:9000/vaglio?password=xxxxx "+path+":3")
	is(row("data", "--data", "/elsewhere"), "/elsewhere --data")
	t.Setenv("VAGLIO_BUDGET", "5s")
	is(row("budget"), "5s VAGLIO_BUDGET")
	t.Setenv("VAGLIO_CONFIG", path)
	if out := mustRun(t, "config", "show"); !strings.Contains(out, "127.0.0.1:9999") {
		t.Errorf("VAGLIO_CONFIG is not read:\n%s", out)
	}
}

func TestAConfigurationTellsAllItsMistakesAtOnce(t *testing.T) {
	path := configFile(t, `
dat: x
cache: [1, 2]
serve:
  listne: x
  budget: soon
keys create:
  scopes: {a: b}
version: 7
`)
	said, code := failing(t, "doctor", "--config", path)
	if code != exitUsage {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{`:2: "dat" is neither a flag nor a command`, ":3: cache: ", ":5: vaglio serve has no flag listne", ":6: budget: ",
		":8: scopes: want one value", ":9: version is a command"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	for _, wrong := range []string{"x", "a: 1\n---\nb: 2", "cache: 1\ncache: 2", "{", "\x00"} {
		if said, code := failing(t, "config", "check", configFile(t, wrong)); code != exitUsage || said == "" {
			t.Errorf("%q: exit %d, %s", wrong, code, said)
		}
	}
	if out := mustRun(t, "config", "check", configFile(t, "# nothing\n")); !strings.Contains(out, "is fine") {
		t.Error(out)
	}
}

func TestAServerTellsAllThatIsWrongWithItsSettings(t *testing.T) {
	policy := configFile(t, "approve_belov: 1\n")
	said, code := failing(t, "serve", "--data", t.TempDir(), "--listen", "nowhere", "--budget", "-1s", "--rate-limit", "-1", "--policy", policy,
		"--tls-cert", "here.pem", "--clickhouse", "secret@nowhere", "--ledger", "mysql://u:secret@db/v")
	if code != exitUsage || strings.Contains(said, "secret") {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"--listen nowhere", "--budget -1s", "--rate-limit -1", "approve_belov", "--tls-cert and --tls-key", "--clickhouse: ", "--ledger: "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}
