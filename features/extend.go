package features

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"vaglio"
)

// Row is an aggregate as a program proposes it: the fields of a row of a catalogue.
type Row struct {
	Name      string   `json:"name"`
	Entity    string   `json:"entity"`
	Events    []string `json:"events"`
	Aggregate string   `json:"aggregate"`
	Of        string   `json:"of,omitzero"`
	Window    string   `json:"window,omitzero"`
	Within    string   `json:"within,omitzero"` // habit
	Reason    string   `json:"reason,omitzero"`
	Comment   string   `json:"-"` // stands above the row, one line or several
}

// YAML is the row as a catalogue has it, without the comment.
func (r *Row) YAML() string {
	var out strings.Builder
	fmt.Fprintf(&out, "{name: %s, entity: %s, events: [%s], aggregate: %s", r.Name, r.Entity, strings.Join(r.Events, ", "), r.Aggregate)
	for _, field := range [][2]string{{"of", r.Of}, {"window", r.Window}, {"within", r.Within}, {"reason", r.Reason}} {
		if field[1] != "" {
			fmt.Fprintf(&out, ", %s: %s", field[0], field[1])
		}
	}
	return out.String() + "}"
}

// CatalogueOf compiles rows alone; reasons are not looked at.
func CatalogueOf(rows []Row) (*Catalogue, error) {
	var source strings.Builder
	source.WriteString("name: rows\nfeatures:\n")
	for i := range rows {
		source.WriteString("  - " + rows[i].YAML() + "\n")
	}
	return Parse([]byte(source.String()))
}

// Has reports whether some row computes the same, whatever its name.
func (c *Catalogue) Has(r *Row) bool {
	events := slices.Sorted(slices.Values(r.Events))
	window, err := parseWindow(r.Window, vaglio.Horizon)
	return err == nil && slices.ContainsFunc(c.source.Features, func(s spec) bool {
		own, err := parseWindow(s.Window, vaglio.Horizon)
		return err == nil && s.Entity == r.Entity && s.Aggregate == r.Aggregate && string(s.Of) == r.Of && own == window && s.Within == r.Within &&
			s.Offset+s.Where+s.Part+s.Which == "" && slices.Equal(slices.Sorted(slices.Values(s.Events)), events)
	})
}

// HasReason reports whether a row may name a reason code: the catalogue's texts know it, or there are none.
func (c *Catalogue) HasReason(code string) bool {
	_, known := c.reasons[code]
	return known || c.reasons == nil
}

// Extend adds rows behind the features of a catalogue's text, which stays as it is, with its comments. Where the features are
// written as one list between brackets, the text is written anew, without comments. The result is a catalogue that [Parse]
// reads.
func Extend(source []byte, rows []Row) ([]byte, error) {
	base, err := Parse(source)
	if err != nil || len(rows) == 0 {
		return source, err
	}
	lines, indent := rowPlaces(source)
	if lines == nil {
		if source, err = base.YAML(); err != nil {
			return nil, err
		}
		lines, indent = rowPlaces(source)
	}
	end := lines[len(lines)-1]
	text := bytes.SplitAfter(source, []byte("\n"))
	for end < len(text) && belongsToRow(text[end], indent) {
		end++
	}
	for len(bytes.TrimSpace(text[end-1])) == 0 {
		end--
	}
	var out bytes.Buffer
	out.Write(bytes.Join(text[:end], nil))
	if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	margin := strings.Repeat(" ", indent)
	for i := range rows {
		for line := range strings.Lines(rows[i].Comment) {
			out.WriteString(margin + "# " + strings.TrimSuffix(line, "\n") + "\n")
		}
		out.WriteString(margin + "- " + rows[i].YAML() + "\n")
	}
	out.Write(bytes.Join(text[end:], nil))
	extended, err := Parse(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("add rows to the catalogue: %w", err)
	}
	if len(extended.features) != len(base.features)+len(rows) {
		return nil, fmt.Errorf("add rows to the catalogue: it has %d features instead of %d", len(extended.features), len(base.features)+len(rows))
	}
	return out.Bytes(), nil
}

// rowPlaces are the lines, from 1, on which the items of the features begin, and the column of their dashes, from 0; nil unless
// they are a list of one item below the other.
func rowPlaces(source []byte) (lines []int, indent int) {
	_, body, err := read(source)
	if err != nil {
		return nil, 0
	}
	root, ok := body.(*ast.MappingNode)
	if !ok {
		return nil, 0
	}
	for _, entry := range root.Values {
		list, ok := entry.Value.(*ast.SequenceNode)
		if !ok || entry.Key.String() != "features" || list.IsFlowStyle {
			continue
		}
		return featureLines(body), list.Start.Position.Column - 1
	}
	return nil, 0
}

// belongsToRow tells whether a line behind an item's first goes on with it.
func belongsToRow(line []byte, indent int) bool {
	trimmed := bytes.TrimLeft(line, " ")
	return len(bytes.TrimSpace(trimmed)) == 0 || len(line)-len(trimmed) > indent
}
