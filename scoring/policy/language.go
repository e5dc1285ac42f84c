package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"vaglio"
	"vaglio/expression"
	"vaglio/features"
)

// A condition reads the request (request.amount, request.entities.device …), features by name, the model's probability and
// risk_score, the customer's counters, and lists: in_list("name", request.entities.device, …). It is the language of
// features (package expression), and it is a condition: what is only a number is refused.

type (
	number = expression.Number[*Evaluation]
	text   = expression.Text[*Evaluation]
)

// requestTexts are the request's strings beside entities and attributes, with the values that they can have; nil: any.
var requestTexts = map[string][]string{"type": vaglio.RequestTypes, "reason": vaglio.RequestReasons, "currency": nil, "rail": vaglio.Rails,
	"payment_state": vaglio.PaymentStates, "authentication": vaglio.Authentications, "requested_by": vaglio.Requesters}

// requestNumbers are the request's numbers beside those that features can read.
var requestNumbers = map[string]func(*Evaluation) float64{
	"amount_original": func(ev *Evaluation) float64 { return float64(ev.in.Request.Amount) }, // in the request's own currency
	"partial":         func(ev *Evaluation) float64 { return truth(ev.in.Request.Partial) },
}

var counters = map[string]func(*Counters) float64{
	"requests_1h":         func(c *Counters) float64 { return float64(c.Requests1h) },
	"requests_24h":        func(c *Counters) float64 { return float64(c.Requests24h) },
	"approvals_1h":        func(c *Counters) float64 { return float64(c.Approvals1h) },
	"approvals_24h":       func(c *Counters) float64 { return float64(c.Approvals24h) },
	"approved_amount_1h":  func(c *Counters) float64 { return float64(c.Approved1h) },
	"approved_amount_24h": func(c *Counters) float64 { return float64(c.Approved24h) },
}

// scores are what the model says.
var scores = map[string]func(*Input) float64{
	"probability": func(in *Input) float64 { return in.Probability },
	"risk_score":  func(in *Input) float64 { return in.RiskScore },
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// binder compiles conditions. Without a catalogue it takes features on trust, to check the rest.
type binder struct {
	catalogue *features.Catalogue
	paths     *[]string // the request's strings that conditions read
	reads     []string  // features
	lists     []string
	late      bool // read counters
}

func (b *binder) condition(node expression.Node) (number, error) {
	if err := checkCondition(node); err != nil {
		return nil, err
	}
	l := b.language()
	return l.CompileNode(node)
}

func (b *binder) language() *expression.Language[*Evaluation] {
	return &expression.Language[*Evaluation]{Name: "the language of policies", IsText: b.isText, Number: b.number, Text: b.text, Call: b.call}
}

// checkCondition refuses what is a number and no condition, such as `probability and request.amount`.
func checkCondition(node expression.Node) error {
	switch n := node.(type) {
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return checkCondition(n.Node)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||":
			return errors.Join(checkCondition(n.Left), checkCondition(n.Right))
		case "+", "-", "*", "/":
		default:
			return nil
		}
	case *ast.ConditionalNode:
		return errors.Join(checkCondition(n.Cond), checkCondition(n.Exp1), checkCondition(n.Exp2))
	case *ast.BuiltinNode:
	case *ast.IntegerNode, *ast.FloatNode:
	case *ast.IdentifierNode, *ast.MemberNode:
		path := expression.PathOf(node)
		if scores[path] == nil && !strings.HasPrefix(path, "counters.") && (!strings.HasPrefix(path, "request.") || path == "request.partial") {
			return nil // a flag
		}
	default:
		return nil
	}
	return fmt.Errorf("%s is not a condition: compare it with something", node)
}

func (b *binder) feature(name string) (int, error) {
	if b.catalogue == nil {
		if !nameForm.MatchString(name) {
			return -1, fmt.Errorf("there is no %q", name)
		}
		b.note(name)
		return 0, nil
	}
	i := slices.IndexFunc(b.catalogue.Features(), func(f features.Feature) bool { return f.Name == name })
	if i < 0 {
		return -1, fmt.Errorf("there is no feature %q", name)
	}
	b.note(name)
	return i, nil
}

func (b *binder) note(feature string) {
	if !slices.Contains(b.reads, feature) {
		b.reads = append(b.reads, feature)
	}
}

func (b *binder) number(path string) (number, error) {
	if name, ok := strings.CutPrefix(path, "request."); ok {
		if read := requestNumbers[name]; read != nil {
			return read, nil
		}
		if read := features.RequestNumber(name); read != nil {
			return func(ev *Evaluation) float64 { return read(ev.in.Fact) }, nil
		}
		if b.isText(path) {
			return nil, fmt.Errorf("%s is a text, not a number", path)
		}
		return nil, fmt.Errorf("a request has no %q", name)
	}
	if name, ok := strings.CutPrefix(path, "counters."); ok {
		read := counters[name]
		if read == nil {
			return nil, fmt.Errorf("there is no counter %q", name)
		}
		b.late = true
		return func(ev *Evaluation) float64 { return read(&ev.counters) }, nil
	}
	if read := scores[path]; read != nil {
		return func(ev *Evaluation) float64 { return read(&ev.in) }, nil
	}
	i, err := b.feature(path)
	if err != nil {
		return nil, err
	}
	if b.catalogue != nil && b.catalogue.Features()[i].Categorical {
		return nil, fmt.Errorf("the feature %s is a text, not a number", path)
	}
	return func(ev *Evaluation) float64 {
		if i < len(ev.in.Vector) {
			return ev.in.Vector[i]
		}
		return math.NaN() // history is gone
	}, nil
}

func (b *binder) isText(path string) bool {
	if name, ok := strings.CutPrefix(path, "request."); ok {
		section, _, nested := strings.Cut(name, ".")
		_, known := requestTexts[name]
		return known || nested && (section == "entities" || section == "attributes")
	}
	if b.catalogue == nil {
		return false
	}
	i := slices.IndexFunc(b.catalogue.Features(), func(f features.Feature) bool { return f.Name == path })
	return i >= 0 && b.catalogue.Features()[i].Categorical
}

func (b *binder) text(path string) (text, error) {
	i, feature, err := b.textAt(path)
	if err != nil {
		return nil, err
	}
	if feature {
		catalogue := b.catalogue
		return func(ev *Evaluation) uint64 { return expression.Hash(catalogue.CategoryOf(i, ev.in.Fact)) }, nil
	}
	return func(ev *Evaluation) uint64 { return ev.hashes[i] }, nil
}

// textAt is the place of a string: among the paths that are read once per evaluation, or among the features. A categorical
// feature is the request's string behind it, so that categories unknown in training are no missing ones.
func (b *binder) textAt(path string) (i int, feature bool, err error) {
	name, ofRequest := strings.CutPrefix(path, "request.")
	switch {
	case ofRequest && !b.isText(path):
		return -1, false, fmt.Errorf("a request has no text %q", name)
	case ofRequest:
		if section, member, nested := strings.Cut(name, "."); nested && !nameForm.MatchString(member) {
			return -1, false, fmt.Errorf("%q is no name of %s", member, section)
		}
		if i = slices.Index(*b.paths, name); i < 0 {
			if i = len(*b.paths); i == maxTexts {
				return -1, false, fmt.Errorf("the policy reads more than %d different texts of the request", maxTexts)
			}
			*b.paths = append(*b.paths, name)
		}
		return i, false, nil
	case scores[path] != nil || strings.Contains(path, "."):
		return -1, false, fmt.Errorf("%s is not a text", path)
	}
	i, err = b.feature(path)
	if err == nil && b.catalogue != nil && !b.catalogue.Features()[i].Categorical {
		err = fmt.Errorf("the feature %s is a number, not a text", path)
	}
	return i, true, err
}

// call compiles in_list, the only function of policies alone.
func (b *binder) call(name string, args []expression.Node) (number, error) {
	if name != "in_list" {
		return nil, nil
	}
	usage := errors.New(`in_list wants a list and texts: in_list("name", request.entities.device)`)
	if len(args) < 2 || len(args) > maxListed+1 {
		return nil, usage
	}
	list, ok := args[0].(*ast.StringNode)
	if !ok {
		return nil, usage
	}
	if !nameForm.MatchString(list.Value) {
		return nil, fmt.Errorf("%.64q is no name of a list", list.Value)
	}
	var values []func(*Evaluation) string
	for _, arg := range args[1:] {
		path := expression.PathOf(arg)
		if path == "" {
			return nil, usage
		}
		i, feature, err := b.textAt(path)
		switch {
		case err != nil:
			return nil, err
		case feature:
			catalogue := b.catalogue
			values = append(values, func(ev *Evaluation) string { return catalogue.CategoryOf(i, ev.in.Fact) })
		default:
			values = append(values, func(ev *Evaluation) string { return ev.texts[i] })
		}
	}
	if !slices.Contains(b.lists, list.Value) {
		b.lists = append(b.lists, list.Value)
	}
	return inList(list.Value, values), nil
}

// inList is 1 if any of the values is listed, missing if none of them is known.
func inList(list string, values []func(*Evaluation) string) number {
	return func(ev *Evaluation) float64 {
		outcome := math.NaN()
		if ev.in.Lists == nil {
			return outcome
		}
		for _, value := range values {
			v := value(ev)
			switch {
			case v == "":
			case ev.in.Lists.Contains(list, v, ev.in.Moment):
				return 1
			default:
				outcome = 0
			}
		}
		return outcome
	}
}

// Bound is a policy tied to the features of a catalogue: immutable and safe for concurrent use.
type Bound struct {
	policy   *Policy
	texts    []func(*vaglio.Fact) string // of requests
	segments []number
	rules    []boundRule
	late     []boundRule // those that read counters
	warnings []string
}

type boundRule struct {
	*rule
	when number
}

// Bind resolves the names of features. The error names every rule and segment that asks for what the catalogue has not.
func (p *Policy) Bind(c *features.Catalogue) (*Bound, error) {
	b, _, err := p.bind(c)
	return b, err
}

// BindLoose binds to a catalogue that lacks what some rules ask for, and leaves those rules out: for the embedded policy beside
// a catalogue of one's own. It returns their names; a segment that can't be bound never applies, and is named as well.
func (p *Policy) BindLoose(c *features.Catalogue) (b *Bound, dropped []string) {
	b, dropped, _ = p.bind(c)
	return b, dropped
}

func (p *Policy) bind(c *features.Catalogue) (bound *Bound, dropped []string, err error) {
	bound = &Bound{policy: p}
	var paths []string
	var failures []error
	for i := range p.segments {
		s := &p.segments[i]
		b := binder{catalogue: c, paths: &paths}
		when, err := b.condition(s.when)
		if err != nil {
			failures = append(failures, fmt.Errorf("line %d: segment %q: %w", s.line, s.name, err))
			dropped = append(dropped, s.name)
			when = func(*Evaluation) float64 { return math.NaN() }
		}
		bound.segments = append(bound.segments, when)
	}
	for i := range p.rules {
		r := &p.rules[i]
		b := binder{catalogue: c, paths: &paths}
		when, err := b.condition(r.node)
		switch {
		case err != nil:
			failures = append(failures, ruleError(&r.RuleInfo, err))
			dropped = append(dropped, r.Name)
		case r.State == Off:
		case r.late:
			bound.late = append(bound.late, boundRule{r, when})
		default:
			bound.rules = append(bound.rules, boundRule{r, when})
		}
	}
	for _, path := range paths {
		bound.texts = append(bound.texts, features.RequestText(path))
	}
	bound.warn(c)
	return bound, dropped, errors.Join(failures...)
}

// Policy is what was bound.
func (b *Bound) Policy() *Policy { return b.policy }
