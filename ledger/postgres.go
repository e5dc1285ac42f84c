package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Connections of one replica to PostgreSQL.
const (
	postgresWriters = 4
	postgresReaders = 16
)

// openPostgres opens a pool of writers and one of readers, which can't write.
func openPostgres(ctx context.Context, dsn string) (write, read *sql.DB, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, nil, err // pgx leaves the password out
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 10*time.Second)
	for name, value := range map[string]string{
		"enable_seqscan":                      "off",                // all that runs often finds by a key; plans made for small tables live on
		"plan_cache_mode":                     "force_generic_plan", // keys again: one plan is as good for all, and planning 64 arms takes milliseconds
		"jit":                                 "off",                // a scan that is needed all the same counts as dear, and compiling it would cost more than it
		"application_name":                    "vaglio",
		"synchronous_commit":                  "on",  // a decision that was answered survives a power cut
		"statement_timeout":                   "30s", // a server that hangs must not hold up every caller for ever
		"idle_in_transaction_session_timeout": "60s", // nor a client of its that does: others wait for its locks
	} {
		if config.RuntimeParams[name] == "" {
			config.RuntimeParams[name] = value
		}
	}
	checked := stdlib.OptionShouldPing(func(_ context.Context, p stdlib.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || spoke(p.Conn.PgConn().Conn())
	})
	write = stdlib.OpenDB(*config, checked)
	write.SetMaxOpenConns(postgresWriters)
	write.SetMaxIdleConns(postgresWriters)
	if err := migratePostgres(ctx, write); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	reader := config.Copy()
	reader.RuntimeParams["default_transaction_read_only"] = "on"
	read = stdlib.OpenDB(*reader, checked)
	read.SetMaxOpenConns(postgresReaders)
	read.SetMaxIdleConns(postgresReaders)
	return write, read, nil
}

// spoke reports whether an idle server has sent something, or has closed the connection: both are reasons to ping before the
// connection is used again. It reads nothing and does not wait, not even for another read: after a slow write pgx leaves one
// under way.
func spoke(conn net.Conn) bool {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN)
	})
	return err != nil || !silent
}

// migrationLock is the key of the advisory lock that one replica at a time migrates under.
var migrationLock = lockKey("vaglio: migrations of the ledger")

func migratePostgres(ctx context.Context, db *sql.DB) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, `SELECT set_config('statement_timeout', '0', false), pg_advisory_lock($1)`, migrationLock); err != nil {
		return fmt.Errorf("wait for other replicas that migrate: %w", err)
	}
	defer func() {
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1), set_config('statement_timeout', '30s', false)`, migrationLock)
		err = errors.Join(err, unlock)
	}()
	return migrate(ctx, db, goose.DialectPostgres, "migrations/postgres")
}

// lockKey is the 64-bit name of an advisory lock. Two texts of one name only wait for each other.
func lockKey(text string) int64 {
	h := fnv.New64a()
	h.Write([]byte(text)) //nolint:errcheck // never fails
	return int64(h.Sum64())
}
