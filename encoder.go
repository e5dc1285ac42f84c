package vaglio

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Encoder appends to Bytes what json.Marshal would, each value behind its name and what stands before that, for the few things of
// which each decision writes one. Err is the first error: what JSON can't hold. Tests compare with json.Marshal, so that the tags
// of structs stay the definition.
type Encoder struct {
	Bytes []byte
	Err   error
}

// Raw appends a text as it is.
func (e *Encoder) Raw(text string) { e.Bytes = append(e.Bytes, text...) }

// Comma appends what stands before the i-th element of an array.
func (e *Encoder) Comma(i int) {
	if i > 0 {
		e.Raw(`,`)
	}
}

// Text appends a string in quotes.
func (e *Encoder) Text(name, value string) {
	e.Raw(name)
	e.quoted(value)
}

func (e *Encoder) quoted(value string) {
	before := len(e.Bytes)
	b := append(append(e.Bytes, '"'), value...)
	if isPlain(b[before+1:]) {
		e.Bytes = append(b, '"')
		return
	}
	b, err := jsontext.AppendQuote(b[:before], value)
	if e.Bytes = b; e.Err == nil && err != nil {
		e.Err = fmt.Errorf("encode %q: %w", strings.Clone(value), err) // or no value could stay on a stack
	}
}

// isPlain reports whether a string is ASCII that needs no escape. Eight bytes at a time: each test leaves the high bit of a byte
// that fails it, or follows one that does (https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord).
func isPlain(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		quote, slash := w^'"'*ones, w^'\\'*ones
		if (w|(w-' '*ones)|(quote-ones)|(slash-ones))&highs != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// NotEmpty appends a string, and without one nothing.
func (e *Encoder) NotEmpty(name, value string) {
	if value != "" {
		e.Text(name, value)
	}
}

// Texts appends an array of strings.
func (e *Encoder) Texts(name string, values []string) {
	e.Raw(name)
	list(e, values, func(v *string) { e.quoted(*v) })
}

// Fields appends an object.
func (e *Encoder) Fields(name string, fs Fields) {
	e.Raw(name)
	e.Raw(`{`)
	for i := range fs {
		e.Comma(i)
		e.Text("", fs[i].Name)
		e.Text(`:`, fs[i].Value)
	}
	e.Raw(`}`)
}

// Integer appends a whole number.
func (e *Encoder) Integer(name string, value int64) {
	e.Raw(name)
	e.Bytes = strconv.AppendInt(e.Bytes, value, 10)
}

// Boolean appends true or false.
func (e *Encoder) Boolean(name string, value bool) {
	e.Raw(name)
	e.Bytes = strconv.AppendBool(e.Bytes, value)
}

// Number appends a finite number.
func (e *Encoder) Number(name string, value float64) {
	e.Raw(name)
	if e.Err == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
		e.Err = fmt.Errorf("encode %s: %v is no number of JSON", name, value)
	}
	e.Bytes = AppendNumber(e.Bytes, value)
}

// Optional appends a finite number, or null.
func (e *Encoder) Optional(name string, value *float64) {
	if value != nil {
		e.Number(name, *value)
	} else {
		e.Raw(name)
		e.Raw(`null`)
	}
}

// Moment appends an instant, given or not.
func (e *Encoder) Moment(name string, t Instant) {
	e.Raw(name)
	e.Raw(`"`)
	e.Bytes, _ = t.AppendText(e.Bytes) // never fails
	e.Raw(`"`)
}

// Given appends an instant that was given, or nothing.
func (e *Encoder) Given(name string, t Instant) {
	if t != 0 {
		e.Moment(name, t)
	}
}

// Model appends the identity of a model, or null.
func (e *Encoder) Model(name string, m *ModelIdentity) {
	e.Raw(name)
	if m == nil {
		e.Raw(`null`)
		return
	}
	e.Text(`{"name":`, m.Name)
	e.Text(`,"version":`, m.Version)
	e.Text(`,"sha256":`, m.SHA256)
	e.Raw(`}`)
}

func list[T any](e *Encoder, values []T, item func(*T)) {
	e.Raw(`[`)
	for i := range values {
		e.Comma(i)
		item(&values[i])
	}
	e.Raw(`]`)
}

// AppendNumber appends a finite number as JSON (RFC 8785) writes it: the fewest digits that read back bit for bit.
func AppendNumber(b []byte, value float64) []byte {
	size := math.Abs(value)
	if size == 0 || 1e-6 <= size && size < 1e21 {
		return strconv.AppendFloat(b, value, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, value, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // e-09 is e-9
		b = append(b[:n-2], b[n-1])
	}
	return b
}
