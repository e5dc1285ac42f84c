package parquet_test

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	library "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"

	"vaglio"
	"vaglio/parquet"
)

func rows(t *testing.T, file []byte, columns ...string) (out []string) {
	t.Helper()
	f, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if columns == nil {
		columns = f.Columns()
	}
	err = f.Each(columns, func(values []string) bool {
		out = append(out, strings.Join(values, "|"))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func table(t *testing.T, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := parquet.NewWriter(&out, []parquet.Column{{"z_id", parquet.Text}, {"at", parquet.Moment}, {"label", parquet.Whole},
		{"amount", parquet.Number}, {"reason", parquet.Category}})
	for i := range n {
		label := parquet.Nothing()
		if i%3 > 0 {
			label = parquet.WholeOf(int64(i % 3))
		}
		amount := float64(i) / 4
		if i%5 == 0 {
			amount = math.NaN()
		}
		cells := []parquet.Value{parquet.TextOf(fmt.Sprint("r_", i)), parquet.MomentOf(vaglio.Instant(1_760_000_000_000 + i)), label,
			parquet.NumberOf(amount), parquet.TextOf([]string{"", "a", "b"}[i%3])}
		if err := w.Write(cells); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	file := table(t, 200_000)
	f, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil || !slices.Equal(f.Columns(), []string{"z_id", "at", "label", "amount", "reason"}) || f.Rows() != 200_000 {
		t.Fatal(f.Columns(), f.Rows(), err)
	}
	got := rows(t, file)
	check := func(row int, want string) {
		t.Helper()
		if len(got) <= row || got[row] != want {
			t.Errorf("%d rows, row %d is %q, want %q", len(got), row, got[row], want)
		}
	}
	check(0, "r_0|2025-10-09T08:53:20Z||NaN|")
	check(1, "r_1|2025-10-09T08:53:20.001Z|1|0.25|a")
	check(199_999, "r_199999|2025-10-09T08:56:39.999Z|1|49999.75|a")
	if got := rows(t, file, "reason", "z_id")[2]; got != "b|r_2" {
		t.Error(got)
	}
}

func TestTypesBecomeTextInOneForm(t *testing.T) {
	check := func(node library.Node, value library.Value, want string) {
		t.Helper()
		var out bytes.Buffer
		w := library.NewWriter(&out, library.NewSchema("t", library.Group{"v": node, "w": library.Optional(library.String())}))
		if _, err := w.WriteRows([]library.Row{{value.Level(0, 0, 0), library.Value{}.Level(0, 0, 1)}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, out.Bytes()); len(got) != 1 || got[0] != want+"|" {
			t.Errorf("%v: got %q, want %q", node, got, want)
		}
	}
	bytesOf := func(n string, width int) library.Value {
		v, _ := new(big.Int).SetString(n, 10)
		if v.Sign() < 0 {
			v.Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*width)))
		}
		return library.FixedLenByteArrayValue(v.FillBytes(make([]byte, width)))
	}
	moment := time.Date(2026, 11, 22, 10, 0, 0, 123_456_789, time.UTC)
	check(library.String(), library.ByteArrayValue([]byte("città")), "città")
	check(library.Decimal(2, 9, library.Int32Type), library.Int32Value(-5), "-0.05")
	check(library.Decimal(2, 18, library.Int64Type), library.Int64Value(199_900), "1999.00")
	check(library.Decimal(0, 18, library.Int64Type), library.Int64Value(7), "7")
	check(library.Decimal(3, 38, library.FixedLenByteArrayType(16)), bytesOf("12345678901234567890123456", 16), "12345678901234567890123.456")
	check(library.Decimal(3, 38, library.FixedLenByteArrayType(16)), bytesOf("-1", 16), "-0.001")
	check(library.Timestamp(library.Millisecond), library.Int64Value(moment.UnixMilli()), "2026-11-22T10:00:00.123Z")
	check(library.Timestamp(library.Microsecond), library.Int64Value(moment.UnixMicro()), "2026-11-22T10:00:00.123456Z")
	check(library.TimestampAdjusted(library.Nanosecond, false), library.Int64Value(moment.UnixNano()), "2026-11-22T10:00:00.123456789")
	check(library.Leaf(library.Int96Type), library.Int96Value(deprecated.Int96{3_600_000_000_000 & 0xffffffff, 3_600_000_000_000 >> 32, 2440588 + 1}), "1970-01-02T01:00:00")
	check(library.Date(), library.Int32Value(20_779), "2026-11-22")
	check(library.Time(library.Millisecond), library.Int32Value(3_600_001), "01:00:00.001")
	check(library.Int(32), library.Int32Value(-7), "-7")
	check(library.Uint(64), library.Int64Value(-1), "18446744073709551615")
	check(library.Leaf(library.DoubleType), library.DoubleValue(1e21), "1000000000000000000000")
	check(library.Leaf(library.FloatType), library.FloatValue(0.29), "0.29")
	check(library.Leaf(library.BooleanType), library.BooleanValue(true), "true")
}

func TestStructuresAreColumnsByPath(t *testing.T) {
	type event struct {
		ID       string             `parquet:"id"`
		Entities struct{ C string } `parquet:"entities"`
		Tags     []string           `parquet:"tags"`
	}
	var out bytes.Buffer
	e := event{ID: "e", Tags: []string{"a", "b"}}
	e.Entities.C = "c_1"
	if err := library.Write(&out, []event{e, e}); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, out.Bytes()); !slices.Equal(got, []string{"e|c_1", "e|c_1"}) {
		t.Error(got)
	}
}

func TestDamagedFilesAreErrors(t *testing.T) {
	if _, err := parquet.Open(bytes.NewReader([]byte("PAR1")), 4); err == nil {
		t.Error("four bytes are no file")
	}
	file := table(t, 3000)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		damaged := bytes.Clone(file)
		for range 1 + random.IntN(3) {
			damaged[random.IntN(len(damaged))] = byte(random.Uint32())
		}
		f, err := parquet.Open(bytes.NewReader(damaged), int64(len(damaged)))
		if err != nil {
			continue
		}
		_ = f.Each(f.Columns(), func([]string) bool { return true }) // an error, or other values; never a panic
	}
}
