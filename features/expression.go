package features

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"vaglio/expression"
)

// number and text are compiled expressions over one computation: see package expression for the language of `expr` and
// `where`.
type (
	number = expression.Number[*scratch]
	text   = expression.Text[*scratch]
)

// compiler compiles one expression of one feature. columns adds a column of the events' layout; nil in `expr`, which
// sees features instead.
type compiler struct {
	catalogue *Catalogue
	columns   func(column) int
	own       bool     // request.amount is in the request's own currency, not in the base currency
	reads     []string // features that the expression read
	asks      bool     // it read the request
	amount    bool     // it read request.amount
}

func (c *compiler) compile(source string) (number, error) {
	language := expression.Language[*scratch]{Name: "the language of features", IsText: isText, Number: c.number, Text: c.text, Call: c.call}
	return language.Compile(source)
}

func (c *compiler) number(path string) (number, error) {
	if name, ok := strings.CutPrefix(path, "request."); ok {
		c.asks = true
		c.amount = c.amount || name == "amount"
		if name == "amount" && c.own {
			return func(s *scratch) float64 { return float64(s.request.Amount) }, nil
		}
		if read := RequestNumber(name); read != nil {
			return func(s *scratch) float64 { return read(s.request) }, nil
		}
		return nil, fmt.Errorf("request.%s is not a number", name)
	}
	if c.columns != nil {
		if path == "amount" {
			return c.decimalColumn(column{kind: columnBase}, 1), nil
		}
		return nil, fmt.Errorf("an event has no number %q; number(attributes.%s) reads an attribute", path, path)
	}
	i := c.catalogue.index(path)
	if i < 0 {
		return nil, fmt.Errorf("there is no feature %q", path)
	}
	c.reads = append(c.reads, path)
	return func(s *scratch) float64 { return s.vector[i] }, nil
}

func (c *compiler) decimalColumn(col column, scale float64) number {
	i := c.columns(col)
	return func(s *scratch) float64 {
		if v := s.row.value(i); v != absent && v != unknown {
			return float64(v) / scale
		}
		return math.NaN()
	}
}

func (c *compiler) text(path string) (text, error) {
	if name, ok := strings.CutPrefix(path, "request."); ok {
		c.asks = true
		i, err := c.catalogue.path(name)
		if err != nil {
			return nil, err
		}
		return func(s *scratch) uint64 { return s.strings[i] }, nil
	}
	section, name, _ := strings.Cut(path, ".")
	var col column
	switch {
	case c.columns == nil:
		return nil, fmt.Errorf("%q is not a string of the request", path)
	case section == "attributes" && name != "":
		col = column{columnAttribute, name}
	case section == "entities" && name != "":
		col = column{columnEntity, name}
	default:
		return nil, fmt.Errorf("an event has no string %q", path)
	}
	i := c.columns(col)
	return func(s *scratch) uint64 { return uint64(s.row.value(i)) }, nil
}

// isText tells strings from numbers by their form alone.
func isText(path string) bool {
	path, ofRequest := strings.CutPrefix(path, "request.")
	return strings.HasPrefix(path, "attributes.") || strings.HasPrefix(path, "entities.") ||
		ofRequest && slices.Contains(requestTexts, path)
}

var requestTexts = []string{"reason", "type", "currency"}

// path is the place of one of the request's strings among those that are looked up once per vector.
func (c *Catalogue) path(name string) (int, error) {
	section, member, nested := strings.Cut(name, ".")
	if nested && (section != "attributes" && section != "entities" || member == "") || !nested && !slices.Contains(requestTexts, name) {
		return 0, fmt.Errorf("a request has no string %q: there are %s, attributes.NAME and entities.KIND", name, strings.Join(requestTexts, ", "))
	}
	if i := slices.Index(c.paths, name); i >= 0 {
		return i, nil
	}
	c.paths, c.texts = append(c.paths, name), append(c.texts, RequestText(name))
	return len(c.paths) - 1, nil
}

// call compiles the functions of features alone.
func (c *compiler) call(name string, args []expression.Node) (number, error) {
	if name != "number" || len(args) != 1 || c.columns == nil {
		return nil, nil
	}
	attribute, ok := strings.CutPrefix(expression.PathOf(args[0]), "attributes.")
	if !ok {
		return nil, fmt.Errorf("number() reads an event's attribute: number(attributes.NAME)")
	}
	return c.decimalColumn(column{columnDecimal, attribute}, decimalScale), nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
