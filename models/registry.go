package models

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/flock"

	"vaglio"
)

// Stage is a use that a model can be promoted to.
type Stage string

// The stages. The champion decides. The challenger decides for a share of customers, and is scored for the others. The shadow
// is scored for every request, and never decides.
const (
	Champion   Stage = "champion"
	Challenger Stage = "challenger"
	Shadow     Stage = "shadow"
)

// Stages lists them.
var Stages = []Stage{Champion, Challenger, Shadow}

// Registry is a folder with one bundle per version, in a folder of that name, and per stage a small file of the stage's
// name that holds its promotions. Every change is one rename: readers in other processes see the old state or the new one.
// Changes take turns by a lock on the folder.
type Registry struct{ dir string }

// Promotion is a line of a stage's file, as JSON: a version, the moment from which it was current, and the moment at which it
// was taken back, which is "not given" while it is not. Of the others the first is current.
type Promotion struct {
	Version   string         `json:"version"`
	At        vaglio.Instant `json:"at,omitzero"`
	TakenBack vaglio.Instant `json:"taken_back,omitzero"`
	Share     float64        `json:"share,omitzero"`  // of customers, of a challenger
	Reason    string         `json:"reason,omitzero"` // why it was promoted although something spoke against it
}

// Limits of a stage's file: how many promotions are kept, the newest ones, and how long a reason may be.
const (
	maxPromotions   = 200
	maxReason       = 500
	maxPointerBytes = maxPromotions * 2 * (maxReason + 200)
)

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
	if slices.Contains(Stages, Stage(version)) {
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
	for _, stage := range Stages {
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
		if strings.HasPrefix(name, ".") || slices.Contains(Stages, Stage(name)) {
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
// that can't be opened. A version that is current already, with the same share, stays so, and nothing is noted.
func (r *Registry) Promote(stage Stage, p Promotion) error {
	err := r.change(stage, func(h []Promotion) ([]Promotion, error) {
		if p.Share < 0 || p.Share > 1 || p.Share != p.Share || p.Share != 0 && stage != Challenger {
			return nil, fmt.Errorf("a share of customers is 0 to 1, and a challenger's, not %v", p.Share)
		}
		if len(p.Reason) > maxReason || strings.ContainsFunc(p.Reason, unicode.IsControl) {
			return nil, fmt.Errorf("a reason is one line of at most %d bytes", maxReason)
		}
		if _, err := r.Open(p.Version); err != nil {
			return nil, err
		}
		if now := current(h); now >= 0 && h[now].Version == p.Version && h[now].Share == p.Share {
			return nil, nil
		}
		return append([]Promotion{p}, h[:min(len(h), maxPromotions-1)]...), nil
	})
	if err != nil {
		return fmt.Errorf("promote %s to %s: %w", p.Version, stage, err)
	}
	return nil
}

// Withdraw leaves a stage empty. The champion's is never empty again once there was one.
func (r *Registry) Withdraw(stage Stage, at vaglio.Instant) error {
	err := r.change(stage, func(h []Promotion) ([]Promotion, error) {
		if stage == Champion {
			return nil, errors.New("somebody has to decide: promote another, or roll back")
		}
		h = slices.Clone(h)
		for i := range h {
			if h[i].TakenBack == 0 {
				h[i].TakenBack = at
			}
		}
		return h, nil
	})
	if err != nil {
		return fmt.Errorf("withdraw the %s: %w", stage, err)
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
	var text bytes.Buffer
	for _, p := range h {
		if err := json.MarshalWrite(&text, p); err != nil {
			return err
		}
		text.WriteByte('\n')
	}
	temporary, err := os.MkdirTemp(r.dir, ".writing-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	pointer := filepath.Join(temporary, string(stage))
	if err := writeSynced(pointer, text.Bytes()); err != nil {
		return err
	}
	if err := os.Rename(pointer, filepath.Join(r.dir, string(stage))); err != nil {
		return err
	}
	return syncFolder(r.dir)
}

// Current is the version in use for a stage; ok is false when none is. Whether the bundle opens is not checked.
func (r *Registry) Current(stage Stage) (version string, ok bool, err error) {
	p, ok, err := r.InForce(stage)
	return p.Version, ok, err
}

// InForce is the promotion behind the version in use for a stage; ok is false when there is none.
func (r *Registry) InForce(stage Stage) (p Promotion, ok bool, err error) {
	h, err := r.History(stage)
	if err != nil {
		return Promotion{}, false, err
	}
	at := current(h)
	if at < 0 {
		return Promotion{}, false, nil
	}
	return h[at], true, nil
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
	h, err := r.parsePromotions(stage, string(b))
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", stage, err)
	}
	return h, nil
}

// parsePromotions reads a stage's file: a line without its end was not written by us, or not to the end.
func (r *Registry) parsePromotions(stage Stage, text string) ([]Promotion, error) {
	text, whole := strings.CutSuffix(text, "\n")
	if !whole || len(text) > maxPointerBytes {
		return nil, fmt.Errorf("the file is empty, cut off or over %d bytes", maxPointerBytes)
	}
	var h []Promotion
	for i, line := range strings.Split(text, "\n") {
		var p Promotion
		if err := json.Unmarshal([]byte(line), &p, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if _, err := r.Dir(p.Version); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if p.Share < 0 || p.Share > 1 {
			return nil, fmt.Errorf("line %d: a share of %v", i+1, p.Share)
		}
		h = append(h, p)
	}
	if len(h) == 0 || stage == Champion && current(h) < 0 {
		return nil, errors.New("every promotion was taken back")
	}
	return h, nil
}

func checkStage(stage Stage) error {
	if !slices.Contains(Stages, stage) {
		return fmt.Errorf("stage %q: want one of %v", stage, Stages)
	}
	return nil
}
