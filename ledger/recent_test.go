package ledger_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

// Two open ledgers of one file are two processes to each other: nothing tells them of the other's rows but the table.
func TestEachOfTwoSeesAtOnceWhatTheOtherStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	pair := [2]*ledger.Ledger{}
	for i := range pair {
		pair[i] = open(t, path, ledger.Options{Now: at.Time})
	}
	for n := range 40 {
		writer := pair[n/3%2]
		record(t, writer, request(fmt.Sprint("rr_", n), "c", fmt.Sprint("p_", n)))
		for i, l := range pair {
			facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c"}}, at+vaglio.Second)
			must(t, err)
			if len(facts) != n+1 || facts[n].ID != fmt.Sprint("rr_", n) {
				t.Fatalf("ledger %d finds %d facts after %d", i, len(facts), n+1)
			}
		}
	}
	deliverAll(t, pair[0])
	facts, err := pair[1].Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c"}}, at+vaglio.Second)
	must(t, err)
	if len(facts) != 40 {
		t.Errorf("%d facts are left while readers of history may lack them", len(facts))
	}
}

// Facts have no timelines in the table while the outbox is short, get them while it is long, and again none when it is short
// again. At every length the one that wrote them, one beside it and one that has just begun find the same.
func TestFactsAreFoundInAShortOutboxAndInALongOne(t *testing.T) {
	t.Cleanup(ledger.MaxUnindexed(24))
	path := filepath.Join(t.TempDir(), "ledger.db")
	clock := at
	o := ledger.Options{Now: func() time.Time { return clock.Time() }}
	writer, beside := open(t, path, o), open(t, path, o)
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	defer raw.Close()
	var want []string
	finds := func(l *ledger.Ledger, who string) {
		t.Helper()
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c"}}, clock+vaglio.Second)
		must(t, err)
		var got []string
		for _, f := range facts {
			got = append(got, f.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s finds %v, want %v", who, got, want)
		}
	}
	var modes []int64
	n := 0
	step := func() {
		t.Helper()
		id := fmt.Sprintf("rr_%03d", n)
		record(t, writer, request(id, "c", "p_"+id))
		want = append(want, id)
		var indexed int64
		must(t, raw.QueryRow(`SELECT MIN(indexed, 2) FROM outbox_topics WHERE topic = 'history'`).Scan(&indexed))
		if len(modes) == 0 || modes[len(modes)-1] != indexed {
			modes = append(modes, indexed)
		}
		finds(writer, "the writer")
		finds(beside, "the one beside")
		if n++; n%8 == 0 {
			finds(open(t, path, o), "a new one")
		}
	}
	for range 2 {
		for range 80 {
			step()
		}
		deliverAll(t, writer)
		finds(open(t, path, o), "a new one after the delivery")
		clock += vaglio.Minute
		step()
		deliverAll(t, writer) // sweeps the others
		want = want[len(want)-1:]
		beside = open(t, path, o) // the old one keeps what another has deleted
	}
	if !slices.Equal(modes, []int64{0, 2, 1, 0, 2, 1}) {
		t.Errorf("the outbox was indexed as %v", modes)
	}
}
