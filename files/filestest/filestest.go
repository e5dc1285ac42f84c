// Package filestest lets tests run out of disk.
package filestest

import (
	"os/signal"
	"syscall"
	"testing"
)

// Limit lets no file of this process and of those that it starts grow beyond so many bytes, until the returned function, which is also
// called at the end of the test, takes the limit away. A write beyond it fails with EFBIG. Not for tests that run in parallel.
func Limit(t testing.TB, bytes uint64) (usual func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	usual = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(usual)
	return usual
}
