package ledger

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
)

// Texts of decisions are stored packed: their JSON is mostly names and phrases that are the same in each of them, so a third is
// left, and a decision takes one page of the database instead of three. The first byte says how; JSON, which is what earlier
// versions stored, begins with none of them.
const (
	textAsItIs  = 0x00 // the text follows
	textPacked1 = 0x01 // an S2 block follows, made with the examples of texts1.ndjson as its dictionary
	lastMark    = 0x08
)

// maxStoredText bounds what a stored text may say of its own length.
const maxStoredText = 64 << 20

// The examples are part of the format: what was stored with them can't be read without these very bytes.
//
//go:embed texts1.ndjson
var examples1 []byte

var dictionary1 = s2.MakeDict(examples1, nil)

// appendText appends a text as it is stored.
func appendText(b, text []byte) []byte {
	const minPacked = 32
	if most := 1 + s2.MaxEncodedLen(len(text)); len(text) >= minPacked && most > 0 {
		b = slices.Grow(b, most)
		at := len(b) + 1
		if packed := dictionary1.Encode(b[at:len(b)+most], text); len(packed) < len(text) {
			return append(append(b, textPacked1), packed...) // it is there already
		}
	}
	if len(text) > 0 && text[0] <= lastMark {
		b = append(b, textAsItIs)
	}
	return append(b, text...)
}

// storedText is one text by itself as it is stored.
func storedText(text []byte) []byte { return slices.Clip(appendText(nil, text)) }

// readText undoes appendText. The result shares nothing with b.
func readText(b []byte) ([]byte, error) {
	switch {
	case len(b) == 0 || b[0] > lastMark:
		return bytes.Clone(b), nil
	case b[0] == textAsItIs:
		return bytes.Clone(b[1:]), nil
	case b[0] != textPacked1:
		return nil, fmt.Errorf("a stored text of form %d, which this version does not know", b[0])
	}
	n, err := s2.DecodedLen(b[1:])
	if err != nil || n > maxStoredText {
		return nil, errors.Join(errors.New("a stored text is damaged"), err)
	}
	text, err := dictionary1.Decode(make([]byte, n), b[1:])
	if err != nil {
		return nil, fmt.Errorf("a stored text is damaged: %w", err)
	}
	return text, nil
}

// textOf scans a column that holds a stored text.
type textOf struct{ into *[]byte }

// Scan is of [sql.Scanner].
func (t textOf) Scan(column any) (err error) {
	b, ok := column.([]byte)
	if !ok && column != nil {
		return fmt.Errorf("a stored text is a %T", column)
	}
	*t.into, err = readText(b)
	return err
}
