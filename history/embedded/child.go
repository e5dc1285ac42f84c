package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"vaglio/native"
)

// childName as the first argument marks a process as the child; it is also what ps shows.
const childName = "vaglio-clickhouse"

// lingerTimeout is how long a child may go on after its parent is gone.
const lingerTimeout = 20 * time.Second

// mainCalled keeps a program that forgot Main from starting itself over and over.
var mainCalled atomic.Bool

// Main turns this process into the ClickHouse child when [Start] started it as one, and then never returns; otherwise it
// does nothing. It must be the first call of main and of each TestMain of a package that calls Start.
func Main() {
	mainCalled.Store(true)
	if len(os.Args) < 3 || os.Args[0] != childName {
		return
	}
	// The parent decides when the child ends: a signal to all processes of the service must not take ClickHouse away
	// from requests that the service still answers.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go endAfterParent()
	run := runLibrary
	if os.Args[1] == binary {
		run = runBinary
	}
	if err := run(os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// endAfterParent kills the child's process group when ClickHouse has not ended by itself some time after the parent went.
func endAfterParent() {
	stdin := []unix.PollFd{{Fd: 0}} // no events asked for: poll returns only when nobody can write any more
	for {
		if n, err := unix.Poll(stdin, -1); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	<-time.After(lingerTimeout)
	_ = syscall.Kill(0, syscall.SIGKILL)
}

func runLibrary(path string, args []string) error {
	runtime.LockOSThread()
	lib, err := native.Open(path)
	if err != nil {
		return err
	}
	// chdb.h: struct local_result_v2 * chdb_query_cmdline(int argc, char ** argv)
	var queryCommandLine func(argc int32, argv []*byte) uintptr
	if err := lib.Func(&queryCommandLine, "chdb_query_cmdline"); err != nil {
		return err
	}
	argv := make([]*byte, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		argv = append(argv, &append([]byte(arg), 0)[0])
	}
	queryCommandLine(int32(len(argv)), append(argv, nil))
	return nil
}

// runBinary runs clickhouse as a grandchild that reads our standard input itself.
func runBinary(path string, args []string) error {
	runtime.LockOSThread() // the death signal comes when the thread that started the process ends, not the process
	cmd := exec.Command(path, append([]string{"local"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = diesWithParent()
	return cmd.Run()
}

// A child is the process, seen from the parent.
type child struct {
	cmd          *exec.Cmd
	leash        *os.File // the pseudo-terminal's side of ours: with its end the child's standard input ends
	ready        awaited
	prompt       awaited
	stderr       tail
	exited       chan struct{} // closed when the process is gone, after cmd.ProcessState was set
	servedSince  time.Time
	deathsBefore int // of its predecessors, in a row
}

// launch starts a child and returns it once it listens. A child that doesn't is gone when launch returns.
func (s *Server) launch(ctx context.Context) (*child, error) {
	c := &child{exited: make(chan struct{}), ready: await(readyLine + "\n"), prompt: await(prompt)}
	executable, err := ownExecutable()
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(executable)
	c.cmd.Args = append([]string{childName, s.program.kind, s.program.path}, arguments(s.dir)...)
	c.cmd.Dir = s.dir
	c.cmd.Env = []string{"TZ=UTC", "HOME=" + s.dir, "LD_LIBRARY_PATH=" + os.Getenv("LD_LIBRARY_PATH")} // no secrets of ours
	c.cmd.ExtraFiles = []*os.File{s.lock}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signals of our terminal, no terminal to draw on
	c.cmd.Stdout, c.cmd.Stderr = io.MultiWriter(&c.ready, &c.prompt), &c.stderr
	c.cmd.WaitDelay = time.Second
	leash, stdin, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	c.leash, c.cmd.Stdin = leash, stdin
	err = c.cmd.Start()
	_ = stdin.Close() // the child's copy is the one that counts
	if err != nil {
		return nil, errors.Join(err, leash.Close())
	}
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // failure tells the state
		_ = c.leash.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-c.ready.seen:
	case <-c.prompt.seen:
	case <-c.exited:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), c.stop())
	}
	select {
	case <-c.ready.seen:
		c.servedSince = time.Now()
		return c, nil
	default: // the script is over, and failed
		_ = c.stop()
		return nil, c.failure()
	}
}

// stop ends the child and waits for it.
func (c *child) stop() error {
	_ = c.leash.Close()
	select {
	case <-c.exited:
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
	}
	if !c.cmd.ProcessState.Success() {
		return c.failure()
	}
	return nil
}

// failure says how the child ended, with the end of its error output. Only after exited.
func (c *child) failure() error {
	return fmt.Errorf("clickhouse ended (%s): %s", c.cmd.ProcessState, c.stderr.String())
}

// awaited is a writer that closes seen when the text has passed.
type awaited struct {
	text string
	rest []byte // what was written last, too short to be the text
	seen chan struct{}
	once sync.Once
}

func await(text string) awaited { return awaited{text: text, seen: make(chan struct{})} }

func (a *awaited) Write(p []byte) (int, error) {
	a.rest = append(a.rest, p...)
	if bytes.Contains(a.rest, []byte(a.text)) {
		a.once.Do(func() { close(a.seen) })
	}
	a.rest = a.rest[max(0, len(a.rest)-len(a.text)+1):]
	return len(p), nil
}

// tail is a writer that keeps the last bytes.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.last)), "")
}
