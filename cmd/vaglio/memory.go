package main

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// collectLater sets the collector for a server: it comes when the heap is four times what was alive, not twice, as long as that
// stays below half of what the machine, or its container, has; the rest is ClickHouse's. The usual GOGC and GOMEMLIMIT overrule it.
func collectLater() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	_, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.5),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	return err
}
