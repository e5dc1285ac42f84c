//go:build unix

package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
)

// socket passes connections on to a PostgreSQL until it is told to swallow what the server says.
type socket struct {
	listener net.Listener
	silent   atomic.Bool
	open     sync.Map
	accepts  sync.WaitGroup
	work     sync.WaitGroup
}

// behindASocket is the address of a database behind a socket of the test's.
func behindASocket(t *testing.T, dsn string) (string, *socket) {
	t.Helper()
	address, err := url.Parse(dsn)
	must(t, err)
	const name = ".s.PGSQL.5432"
	target := filepath.Join(address.Query().Get("host"), name)
	dir, err := os.MkdirTemp("", "pg") // the test's own folder may have too long a name for a socket
	must(t, err)
	s := &socket{}
	s.listener, err = net.Listen("unix", filepath.Join(dir, name))
	must(t, err)
	t.Cleanup(func() {
		must(t, s.listener.Close())
		s.accepts.Wait() // what it has accepted last is to be closed, too
		s.open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		s.work.Wait()
		must(t, os.RemoveAll(dir))
	})
	s.accepts.Go(func() {
		for {
			client, err := s.listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", target)
			if err != nil {
				t.Error(err)
				return
			}
			s.open.Store(client, true)
			s.open.Store(server, true)
			s.work.Go(func() { s.pass(server, client, nil) })
			s.work.Go(func() { s.pass(client, server, &s.silent) })
		}
	})
	address.RawQuery = "host=" + url.QueryEscape(dir)
	return address.String(), s
}

// pass copies until one of the two ends. While it is silent, what comes is lost.
func (s *socket) pass(to, from net.Conn, silent *atomic.Bool) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if silent != nil && silent.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestAPostgreSQLThatSaysNothingEndsEveryCall bounds nothing but that calls end: without a bound they never would.
func TestAPostgreSQLThatSaysNothingEndsEveryCall(t *testing.T) {
	direct := ledgertest.Postgres(t)
	dsn, wire := behindASocket(t, direct)
	l := open(t, dsn, ledger.Options{})
	record(t, l, request("rr_before", "c", "p"))
	wire.silent.Store(true)
	usual := ledger.MaxCommit(300 * time.Millisecond)
	var calls sync.WaitGroup
	for i := range 5 {
		calls.Go(func() {
			_, _, err := recordAs(l, fmt.Sprint("rr_", i), "us")
			if !errors.Is(err, context.DeadlineExceeded) && !ledger.Unavailable(err) {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	calls.Wait()
	usual()
	for name, call := range map[string]func(context.Context) error{
		"look up": func(ctx context.Context) error {
			_, _, err := l.Lookup(ctx, claim(request("rr_before", "c", "p")))
			return err
		},
		"recent": func(ctx context.Context) error {
			_, err := l.Recent(ctx, []vaglio.Entity{{Kind: "customer", ID: "c"}}, at)
			return err
		},
		"execute": func(ctx context.Context) error {
			_, err := l.Execute(ctx, "rr_before", ledger.Execution{State: ledger.Submitted})
			return err
		},
		"cancel": func(ctx context.Context) error { _, err := l.Cancel(ctx, "rr_before", "", ""); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := call(ctx); err == nil {
			t.Errorf("%s worked", name)
		}
		cancel()
	}

	wire.silent.Store(false)
	for i := range 5 { // each is there whole or not at all, and is decided once
		for deadline := time.Now().Add(3 * time.Minute); ; {
			response, _, err := recordAs(l, fmt.Sprint("rr_", i), "us")
			if err == nil && string(response) == fmt.Sprintf("rr_%d_by_us", i) {
				break
			}
			if !ledger.Unavailable(err) && !errors.Is(err, context.DeadlineExceeded) || time.Now().After(deadline) {
				t.Fatalf("request %d: %q %v", i, response, err)
			}
		}
	}
	if n, err := l.Backlog(t.Context()); n != 6 || err != nil {
		t.Errorf("%d events for 6 requests, %v", n, err)
	}
	if got := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}); got != 6*1999 {
		t.Errorf("%d is reserved", got)
	}
	intact(t, l)
}

// TestALogCutAnywhereHoldsWholeDecisions is a loss of power, or a kill, in the middle of writing a commit: SQLite's log ends
// after any number of bytes.
func TestALogCutAnywhereHoldsWholeDecisions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	must(t, open(t, path, ledger.Options{}).Close())
	l := open(t, path, ledger.Options{})
	const n = 6
	ends := make([]int64, n+1) // of the log, when so many decisions were answered
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		must(t, err)
		return info.Size()
	}
	ends[0] = size()
	for i := range n {
		if _, _, err := recordAs(l, fmt.Sprint("rr_", i), "us"); err != nil {
			t.Fatal(err)
		}
		ends[i+1] = size()
	}
	file, err := os.ReadFile(path)
	must(t, err)
	log, err := os.ReadFile(path + "-wal")
	must(t, err)
	cuts := []int64{ends[n], ends[n] - 1}
	for i := 1; i <= n; i++ {
		cuts = append(cuts, ends[i], ends[i]-1, ends[i]-4096, (ends[i-1]+ends[i])/2, ends[i-1]+24, ends[i-1]+1)
	}
	for _, cut := range cuts {
		answered := 0
		for answered < n && ends[answered+1] <= cut {
			answered++
		}
		damaged := filepath.Join(t.TempDir(), "ledger.db")
		must(t, os.WriteFile(damaged, file, 0o600))
		must(t, os.WriteFile(damaged+"-wal", log[:cut], 0o600))
		l := open(t, damaged, ledger.Options{})
		waiting, err := l.Backlog(t.Context())
		must(t, err)
		if sum := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}); waiting != answered || sum != int64(answered)*1999 {
			t.Errorf("cut at %d of %v: %d events, %d reserved, want %d decisions", cut, ends, waiting, sum, answered)
		}
		for i := range n {
			r := request(fmt.Sprint("rr_", i), "c_"+fmt.Sprint("rr_", i), "p")
			if _, found, err := l.Lookup(t.Context(), claim(r)); err != nil || found != (i < answered) {
				t.Errorf("cut at %d: request %d is there: %t, %v", cut, i, found, err)
			}
		}
		intact(t, l)
		must(t, l.Close())
	}
}

func TestOnlyErrorsThatPassAreCalledUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, ledger.Options{})
	record(t, l, request("rr_1", "c", "p"))
	db := raw(t, path)
	db.SetMaxOpenConns(2)
	holder, err := db.Conn(t.Context())
	must(t, err)
	_, err = holder.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	must(t, err)
	_, taken := db.Exec(`BEGIN IMMEDIATE`)
	must(t, holder.Close())
	_, wrong := db.Exec(`SELECT nothing`)
	_, missing := l.Decision(t.Context(), "none")
	_, _, conflict := l.Lookup(t.Context(), claim(request("rr_1", "other", "p")))
	_, away := ledger.Open(t.Context(), "postgres://u@127.0.0.1:1/db?connect_timeout=2", ledger.Options{})
	for _, c := range []struct {
		err  error
		want bool
	}{{taken, true}, {away, true}, {wrong, false}, {missing, false}, {conflict, false}} {
		if c.err == nil || ledger.Unavailable(c.err) != c.want {
			t.Errorf("%v: want %t", c.err, c.want)
		}
	}
}
