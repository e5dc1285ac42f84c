package ledger_test

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"vaglio"
	"vaglio/ledger"
)

// recordMany records n decisions from 64 callers, all of one merchant.
func recordMany(b *testing.B, l *ledger.Ledger, n int) {
	var work errgroup.Group
	work.SetLimit(64)
	for i := range n {
		work.Go(func() error {
			r := request("rr_"+hashed(int64(i)), "c_"+hashed(int64(i)), "p_"+hashed(int64(i)))
			r.Entities = r.Entities.With("merchant", "busy")
			_, _, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
				e := approval(r, at, 10*vaglio.Minute)
				e.Response, e.Inputs = benchResponse, benchInputs
				e.Taken = vaglio.Taken{DecisionID: e.DecisionID, RequestID: r.ID, Customer: e.Customer, DecidedAt: at, Verdict: vaglio.Approve}
				return e, nil
			})
			return err
		})
	}
	must(b, work.Wait())
}

// BenchmarkVerify verifies 20,000 decisions.
func BenchmarkVerify(b *testing.B) {
	const decisions = 20_000
	l := benchLedger(b)
	recordMany(b, l, decisions)
	for b.Loop() {
		if report, err := l.Verify(b.Context(), nil); err != nil || !report.Intact() || report.Rows != decisions {
			b.Fatal(fmt.Sprint(report.Problems, err))
		}
	}
	b.ReportMetric(float64(decisions*b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// BenchmarkRecentBusy asks for the timeline of a merchant of whose requests 10,000 wait.
func BenchmarkRecentBusy(b *testing.B) {
	l := benchLedger(b)
	recordMany(b, l, 10_000)
	for b.Loop() {
		if facts, err := l.Recent(b.Context(), []vaglio.Entity{{Kind: "merchant", ID: "busy"}}, at+vaglio.Second); err != nil || len(facts) != vaglio.NewestPerKind {
			b.Fatal(len(facts), err)
		}
	}
}
