package models

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Stage is a use that a model can be promoted to.
type Stage string

// The stages: the champion decides, the challenger is watched beside it.
const (
	Champion   Stage = "champion"
	Challenger Stage = "challenger"
)

var stages = []Stage{Champion, Challenger}

// Registry is a folder with one bundle per version, in a folder of that name, and per stage a small file of the stage's
// name that holds a version. Every change is one rename: readers in other processes see the old state or the new one.
type Registry struct{ dir string }

// Entry is one version of a registry.
type Entry struct {
	Version  string
	Manifest Manifest // empty when refused
	Stages   []Stage
	Refused  error // why it can't be used, nil when it can
}

// OpenRegistry uses a folder, which it makes when there is none.
func OpenRegistry(dir string) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open model registry: %w", err)
	}
	return &Registry{dir}, nil
}

// Dir is the folder of a version, there or not. A version that would lead elsewhere is an error.
func (r *Registry) Dir(version string) (string, error) {
	if err := CheckName("version", version); err != nil {
		return "", err
	}
	if slices.Contains(stages, Stage(version)) {
		return "", fmt.Errorf("version %q is the name of a stage", version)
	}
	return filepath.Join(r.dir, version), nil
}

// Open opens a version.
func (r *Registry) Open(version string) (*Bundle, error) {
	dir, err := r.Dir(version)
	if err != nil {
		return nil, err
	}
	b, err := Open(dir)
	if err != nil {
		return nil, err
	}
	if b.manifest.Version != version {
		return nil, fmt.Errorf("open model bundle %s: it calls itself version %s", dir, b.manifest.Version)
	}
	return b, nil
}

// List opens every version, sorted by name. What is no bundle is listed with the reason; names with a leading dot are
// bundles being written and left out.
func (r *Registry) List() ([]Entry, error) {
	found, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	current := map[string][]Stage{}
	for _, stage := range stages {
		version, ok, err := r.Current(stage)
		if err != nil {
			return nil, fmt.Errorf("list models: %w", err)
		}
		if ok {
			current[version] = append(current[version], stage)
		}
	}
	var entries []Entry
	for _, f := range found {
		name := f.Name()
		if strings.HasPrefix(name, ".") || slices.Contains(stages, Stage(name)) {
			continue
		}
		entry := Entry{Version: name, Stages: current[name]}
		if b, err := r.Open(name); err != nil {
			entry.Refused = err
		} else {
			entry.Manifest = b.manifest
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Promote makes a version current for a stage, for all readers from now on. It opens the bundle first and refuses one
// that can't be opened.
func (r *Registry) Promote(version string, stage Stage) error {
	if err := r.promote(version, stage); err != nil {
		return fmt.Errorf("promote %s to %s: %w", version, stage, err)
	}
	return nil
}

func (r *Registry) promote(version string, stage Stage) error {
	if err := checkStage(stage); err != nil {
		return err
	}
	if _, err := r.Open(version); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(r.dir, ".writing-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	pointer := filepath.Join(temporary, string(stage))
	if err := writeSynced(pointer, []byte(version+"\n")); err != nil {
		return err
	}
	if err := os.Rename(pointer, filepath.Join(r.dir, string(stage))); err != nil {
		return err
	}
	return syncFolder(r.dir)
}

// Current is the version in use for a stage; ok is false when none was promoted to it yet. Whether the bundle opens is
// not checked.
func (r *Registry) Current(stage Stage) (version string, ok bool, err error) {
	if err := checkStage(stage); err != nil {
		return "", false, err
	}
	f, err := os.Open(filepath.Join(r.dir, string(stage)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read the %s: %w", stage, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return "", false, fmt.Errorf("read the %s: %w", stage, err)
	}
	version = strings.TrimSuffix(string(b), "\n")
	if _, err := r.Dir(version); err != nil {
		return "", false, fmt.Errorf("read the %s: %w", stage, err)
	}
	return version, true, nil
}

func checkStage(stage Stage) error {
	if !slices.Contains(stages, stage) {
		return fmt.Errorf("stage %q: want %s or %s", stage, Champion, Challenger)
	}
	return nil
}
