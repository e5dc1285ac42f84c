package ledger_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
)

// BenchmarkEngines records with 64 callers on SQLite and on a PostgreSQL that syncs its disk, over one replica and over two, which
// share customers. PostgreSQL's processes run beside it.
func BenchmarkEngines(b *testing.B) {
	server := ledgertest.Start(b)
	for _, engine := range []struct {
		name     string
		replicas int
		dsn      func() string
	}{
		{"SQLite", 1, func() string { return filepath.Join(b.TempDir(), "ledger.db") }},
		{"PostgreSQL", 1, func() string { return server.Database(b) }},
		{"PostgreSQL", 2, func() string { return server.Database(b) }},
	} {
		dsn := engine.dsn()
		var replicas []*ledger.Ledger
		for range engine.replicas {
			l, err := ledger.Open(b.Context(), dsn, ledger.Options{MaxOutbox: 100_000_000})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { l.Close() })
			replicas = append(replicas, l)
		}
		b.Run(fmt.Sprintf("%s/replicas=%d", engine.name, engine.replicas), func(b *testing.B) {
			var n, caller atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				l := replicas[int(caller.Add(1))%len(replicas)]
				for pb.Next() {
					benchRecord(b, l, int64(b.N)<<40+n.Add(1))
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}
