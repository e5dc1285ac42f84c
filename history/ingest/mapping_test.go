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
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/history/ingest"
)

const logins = `
format: csv
columns: [id, customer]
events:
  - {id: row.id, kind: login, occurred_at: 'time("2026-01-02")', entities: {customer: row.customer}}
`

func mapping(t testing.TB, text string) *ingest.Mapping {
	t.Helper()
	m, err := ingest.ParseMapping([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAWrongMappingIsRefusedWithItsPlace(t *testing.T) {
	check := func(from, to, reason string) {
		t.Helper()
		text := strings.Replace(logins, from, to, 1)
		if text == logins {
			t.Fatalf("%q is not in the mapping", from)
		}
		if _, err := ingest.ParseMapping([]byte(text)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want %s", to, err, reason)
		}
	}
	check("format: csv", "format: parquet", "format: want csv")
	check("format", "fromat", `unknown field "fromat"`)
	check("columns: [id, customer]", "columns: []", "columns: name those")
	check("columns: [id, customer]", "columns: [id, id]", `columns: "id" is there twice`)
	check("columns: [id, customer]", "columns: [id]", "line 5: /events/0/entities/customer: unknown field customer")
	check("row.id", "row.it", "line 5: /events/0/id: unknown field it")
	check("row.id", "rwo.id", "line 5: /events/0/id: unknown name rwo")
	check("row.id", "row_number", "line 5: /events/0/id: want a string, row_number is a whole number")
	check("row.id", "'row.id +'", "line 5: /events/0/id: unexpected token EOF")
	check("id: row.id, ", "", "/events/0/id is required")
	check("id: row.id", "id: [row.id]", "line 5: want an expression")
	check("id: row.id", "id: ' '", "line 5: the expression is empty")
	check("kind: login", "kind: Login", "unknown name Login")
	check("kind: login", "kind: login, when: row.id", "/events/0/when: want true or false, row.id is a string")
	check("kind: login", "kind: login, amount: 5", "/events/0: amount and currency only come together")
	check("kind: login", `kind: login, currency: EUR, amount: '2.5'`, "/events/0/amount: want a whole number, 2.5 is a fraction")
	check("kind: login", `kind: login, currency: EUR, amount: number(row.id)`, "/events/0/amount: want a whole number, number(row.id) is a fraction (for money use minor)")
	check(`'time("2026-01-02")'`, "row.id", "/events/0/occurred_at: want a time, row.id is a string")
	check(`'time("2026-01-02")'`, "now()", "unknown name now")
	check(", entities: {customer: row.customer}", "", "/events/0/entities is required")
	check("customer: row.customer", "Customer: row.customer", `the name "Customer" is not made of`)
	check("customer: row.customer", "customer: row.customer, customer: row.id", "already defined")
	check("format: csv", "format: csv\ndelimiter: ab", "delimiter: want one of")
	check("format: csv", "format: csv\ndecimal: ;", "decimal: want . or ,")
	check("format: csv", "format: csv\ntimezone: Europe/Atlantis", `timezone: "Europe/Atlantis" is not a name`)
	check("format: csv", "format: csv\ngroup_within: 5", "group_within: only with group_by")
	check("format: csv", "format: csv\ngroup_by: row.id\ngroup_within: 10001", "group_within: want 1 to 10000")
	check("format: csv", "format: csv\ngroup_by: rows", "line 3: /group_by: want a string")
	check("format: csv", "format: csv\nlet: {row: row.id}", "line 3: /let/row: the name is taken")
	check("format: csv", "format: csv\nlet: {a: b, b: row.id}", "line 3: /let/a: unknown name b")
	check("format: csv", "format: csv\nlet: 7", "line 3: want names and expressions")
	check("row.id", "'"+strings.Repeat("row.id + ", 600)+"row.id'", "exceeds maximum allowed nodes")
}

// value evaluates one expression over a table of one record, {s: the text}, and answers with the attribute that comes of
// it, or the reason why none does.
func value(t *testing.T, settings, expression, s string) string {
	t.Helper()
	m := mapping(t, fmt.Sprintf(`
format: csv
columns: [s]
%s
events:
  - {id: '"e"', kind: login, occurred_at: 'time("2026-01-02")', entities: {customer: '"c"'}, attributes: {v: %q}}
`, settings, expression))
	var text strings.Builder
	w := csv.NewWriter(&text)
	if err := w.WriteAll([][]string{{"s", "t"}, {s, ""}}); err != nil {
		t.Fatal(err)
	}
	var sh shelf
	o := options(&sh)
	o.Mapping = m
	report, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", text.String())})
	if err != nil {
		if len(report.Rejects) == 0 {
			t.Fatal(err)
		}
		bad := report.Rejects[0]
		if bad.Line != 2 || bad.Errors[0].Pointer != "/events/0/attributes/v" {
			t.Errorf("%s of %q: the error is at %d %s", expression, s, bad.Line, bad.Errors[0].Pointer)
		}
		return bad.Errors[0].Detail
	}
	return sh.events[0].Attributes.Get("v")
}

func TestMoneyIsExact(t *testing.T) {
	check := func(function, s, currency, want string) {
		t.Helper()
		if got := value(t, "", fmt.Sprintf("string(%s(row.s, %q))", function, currency), s); !strings.Contains(got, want) || len(want) < 8 && got != want {
			t.Errorf("%s(%q, %s) is %s, want %s", function, s, currency, got, want)
		}
	}
	check("minor", "0.29", "EUR", "29") // 28.999999999999996 by floating point
	check("minor", "1.15", "EUR", "115")
	check("minor", "4.35", "GBP", "435")
	check("minor", "12", "EUR", "1200")
	check("minor", "12.5", "EUR", "1250")
	check("minor", "-12.50", "EUR", "-1250")
	check("minor", "+0.01", "EUR", "1")
	check("minor", "12.5000", "EUR", "1250")
	check("minor", "1500", "JPY", "1500")
	check("minor", "1.234", "KWD", "1234")
	check("minor", "100000000000.00", "EUR", "10000000000000")
	check("minor", "100000000000.01", "EUR", "is more than 10000000000000 minor units")
	check("minor", "99999999999999999999", "EUR", "is more than 10000000000000 minor units")
	check("minor", "0.001", "EUR", `string(minor(row.s, "EUR")): "0.001" has more than 2 decimals`)
	check("minor", "1.5", "JPY", "has more than 0 decimals")
	check("minor", "1", "EURO", `"EURO" is not an ISO 4217 code`)
	for _, s := range []string{"1e3", "", " 1", "1,5", "1.000,00", "1.", ".5", "0x10", "NaN", "1_000", "--1", "-+1", "٣", "£1"} {
		check("minor", s, "EUR", "is not a decimal number such as 12.50")
	}
	check("round_minor", "0.001", "GBP", "0")
	check("round_minor", "0.005", "GBP", "1")
	check("round_minor", "0.0049999", "GBP", "0")
	check("round_minor", "-0.005", "GBP", "-1")
	check("round_minor", "2.55", "GBP", "255")

	for s, want := range map[string]string{"1,5": "150", "1.5": `"1.5" is not a decimal number such as 12,50`} {
		if got := value(t, `decimal: ","`, `string(minor(row.s, "EUR"))`, s); !strings.HasSuffix(got, want) {
			t.Errorf("with a decimal comma %s is %s, want %s", s, got, want)
		}
	}
}

func TestMoneyIsExactForAnyAmount(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cents := rapid.Int64Range(0, vaglio.MaxAmount).Draw(r, "cents")
		s := fmt.Sprintf("%d.%02d", cents/100, cents%100)
		if got := value(t, "", `string(minor(row.s, "EUR"))`, s); got != strconv.FormatInt(cents, 10) {
			r.Fatalf("%s is %s", s, got)
		}
	})
}

func TestTimesAreReadInTheMappingsZone(t *testing.T) {
	check := func(zone, call, s, want string) {
		t.Helper()
		got := value(t, "timezone: "+zone, "("+call+`).UTC().Format("2006-01-02T15:04:05.000Z")`, s)
		if !strings.Contains(got, want) {
			t.Errorf("%s of %q in %s is %s, want %s", call, s, zone, got, want)
		}
	}
	const layout = `time(row.s, "2006-01-02 15:04:05")`
	check("UTC", "time(row.s)", "2026-11-22 10:00:00", "2026-11-22T10:00:00.000Z")
	check("UTC", "time(row.s)", "2026-11-22T10:00:00.123", "2026-11-22T10:00:00.123Z")
	check("Europe/Rome", "time(row.s)", "2026-11-22", "2026-11-21T23:00:00.000Z")
	check("Europe/Rome", "time(row.s)", "2026-11-22 10:00", "2026-11-22T09:00:00.000Z")
	check("Europe/Rome", "time(row.s)", "2026-11-22T10:00:00+05:00", "2026-11-22T05:00:00.000Z")
	check("Europe/Rome", "time(row.s)", "22/11/2026", `"22/11/2026" is not a time such as`)
	check("Europe/Rome", `time(row.s, "02/01/2006")`, "22/11/2026", "2026-11-21T23:00:00.000Z")
	check("Europe/Rome", `time(row.s, "02/01/2006")`, "22/13/2026", `is not a time of the layout "02/01/2006"`)
	check("Europe/Rome", `time(row.s, "unix")`, "1700000000", "2023-11-14T22:13:20.000Z")
	check("Europe/Rome", `time(row.s, "unix_ms")`, "1700000000123", "2023-11-14T22:13:20.123Z")
	check("Europe/Rome", `time(row.s, "unix")`, "1e9", "is not a number of seconds")
	check("UTC", "time(row.s) + days(2) - hours(1) + minutes(0.5)", "2026-11-22", "2026-11-23T23:00:30.000Z")

	// British clocks: forward at 01:00 on 2011-03-27, back at 02:00 on 2011-10-30 (tz database).
	check("Europe/London", layout, "2011-03-27 00:59:59", "2011-03-27T00:59:59.000Z")
	check("Europe/London", layout, "2011-03-27 01:30:00", `"2011-03-27 01:30:00" does not exist in Europe/London: clocks were put forward`)
	check("Europe/London", "time(row.s)", "2011-03-27 01:30:00", "does not exist in Europe/London")
	check("Europe/London", layout, "2011-03-27 02:00:00", "2011-03-27T01:00:00.000Z")
	check("Europe/London", layout, "2011-10-30 00:59:59", "2011-10-29T23:59:59.000Z")
	check("Europe/London", layout, "2011-10-30 01:30:00", "2011-10-30T00:30:00.000Z") // the first of the two
	check("Europe/London", layout, "2011-10-30 02:00:00", "2011-10-30T02:00:00.000Z")
	check("Europe/London", `time(row.s, "2006-01-02 15:04:05 -0700")`, "2011-10-30 01:30:00 +0000", "2011-10-30T01:30:00.000Z")
	check("Australia/Lord_Howe", layout, "2026-04-05 01:45:00", "2026-04-04T14:45:00.000Z") // back by half an hour, from +11 to +10:30
	check("Australia/Lord_Howe", layout, "2026-10-04 02:15:00", "does not exist")
}

func TestNumbersNeverOverflow(t *testing.T) {
	check := func(expression, s, want string) {
		t.Helper()
		if got := value(t, "", expression, s); !strings.HasSuffix(got, want) {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
	check("string(int(row.s) * 3)", "14", "42")
	check("string(int(row.s) - 15)", "14", "-1")
	check("string(int(row.s) * int(row.s))", "500000000000000", "the number is beyond 500000000000000")
	check("string(int(row.s) + int(row.s))", "400000000000000", "the number is beyond 500000000000000")
	check("string(int(row.s) * 4294967296 * 4294967296)", "2", "the number is beyond 500000000000000")
	check("string(int(row.s))", "9223372036854775807", "the number is beyond 500000000000000")
	check("string(int(row.s))", "9223372036854775808", `"9223372036854775808" is not a whole number`)
	check("string(int(row.s))", "1.0", `"1.0" is not a whole number`)
	check("string(number(row.s) > 0.5)", "0.75", "true")
	check("string(number(row.s))", "NaN", `"NaN" is not a number`)
	check("string(days(int(row.s)))", "40000", "40000 is no number of at most a hundred years")
	check("len(1..2000000) > 0 ? row.s : ''", "x", "memory budget exceeded")
}

func TestEmptyStringsLeaveFieldsOut(t *testing.T) {
	m := mapping(t, `
format: csv
columns: [id, device, amount]
events:
  - id: row.id
    kind: payment
    occurred_at: time("2026-01-02")
    entities: {customer: '"c"', device: row.device}
    attributes: {device: row.device, nothing: nil}
    amount: 'row.amount == "" ? nil : minor(row.amount, "EUR")'
    currency: EUR
`)
	var s shelf
	o := options(&s)
	o.Mapping = m
	if _, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", "id,device,amount\ne_1,,\ne_2,d,0.00\n")}); err != nil {
		t.Fatal(err)
	}
	if e := s.events[0]; len(e.Entities) != 1 || len(e.Attributes) != 0 || e.Currency != "" {
		t.Errorf("%+v", e)
	}
	if e := s.events[1]; e.Entities.Get("device") != "d" || e.Attributes.Get("device") != "d" || e.Currency != "EUR" || e.Amount != 0 {
		t.Errorf("%+v", e)
	}
}

func TestARowBecomesAnyNumberOfEventsOrNone(t *testing.T) {
	m := mapping(t, `
format: csv
delimiter: ";"
columns: [id, "Customer ID", kind]
let:
  paid: time(row.id) # evaluated only for rows that need it
  later: paid + hours(1)
events:
  - {when: row.kind startsWith "p", id: 'file + ":" + string(row_number)', kind: row.kind + "", occurred_at: paid, entities: {customer: 'row["Customer ID"]'}}
  - {when: row.kind == "payment", id: 'hash(file, row.id)', kind: delivered, occurred_at: later, observed_at: later + days(1), entities: {customer: 'row["Customer ID"]'}}
`)
	var s shelf
	o := options(&s)
	o.Mapping = m
	report, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", "kind;id;more;Customer ID\nx;never read;;c\npayment;2026-01-02;;c\npayout;2026-01-03;;c\n")})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("a.csv\x002026-01-02\x00"))
	if want := "a.csv:2 " + hex.EncodeToString(sum[:16]) + " a.csv:3"; s.ids() != want {
		t.Errorf("events %s, want %s", s.ids(), want)
	}
	if report.Lines != 3 || report.NoEvent != 1 || report.Events != 3 || report.Kinds["payout"] != 1 {
		t.Errorf("report %+v", report)
	}
	if e := s.events[1]; e.ObservedAt-e.OccurredAt != vaglio.Day || e.OccurredAt.String() != "2026-01-02T01:00:00.000Z" {
		t.Errorf("%+v", e)
	}
}

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

func TestAnyEventsComeBackEqual(t *testing.T) {
	value := rapid.StringMatching(`[a-z0-9ü "\\]{1,20}`)
	fields := func(least int) *rapid.Generator[vaglio.Fields] {
		return rapid.Custom(func(r *rapid.T) vaglio.Fields {
			fs := vaglio.Fields{}
			for name, v := range rapid.MapOfN(rapid.StringMatching(`[a-z][a-z_0-9]{0,8}`), value, least, 5).Draw(r, "fields") {
				fs = fs.With(name, v)
			}
			return fs
		})
	}
	instant := rapid.Custom(func(r *rapid.T) vaglio.Instant {
		return vaglio.Instant(rapid.Int64Range(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), now().UnixMilli()).Draw(r, "ms"))
	})
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(0, 50).Draw(r, "n")
		var text strings.Builder
		var want [3][]vaglio.Event // by their turn: others, requests, labels
		for i := range n {
			e := vaglio.Event{ID: fmt.Sprint(i, value.Draw(r, "id")), OccurredAt: instant.Draw(r, "occurred"), Entities: fields(1).Draw(r, "entities"),
				Attributes: fields(0).Draw(r, "attributes"), Kind: rapid.SampledFrom([]string{"payment", "refund_requested", "fraud_confirmed", "fraud_cleared", "x_1"}).Draw(r, "kind")}
			if rapid.Bool().Draw(r, "observed") {
				e.ObservedAt = instant.Draw(r, "observed")
			}
			if rapid.Bool().Draw(r, "money") {
				e.Amount, e.Currency = rapid.Int64Range(0, vaglio.MaxAmount).Draw(r, "amount"), "EUR"
			}
			turn := 0
			switch {
			case e.IsLabel():
				turn, e.Entities = 2, e.Entities.With("request", "rr")
			case e.Kind == vaglio.KindRefundRequested:
				turn = 1
			}
			line, err := e.MarshalJSON()
			if err != nil {
				r.Fatal(err)
			}
			text.Write(append(line, '\n'))
			if e.ObservedAt == 0 {
				e.ObservedAt = e.OccurredAt
			}
			want[turn] = append(want[turn], e)
		}
		var s shelf
		o := options(&s)
		o.Stdin = strings.NewReader(text.String())
		if _, err := ingest.Files(t.Context(), o, []string{"-"}); err != nil {
			r.Fatal(err)
		}
		equal := func(a, b vaglio.Event) bool {
			return a.Digest() == b.Digest() && a.ObservedAt == b.ObservedAt
		}
		if all := slices.Concat(want[:]...); !slices.EqualFunc(s.events, all, equal) {
			r.Fatalf("got %+v, want %+v", s.events, all)
		}
	})
}
