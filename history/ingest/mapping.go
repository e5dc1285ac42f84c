package ingest

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a mapping's time zone must not depend on the machine

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// Mapping says how records of a CSV file, or rows of a Parquet file, become events: compiled, checked, safe for concurrent use.
type Mapping struct {
	format      format // of the standard input; names of files tell theirs
	comma       byte
	columns     []string
	groupBy     *expression // nil: each record is a group of its own
	groupWithin int
	functions   functions
	lets        []letMapping
	events      []eventMapping
}

// letMapping is a named expression, evaluated at most once a group and only where another one uses it.
type letMapping struct {
	name  string
	value *expression
}

// eventMapping is one event that a group may become. Expressions that are not given are nil.
type eventMapping struct {
	when, id, kind, occurredAt, observedAt, amount, currency *expression
	entities, attributes                                     []letMapping
}

// expression is one compiled expression of the mapping.
type expression struct {
	at      string // JSON pointer into the mapping
	text    string
	literal string // if not "", this is the value and there is no program
	program *vm.Program
	lets    []int // the named expressions that it uses, itself or by others, in order
	typ     reflect.Type
}

// document is the YAML of a mapping.
type document struct {
	Format      string   `yaml:"format"`
	Delimiter   string   `yaml:"delimiter"`
	Decimal     string   `yaml:"decimal"`
	Timezone    string   `yaml:"timezone"`
	Columns     []string `yaml:"columns"`
	GroupBy     source   `yaml:"group_by"`
	GroupWithin int      `yaml:"group_within"`
	Let         sources  `yaml:"let"`
	Events      []struct {
		When       source  `yaml:"when"`
		ID         source  `yaml:"id"`
		Kind       source  `yaml:"kind"`
		OccurredAt source  `yaml:"occurred_at"`
		ObservedAt source  `yaml:"observed_at"`
		Entities   sources `yaml:"entities"`
		Attributes sources `yaml:"attributes"`
		Amount     source  `yaml:"amount"`
		Currency   source  `yaml:"currency"`
	} `yaml:"events"`
}

// source is an expression as written, with its line in the mapping.
type source struct {
	text string
	line int
}

// sources are named expressions in the order of the file.
type sources []struct {
	name string
	source
}

// UnmarshalYAML takes any scalar.
func (s *source) UnmarshalYAML(node ast.Node) error {
	s.line = node.GetToken().Position.Line
	switch n := node.(type) {
	case *ast.StringNode:
		s.text = n.Value
	case *ast.LiteralNode:
		s.text = n.Value.Value
	case *ast.IntegerNode, *ast.BoolNode:
		s.text = n.GetToken().Value
	default:
		return fmt.Errorf("line %d: want an expression, this is a YAML %s", s.line, strings.ToLower(node.Type().String()))
	}
	if s.text = strings.TrimSpace(s.text); s.text == "" {
		return fmt.Errorf("line %d: the expression is empty", s.line)
	}
	return nil
}

// UnmarshalYAML takes a mapping of scalars.
func (s *sources) UnmarshalYAML(node ast.Node) error {
	named, ok := node.(ast.MapNode)
	if !ok {
		return fmt.Errorf("line %d: want names and expressions", node.GetToken().Position.Line)
	}
	for entries := named.MapRange(); entries.Next(); {
		*s = append(*s, struct {
			name string
			source
		}{name: entries.Key().GetToken().Value})
		if err := (*s)[len(*s)-1].UnmarshalYAML(entries.Value()); err != nil {
			return err
		}
	}
	return nil
}

// ReadMapping reads a mapping file. Unknown keys, columns, names and types of expressions are errors that name their
// line.
func ReadMapping(path string) (*Mapping, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	m, err := ParseMapping(text)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return m, nil
}

// ParseMapping compiles the YAML of a mapping.
func ParseMapping(text []byte) (*Mapping, error) {
	var doc document
	if err := yaml.UnmarshalWithOptions(text, &doc, yaml.Strict()); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	m := &Mapping{comma: ',', columns: doc.Columns, groupWithin: max(doc.GroupWithin, 1), functions: functions{decimal: '.', zone: time.UTC}}
	if err := m.settings(&doc); err != nil {
		return nil, err
	}
	c := compiler{m: m, env: m.environment()}
	c.compile(&doc)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return m, nil
}

func (m *Mapping) settings(doc *document) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch doc.Format {
	case "csv":
		m.format = formatCSV
	case "parquet":
		m.format = formatParquet
	default:
		refuse("format: want csv or parquet")
	}
	switch d := doc.Delimiter; {
	case d == "":
	case len(d) == 1 && strings.Contains(",;|\t :", d):
		m.comma = d[0]
	default:
		refuse(`delimiter: want one of , ; | : a space or "\t"`)
	}
	switch doc.Decimal {
	case "", ".":
	case ",":
		m.functions.decimal = ','
	default:
		refuse("decimal: want . or ,")
	}
	if doc.Timezone != "" {
		zone, err := time.LoadLocation(doc.Timezone)
		if err != nil || doc.Timezone == "Local" {
			refuse("timezone: %q is not a name of the IANA time zone database, such as Europe/Rome", doc.Timezone)
		} else {
			m.functions.zone = zone
		}
	}
	if len(doc.Columns) == 0 {
		refuse("columns: name those that the expressions use; a file may have more")
	}
	for i, column := range doc.Columns {
		if slices.Contains(doc.Columns[:i], column) {
			refuse("columns: %q is there twice", column)
		}
	}
	if doc.GroupWithin != 0 && doc.GroupBy.text == "" {
		refuse("group_within: only with group_by")
	}
	if doc.GroupWithin < 0 || doc.GroupWithin > maxGroup {
		refuse("group_within: want 1 to %d records", maxGroup)
	}
	if len(doc.Events) == 0 {
		refuse("events: want at least one")
	}
	return errors.Join(errs...)
}

// environment is what expressions see, by name and type.
func (m *Mapping) environment() types.Map {
	row := types.Map{}
	for _, column := range m.columns {
		row[column] = types.String
	}
	return types.Map{"row": row, "rows": types.Array(row), "row_number": types.Int, "file": types.String}
}

var (
	namePattern     = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)

	stringType = reflect.TypeFor[string]()
	boolType   = reflect.TypeFor[bool]()
	intType    = reflect.TypeFor[int]()
	timeType   = reflect.TypeFor[time.Time]()
)

// compiler compiles the expressions of one mapping and collects all errors.
type compiler struct {
	m    *Mapping
	env  types.Map
	errs []error
}

func (c *compiler) refuse(line int, at, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("line %d: %s: %w", line, at, fmt.Errorf(format, args...)))
}

func (c *compiler) compile(doc *document) {
	c.m.groupBy = c.expression("/group_by", doc.GroupBy, stringType)
	for _, let := range doc.Let {
		at := "/let/" + let.name
		if _, taken := c.env[let.name]; taken || !namePattern.MatchString(let.name) || slices.Contains(functionNames, let.name) {
			c.refuse(let.line, at, "the name is taken, or not made of a-z, 0-9 and _")
			continue
		}
		value := c.expression(at, let.source, nil)
		if value == nil {
			c.env[let.name] = types.Any // so that its users don't complain as well
			continue
		}
		c.m.lets = append(c.m.lets, letMapping{let.name, value})
		if value.typ == nil || value.typ.Kind() == reflect.Interface {
			c.env[let.name] = types.Any
		} else {
			c.env[let.name] = types.TypeOf(reflect.Zero(value.typ).Interface())
		}
	}
	for i, ev := range doc.Events {
		at := fmt.Sprintf("/events/%d", i)
		required := func(name string, s source) {
			if s.text == "" {
				c.errs = append(c.errs, fmt.Errorf("%s/%s is required", at, name))
			}
		}
		required("id", ev.ID)
		required("kind", ev.Kind)
		required("occurred_at", ev.OccurredAt)
		if len(ev.Entities) == 0 {
			required("entities", source{})
		}
		if (ev.Amount.text == "") != (ev.Currency.text == "") {
			c.errs = append(c.errs, fmt.Errorf("%s: amount and currency only come together", at))
		}
		c.m.events = append(c.m.events, eventMapping{
			when:       c.expression(at+"/when", ev.When, boolType),
			id:         c.expression(at+"/id", ev.ID, stringType),
			kind:       c.literal(at+"/kind", ev.Kind, namePattern),
			occurredAt: c.expression(at+"/occurred_at", ev.OccurredAt, timeType),
			observedAt: c.expression(at+"/observed_at", ev.ObservedAt, timeType),
			entities:   c.named(at+"/entities", ev.Entities),
			attributes: c.named(at+"/attributes", ev.Attributes),
			amount:     c.expression(at+"/amount", ev.Amount, intType),
			currency:   c.literal(at+"/currency", ev.Currency, currencyPattern),
		})
	}
}

// literal takes what looks like the value itself as such, anything else as an expression.
func (c *compiler) literal(at string, s source, pattern *regexp.Regexp) *expression {
	if pattern.MatchString(s.text) {
		return &expression{at: at, text: s.text, literal: s.text}
	}
	return c.expression(at, s, stringType)
}

func (c *compiler) named(at string, fields sources) []letMapping {
	var out []letMapping
	for _, f := range fields {
		if !namePattern.MatchString(f.name) {
			c.refuse(f.line, at, "the name %q is not made of a-z, 0-9 and _", f.name)
			continue
		}
		out = append(out, letMapping{f.name, c.expression(at+"/"+f.name, f.source, stringType)})
	}
	return out
}

// Limits of one expression: nodes of its tree, and items that it may make while running.
const (
	maxNodes        = 1000
	maxMemoryBudget = 1_000_000
)

// expression compiles one expression to a type (nil: any). It returns nil if none is written or it is wrong.
func (c *compiler) expression(at string, s source, want reflect.Type) *expression {
	if s.text == "" {
		return nil
	}
	uses := &letUses{}
	options := append(c.m.functions.options(), expr.Env(c.env), expr.Patch(uses), expr.MaxNodes(maxNodes))
	program, err := expr.Compile(s.text, options...)
	if err != nil {
		c.refuse(s.line, at, "%w", err)
		return nil
	}
	e := &expression{at: at, text: strings.Join(strings.Fields(s.text), " "), program: program, typ: program.Node().Type()}
	if want != nil && e.typ != nil && e.typ.Kind() != reflect.Interface && e.typ != want {
		c.refuse(s.line, at, "want %s, %s is %s", typeName(want), e.text, typeName(e.typ))
		return nil
	}
	for i, let := range c.m.lets {
		if !uses.names[let.name] {
			continue
		}
		for _, j := range append(slices.Clone(let.value.lets), i) {
			if !slices.Contains(e.lets, j) {
				e.lets = append(e.lets, j)
			}
		}
	}
	return e
}

func typeName(t reflect.Type) string {
	switch t {
	case stringType:
		return "a string"
	case boolType:
		return "true or false"
	case intType:
		return "a whole number"
	case timeType:
		return "a time"
	case reflect.TypeFor[float64]():
		return "a fraction (for money use minor)"
	default:
		return "a " + t.Kind().String()
	}
}
