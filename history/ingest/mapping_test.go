package ingest_test

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

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
	check("format: csv", "format: xlsx", "format: want csv or parquet")
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

func TestShippedAndDocumentedMappingsCompile(t *testing.T) {
	for _, path := range []string{"../../examples/online-retail/mapping.yaml", "../../examples/chargebacks/mapping.yaml"} {
		if _, err := ingest.ReadMapping(path); err != nil {
			t.Error(err)
		}
	}
	manual, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(manual), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var s shelf
	o := options(&s)
	o.Mapping = mapping(t, block)
	table := "order;customer;when;total;status\n7;c_1;22/11/2026 10:00;12,50;PAID\n8;c_1;22/11/2026 10:00;;OPEN\n"
	if _, err := ingest.Files(t.Context(), o, []string{write(t, "a.csv", table)}); err != nil {
		t.Fatal(err)
	}
	if len(s.events) != 1 || s.events[0].ID != "order_7" || s.events[0].Amount != 1250 || s.events[0].OccurredAt.String() != "2026-11-22T09:00:00.000Z" {
		t.Errorf("%+v", s.events)
	}
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
