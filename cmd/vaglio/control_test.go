package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
)

// fails runs vaglio to an end with a code, and returns all that it printed.
func fails(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, err := vaglioCommand(t.Context(), args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("vaglio %s: %v, want %d: %s", strings.Join(args, " "), err, code, out)
	}
	return string(out)
}

// written is a file with a text.
func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually asks a running server again until it answers by what was changed.
func (s *server) eventually(r *vaglio.Request, want func(*vaglio.Decision) bool) {
	s.t.Helper()
	var d vaglio.Decision
	var body []byte
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if d, body = s.score("?dry_run=true", r); want(&d) {
			return
		}
	}
	s.t.Fatalf("the server does not take it up: %s\n%s", body, s.log)
}

func TestARunningServerFollowsThePublishedPolicyAndTheLists(t *testing.T) {
	data := installed(t)
	s := serve(t, data)
	r := refundOf(t, "rr_published", 12)
	r.Entities = r.Entities.With("device", "d_listed")
	by := func(name string) func(*vaglio.Decision) bool {
		return func(d *vaglio.Decision) bool { return strings.HasPrefix(d.PolicyVersion, name+"-") }
	}
	listed := func(d *vaglio.Decision) bool {
		return d.Verdict == vaglio.Deny && strings.Contains(string(mustJSON(t, d.Rules)), `"listed"`)
	}

	// Lists, of which the default policy asks one.
	mustRun(t, "lists", "create", "--data", data, "--hashed", "confirmed_fraud")
	if out := mustRun(t, "lists", "add", "--data", data, "confirmed_fraud", "d_listed", "--reason", "ring"); out != "added 1 (list confirmed_fraud)\n" {
		t.Errorf("%s", out)
	}
	s.eventually(&r, listed)
	mustRun(t, "lists", "remove", "--data", data, "confirmed_fraud", "d_listed")
	s.eventually(&r, func(d *vaglio.Decision) bool { return !listed(d) })

	// A policy with a mistake is refused with its line; a strange one is warned of, and published.
	wrong := written(t, "wrong.yaml", "name: wrong\nrules:\n  - {name: x, when: no_such_feature > 1, then: deny}\n")
	if out := fails(t, exitFailed, "policy", "publish", "--data", data, wrong, "--reason", "x"); !strings.Contains(out, `line 3: rule "x": there is no feature "no_such_feature"`) {
		t.Errorf("%s", out)
	}
	fails(t, exitUsage, "policy", "publish", "--data", data, wrong)
	strict := written(t, "strict.yaml", "name: strict\nthresholds: {approve_below: 0, deny_from: 0}\n")
	command := vaglioCommand(t.Context(), "policy", "publish", "--data", data, strict, "--reason", "hard times")
	var told bytes.Buffer
	command.Stderr = &told
	if out, err := command.Output(); err != nil || !strings.HasSuffix(string(out), " is in force\n") || !strings.Contains(told.String(), "denies every request") {
		t.Errorf("%v %s %s", err, out, &told)
	}
	s.eventually(&r, by("strict"))
	if out := mustRun(t, "policy", "show", "--data", data); !strings.HasPrefix(out, "name: strict\n") {
		t.Errorf("%s", out)
	}

	// Two persons by two keys: the command line is one person only.
	four := written(t, "four.yaml", "name: four\n")
	out := mustRun(t, "policy", "publish", "--data", data, four, "--reason", "careful", "--four-eyes")
	_, id, found := strings.Cut(strings.TrimSpace(out), "vaglio policy approve ")
	if !found || !strings.Contains(fails(t, exitFailed, "policy", "approve", "--data", data, id), "another person") {
		t.Errorf("%s", out)
	}
	if status, body := s.do("POST", "/v1/policy/publications/"+id+"/approve", ""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	s.eventually(&r, by("four"))
	mustRun(t, "policy", "rollback", "--data", data, "--reason", "too mild")
	s.eventually(&r, by("strict"))
	history := mustRun(t, "policy", "history", "--data", data)
	for _, want := range []string{"in force since", "hard times", "too mild", "open", actor()} {
		if !strings.Contains(history, want) {
			t.Errorf("no %q in\n%s", want, history)
		}
	}
	usual := written(t, "usual.yaml", mustRun(t, "policy", "show", "default"))
	mustRun(t, "policy", "publish", "--data", data, usual, "--reason", "the end of the test")
	s.eventually(&r, by("default"))
}

func TestDecisionsAreReplayedFromTheCommandLine(t *testing.T) {
	data := installed(t)
	s := serve(t, data)
	from := vaglio.InstantOf(time.Now())
	for nth, id := range []string{"rr_again_1", "rr_again_2"} {
		r := refundOf(t, id, 14+nth)
		s.score("", &r)
	}
	until := vaglio.InstantOf(time.Now()) + 1
	s.stop()
	one := mustRun(t, "replay", "--data", data, "rr_again_1")
	if strings.Count(one, ": the same\n") != 2 {
		t.Errorf("%s", one)
	}
	var report replayReport
	if err := json.Unmarshal([]byte(mustRun(t, "replay", "--data", data, "--from", from.String(), "--until", until.String(), "--json")), &report); err != nil {
		t.Fatal(err)
	}
	if same := (tallied{Same: 2}); report.Decisions != 2 || report.FromInputs != same || report.FromHistory != same || len(report.Examples) != 0 {
		t.Errorf("%+v", report)
	}

	// An event that was observed in time and stored too late makes another history.
	r := refundOf(t, "", 14)
	late := vaglio.Event{ID: "evt_too_late", Kind: "login_failed", OccurredAt: from - vaglio.Hour, ObservedAt: from - vaglio.Hour,
		Entities: vaglio.FieldsOf("customer", r.Entities.Get("customer"))}
	mustRun(t, "import", "--data", data, written(t, "late.ndjson", string(mustJSON(t, &late))+"\n"))
	out := fails(t, exitFailed, "replay", "--data", data, "rr_again_1", "--json")
	var again scoring.Replayed
	if err := json.Unmarshal([]byte(out), &again, json.RejectUnknownMembers(true)); err != nil || !again.FromInputs.Same || again.FromHistory.Same ||
		len(again.FromHistory.Timelines) == 0 || again.FromHistory.Timelines[0].CameLater[0] != "evt_too_late" {
		t.Errorf("%v %s", err, out)
	}
	if out := fails(t, exitFailed, "replay", "--data", data, "--from", from.String(), "--until", until.String()); !strings.Contains(out, "from history: 1 the same, 1 different") ||
		!strings.Contains(out, "came later: evt_too_late") {
		t.Errorf("%s", out)
	}
	fails(t, exitUsage, "replay", "--data", data)
	fails(t, exitUsage, "replay", "--data", data, "rr_again_1", "--from", from.String())
	fails(t, exitFailed, "replay", "--data", data, "rr_never")
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestListsAreFilledFromFiles(t *testing.T) {
	data := t.TempDir()
	mustRun(t, "lists", "create", "--data", data, "vip")
	var text strings.Builder
	text.WriteString("value,reason,expires\n")
	for i := range ledger.MaxListChange + 10 {
		text.WriteString("c_" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + "\n")
	}
	// Values of at most 256 bytes, of which some come twice.
	lines := strings.Split(text.String(), "\n")
	for i := range lines {
		lines[i] = lines[i][:min(len(lines[i]), 200)]
	}
	big := written(t, "big.csv", strings.Join(lines, "\n")+"\"c,1\",friend of the house,2100-01-01\n")
	if out := mustRun(t, "lists", "add", "--data", data, "vip", "--file", big, "--json"); out != `{"added":5011,"list":"vip"}` {
		t.Errorf("%s", out)
	}
	if out := mustRun(t, "lists", "show", "--data", data, "vip", "--value", "c,1"); !strings.Contains(out, "friend of the house") || !strings.Contains(out, "2100-01-01") {
		t.Errorf("%s", out)
	}
	add := vaglioCommand(t.Context(), "lists", "add", "--data", data, "vip", "--file", "-")
	add.Stdin = strings.NewReader("c_9\nc_10,,2099-12-31\n")
	if out, err := add.CombinedOutput(); err != nil || string(out) != "added 2 (list vip)\n" {
		t.Errorf("%v %s", err, out)
	}
	wrong := written(t, "wrong.csv", "a,b,c,d\nc_1,,yesterday\n")
	if out := fails(t, exitFailed, "lists", "add", "--data", data, "vip", "--file", wrong); !strings.Contains(out, "line 1: want value") || !strings.Contains(out, "line 2: \"yesterday\"") {
		t.Errorf("%s", out)
	}
	past := written(t, "past.csv", "# good\nc_1\nc_2,,2001-01-01\n")
	if out := fails(t, exitFailed, "lists", "add", "--data", data, "vip", "--file", past); !strings.Contains(out, "line 3: expires_at is not in the future") {
		t.Errorf("%s", out)
	}
	if out := mustRun(t, "lists", "remove", "--data", data, "vip", "--file", big); !strings.HasPrefix(out, "removed ") {
		t.Errorf("%s", out)
	}
	if out := mustRun(t, "lists", "show", "--data", data, "vip"); !strings.Contains(out, "c_9") || strings.Contains(out, "c,1") {
		t.Errorf("%s", out)
	}
	if out := mustRun(t, "lists", "list", "--data", data); !strings.Contains(out, "vip") {
		t.Errorf("%s", out)
	}
	log := mustRun(t, "audit", "log", "--data", data)
	if strings.Contains(log, "c_9") || strings.Contains(log, "friend") || !strings.Contains(log, "list.added") || !strings.Contains(log, actor()) {
		t.Errorf("%s", log)
	}
	fails(t, exitUsage, "lists", "add", "--data", data, "vip")
	fails(t, exitUsage, "lists", "add", "--data", data, "vip", "c_1", "--file", big)
	fails(t, exitFailed, "lists", "add", "--data", data, "none", "c_1")
	fails(t, exitFailed, "lists", "create", "--data", data, "VIP")
}

func TestGuardsAreListedAndCleared(t *testing.T) {
	data := t.TempDir()
	l, err := ledger.Open(t.Context(), "sqlite:"+filepath.Join(data, "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.TripGuard(t.Context(), ledger.GuardTrip{ID: "guard_1", Guard: "denials", Detail: "60 of 100 in the last hour"})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "guards", "list", "--data", data); !strings.Contains(out, "holds until cleared") || !strings.Contains(out, "60 of 100") {
		t.Errorf("%s", out)
	}
	mustRun(t, "guards", "clear", "--data", data, "guard_1")
	if out := mustRun(t, "guards", "list", "--data", data); !strings.Contains(out, "by "+actor()) {
		t.Errorf("%s", out)
	}
	fails(t, exitFailed, "guards", "clear", "--data", data, "guard_1")
}
