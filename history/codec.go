package history

import (
	"encoding/binary"
	"errors"

	"vaglio"
)

// The payload of a fact: a version byte, then integers as varints and strings behind their length.
const codecVersion = 1

var errPayload = errors.New("a stored fact is damaged or of a newer version")

func appendFact(b []byte, f *vaglio.Fact) []byte {
	b = append(b, codecVersion)
	b = appendString(b, f.ID)
	b = appendString(b, f.Kind)
	b = binary.AppendVarint(b, int64(f.OccurredAt))
	b = binary.AppendVarint(b, int64(f.ObservedAt-f.OccurredAt))
	b = appendString(b, f.Currency)
	b = binary.AppendVarint(b, f.Amount)
	known := byte(0)
	if f.BaseKnown {
		known = 1
	}
	b = append(b, known)
	b = binary.AppendVarint(b, f.BaseAmount)
	b = appendFields(b, f.Entities)
	return appendFields(b, f.Attributes)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFields(b []byte, fs vaglio.Fields) []byte {
	b = binary.AppendUvarint(b, uint64(len(fs)))
	for _, f := range fs {
		b = appendString(appendString(b, f.Name), f.Value)
	}
	return b
}

func decodeFact(b []byte) (f vaglio.Fact, err error) {
	return f, decodeInto(&f, string(b))
}

// decodeInto overwrites a fact, with room for its fields reused. Its strings are parts of the payload.
func decodeInto(f *vaglio.Fact, payload string) error {
	r := reader{rest: payload}
	if err := r.fact(f); err != nil {
		return err
	}
	if r.rest != "" {
		return errPayload
	}
	return nil
}

// Packed is a fact in its stored form, a third of the memory of a [vaglio.Fact].
type Packed string

// Pack packs a fact.
func Pack(f *vaglio.Fact) Packed { return Packed(appendFact(nil, f)) }

// Unpack returns the fact. It panics on what Pack did not make.
func (p Packed) Unpack() (f vaglio.Fact) {
	if err := decodeInto(&f, string(p)); err != nil {
		panic("history: " + err.Error())
	}
	return f
}

// reader takes payloads apart; all its strings share one allocation.
type reader struct {
	rest   string
	failed bool
	chunk  int            // for how many fields room is made at once; 0: for those of one list
	room   []vaglio.Field // that is left
}

// fact reads the next fact, with room for its fields reused.
func (r *reader) fact(f *vaglio.Fact) error {
	if version := r.take(1); version == "" || version[0] != codecVersion {
		return errPayload
	}
	f.ID = r.text()
	f.Kind = r.text()
	f.OccurredAt = vaglio.Instant(r.varint())
	f.ObservedAt = f.OccurredAt + vaglio.Instant(r.varint())
	f.Currency = r.text()
	f.Amount = r.varint()
	f.BaseKnown = r.take(1) == "\x01"
	f.BaseAmount = r.varint()
	f.Entities = r.fields(f.Entities)
	f.Attributes = r.fields(f.Attributes)
	if r.failed {
		return errPayload
	}
	f.KnownAt = f.Event.KnownAt()
	return nil
}

func (r *reader) take(n uint64) string {
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		c := r.take(1)
		if c == "" {
			return 0
		}
		v |= uint64(c[0]&0x7f) << shift
		if c[0] < 0x80 {
			return v
		}
	}
	r.failed = true
	return 0
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (r *reader) text() string { return r.take(r.uvarint()) }

// fields reads into the room of fs.
func (r *reader) fields(fs vaglio.Fields) vaglio.Fields {
	n := r.uvarint()
	if n > vaglio.MaxFields {
		r.failed = true
	}
	if n == 0 || r.failed {
		return fs[:0]
	}
	if cap(fs) < int(n) {
		if len(r.room) < int(n) {
			r.room = make([]vaglio.Field, max(int(n), r.chunk))
		}
		fs, r.room = r.room[:n:n], r.room[n:]
	}
	fs = fs[:n]
	for i := range fs {
		fs[i] = vaglio.Field{Name: r.text(), Value: r.text()}
	}
	return fs
}
