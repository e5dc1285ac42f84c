package features

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// The language of `expr` and `where` is expr-lang's syntax over numbers and strings, compiled to closures that allocate
// nothing. A missing operand (NaN, or a string that is absent) makes a comparison missing, not false; `and` and `or`
// follow Kleene's logic; a condition holds only if it is 1. x/0 is missing.

// number is a compiled expression of numbers; conditions are 1, 0 or NaN (missing).
type number func(*scratch) float64

// text is a compiled expression of strings, as their hashes; 0 is absent.
type text func(*scratch) uint64

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
	if len(source) > 4096 {
		return nil, fmt.Errorf("the expression is longer than 4096 bytes")
	}
	tree, err := parser.Parse(source)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%q: %s", source, first)
	}
	n, err := c.number(tree.Node)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", source, err)
	}
	return n, nil
}

func (c *compiler) number(node ast.Node) (number, error) {
	switch n := node.(type) {
	case *ast.IntegerNode:
		v := float64(n.Value)
		return func(*scratch) float64 { return v }, nil
	case *ast.FloatNode:
		v := n.Value
		return func(*scratch) float64 { return v }, nil
	case *ast.BoolNode:
		v := truth(n.Value)
		return func(*scratch) float64 { return v }, nil
	case *ast.IdentifierNode, *ast.MemberNode:
		return c.numberAt(node)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.BuiltinNode:
		return c.call(n.Name, n.Arguments)
	case *ast.CallNode:
		if name, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(name.Value, n.Arguments)
		}
	}
	return nil, fmt.Errorf("%s is not part of the language of features", node)
}

func (c *compiler) numberAt(node ast.Node) (number, error) {
	path, err := pathOf(node)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(path, "request."); ok {
		c.asks = true
		if name == "amount" {
			c.amount = true
			if c.own {
				return func(s *scratch) float64 { return float64(s.request.Amount) }, nil
			}
			return func(s *scratch) float64 {
				if !s.request.BaseKnown {
					return math.NaN()
				}
				return float64(s.request.BaseAmount)
			}, nil
		}
		if n, ok := requestNumber(name); ok {
			return n, nil
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

func (c *compiler) text(node ast.Node) (text, error) {
	if n, ok := node.(*ast.StringNode); ok {
		if n.Value == "" {
			return nil, fmt.Errorf(`there are no empty strings; missing(x) tells whether one is absent`)
		}
		v := hash(n.Value)
		return func(*scratch) uint64 { return v }, nil
	}
	path, err := pathOf(node)
	if err != nil {
		return nil, err
	}
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
func (c *compiler) isText(node ast.Node) bool {
	if _, ok := node.(*ast.StringNode); ok {
		return true
	}
	path, err := pathOf(node)
	if err != nil {
		return false
	}
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
	c.paths = append(c.paths, name)
	return len(c.paths) - 1, nil
}

func pathOf(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.IdentifierNode:
		return n.Value, nil
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.MemberNode:
		base, err := pathOf(n.Node)
		if name, ok := n.Property.(*ast.StringNode); ok && err == nil {
			return base + "." + name.Value, nil
		}
	}
	return "", fmt.Errorf("%s is not part of the language of features", node)
}

func (c *compiler) unary(n *ast.UnaryNode) (number, error) {
	x, err := c.number(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "-":
		return func(s *scratch) float64 { return -x(s) }, nil
	case "+":
		return x, nil
	case "not", "!":
		return func(s *scratch) float64 { return 1 - condition(x(s)) }, nil
	}
	return nil, fmt.Errorf("the operator %s is not part of the language of features", n.Operator)
}

// condition is 1 for any number but 0, NaN for NaN.
func condition(v float64) float64 {
	if v != v {
		return v
	}
	return truth(v != 0)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *compiler) binary(n *ast.BinaryNode) (number, error) {
	switch {
	case n.Operator == "in" || n.Operator == "not in":
		return c.in(n)
	case (n.Operator == "==" || n.Operator == "!=") && (c.isText(n.Left) || c.isText(n.Right)):
		return c.equalTexts(n)
	}
	x, err := c.number(n.Left)
	if err != nil {
		return nil, err
	}
	y, err := c.number(n.Right)
	if err != nil {
		return nil, err
	}
	operate, ok := operators[n.Operator]
	if !ok {
		return nil, fmt.Errorf("the operator %s is not part of the language of features", n.Operator)
	}
	return func(s *scratch) float64 { return operate(x(s), y(s)) }, nil
}

// The conversion of the product keeps it from being fused with a sum: see exact.go.
var operators = map[string]func(x, y float64) float64{
	"+": func(x, y float64) float64 { return x + y },
	"-": func(x, y float64) float64 { return x - y },
	"*": func(x, y float64) float64 { return float64(x * y) },
	"/": func(x, y float64) float64 {
		if y == 0 {
			return math.NaN()
		}
		return x / y
	},
	"<":   func(x, y float64) float64 { return compare(x, y, x < y) },
	"<=":  func(x, y float64) float64 { return compare(x, y, x <= y) },
	">":   func(x, y float64) float64 { return compare(x, y, x > y) },
	">=":  func(x, y float64) float64 { return compare(x, y, x >= y) },
	"==":  func(x, y float64) float64 { return compare(x, y, x == y) },
	"!=":  func(x, y float64) float64 { return compare(x, y, x != y) },
	"and": and, "&&": and,
	"or": or, "||": or,
}

func compare(x, y float64, outcome bool) float64 {
	if x != x || y != y {
		return math.NaN()
	}
	return truth(outcome)
}

func and(x, y float64) float64 {
	switch x, y = condition(x), condition(y); {
	case x == 0 || y == 0:
		return 0
	default:
		return x * y // NaN if either is
	}
}

func or(x, y float64) float64 {
	switch x, y = condition(x), condition(y); {
	case x == 1 || y == 1:
		return 1
	default:
		return x + y
	}
}

func (c *compiler) equalTexts(n *ast.BinaryNode) (number, error) {
	x, err := c.text(n.Left)
	if err != nil {
		return nil, err
	}
	y, err := c.text(n.Right)
	if err != nil {
		return nil, err
	}
	equal := n.Operator == "=="
	return func(s *scratch) float64 {
		a, b := x(s), y(s)
		if a == 0 || b == 0 {
			return math.NaN()
		}
		return truth((a == b) == equal)
	}, nil
}

func (c *compiler) in(n *ast.BinaryNode) (number, error) {
	x, err := c.text(n.Left)
	if err != nil {
		return nil, err
	}
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return nil, fmt.Errorf("`in` wants a list of strings in brackets")
	}
	var values []uint64
	for _, element := range list.Nodes {
		s, ok := element.(*ast.StringNode)
		if !ok {
			return nil, fmt.Errorf("`in` wants a list of strings in brackets")
		}
		values = append(values, hash(s.Value))
	}
	within := n.Operator == "in"
	return func(s *scratch) float64 {
		a := x(s)
		if a == 0 {
			return math.NaN()
		}
		return truth(slices.Contains(values, a) == within)
	}, nil
}

func (c *compiler) conditional(n *ast.ConditionalNode) (number, error) {
	parts := [3]number{}
	for i, node := range []ast.Node{n.Cond, n.Exp1, n.Exp2} {
		var err error
		if parts[i], err = c.number(node); err != nil {
			return nil, err
		}
	}
	return func(s *scratch) float64 {
		switch condition(parts[0](s)) {
		case 1:
			return parts[1](s)
		case 0:
			return parts[2](s)
		default:
			return math.NaN()
		}
	}, nil
}

// Only functions whose result IEEE 754 fixes: others differ between machines in the last bit.
var calls1 = map[string]func(float64) float64{"abs": math.Abs, "floor": math.Floor, "ceil": math.Ceil, "sqrt": math.Sqrt}

var calls2 = map[string]func(x, y float64) float64{"min": math.Min, "max": math.Max}

func (c *compiler) call(name string, args []ast.Node) (number, error) {
	switch {
	case name == "missing" && len(args) == 1 && c.isText(args[0]):
		x, err := c.text(args[0])
		return func(s *scratch) float64 { return truth(x(s) == 0) }, err
	case name == "missing" && len(args) == 1:
		x, err := c.number(args[0])
		return func(s *scratch) float64 { v := x(s); return truth(v != v) }, err
	case name == "number" && len(args) == 1 && c.columns != nil:
		path, err := pathOf(args[0])
		attribute, ok := strings.CutPrefix(path, "attributes.")
		if err != nil || !ok {
			return nil, fmt.Errorf("number() reads an event's attribute: number(attributes.NAME)")
		}
		return c.decimalColumn(column{columnDecimal, attribute}, decimalScale), nil
	case calls1[name] != nil && len(args) == 1:
		f := calls1[name]
		x, err := c.number(args[0])
		return func(s *scratch) float64 { return f(x(s)) }, err
	case calls2[name] != nil && len(args) == 2:
		f := calls2[name]
		x, err := c.number(args[0])
		if err != nil {
			return nil, err
		}
		y, err := c.number(args[1])
		return func(s *scratch) float64 { return f(x(s), y(s)) }, err
	}
	return nil, fmt.Errorf("there is no function %s of %d arguments", name, len(args))
}
