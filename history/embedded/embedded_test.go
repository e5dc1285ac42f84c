package embedded_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/ClickHouse/clickhouse-go/v2"

	"vaglio/history/embedded"
)

// parentOf, set in the environment, makes the test binary a service that lives on the embedded ClickHouse of that folder.
const parentOf = "EMBEDDED_TEST_PARENT_OF"

func TestMain(m *testing.M) {
	embedded.Main()
	if dir := os.Getenv(parentOf); dir != "" {
		server, err := embedded.Start(context.Background(), embedded.Options{Dir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(server.DSN())
		<-server.Done()
	}
	os.Exit(m.Run())
}

func TestRowsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	server := start(t, dir)
	exec1(t, server.DSN(), `CREATE TABLE kept (n Int64) ENGINE = MergeTree ORDER BY n`)
	exec1(t, server.DSN(), `INSERT INTO kept SELECT number FROM numbers(1000)`)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, start(t, dir).DSN(), `SELECT count() FROM kept`); got != "1000" {
		t.Errorf("%s rows after a restart, want 1000", got)
	}
}

func TestInsertsAreSyncedToDiskUnlessATableSaysOtherwise(t *testing.T) {
	server := start(t, t.TempDir())
	const setting = `SELECT sum(value = '1') FROM system.merge_tree_settings WHERE name IN ('fsync_after_insert', 'fsync_part_directory')`
	if got := query(t, server.DSN(), setting); got != "2" {
		t.Errorf("%s of two settings are on", got)
	}
}

func TestAKilledClickHouseComesBackUnderTheSameAddressWithItsRows(t *testing.T) {
	dir := t.TempDir()
	server := start(t, dir)
	exec1(t, server.DSN(), `CREATE TABLE kept (n Int64) ENGINE = MergeTree ORDER BY n`)
	exec1(t, server.DSN(), `INSERT INTO kept SELECT number FROM numbers(1000)`)
	killed := clickHouseOf(t, dir)
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another process", func() bool { return clickHouseOf(t, dir) != killed })
	await(t, "health", func() bool { return server.Err() == nil })
	if got := query(t, server.DSN(), `SELECT count() FROM kept`); got != "1000" {
		t.Errorf("%s rows after kill -9, want 1000", got)
	}
}

func TestARestartWaitsForItsPortWhenAnotherProcessTookIt(t *testing.T) {
	t.Cleanup(embedded.RestartDelays(slices.Repeat([]time.Duration{200 * time.Millisecond}, 100)))
	dir := t.TempDir()
	server := start(t, dir)
	dsn, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	var killed int
	var other net.Listener
	await(t, "the port", func() bool {
		if pid := clickHouseOf(t, dir); pid != 0 && pid != killed && server.Err() == nil { // at first, or it was quicker than we
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed = pid
		}
		other, err = net.Listen("tcp", dsn.Host)
		return err == nil
	})
	await(t, "a failed restart", func() bool {
		err := server.Err()
		return errors.Is(err, embedded.ErrRestarting) && strings.Contains(err.Error(), "Address already in use")
	})
	_ = other.Close()
	await(t, "health", func() bool { return server.Err() == nil })
	if got := query(t, server.DSN(), `SELECT 1`); got != "1" {
		t.Errorf("SELECT 1 = %s", got)
	}
}

func TestAKilledParentTakesItsClickHouseWithItAndTheFolderIsFreeAgain(t *testing.T) {
	dir := t.TempDir()
	parent, dsn := startParent(t, dir)
	exec1(t, dsn, `CREATE TABLE kept (n Int64) ENGINE = MergeTree ORDER BY n`)
	exec1(t, dsn, `INSERT INTO kept SELECT number FROM numbers(1000)`)
	child := clickHouseOf(t, dir)
	kill(t, parent)
	server := start(t, dir)
	await(t, "the end of the old clickhouse", func() bool { return gone(child) })
	if got := query(t, server.DSN(), `SELECT count() FROM kept`); got != "1000" {
		t.Errorf("%s rows after kill -9 of the parent, want 1000", got)
	}
}

func TestAKilledParentTakesItsClickHouseWithItInTheMiddleOfAQuery(t *testing.T) {
	dir := t.TempDir()
	parent, dsn := startParent(t, dir)
	child := clickHouseOf(t, dir)
	db := open(t, dsn)
	running := make(chan error, 1)
	go func() {
		_, err := db.Exec(`SELECT sleepEachRow(1) FROM numbers(600)
			SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0`)
		running <- err
	}()
	await(t, "the query", func() bool {
		return query(t, dsn, `SELECT count() FROM system.processes
			WHERE query LIKE '%sleepEachRow(1)%' AND query NOT LIKE '%processes%'`) == "1"
	})
	kill(t, parent)
	await(t, "the end of clickhouse", func() bool { return gone(child) })
	if err := <-running; err == nil {
		t.Error("the query ended well")
	}
}

func TestASecondInstanceNamesTheFolderAndTheProcessThatHoldsIt(t *testing.T) {
	dir := t.TempDir()
	parent, _ := startParent(t, dir)
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: dir})
	if !errors.Is(err, embedded.ErrInUse) {
		t.Fatalf("error = %v, want ErrInUse", err)
	}
	if message := err.Error(); !strings.Contains(message, dir) || !strings.Contains(message, "process "+strconv.Itoa(parent.Process.Pid)) {
		t.Errorf("%q does not name %s and process %d", message, dir, parent.Process.Pid)
	}
}

func TestATerminatingSignalToTheWholeServiceLeavesClickHouseToItsParent(t *testing.T) {
	dir := t.TempDir()
	server := start(t, dir)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(clickHouseOf(t, dir), signal); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if got := query(t, server.DSN(), `SELECT 1`); got != "1" || server.Err() != nil {
			t.Fatalf("SELECT 1 = %s, health %v", got, server.Err())
		}
	}
}

func TestOnlyThePasswordOpensAndItOpensNoFiles(t *testing.T) {
	server := start(t, t.TempDir())
	dsn, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(user *url.Userinfo, statement, reason string) {
		t.Helper()
		other := *dsn
		other.User = user
		db := open(t, other.String())
		defer db.Close()
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s as %s: error = %v, want %q", statement, user.Username(), err, reason)
		}
	}
	refused(url.User("default"), `SELECT 1`, "session count")
	refused(url.User("vaglio"), `SELECT 1`, "Authentication failed")
	refused(url.UserPassword("vaglio", "guess"), `SELECT 1`, "Authentication failed")
	refused(dsn.User, `SELECT * FROM file('/etc/passwd', 'LineAsString')`, "READ ON FILE")
	refused(dsn.User, `SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')`, "READ ON URL")
	refused(dsn.User, `INSERT INTO FUNCTION file('/tmp/x', 'LineAsString', 's String') SELECT 'x'`, "WRITE ON FILE")
	if got := query(t, server.DSN(), `SELECT 1`); got != "1" || server.Err() != nil {
		t.Errorf("after refusals: %s, health %v", got, server.Err())
	}
}

func TestRubbishAndBrokenConnectionsDoNotEndClickHouse(t *testing.T) {
	dir := t.TempDir()
	server := start(t, dir)
	before := clickHouseOf(t, dir)
	dsn, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	for _, rubbish := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00", "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", ""} {
		connection, err := net.Dial("tcp", dsn.Host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := connection.Write([]byte(rubbish)); err != nil {
			t.Fatal(err)
		}
		if err := connection.(*net.TCPConn).SetLinger(0); err != nil { // close with a reset
			t.Fatal(err)
		}
		_ = connection.Close()
	}
	db := open(t, server.DSN())
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := db.ExecContext(ctx, `SELECT sum(cityHash64(number)) FROM numbers(10000000000)`); err == nil {
			t.Error("a query longer than its context ended well")
		}
		cancel()
	}
	if got := query(t, server.DSN(), `SELECT 1`); got != "1" || clickHouseOf(t, dir) != before {
		t.Errorf("SELECT 1 = %s, process %d, before %d", got, clickHouseOf(t, dir), before)
	}
}

func TestTheFolderIsClosedToOthersAndItsNameMayBeAwkward(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a & <b> "c" è`)
	server := start(t, dir)
	if got := query(t, server.DSN(), `SELECT currentDatabase() || ' ' || timezone()`); got != "vaglio UTC" {
		t.Errorf("database and time zone = %q", got)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, "data": 0o700, "config.xml": 0o600, "users.xml": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestAStartThatIsCancelledLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Start(ctx, embedded.Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error = %v, want Canceled", err)
	}
	start(t, dir)
}

func TestAMissingLibraryIsAClearError(t *testing.T) {
	t.Setenv("VAGLIO_LIB", t.TempDir())
	_, err := embedded.Start(t.Context(), embedded.Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("error = %v", err)
	}
}

func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		server, err := embedded.Start(b.Context(), embedded.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := server.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// startParent starts a service of its own on the embedded ClickHouse of dir, and returns it with the DSN.
func startParent(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(executable)
	parent.Env = append(os.Environ(), parentOf+"="+dir)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, parent) })
	dsn, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(dsn, "clickhouse://") {
		t.Fatalf("the parent said %q, %v", dsn, err)
	}
	return parent, strings.TrimSpace(dsn)
}

// kill does what kill -9 does, once.
func kill(t *testing.T, process *exec.Cmd) {
	t.Helper()
	if process.ProcessState != nil {
		return
	}
	if err := process.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = process.Wait() // "signal: killed"
}

// clickHouseOf is the process that ClickHouse itself wrote down as the owner of its data, 0 while there is none.
func clickHouseOf(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "status"))
	match := regexp.MustCompile(`PID: (\d+)`).FindSubmatch(content)
	if err != nil || match == nil {
		return 0
	}
	pid, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// await polls until a condition of another process holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for tick := time.NewTicker(10 * time.Millisecond); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited 3 minutes for %s", what)
		}
	}
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("clickhouse", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec1(t *testing.T, dsn, statement string) {
	t.Helper()
	db := open(t, dsn)
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func query(t *testing.T, dsn, statement string) string {
	t.Helper()
	db := open(t, dsn)
	defer db.Close()
	var got string
	if err := db.QueryRow(`SELECT toString((` + statement + `))`).Scan(&got); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return got
}
