package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/ledger"
)

// A decision with three explained reasons takes about 3.5 KB, its inputs about 1 KB.
var (
	benchResponse = []byte(`{"reasons":"` + strings.Repeat("0123456789abcdef", 220) + `"}`)
	benchInputs   = []byte(`{"vector":"` + strings.Repeat("0123456789abcdef", 64) + `"}`)
)

func benchLedger(b *testing.B) *ledger.Ledger {
	l, err := ledger.Open(b.Context(), filepath.Join(b.TempDir(), "ledger.db"), ledger.Options{MaxOutbox: 100_000_000})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// benchRecord approves a request, or answers the one that has the number already.
func benchRecord(b *testing.B, l *ledger.Ledger, n int64) {
	r := request("rr_"+hashed(n), "c_"+hashed(n%100_000), "p_"+hashed(n))
	_, _, err := l.Record(b.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
		e := approval(r, at, 10*vaglio.Minute)
		e.DecisionID = "dec_" + ulid.Make().String() // grows with time, as those of real decisions
		e.Response, e.Inputs = benchResponse, benchInputs
		e.Taken = vaglio.Taken{DecisionID: e.DecisionID, RequestID: r.ID, Customer: e.Customer, Payment: "p_" + hashed(n), DecidedAt: at,
			Verdict: e.Verdict, Amount: r.Amount, Currency: r.Currency, BaseAmount: r.Amount, BaseKnown: true, ApprovedAmount: r.Amount,
			Probability: 0.0625, LogOdds: -2.7, RiskScore: 12.5, ModelVersion: "refund-20261122", PolicyVersion: "default-1", Stage: "champion",
			Propensity: 1, LatencyMS: 3.5}
		return e, nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRecord(b *testing.B) {
	l := benchLedger(b)
	for n := int64(0); b.Loop(); n++ {
		benchRecord(b, l, n)
	}
}

// BenchmarkRecordParallel has 64 callers on 2 processors.
func BenchmarkRecordParallel(b *testing.B) {
	l := benchLedger(b)
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			benchRecord(b, l, n.Add(1))
		}
	})
}

var (
	grown     = flag.Int64("grown", 100_000, "decisions stored before BenchmarkGrown measures, besides 1,000")
	grownFile = flag.String("grown-file", "", "where BenchmarkGrown keeps the ledger with those, for another time; it is filled if it is not there")
)

// BenchmarkGrown records and looks up beside many stored decisions, with all that grows with them: their four indexes, the
// leaves of the audit chain, the money of their executions. Their texts are short, which nothing that is measured reads.
func BenchmarkGrown(b *testing.B) {
	for _, n := range []int64{1000, *grown} {
		path := filepath.Join(b.TempDir(), "ledger.db")
		if n == *grown && *grownFile != "" {
			path = *grownFile
		}
		_, missing := os.Stat(path)
		l, err := ledger.Open(b.Context(), path, ledger.Options{MaxOutbox: 100_000_000})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { l.Close() })
		if missing != nil {
			fill(b, path, n)
		}
		stored := claim(request("rr_stored", "c", "p"))
		b.Run(fmt.Sprint("record/", n), func(b *testing.B) {
			var next atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					benchRecord(b, l, int64(b.N)<<40+next.Add(1))
				}
			})
		})
		b.Run(fmt.Sprint("lookup/", n), func(b *testing.B) {
			for i := int64(0); b.Loop(); i++ {
				stored.RequestID = fmt.Sprintf("rr_%08x%08x", uint32((i%n+1)*2654435761), i%n+1)
				if _, _, err := l.Lookup(b.Context(), stored); !errors.Is(err, ledger.ErrConflict) {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill stores decisions behind the ledger's back, their ids spread as random ones are.
func fill(b *testing.B, path string, n int64) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	spread := `lower(hex(randomblob(8)))`
	for from := int64(0); from < n; from += 50_000 {
		ids := fmt.Sprintf(`WITH RECURSIVE i(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM i WHERE i < %d)`, from+1, min(n, from+50_000))
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		for _, text := range []string{
			ids + ` INSERT INTO decisions (request_id, decision_id, digest, request, response, inputs, customer_id, payment_id, currency, reserved,
				valid_until, decided_at, verdict, amount, base_amount) SELECT printf('rr_%08x%08x', (i * 2654435761) & 4294967295, i), printf('dec_0%025d', i), x'00', x'7b7d', x'7b7d', NULL,
				'c_' || ` + spread + `, 'p_' || ` + spread + `, 'EUR', 1999, 0, i, 'approve', 1999, 1999 FROM i`,
			ids + ` INSERT INTO audit_leaves (block, n, kind, id, state, content, salt) SELECT CAST(printf('%016d', i / 64) AS BLOB), i % 64, 'decision', printf('dec_0%025d', i), 0,
				randomblob(32), randomblob(16) FROM i`,
			ids + ` INSERT INTO movements (payment_id, event_id, kind, request_id, customer_id, amount, currency, occurred_at, known_at, told_at, own)
				SELECT 'p_' || ` + spread + `, printf('rr_%016x:paid', i), 'refund_paid', 'rr_' || i, 'c', 1999, 'EUR', i, i, i, 1 FROM i`} {
			if _, err := tx.Exec(text); err != nil {
				b.Fatal(text, err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRelayedRecordParallel is the same with history and analytics keeping up beside it, as in the service.
func BenchmarkRelayedRecordParallel(b *testing.B) {
	l := benchLedger(b)
	ctx, stop := context.WithCancel(b.Context())
	relayed := make(chan error)
	go func() {
		relayed <- l.Relay(ctx, time.Second, func(context.Context, []vaglio.Fact) error { return nil })
	}()
	go func() {
		relayed <- l.RelayDecisions(ctx, time.Second, func(context.Context, []vaglio.Taken) error { return nil })
	}()
	var n atomic.Int64
	b.SetParallelism(32)
	before := processorTime()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			benchRecord(b, l, n.Add(1))
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	stop()
	for range 2 {
		if err := <-relayed; err != nil {
			b.Fatal(err)
		}
	}
}

// processorTime is what this process has used of the processors.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func BenchmarkLookup(b *testing.B) {
	l := benchLedger(b)
	benchRecord(b, l, 1)
	c := claim(request("rr_"+hashed(1), "c_"+hashed(1), "p_"+hashed(1)))
	for b.Loop() {
		if _, found, err := l.Lookup(b.Context(), c); err != nil || !found {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkRecent asks for five timelines while 10,000 events wait.
func BenchmarkRecent(b *testing.B) {
	l := benchLedger(b)
	for n := range int64(10_000) {
		benchRecord(b, l, n)
	}
	entities := request("rr", "c_"+hashed(1), "p_"+hashed(1)).Event(at)
	for b.Loop() {
		if found, err := l.Recent(b.Context(), entities.Timelines(), at+vaglio.Second); err != nil || len(found) == 0 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	l := benchLedger(b)
	_, secret, err := l.CreateKey(b.Context(), "pipeline", []string{ledger.ScopeScore}, 0)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.Authenticate(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}
