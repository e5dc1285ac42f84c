package features

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"vaglio"
)

// document is a catalogue as it is written.
type document struct {
	Name     string           `yaml:"name"`
	Features []spec           `yaml:"features"`
	Reasons  map[string]Texts `yaml:"reasons,omitempty"`
	General  General          `yaml:"general,omitempty"`
}

// spec is a row of a catalogue. It is an aggregate over a timeline (entity, events, aggregate), an expression (expr), or
// a category (categorical).
type spec struct {
	Name        string   `yaml:"name"`
	Entity      string   `yaml:"entity,omitempty"`
	Events      []string `yaml:"events,omitempty,flow"`
	Aggregate   string   `yaml:"aggregate,omitempty"`
	Of          string   `yaml:"of,omitempty"`
	Window      string   `yaml:"window,omitempty"`
	Offset      string   `yaml:"offset,omitempty"`
	Where       string   `yaml:"where,omitempty"`
	Expr        string   `yaml:"expr,omitempty"`
	Categorical string   `yaml:"categorical,omitempty"`
	Categories  []string `yaml:"categories,omitempty,flow"`
	Reason      string   `yaml:"reason,omitempty"`
	Unit        Unit     `yaml:"unit,omitempty"`
	Description string   `yaml:"description,omitempty"`

	line  int
	own   bool     // money in the payment's currency
	reads []string // features that the expression reads
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// Parse compiles a catalogue. All its errors come together, each with line, feature and reason.
func Parse(source []byte) (*Catalogue, error) {
	if len(source) > maxCatalogueBytes {
		return nil, fmt.Errorf("a catalogue is at most %d bytes", maxCatalogueBytes)
	}
	file, err := parser.ParseBytes(source, 0)
	if err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	var doc document
	if err := yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&doc); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	if len(file.Docs) != 1 {
		return nil, fmt.Errorf("a catalogue is one YAML document, not %d", len(file.Docs))
	}
	if n := len(doc.Features); n == 0 || n > maxFeatures {
		return nil, fmt.Errorf("a catalogue has 1 to %d features, not %d", maxFeatures, n)
	}
	for i, line := range featureLines(file.Docs[0].Body) {
		doc.Features[i].line = line
	}
	return compile(doc)
}

func featureLines(body ast.Node) []int {
	root, ok := body.(*ast.MappingNode)
	if !ok {
		return nil
	}
	for _, entry := range root.Values {
		if rows, ok := entry.Value.(*ast.SequenceNode); ok && entry.Key.String() == "features" {
			lines := make([]int, len(rows.Values))
			for i, row := range rows.Values {
				if mapping, ok := row.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
					row = mapping.Values[0].Key
				}
				lines[i] = row.GetToken().Position.Line
			}
			return lines
		}
	}
	return nil
}

// YAML is the catalogue as text that [Parse] reads back to the same catalogue.
func (c *Catalogue) YAML() ([]byte, error) { return yaml.Marshal(c.source) }

// OpenCategories lists the categorical features that have no list of categories yet: training fills them in.
func (c *Catalogue) OpenCategories() []int {
	var open []int
	for i := range c.features {
		if c.features[i].Categorical && len(c.features[i].Categories) == 0 {
			open = append(open, i)
		}
	}
	return open
}

// CategoryOf reads the string behind a categorical feature from a request; "" when it is absent.
func (c *Catalogue) CategoryOf(feature int, request *vaglio.Fact) string {
	path, _ := strings.CutPrefix(c.source.Features[feature].Categorical, "request.")
	return requestString(request, path)
}

// WithCategories returns the catalogue with the categories of some features set, by index.
func (c *Catalogue) WithCategories(categories map[int][]string) (*Catalogue, error) {
	doc := c.source
	doc.Features = slices.Clone(doc.Features)
	for i, values := range categories {
		doc.Features[i].Categories = values
	}
	return compile(doc)
}

func compile(doc document) (*Catalogue, error) {
	c := &Catalogue{source: doc, features: make([]Feature, len(doc.Features)), layouts: map[string]*layout{},
		paths: []string{"currency"}, reasons: doc.Reasons, general: doc.General}
	var failures []error
	fail := func(err error) {
		if err != nil {
			failures = append(failures, err)
		}
	}
	for i := range doc.Features {
		s := &doc.Features[i]
		if c.index(s.Name) >= 0 {
			fail(featureErrorf(s.line, s.Name, "the name is taken"))
		}
		c.features[i] = Feature{Name: s.Name, Reason: s.Reason, Unit: s.Unit, Description: s.Description}
		fail(c.compileRow(i, s))
	}
	fail(c.compileExpressions(doc.Features))
	for _, code := range slices.Sorted(maps.Keys(doc.Reasons)) {
		fail(c.checkTexts(code, doc.Reasons[code]))
	}
	for _, l := range c.layouts {
		l.empty = make([]list, len(l.kinds))
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Catalogue) compileRow(i int, s *spec) error {
	failf := func(format string, args ...any) error { return featureErrorf(s.line, s.Name, format, args...) }
	if !nameForm.MatchString(s.Name) || s.Name == "request" {
		return failf("want a name of a-z, 0-9 and _ that begins with a letter, at most 64 bytes, and not \"request\"")
	}
	if s.Reason != "" && c.reasons != nil {
		if _, ok := c.reasons[s.Reason]; !ok {
			return failf("the reason %s is not in the catalogue's reasons", s.Reason)
		}
	}
	if s.Unit != "" && !slices.Contains([]Unit{UnitNumber, UnitCount, UnitMoney, UnitHours, UnitShare, UnitFlag}, s.Unit) {
		return failf("the unit %q is none of number, count, money, hours, share, flag", s.Unit)
	}
	forms := 0
	for _, form := range []string{s.Aggregate, s.Expr, s.Categorical} {
		forms += int(truth(form != ""))
	}
	if forms != 1 {
		return failf("want exactly one of aggregate, expr and categorical")
	}
	if s.Aggregate == "" && (s.Entity != "" || s.Events != nil || s.Of != "" || s.Window != "" || s.Offset != "" || s.Where != "") {
		return failf("entity, events, of, window, offset and where belong to an aggregate")
	}
	switch {
	case s.Categorical != "":
		return c.compileCategory(i, s)
	case len(s.Categories) > 0:
		return failf("categories belong to a categorical feature")
	case s.Expr != "":
		return nil // once all features are known
	default:
		return c.compileAggregate(i, s)
	}
}

func (c *Catalogue) compileCategory(i int, s *spec) error {
	name, ok := strings.CutPrefix(s.Categorical, "request.")
	if !ok {
		return featureErrorf(s.line, s.Name, "categorical reads the request: request.reason, request.attributes.NAME")
	}
	path, err := c.path(name)
	if err != nil {
		return featureErrorf(s.line, s.Name, "%v", err)
	}
	if len(s.Categories) > maxCategories {
		return featureErrorf(s.line, s.Name, "has more than %d categories", maxCategories)
	}
	k := category{index: i, path: path, codes: make(map[uint64]float64, len(s.Categories))}
	for code, value := range s.Categories {
		if _, repeated := k.codes[hash(value)]; repeated || value == "" {
			return featureErrorf(s.line, s.Name, "the category %q is empty or given twice", value)
		}
		k.codes[hash(value)] = float64(code)
	}
	c.features[i].Categorical, c.features[i].Categories = true, s.Categories
	c.categories = append(c.categories, k)
	return nil
}

func (c *Catalogue) compileAggregate(i int, s *spec) error {
	failf := func(format string, args ...any) error { return featureErrorf(s.line, s.Name, format, args...) }
	f, ok := functions[s.Aggregate]
	if !ok {
		return failf("there is no aggregate %q: there are %s", s.Aggregate, strings.Join(slices.Sorted(maps.Keys(functions)), ", "))
	}
	entity, second, isPair := strings.Cut(s.Entity, "+")
	if !nameForm.MatchString(entity) || isPair && !nameForm.MatchString(second) {
		return failf("the entity %q is neither a kind of entity nor a pair of kinds (customer+device)", s.Entity)
	}
	if len(s.Events) == 0 {
		return failf("events lists the kinds of events to aggregate")
	}
	r := c.role(entity)
	a := aggregate{index: i, function: f, value1: -1, currency: -1, scale: 1}
	for _, kind := range s.Events {
		if !nameForm.MatchString(kind) {
			return failf("%q is not a kind of event", kind)
		}
		at := r.layout.kind(kind)
		if slices.Contains(a.lists, at) {
			return failf("the kind of event %s is given twice", kind)
		}
		a.lists = append(a.lists, at)
	}
	var err error
	if a.window, err = parseWindow(s.Window, vaglio.Horizon); err != nil {
		return failf("window: %v", err)
	}
	if a.offset, err = parseWindow(s.Offset, 0); err != nil {
		return failf("offset: %v", err)
	}
	if a.offset >= vaglio.Horizon {
		return failf("offset: %s is not before the horizon of %d days", s.Offset, vaglio.Horizon/vaglio.Day)
	}
	if err := r.layout.compileValue(&a, entity, s); err != nil {
		return failf("%v", err)
	}
	if isPair {
		if a.pairPath, err = c.path("entities." + second); err != nil {
			return failf("%v", err)
		}
		a.pair = []int{r.layout.column(column{columnEntity, second})}
		if timelineKind(second) == vaglio.EntityInstrument { // both roles of an instrument
			a.pair = []int{r.layout.column(column{columnEntity, vaglio.EntityInstrument}), r.layout.column(column{columnEntity, vaglio.EntityPayoutInstrument})}
		}
	}
	if s.Where != "" {
		compiler := compiler{catalogue: c, columns: r.layout.column}
		predicate, err := compiler.compile(s.Where)
		switch {
		case err != nil:
			return failf("where: %v", err)
		case compiler.asks:
			a.where = predicate
		case len(r.layout.filters) == maxFilters:
			return failf("where: a kind of timeline has at most %d conditions", maxFilters)
		default:
			r.layout.filters = append(r.layout.filters, predicate)
			a.filter = 1 << (len(r.layout.filters) - 1)
		}
	}
	r.aggregates = append(r.aggregates, a)
	own := &c.features[i]
	own.Entity, own.Window = s.Entity, a.window
	if own.Unit == "" {
		own.Unit = unitOf(f, s.Of)
	}
	return nil
}

func unitOf(f function, of string) Unit {
	switch {
	case f == count || f == distinct:
		return UnitCount
	case f == sinceFirst || f == sinceLast:
		return UnitHours
	case of == "amount":
		return UnitMoney
	default:
		return UnitNumber
	}
}

// compileValue finds the column that `of` names.
func (l *layout) compileValue(a *aggregate, entity string, s *spec) error {
	attribute, isAttribute := strings.CutPrefix(s.Of, "attributes.")
	switch a.function {
	case count, sinceFirst, sinceLast:
		if s.Of != "" {
			return fmt.Errorf("%s takes no of", s.Aggregate)
		}
	case distinct:
		switch {
		case isAttribute && nameForm.MatchString(attribute):
			a.value1 = l.column(column{columnAttribute, attribute})
		case nameForm.MatchString(s.Of):
			a.value1 = l.column(column{columnEntity, s.Of})
		default:
			return fmt.Errorf("distinct counts a kind of entity (of: customer) or an attribute (of: attributes.NAME)")
		}
	default:
		switch {
		case isAttribute && nameForm.MatchString(attribute):
			a.value1, a.scale = l.column(column{columnDecimal, attribute}), decimalScale
		case s.Of == "amount" && entity == vaglio.EntityPayment:
			a.value1, a.currency, s.own = l.column(column{kind: columnOwn}), l.column(column{kind: columnCurrency}), true
		case s.Of == "amount":
			a.value1 = l.column(column{kind: columnBase})
		default:
			return fmt.Errorf("%s is of: amount or of: attributes.NAME", s.Aggregate)
		}
	}
	return nil
}

// compileExpressions compiles the expressions in an order in which each finds its operands, and refuses cycles.
func (c *Catalogue) compileExpressions(specs []spec) error {
	const visiting, done = 1, 2
	state := make([]int, len(specs))
	var failures []error
	var visit func(i int) error
	visit = func(i int) error {
		s := &specs[i]
		switch {
		case s.Expr == "" || state[i] == done:
			return nil
		case state[i] == visiting:
			return featureErrorf(s.line, s.Name, "the expression reads itself, through other features or directly")
		}
		state[i] = visiting
		first := compiler{catalogue: c}
		if _, err := first.compile(s.Expr); err != nil {
			state[i] = done
			return featureErrorf(s.line, s.Name, "%v", err)
		}
		s.reads = first.reads
		base := false
		for _, name := range s.reads {
			operand := c.index(name)
			if err := visit(operand); err != nil {
				state[i] = done
				return err
			}
			if c.features[operand].Unit == UnitMoney {
				s.own = s.own || specs[operand].own
				base = base || !specs[operand].own
			}
		}
		state[i] = done
		if s.own && base && first.amount {
			return featureErrorf(s.line, s.Name, "request.amount is beside money of the payment's currency and of the base currency")
		}
		final := compiler{catalogue: c, own: s.own}
		eval, err := final.compile(s.Expr)
		if err != nil {
			return featureErrorf(s.line, s.Name, "%v", err)
		}
		c.expressions = append(c.expressions, expression{i, eval})
		if c.features[i].Unit == "" {
			c.features[i].Unit = UnitNumber
		}
		return nil
	}
	for i := range specs {
		if err := visit(i); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (c *Catalogue) role(entity string) *role {
	for i := range c.roles {
		if c.roles[i].entity == entity {
			return &c.roles[i]
		}
	}
	kind := timelineKind(entity)
	if c.layouts[kind] == nil {
		c.layouts[kind] = &layout{entity: kind}
	}
	c.roles = append(c.roles, role{entity: entity, path: "entities." + entity, layout: c.layouts[kind]})
	return &c.roles[len(c.roles)-1]
}

func (l *layout) kind(name string) int {
	if i := slices.Index(l.kinds, name); i >= 0 {
		return i
	}
	l.kinds = append(l.kinds, name)
	return len(l.kinds) - 1
}

func (l *layout) column(c column) int {
	if i := slices.Index(l.columns, c); i >= 0 {
		return i
	}
	l.columns = append(l.columns, c)
	return len(l.columns) - 1
}

// parseWindow reads 30m, 24h, 7d or 4w; "" is the default, "all" the horizon.
func parseWindow(s string, byDefault vaglio.Instant) (vaglio.Instant, error) {
	switch s {
	case "":
		return byDefault, nil
	case "all":
		return vaglio.Horizon, nil
	}
	units := map[byte]vaglio.Instant{'m': vaglio.Minute, 'h': vaglio.Hour, 'd': vaglio.Day, 'w': 7 * vaglio.Day}
	unit, ok := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 31)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("want a positive whole number of m, h, d or w, or all, not %q", s)
	}
	if vaglio.Instant(n) > vaglio.Horizon/unit {
		return 0, fmt.Errorf("%s is beyond the horizon of %d days", s, vaglio.Horizon/vaglio.Day)
	}
	return vaglio.Instant(n) * unit, nil
}
