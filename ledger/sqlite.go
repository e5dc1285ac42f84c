package ledger

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations
var migrations embed.FS

// openSQLite opens a pool of exactly one writing connection and one of readers over the same file.
func openSQLite(ctx context.Context, path string) (write, read *sql.DB, err error) {
	if path == "" || path == ":memory:" {
		return nil, nil, errors.New("want the path of a file")
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	// One process at a time prepares the file: goose takes no lock of its own on SQLite.
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, nil, fmt.Errorf("lock %s.lock: %w", path, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := createPrivate(path); err != nil {
		return nil, nil, err
	}
	write, err = sql.Open("sqlite", address(path,
		"journal_mode(WAL)",
		"synchronous(FULL)", // sync the log at every commit: a decision that was answered survives a power cut
		"foreign_keys(ON)",
		"cache_size(-32768)",             // 32 MB: request and decision ids come in no order
		"temp_store(MEMORY)",             // savepoints otherwise write a temporary file: a tenth of a decision's CPU
		"wal_autocheckpoint(32000)",      // 128 MB, if foldLog does not get there before
		"journal_size_limit(134217728)")+ // a log that a slow reader made grow is cut back
		"&_txlock=immediate") // what a transaction reads first is not overtaken before it writes
	if err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write, goose.DialectSQLite3, "migrations/sqlite"); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	if read, err = sql.Open("sqlite", address(path, "query_only(ON)")); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return write, read, nil
}

// address is SQLite's URI of a file, with the pragmas that each of its connections starts with.
func address(path string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// createPrivate creates the file, readable for its owner alone, unless it is there. SQLite gives its log the same mode.
// An existing file is not opened: closing it would drop the locks of every connection that this process has to it.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// migrate applies the migrations that the database lacks.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect, folder string) error {
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	current, known, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if current > known {
		return fmt.Errorf("its schema has version %d and this binary knows only up to %d: use a newer vaglio", current, known)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the schema from version %d to %d: %w", current, known, err)
	}
	return nil
}
