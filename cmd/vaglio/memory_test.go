package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestTheCollectorWaitsUntilTheHeapHasItsRoom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	const room = 256 << 20
	keepRoom(room)
	held := make([]byte, 16<<20) // what is alive changes, its room does not
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		metrics.Read(goal)
		if got := goal[0].Value.Uint64(); got > room*9/10 && got < room*11/10 {
			break
		} else if time.Since(began) > 10*time.Second {
			t.Fatalf("the collector comes at %d bytes", got)
		}
	}
	runtime.KeepAlive(held)
}
