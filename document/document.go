// Package document reads plain YAML written by people: [Parse] makes one document of it, and [Value] walks it strictly. A
// mistake does not end the reading: each is noted with its line and place, and [Root.Err] tells them all together.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"vaglio"
)

// Bounds of what is told: of more mistakes there is the number, longer ones are cut.
const (
	maxMistakes     = 50
	maxMistakeBytes = 500
)

// maxLines bounds the time of the YAML parser, which is quadratic in the keys of one mapping.
const maxLines = 20_000

// Root is a document under way.
type Root struct {
	Value
	mistakes []mistake
	more     int
}

type mistake struct {
	line int
	text string
}

// Value is one value of a document. Its methods answer the zero value where they note a mistake.
type Value struct {
	node ast.Node
	path string // as people name it; "" for the whole
	line int    // of the key, if there is one
	root *Root
}

// Parse reads one document of at most so many bytes.
func Parse(source []byte, maxBytes int) (*Root, error) {
	body, err := Plain(source, maxBytes)
	if err != nil {
		return nil, err
	}
	root := &Root{}
	root.Value = Value{node: body, line: 1, root: root}
	return root, nil
}

// Plain is the tree of one document of at most so many bytes. Anchors, aliases, tags and merges are refused: an alias can make a
// small file a huge one, and go-yaml panics on some tags.
func Plain(source []byte, maxBytes int) (body ast.Node, err error) {
	defer func() {
		if reason := recover(); reason != nil { // of the YAML library, on what is hardly YAML
			body, err = nil, fmt.Errorf("want plain YAML: %v", reason)
		}
	}()
	if len(source) > maxBytes {
		return nil, fmt.Errorf("want at most %d bytes, not %d", maxBytes, len(source))
	}
	if lines := bytes.Count(source, []byte("\n")); lines > maxLines {
		return nil, fmt.Errorf("want at most %d lines, not %d", maxLines, lines)
	}
	if line := tooDeep(source); line > 0 {
		return nil, fmt.Errorf("line %d: is nested too deep", line)
	}
	file, err := parser.ParseBytes(source, 0, parser.AllowDuplicateMapKey())
	switch {
	case err != nil:
		return nil, errors.New(yaml.FormatError(err, false, false))
	case len(file.Docs) == 0 || len(file.Docs) == 1 && file.Docs[0].Body == nil:
		return nil, errors.New("the file is empty")
	case len(file.Docs) > 1:
		return nil, fmt.Errorf("want one YAML document, not %d", len(file.Docs))
	}
	body = file.Docs[0].Body
	var refused fancy
	if ast.Walk(&refused, body); refused.line > 0 {
		return nil, fmt.Errorf("line %d: anchors, aliases, tags and merges have no place here", refused.line)
	}
	return body, nil
}

// tooDeep is the line where brackets or items are nested so deep that the parser would take minutes over it, 0 for none.
func tooDeep(source []byte) int {
	const limit = 64
	line, open := 0, 0
	for text := range strings.Lines(string(source)) {
		line++
		items := text[:len(text)-len(strings.TrimLeft(text, "-? "))]
		if strings.Count(items, "-")+strings.Count(items, "?") > limit {
			return line
		}
		for _, c := range []byte(text) {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(0, open-1)
			}
			if open > limit {
				return line
			}
		}
	}
	return 0
}

// fancy is the line of the last node that makes more than plain YAML, 0 for none.
type fancy struct{ line int }

// Visit implements ast.Visitor.
func (f *fancy) Visit(node ast.Node) ast.Visitor {
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		f.line = node.GetToken().Position.Line
	}
	return f
}

// Err is every mistake noted so far, by line, or nil.
func (r *Root) Err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(r.mistakes, func(a, b mistake) int { return a.line - b.line })
	lines := make([]string, 0, len(r.mistakes)+1)
	for _, m := range r.mistakes {
		lines = append(lines, fmt.Sprintf("line %d: %s", m.line, m.text))
	}
	if r.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more mistakes", r.more))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// Failf notes a mistake.
func (v Value) Failf(format string, args ...any) {
	if len(v.root.mistakes) == maxMistakes {
		v.root.more++
		return
	}
	text := fmt.Sprintf(format, args...)
	if v.path != "" {
		text = v.path + ": " + text
	}
	if len(text) > maxMistakeBytes {
		text = strings.ToValidUTF8(text[:maxMistakeBytes], "") + "…"
	}
	v.root.mistakes = append(v.root.mistakes, mistake{v.line, text})
}

// Failed counts the mistakes noted so far in the whole document.
func (v Value) Failed() int { return len(v.root.mistakes) + v.root.more }

// Line is where the value stands.
func (v Value) Line() int { return v.line }

// Named is the value under another name in mistakes: a row by its own name rather than its number.
func (v Value) Named(name string) Value {
	v.path = name
	return v
}

func (v Value) member(name string, node ast.Node, line int) Value {
	if v.path != "" {
		name = v.path + ": " + name
	}
	return Value{node, name, line, v.root}
}

func (v Value) entries() ([]*ast.MappingValueNode, bool) {
	switch n := v.node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	default:
		return nil, false
	}
}

// Fields reads a mapping: each key by its row of the table. Unknown and repeated keys, and keys without a value, are mistakes.
func (v Value) Fields(table map[string]func(Value)) {
	v.Each(func(key string, member Value) {
		if read := table[key]; read != nil {
			read(member)
			return
		}
		member.path = v.path
		member.Failf("there is no key %.64q here: there are %s", key, strings.Join(slices.Sorted(maps.Keys(table)), ", "))
	})
}

// Each reads a mapping with keys of any name.
func (v Value) Each(read func(key string, member Value)) {
	entries, ok := v.entries()
	if !ok {
		v.Failf("want keys and values, not %s", v.shown())
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		key := e.Key.GetToken().Value
		member := v.member(key, e.Value, e.Key.GetToken().Position.Line)
		_, empty := e.Value.(*ast.NullNode)
		switch {
		case seen[key]:
			member.Failf("is given twice")
		case empty:
			member.Failf("has no value; leave it out")
		default:
			read(key, member)
		}
		seen[key] = true
	}
}

// Get is the text under a key of a mapping, "" if there is none: what a row is called, before it is read.
func (v Value) Get(key string) string {
	entries, _ := v.entries()
	for _, e := range entries {
		if s, ok := e.Value.(*ast.StringNode); ok && e.Key.GetToken().Value == key {
			return s.Value
		}
	}
	return ""
}

// Has reports whether a mapping has a key.
func (v Value) Has(key string) bool {
	entries, _ := v.entries()
	return slices.ContainsFunc(entries, func(e *ast.MappingValueNode) bool { return e.Key.GetToken().Value == key })
}

// Items reads a list of at most so many.
func (v Value) Items(most int) []Value {
	list, ok := v.node.(*ast.SequenceNode)
	switch {
	case !ok:
		v.Failf("want a list, not %s", v.shown())
		return nil
	case len(list.Values) > most:
		v.Failf("has more than %d entries", most)
		return nil
	}
	items := make([]Value, len(list.Values))
	for i, node := range list.Values {
		line := node.GetToken().Position.Line
		if row, ok := node.(*ast.MappingNode); ok && len(row.Values) > 0 {
			line = row.Values[0].Key.GetToken().Position.Line
		}
		items[i] = v.member(fmt.Sprintf("entry %d", i+1), node, line)
	}
	return items
}

func (v Value) shown() string {
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	default:
		return fmt.Sprintf("%.64q", v.node.GetToken().Value)
	}
}

// IsText reports whether the value is a string.
func (v Value) IsText() bool {
	_, ok := v.text()
	return ok
}

// TextIs reports whether the value is a certain string.
func (v Value) TextIs(want string) bool {
	text, _ := v.text()
	return text == want
}

func (v Value) text() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	default:
		return "", false
	}
}

// Text reads a string that is not empty.
func (v Value) Text() string {
	text, ok := v.text()
	if !ok || text == "" {
		v.Failf("want a text, not %s", v.shown())
	}
	return text
}

// Source reads a string, or what is written where YAML sees a number or true or false: the text of an expression.
func (v Value) Source() string {
	switch n := v.node.(type) {
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value
	default:
		return v.Text()
	}
}

// Texts reads a list of strings, each once.
func (v Value) Texts(most int) []string {
	var texts []string
	for _, item := range v.Items(most) {
		text := item.Text()
		if slices.Contains(texts, text) {
			item.Failf("%.64q is given twice", text)
		}
		texts = append(texts, text)
	}
	return texts
}

// OneOf reads one of a closed set of words.
func (v Value) OneOf(words ...string) string {
	if text, ok := v.text(); ok && slices.Contains(words, text) {
		return text
	}
	v.Failf("want %s, not %s", strings.Join(words, ", "), v.shown())
	return ""
}

// Flag reads true or false.
func (v Value) Flag() bool {
	n, ok := v.node.(*ast.BoolNode)
	if !ok {
		v.Failf("want true or false, not %s", v.shown())
		return false
	}
	return n.Value
}

// Number reads a number within bounds, which count.
func (v Value) Number(least, most float64) float64 {
	x := math.NaN()
	switch n := v.node.(type) {
	case *ast.IntegerNode:
		switch whole := n.Value.(type) {
		case int64:
			x = float64(whole)
		case uint64:
			x = float64(whole)
		}
	case *ast.FloatNode:
		x = n.Value
	}
	if !(x >= least && x <= most) {
		v.Failf("want a number from %v to %v, not %s", least, most, v.shown())
		return 0
	}
	return x
}

// Whole reads a whole number within bounds, which count.
func (v Value) Whole(least, most int64) int64 {
	x := int64(math.MinInt64)
	if n, ok := v.node.(*ast.IntegerNode); ok {
		switch whole := n.Value.(type) {
		case int64:
			x = whole
		case uint64:
			x = int64(min(whole, math.MaxInt64))
		}
	}
	if x < least || x > most {
		v.Failf("want a whole number from %d to %d, not %s", least, most, v.shown())
		return 0
	}
	return x
}

// Span reads a duration of Go's form (30m, 1h30m) within bounds, which count.
func (v Value) Span(least, most time.Duration) time.Duration {
	text, _ := v.text()
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		v.Failf("want a duration from %s to %s, not %s", FormatSpan(least), FormatSpan(most), v.shown())
		return 0
	}
	return d
}

// FormatSpan writes a duration as people do: 30m, 24h, 1h30m.
func FormatSpan(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Instant reads RFC 3339 or a date, which is its midnight in UTC.
func (v Value) Instant() vaglio.Instant {
	text, ok := v.text()
	if !ok {
		text = v.node.GetToken().Value
	}
	at, err := vaglio.ParseInstant(text)
	if err != nil {
		v.Failf("%v", err)
	}
	return at
}
