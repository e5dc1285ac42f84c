//go:build unix

package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"vaglio"
	"vaglio/ledger"
)

// The test binary is its own second process: with this variable it does what children says on the ledger that its
// first argument names, and prints a line "request response" for every answer that it got.
const childVariable = "VAGLIO_LEDGER_TEST_CHILD"

var children = map[string]func(*ledger.Ledger, string){
	"record for ever": func(l *ledger.Ledger, _ string) { recordForEver(l) },
	"record the same": func(l *ledger.Ledger, _ string) { recordTheSame(l, "child") },
	"fill the disk":   fillTheDisk,
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childVariable)]; child != nil {
		l, err := ledger.Open(context.Background(), os.Args[1], ledger.Options{Now: at.Time})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		child(l, os.Args[1])
		if err := l.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start runs a child on a ledger.
func start(t *testing.T, child, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childVariable+"="+child)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// recordAs records a request whose response says who decided it.
func recordAs(l *ledger.Ledger, id, who string) (string, bool, error) {
	r := request(id, "c_"+id, "p")
	response, repeated, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
		e := approval(r, at, vaglio.Minute)
		e.DecisionID += "_" + who
		e.Response = []byte(id + "_by_" + who)
		return e, nil
	})
	return string(response), repeated, err
}

func recordForEver(l *ledger.Ledger) {
	var calls sync.WaitGroup
	for sender := range 8 {
		calls.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("rr_%d_%d", sender, i)
				response, _, err := recordAs(l, id, "child")
				if err != nil {
					panic(err)
				}
				fmt.Printf("%s %s\n", id, response) // one write: lines of several senders stay whole
			}
		})
	}
	calls.Wait()
}

func TestAnsweredDecisionsSurviveAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	cmd, lines := start(t, "record for ever", path)
	answered := map[string]string{}
	for lines.Scan() {
		id, response, whole := strings.Cut(lines.Text(), " ")
		if whole && strings.HasSuffix(response, "child") { // the last line may be cut
			answered[id] = response
		}
		if len(answered) == 500 {
			must(t, cmd.Process.Signal(syscall.SIGKILL))
		}
	}
	if err := cmd.Wait(); err == nil || len(answered) < 500 {
		t.Fatalf("the child ended with %v after %d answers", err, len(answered))
	}
	l := open(t, path, ledger.Options{})
	for id, response := range answered {
		r := request(id, "c_"+id, "p")
		stored, found, err := l.Lookup(t.Context(), claim(r))
		if err != nil || !found || string(stored) != response {
			t.Fatalf("%s: %q %v (%v), want %q", id, stored, found, err, response)
		}
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c_" + id}}, at+1)
		if err != nil || len(facts) != 1 || facts[0].ID != id {
			t.Fatalf("%s: %v (%v) in the outbox", id, facts, err)
		}
	}
	// What the kill cut off is either whole or absent: as many events and reservations as decisions.
	stored, err := l.Backlog(t.Context())
	must(t, err)
	if sum := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}); stored < len(answered) || sum != int64(stored)*1999 {
		t.Errorf("%d answered, %d in the outbox, %d reserved", len(answered), stored, sum)
	}
}

// recordTheSame records 300 requests from 4 senders, whose answers are printed in the order of the requests.
func recordTheSame(l *ledger.Ledger, who string) (responses [300]string, own int64) {
	var next, fresh atomic.Int64
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(responses)) {
					return
				}
				response, repeated, err := recordAs(l, fmt.Sprint("rr_", i), who)
				if err != nil {
					panic(err)
				}
				responses[i] = response
				if !repeated {
					fresh.Add(1)
				}
			}
		})
	}
	calls.Wait()
	if who == "child" {
		fmt.Println(strings.Join(responses[:], "\n"))
	}
	return responses, fresh.Load()
}

func TestTwoProcessesDecideARequestOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, ledger.Options{})
	cmd, lines := start(t, "record the same", path)
	responses, own := recordTheSame(l, "parent")
	for i, response := range responses {
		if !lines.Scan() || lines.Text() != response {
			t.Fatalf("request %d: one process answered %q, the other %q", i, response, lines.Text())
		}
		if strings.HasSuffix(response, "_by_parent") {
			own--
		}
	}
	must(t, cmd.Wait())
	if own != 0 {
		t.Errorf("%d decisions of the parent were counted as fresh and are not, or the reverse", own)
	}
	if n, err := l.Backlog(t.Context()); n != len(responses) || err != nil {
		t.Errorf("%d events for %d requests (%v)", n, len(responses), err)
	}
}

// fillTheDisk records, with 8 senders, until files may not grow; then lets them grow and goes on.
func fillTheDisk(l *ledger.Ledger, path string) {
	signal.Ignore(syscall.SIGXFSZ)
	log, err := os.Stat(path + "-wal")
	if err != nil {
		panic(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		panic(err)
	}
	setLimit := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: limit.Max}); err != nil {
			panic(err)
		}
	}
	setLimit(uint64(log.Size()) + 300_000)
	var refused atomic.Int64
	for _, phase := range []string{"full", "free"} {
		var calls sync.WaitGroup
		for sender := range 8 {
			calls.Go(func() {
				for i := range 100 {
					id := fmt.Sprintf("rr_%s_%d_%d", phase, sender, i)
					switch response, _, err := recordAs(l, id, "child"); {
					case err == nil:
						fmt.Printf("%s %s\n", id, response)
					case phase == "free":
						panic(err)
					case !ledger.Unavailable(err):
						panic(err)
					default:
						refused.Add(1)
					}
				}
			})
		}
		calls.Wait()
		setLimit(limit.Cur)
	}
	fmt.Println("refused", refused.Load())
}

func TestAFullDiskRefusesAndLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	cmd, lines := start(t, "fill the disk", path)
	answered := map[string]string{}
	for lines.Scan() {
		id, response, _ := strings.Cut(lines.Text(), " ")
		answered[id] = response
	}
	must(t, cmd.Wait())
	refused := answered["refused"]
	delete(answered, "refused")
	if refused == "" || refused == "0" || len(answered) <= 800 {
		t.Fatalf("%d were answered, %q refused", len(answered), refused)
	}
	l := open(t, path, ledger.Options{})
	intact(t, l)
	for id, response := range answered {
		r := request(id, "c_"+id, "p")
		if stored, found, err := l.Lookup(t.Context(), claim(r)); err != nil || !found || string(stored) != response {
			t.Fatalf("%s: %q %v (%v), want %q", id, stored, found, err, response)
		}
	}
	stored, err := l.Backlog(t.Context())
	must(t, err)
	if sum := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}); stored != len(answered) || sum != int64(stored)*1999 {
		t.Errorf("%d answered, %d in the outbox, %d reserved", len(answered), stored, sum)
	}
}
