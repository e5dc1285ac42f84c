package training

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"vaglio/models"
	"vaglio/scoring/policy"
)

// scoreKeys are the keys of a policy, or of a segment, that say what a probability leads to.
var scoreKeys = []string{"thresholds", "costs", "approve_below", "deny_from"}

// Policy is the text of a policy with the plan's thresholds in place of its own; all else stays, rules and comments. base is a
// policy's text, nil for the default one. It is written as a list of keys, one below the other.
func (p *CostPlan) Policy(base []byte, name string) ([]byte, error) {
	if base == nil {
		base = policy.DefaultYAML()
	}
	given, err := policy.Parse(base)
	if err != nil {
		return nil, err
	}
	rest := p.Thresholds
	if len(p.Segments) > 0 {
		rest = p.thresholdsOf("")
	}
	var edits []edit
	root, err := mappingOf(base)
	if err != nil {
		return nil, err
	}
	edits = append(edits, edit{keys: []string{"name"}, line: "name: " + name, in: root, end: lineCount(base) + 1},
		edit{keys: scoreKeys, line: p.comment() + "thresholds: " + thresholdsYAML(rest), in: root, end: lineCount(base) + 1})
	for _, s := range given.Segments() {
		if i := slices.IndexFunc(p.Segments, func(t SegmentThresholds) bool { return t.Segment == s }); i >= 0 {
			item, end, err := segmentItem(root, s, lineCount(base)+1)
			if err != nil {
				return nil, err
			}
			edits = append(edits, edit{keys: scoreKeys, line: "thresholds: " + thresholdsYAML(p.Segments[i].Thresholds), in: item, end: end})
		}
	}
	out := apply(base, edits)
	if _, err := policy.Parse(out); err != nil {
		return nil, fmt.Errorf("put thresholds into the policy: %w", err)
	}
	return out, nil
}

func (p *CostPlan) comment() string {
	var out strings.Builder
	fmt.Fprintf(&out, "# From costs, on %d requests with %d frauds", p.Requests, p.Frauds)
	if p.PerHour > 0 {
		fmt.Fprintf(&out, ", at most %s reviews an hour", strconv.FormatFloat(p.PerHour, 'g', -1, 64))
	}
	out.WriteString(".\n")
	for _, s := range p.Savings {
		fmt.Fprintf(&out, "# Saved against %s, on %s: %d", s.Against, p.JudgedOn, s.Amount)
		if s.Interval != nil {
			fmt.Fprintf(&out, " (95 %%: %.0f to %.0f)", s.Interval.Low, s.Interval.High)
		}
		out.WriteString(" minor units.\n")
	}
	return out.String()
}

func thresholdsYAML(t models.Thresholds) string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	return "{approve_below: " + number(t.ApproveBelow) + ", deny_from: " + number(t.DenyFrom) + "}"
}

// edit replaces keys of a mapping by one line, or several.
type edit struct {
	keys []string
	line string
	in   *ast.MappingNode
	end  int // the line behind the mapping
}

func mappingOf(source []byte) (*ast.MappingNode, error) {
	file, err := parser.ParseBytes(source, 0)
	if err != nil {
		return nil, err
	}
	root, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok || root.IsFlowStyle {
		return nil, errors.New("put thresholds into the policy: write it as keys one below the other")
	}
	return root, nil
}

// segmentItem finds the mapping of a segment, and the line behind it.
func segmentItem(root *ast.MappingNode, name string, end int) (*ast.MappingNode, int, error) {
	for i, entry := range root.Values {
		list, ok := entry.Value.(*ast.SequenceNode)
		if !ok || keyOf(entry) != "segments" {
			continue
		}
		if i+1 < len(root.Values) {
			end = lineOf(root.Values[i+1])
		}
		for k, item := range list.Values {
			mapping, ok := item.(*ast.MappingNode)
			if !ok || !slices.ContainsFunc(mapping.Values, func(v *ast.MappingValueNode) bool {
				return keyOf(v) == "name" && v.Value.GetToken().Value == name
			}) {
				continue
			}
			if list.IsFlowStyle || mapping.IsFlowStyle {
				break
			}
			if k+1 < len(list.Values) {
				end = list.Values[k+1].GetToken().Position.Line
				if next, ok := list.Values[k+1].(*ast.MappingNode); ok && len(next.Values) > 0 {
					end = lineOf(next.Values[0])
				}
			}
			return mapping, end, nil
		}
	}
	return nil, 0, fmt.Errorf("put thresholds into the policy: write segment %q as keys one below the other", name)
}

func keyOf(entry *ast.MappingValueNode) string { return entry.Key.GetToken().Value }

func lineOf(entry *ast.MappingValueNode) int { return entry.Key.GetToken().Position.Line }

func lineCount(source []byte) int {
	return len(bytes.SplitAfter(bytes.TrimSuffix(source, []byte("\n")), []byte("\n")))
}

// apply makes the edits. The new lines stand where the first of the keys stood, otherwise behind the mapping's first key.
func apply(source []byte, edits []edit) []byte {
	lines := bytes.SplitAfter(append(bytes.TrimSuffix(source, []byte("\n")), '\n'), []byte("\n"))
	lines = lines[:len(lines)-1]
	before := make([]string, len(lines)+1)
	gone := make([]bool, len(lines))
	for _, e := range edits {
		place := 0
		indent := strings.Repeat(" ", e.in.Values[0].Key.GetToken().Position.Column-1)
		for i, entry := range e.in.Values {
			if !slices.Contains(e.keys, keyOf(entry)) {
				continue
			}
			from, until := lineOf(entry), e.end
			if i+1 < len(e.in.Values) {
				until = lineOf(e.in.Values[i+1])
			}
			for until > from+1 && isBetweenKeys(lines[until-2]) {
				until--
			}
			place = cmp.Or(place, from)
			for line := from; line < until; line++ {
				gone[line-1] = true
			}
		}
		text := indented(e.line, indent)
		switch {
		case place > 0 && bytes.HasPrefix(bytes.TrimSpace(lines[place-1]), []byte("- ")): // the item's first key: its dash stays
			text = dashed(text, lines[place-1])
		case place == 0:
			place = lineOf(e.in.Values[0]) + 1
			if len(e.in.Values) > 1 {
				place = lineOf(e.in.Values[1])
			}
			for isBetweenKeys(lines[place-2]) {
				place--
			}
		}
		before[place-1] += text
	}
	var out bytes.Buffer
	for i, line := range lines {
		out.WriteString(before[i])
		if !gone[i] {
			out.Write(line)
		}
	}
	out.WriteString(before[len(lines)])
	return out.Bytes()
}

// isBetweenKeys tells an empty line, or one that is a comment: it belongs to the key that follows.
func isBetweenKeys(line []byte) bool {
	text := bytes.TrimSpace(line)
	return len(text) == 0 || text[0] == '#'
}

func indented(text, indent string) string {
	var out strings.Builder
	for line := range strings.Lines(text + "\n") {
		out.WriteString(indent + line)
	}
	return out.String()
}

// dashed gives the text the dash of the line whose place it takes.
func dashed(text string, line []byte) string {
	dash := bytes.IndexByte(line, '-')
	return text[:dash] + "-" + text[dash+1:]
}
