// Package vaglio holds the nouns that every other package speaks: [Event] and [Fact] (history), [Request] and
// [Decision] (what a refund pipeline asks and gets), [Instant] and [Fields] (what they are made of), and the errors
// that a caller can act on. It imports nothing of ours. Read event.go first, then request.go and decision.go.
package vaglio

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Version of the build, set by the linker.
var Version = "development"

// Instant is a moment in UTC, in milliseconds since the Unix epoch. Zero means "not given".
// Text and JSON are RFC 3339 with milliseconds; finer parts are cut.
type Instant int64

// Common spans of time as differences of two instants.
const (
	Millisecond Instant = 1
	Second              = 1000 * Millisecond
	Minute              = 60 * Second
	Hour                = 60 * Minute
	Day                 = 24 * Hour
)

const instantLayout = "2006-01-02T15:04:05.000Z07:00"

// The instants that the service accepts: the years 1971 to 2199.
var (
	minInstant = InstantOf(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC))
	maxInstant = InstantOf(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC))
)

// InstantOf cuts a time to its millisecond.
func InstantOf(t time.Time) Instant { return Instant(t.UnixMilli()) }

// ParseInstant reads RFC 3339 ("2026-11-22T10:00:00.123Z") or a plain date, which is its midnight in UTC.
func ParseInstant(s string) (Instant, error) {
	layout := time.RFC3339Nano
	if len(s) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither an RFC 3339 time nor a date (YYYY-MM-DD)", s)
	}
	i := InstantOf(t)
	if i < minInstant || i >= maxInstant {
		return 0, fmt.Errorf("%q is outside the years 1971 to 2199", s)
	}
	return i, nil
}

// Time is the instant as a time.Time in UTC.
func (i Instant) Time() time.Time { return time.UnixMilli(int64(i)).UTC() }

// String is RFC 3339 with milliseconds, in UTC.
func (i Instant) String() string { return i.Time().Format(instantLayout) }

// AppendText implements encoding.TextAppender.
func (i Instant) AppendText(b []byte) ([]byte, error) {
	return i.Time().AppendFormat(b, instantLayout), nil
}

// MarshalText implements encoding.TextMarshaler.
func (i Instant) MarshalText() ([]byte, error) { return i.AppendText(nil) }

// UnmarshalText reads RFC 3339 only: a date is no moment.
func (i *Instant) UnmarshalText(b []byte) error {
	if len(b) <= len(time.DateOnly) {
		return fmt.Errorf("%q is not an RFC 3339 time", b)
	}
	parsed, err := ParseInstant(string(b))
	if err != nil {
		return err
	}
	*i = parsed
	return nil
}

// Field is one name and its value.
type Field struct{ Name, Value string }

// Fields is a small open map of strings, sorted by name, each name once. As JSON it is an object. Being sorted, equal
// contents are equal slices, encode to the same bytes and hash alike.
type Fields []Field

// FieldsOf builds Fields from alternating names and values; pairs with an empty value are left out, of repeated names
// the last one stays. It panics on an odd number of arguments.
func FieldsOf(namesAndValues ...string) Fields {
	fs := make(Fields, 0, len(namesAndValues)/2)
	for i := 0; i < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] != "" {
			fs = fs.With(namesAndValues[i], namesAndValues[i+1])
		}
	}
	return fs
}

// Get returns the value under a name, "" when there is none: no stored value is empty.
func (fs Fields) Get(name string) string {
	for i := range fs {
		if fs[i].Name == name {
			return fs[i].Value
		}
	}
	return ""
}

// With returns fs with one value set. It may write into fs's spare capacity, as append does.
func (fs Fields) With(name, value string) Fields {
	i, found := slices.BinarySearchFunc(fs, name, func(f Field, name string) int { return cmp.Compare(f.Name, name) })
	if found {
		fs = slices.Clone(fs)
		fs[i].Value = value
		return fs
	}
	return slices.Insert(fs, i, Field{name, value})
}

// clone shares no memory.
func (fs Fields) clone() Fields {
	if len(fs) == 0 {
		return nil
	}
	c := make(Fields, len(fs))
	for i, f := range fs {
		c[i] = Field{strings.Clone(f.Name), strings.Clone(f.Value)}
	}
	return c
}

// MarshalJSONTo writes an object with the names in order.
func (fs Fields) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, f := range fs {
		if err := enc.WriteToken(jsontext.String(f.Name)); err != nil {
			return err
		}
		if err := enc.WriteToken(jsontext.String(f.Value)); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

// UnmarshalJSONFrom reads an object whose values are all strings; a repeated name is an error.
func (fs *Fields) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if kind := dec.PeekKind(); kind != '{' {
		if err := dec.SkipValue(); err != nil {
			return err
		}
		return errors.New("want an object of strings")
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*fs = (*fs)[:0]
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err != nil {
			return err
		}
		f := Field{Name: fieldName(name)}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if value.Kind() != '"' {
			return &json.SemanticError{JSONPointer: dec.StackPointer(), Err: errors.New("want a string")}
		}
		f.Value = unquoted(value)
		*fs = append(*fs, f)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	slices.SortFunc(*fs, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// unquoted is the content of a JSON string that the decoder has accepted.
func unquoted(quoted jsontext.Value) string {
	if plain := quoted[1 : len(quoted)-1]; !bytes.ContainsRune(plain, '\\') {
		return string(plain)
	}
	plain, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		panic("vaglio: the decoder accepted a string that it can't unquote: " + err.Error())
	}
	return string(plain)
}

// fieldName is unquoted without an allocation for names that come with almost every event.
func fieldName(quoted jsontext.Value) string {
	if name, ok := wellKnownNames[string(quoted[1:len(quoted)-1])]; ok {
		return name
	}
	return unquoted(quoted)
}

var wellKnownNames = func() map[string]string {
	names := map[string]string{}
	for _, name := range strings.Fields("customer payment device ip instrument payout_instrument merchant address employee request " +
		"type reason rail payment_state authentication requested_by channel country payee_verification fraud_type what source") {
		names[name] = name
	}
	return names
}()

// FieldError says what is wrong with one field of an input. Pointer is an RFC 6901 JSON pointer, "" for the whole.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Invalid is an input that was understood as far as it goes and refused: all its wrong fields together.
type Invalid []FieldError

func (e Invalid) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = strings.TrimPrefix(f.Pointer+": "+f.Detail, ": ")
	}
	return strings.Join(parts, "; ")
}

// add notes one wrong field.
func (e *Invalid) add(pointer, format string, args ...any) {
	*e = append(*e, FieldError{pointer, fmt.Sprintf(format, args...)})
}

// err is nil when nothing was noted.
func (e Invalid) err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// Decode reads exactly one JSON value into a T: unknown, repeated and mistyped members, invalid UTF-8 and trailing
// content are errors. The error is an [Invalid] that names every wrong member of the outermost object, not only the
// first. T's own Validate is the caller's to call.
func Decode[T any](b []byte) (T, error) {
	var v T
	err := json.Unmarshal(b, &v, strict)
	if err == nil {
		return v, nil
	}
	var all Invalid
	var members map[string]jsontext.Value
	if json.Unmarshal(b, &members) == nil {
		for _, name := range slices.Sorted(keys(members)) {
			one, _ := json.Marshal(map[string]jsontext.Value{name: members[name]})
			var alone T
			if err := json.Unmarshal(one, &alone, strict); err != nil {
				all = append(all, fieldError(err))
			}
		}
	}
	if len(all) == 0 {
		all = Invalid{fieldError(err)}
	}
	return v, all
}

var strict = json.RejectUnknownMembers(true)

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// fieldError puts a JSON error into words that a client can act on, without Go's type names.
func fieldError(err error) FieldError {
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return FieldError{string(syntactic.JSONPointer), fmt.Sprintf("malformed JSON at byte %d: %v", syntactic.ByteOffset, syntactic.Err)}
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return FieldError{"", err.Error()}
	}
	pointer := string(semantic.JSONPointer)
	switch {
	case errors.Is(semantic.Err, json.ErrUnknownName):
		return FieldError{pointer, "unknown member"}
	case errors.Is(semantic.Err, strconv.ErrSyntax), errors.Is(semantic.Err, strconv.ErrRange):
		return FieldError{pointer, "want a whole number within 64 bits"}
	case semantic.Err != nil:
		return FieldError{pointer, semantic.Err.Error()}
	default:
		return FieldError{pointer, fmt.Sprintf("a JSON %s does not fit here", kindName(semantic.JSONKind))}
	}
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "array"
	default:
		return "value"
	}
}
