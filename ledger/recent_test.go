package ledger_test

import (
	"fmt"
	"path/filepath"
	"testing"

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
