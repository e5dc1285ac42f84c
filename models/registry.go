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

	"github.com/gofrs/flock"

	"vaglio"
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
// name that holds its promotions. Every change is one rename: readers in other processes see the old state or the new one.
// Changes take turns by a lock on the folder.
type Registry struct{ dir string }

// Promotion is a line of a stage's file: a version, the moment from which it was current, and the moment at which it was
// taken back, which is "not given" while it is not. Of the others the first is current.
type Promotion struct {
	Version   string         `json:"version"`
	At        vaglio.Instant `json:"at,omitzero"`
	TakenBack vaglio.Instant `json:"taken_back,omitzero"`
}

// maxPromotions is how many of a stage are kept, the newest ones.
const maxPromotions = 200

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
// that can't be opened. A version that is current already stays so, and nothing is noted.
func (r *Registry) Promote(version string, stage Stage, at vaglio.Instant) error {
	err := r.change(stage, func(h []Promotion) ([]Promotion, error) {
		if _, err := r.Open(version); err != nil {
			return nil, err
		}
		if now := current(h); now >= 0 && h[now].Version == version {
			return nil, nil
		}
		return append([]Promotion{{Version: version, At: at}}, h[:min(len(h), maxPromotions-1)]...), nil
	})
	if err != nil {
		return fmt.Errorf("promote %s to %s: %w", version, stage, err)
	}
	return nil
}

// Rollback takes the last promotion to a stage back and returns the version that is current again. It opens that bundle
// first: where it can't be opened, or there was no promotion before, everything stays.
func (r *Registry) Rollback(stage Stage, at vaglio.Instant) (version string, err error) {
	err = r.change(stage, func(h []Promotion) ([]Promotion, error) {
		last := current(h)
		if last < 0 {
			return nil, errors.New("there was no promotion")
		}
		h = slices.Clone(h)
		h[last].TakenBack = at
		before := current(h)
		if before < 0 {
			return nil, fmt.Errorf("there was no promotion before that of %s", h[last].Version)
		}
		version = h[before].Version
		_, err := r.Open(version)
		return h, err
	})
	if err != nil {
		return "", fmt.Errorf("roll the %s back: %w", stage, err)
	}
	return version, nil
}

// current is the place of the promotion in force, -1 without one.
func current(h []Promotion) int {
	return slices.IndexFunc(h, func(p Promotion) bool { return p.TakenBack == 0 })
}

// change replaces a stage's file by what next makes of it, unless that is nothing.
func (r *Registry) change(stage Stage, next func([]Promotion) ([]Promotion, error)) (err error) {
	lock := flock.New(filepath.Join(r.dir, ".lock"))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	h, err := r.History(stage)
	if err != nil {
		return err
	}
	if h, err = next(h); err != nil || h == nil {
		return err
	}
	var text strings.Builder
	for _, p := range h {
		text.WriteString(p.Version)
		for _, at := range []vaglio.Instant{p.At, p.TakenBack} {
			if at != 0 {
				text.WriteString(" " + at.String())
			}
		}
		text.WriteByte('\n')
	}
	temporary, err := os.MkdirTemp(r.dir, ".writing-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	pointer := filepath.Join(temporary, string(stage))
	if err := writeSynced(pointer, []byte(text.String())); err != nil {
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
	h, err := r.History(stage)
	if err != nil {
		return "", false, err
	}
	at := current(h)
	if at < 0 {
		return "", false, nil
	}
	return h[at].Version, true, nil
}

// History lists the promotions to a stage, the newest first; empty when there was none.
func (r *Registry) History(stage Stage) ([]Promotion, error) {
	if err := checkStage(stage); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(r.dir, string(stage)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", stage, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPointerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", stage, err)
	}
	h, err := r.parsePromotions(string(b))
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", stage, err)
	}
	return h, nil
}

const maxPointerBytes = 64 << 10

// parsePromotions reads a stage's file: a line without its end was not written by us, or not to the end.
func (r *Registry) parsePromotions(text string) ([]Promotion, error) {
	text, whole := strings.CutSuffix(text, "\n")
	if !whole || len(text) > maxPointerBytes {
		return nil, fmt.Errorf("the file is empty, cut off or over %d bytes", maxPointerBytes)
	}
	var h []Promotion
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Split(line, " ")
		if len(fields) > 3 {
			return nil, fmt.Errorf("line %d: want a version and at most two moments", i+1)
		}
		p := Promotion{Version: fields[0]}
		if _, err := r.Dir(p.Version); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		for k, into := range []*vaglio.Instant{&p.At, &p.TakenBack} {
			if len(fields) > k+1 {
				var err error
				if *into, err = vaglio.ParseInstant(fields[k+1]); err != nil {
					return nil, fmt.Errorf("line %d: %w", i+1, err)
				}
			}
		}
		h = append(h, p)
	}
	if len(h) == 0 || current(h) < 0 {
		return nil, errors.New("every promotion was taken back")
	}
	return h, nil
}

func checkStage(stage Stage) error {
	if !slices.Contains(stages, stage) {
		return fmt.Errorf("stage %q: want %s or %s", stage, Champion, Challenger)
	}
	return nil
}
