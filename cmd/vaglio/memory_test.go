package main

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// The test runs again in a process of its own: the other tests' heap is none of its business, nor its room theirs.
func TestTheCollectorWaitsUntilTheHeapHasItsRoom(t *testing.T) {
	const alone = "VAGLIO_TEST_COLLECTOR_ALONE"
	if os.Getenv(alone) == "" {
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		again.Env = append(os.Environ(), alone+"=1")
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
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
