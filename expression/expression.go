// Package expression compiles the small language of conditions and formulas that features and policies share: expr-lang's
// syntax over numbers and strings, made into closures that allocate nothing. A missing operand (NaN, or a string that is
// absent) makes a comparison missing, not false; `and` and `or` follow Kleene's logic; a condition holds only if it is 1.
// x/0 is missing. What names mean is up to a [Language].
package expression

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// Limits of an expression.
const (
	MaxBytes = 4096
	maxDepth = 100
)

// Node is a part of a parsed expression.
type Node = ast.Node

// Number is a compiled expression of numbers; conditions are 1, 0 or NaN (missing).
type Number[S any] func(S) float64

// Text is a compiled expression of strings, as their [Hash].
type Text[S any] func(S) uint64

// Hash stands for a string; 0 is an absent one.
func Hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return max(xxhash.Sum64String(s), 1)
}

// Language gives names their meaning, over what a computation knows (S). A path is a name with members, "request.amount".
type Language[S any] struct {
	Name   string // in errors: "the language of features"
	IsText func(path string) bool
	Number func(path string) (Number[S], error)
	Text   func(path string) (Text[S], error)
	Call   func(name string, args []Node) (Number[S], error) // functions of its own; nil and no error for another's name
}

// Parse reads an expression.
func Parse(source string) (Node, error) {
	if len(source) > MaxBytes {
		return nil, fmt.Errorf("the expression is longer than %d bytes", MaxBytes)
	}
	tree, err := parser.Parse(source)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%q: %s", source, first)
	}
	return tree.Node, nil
}

// Compile parses and compiles an expression of a number or condition.
func (l *Language[S]) Compile(source string) (Number[S], error) {
	node, err := Parse(source)
	if err != nil {
		return nil, err
	}
	n, err := l.CompileNode(node)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", source, err)
	}
	return n, nil
}

// CompileNode compiles a part of an expression.
func (l *Language[S]) CompileNode(node Node) (Number[S], error) {
	c := compiler[S]{Language: l}
	return c.number(node)
}

// CompileText compiles a part of an expression that is a string.
func (l *Language[S]) CompileText(node Node) (Text[S], error) {
	c := compiler[S]{Language: l}
	return c.text(node)
}

// PathOf is the name that a node is; "" if it is none.
func PathOf(node Node) string {
	switch n := node.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.ChainNode:
		return PathOf(n.Node)
	case *ast.MemberNode:
		if name, ok := n.Property.(*ast.StringNode); ok {
			if base := PathOf(n.Node); base != "" {
				return base + "." + name.Value
			}
		}
	}
	return ""
}

type compiler[S any] struct {
	*Language[S]
	depth int
}

func (c *compiler[S]) foreign(what any) error {
	return fmt.Errorf("%s is not part of %s", what, c.Name)
}

func (c *compiler[S]) number(node Node) (Number[S], error) {
	if c.depth++; c.depth > maxDepth {
		return nil, fmt.Errorf("the expression is nested deeper than %d", maxDepth)
	}
	defer func() { c.depth-- }()
	constant := func(v float64) (Number[S], error) { return func(S) float64 { return v }, nil }
	switch n := node.(type) {
	case *ast.IntegerNode:
		return constant(float64(n.Value))
	case *ast.FloatNode:
		return constant(n.Value)
	case *ast.BoolNode:
		return constant(truth(n.Value))
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		if path := PathOf(node); path != "" {
			return c.Number(path)
		}
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
	return nil, c.foreign(node)
}

func (c *compiler[S]) text(node Node) (Text[S], error) {
	if n, ok := node.(*ast.StringNode); ok {
		if n.Value == "" {
			return nil, fmt.Errorf(`there are no empty strings; missing(x) tells whether one is absent`)
		}
		v := Hash(n.Value)
		return func(S) uint64 { return v }, nil
	}
	if path := PathOf(node); path != "" {
		return c.Text(path)
	}
	return nil, c.foreign(node)
}

// isText tells strings from numbers by their form alone.
func (c *compiler[S]) isText(node Node) bool {
	if _, ok := node.(*ast.StringNode); ok {
		return true
	}
	path := PathOf(node)
	return path != "" && c.IsText(path)
}

func (c *compiler[S]) unary(n *ast.UnaryNode) (Number[S], error) {
	x, err := c.number(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "-":
		return func(s S) float64 { return -x(s) }, nil
	case "+":
		return x, nil
	case "not", "!":
		return func(s S) float64 { return 1 - condition(x(s)) }, nil
	}
	return nil, c.foreign("the operator " + n.Operator)
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

func (c *compiler[S]) binary(n *ast.BinaryNode) (Number[S], error) {
	switch {
	case n.Operator == "in" || n.Operator == "not in":
		return c.in(n)
	case (n.Operator == "==" || n.Operator == "!=") && (c.isText(n.Left) || c.isText(n.Right)):
		return c.equalTexts(n)
	}
	operate, ok := operators[n.Operator]
	if !ok {
		return nil, c.foreign("the operator " + n.Operator)
	}
	x, err := c.number(n.Left)
	if err != nil {
		return nil, err
	}
	y, err := c.number(n.Right)
	if err != nil {
		return nil, err
	}
	return func(s S) float64 { return operate(x(s), y(s)) }, nil
}

// The conversion of the product keeps it from being fused with a sum: features are the same bit for bit on every machine.
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

func (c *compiler[S]) equalTexts(n *ast.BinaryNode) (Number[S], error) {
	x, err := c.text(n.Left)
	if err != nil {
		return nil, err
	}
	y, err := c.text(n.Right)
	if err != nil {
		return nil, err
	}
	equal := n.Operator == "=="
	return func(s S) float64 {
		a, b := x(s), y(s)
		if a == 0 || b == 0 {
			return math.NaN()
		}
		return truth((a == b) == equal)
	}, nil
}

func (c *compiler[S]) in(n *ast.BinaryNode) (Number[S], error) {
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
		values = append(values, Hash(s.Value))
	}
	within := n.Operator == "in"
	return func(s S) float64 {
		a := x(s)
		if a == 0 {
			return math.NaN()
		}
		return truth(slices.Contains(values, a) == within)
	}, nil
}

func (c *compiler[S]) conditional(n *ast.ConditionalNode) (Number[S], error) {
	parts := [3]Number[S]{}
	for i, node := range []Node{n.Cond, n.Exp1, n.Exp2} {
		var err error
		if parts[i], err = c.number(node); err != nil {
			return nil, err
		}
	}
	return func(s S) float64 {
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

func (c *compiler[S]) call(name string, args []Node) (Number[S], error) {
	switch {
	case (name == "missing" || name == "known") && len(args) == 1:
		return c.missing(args[0], name == "missing")
	case calls1[name] != nil && len(args) == 1:
		f := calls1[name]
		x, err := c.number(args[0])
		return func(s S) float64 { return f(x(s)) }, err
	case calls2[name] != nil && len(args) == 2:
		f := calls2[name]
		x, err := c.number(args[0])
		if err != nil {
			return nil, err
		}
		y, err := c.number(args[1])
		return func(s S) float64 { return f(x(s), y(s)) }, err
	}
	if c.Call != nil {
		if n, err := c.Call(name, args); n != nil || err != nil {
			return n, err
		}
	}
	return nil, fmt.Errorf("there is no function %s of %d arguments", name, len(args))
}

func (c *compiler[S]) missing(of Node, wanted bool) (Number[S], error) {
	if c.isText(of) {
		x, err := c.text(of)
		return func(s S) float64 { return truth((x(s) == 0) == wanted) }, err
	}
	x, err := c.number(of)
	return func(s S) float64 { v := x(s); return truth((v != v) == wanted) }, err
}
