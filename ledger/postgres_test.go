package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vaglio"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
)

// administer opens a ledger's database behind its back.
func administer(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestReplicasMigrateAFreshPostgreSQLAtOnce(t *testing.T) {
	dsn := ledgertest.Postgres(t)
	var opens sync.WaitGroup
	for range 6 {
		opens.Go(func() {
			l, err := ledger.Open(context.Background(), dsn, ledger.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	opens.Wait()
	var twice int
	must(t, administer(t, dsn).QueryRow(`SELECT COUNT(*) - COUNT(DISTINCT version_id) FROM goose_db_version`).Scan(&twice))
	if twice != 0 {
		t.Errorf("%d migrations were applied twice", twice)
	}
}

func TestAPostgreSQLThatCannotBeOpenedSaysWhyWithoutThePassword(t *testing.T) {
	good := ledgertest.Postgres(t)
	for dsn, want := range map[string]string{
		strings.Replace(good, "postgres@/test", "postgres:sesame@/none", 1): "does not exist",
		"postgres://u:sesame@127.0.0.1:1/db?connect_timeout=2":              "refused",
		"postgres://u:sesame@127.0.0.1:port/db":                             "port",
		"postgresql://u:sesame@/db?sslmode=perhaps":                         "sslmode",
	} {
		_, err := ledger.Open(t.Context(), dsn, ledger.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: %v, want %q", dsn, err, want)
		}
	}
}

// TestABatchThatADeadlockEndedIsDecidedOneByOne makes the database end the first transaction that opens a request, as it does
// with the victim of a deadlock.
func TestABatchThatADeadlockEndedIsDecidedOneByOne(t *testing.T) {
	dsn := ledgertest.Postgres(t)
	l := open(t, dsn, ledger.Options{})
	_, err := administer(t, dsn).Exec(`CREATE SEQUENCE victims;
		CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('victims') <= 2 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER deadlock BEFORE INSERT ON open_requests FOR EACH ROW EXECUTE FUNCTION deadlock()`)
	must(t, err)
	var decided atomic.Int64
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			r := request(fmt.Sprint("rr_", i), "c", "p")
			_, repeated, err := l.Record(context.Background(), claim(r), subject(r), func(s ledger.Standing) (ledger.Entry, error) {
				decided.Add(1)
				e := approval(r, at, vaglio.Minute)
				e.Response = fmt.Append(nil, len(s.Reserved))
				return e, nil
			})
			if repeated || err != nil {
				t.Error(repeated, err)
			}
		})
	}
	calls.Wait()
	if decided.Load() <= 20 {
		t.Errorf("decided %d times", decided.Load())
	}
	seen := map[string]bool{}
	for i := range 20 {
		r := request(fmt.Sprint("rr_", i), "c", "p")
		response, found, err := l.Lookup(t.Context(), claim(r))
		if !found || err != nil || seen[string(response)] {
			t.Errorf("%s: %q %v: each decision must have seen another number of reservations", r.ID, response, err)
		}
		seen[string(response)] = true
	}
	if got := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}); got != 20*1999 {
		t.Errorf("%d is reserved", got)
	}
}

// TestAPostgreSQLThatDiesUnderLoadLosesNothing kills the server while two replicas record, and starts it again.
func TestAPostgreSQLThatDiesUnderLoadLosesNothing(t *testing.T) {
	const captured = 200_000
	server := ledgertest.Start(t)
	dsn := server.Database(t)
	replicas := []*ledger.Ledger{open(t, dsn, ledger.Options{}), open(t, dsn, ledger.Options{})}
	var answered sync.Map // id → response
	var errs, recorded atomic.Int64
	var calls sync.WaitGroup
	enough, killed, failed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	for sender := range 8 {
		calls.Go(func() {
			for i := range 60 {
				if i == 59 { // however quick they are: the server dies before they are done
					<-killed
				}
				r := request(fmt.Sprintf("rr_%d_%d", sender, i), "c_"+fmt.Sprint(sender), fmt.Sprint("p_", i%3))
				for { // until there is an answer, which may be that of an attempt whose outcome was unknown
					var approved bool
					response, _, err := replicas[(sender+i)%2].Record(context.Background(), claim(r), subject(r), bounded(r, captured, &approved))
					if err == nil {
						answered.Store(r.ID, string(response))
						if recorded.Add(1) == 100 {
							close(enough)
						}
						break
					}
					if errors.Is(err, ledger.ErrConflict) {
						t.Error(err)
						break
					}
					if errs.Add(1) == 1 {
						close(failed)
					}
				}
			}
		})
	}
	<-enough
	must(t, server.Kill())
	close(killed)
	<-failed
	must(t, server.Restart())
	calls.Wait()
	var approved int64
	for sender := range 8 {
		for i := range 60 {
			r := request(fmt.Sprintf("rr_%d_%d", sender, i), "c_"+fmt.Sprint(sender), fmt.Sprint("p_", i%3))
			want, _ := answered.Load(r.ID)
			response, found, err := replicas[0].Lookup(t.Context(), claim(r))
			if err != nil || !found || string(response) != want {
				t.Errorf("%s: %q %v (%v), want %q", r.ID, response, found, err, want)
			}
			if strings.Contains(string(response), "approve") {
				approved += r.Amount
			}
		}
	}
	var held int64
	for i := range 3 {
		minor := reserved(t, replicas[1], ledger.Subject{Payment: fmt.Sprint("p_", i), Currency: "EUR"})
		if held += minor; minor > captured || minor <= captured-1999 {
			t.Errorf("%d of %d are reserved of payment %d", minor, int64(captured), i)
		}
	}
	if n, err := replicas[0].Backlog(t.Context()); held != approved || n != 480 || err != nil {
		t.Errorf("%d approved, %d reserved, %d events (%v)", approved, held, n, err)
	}
}

// TestConnectionsThatDiedWhileIdleAreNotUsed restarts the server behind both pools.
func TestConnectionsThatDiedWhileIdleAreNotUsed(t *testing.T) {
	server := ledgertest.Start(t)
	l := open(t, server.Database(t), ledger.Options{})
	r := request("rr_1", "c", "p")
	recorded := func(id string) {
		r := request(id, "c", "p")
		if _, _, err := l.Record(t.Context(), claim(r), subject(r), bounded(r, 200_000, new(bool))); err != nil {
			t.Error(err)
		}
	}
	recorded(r.ID)
	for turn := range 3 {
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				if _, found, err := l.Lookup(t.Context(), claim(r)); !found || err != nil {
					t.Error(turn, found, err)
				}
			})
		}
		readers.Wait()
		recorded(fmt.Sprint("rr_later_", turn))
		must(t, server.Kill())
		must(t, server.Restart())
	}
}

// TestAConnectionIsAskedWhileItIsRead holds the connection's lock for readers, as the read does that pgx leaves behind after a
// write that took longer than 15 ms.
func TestAConnectionIsAskedWhileItIsRead(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	defer client.Close()
	server, err := listener.Accept()
	must(t, err)
	raw, err := client.(*net.TCPConn).SyscallConn()
	must(t, err)
	reading, asked, read := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		read <- raw.Read(func(uintptr) bool {
			close(reading)
			<-asked
			return true
		})
	}()
	<-reading
	if ledger.Spoke(client) {
		t.Error("a server that has said nothing spoke")
	}
	close(asked)
	must(t, <-read)
	_, err = server.Write([]byte("ab"))
	must(t, err)
	_, err = client.Read(make([]byte, 1))
	must(t, err)
	if !ledger.Spoke(client) {
		t.Error("what a server has said was not noticed")
	}
	must(t, server.Close())
	if text, err := io.ReadAll(client); err != nil || !ledger.Spoke(client) {
		t.Errorf("that a server has hung up was not noticed after %q, %v", text, err)
	}
}
