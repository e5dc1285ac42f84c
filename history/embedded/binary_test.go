package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vaglio/history/embedded"
)

func TestAStandInForTheBinaryIsGivenALoopbackListenerAndEndsCleanly(t *testing.T) {
	bin, dir := standIn(t, "26.7.2.1"), t.TempDir()
	server := start(t, dir)
	_, _, args := started(t, bin)
	if args[0] != "local" || args[1] != "--config-file="+filepath.Join(dir, "config.xml") {
		t.Errorf("arguments = %q", args)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if hosts := strings.Split(string(config), "listen_host>"); len(hosts) != 3 || hosts[1] != "127.0.0.1</" {
		t.Errorf("config.xml listens elsewhere:\n%s", config)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "ended")); err != nil {
		t.Errorf("not ended by the end of its input: %v", err)
	}
}

func TestAStandInForTheBinaryDiesWithItsKilledGuardAndIsReplaced(t *testing.T) {
	bin := standIn(t, "26.7.2.1")
	server := start(t, t.TempDir())
	pid, guard, _ := started(t, bin)
	if err := syscall.Kill(guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "its end", func() bool { return gone(pid) })
	await(t, "another", func() bool { other, _, _ := started(t, bin); return other != pid && server.Err() == nil })
}

func TestAStandInForTheBinaryDiesWithTheKilledParent(t *testing.T) {
	bin, dir := standIn(t, "26.7.2.1"), t.TempDir()
	parent, _ := startParent(t, dir)
	pid, guard, _ := started(t, bin)
	kill(t, parent)
	await(t, "the end of both", func() bool { return gone(pid) && gone(guard) })
	start(t, dir)
}

func TestAStandInForTheBinaryThatRefusesToStartIsReportedWithItsErrorOutput(t *testing.T) {
	bin := standIn(t, "26.7.2.1")
	write(t, filepath.Join(bin, "refuse"), "disk is made of cheese")
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "disk is made of cheese") {
		t.Errorf("error = %v", err)
	}
}

func TestAStandInForTheBinaryThatKeepsDyingIsGivenUpWithItsErrorOutput(t *testing.T) {
	t.Cleanup(embedded.RestartDelays([]time.Duration{time.Millisecond, time.Millisecond}))
	bin, dir := standIn(t, "26.7.2.1"), t.TempDir()
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bin, "refuse"), "disk is made of cheese")
	pid, _, _ := started(t, bin)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	for _, err := range []error{server.Err(), server.Close()} {
		if err == nil || !strings.Contains(err.Error(), "3 times in a row") || !strings.Contains(err.Error(), "disk is made of cheese") {
			t.Errorf("error = %v", err)
		}
	}
	if err := os.Remove(filepath.Join(bin, "refuse")); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestABinaryThatIsTooOldLeavesTheWorkToTheLibrary(t *testing.T) {
	bin := standIn(t, "26.6.9.9")
	if got := query(t, start(t, t.TempDir()).DSN(), `SELECT 1`); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
	if _, err := os.Stat(filepath.Join(bin, "started")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old binary was started: %v", err)
	}
}

// standIn builds testdata/standin as the only clickhouse of the PATH and returns its folder.
func standIn(t *testing.T, version string) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "clickhouse"), "./testdata/standin")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	write(t, filepath.Join(bin, "version"), version)
	t.Setenv("PATH", bin)
	return bin
}

// started is what the stand-in noted when it started: its process, its parent's and its arguments.
func started(t *testing.T, bin string) (pid, parent int, args []string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(bin, "started"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if _, err := fmt.Sscan(lines[0], &pid, &parent); err != nil {
		t.Fatalf("%q: %v", lines[0], err)
	}
	return pid, parent, lines[1:]
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
