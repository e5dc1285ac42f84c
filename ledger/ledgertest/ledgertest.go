// Package ledgertest runs a real PostgreSQL for tests, from Debian's packages, which `make deps` installs. [Postgres] is a
// fresh database on a server that the tests of a process share; [Start] is a server of one's own, to be killed.
package ledgertest

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Postgres returns the address of a fresh, empty database, which is dropped with the test. The server lives as long as
// the process and never syncs: what it holds survives its own death, not a power cut.
func Postgres(t testing.TB) (dsn string) {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start("-c", "fsync=off") })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.Database(t)
}

// Server is a PostgreSQL in a temporary folder, reached through a socket there. It ends with the process, however that ends.
type Server struct {
	dir, bin string
	owner    *user.User // nil: ourselves
	settings []string
	run      *exec.Cmd
	alive    io.WriteCloser // closed: the server stops and is waited for
	names    atomic.Int64
}

// Start starts a server that syncs its disk as in production, and stops it with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.end("remove\n"); err != nil {
			t.Error(err)
		}
	})
	return s
}

func start(settings ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, settings: settings}
	if s.dir, err = os.MkdirTemp("", "vaglio-pg-"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		if s.owner, err = user.Lookup("postgres"); err != nil {
			return nil, fmt.Errorf("no user to run PostgreSQL as: %w: run make deps", err)
		}
		uid, uidErr := strconv.Atoi(s.owner.Uid)
		gid, gidErr := strconv.Atoi(s.owner.Gid)
		if err := errors.Join(uidErr, gidErr, os.Chown(s.dir, uid, gid)); err != nil {
			return nil, err
		}
	}
	initdb := s.command(filepath.Join(bin, "initdb"), "-D", filepath.Join(s.dir, "data"), "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return s, s.Restart()
}

func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.Join(err, errors.New("PostgreSQL's server is not in /usr/lib/postgresql: run make deps"))
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// command is one that runs as the server's owner, in a process group that a terminal's ctrl-C does not reach.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	if s.owner != nil {
		name, args = "runuser", append([]string{"-u", s.owner.Username, "--", name}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// keeper runs the server until its standard input ends, which it does at the latest when the tests' process does. It
// says when the server takes connections.
const keeper = `
bin=$1 dir=$2; shift 2
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=200 -c shared_buffers=32MB "$@" >>"$dir/log" 2>&1 &
server=$!
until "$bin/pg_isready" -q -h "$dir"; do
	if ! kill -0 $server 2>/dev/null; then tail -n 5 "$dir/log"; exit 1; fi
	sleep 0.05
done
echo "ready $server"
read -r how
kill -QUIT $server
wait $server
[ "$how" = stop ] || rm -rf "$dir"
exit 0
`

// Restart starts the server again, after [Server.Kill].
func (s *Server) Restart() error {
	cmd := s.command("sh", append([]string{"-c", keeper, "keeper", s.bin, s.dir}, s.settings...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if !strings.HasPrefix(said, "ready ") {
		return fmt.Errorf("start PostgreSQL: %w: %s", errors.Join(err, cmd.Wait()), said)
	}
	s.run, s.alive = cmd, in
	return nil
}

// Kill ends the server at once, as a crash does: no checkpoint, no farewell to its clients.
func (s *Server) Kill() error { return s.end("stop\n") }

func (s *Server) end(how string) error {
	if s.run == nil {
		return os.RemoveAll(s.dir)
	}
	_, err := io.WriteString(s.alive, how)
	err = errors.Join(err, s.alive.Close(), s.run.Wait())
	s.run = nil
	return err
}

// address is that of one of the server's databases.
func (s *Server) address(database string) string {
	return "postgres://postgres@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// Database makes a fresh, empty database and drops it with the test.
func (s *Server) Database(t testing.TB) (dsn string) {
	t.Helper()
	name := "test_" + strconv.FormatInt(s.names.Add(1), 10)
	run := func(text string) error {
		db, err := sql.Open("pgx", s.address("postgres"))
		if err != nil {
			return err
		}
		_, err = db.Exec(text)
		return errors.Join(err, db.Close())
	}
	if err := run(`CREATE DATABASE ` + name); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if s.run == nil {
			return
		}
		if err := run(`DROP DATABASE ` + name + ` WITH (FORCE)`); err != nil {
			t.Errorf("drop a database: %v", err)
		}
	})
	return s.address(name)
}
