// Package models opens, scores, explains and keeps trained models. A [Bundle] is one model with everything that belongs
// to it: [Open] proves that it answers as LightGBM did when it was trained, or refuses it; [Write] makes one. [Registry]
// is a folder of bundles and says which of them is in use. [Model] is the bare LightGBM model: model.go reads it twice,
// by package leaves for scores and by our strict reader (lightgbm.go) for exact contributions (shap.go). calibration.go
// turns log-odds into probabilities and risk scores.
package models

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"vaglio"
	"vaglio/features"
)

// ErrMisfit is wrapped by the refusal of a bundle whose model and catalogue are not about the same features.
var ErrMisfit = errors.New("the model does not fit its catalogue")

// The files of a bundle. The manifest holds the SHA-256 of the others.
const (
	fileModel       = "model.txt"
	fileCatalogue   = "features.yaml"
	fileCalibration = "calibration.json"
	fileGolden      = "golden.json"
	fileManifest    = "manifest.json"
)

var hashedFiles = []string{fileCalibration, fileCatalogue, fileGolden, fileModel}

// fileLimits are the most bytes that are read of each file.
var fileLimits = map[string]int64{fileModel: maxModelBytes, fileCatalogue: 1 << 20, fileCalibration: 1 << 20, fileGolden: 64 << 20,
	fileManifest: 4 << 20}

// goldenDepth is the deepest model whose contributions are compared with LightGBM's: beyond it, LightGBM's recursion
// loses its precision, not ours.
const goldenDepth = 12

// Bundle is an opened model with its catalogue and calibration. It is immutable and safe for concurrent use.
type Bundle struct {
	*Model
	*Calibration
	catalogue *features.Catalogue
	manifest  Manifest
}

// Open reads a bundle's folder and checks all of it: sizes, hashes, strict JSON, that the model's features are the
// catalogue's in name, order and kind, and that every golden row gets LightGBM's raw score bit for bit from leaves and
// from our own reading, and its contributions, which must add up, within 1e-9·max(1, Σ|φ|). The error says what is wrong where.
func Open(dir string) (*Bundle, error) {
	b, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("open model bundle %s: %w", dir, err)
	}
	return b, nil
}

func open(dir string) (*Bundle, error) {
	manifest, err := readJSON[Manifest](dir, fileManifest)
	if err != nil {
		return nil, err
	}
	if err := manifest.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", fileManifest, err)
	}
	contents := map[string][]byte{}
	for _, name := range hashedFiles {
		b, err := readFile(dir, name)
		if err != nil {
			return nil, err
		}
		if got, want := hash(b), manifest.Files[name]; got != want {
			return nil, fmt.Errorf("%s has SHA-256 %s, the manifest says %s", name, got, want)
		}
		contents[name] = b
	}
	b := &Bundle{manifest: manifest}
	if b.catalogue, err = features.Parse(contents[fileCatalogue]); err != nil {
		return nil, fmt.Errorf("%s: %w", fileCatalogue, err)
	}
	if b.Model, err = ReadModel(contents[fileModel]); err != nil {
		return nil, fmt.Errorf("%s: %w", fileModel, err)
	}
	if err := b.Model.fits(b.catalogue); err != nil {
		return nil, err
	}
	calibration, err := vaglio.Decode[Calibration](contents[fileCalibration])
	if err == nil {
		err = calibration.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileCalibration, err)
	}
	b.Calibration = &calibration
	golden, err := vaglio.Decode[[]Golden](contents[fileGolden])
	if err == nil {
		err = b.Model.reproduces(golden)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileGolden, err)
	}
	return b, nil
}

// Identity names the exact model.
func (b *Bundle) Identity() vaglio.ModelIdentity {
	return vaglio.ModelIdentity{Name: b.manifest.Name, Version: b.manifest.Version, SHA256: b.manifest.Files[fileModel]}
}

// Catalogue is the catalogue that the model was trained with.
func (b *Bundle) Catalogue() *features.Catalogue { return b.catalogue }

// Manifest is what is written about the model. Its maps and slices are the bundle's own: read only.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// fits compares the model's features with the catalogue's.
func (m *Model) fits(catalogue *features.Catalogue) error {
	wanted := catalogue.Features()
	if len(wanted) != len(m.names) {
		return fmt.Errorf("%w: %d features in the model, %d in the catalogue", ErrMisfit, len(m.names), len(wanted))
	}
	for i, f := range wanted {
		switch {
		case f.Name != m.names[i]:
			return fmt.Errorf("%w: feature %d is %s in the model, %s in the catalogue", ErrMisfit, i, m.names[i], f.Name)
		case f.Categorical && m.numeric[i]:
			return fmt.Errorf("%w: the model reads %s as a number, in the catalogue it is a category", ErrMisfit, f.Name)
		case !f.Categorical && m.categorical[i]:
			return fmt.Errorf("%w: the model reads %s as a category, in the catalogue it is a number", ErrMisfit, f.Name)
		case m.categorical[i] && len(f.Categories) == 0:
			return fmt.Errorf("%w: the catalogue names no categories of %s", ErrMisfit, f.Name)
		}
	}
	return nil
}

// maxGolden bounds the golden rows of a bundle.
const maxGolden = 10_000

// reproduces checks the golden rows.
func (m *Model) reproduces(golden []Golden) error {
	if len(golden) == 0 || len(golden) > maxGolden {
		return fmt.Errorf("%d rows: want 1 to %d", len(golden), maxGolden)
	}
	phi := make([]float64, len(m.names))
	for i, g := range golden {
		explained := len(g.Contributions) > 0
		if explained && len(g.Contributions) != len(m.names) {
			return fmt.Errorf("row %d: %d contributions for %d features", i, len(g.Contributions), len(m.names))
		}
		vec := floats(g.Vector)
		logOdds, err := m.LogOdds(vec)
		if err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		want := float64(g.Raw)
		for _, reading := range []struct {
			by  string
			got float64
		}{{"leaves", logOdds}, {"our own reading", m.ownLogOdds(vec)}} {
			if math.Float64bits(reading.got) != math.Float64bits(want) {
				return fmt.Errorf("row %d: %s scores %v, LightGBM scored %v", i, reading.by, reading.got, want)
			}
		}
		base, err := m.Contributions(phi, vec)
		if err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		scale := 0.0
		for _, c := range phi {
			scale += math.Abs(c)
		}
		tolerance := 1e-9 * max(1, scale)
		if off := AdditivityError(logOdds, base, phi); !(off <= tolerance) {
			return fmt.Errorf("row %d: base and contributions are off the log-odds by %v", i, off)
		}
		if m.depth > goldenDepth || !explained {
			continue
		}
		if !(math.Abs(base-float64(g.Base)) <= tolerance) {
			return fmt.Errorf("row %d: the base value is %v, LightGBM's %v", i, base, g.Base)
		}
		for j, c := range g.Contributions {
			if !(math.Abs(phi[j]-float64(c)) <= tolerance) {
				return fmt.Errorf("row %d: %s contributes %v, LightGBM says %v", i, m.names[j], phi[j], c)
			}
		}
	}
	return nil
}

// readFile reads one file of a bundle up to its limit.
func readFile(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fileLimits[name]+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > fileLimits[name]:
		return nil, fmt.Errorf("%s is over the limit of %d bytes", name, fileLimits[name])
	default:
		return b, nil
	}
}

func readJSON[T any](dir, name string) (T, error) {
	b, err := readFile(dir, name)
	if err != nil {
		var none T
		return none, err
	}
	v, err := vaglio.Decode[T](b)
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
