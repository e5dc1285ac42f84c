// Command standin stands in for a clickhouse binary: it understands as much of "clickhouse local" as the supervision of
// package embedded needs. Files beside it steer it: version, and refuse (an error message).
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	executable, _ := os.Executable()
	beside := func(name string) string { return filepath.Join(filepath.Dir(executable), name) }
	if len(os.Args) == 3 && os.Args[1] == "local" && os.Args[2] == "--version" {
		version, _ := os.ReadFile(beside("version"))
		fmt.Printf("ClickHouse local version %s (official build).\n", version)
		return
	}
	if message, err := os.ReadFile(beside("refuse")); err == nil {
		fmt.Fprintln(os.Stderr, string(message))
		os.Exit(7)
	}
	ready := regexp.MustCompile(`concat\('([^']*)', '([^']*)'\)`).FindStringSubmatch(strings.Join(os.Args, " "))
	started := fmt.Sprintf("%d %d\n%s\n", os.Getpid(), os.Getppid(), strings.Join(os.Args[1:], "\n"))
	err := os.WriteFile(beside("started.partial"), []byte(started), 0o600)
	if err == nil {
		err = os.Rename(beside("started.partial"), beside("started")) // the tests read it while another one starts
	}
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(ready[1] + ready[2])
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := os.WriteFile(beside("ended"), nil, 0o600); err != nil {
		os.Exit(1)
	}
}
