package ledger_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vaglio/ledger"
)

func TestOpeningAgainMigratesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	must(t, open(t, path, ledger.Options{}).Close())
	before := schema(t, path)
	must(t, open(t, path, ledger.Options{}).Close())
	if after := schema(t, path); after != before || !strings.Contains(before, "CREATE TABLE decisions") {
		t.Errorf("the schema was\n%s\nand is\n%s", before, after)
	}
}

// schema is every table and every applied migration, with its time.
func schema(t *testing.T, path string) (text string) {
	t.Helper()
	db := raw(t, path)
	must(t, db.QueryRow(`SELECT (SELECT group_concat(sql, ';' ORDER BY name) FROM sqlite_schema) || ';' ||
		(SELECT group_concat(version_id || ' ' || tstamp, ';' ORDER BY id) FROM goose_db_version)`).Scan(&text))
	return text
}

func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	must(t, open(t, path, ledger.Options{}).Close())
	_, err := raw(t, path).Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	must(t, err)
	_, err = ledger.Open(t.Context(), path, ledger.Options{})
	if err == nil || !strings.Contains(err.Error(), "version 999") || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func TestManyOpenAFreshLedgerAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	var opens sync.WaitGroup
	for range 8 {
		opens.Go(func() {
			l, err := ledger.Open(context.Background(), path, ledger.Options{})
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
}

func TestTheLedgersFilesArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "led?ger %41#.db") // a name that an address has to escape
	l := open(t, "sqlite:"+path, ledger.Options{})
	record(t, l, request("rr_1", "c_1", "p_1"))
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		file, err := os.Stat(path + suffix)
		must(t, err)
		if file.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file.Name(), file.Mode())
		}
	}
}

func TestALedgerThatCannotBeOpenedSaysWhy(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	must(t, os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o600))
	for dsn, want := range map[string]string{
		"":                            "want the path of a file",
		"sqlite:":                     "want the path of a file",
		"sqlite::memory:":             "want the path of a file",
		"oracle://host/db":            `unknown kind of ledger "oracle"`,
		text:                          "file is not a database",
		filepath.Join(dir, "no/l.db"): "no such file or directory",
		dir:                           "unable to open database file",
	} {
		if l, err := ledger.Open(t.Context(), dsn, ledger.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q (%v)", dsn, err, want, l)
		}
	}
}

// TestTheLogStaysBounded records, without a pause, three times what SQLite's log may hold.
func TestTheLogStaysBounded(t *testing.T) {
	const most, answer = 64 << 20, 256 << 10
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, ledger.Options{})
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := range 3 * most / answer / 8 {
				r := request(fmt.Sprintf("rr_%d_%d", c, i), fmt.Sprint("c_", c), fmt.Sprint("p_", i))
				_, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
					e := denial(r, at)
					e.Response = bytes.Repeat([]byte("x"), answer)
					return e, nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	log, err := os.Stat(path + "-wal")
	if err != nil || log.Size() > 2*most {
		t.Errorf("the log has %d bytes: %v", log.Size(), err)
	}
	must(t, l.Close())
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end the log is still there: %v", err)
	}
}
