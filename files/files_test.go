package files_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vaglio/files"
	"vaglio/files/filestest"
)

func text(s string) func(io.Writer) error {
	return func(out io.Writer) error {
		_, err := io.WriteString(out, s)
		return err
	}
}

func TestAFileIsThereWholeOrAsItWas(t *testing.T) {
	if !filestest.Alone(t) {
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "list.csv")
	if err := files.Write(path, text("first")); err != nil {
		t.Fatal(err)
	}
	failing := errors.New("no more rows")
	if err := files.Write(path, func(out io.Writer) error { return errors.Join(text("second")(out), failing) }); !errors.Is(err, failing) {
		t.Errorf("writing ended with %v", err)
	}
	usual := filestest.Limit(t, 1000)
	err := files.Write(path, text(strings.Repeat("third", 1000)))
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(fmt.Sprint(err), "write it elsewhere") {
		t.Errorf("beyond the limit: %v", err)
	}
	usual()
	entries, err := os.ReadDir(dir)
	if content, readErr := os.ReadFile(path); err != nil || readErr != nil || string(content) != "first" || len(entries) != 1 {
		t.Errorf("%q, %v, beside %v, %v", content, readErr, entries, err)
	}
}

func TestAFullDiskComesWithAdvice(t *testing.T) {
	advised := func(err error, want string) {
		t.Helper()
		if got := files.Advise(err, "go away"); fmt.Sprint(got) != want || !errors.Is(got, err) {
			t.Errorf("%v, want %s", got, want)
		}
	}
	advised(nil, "<nil>")
	advised(io.EOF, "EOF")
	advised(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "write x: no space left on device: make room, or go away")
	advised(syscall.EDQUOT, "disk quota exceeded: make room, or go away")
	advised(syscall.EFBIG, "file too large: raise the limit on the size of files (ulimit -f), or go away")
}
