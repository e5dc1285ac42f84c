//go:build unix

package ledger_test

import (
	"syscall"
	"testing"
	"time"

	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
)

// TestKilledBeforeItsCommitAStepHasNotHappenedOnPostgreSQL kills each step while one of its last statements waits for the test.
func TestKilledBeforeItsCommitAStepHasNotHappenedOnPostgreSQL(t *testing.T) {
	dsn := ledgertest.Postgres(t)
	crashBase(t, dsn)
	e := engine{dsn, administer(t, dsn)}
	const gate = 4242
	e.exec(t, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(4242); RETURN NULL; END'`)
	holder, err := e.raw.Conn(t.Context())
	must(t, err)
	defer holder.Close()
	held := func(query string) {
		t.Helper()
		_, err := holder.ExecContext(t.Context(), query, gate)
		must(t, err)
	}
	until := func(what, query string) {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
			var there bool
			must(t, e.raw.QueryRow(query).Scan(&there))
			if there {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	for _, s := range crashSteps {
		table, verb := "audit_blocks", "INSERT"
		switch s.name {
		case "fail", "cancel", "move":
			continue // another step has ended their request
		case "make a key", "seal":
			continue // the first is one statement, which the server ends without its client; the other is over when the ledger is open
		case "deliver":
			table, verb = "outbox_topics", "UPDATE"
		}
		before := picture(t, e, s.parts)
		e.exec(t, `CREATE TRIGGER wait AFTER `+verb+` ON `+table+` FOR EACH STATEMENT EXECUTE FUNCTION wait()`)
		held(`SELECT pg_advisory_lock($1)`)
		said := dies(t, &s, dsn, "", func(pid int) {
			until(s.name+" to wait", `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted)`)
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		})
		held(`SELECT pg_advisory_unlock($1)`)
		until("the server to notice", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'vaglio' AND datname = current_database())`)
		e.exec(t, `DROP TRIGGER wait ON `+table)
		if got := picture(t, e, s.parts); said != "" || got != before && !s.parts {
			t.Errorf("%s was killed, said %q and left\n%s\nwant\n%s", s.name, said, got, before)
		}
		l := open(t, dsn, ledger.Options{})
		if s.name == "deliver" { // the linger of PostgreSQL is longer than what this step waits for
			deliverAll(t, l)
		} else if _, err := s.do(l); err != nil {
			t.Errorf("%s asked again: %v", s.name, err)
		}
		intact(t, l)
		if got := picture(t, e, false); got == before {
			t.Errorf("%s asked again did nothing", s.name)
		}
		must(t, l.Close())
	}
}
