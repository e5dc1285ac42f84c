package ingest_test

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vaglio/history/ingest"
)

const sums = `
format: csv
columns: [invoice, price]
group_by: row.invoice
group_within: 2
events:
  - id: row.invoice
    kind: payment
    occurred_at: time("2026-01-02")
    entities: {customer: '"c"'}
    attributes: {rows: string(len(rows))}
    amount: sum(rows, minor(#.price, "EUR"))
    currency: EUR
`

func TestRowsOfOneKeyBecomeOneEvent(t *testing.T) {
	check := func(onError ingest.OnError, rows, want, wantBad string) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping, o.OnError, o.Rejects = mapping(t, sums), onError, write(t, "rejects", "")
		report, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", "invoice,price\n"+strings.ReplaceAll(rows, " ", "\n")+"\n")})
		if err != nil {
			t.Fatal(err)
		}
		var got, bad []string
		for _, e := range s.events {
			got = append(got, fmt.Sprintf("%s=%d/%s", e.ID, e.Amount, e.Attributes.Get("rows")))
		}
		for _, r := range report.Rejects {
			bad = append(bad, fmt.Sprintf("%d: %s (%s)", r.Line, r.Errors[0].Detail, strings.ReplaceAll(r.Text, "\n", " ")))
		}
		if strings.Join(got, " ") != want || strings.Join(bad, "|") != wantBad {
			t.Errorf("%s: got %v %q, want %s %q", rows, got, bad, want, wantBad)
		}
	}
	check(ingest.Stop, "a,0.29 a,1.00 b,5", "a=129/2 b=500/1", "")
	check(ingest.Stop, "a,1 b,2 a,1 b,3 c,1 c,1 c,1", "a=200/2 b=500/2 c=300/3", "")
	check(ingest.Skip, "a,1 b,2 c,3 a,4", "a=100/1 b=200/1 c=300/1", "5: another event is stored under the id a, with other content "+
		`({"id":"a","kind":"payment","occurred_at":"2026-01-02T00:00:00.000Z","observed_at":"2026-01-02T00:00:00.000Z",`+
		`"entities":{"customer":"c"},"amount":400,"currency":"EUR","attributes":{"rows":"1"}})`)
	check(ingest.Skip, "a,1 a,x b,2", "b=200/1", `2: sum(rows, minor(#.price, "EUR")): "x" is not a decimal number such as 12.50 (a,1 a,x)`)
	check(ingest.Skip, "a,1 b,1 b,1,1 c,1 c,1 d,1", "a=100/1 d=100/1", "4: has 3 fields, the header has 2 (b,1,1)|"+
		"3: line 4, which may belong to it, can't be read (b,1)|5: line 4, which may belong to it, can't be read (c,1 c,1)")
}

func TestAGroupIsBounded(t *testing.T) {
	var s shelf
	o := options(&s)
	o.Mapping, o.OnError = mapping(t, sums), ingest.Skip
	path := write(t, "a.csv", "invoice,price\n"+strings.Repeat("a,1\n", 10_001)+strings.Repeat("b,1\n", 10_000))
	report, err := ingest.Files(t.Context(), o, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if s.ids() != "b" || s.events[0].Amount != 1_000_000 || report.Rejected != 1 || !strings.Contains(report.Rejects[0].Errors[0].Detail, `more than 10000 records have the key "a"`) {
		t.Errorf("stored %s, rejects %v", s.ids(), report.Rejects[0].Errors)
	}
}

func TestBadRecordsAreNamed(t *testing.T) {
	check := func(table string, line int, pointer, reason, text string) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping, o.OnError = mapping(t, logins), ingest.Skip
		report, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", table)})
		if err != nil || report.Rejected != 1 {
			t.Fatalf("%q: error %v, rejects %v", table, err, report.Rejects)
		}
		bad := report.Rejects[0]
		if bad.Line != line || bad.Errors[0].Pointer != pointer || !strings.Contains(bad.Errors[0].Detail, reason) || bad.Text != text {
			t.Errorf("got %d %+v %q", bad.Line, bad.Errors, bad.Text)
		}
		if s.ids() != "e_1 e_2" {
			t.Errorf("%q: stored %s", table, s.ids())
		}
	}
	around := func(bad string) string { return "id,customer\ne_1,c\n\n" + bad + "\ne_2,c\n" }
	check(around("e_3"), 4, "", "has 1 fields, the header has 2", "e_3")
	check(around("e_3,c,"), 4, "", "has 3 fields, the header has 2", "e_3,c,")
	check(around(`e_3,5" nail`), 4, "", `bare "`, `e_3,5" nail`)
	check(around(`"e_3"x,c`), 4, "", `quoted-field`, `"e_3"x,c`)
	check(around("e_3,\"two\nlines"+"\""), 4, "/events/0/entities/customer", "control characters", "e_3,\"two\nlines\"")
	check(around("e_3,\xff"), 4, "", "is not UTF-8", "e_3,\xff")
	check(around(",c"), 4, "/events/0/id", "is required", ",c")
	check(around("e_3,"+strings.Repeat("x", 257)), 4, "/events/0/entities/customer", "longer than 256 bytes", "e_3,"+strings.Repeat("x", 257))
	check(around("e_3,"+strings.Repeat("x", 1<<20)), 4, "", "is longer than 1 MiB", "e_3,"+strings.Repeat("x", 1020))
	check("id,customer\ne_1,\"a \"\"quoted\"\", name\"\ne_2,c\ne_3,\"open", 4, "", "quoted-field", `e_3,"open`)
}

func TestAWrongTableIsRefused(t *testing.T) {
	check := func(table, reason string) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping, o.OnError = mapping(t, logins), ingest.Skip
		if _, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", table)}); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("error %v, want %s", err, reason)
		}
	}
	check("", "want a header line")
	check("e_1,c\n", `no column "id", "customer"; there are ["e_1" "c"] (delimiter ',')`)
	check("id;customer\n", `no column "id", "customer"; there are ["id;customer"]`)
	check("id,customer,id\n", `the column "id" is there twice`)
	check("id,customer\ne_1,c\ne_2,\""+strings.Repeat("x\n", 1<<19), "line 3 opens a quote that does not close within 1 MiB")
}

func TestWhatACSVWriterWritesComesBack(t *testing.T) {
	m := mapping(t, `
format: csv
columns: [a, b]
events:
  - {id: string(row_number), kind: login, occurred_at: 'time("2026-01-02")', entities: {a: hash(row.a), b: hash(row.b)}}
`)
	field := rapid.StringOf(rapid.SampledFrom([]rune("\"\n, ;ax\\'é")))
	rapid.Check(t, func(r *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(field, 3, 3), 0, 20).Draw(r, "rows")
		var text strings.Builder
		w := csv.NewWriter(&text)
		if err := w.WriteAll(append([][]string{{"b", "more", "a"}}, rows...)); err != nil {
			r.Fatal(err)
		}
		var s shelf
		o := options(&s)
		o.Mapping, o.Stdin = m, strings.NewReader(text.String())
		if _, err := ingest.Files(t.Context(), o, []string{"-"}); err != nil {
			r.Fatal(err)
		}
		if len(s.events) != len(rows) {
			r.Fatalf("%d events of %d rows", len(s.events), len(rows))
		}
		for i, row := range rows {
			want := func(s string) string {
				sum := sha256.Sum256([]byte(s + "\x00"))
				return hex.EncodeToString(sum[:16])
			}
			if e := s.events[i]; e.Entities.Get("a") != want(row[2]) || e.Entities.Get("b") != want(row[0]) {
				r.Fatalf("row %d %q came back as %+v", i, row, e)
			}
		}
	})
}

func TestAnyTextIsReadAsEncodingCSVReadsIt(t *testing.T) {
	m := mapping(t, `
format: csv
columns: [a, b]
events:
  - {id: string(row_number), kind: login, occurred_at: 'time("2026-01-02")', entities: {v: 'hash(row.a, row.b)'}}
`)
	rapid.Check(t, func(r *rapid.T) {
		body := rapid.StringOf(rapid.SampledFrom([]rune("\"\"\n\n,,,a\r"))).Draw(r, "body")
		reader := csv.NewReader(strings.NewReader(body))
		reader.FieldsPerRecord = -1
		var want []string
		for {
			fields, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil && len(fields) == 2 {
				sum := sha256.Sum256([]byte(fields[0] + "\x00" + fields[1] + "\x00"))
				want = append(want, hex.EncodeToString(sum[:16]))
			}
		}
		var s shelf
		o := options(&s)
		o.Mapping, o.OnError, o.Rejects, o.Stdin = m, ingest.Skip, os.DevNull, strings.NewReader("a,b\n"+body)
		if _, err := ingest.Files(t.Context(), o, []string{"-"}); err != nil {
			r.Fatal(err)
		}
		var got []string
		for _, e := range s.events {
			got = append(got, e.Entities.Get("v"))
		}
		if !slices.Equal(got, want) {
			r.Fatalf("%q: %d records, want %d", body, len(got), len(want))
		}
	})
}
