package vaglio

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// scanEvent reads the usual form of an event, several times as fast as a general decoder: known members, each once and in
// any order, strings without escapes, times in UTC. False says only that this line is not of that form, right or wrong:
// the strict decoder is then to decide, so both together accept and answer exactly what it would alone. The event's
// strings share one allocation.
func scanEvent(b []byte) (e Event, hasAmount, ok bool) {
	if !utf8.Valid(b) {
		return e, false, false
	}
	s := scanner{text: string(b)}
	s.object(func(name string) bool {
		switch name {
		case "id":
			e.ID = s.string()
		case "kind":
			e.Kind = s.string()
		case "occurred_at":
			e.OccurredAt = s.instant()
		case "observed_at":
			e.ObservedAt = s.instant()
		case "entities":
			e.Entities = s.fields()
		case "attributes":
			e.Attributes = s.fields()
		case "amount":
			e.Amount, hasAmount = s.integer(), true
		case "currency":
			e.Currency = s.string()
		default:
			return false
		}
		return true
	})
	return e, hasAmount, s.ended()
}

// maxScanned bounds the requests that are scanned: the whole text lives as long as any string of the request does.
const maxScanned = 4 << 10

// scanRequest reads the usual form of a request, as scanEvent does that of an event.
func scanRequest(b []byte) (r Request, ok bool) {
	if len(b) > maxScanned || !utf8.Valid(b) {
		return r, false
	}
	s := scanner{text: string(b)}
	s.object(func(name string) bool {
		switch name {
		case "id":
			r.ID = s.string()
		case "type":
			r.Type = s.string()
		case "entities":
			r.Entities = s.fields()
		case "amount":
			r.Amount = s.integer()
		case "currency":
			r.Currency = s.string()
		case "partial":
			r.Partial = s.boolean()
		case "reason":
			r.Reason = s.string()
		case "requested_at":
			r.RequestedAt = s.instant()
		case "requested_by":
			r.RequestedBy = s.string()
		case "authentication":
			r.Authentication = s.string()
		case "payment":
			r.Payment = s.payment()
		case "attributes":
			r.Attributes = s.fields()
		case "language":
			r.Language = s.string()
		default:
			return false
		}
		return true
	})
	return r, s.ended()
}

func (s *scanner) payment() *PaymentState {
	p := new(PaymentState)
	s.object(func(name string) bool {
		switch name {
		case "rail":
			p.Rail = s.string()
		case "state":
			p.State = s.string()
		case "captured_amount":
			captured := s.integer()
			p.CapturedAmount = &captured
		case "reversible_until":
			p.ReversibleUntil = s.instant()
		default:
			return false
		}
		return true
	})
	return p
}

// scanner reads a text from its beginning. Once failed it stays where it is.
type scanner struct {
	text   string
	at     int
	failed bool
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// next takes one byte, after any space, if it is c.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.failed || s.at >= len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// ended reports whether all was read, and well.
func (s *scanner) ended() bool {
	s.space()
	return !s.failed && s.at == len(s.text)
}

func (s *scanner) expect(c byte) {
	if !s.next(c) {
		s.failed = true
	}
}

// object is members for few names, each of which may come once.
func (s *scanner) object(read func(name string) bool) {
	var room [16]string
	seen := room[:0]
	s.members(func(name string) bool {
		if len(seen) == cap(seen) || slices.Contains(seen, name) {
			return false
		}
		seen = append(seen, name)
		return read(name)
	})
}

// members reads an object; read takes the value of each member and answers false for one that it does not want.
func (s *scanner) members(read func(name string) bool) {
	s.expect('{')
	if s.next('}') {
		return
	}
	for !s.failed {
		name := s.string()
		s.expect(':')
		if s.failed || !read(name) {
			s.failed = true
			return
		}
		if s.next('}') {
			return
		}
		s.expect(',')
	}
}

func (s *scanner) string() string {
	s.expect('"')
	if s.failed {
		return ""
	}
	for i := s.at; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			v := s.text[s.at:i]
			s.at = i + 1
			return v
		case c == '\\' || c < ' ':
			s.failed = true
			return ""
		}
	}
	s.failed = true
	return ""
}

// integer reads a whole number of at most 18 digits, which any int64 holds.
func (s *scanner) integer() int64 {
	negative := s.next('-') // skips space before it
	start := s.at
	var n int64
	for ; s.at < len(s.text) && s.at-start < 19 && '0' <= s.text[s.at] && s.text[s.at] <= '9'; s.at++ {
		n = 10*n + int64(s.text[s.at]-'0')
	}
	digits := s.at - start
	if digits == 0 || digits > 18 || digits > 1 && s.text[start] == '0' {
		s.failed = true // a fraction or an exponent fails at the next byte
	}
	if negative {
		return -n
	}
	return n
}

func (s *scanner) boolean() bool {
	s.space()
	rest := s.text[s.at:]
	switch {
	case strings.HasPrefix(rest, "true"):
		s.at += len("true")
		return true
	case strings.HasPrefix(rest, "false"):
		s.at += len("false")
	default:
		s.failed = true
	}
	return false
}

func (s *scanner) instant() Instant {
	at, ok := plainInstant(s.string())
	if !ok {
		s.failed = true
	}
	return at
}

func (s *scanner) fields() Fields {
	var buffer [12]Field
	fs := Fields(buffer[:0])
	s.members(func(name string) bool {
		value := s.string()
		if known, ok := wellKnownNames[name]; ok {
			name = known
		}
		fs = append(fs, Field{name, value})
		return true
	})
	if len(fs) == 0 {
		return nil
	}
	byName := func(a, b Field) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(fs, byName) {
		slices.SortFunc(fs, byName)
	}
	for i := 1; i < len(fs); i++ {
		if fs[i].Name == fs[i-1].Name {
			s.failed = true
		}
	}
	return slices.Clone(fs)
}

// plainInstant reads RFC 3339 in UTC ("2026-11-22T10:00:00.123Z", up to nine decimals). False says nothing about the text.
func plainInstant(s string) (Instant, bool) {
	const seconds = "2006-01-02T15:04:05"
	if len(s) <= len(seconds) || s[len(s)-1] != 'Z' || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	failed := false
	number := func(from, until int) int {
		n := 0
		for _, c := range []byte(s[from:until]) {
			if c < '0' || c > '9' {
				failed = true
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	millisecond := 0
	if fraction := s[len(seconds) : len(s)-1]; fraction != "" {
		if fraction[0] != '.' || len(fraction) < 2 || len(fraction) > 10 {
			return 0, false
		}
		number(20, len(s)-1)
		millisecond = number(20, min(23, len(s)-1))
		for range 4 - min(len(fraction), 4) {
			millisecond *= 10
		}
	}
	if failed || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	before := daysBefore(year, month)
	if day < 1 || day > daysBefore(year, month+1)-before {
		return 0, false
	}
	i := Instant(before+day-1)*Day + Instant(hour)*Hour + Instant(minute)*Minute + Instant(second)*Second + Instant(millisecond)
	return i, i >= minInstant && i < maxInstant
}

// daysBefore counts the days from 1970-01-01 to the first of a month, of which the 13th is the next January, in the
// Gregorian calendar, with years that begin in March: http://howardhinnant.github.io/date_algorithms.html#days_from_civil.
func daysBefore(year, month int) int {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 - 719468
}
