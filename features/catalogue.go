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

	"github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"vaglio"
	yamldoc "vaglio/document"
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
	Of          names    `yaml:"of,omitempty"`
	Window      string   `yaml:"window,omitempty"`
	Offset      string   `yaml:"offset,omitempty"`
	Where       string   `yaml:"where,omitempty"`
	Part        string   `yaml:"part,omitempty"`   // share
	Which       string   `yaml:"which,omitempty"`  // same
	Within      string   `yaml:"within,omitempty"` // habit
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

// names is one name, or several between commas: in YAML a string or a list.
type names string

// UnmarshalYAML reads both forms.
func (n *names) UnmarshalYAML(unmarshal func(any) error) error {
	var several []string
	if unmarshal(&several) == nil {
		*n = names(strings.Join(several, ","))
		return nil
	}
	return unmarshal((*string)(n))
}

// MarshalYAML writes the shorter form.
func (n names) MarshalYAML() (any, error) {
	if strings.Contains(string(n), ",") {
		return n.list(), nil
	}
	return string(n), nil
}

func (n names) list() []string {
	if n == "" {
		return nil
	}
	return strings.Split(string(n), ",")
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// Parse compiles a catalogue. All its errors come together, each with line, feature and reason.
func Parse(source []byte) (*Catalogue, error) {
	doc, body, err := read(source)
	if err != nil {
		return nil, err
	}
	if n := len(doc.Features); n == 0 || n > maxFeatures {
		return nil, fmt.Errorf("a catalogue has 1 to %d features, not %d", maxFeatures, n)
	}
	for i, line := range featureLines(body) {
		doc.Features[i].line = line
	}
	return compile(doc)
}

// read decodes one strict document of plain YAML.
func read(source []byte) (doc document, body ast.Node, err error) {
	defer func() {
		if reason := recover(); reason != nil { // of the YAML library, on what is hardly YAML
			err = fmt.Errorf("want plain YAML: %v", reason)
		}
	}()
	if body, err = yamldoc.Plain(source, maxCatalogueBytes); err != nil {
		return doc, nil, err
	}
	if err := yaml.NewDecoder(bytes.NewReader(source), yaml.Strict()).Decode(&doc); err != nil {
		return doc, nil, errors.New(yaml.FormatError(err, false, false))
	}
	return doc, body, nil
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
func (c *Catalogue) YAML() ([]byte, error) {
	// Quoted as JSON: a category may be spelt like anything, such as `.nan` or `? e`.
	return yaml.MarshalWithOptions(c.source, yaml.CustomMarshaler(func(s string) ([]byte, error) { return json.Marshal(s) }))
}

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
	return RequestText(path)(request)
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
		paths: []string{"currency"}, texts: []func(*vaglio.Fact) string{RequestText("currency")}, reasons: doc.Reasons, general: doc.General}
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
		c.features[i] = Feature{Name: s.Name, Reason: s.Reason, Unit: s.Unit, Description: s.describe()}
		fail(c.compileRow(i, s))
	}
	fail(c.compileExpressions(doc.Features))
	for _, code := range slices.Sorted(maps.Keys(doc.Reasons)) {
		fail(c.checkTexts(code, doc.Reasons[code]))
	}
	for _, l := range c.layouts {
		l.seal()
	}
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	c.findSources()
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
	ofAggregates := s.Entity + s.Window + s.Offset + s.Where + s.Part + s.Which + s.Within
	if s.Aggregate == "" && (ofAggregates != "" || s.Events != nil || s.Of != "") {
		return failf("entity, events, of, window, offset, where, part, which and within belong to an aggregate")
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
		c.expressions = append(c.expressions, formula{i, eval})
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
