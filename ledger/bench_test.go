package ledger_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

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

func benchRecord(b *testing.B, l *ledger.Ledger, n int64) {
	r := request("rr_"+hashed(n), "c_"+hashed(n%100_000), "p_"+hashed(n))
	_, _, err := l.Record(b.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
		e := approval(r, at, 10*vaglio.Minute)
		e.Response, e.Inputs = benchResponse, benchInputs
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

// BenchmarkRelayedRecordParallel is the same with history keeping up beside it.
func BenchmarkRelayedRecordParallel(b *testing.B) {
	l := benchLedger(b)
	ctx, stop := context.WithCancel(b.Context())
	relayed := make(chan error)
	go func() {
		relayed <- l.Relay(ctx, 0, func(context.Context, []vaglio.Fact) error { return nil })
	}()
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			benchRecord(b, l, n.Add(1))
		}
	})
	b.StopTimer()
	stop()
	if err := <-relayed; err != nil {
		b.Fatal(err)
	}
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
