package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"vaglio/native"
)

// A program is a ClickHouse that can be run: a library in our own process, or a binary.
type program struct{ kind, path string }

const (
	library = "library"
	binary  = "binary"
)

// 26.7 is the first version that this package was tested with; "clickhouse local" can listen since 26.6.
var oldest = [2]int{26, 7}

var versionNumber = regexp.MustCompile(`\b(\d{2})\.(\d{1,2})\.\d`)

// findProgram prefers the binary of the PATH, when it is new enough, to the library.
func findProgram(ctx context.Context, logger *slog.Logger) (program, error) {
	if path, err := exec.LookPath("clickhouse"); err == nil {
		err := newEnough(ctx, path)
		if err == nil {
			return program{binary, path}, nil
		}
		logger.Warn("clickhouse binary not used", "path", path, "error", err)
	}
	path, err := native.Find("libchdb.so")
	return program{library, path}, err
}

func newEnough(ctx context.Context, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, "local", "--version").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", path, err)
	}
	match := versionNumber.FindSubmatch(output)
	if match == nil {
		return fmt.Errorf("%s does not tell its version", path)
	}
	major, _ := strconv.Atoi(string(match[1]))
	minor, _ := strconv.Atoi(string(match[2]))
	if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		return fmt.Errorf("version %d.%d is older than %d.%d", major, minor, oldest[0], oldest[1])
	}
	return nil
}
