package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// collectLater sets the collector for a server: it comes when the heap is four times what was alive, and not before it takes an
// eighth of what the machine, or its container, has; but it stays below half of that, the rest is ClickHouse's. The usual GOGC and
// GOMEMLIMIT overrule it.
func collectLater() error {
	_, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.5),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if os.Getenv("GOGC") != "" {
		return err
	}
	room := int64(0)
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		room = limit / 4
	}
	keepRoom(room)
	return err
}

// keepRoom lets the heap grow to at least so many bytes before it is collected: each collection walks all that is alive, however
// little garbage there is.
func keepRoom(bytes int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	live := int64(samples[0].Value.Uint64())
	scanned := max(1<<20, live+int64(samples[1].Value.Uint64()+samples[2].Value.Uint64())) // the percentage is of these (runtime/mgcpacer.go)
	debug.SetGCPercent(int(max(300, 100*(bytes-live)/scanned)))
	next := new([64]byte) // lives until the next collection
	runtime.AddCleanup(next, keepRoom, bytes)
}
