package api_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vaglio/api"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/scoring"
)

// TestTheCommandsOfTheDocumentationWork runs the fenced blocks of docs/api.md as they stand, in order, against a fresh
// history and ledger.
func TestTheCommandsOfTheDocumentationWork(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```(sh|python)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 7 {
		t.Fatalf("%d blocks", len(blocks))
	}
	dir, quiet := t.TempDir(), slog.New(slog.DiscardHandler)
	now := func() time.Time { return time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC) } // the page's events are of that day
	clickHouse, err := embedded.Start(t.Context(), embedded.Options{Dir: filepath.Join(dir, "clickhouse"), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer clickHouse.Close()
	store, err := history.Open(t.Context(), clickHouse.DSN(), history.Options{Logger: quiet, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := emptyLedger(t)
	_, key, err := l.CreateKey(t.Context(), "pipeline", []string{ledger.ScopeScore, ledger.ScopeEvents, ledger.ScopeReview}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, admin, err := l.CreateKey(t.Context(), "operator", []string{ledger.ScopeAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	engine := scoring.New(scoring.Options{History: store, Ledger: l, Budget: time.Minute, Logger: quiet, Now: now})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := api.New(api.Options{Engine: engine, Ledger: l, Logger: quiet})
	go func() { served <- s.Serve(ctx, listener) }()
	for _, block := range blocks {
		command := exec.Command("bash", "-eu", "-c", block[2])
		if block[1] == "python" {
			command = exec.Command("python3", "-c", block[2])
		}
		command.Dir = dir
		command.Env = append(os.Environ(), "VAGLIO=http://"+listener.Addr().String(), "KEY="+key, "ADMIN="+admin, "no_proxy=127.0.0.1")
		if out, err := command.CombinedOutput(); err != nil || strings.Contains(string(out), "Traceback") {
			t.Errorf("%s\n%v\n%s", block[2], err, out)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestEveryRouteIsOnTheDocumentationsPage(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range described().paths {
		if !strings.Contains(string(page), path.template) {
			t.Errorf("%s is not documented", path.template)
		}
	}
}
