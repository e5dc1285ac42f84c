// Package native opens the C libraries that Vaglio drives without cgo: ClickHouse (libchdb.so, for history/embedded) and
// LightGBM (lib_lightgbm.so, for training/lightgbm). It is the only importer of purego. A process that opens a library
// needs glibc, and a fault in C ends it: both users run the library in a child process.
package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ebitengine/purego"
)

// ErrNotFound is returned, wrapped with the places looked at, when a library is nowhere.
var ErrNotFound = errors.New("library not found")

// Library is an opened C library. It stays loaded until the process ends.
type Library struct {
	path   string
	handle uintptr
}

// Find returns the absolute path of a library, such as "libchdb.so". VAGLIO_LIB, when set, names the only folder looked
// at; otherwise, in order: the executable's folder, ../.deps/lib beside it, /usr/local/lib/vaglio, and .deps/lib of the
// working directory and the folders above it, where only a file of this user or of root counts. An absolute name is
// checked and returned as it is.
func Find(name string) (string, error) {
	if filepath.IsAbs(name) {
		_, err := os.Stat(name)
		return name, err
	}
	var looked []string
	for _, dir := range folders() {
		path := filepath.Join(dir.path, name)
		looked = append(looked, dir.path)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fmt.Errorf("look for %s: %w", name, err)
		case dir.anyones && !ours(info):
			return "", fmt.Errorf("%s belongs to another user: set VAGLIO_LIB to its folder to trust it", path)
		default:
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("%s: %w in %s; `make deps` fetches it, VAGLIO_LIB names its folder",
		name, ErrNotFound, strings.Join(looked, ", "))
}

// folder is a place for libraries; in anyones folder (the working directory's) another user may have planted a file.
type folder struct {
	path    string
	anyones bool
}

func folders() []folder {
	if dir := os.Getenv("VAGLIO_LIB"); dir != "" {
		return []folder{{path: dir}}
	}
	var all []folder
	if executable, err := os.Executable(); err == nil {
		if resolved, err := filepath.EvalSymlinks(executable); err == nil {
			executable = resolved
		}
		dir := filepath.Dir(executable)
		all = append(all, folder{path: dir}, folder{path: filepath.Join(dir, "..", ".deps", "lib")})
	}
	all = append(all, folder{path: "/usr/local/lib/vaglio"})
	if dir, err := os.Getwd(); err == nil {
		for ; ; dir = filepath.Dir(dir) {
			all = append(all, folder{filepath.Join(dir, ".deps", "lib"), true})
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return all
}

func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

// Open finds a library as [Find] does and loads it, running its initialisers on the calling thread.
func Open(name string) (*Library, error) {
	path, err := Find(name)
	if err != nil {
		return nil, err
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return &Library{path, handle}, nil
}

// Path is where the library was found.
func (l *Library) Path() string { return l.path }

// Func makes the Go function that fptr points at call the C function of that name. Its parameters and at most one result
// are converted as purego.RegisterFunc describes; that they match the C declaration is the caller's to know. A Go
// function as a parameter becomes a C callback that is never freed: pass the same one again, not a new closure each time.
func (l *Library) Func(fptr any, symbol string) error {
	address, err := purego.Dlsym(l.handle, symbol)
	if err != nil {
		return fmt.Errorf("%s: no function %s: %w", l.path, symbol, err)
	}
	purego.RegisterFunc(fptr, address)
	return nil
}
