//go:build unix

package ledger_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
)

func init() {
	children["die after a delivery"] = func(l *ledger.Ledger, _ string) { relayAndDie(l, 1) }
	children["die after a mark"] = func(l *ledger.Ledger, _ string) { relayAndDie(l, 2) }
}

// relayAndDie delivers what waits, one more decision at a time, and dies in the middle of a delivery.
func relayAndDie(l *ledger.Ledger, delivery int) {
	n := 0
	err := l.Relay(context.Background(), time.Millisecond, func(_ context.Context, facts []vaglio.Fact) error {
		for _, f := range facts {
			fmt.Println(f.ID)
		}
		if n++; n == delivery {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
		_, _, err := recordAs(l, fmt.Sprint("rr_more_", n), "child")
		return err
	})
	panic(fmt.Sprint("the relay ended: ", err))
}

func TestWhatAKilledRelayDeliveredIsDeliveredAgainOrStays(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		l := open(t, e.dsn, ledger.Options{})
		for i := range 3 {
			record(t, l, request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i)))
		}
		dies := func(child string, want ...string) {
			t.Helper()
			cmd, lines := start(t, child, e.dsn)
			var got []string
			for lines.Scan() {
				got = append(got, lines.Text())
			}
			if err := cmd.Wait(); err == nil || !slices.Equal(got, want) {
				t.Errorf("%s: delivered %v, want %v (%v)", child, got, want, err)
			}
		}
		waits := func(want int) {
			t.Helper()
			if n, err := l.Backlog(t.Context()); n != want || err != nil {
				t.Errorf("%d wait, want %d (%v)", n, want, err)
			}
		}
		dies("die after a delivery", "rr_0", "rr_1", "rr_2") // before that is written down
		waits(3)
		dies("die after a mark", "rr_0", "rr_1", "rr_2", "rr_more_1") // the first three are marked, and not yet deleted
		waits(1)
		facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c"}}, at+1)
		if err != nil || len(facts) != 3 {
			t.Errorf("%d facts are found after their delivery, %v", len(facts), err)
		}
		if batches := deliverAll(t, l); len(batches) != 1 || len(batches[0]) != 1 || batches[0][0].ID != "rr_more_1" {
			t.Errorf("then came %v", batches)
		}
		intact(t, l)
	})
}

func TestTheChainVerifiesAfterEveryKill(t *testing.T) {
	onBothEngines(t, func(t *testing.T, e engine) {
		for round := range 3 {
			cmd, lines := start(t, "record for ever", e.dsn)
			answered := 0
			for lines.Scan() {
				if strings.HasSuffix(lines.Text(), "child") {
					answered++
				}
				if answered == 40*(round+1) {
					must(t, cmd.Process.Signal(syscall.SIGKILL))
				}
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the child was not killed")
			}
			report := intact(t, open(t, e.dsn, ledger.Options{}))
			if report.Rows < int64(40*(round+1)) {
				t.Errorf("round %d: %d rows verified, %d answered", round, report.Rows, answered)
			}
		}
	})
}
