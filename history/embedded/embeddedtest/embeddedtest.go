// Package embeddedtest measures benchmarks that run beside an embedded ClickHouse.
package embeddedtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Processors are the time that this process has used, and its running children: ClickHouse, whose time the kernel counts in
// hundredths of a second.
type Processors struct{ own, children time.Duration }

// Used is what was used until now.
func Used() Processors {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // has no reason to fail
	p := Processors{own: time.Duration(u.Utime.Nano() + u.Stime.Nano())}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseInt(ticks, 10, 64)
			p.children += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return p
}

// Report reports what each iteration has used since.
func (p Processors) Report(b *testing.B) {
	now := Used()
	b.ReportMetric(float64((now.own-p.own).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64((now.children-p.children).Microseconds())/float64(b.N), "clickhouse-µs/op")
}
