package models

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
	"vaglio/files"
)

// Manifest says what a bundle is and how it came to be.
type Manifest struct {
	Name        string             `json:"name"`
	Version     string             `json:"version"` // a-z, 0-9, ".", "_" and "-": see CheckName
	CreatedAt   vaglio.Instant     `json:"created_at,omitzero"`
	Files       map[string]string  `json:"files"` // SHA-256 in hexadecimal, by name; Write fills it in
	Training    Window             `json:"training,omitzero"`
	Calibration Window             `json:"calibration,omitzero"` // the requests behind the risk score
	Test        Window             `json:"test,omitzero"`
	Folds       []Fold             `json:"folds,omitempty"`      // by which rounds and calibration were found
	Interrupted bool               `json:"interrupted,omitzero"` // training was stopped before it was over
	Metrics     map[string]float64 `json:"metrics"`
	Reliability Reliability        `json:"reliability,omitzero"` // of the probabilities, on the requests of calibration
	Parameters  map[string]string  `json:"parameters"`
	Libraries   map[string]string  `json:"libraries"`
	Thresholds  Thresholds         `json:"thresholds"`
	// Population describes the numeric features on the training rows; one that was always missing is left out.
	Population   []FeatureQuantiles `json:"population"`
	BaseCurrency string             `json:"base_currency"`
}

// Window is a set of requests: those of [From, Until). An instant of 0 is not given.
type Window struct {
	From      vaglio.Instant `json:"from,omitzero"`
	Until     vaglio.Instant `json:"until,omitzero"`
	Rows      int            `json:"rows"`
	Positives int            `json:"positives"` // labelled as fraud
}

// Fold is one of the models by which a training looked ahead: fitted on what was known before the requests that it was
// validated on.
type Fold struct {
	Training      Window             `json:"training"`
	Validation    Window             `json:"validation"`
	BestIteration int                `json:"best_iteration"`
	Metrics       map[string]float64 `json:"metrics"` // LightGBM's, on the validation
}

// Thresholds are probabilities: approve below the first, deny from the second, review between.
type Thresholds struct {
	ApproveBelow float64 `json:"approve_below"`
	DenyFrom     float64 `json:"deny_from"`
}

// FeatureQuantiles are the quantiles of a feature's known values.
type FeatureQuantiles struct {
	Name string  `json:"name"`
	Q05  float64 `json:"q05"`
	Q25  float64 `json:"q25"`
	Q50  float64 `json:"q50"`
	Q75  float64 `json:"q75"`
	Q95  float64 `json:"q95"`
}

// Golden is a vector with what LightGBM itself answered.
type Golden struct {
	Vector        []Number `json:"vector"`
	Raw           Number   `json:"raw"` // log-odds
	Base          Number   `json:"base"`
	Contributions []Number `json:"contributions"` // by feature; with Base left out where LightGBM's are not known
}

// NewGolden takes a row and its answers as LightGBM gives them: its contributions end with the base value.
func NewGolden(vector []float64, raw float64, contributions []float64) Golden {
	last := len(contributions) - 1
	return Golden{Vector: numbers(vector), Raw: Number(raw), Base: Number(contributions[last]), Contributions: numbers(contributions[:last])}
}

// Number is a float64 whose JSON form is a number that reads back bit for bit, or one of the strings "NaN", "Infinity"
// and "-Infinity".
type Number float64

// MarshalJSONTo implements json.MarshalerTo.
func (n Number) MarshalJSONTo(enc *jsontext.Encoder) error {
	return enc.WriteValue(n.AppendJSON(enc.AvailableBuffer()))
}

// AppendJSON appends the number's JSON form.
func (n Number) AppendJSON(b []byte) []byte {
	switch v := float64(n); {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	default:
		return vaglio.AppendNumber(b, v)
	}
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *Number) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	token, err := dec.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case '0':
		v, err := strconv.ParseFloat(token.String(), 64)
		*n = Number(v)
		return err
	case '"':
		switch token.String() {
		case "NaN":
			*n = Number(math.NaN())
			return nil
		case "Infinity":
			*n = Number(math.Inf(1))
			return nil
		case "-Infinity":
			*n = Number(math.Inf(-1))
			return nil
		}
	}
	return errors.New(`want a number, "NaN", "Infinity" or "-Infinity"`)
}

func numbers(values []float64) []Number {
	out := make([]Number, len(values))
	for i, v := range values {
		out[i] = Number(v)
	}
	return out
}

func floats(values []Number) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// Contents is what a bundle is made of.
type Contents struct {
	Manifest    Manifest // without Files
	Model       []byte   // LightGBM's text
	Catalogue   []byte   // YAML
	Calibration Calibration
	Golden      []Golden
}

// Write makes the folder dir, which must not exist, with a bundle that [Open] accepts: it is written and opened under
// another name beside it, then renamed. A crash or a refusal leaves no folder dir.
func Write(dir string, c Contents) error {
	if err := write(dir, c); err != nil {
		return fmt.Errorf("write model bundle %s: %w", dir, files.Advise(err, "name another folder"))
	}
	return nil
}

// Copy makes the folder dir, which must not exist, with all files of a bundle's folder, in the way of [Write].
func Copy(dir, from string) error {
	err := publish(dir, func(temporary string) error {
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(from, e.Name()))
			if err == nil {
				err = writeSynced(filepath.Join(temporary, e.Name()), b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy model bundle %s to %s: %w", from, dir, files.Advise(err, "name another folder"))
	}
	return nil
}

func write(dir string, c Contents) error {
	calibration, err := encode(fileCalibration, c.Calibration)
	if err != nil {
		return err
	}
	golden, err := encode(fileGolden, c.Golden)
	if err != nil {
		return err
	}
	contents := map[string][]byte{fileModel: c.Model, fileCatalogue: c.Catalogue, fileCalibration: calibration, fileGolden: golden}
	c.Manifest.Files = map[string]string{}
	for name, b := range contents {
		c.Manifest.Files[name] = hash(b)
	}
	if contents[fileManifest], err = encode(fileManifest, c.Manifest); err != nil {
		return err
	}
	return publish(dir, func(temporary string) error {
		for name, b := range contents {
			if err := writeSynced(filepath.Join(temporary, name), b); err != nil {
				return err
			}
		}
		return nil
	})
}

// publish makes a folder of a bundle: it is filled and opened under another name beside it, then renamed.
func publish(dir string, fill func(temporary string) error) error {
	dir = filepath.Clean(dir)
	switch _, err := os.Lstat(dir); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, ".writing-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := fill(temporary); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(temporary, 0o755), syncFolder(temporary)); err != nil {
		return err
	}
	if _, err := open(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	return syncFolder(parent)
}

func encode(name string, v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.Multiline(name != fileGolden))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return append(b, '\n'), nil
}

// writeSynced writes a new file through to the disk.
func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// syncFolder makes the entries of a folder durable.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName keeps names of models and versions to what is safe as a file's name and in a URL.
func CheckName(what, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%s %.80q: want 1 to 64 of a-z, 0-9, \".\", \"_\" and \"-\", the first a letter or digit", what, name)
	}
	return nil
}

func (m *Manifest) validate() error {
	if err := errors.Join(CheckName("name", m.Name), CheckName("version", m.Version)); err != nil {
		return err
	}
	if got := slices.Sorted(maps.Keys(m.Files)); !slices.Equal(got, hashedFiles) {
		return fmt.Errorf("files are %q instead of %q", got, hashedFiles)
	}
	if t := m.Thresholds; !(0 <= t.ApproveBelow && t.ApproveBelow <= t.DenyFrom) {
		return fmt.Errorf("thresholds: approve below %v, deny from %v", t.ApproveBelow, t.DenyFrom)
	}
	if _, ok := vaglio.CurrencyDigits(m.BaseCurrency); !ok {
		return fmt.Errorf("base currency %q is not an ISO 4217 code", m.BaseCurrency)
	}
	return nil
}
