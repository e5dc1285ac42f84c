// Package embedded runs a real ClickHouse as a child process of our own binary, for a service, a demo or a test that was
// given none: [Main] turns a process into that child, [Start] starts and supervises it, and [Server.DSN] is what package
// history connects to. child.go is what runs in the child, config.go what ClickHouse is told.
//
// ClickHouse comes from libchdb.so (see package native) or, when there is one of version 26.7 or later on the PATH, from
// the clickhouse binary; both run as "clickhouse local" with listeners. The child listens on 127.0.0.1 only, behind a
// password made for each start, as a user that can't read or write files. It ends when this process does, in whatever
// way, because its standard input then closes. Rows whose insert returned survive a kill of either process and, since
// every part is synced to disk first (fsync_after_insert, some 6 ms an insert; a table may say otherwise), a loss of
// power; rows of an insert that did not return may be there or not.
//
// It takes at most 40 % of the machine's memory, keeps ClickHouse's errors in clickhouse.log (two files of 8 MB), and
// runs in UTC.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrInUse is returned, wrapped with the folder and the process that holds it, when a data folder has an instance already.
var ErrInUse = errors.New("data folder is in use")

// ErrRestarting is what [Server.Err] returns, wrapped, while a child that died is being replaced.
var ErrRestarting = errors.New("clickhouse is being restarted")

var errClosed = errors.New("clickhouse was closed")

// restartDelays are the pauses before the restarts of a child that keeps dying; after the last one it is given up.
var restartDelays = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second,
}

const (
	startTimeout = 2 * time.Minute  // until a child must serve: it loads all tables first
	stopTimeout  = 40 * time.Second // until a child that was told to end is killed; above lingerTimeout
	stable       = time.Minute      // after so long a life, a death counts as the first one again
	portAttempts = 5                // another process may take the free port before the child does
)

// Options say where the data lives and who hears of restarts.
type Options struct {
	Dir    string       // data folder, created with mode 0700; one instance at a time
	Logger *slog.Logger // nil is slog.Default()
}

// Server is a running ClickHouse. Its methods can be called from several goroutines.
type Server struct {
	dir      string
	logger   *slog.Logger
	program  program
	port     int
	password string
	lock     *os.File

	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	done   chan struct{} // closed when the child is gone for good

	mu  sync.Mutex
	err error
}

// Start starts a ClickHouse on a free port of 127.0.0.1 and returns when it serves, in about a second. A process that
// calls it must call [Main] first in its main or TestMain. The context bounds the start only. When a former instance of
// the folder is still ending after its parent was killed, Start waits for it; a living one is [ErrInUse].
func Start(ctx context.Context, o Options) (*Server, error) {
	if !mainCalled.Load() {
		return nil, errors.New("start clickhouse: embedded.Main is not the first call of this program's main or TestMain")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	program, err := findProgram(ctx, logger)
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	lock, err := lockFolder(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	s := &Server{dir: dir, logger: logger, program: program, password: rand.Text(), lock: lock, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	child, err := s.firstLaunch(ctx)
	if err != nil {
		s.cancel()
		return nil, errors.Join(fmt.Errorf("start clickhouse in %s: %w", dir, err), lock.Close())
	}
	if err := s.publish(); err != nil {
		return nil, errors.Join(fmt.Errorf("start clickhouse in %s: %w", dir, err), child.stop(), lock.Close())
	}
	go s.supervise(child)
	return s, nil
}

// dsnName is the file, in the data folder and for its owner alone, that says how to reach the running instance.
const dsnName = "dsn"

// Running is the DSN of the instance that serves a data folder in another process; ok is false when none says so. After a
// kill the address may be out of date: then nobody answers there, or not to this password.
func Running(dir string) (dsn string, ok bool) {
	content, err := os.ReadFile(filepath.Join(dir, dsnName))
	return string(content), err == nil
}

func (s *Server) publish() error {
	path := filepath.Join(s.dir, dsnName)
	if err := os.WriteFile(path+".partial", []byte(s.DSN()), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}

// DSN is the address for clickhouse-go, with a password: not for logs. It names the database "vaglio", which exists.
// It stays the same over restarts of the child.
func (s *Server) DSN() string {
	dsn := url.URL{
		Scheme: "clickhouse",
		User:   url.UserPassword("vaglio", s.password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:   "/vaglio",
	}
	return dsn.String()
}

// Err is nil while ClickHouse serves, [ErrRestarting] while a dead child is being replaced, and otherwise says, with the
// end of the child's error output, why it was given up.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Done is closed when ClickHouse is gone for good: given up, or closed.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the child cleanly and waits for it. The error is not nil when it had been given up, had to be killed or
// failed while ending. Closing again changes nothing.
func (s *Server) Close() error {
	s.cancel()
	<-s.done
	if err := s.Err(); !errors.Is(err, errClosed) {
		return err
	}
	return nil
}

func (s *Server) setErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// firstLaunch settles the port.
func (s *Server) firstLaunch(ctx context.Context) (*child, error) {
	for attempt := 1; ; attempt++ {
		var err error
		if s.port, err = freePort(ctx); err != nil {
			return nil, err
		}
		if err := writeConfig(s.dir, s.port, s.password); err != nil {
			return nil, err
		}
		child, err := s.launch(ctx)
		if err == nil || attempt == portAttempts || !strings.Contains(err.Error(), "Address already in use") {
			return child, err
		}
	}
}

// supervise replaces the child when it dies, until Close or until it died too often.
func (s *Server) supervise(c *child) {
	defer close(s.done)
	defer s.lock.Close()
	defer os.RemoveAll(filepath.Join(s.dir, dsnName))
	for {
		select {
		case <-s.ctx.Done():
			s.setErr(errClosed)
			if err := c.stop(); err != nil {
				s.setErr(fmt.Errorf("stop clickhouse in %s: %w", s.dir, err))
			}
			return
		case <-c.exited:
		}
		next, err := s.replace(c)
		s.setErr(err)
		if err != nil {
			return
		}
		c = next
	}
}

// replace starts children until one serves. The error output of a child that served may quote rows: it goes to Err only.
func (s *Server) replace(dead *child) (*child, error) {
	log := s.logger.With("log_file", filepath.Join(s.dir, logName))
	log.Error("clickhouse died", "exit", dead.cmd.ProcessState.String(), "pid", dead.cmd.Process.Pid)
	cause, deaths := dead.failure(), dead.deathsBefore+1
	if time.Since(dead.servedSince) > stable {
		deaths = 1
	}
	for ; deaths <= len(restartDelays); deaths++ {
		s.setErr(fmt.Errorf("%w: %w", ErrRestarting, cause))
		select {
		case <-time.After(restartDelays[deaths-1]):
		case <-s.ctx.Done():
			return nil, errClosed
		}
		next, err := s.launch(s.ctx)
		switch {
		case err == nil:
			next.deathsBefore = deaths
			log.Info("clickhouse restarted", "deaths_in_a_row", deaths, "pid", next.cmd.Process.Pid)
			return next, nil
		case s.ctx.Err() != nil:
			return nil, errClosed
		}
		log.Error("clickhouse did not restart", "deaths_in_a_row", deaths, "error", err)
		cause = err
	}
	return nil, fmt.Errorf("clickhouse in %s died %d times in a row, given up: %w", s.dir, deaths, cause)
}

// freePort is a port of 127.0.0.1 that nobody listened on a moment ago.
func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}
