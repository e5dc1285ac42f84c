package lists_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring/lists"
)

// at is the moment at which the tests begin.
var at = vaglio.InstantOf(time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC))

type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return vaglio.Instant(c.Load()).Time() }

func open(t testing.TB) (*ledger.Ledger, *clock) {
	t.Helper()
	var c clock
	c.Store(int64(at))
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Now: c.now})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l, &c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAListTellsWhatWasOnItWhen(t *testing.T) {
	l, c := open(t)
	for _, hashed := range []bool{false, true} {
		c.Store(int64(at))
		name := fmt.Sprintf("hashed_%t", hashed)
		var m lists.Mirror
		if m.Contains(name, "a", at) || m.Has(name) {
			t.Error("an empty picture holds something")
		}
		_, err := l.CreateList(t.Context(), name, hashed, "k")
		must(t, err)
		must(t, l.AddToList(t.Context(), name, []ledger.ListValue{{Value: "a"}, {Value: "b", ExpiresAt: at + 5}}, "k"))
		must(t, m.Refresh(t.Context(), l))
		on := func(value string, moment vaglio.Instant, want bool) {
			t.Helper()
			if got := m.Contains(name, value, moment); got != want {
				t.Errorf("%s at +%d on %s: %t", value, moment-at, name, got)
			}
		}
		on("a", at-1, false)
		on("a", at, true)
		on("b", at+4, true)
		on("b", at+5, false)
		on("c", at, false)
		on("", at, false)

		c.Store(int64(at) + 10)
		_, err = l.RemoveFromList(t.Context(), name, []string{"a"}, "k")
		must(t, err)
		on("a", at+10, true) // not yet taken up
		must(t, m.Refresh(t.Context(), l))
		on("a", at+9, true)
		on("a", at+10, false)

		c.Store(int64(at) + 20)
		must(t, l.AddToList(t.Context(), name, []ledger.ListValue{{Value: "a"}}, "k"))
		must(t, m.Refresh(t.Context(), l))
		on("a", at+9, true)
		on("a", at+15, false)
		on("a", at+20, true)
		if m.Contains("another", "a", at+20) || !m.Has(name) {
			t.Error("lists are mixed up")
		}
	}
}

func TestWhatIsReadWhileAListGrowsIsWhole(t *testing.T) {
	l, _ := open(t)
	_, err := l.CreateList(t.Context(), "growing", false, "k")
	must(t, err)
	const batches, size = 8, 1500 // passes the limit at which changes are folded
	var m lists.Mirror
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for seen := -1; ; {
				select {
				case <-stop:
					return
				default:
				}
				for b := range batches {
					on := m.Contains("growing", fmt.Sprintf("v%d_0", b), at)
					if !on && b <= seen {
						t.Errorf("batch %d is gone", b)
						return
					}
					if on {
						seen = max(seen, b)
					}
				}
			}
		})
	}
	for b := range batches {
		values := make([]ledger.ListValue, size)
		for i := range values {
			values[i].Value = fmt.Sprintf("v%d_%d", b, i)
		}
		must(t, l.AddToList(t.Context(), "growing", values, "k"))
		must(t, m.Refresh(t.Context(), l))
	}
	close(stop)
	readers.Wait()
	var fresh lists.Mirror
	must(t, fresh.Refresh(t.Context(), l))
	for b := range batches {
		for i := range size {
			if v := fmt.Sprintf("v%d_%d", b, i); !m.Contains("growing", v, at) || !fresh.Contains("growing", v, at) {
				t.Fatalf("%s is missing", v)
			}
		}
	}
	if m.Revisions() != "growing:8" || fresh.Revisions() != "growing:8" {
		t.Errorf("revisions %q and %q", m.Revisions(), fresh.Revisions())
	}
}

func BenchmarkContainsAmongAMillion(b *testing.B) {
	l, _ := open(b)
	_, err := l.CreateList(b.Context(), "million", true, "k")
	must(b, err)
	values := make([]ledger.ListValue, ledger.MaxListChange)
	for n := 0; n < 1_000_000; n += len(values) {
		for i := range values {
			values[i].Value = fmt.Sprint("instrument_", n+i)
		}
		must(b, l.AddToList(b.Context(), "million", values, "k"))
	}
	var m lists.Mirror
	began := time.Now()
	must(b, m.Refresh(b.Context(), l))
	load := time.Since(began)
	asked := make([]string, 1024)
	for i := range asked {
		asked[i] = fmt.Sprint("instrument_", i*1_999)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m.Contains("million", asked[n&1023], at)
		n++
	}
	b.ReportMetric(load.Seconds(), "s/load")
}
