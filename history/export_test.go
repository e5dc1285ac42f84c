package history

import (
	"context"
	"io/fs"
	"testing"

	"vaglio"
)

// TimelinesPlan is ClickHouse's plan of the query behind [Store.Timelines], line by line.
func (s *Store) TimelinesPlan(ctx context.Context, entities []vaglio.Entity, asOf vaglio.Instant) ([]string, error) {
	rows, err := s.conn.Query(ctx, "EXPLAIN indexes = 1 "+timelinesSQL, maxRows, entityNames(entities), int64(asOf))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		plan = append(plan, line)
	}
	return plan, rows.Err()
}

// ClusterStatements are all statements that make a history on a cluster, in order.
func ClusterStatements(cluster, database string) ([]string, error) {
	c := clusterDDL{cluster, database}
	all := c.first()
	plain, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	files, err := c.migrations(plain)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.sql")
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		for _, block := range statements.FindAllSubmatch(text, -1) {
			all = append(all, string(block[1]))
		}
	}
	return all, err
}

// ClusterSettings are those of connections to a cluster.
var ClusterSettings = clusterSettings

// CountRows counts the rows of a table, merged or not, that have a text anywhere.
func (s *Store) CountRows(t testing.TB, table, text string) (n uint64) {
	t.Helper()
	if err := s.conn.QueryRow(t.Context(), "SELECT count() FROM "+table+" WHERE position(toString(tuple(*)), ?) > 0", text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Poll is one poll of those that [Tail.Follow] makes.
func (t *Tail) Poll(ctx context.Context) ([]vaglio.Fact, error) { return t.poll(ctx) }
