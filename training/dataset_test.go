package training_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
	"testing"

	"vaglio"
	"vaglio/parquet"
	"vaglio/training"
)

func TestADatasetHoldsRequestsLabelsAndFeatures(t *testing.T) {
	h := newHistory(t, refund(1, t0, "reason", "other", "type", "refund", "rail", "wallet"), refund(2, t0+vaglio.Day, "channel", "app", "country", "IT"), refund(3, t0+2*vaglio.Day, "reason", "not_received"),
		refund(4, t0+50*vaglio.Day), label(1, vaglio.KindFraudConfirmed, t0+vaglio.Day), label(2, vaglio.KindFraudConfirmed, t0+2*vaglio.Day),
		label(2, vaglio.KindFraudCleared, t0+3*vaglio.Day), label(4, vaglio.KindFraudConfirmed, t0+51*vaglio.Day))
	o := training.DatasetOptions{History: h, Period: everything, LabelsUntil: t0 + 60*vaglio.Day, Maturity: 30 * vaglio.Day,
		Progress: func(training.Progress) {}, Catalogue: parse(t, "features:\n"+
			"  - {name: requests, entity: customer, events: [refund_requested], aggregate: count, window: 90d}\n"+
			"  - {name: since, entity: customer, events: [payment], aggregate: since_last, window: all}\n"+
			"  - {name: claim, categorical: request.reason}\n")}
	write := func(format training.DatasetFormat) []byte {
		t.Helper()
		var out bytes.Buffer
		size, err := training.WriteDataset(t.Context(), o, format, &out)
		if err != nil || size != (training.DatasetSize{Frauds: 1, Clean: 2, Unsettled: 1}) {
			t.Fatal(size, err)
		}
		return out.Bytes()
	}
	rows, err := csv.NewReader(bytes.NewReader(write(training.CSV))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"request_id|as_of|customer|label|label_weight|fraud_type|request_channel|request_country|request_rail|request_type|request_reason|base_amount|requests|since|claim",
		fmt.Sprintf("r1|%v|c1|1|1||||wallet|refund|other|1000|0||other", t0), fmt.Sprintf("r2|%v|c2|0|1||app|IT||||1000|0||", t0+vaglio.Day),
		fmt.Sprintf("r3|%v|c3|0|1||||||not_received|1000|0||not_received", t0+2*vaglio.Day), fmt.Sprintf("r4|%v|c4|||||||||1000|0||", t0+50*vaglio.Day)} {
		if got := strings.Join(rows[i], "|"); got != want {
			t.Errorf("row %d is %s, want %s", i, got, want)
		}
	}
	file := write(training.Parquet)
	f, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	i := 1
	err = f.Each(rows[0], func(values []string) bool {
		same := strings.NewReplacer("NaN", "", ".000Z", "Z").Replace(fmt.Sprint(rows[i]))
		if got := strings.NewReplacer("NaN", "", ".000Z", "Z").Replace(fmt.Sprint(values)); got != same {
			t.Errorf("Parquet's row %d is %s, CSV's %s", i, got, same)
		}
		i++
		return true
	})
	if err != nil || i != len(rows) || strings.Join(f.Columns(), "|") != strings.Join(rows[0], "|") {
		t.Error(i, f.Columns(), err)
	}
}

func TestADatasetRefusesFeaturesNamedAsItsOwnColumns(t *testing.T) {
	o := training.DatasetOptions{History: newHistory(t), Period: everything, Progress: func(training.Progress) {},
		Catalogue: parse(t, "features:\n  - {name: label, categorical: request.reason, categories: [other]}\n")}
	if _, err := training.WriteDataset(t.Context(), o, training.CSV, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "the feature label") {
		t.Errorf("error %v", err)
	}
}
