package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"vaglio"
	"vaglio/expression"
	"vaglio/features"
)

// Warnings are what the author of a policy hardly means, at a moment: rules that can never fire or never matter, that have
// expired, that say the same as others. Each names line and rule.
func (p *Policy) Warnings(at vaglio.Instant) []string {
	var all []string
	warn := func(line int, what, name, format string, args ...any) {
		all = append(all, fmt.Sprintf("line %d: %s %q: %s", line, what, name, fmt.Sprintf(format, args...)))
	}
	ranges := func(path string) (interval, bool) { return rangeOf(nil, path) }
	all = append(all, p.Treatment.warnings("the policy")...)
	always := ""
	for i := range p.segments {
		for _, w := range p.segments[i].treatment.warnings("it") {
			warn(p.segments[i].line, "segment", p.segments[i].name, "%s", w)
		}
		s := &p.segments[i]
		if always != "" {
			warn(s.line, "segment", s.name, "never applies: %s comes first and takes every request", always)
		}
		if why := neverHolds(s.when, ranges); why != "" {
			warn(s.line, "segment", s.name, "never applies: %s", why)
		}
		if always == "" && isTrue(s.when) {
			always = s.name
		}
	}
	conditions := make([]string, len(p.rules))
	for i := range p.rules {
		r := &p.rules[i]
		conditions[i] = r.State + " " + r.node.String()
		if r.State == Off {
			continue
		}
		rule := func(format string, args ...any) { warn(r.Line, "rule", r.Name, format, args...) }
		if why := neverHolds(r.node, ranges); why != "" {
			rule("can never fire: %s", why)
		}
		switch {
		case r.Until != 0 && r.Until <= at:
			rule("has expired: it was valid until %s", r.Until)
		case r.Then == string(vaglio.Approve) && !r.Override && !r.AtMost:
			rule("never changes a verdict: the strictest wins; an allow-list wants override: true")
		case isTrue(r.node) && (r.Then == string(vaglio.Review) || r.Then == string(vaglio.Deny)):
			rule("fires on every request: no approval is left, except by allow-lists")
		case r.Reason == "" && (r.Then == string(vaglio.Review) || r.Then == string(vaglio.Deny)):
			rule("gives no reason: the customer and the reviewer read only that it fired")
		}
		for j := range p.rules[:i] {
			if conditions[j] == conditions[i] {
				rule("%s", sameCondition(r, &p.rules[j]))
			}
		}
	}
	return all
}

// warnings tell of thresholds that leave a score nothing to say.
func (t *Treatment) warnings(who string) []string {
	switch {
	case t.DenyFrom != nil && *t.DenyFrom == 0:
		return []string{who + " denies every request: deny_from is 0"}
	case t.ApproveBelow != nil && *t.ApproveBelow == 0:
		return []string{who + " approves no request: approve_below is 0"}
	case t.ApproveBelow != nil && *t.ApproveBelow == 1:
		return []string{who + " approves whatever no rule stops: approve_below is 1"}
	default:
		return nil
	}
}

func sameCondition(r, earlier *rule) string {
	strictness := map[string]int{string(vaglio.Review): 1, string(vaglio.Deny): 2}
	switch {
	case r.Action() == earlier.Action():
		return fmt.Sprintf("says the same as %s: the condition is the same", earlier.Name)
	case strictness[r.Then] > 0 && strictness[earlier.Then] > strictness[r.Then]:
		return fmt.Sprintf("never matters: %s has the same condition and is stricter", earlier.Name)
	case strictness[earlier.Then] > 0 && strictness[r.Then] > strictness[earlier.Then]:
		return fmt.Sprintf("makes %s needless: it has the same condition and is stricter", earlier.Name)
	default:
		return fmt.Sprintf("has the same condition as %s", earlier.Name)
	}
}

// warn notes what only the catalogue shows.
func (b *Bound) warn(c *features.Catalogue) {
	ranges := func(path string) (interval, bool) { return rangeOf(c, path) }
	blind := func(path string) (interval, bool) { return rangeOf(nil, path) }
	for _, r := range slices.Concat(b.rules, b.late) {
		if why := neverHolds(r.node, ranges); why != "" && neverHolds(r.node, blind) == "" {
			b.warnings = append(b.warnings, fmt.Sprintf("line %d: rule %q: can never fire: %s", r.Line, r.Name, why))
		}
		if r.Reason != "" && r.Reason != "PAYMENT_UNKNOWN" && len(c.Reasons()) > 0 && !slices.Contains(c.Reasons(), r.Reason) {
			b.warnings = append(b.warnings, fmt.Sprintf("line %d: rule %q: the catalogue has no texts for the reason %s", r.Line, r.Name, r.Reason))
		}
	}
}

// Warnings are those that only the catalogue shows, beside [Policy.Warnings].
func (b *Bound) Warnings() []string { return b.warnings }

func isTrue(node expression.Node) bool {
	n, ok := node.(*ast.BoolNode)
	return ok && n.Value
}

// interval is a range of numbers; an open end does not count.
type interval struct {
	least, most         float64
	leastOpen, mostOpen bool
}

var anyNumber = interval{least: math.Inf(-1), most: math.Inf(1)}

func (i interval) empty() bool {
	return i.least > i.most || i.least == i.most && (i.leastOpen || i.mostOpen)
}

func (i interval) and(j interval) interval {
	if j.least > i.least || j.least == i.least && j.leastOpen {
		i.least, i.leastOpen = j.least, j.leastOpen
	}
	if j.most < i.most || j.most == i.most && j.mostOpen {
		i.most, i.mostOpen = j.most, j.mostOpen
	}
	return i
}

// rangeOf is what a number can be, and whether it can be missing.
func rangeOf(c *features.Catalogue, path string) (values interval, mayMiss bool) {
	from := func(least, most float64) interval { return interval{least: least, most: most} }
	switch path {
	case "probability", "risk_score":
		return from(0, map[string]float64{"probability": 1, "risk_score": 100}[path]), true
	case "request.hour":
		return from(0, 23), false
	case "request.weekday":
		return from(1, 7), false
	case "request.partial":
		return from(0, 1), false
	case "request.amount":
		return from(0, math.Inf(1)), true
	case "request.amount_original":
		return from(0, vaglio.MaxAmount), false
	case "request.type", "request.currency":
		return anyNumber, false
	}
	if strings.HasPrefix(path, "counters.") {
		return from(0, math.Inf(1)), false
	}
	if c == nil {
		return anyNumber, true
	}
	i := slices.IndexFunc(c.Features(), func(f features.Feature) bool { return f.Name == path })
	if i < 0 {
		return anyNumber, true
	}
	switch c.Features()[i].Unit {
	case features.UnitCount, features.UnitHours:
		return from(0, math.Inf(1)), true
	case features.UnitFlag:
		return from(0, 1), true
	default:
		return anyNumber, true
	}
}

// A condition is looked at as alternatives of facts that must all hold. It can never hold if each alternative contradicts
// itself. What is not understood may hold.

// Bounds of the work: a condition with more may hold.
const (
	maxAlternatives = 32
	maxFacts        = 32 // in one alternative
)

// fact is one comparison: of a number with a constant, of a text with constants, or of either with nothing.
type fact struct {
	path     string // "" with never: false itself
	shown    string
	within   *interval
	texts    []string // it is one of them
	excluded []string // it is none of them
	missing  bool     // it is missing; otherwise it is known
	never    bool
}

// neverHolds says why a condition can never hold; "" if it may.
func neverHolds(node expression.Node, ranges func(string) (interval, bool)) string {
	alternatives, understood := expand(node, true)
	if !understood {
		return ""
	}
	why := ""
	for _, facts := range alternatives {
		if why = contradiction(facts, ranges); why == "" {
			return ""
		}
	}
	return why
}

// expand is a condition, or its opposite, as alternatives.
func expand(node expression.Node, positive bool) (alternatives [][]*fact, understood bool) {
	switch n := node.(type) {
	case *ast.BoolNode:
		if n.Value == positive {
			return [][]*fact{{}}, true
		}
		return [][]*fact{{{never: true, shown: "it is false"}}}, true
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return expand(n.Node, !positive)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&":
			return combine(n, positive, positive)
		case "or", "||":
			return combine(n, positive, !positive)
		default:
			return [][]*fact{compared(n, positive)}, true
		}
	case *ast.BuiltinNode, *ast.CallNode:
		return [][]*fact{called(n, positive)}, true
	}
	return [][]*fact{{}}, true // may hold
}

// combine joins the two sides: all of both, or either.
func combine(n *ast.BinaryNode, positive, both bool) ([][]*fact, bool) {
	left, ok := expand(n.Left, positive)
	right, also := expand(n.Right, positive)
	if !ok || !also || len(left)*len(right) > maxAlternatives || len(left[0])+len(right[0]) > maxFacts {
		return nil, false
	}
	if !both {
		return append(left, right...), len(left)+len(right) <= maxAlternatives
	}
	var all [][]*fact
	for _, l := range left {
		for _, r := range right {
			all = append(all, slices.Concat(l, r))
		}
	}
	return all, true
}

var opposites = map[string]string{"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "in": "not in", "not in": "in"}

var mirrored = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}

func compared(n *ast.BinaryNode, positive bool) []*fact {
	operator, left, right := n.Operator, n.Left, n.Right
	if !positive {
		operator = opposites[operator]
	}
	shown := showing(n, positive)
	if expression.PathOf(left) == "" && mirrored[operator] != "" {
		operator, left, right = mirrored[operator], right, left
	}
	f := &fact{path: expression.PathOf(left), shown: shown}
	if f.path == "" {
		return nil
	}
	if texts, ok := constants(right); ok {
		switch operator {
		case "==", "in":
			f.texts = texts
		case "!=", "not in":
			f.excluded = texts
		}
		return []*fact{f}
	}
	x, ok := constant(right)
	if !ok {
		return nil
	}
	within := anyNumber
	switch operator {
	case "<", "<=":
		within.most, within.mostOpen = x, operator == "<"
	case ">", ">=":
		within.least, within.leastOpen = x, operator == ">"
	case "==":
		within.least, within.most = x, x
	case "!=":
	default:
		return nil
	}
	f.within = &within
	return []*fact{f}
}

func showing(node ast.Node, positive bool) string {
	if positive {
		return node.String()
	}
	return "not (" + node.String() + ")"
}

func called(node ast.Node, positive bool) []*fact {
	name, args := "", []ast.Node(nil)
	switch n := node.(type) {
	case *ast.BuiltinNode:
		name, args = n.Name, n.Arguments
	case *ast.CallNode:
		name, args = expression.PathOf(n.Callee), n.Arguments
	}
	if len(args) != 1 || name != "missing" && name != "known" || expression.PathOf(args[0]) == "" {
		return nil
	}
	return []*fact{{path: expression.PathOf(args[0]), shown: showing(node, positive), missing: (name == "missing") == positive}}
}

func constants(node ast.Node) ([]string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return []string{n.Value}, true
	case *ast.ArrayNode:
		texts := []string{}
		for _, element := range n.Nodes {
			s, ok := element.(*ast.StringNode)
			if !ok {
				return nil, false
			}
			texts = append(texts, s.Value)
		}
		return texts, true
	default:
		return nil, false
	}
}

func constant(node ast.Node) (float64, bool) {
	switch n := node.(type) {
	case *ast.IntegerNode:
		return float64(n.Value), true
	case *ast.FloatNode:
		return n.Value, true
	case *ast.UnaryNode:
		x, ok := constant(n.Node)
		if n.Operator == "-" {
			x = -x
		}
		return x, ok && (n.Operator == "-" || n.Operator == "+")
	default:
		return 0, false
	}
}

// contradiction says why facts can't all hold; "" if they may.
func contradiction(facts []*fact, ranges func(string) (interval, bool)) string {
	for i, f := range facts {
		if f.never {
			return f.shown
		}
		values, mayMiss := ranges(f.path)
		if f.missing && !mayMiss {
			return f.shown + ": it is never missing"
		}
		var texts []string // that it can be; nil: any
		if name, ok := strings.CutPrefix(f.path, "request."); ok {
			texts = requestTexts[name]
		}
		var beside []string // facts of the same name, this one the last
		for _, g := range facts[:i+1] {
			if g.path != f.path {
				continue
			}
			beside = append(beside, g.shown)
			switch {
			case g.missing != f.missing:
				return strings.Join(beside, " and ") + " and " + f.shown
			case g.within != nil:
				values = values.and(*g.within)
			case g.texts != nil && texts == nil:
				texts = g.texts
			case g.texts != nil:
				texts = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return !slices.Contains(g.texts, s) })
			case g.excluded != nil && texts != nil:
				texts = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return slices.Contains(g.excluded, s) })
			}
			if values.empty() || texts != nil && len(texts) == 0 {
				return strings.Join(beside, " and ")
			}
		}
	}
	return ""
}
