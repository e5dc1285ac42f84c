package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"vaglio/parquet"
)

// readParquet reads a Parquet file: its rows by the mapping, or, without one, as events whose members are its columns.
func (im *importer) readParquet(in *input, emit func(c *chunk, done int64) bool) error {
	file, err := parquet.Open(in.file, in.size)
	if err != nil {
		return err
	}
	row := int64(0)
	tell := func(c *chunk) bool { return emit(c, in.size*row/max(file.Rows(), 1)) }
	if im.Mapping == nil {
		return readEventColumns(file, &row, tell)
	}
	var missing []string
	for _, column := range im.Mapping.columns {
		if !slices.Contains(file.Columns(), column) {
			missing = append(missing, strconv.Quote(column))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no column %s; there are %q", strings.Join(missing, ", "), file.Columns())
	}
	groups := im.Mapping.chunker(in.name, tell)
	var failure error
	err = file.Each(im.Mapping.columns, func(values []string) bool {
		row++
		rec := record{line: int(row), number: int(row), values: slices.Clone(values)}
		groups.c.lineCount++
		broken := ""
		if slices.ContainsFunc(values, notUTF8) {
			broken = "is not UTF-8"
		}
		more, err := groups.open.add(rec, broken)
		failure = err
		return more && err == nil
	})
	if err := errors.Join(err, failure); err != nil {
		return fmt.Errorf("after row %d: %w", row, err)
	}
	groups.end()
	return nil
}

func notUTF8(s string) bool { return !utf8.ValidString(s) }

// readEventColumns writes each row as the JSON of an event, for the decoders to read as strictly as any other: the columns
// are the event's members, of entities and attributes entities.customer and the like, and what is null is left out.
func readEventColumns(file *parquet.File, row *int64, emit func(*chunk) bool) error {
	var unknown []string
	var columns []string
	for _, section := range []string{"", "entities.", "attributes."} {
		for _, column := range file.Columns() {
			if before, _, nested := strings.Cut(column, "."); section != "" && nested && before+"." == section || section == "" && !nested {
				columns = append(columns, column)
			}
		}
	}
	for _, column := range file.Columns() {
		if !slices.Contains(columns, column) || !strings.Contains(column, ".") && !slices.Contains(eventMembers, column) {
			unknown = append(unknown, strconv.Quote(column))
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("an event has no %s; without a mapping the columns are %s, entities.… and attributes.…",
			strings.Join(unknown, ", "), strings.Join(eventMembers, ", "))
	}
	lines := ndjsonChunker{emit: emit, c: &chunk{}}
	var text []byte
	more := true
	err := file.Each(columns, func(values []string) bool {
		*row++
		text = eventJSON(text[:0], columns, values)
		more = lines.add(text, int(*row), len(text) > maxLine)
		return more
	})
	if err != nil {
		return fmt.Errorf("after row %d: %w", *row, err)
	}
	if more {
		lines.end()
	}
	return nil
}

var eventMembers = []string{"id", "kind", "occurred_at", "observed_at", "amount", "currency"}

// eventJSON writes one row; columns of one section stand together, those of none first.
func eventJSON(text []byte, columns, values []string) []byte {
	text = append(text, '{')
	section := ""
	comma := func() {
		if last := text[len(text)-1]; last != '{' {
			text = append(text, ',')
		}
	}
	for i, column := range columns {
		name := column
		if before, after, nested := strings.Cut(column, "."); nested {
			if before != section {
				if section != "" {
					text = append(text, '}')
				}
				comma()
				text = append(append(text, '"'), before...)
				text = append(text, `":{`...)
				section = before
			}
			name = after
		}
		if values[i] == "" {
			continue
		}
		comma()
		text = quoted(text, name)
		text = append(text, ':')
		if column == "amount" && isWhole(values[i]) {
			text = append(text, values[i]...)
		} else {
			text = quoted(text, values[i])
		}
	}
	if section != "" {
		text = append(text, '}')
	}
	return append(text, '}')
}

// quoted appends a JSON string; text that is not UTF-8 stays so, for the decoder to refuse.
func quoted(text []byte, s string) []byte {
	plain, err := jsontext.AppendQuote(text, s)
	if err != nil {
		return append(append(append(text, '"'), s...), '"')
	}
	return plain
}

func isWhole(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil && s[0] != '+'
}
