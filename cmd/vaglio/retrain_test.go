package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/models"
	"vaglio/training"
)

// documented are the commands of a page, one a line.
func documented(t *testing.T, page string) (commands [][]string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words, ok := strings.CutPrefix(line, "    vaglio "); ok {
			commands = append(commands, strings.Fields(words))
		}
	}
	return commands
}

// The shared installation is that of the page's first commands. What the page promotes is taken back at the end by the page itself.
func TestRetrainInTenMinutes(t *testing.T) {
	data := installed(t)
	s := serve(t, data)
	costs, err := os.ReadFile("../../examples/costs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page := documented(t, "../../docs/retrain.md")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "costs.yaml"), costs, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range page {
		for i, arg := range args {
			if slices.Contains([]string{"costs.yaml", "truth.csv", "events.ndjson.gz"}, arg) {
				args[i] = filepath.Join(dir, arg)
			}
		}
	}
	mustRun(t, page[0]...)
	said := map[string]string{} // by command
	for _, args := range page[3:] {
		name := strings.Join(args[:min(2, len(args))], " ")
		if name == "models compare" && args[2] == "--live" { // now that there is something to compare
			s.untilInUse(`"shadow":"spring"`)
			for i := range 12 {
				r := refundOf(t, "rr_live_"+string(rune('a'+i)), 20+i)
				s.score("", &r)
			}
			s.untilDelivered()
			said["live"] = mustRun(t, append(args, "--data", data, "--json")...)
			continue
		}
		if name == "models promote" && len(args) == 3 { // the gate may find the year's last frauds too few to tell
			out, err := vaglioCommand(t.Context(), append(args, "--data", data)...).CombinedOutput()
			said["gate"] = string(out)
			if err == nil {
				continue
			}
			if !strings.Contains(said["gate"], "promotion refused: model spring as champion: ") {
				t.Fatalf("%v: %s", err, out)
			}
			mustRun(t, append(args, "--data", data, "--force", "--reason", "a test")...)
			continue
		}
		said[name] += mustRun(t, append(args, "--data", data)...)
	}
	has := func(name string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(said[name], want) {
				t.Errorf("%s does not say %q:\n%s", name, want, said[name])
			}
		}
	}
	has("models list", "champion  0.8", "spring", "TESTED ON", "2026-04-01 to 2026-06-01")
	has("models promote", "model spring is shadow", "model spring is challenger")
	has("gate", "beside the champion first, on ", "average precision ")
	has("models rollback", "model first is champion again")
	has("audit log", "model.promoted", "model.withdrawn", "model.rolled_back", "model.retrained", "auto-")
	for _, pattern := range []string{"account_takeover", "device_ring", "not_received_abuse", "double_dip", "insider"} {
		has("evaluate --model", pattern)
	}
	t.Logf("%s", said["evaluate --model"][strings.Index(said["evaluate --model"], "Simulated patterns"):])
	t.Logf("%s\n%s", said["gate"], said["retrain --once"])
	live, err := vaglio.Decode[training.Live]([]byte(said["live"]))
	if err != nil || live.Scored < 12 || len(live.Pairs) == 0 || live.Pairs[0].Model != "spring" {
		t.Errorf("live: %v\n%s", err, said["live"])
	}
	for _, file := range []string{"report.html", "policy.yaml"} {
		if _, err := os.Stat(filepath.Join(data, "models", "spring", file)); err != nil {
			t.Error(err)
		}
	}
	registry, err := models.OpenRegistry(filepath.Join(data, "models"))
	if err != nil {
		t.Fatal(err)
	}
	if next, err := nextRetraining(registry, 7*vaglio.Day); err != nil || next < vaglio.InstantOf(time.Now())+6*vaglio.Day {
		t.Errorf("just after a retraining the next one is due at %v, %v", next, err)
	}
	if champion, _, err := registry.Current(models.Champion); err != nil || champion != "first" {
		t.Errorf("in the end the champion is %s, %v", champion, err)
	}
	if _, held, _ := registry.Current(models.Shadow); held {
		mustRun(t, "models", "withdraw", "--stage", "shadow", "--data", data)
	}
}

// untilDelivered waits until history has the events and decisions of the outbox.
func (s *server) untilInUse(want string) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, body := s.do("GET", "/v1/models", ""); bytes.Contains(body, []byte(want)) {
			return
		}
	}
	s.t.Fatalf("%s is not taken up", want)
}

func (s *server) untilDelivered() {
	s.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, metrics := s.do("GET", "/metrics", "")
		if strings.Contains(string(metrics), "\nvaglio_outbox_events 0\n") && strings.Contains(string(metrics), "\nvaglio_outbox_decisions 0\n") {
			return
		}
	}
	s.t.Fatal("after 3 minutes history does not have all decisions")
}

func TestRetrainRefusesWhatItCantDo(t *testing.T) {
	refused := func(want string, args ...string) {
		t.Helper()
		out, err := vaglioCommand(t.Context(), append([]string{"retrain", "--data", t.TempDir()}, args...)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%v: %s; want %q", err, out, want)
		}
	}
	refused("vaglio models promote", "--stage", "champion")
	refused("--every: want a number of days", "--every", "7")
	refused("--every: want 1d or more", "--every", "0d")
	refused("--share: want a share", "--share", "120%")
	refused("--window: want", "--window", "0d")
}
