package ingest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	exprast "github.com/expr-lang/expr/ast"

	"github.com/expr-lang/expr"

	"vaglio"
)

// functions are those that a mapping's expressions have beside expr's own.
type functions struct {
	decimal byte
	zone    *time.Location
}

var functionNames = []string{"time", "hours", "minutes", "days", "minor", "round_minor", "number", "int", "hash"}

// maxInt bounds whole numbers in expressions: far above any amount, and a group's sum of them still fits 63 bits.
const maxInt = 50 * vaglio.MaxAmount

// options offers the functions to expr, with whole-number arithmetic that never overflows, and without expr's clock,
// its own reading of dates and its own int, which takes fractions.
func (f functions) options() []expr.Option {
	units := func(unit time.Duration) func(...any) (any, error) {
		return func(args ...any) (any, error) {
			n, ok := args[0].(float64)
			if i, isInt := args[0].(int); isInt {
				n, ok = float64(i), true
			}
			if d := n * float64(unit); ok && math.Abs(d) < float64(100*366*24*time.Hour) {
				return time.Duration(d), nil
			}
			return nil, fmt.Errorf("%v is no number of at most a hundred years", args[0])
		}
	}
	spanTypes := []any{new(func(int) time.Duration), new(func(float64) time.Duration)}
	options := []expr.Option{
		expr.Function("time", f.time, new(func(string) time.Time), new(func(string, string) time.Time)),
		expr.Function("minutes", units(time.Minute), spanTypes...),
		expr.Function("hours", units(time.Hour), spanTypes...),
		expr.Function("days", units(24*time.Hour), spanTypes...),
		expr.Function("minor", f.money(minorUnits), new(func(string, string) int)),
		expr.Function("round_minor", f.money(roundedMinorUnits), new(func(string, string) int)),
		expr.Function("number", f.number, new(func(string) float64)),
		expr.DisableBuiltin("int"),
		expr.Function("int", integer, new(func(string) int), new(func(int) int)),
		expr.Function("hash", hash, new(func(...string) string)),
		expr.DisableBuiltin("now"), expr.DisableBuiltin("date"), expr.DisableBuiltin("timezone"), expr.DisableBuiltin("float"),
	}
	for operator, checked := range map[string]func(a, b int) int{
		"+": func(a, b int) int { return a + b },
		"-": func(a, b int) int { return a - b },
		"*": func(a, b int) int {
			if a != 0 && abs(b) > maxInt/abs(a) {
				return maxInt + 1
			}
			return a * b
		},
	} {
		name := map[string]string{"+": "checked_add", "-": "checked_subtract", "*": "checked_multiply"}[operator]
		options = append(options, expr.Operator(operator, name), expr.Function(name, func(args ...any) (any, error) {
			return bounded(checked(args[0].(int), args[1].(int)))
		}, new(func(int, int) int)))
	}
	return options
}

func abs(n int) int { return max(n, -n) }

func bounded(n int) (any, error) {
	if abs(n) > maxInt {
		return nil, fmt.Errorf("the number is beyond %d", int64(maxInt))
	}
	return n, nil
}

// letUses notes the names that an expression uses.
type letUses struct{ names map[string]bool }

func (u *letUses) Visit(node *exprast.Node) {
	if id, ok := (*node).(*exprast.IdentifierNode); ok {
		if u.names == nil {
			u.names = map[string]bool{}
		}
		u.names[id.Value] = true
	}
}

// layouts that time tries when none is given.
var layouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"}

// time reads a moment. A layout is one of Go's, "unix" (seconds) or "unix_ms". Without a zone in the text the mapping's
// counts: a local time that a change of clocks skips is an error, of one that comes twice the first is meant.
func (f functions) time(args ...any) (any, error) {
	s := args[0].(string)
	if len(args) == 1 {
		for _, layout := range layouts {
			if t, err := f.parse(layout, s); err == nil || errors.Is(err, errSkipped) {
				return t, err
			}
		}
		return nil, fmt.Errorf("%q is not a time such as 2026-11-22 10:00:00; give a layout", s)
	}
	switch layout := args[1].(string); layout {
	case "unix", "unix_ms":
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || n > 1e14 {
			return nil, fmt.Errorf("%q is not a number of seconds or milliseconds since 1970", s)
		}
		if layout == "unix" {
			return time.Unix(n, 0).UTC(), nil
		}
		return time.UnixMilli(n).UTC(), nil
	default:
		t, err := f.parse(layout, s)
		if err != nil && !errors.Is(err, errSkipped) {
			return nil, fmt.Errorf("%q is not a time of the layout %q", s, layout)
		}
		return t, err
	}
}

var errSkipped = errors.New("does not exist")

func (f functions) parse(layout, s string) (time.Time, error) {
	t, err := time.ParseInLocation(layout, s, f.zone)
	if err != nil || strings.Contains(layout, "Z07") || strings.Contains(layout, "-07") || strings.Contains(layout, "MST") {
		return t, err
	}
	wall, err := time.Parse(layout, s)
	if err != nil {
		return t, err
	}
	same := func(t time.Time) bool {
		_, offset := t.Zone()
		return t.Unix()+int64(offset) == wall.Unix()
	}
	if !same(t) {
		return t, fmt.Errorf("%q %w in %s: clocks were put forward", s, errSkipped, f.zone)
	}
	_, before := t.Add(-24 * time.Hour).Zone()
	if earlier := wall.Add(-time.Duration(before) * time.Second).In(f.zone); same(earlier) {
		return earlier, nil
	}
	return t, nil
}

// money makes a function of (text, currency) of one of text, digits and decimal sign.
func (f functions) money(convert func(s string, decimal byte, digits int) (int64, error)) func(...any) (any, error) {
	return func(args ...any) (any, error) {
		digits, ok := vaglio.CurrencyDigits(args[1].(string))
		if !ok {
			return nil, fmt.Errorf("%q is not an ISO 4217 code", args[1])
		}
		n, err := convert(args[0].(string), f.decimal, digits)
		return int(n), err
	}
}

// minorUnits reads a decimal number as minor units, exactly: no exponent, no thousands sign, no more digits than there
// are, but zeros.
func minorUnits(s string, decimal byte, digits int) (int64, error) {
	n, rest, err := cutDecimal(s, decimal, digits)
	if err == nil && strings.Trim(rest, "0") != "" {
		err = fmt.Errorf("%q has more than %d decimals; round_minor would round it", s, digits)
	}
	return n, err
}

// roundedMinorUnits rounds to the nearest minor unit, halves away from zero.
func roundedMinorUnits(s string, decimal byte, digits int) (int64, error) {
	n, rest, err := cutDecimal(s, decimal, digits)
	switch {
	case err != nil || rest == "" || rest[0] < '5':
		return n, err
	case strings.HasPrefix(s, "-"):
		return n - 1, nil
	default:
		return n + 1, nil
	}
}

// cutDecimal reads the minor units, cut, and the decimals that are left.
func cutDecimal(s string, decimal byte, digits int) (n int64, rest string, err error) {
	unsigned := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	whole, fraction, dotted := strings.Cut(unsigned, string(decimal))
	if !isDigits(whole) || dotted && !isDigits(fraction) || len(s)-len(unsigned) > 1 {
		return 0, "", fmt.Errorf("%q is not a decimal number such as 12%c50", s, decimal)
	}
	if len(fraction) > digits {
		fraction, rest = fraction[:digits], fraction[digits:]
	}
	n, err = strconv.ParseInt(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
	if err != nil || n > vaglio.MaxAmount {
		return 0, "", fmt.Errorf("%q is more than %d minor units", s, int64(vaglio.MaxAmount))
	}
	if strings.HasPrefix(s, "-") {
		n = -n
	}
	return n, rest, nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// number is for conditions; money goes by minor.
func (f functions) number(args ...any) (any, error) {
	s := args[0].(string)
	n, err := strconv.ParseFloat(strings.Replace(s, string(f.decimal), ".", 1), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return nil, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

func integer(args ...any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return bounded(args[0].(int))
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number", s)
	}
	return bounded(n)
}

// hash is the first 32 hexadecimal digits of the SHA-256 of its arguments, each followed by a zero byte.
func hash(args ...any) (any, error) {
	h := sha256.New()
	for _, arg := range args {
		h.Write([]byte(arg.(string)))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
