package ingest_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	library "github.com/parquet-go/parquet-go"

	"vaglio"
	"vaglio/history/ingest"
)

func parquetFile[T any](t *testing.T, rows ...T) string {
	t.Helper()
	var out bytes.Buffer
	if err := library.Write(&out, rows); err != nil {
		t.Fatal(err)
	}
	return write(t, "rows.parquet", out.String())
}

type sale struct {
	Invoice string    `parquet:"invoice"`
	Price   int64     `parquet:"price,decimal(2:18)"`
	At      time.Time `parquet:"at,timestamp(microsecond)"`
	Units   *int32    `parquet:"units,optional"`
}

const sales = `
format: parquet
columns: [invoice, price, at, units]
group_by: row.invoice
events:
  - id: row.invoice
    kind: payment
    occurred_at: time(row.at)
    entities: {customer: '"c"'}
    attributes: {units: row.units, rows: string(len(rows)), last: string(row_number)}
    amount: sum(rows, minor(#.price, "EUR"))
    currency: EUR
`

func TestRowsOfParquetGoThroughAMapping(t *testing.T) {
	at, three := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), int32(3)
	path := parquetFile(t, sale{"a", 29, at, &three}, sale{"a", 1999_00, at, nil}, sale{"b", -5, at, nil}, sale{"c", 100, at.AddDate(10, 0, 0), nil})
	var s shelf
	o := options(&s)
	o.Mapping, o.OnError = mapping(t, sales), ingest.Skip
	report, err := ingest.Files(t.Context(), o, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if s.ids() != "a" || s.events[0].Amount != 1999_29 || s.events[0].OccurredAt.String() != "2026-01-02T03:04:05.678Z" ||
		fmt.Sprint(s.events[0].Attributes) != "[{last 1} {rows 2} {units 3}]" {
		t.Errorf("stored %+v", s.events)
	}
	if report.Lines != 4 || report.Rejected != 2 || report.Rejects[0].Line != 3 || report.Rejects[1].Line != 4 ||
		report.Rejects[0].Text != `{"invoice":"b","price":"-0.05","at":"2026-01-02T03:04:05.678901Z"}` {
		t.Errorf("report %+v", report)
	}
}

type row struct {
	ID         string     `parquet:"id"`
	Kind       string     `parquet:"kind"`
	OccurredAt time.Time  `parquet:"occurred_at,timestamp(millisecond)"`
	Amount     *int64     `parquet:"amount,optional"`
	Currency   *string    `parquet:"currency,optional"`
	Entities   rowParties `parquet:"entities"`
	Channel    string     `parquet:"attributes.channel"`
}

type rowParties struct {
	Customer string  `parquet:"customer"`
	Device   *string `parquet:"device,optional"`
}

func TestParquetWithTheColumnsOfEventsNeedsNoMapping(t *testing.T) {
	at, amount, euro, device := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), int64(1999), "EUR", "d \"1\""
	path := parquetFile(t, row{"e_1", "payment", at, &amount, &euro, rowParties{"c_1", &device}, "app"},
		row{"e_2", "login", at, nil, nil, rowParties{"c_1", nil}, ""}, row{"e_3", "login", at, &amount, nil, rowParties{"c_1", nil}, ""})
	var s shelf
	o := options(&s)
	o.OnError = ingest.Skip
	report, err := ingest.Files(t.Context(), o, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	want := vaglio.Event{ID: "e_1", Kind: "payment", OccurredAt: vaglio.InstantOf(at), ObservedAt: vaglio.InstantOf(at), Amount: 1999, Currency: "EUR",
		Entities: vaglio.FieldsOf("customer", "c_1", "device", device), Attributes: vaglio.FieldsOf("channel", "app")}
	if s.ids() != "e_1 e_2" || fmt.Sprint(s.events[0]) != fmt.Sprint(want) {
		t.Errorf("stored %+v, want first %+v", s.events, want)
	}
	if report.Rejected != 1 || report.Rejects[0].Line != 3 || report.Rejects[0].Errors[0].Pointer != "/currency" {
		t.Errorf("rejects %+v", report.Rejects)
	}
}

func TestAParquetFileThatDoesNotFitIsRefused(t *testing.T) {
	check := func(path string, m *ingest.Mapping, want string) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping = m
		if _, err := ingest.Files(t.Context(), o, []string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	type other struct {
		ID    string `parquet:"id"`
		Price int64  `parquet:"price"`
	}
	check(parquetFile(t, other{"a", 1}), nil, `an event has no "price"; without a mapping the columns are id, kind,`)
	check(parquetFile(t, other{"a", 1}), mapping(t, sales), `no column "invoice", "at", "units"; there are ["id" "price"]`)
	check(write(t, "x.parquet", "PAR1PAR1"), nil, "read Parquet: ")
	cut, err := os.ReadFile(parquetFile(t, other{"a", 1}))
	if err != nil {
		t.Fatal(err)
	}
	check(write(t, "x.parquet", string(cut[:len(cut)/2])), nil, "read Parquet: ")
}
