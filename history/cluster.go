package history

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// clusterSettings are those of connections to a cluster: an insert is over when its shard and most of its replicas have it;
// a query goes to the shards that can answer and, whenever it can, to the same replicas as the one before; a set that
// is made of a sharded table is made on each shard, which has all there is of its own entities.
var clusterSettings = clickhouse.Settings{"distributed_foreground_insert": 1, "insert_quorum": "auto", "optimize_skip_unused_shards": 1,
	"load_balancing": "in_order", "distributed_product_mode": "local"}

// clusterDDL writes the migrations for a cluster. They say of each table, in a comment line within the statement, where its
// rows are:
//
//	-- cluster: by COLUMN    spread over the shards by that column: a replicated table TABLE_shard on all servers, and a
//	                         distributed TABLE before it, which is what queries name
//	-- cluster: everywhere   whole on every server
//	-- cluster: of TABLE     a materialised view from the shards of TABLE to the shards of its target
//
// Servers need the macros {shard} and {replica}, as replication always does.
type clusterDDL struct{ cluster, database string }

var (
	statements  = regexp.MustCompile(`(?s)-- \+goose StatementBegin\n(.*?)\n-- \+goose StatementEnd`)
	placement   = regexp.MustCompile(`(?m)^-- cluster: (by|of|everywhere)(?: (\w+))?\n`)
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+) \(`)
	createView  = regexp.MustCompile(`(?m)^CREATE MATERIALIZED VIEW (\w+) TO (\w+) AS$`)
	engine      = regexp.MustCompile(`ENGINE = (\w*MergeTree)(?:\(([^)]*)\))?`)
)

var clusterName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func isClusterName(s string) bool { return clusterName.MatchString(s) }

// migrations are the files for the cluster. A statement that does not say where its rows are is an error.
func (c clusterDDL) migrations(plain fs.FS) (fs.FS, error) {
	texts := map[string]string{}
	names, err := fs.Glob(plain, "*.sql")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(plain, name)
		if err != nil {
			return nil, err
		}
		blocks := statements.FindAllSubmatch(text, -1)
		if len(blocks) == 0 {
			return nil, fmt.Errorf("migration %s: no statement", name)
		}
		var out strings.Builder
		out.WriteString("-- +goose Up\n")
		for _, block := range blocks {
			all, err := c.statements(string(block[1]))
			if err != nil {
				return nil, fmt.Errorf("migration %s: %w", name, err)
			}
			for _, statement := range all {
				fmt.Fprintf(&out, "-- +goose StatementBegin\n%s\n-- +goose StatementEnd\n", statement)
			}
		}
		texts[name] = out.String()
	}
	return filesOf(texts)
}

// statements are what one statement becomes. None fails when it ran before: a migration that was cut off runs again.
func (c clusterDDL) statements(plain string) ([]string, error) {
	place := placement.FindStringSubmatch(plain)
	if place == nil {
		return nil, fmt.Errorf("a statement does not say where on a cluster its rows are: %s", plain)
	}
	plain = strings.Replace(plain, place[0], "", 1)
	table, view := createTable.FindStringSubmatch(plain), createView.FindStringSubmatch(plain)
	switch {
	case place[1] == "of" && view != nil:
		sharded := strings.Replace(plain, view[0], fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s.%s ON CLUSTER '%s' TO %s.%s_shard AS",
			c.database, view[1], c.cluster, c.database, view[2]), 1)
		from := regexp.MustCompile(`\bFROM ` + place[2] + `\b`)
		if len(from.FindAllString(sharded, -1)) != 1 {
			return nil, fmt.Errorf("the view %s does not read %s once", view[1], place[2])
		}
		return []string{from.ReplaceAllString(sharded, fmt.Sprintf("FROM %s.%s_shard", c.database, place[2]))}, nil
	case place[1] == "everywhere" && table != nil:
		return []string{c.replicated(plain, table, table[1], "'/clickhouse/tables/{database}/{table}', '{shard}_{replica}'")}, nil
	case place[1] == "by" && table != nil:
		shard := table[1] + "_shard"
		return []string{
			c.replicated(plain, table, shard, "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"),
			fmt.Sprintf("CREATE TABLE IF NOT EXISTS %[1]s.%[2]s ON CLUSTER '%[3]s' AS %[1]s.%[4]s ENGINE = Distributed('%[3]s', '%[1]s', '%[4]s', cityHash64(%[5]s));",
				c.database, table[1], c.cluster, shard, place[2]),
		}, nil
	default:
		return nil, fmt.Errorf("a statement does not fit its comment on clusters: %s", plain)
	}
}

// replicated makes a table's statement that of a replicated table on all servers.
func (c clusterDDL) replicated(plain string, table []string, name, path string) string {
	plain = strings.Replace(plain, table[0], fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s.%s ON CLUSTER '%s' (", c.database, name, c.cluster), 1)
	return engine.ReplaceAllStringFunc(plain, func(plain string) string {
		parts := engine.FindStringSubmatch(plain)
		if parts[2] != "" {
			path += ", " + parts[2]
		}
		return fmt.Sprintf("ENGINE = Replicated%s(%s)", parts[1], path)
	})
}

// first is what stands before the migrations: the database, and goose's own table, which would else be on one server only.
func (c clusterDDL) first() []string {
	versions := c.database + ".goose_db_version"
	return []string{
		fmt.Sprintf("CREATE DATABASE IF NOT EXISTS %s ON CLUSTER '%s'", c.database, c.cluster),
		c.replicated("CREATE TABLE goose_db_version (version_id Int64, is_applied UInt8, date Date DEFAULT now(), tstamp DateTime DEFAULT now()) "+
			"ENGINE = MergeTree ORDER BY version_id", []string{"CREATE TABLE goose_db_version (", "goose_db_version"}, "goose_db_version",
			"'/clickhouse/tables/{database}/{table}', '{shard}_{replica}'"),
		fmt.Sprintf("INSERT INTO %[1]s (version_id, is_applied) SELECT 0, 1 WHERE NOT EXISTS (SELECT 1 FROM %[1]s)", versions),
	}
}
