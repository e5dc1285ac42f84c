package history

import (
	"archive/zip"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate creates the database and brings its tables up to date, on all servers of the cluster if one is named.
func migrate(ctx context.Context, options *clickhouse.Options, cluster string) (err error) {
	root := *options
	root.Auth.Database = "default"
	db := clickhouse.OpenDB(&root)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	first := []string{"CREATE DATABASE IF NOT EXISTS " + options.Auth.Database}
	if cluster != "" {
		c := clusterDDL{cluster, options.Auth.Database}
		first = c.first()
		if files, err = c.migrations(files); err != nil {
			return err
		}
	}
	for _, statement := range first {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create the database %s: %w", options.Auth.Database, err)
		}
	}
	own := *options
	target := clickhouse.OpenDB(&own)
	defer func() { err = errors.Join(err, target.Close()) }()
	provider, err := goose.NewProvider(database.DialectClickHouse, target, files)
	if err != nil {
		return fmt.Errorf("prepare the migrations of history: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate history: %w", err)
	}
	return nil
}

// filesOf is a file system of some texts by name.
func filesOf(texts map[string]string) (fs.FS, error) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	for name, text := range texts {
		file, err := w.Create(name)
		if err != nil {
			return nil, err
		}
		if _, err := file.Write([]byte(text)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
}
