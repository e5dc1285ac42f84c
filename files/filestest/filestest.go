// Package filestest lets tests run out of disk.
package filestest

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

const alone = "VAGLIO_TEST_ALONE"

// Alone runs a whole test in a process of its own and reports how that ended; there it is true. `go test` keeps a log beside a
// test's process, which [Limit] would break.
func Alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), alone+"="+t.Name())
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	return false
}

// Limit lets no file of this process and of those that it starts grow beyond so many bytes, until the returned function, which is also
// called at the end of the test, takes the limit away. A write beyond it fails with EFBIG. For tests that run [Alone].
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
