//go:build unix

package ledger_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"modernc.org/sqlite"

	"vaglio"
	"vaglio/ledger"
)

func init() {
	children["die after a delivery"] = func(l *ledger.Ledger, _ string) { relayAndDie(l, 1) }
	children["die after a mark"] = func(l *ledger.Ledger, _ string) { relayAndDie(l, 2) }
}

// relayAndDie delivers what waits, one more decision at a time, and dies in the middle of a delivery.
func relayAndDie(l *ledger.Ledger, delivery int) {
	n := 0
	err := l.Relay(context.Background(), time.Millisecond, func(_ context.Context, facts []vaglio.Fact) error {
		for _, f := range facts {
			fmt.Println(f.ID)
		}
		if n++; n == delivery {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
		_, _, err := recordAs(l, fmt.Sprint("rr_more_", n), "child")
		return err
	})
	panic(fmt.Sprint("the relay ended: ", err))
}

func TestWhatAKilledRelayDeliveredIsDeliveredAgainOrStays(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		for i := range 3 {
			record(t, l, request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i)))
		}
		dies := func(child string, want ...string) {
			t.Helper()
			cmd, lines := start(t, child, e.dsn)
			var got []string
			for lines.Scan() {
				got = append(got, lines.Text())
			}
			if err := cmd.Wait(); err == nil || !slices.Equal(got, want) {
				t.Errorf("%s: delivered %v, want %v (%v)", child, got, want, err)
			}
		}
		waits := func(want int) {
			t.Helper()
			if n, err := l.Backlog(t.Context()); n != want || err != nil {
				t.Errorf("%d wait, want %d (%v)", n, want, err)
			}
		}
		dies("die after a delivery", "rr_0", "rr_1", "rr_2") // before that is written down
		waits(3)
		dies("die after a mark", "rr_0", "rr_1", "rr_2", "rr_more_1") // the first three are marked, and not yet deleted
		waits(1)
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c"}}, at+1)
		if err != nil || len(facts) != 3 {
			t.Errorf("%d facts are found after their delivery, %v", len(facts), err)
		}
		if batches := deliverAll(t, l); len(batches) != 1 || len(batches[0]) != 1 || batches[0][0].ID != "rr_more_1" {
			t.Errorf("then came %v", batches)
		}
		intact(t, l)
	})
}

func TestTheChainVerifiesAfterEveryKill(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		for round := range 3 {
			cmd, lines := start(t, "record for ever", e.dsn)
			answered := 0
			for lines.Scan() {
				if strings.HasSuffix(lines.Text(), "child") {
					answered++
				}
				if answered == 40*(round+1) {
					must(t, cmd.Process.Signal(syscall.SIGKILL))
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the child was not killed")
			}
			report := intact(t, open(t, e.dsn, ledger.Options{}))
			if report.Rows < int64(40*(round+1)) {
				t.Errorf("round %d: %d rows verified, %d answered", round, report.Rows, answered)
			}
		}
	})
}

// dieVariable tells a child where it is killed: the n-th time that it passes a point, written "n point".
const dieVariable = "VAGLIO_LEDGER_TEST_DIE"

// passed counts the points that this process has passed, in the order in which they came first.
var passed struct {
	sync.Mutex
	points []string
	times  map[string]int
}

// passes ends the process as kill -9 does if this is where it is to die. SQLite's triggers call it inside of transactions.
func passes(point string) {
	passed.Lock()
	defer passed.Unlock()
	if passed.times == nil {
		passed.points, passed.times = nil, map[string]int{}
	}
	if passed.times[point]++; passed.times[point] == 1 {
		passed.points = append(passed.points, point)
	}
	if os.Getenv(dieVariable) == fmt.Sprint(passed.times[point], " ", point) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			panic(err)
		}
		select {}
	}
}

func init() {
	sqlite.MustRegisterScalarFunction("passes", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		passes(args[0].(string))
		return nil, nil
	})
	for _, s := range crashSteps {
		children[s.name] = func(l *ledger.Ledger, _ string) {
			answer, err := s.do(l)
			if err != nil {
				panic(err)
			}
			fmt.Println("answered", answer)
			passes("answer")
		}
	}
}

// crashStep is something that changes the ledger. Killed before its commit it has not happened, and does when asked again;
// killed after it, it has.
type crashStep struct {
	name  string
	do    func(*ledger.Ledger) (answer string, err error)
	parts bool // it takes several transactions; asked again it goes on where it was
	adds  bool // asked again it happens again
}

// crashSteps change the ledger that [crashBase] prepares.
var crashSteps = []crashStep{
	{name: "decide", do: func(l *ledger.Ledger) (string, error) {
		r := request("rr_new", "c", "p_new")
		response, _, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
			defer passes("decide")
			e := approval(r, at, vaglio.Hour)
			e.Taken = vaglio.Taken{DecisionID: e.DecisionID, RequestID: r.ID, Customer: "c", DecidedAt: at, Verdict: vaglio.Approve}
			return e, nil
		})
		return string(response), err
	}},
	{name: "submit", do: executes("rr_approved", ledger.Submitted)},
	{name: "succeed", do: executes("rr_approved", ledger.Succeeded)},
	{name: "fail", do: executes("rr_approved", ledger.Failed)},
	{name: "cancel", do: func(l *ledger.Ledger) (string, error) {
		s, err := l.Cancel(context.Background(), "rr_review", "found it", "customer")
		return string(s.State), err
	}},
	{name: "resolve", do: func(l *ledger.Ledger) (string, error) {
		s, err := l.Resolve(context.Background(), "rr_review", ledger.Resolution{Verdict: vaglio.Approve, By: "anna", ValidUntil: at + vaglio.Hour}, nil)
		return string(s.State), err
	}},
	{name: "expire", do: func(l *ledger.Ledger) (string, error) {
		_, err := l.Expire(context.Background())
		return "", err
	}},
	{name: "move", do: func(l *ledger.Ledger) (string, error) {
		e := vaglio.Event{ID: "evt_paid", Kind: vaglio.KindRefundPaid, OccurredAt: at, Amount: 1999, Currency: "EUR",
			Entities: vaglio.FieldsOf("customer", "c", "payment", "p_approved", "request", "rr_approved")}
		return "", l.Move(context.Background(), []vaglio.Fact{{Event: e, KnownAt: e.KnownAt()}})
	}},
	{name: "deliver", parts: true, do: deliverAndSweep},
	{name: "publish", adds: true, do: func(l *ledger.Ledger) (string, error) {
		_, err := l.ProposePolicy(context.Background(), ledger.PolicyText{Version: "p-2", Name: "p", Source: []byte("name: p")}, "key_a", "because", false)
		return "", err
	}},
	{name: "approve a policy", adds: true, do: func(l *ledger.Ledger) (string, error) {
		_, err := l.ApprovePolicy(context.Background(), 1, "key_b")
		return "", err
	}},
	{name: "make a key", adds: true, do: func(l *ledger.Ledger) (string, error) {
		_, _, err := l.CreateKey(context.Background(), "shop", []string{ledger.ScopeScore}, 0)
		return "", err
	}},
	{name: "add to a list", adds: true, do: func(l *ledger.Ledger) (string, error) {
		return "", l.AddToList(context.Background(), "blocked", []ledger.ListValue{{Value: "a"}, {Value: "b"}}, "key_a")
	}},
	{name: "forget", parts: true, do: func(l *ledger.Ledger) (string, error) {
		_, err := l.Forget(context.Background(), "c", "key_a")
		return "", err
	}},
	{name: "sweep", parts: true, do: func(l *ledger.Ledger) (string, error) {
		_, err := l.Sweep(context.Background(), ledger.Retention{Inputs: time.Second, Decisions: time.Second, Audit: time.Second})
		return "", err
	}},
	{name: "seal", do: func(*ledger.Ledger) (string, error) { return "", nil }}, // what opening does with a ledger of old
}

// deliverAndSweep relays until nothing waits and what was delivered a minute ago has been put away.
func deliverAndSweep(l *ledger.Ledger) (string, error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- l.Relay(ctx, time.Millisecond, func(context.Context, []vaglio.Fact) error {
			passes("deliver")
			return nil
		})
	}()
	for {
		n, err := l.Backlog(ctx)
		facts, recent := l.Recent(ctx, []vaglio.Entity{{Kind: "customer", ID: "c"}}, at)
		if err = errors.Join(err, recent); err != nil || n == 0 && len(facts) == 1 {
			stop()
			return "", errors.Join(err, <-ended)
		}
	}
}

func executes(id, state string) func(*ledger.Ledger) (string, error) {
	return func(l *ledger.Ledger) (string, error) {
		s, err := l.Execute(context.Background(), id, ledger.Execution{State: state, Reference: "ref"})
		if err != nil {
			return "", err
		}
		return string(s.State) + " " + s.Execution.State, nil
	}
}

// crashBase fills a ledger a minute before the steps are taken.
func crashBase(t *testing.T, dsn string) {
	t.Helper()
	l := open(t, dsn, ledger.Options{Now: (at - vaglio.Minute).Time})
	for name, entry := range map[string]func(*vaglio.Request) ledger.Entry{
		"approved": func(r *vaglio.Request) ledger.Entry { return approval(r, at-vaglio.Minute, vaglio.Hour) },
		"expired":  func(r *vaglio.Request) ledger.Entry { return approval(r, at-vaglio.Minute, vaglio.Minute/2) },
		"review":   func(r *vaglio.Request) ledger.Entry { return inReview(r, at-vaglio.Minute) },
	} {
		r := request("rr_"+name, "c", "p_"+name)
		decide(t, l, r, entry(r))
	}
	deliverAll(t, l)
	r := request("rr_waiting", "c", "p_waiting")
	decide(t, l, r, denial(r, at-vaglio.Minute))
	_, err := l.CreateList(t.Context(), "blocked", true, "k")
	must(t, err)
	_, err = l.ProposePolicy(t.Context(), ledger.PolicyText{Version: "p-1", Name: "p", Source: []byte("name: p")}, "key_a", "because", true)
	must(t, err)
	must(t, l.Close())
}

// picture is how many rows each table has, and what they add up to. It leaves out the audit chain of steps in parts, which has
// a block for each of them.
func picture(t *testing.T, e engine, parts bool) string {
	t.Helper()
	tables, err := e.raw.Query(`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
	if strings.HasPrefix(e.dsn, "postgres") {
		tables, err = e.raw.Query(`SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`)
	}
	must(t, err)
	defer tables.Close()
	var names []string
	for tables.Next() {
		var name string
		must(t, tables.Scan(&name))
		if !strings.HasPrefix(name, "sqlite_") && !strings.HasPrefix(name, "goose_") && (!parts || !strings.HasPrefix(name, "audit_")) {
			names = append(names, name)
		}
	}
	must(t, tables.Err())
	var b strings.Builder
	number := func(what, query string) int64 {
		t.Helper()
		var n int64
		must(t, e.raw.QueryRow(query).Scan(&n))
		fmt.Fprintf(&b, "%s: %d\n", what, n)
		return n
	}
	for _, name := range names {
		number(name, `SELECT COUNT(*) FROM `+name)
	}
	number("reserved", `SELECT COALESCE(SUM(approved), 0) FROM open_requests`)
	number("submitted", `SELECT COALESCE(SUM(submitted), 0) FROM open_requests`)
	number("revision of the list", `SELECT COALESCE(SUM(revision), 0) FROM lists`)
	number("turns", `SELECT COALESCE(SUM(turn), 0) FROM policy_publications`)
	waiting := number("waiting", e.waiting())
	if counted := number("counted as waiting", `SELECT SUM(waiting) FROM outbox_topics`); counted != waiting {
		t.Errorf("%d messages wait, %d are counted", waiting, counted)
	}
	return b.String()
}

// dies runs a step in a child that is killed at a point, and returns what it had said by then.
func dies(t *testing.T, s *crashStep, dsn, point string, killed func(pid int)) string {
	t.Helper()
	t.Setenv(dieVariable, point)
	cmd, lines := start(t, s.name, dsn)
	if killed != nil {
		killed(cmd.Process.Pid)
	}
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("%s was not killed at %s: %v", s.name, point, err)
	}
	return strings.Join(said, "\n")
}

func TestKilledAnywhereAStepHasHappenedOrNot(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base.db")
	crashBase(t, base)
	old := filepath.Join(t.TempDir(), "old.db")
	copyFile(t, base, old)
	watch(t, base)
	watch(t, old, `DELETE FROM audit_leaves`, `DELETE FROM audit_blocks`, `DELETE FROM audit_log`, `UPDATE audit_head SET seq = 0, hash = x''`)
	for _, s := range crashSteps {
		t.Run(s.name, func(t *testing.T) {
			from := base
			if s.name == "seal" {
				from = old
			}
			fresh := func() (engine, string) {
				path := filepath.Join(t.TempDir(), "ledger.db")
				copyFile(t, from, path)
				e := engine{path, raw(t, path)}
				return e, picture(t, e, s.parts)
			}
			whole, before := fresh()
			passed.times = nil
			l := open(t, whole.dsn, ledger.Options{})
			want, err := s.do(l)
			must(t, err)
			must(t, l.Close())
			after := picture(t, whole, s.parts)
			points, times := append(slices.Clone(passed.points), "answer"), maps.Clone(passed.times)
			times["answer"] = 1
			if len(points) < 2 || after == before && s.name != "forget" && s.name != "sweep" {
				t.Fatalf("it passes %v and leaves\n%s", points, after)
			}
			for _, point := range points {
				e, _ := fresh()
				said := dies(t, &s, e.dsn, fmt.Sprint(times[point], " ", point), nil)
				answered := point == "answer"
				if answered != strings.HasPrefix(said, "answered "+want) {
					t.Errorf("killed at %s it had said %q", point, said)
				}
				expected := before
				if answered {
					expected = after
				}
				if s.name != "seal" { // opening would seal
					got := picture(t, e, s.parts)
					if !s.parts && got != expected {
						t.Errorf("killed at %s it left\n%s\nwant\n%s", point, got, expected)
					}
				}
				l := open(t, e.dsn, ledger.Options{})
				intact(t, l)
				if !answered || !s.adds {
					if again, err := s.do(l); err != nil || again != want {
						t.Errorf("killed at %s and asked again it answers %q (%v), want %q", point, again, err, want)
					}
				}
				intact(t, l)
				must(t, l.Close())
				if got := picture(t, e, s.parts); got != after {
					t.Errorf("killed at %s and asked again it leaves\n%s\nwant\n%s", point, got, after)
				}
			}
			t.Logf("killed at %v", points)
		})
	}
}

// watch has a SQLite file's tables call passes after each row that is written, from now on.
func watch(t *testing.T, path string, first ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	defer func() { must(t, db.Close()) }()
	for _, text := range first {
		_, err := db.Exec(text)
		must(t, err)
	}
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%'`)
	must(t, err)
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		names = append(names, name)
	}
	must(t, rows.Err())
	for _, name := range names {
		for _, verb := range []string{"insert", "update", "delete"} {
			_, err := db.Exec(fmt.Sprintf(`CREATE TRIGGER watch_%s_%s AFTER %s ON %s BEGIN SELECT passes('%s %s'); END`, verb, name, verb, name, verb, name))
			must(t, err)
		}
	}
}

// copyFile copies a ledger that nobody has open, without what it has in its log: there is nothing.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, 0o600))
}
