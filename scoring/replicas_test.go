package scoring_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"vaglio"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
	"vaglio/scoring"
)

func TestASecondOpenRequestOnTheSameMoneyGoesToReview(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 5000, "EUR"))
	app, _ := s.decides(s.request("app"))
	expect(t, "first", app.Verdict, vaglio.Approve)
	expect(t, "the case of an approval", app.CaseID, "")
	chat, _ := s.decides(s.request("chat"))
	expect(t, "second", chat.Verdict, vaglio.Review)
	expect(t, "rules", fmt.Sprint(chat.Rules), "[{duplicate_request review active}]")
	expect(t, "duplicate of", chat.DuplicateOf, s.id("app"))
	expect(t, "reasons", chat.Reasons[0].Code, "REFUND_VELOCITY")
	if !strings.HasPrefix(chat.CaseID, "case_") || chat.ReviewDueAt == 0 || chat.Counterfactual != nil {
		t.Errorf("want a case of its own, due, and no advice how to get around it: %s", indented(chat))
	}
	other, _ := s.decides(s.request("other", func(r *vaglio.Request) { r.Amount = 999 }))
	expect(t, "of another amount", other.Verdict, vaglio.Approve)
	if _, err := s.ledger.Execute(t.Context(), s.id("app"), ledger.Execution{State: ledger.Succeeded}); err != nil {
		t.Fatal(err)
	}
	mail, _ := s.decides(s.request("mail"))
	expect(t, "the first one that is open", mail.DuplicateOf, s.id("chat"))
	expect(t, "its case", mail.CaseID, chat.CaseID)
	dry, _ := s.decidesWith(s.request("dry"), scoring.DecideOptions{DryRun: true})
	expect(t, "a dry run", dry.DuplicateOf, s.id("chat"))
}

func TestMoneyThatTheLedgerHeardOfCountsBeforeHistoryShowsIt(t *testing.T) {
	s := newService(t, always)
	paid := s.money("paid", "payment", t0-vaglio.Hour, 5000, "EUR")
	s.imports(paid)
	gone := s.money("gone", "chargeback", t0-vaglio.Minute, 4500, "EUR")
	fact := func(e vaglio.Event) vaglio.Fact {
		f, err := store.Prepare(e, e.OccurredAt)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := s.ledger.Move(t.Context(), []vaglio.Fact{fact(paid), fact(gone)}); err != nil {
		t.Fatal(err)
	}
	d, _ := s.decides(s.request("r"))
	expect(t, "refundable", *d.RefundableAmount, 500)
	expect(t, "verdict", d.Verdict, vaglio.Deny)
	s.imports(gone)
	d, _ = s.decides(s.request("r2"))
	expect(t, "refundable once history shows it, too", *d.RefundableAmount, 500)
}

func TestReplicasOnOnePostgreSQLNeverApproveTooMuch(t *testing.T) {
	dsn := ledgertest.Postgres(t)
	first := newService(t, always)
	var replicas []*scoring.Engine
	for range 3 {
		l, err := ledger.Open(t.Context(), dsn, ledger.Options{Now: first.clock.time})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		e := newService(t, always, func(o *scoring.Options) { o.Ledger, o.Now = l, first.clock.time })
		replicas = append(replicas, e.Engine)
	}
	first.imports(first.money("paid", "payment", t0-vaglio.Hour, 20_000, "EUR"))
	var calls sync.WaitGroup
	var mutex sync.Mutex
	var approved int64
	verdicts := map[vaglio.Verdict]int{}
	for i := range 120 {
		r := first.request(fmt.Sprint("r", i), func(r *vaglio.Request) { r.Amount = 500 + int64(i) }) // the same amount would be a duplicate
		calls.Go(func() {
			var answers [2]scoring.Answer
			for k := range answers {
				var err error
				if answers[k], err = replicas[(i+k)%3].Decide(context.WithoutCancel(t.Context()), &r, scoring.DecideOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
			if string(answers[0].Body) != string(answers[1].Body) || !answers[1].Repeated {
				t.Errorf("request %s was answered differently by another replica", r.ID)
			}
			mutex.Lock()
			defer mutex.Unlock()
			if verdicts[answers[0].Verdict]++; answers[0].Verdict == vaglio.Approve {
				approved += r.Amount
			}
		})
	}
	calls.Wait()
	if approved > 20_000 || approved <= 20_000-620 || verdicts[vaglio.Review] != 0 {
		t.Errorf("%d of 20000 were approved: %v", approved, verdicts)
	}
}
