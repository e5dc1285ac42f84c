package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/ledger"
)

// clock is a ledger's, set by hand.
type clock struct{ at atomic.Int64 }

func (c *clock) set(t vaglio.Instant) { c.at.Store(int64(t)) }
func (c *clock) time() time.Time      { return vaglio.Instant(c.at.Load()).Time() }

func clockAt(t vaglio.Instant) *clock {
	var c clock
	c.set(t)
	return &c
}

// decide records a request with an entry.
func decide(t testing.TB, l *ledger.Ledger, r *vaglio.Request, e ledger.Entry) {
	t.Helper()
	_, _, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) { return e, nil })
	must(t, err)
}

// money is an event of a payment.
func money(id, kind, payment, request string, minor int64) vaglio.Fact {
	e := vaglio.Event{ID: id, Kind: kind, OccurredAt: at - 1, ObservedAt: at - 1, Amount: minor, Currency: "EUR",
		Entities: vaglio.FieldsOf("customer", "c", "payment", payment, "request", request)}
	return vaglio.Fact{Event: e, KnownAt: e.KnownAt(), BaseAmount: minor, BaseKnown: true}
}

// held is what of a payment is paid or reserved, as a decision reckons it: of each request the largest of what events and what its
// execution told as paid, and of what is reserved.
func held(s ledger.Standing) (minor int64) {
	told, executed := map[string]int64{}, map[string]int64{}
	for _, m := range s.Movements {
		switch {
		case m.EventID == m.RequestID+ledger.PaidSuffix:
			executed[m.RequestID] = m.Amount
		case m.Kind == vaglio.KindRefundPaid:
			told[m.RequestID] += m.Amount
		}
	}
	for id, paid := range told {
		minor += max(0, paid-executed[id])
	}
	for _, paid := range executed {
		minor += paid
	}
	for _, r := range s.Reserved {
		minor += max(0, r.Amount-told[r.RequestID])
	}
	return minor
}

// bounded approves what is left of a payment.
func bounded(r *vaglio.Request, captured int64, approved *bool) func(ledger.Standing) (ledger.Entry, error) {
	return func(s ledger.Standing) (ledger.Entry, error) {
		if held(s) > captured {
			return ledger.Entry{}, fmt.Errorf("%d of %d are held: %+v", held(s), captured, s)
		}
		if *approved = held(s)+r.Amount <= captured; *approved {
			return approval(r, at, 10*vaglio.Minute), nil
		}
		return denial(r, at), nil
	}
}

// neverLeaking sends random requests about a few payments to three replicas, all at once, and lets each approval meet a random
// fate on another replica, while others are still decided.
func neverLeaking(t *testing.T, open opener) {
	c := clockAt(at)
	var replicas []*ledger.Ledger
	for range 3 {
		replicas = append(replicas, open(ledger.Options{Now: c.time}))
	}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		c.set(at)
		captured := map[string]int64{}
		for i := range 3 {
			captured[fmt.Sprintf("p_%d_%d", run, i)] = rapid.Int64Range(0, 5000).Draw(rt, "captured")
		}
		payments := slices.Sorted(mapsKeys(captured))
		var calls sync.WaitGroup
		for i := range 24 {
			r := request(fmt.Sprintf("rr_%d_%d", run, i), fmt.Sprint("c_", i%5), rapid.SampledFrom(payments).Draw(rt, "payment"))
			r.Amount = rapid.Int64Range(1, 2000).Draw(rt, "amount")
			fate, cut := rapid.IntRange(0, 9).Draw(rt, "fate"), rapid.Int64Range(1, 1999).Draw(rt, "first piece")
			calls.Go(func() {
				var approved bool
				if _, _, err := replicas[i%3].Record(context.Background(), claim(r), subject(r), bounded(r, captured[r.Entities.Get("payment")], &approved)); err != nil {
					rt.Errorf("request %s: %v", r.ID, err)
				} else if approved {
					if err := meet(replicas[(i+1)%3], replicas[(i+2)%3], r, fate, min(cut, r.Amount)); err != nil {
						rt.Errorf("request %s: fate %d: %v", r.ID, fate, err)
					}
				}
			})
		}
		calls.Wait()
		held := func(payment string) (minor int64, s ledger.Standing) {
			s, err := replicas[run%3].Standing(context.Background(), ledger.Subject{Payment: payment, Currency: "EUR"})
			if err != nil {
				rt.Fatal(err)
			}
			return held(s), s
		}
		for _, id := range payments {
			if minor, s := held(id); minor > captured[id] {
				rt.Errorf("%d of %d are held of %s: %+v", minor, captured[id], id, s)
			}
		}
		c.set(at + vaglio.Hour)
		if _, err := replicas[run%3].Expire(context.Background()); err != nil {
			rt.Fatal(err)
		}
		for _, id := range payments {
			if _, s := held(id); len(s.Reserved) > 0 {
				rt.Errorf("of %s stays reserved: %+v", id, s.Reserved)
			}
		}
	})
}

func mapsKeys(m map[string]int64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// meet lets an approved request meet its fate, two replicas being told. Of a refund in pieces the first one has an amount.
func meet(l, other *ledger.Ledger, r *vaglio.Request, fate int, first int64) (err error) {
	ctx := context.Background()
	piece := func(n int, kind string, minor int64) []vaglio.Fact {
		return []vaglio.Fact{money(fmt.Sprint(r.ID, "_piece_", n), kind, r.Entities.Get("payment"), r.ID, minor)}
	}
	move := func(facts []vaglio.Fact) { // to two replicas at once, and once more
		var calls sync.WaitGroup
		var errs [3]error
		for i, l := range []*ledger.Ledger{l, other} {
			calls.Go(func() { errs[i] = l.Move(ctx, facts) })
		}
		calls.Wait()
		errs[2] = l.Move(ctx, facts)
		err = errors.Join(err, errors.Join(errs[:]...))
	}
	execute := func(state string, minor int64) {
		_, e := l.Execute(ctx, r.ID, ledger.Execution{State: state, Amount: minor, Reference: "tx_" + r.ID})
		err = errors.Join(err, e)
	}
	switch fate {
	case 0:
		execute(ledger.Succeeded, 0)
	case 1:
		execute(ledger.Submitted, 0)
		execute(ledger.Succeeded, max(1, r.Amount/2))
		execute(ledger.Succeeded, max(1, r.Amount/2))
	case 2:
		execute(ledger.Submitted, 0)
		execute(ledger.Failed, 0)
	case 3:
		_, err = l.Cancel(ctx, r.ID, "changed mind", "customer")
	case 4:
		paid := []vaglio.Fact{money(r.ID+"_paid", vaglio.KindRefundPaid, r.Entities.Get("payment"), r.ID, r.Amount)}
		err = errors.Join(l.Move(ctx, paid), l.Move(ctx, paid))
	case 5:
		err = l.Move(ctx, []vaglio.Fact{money(r.ID+"_failed", vaglio.KindRefundFailed, "", r.ID, 0)})
	case 6:
		move(piece(1, vaglio.KindRefundPaid, first))
		if first < r.Amount {
			move(piece(2, vaglio.KindRefundPaid, r.Amount-first))
		}
	case 7:
		move(append(piece(2, vaglio.KindRefundFailed, r.Amount-first), piece(1, vaglio.KindRefundPaid, first)...))
	case 8:
		execute(ledger.Submitted, 0)
		move(piece(1, vaglio.KindRefundPaid, first))
		if first < r.Amount {
			execute(ledger.Failed, 0)
		}
	default: // expires
	}
	return err
}

// counting sends 100 requests on 100 payments of one customer to two replicas at once.
func counting(t *testing.T, open opener) {
	c := clockAt(at)
	replicas := []*ledger.Ledger{open(ledger.Options{Now: c.time}), open(ledger.Options{Now: c.time})}
	capped := func(r *vaglio.Request, now vaglio.Instant) func(ledger.Standing) (ledger.Entry, error) {
		return func(s ledger.Standing) (ledger.Entry, error) {
			if n := s.Counters; n.Approvals1h >= 3 || n.Approved24h+r.Amount > 5*1999 {
				return inReview(r, now), nil
			}
			return approval(r, now, vaglio.Minute), nil
		}
	}
	var calls sync.WaitGroup
	for i := range 100 {
		calls.Go(func() {
			r := request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i))
			if _, _, err := replicas[i%2].Record(context.Background(), claim(r), subject(r), capped(r, at)); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	counters := func(now vaglio.Instant, want ledger.Counters) {
		t.Helper()
		c.set(now)
		for _, l := range replicas {
			s, err := l.Standing(t.Context(), ledger.Subject{Customer: "c"})
			must(t, err)
			if s.Counters != want {
				t.Errorf("%+v, want %+v", s.Counters, want)
			}
		}
	}
	counters(at, ledger.Counters{Requests1h: 100, Requests24h: 100, Approvals1h: 3, Approvals24h: 3, Approved1h: 3 * 1999, Approved24h: 3 * 1999})
	counters(at+vaglio.Hour-1, ledger.Counters{Requests1h: 100, Requests24h: 100, Approvals1h: 3, Approvals24h: 3, Approved1h: 3 * 1999, Approved24h: 3 * 1999})
	counters(at+vaglio.Hour, ledger.Counters{Requests24h: 100, Approvals24h: 3, Approved24h: 3 * 1999})
	later := at + 2*vaglio.Hour
	c.set(later)
	for i := range 4 {
		r := request(fmt.Sprint("later_", i), "c", "p")
		_, _, err := replicas[i%2].Record(t.Context(), claim(r), subject(r), capped(r, later))
		must(t, err)
	}
	counters(later, ledger.Counters{Requests1h: 4, Requests24h: 104, Approvals1h: 2, Approvals24h: 5, Approved1h: 2 * 1999, Approved24h: 5 * 1999})
	counters(at+vaglio.Day, ledger.Counters{Requests24h: 4, Approvals24h: 2, Approved24h: 2 * 1999})
	counters(later+vaglio.Day, ledger.Counters{})
}

// duplicating asks for the same money again and again.
func duplicating(t *testing.T, open opener) {
	c := clockAt(at)
	l := open(ledger.Options{Now: c.time})
	first := func(want string, s ledger.Subject) {
		t.Helper()
		standing, err := l.Standing(t.Context(), s)
		must(t, err)
		got := ""
		if d := standing.Duplicate; d != nil {
			got = d.RequestID + " " + d.CaseID
		}
		if got != want {
			t.Errorf("the first one is %q, want %q", got, want)
		}
	}
	app := request("rr_app", "c", "p")
	same := subject(app)
	first("", same)
	decide(t, l, app, inReview(app, at))
	chat := request("rr_a_chat", "c", "p") // its name comes first, it does not
	decide(t, l, chat, inReview(chat, at+1))
	first("rr_app case_rr_app", same)
	for _, other := range []ledger.Subject{{Customer: "c", Payment: "p", Currency: "EUR", Amount: 2000}, {Customer: "c", Payment: "p", Currency: "USD", Amount: 1999},
		{Customer: "c", Payment: "p_2", Currency: "EUR", Amount: 1999}, {Customer: "c", Currency: "EUR", Amount: 1999}} {
		first("", other)
	}
	_, _, err := l.Record(t.Context(), claim(chat), subject(chat), never)
	must(t, err)
	resolve := func(id string, verdict vaglio.Verdict) {
		t.Helper()
		_, err := l.Resolve(t.Context(), id, ledger.Resolution{Verdict: verdict, By: "anna"}, nil)
		must(t, err)
	}
	resolve("rr_app", ledger.AskCustomer)
	first("rr_app case_rr_app", same)
	resolve("rr_app", vaglio.Deny)
	first("rr_a_chat case_rr_a_chat", same)
	resolve("rr_a_chat", vaglio.Approve)
	first("rr_a_chat case_rr_a_chat", same)
	c.set(at + vaglio.Day)
	first("", same)
	denied := request("rr_denied", "c", "p")
	decide(t, l, denied, denial(denied, at))
	paid := request("rr_paid", "c", "p")
	decide(t, l, paid, approval(paid, at+vaglio.Day, vaglio.Day))
	first("rr_paid ", same)
	_, err = l.Execute(t.Context(), "rr_paid", ledger.Execution{State: ledger.Submitted})
	must(t, err)
	first("rr_paid ", same)
	_, err = l.Execute(t.Context(), "rr_paid", ledger.Execution{State: ledger.Succeeded})
	must(t, err)
	first("", same)
}

// The steps that transitioning takes, and what each state allows of them.
var steps = []string{"approve", "approve part", "deny", "ask", "submitted", "succeeded", "failed", "cancelled", "cancel", "pass the time"}

// transitioning walks every path of three steps from every verdict and compares with a table.
func transitioning(t *testing.T, open opener) {
	review := map[string]string{"approve": "approved", "approve part": "partly_approved", "deny": "denied", "ask": "awaiting_customer", "cancel": "cancelled"}
	approved := map[string]string{"submitted": "%s submitted", "succeeded": "%s succeeded", "failed": "%s failed", "cancelled": "cancelled cancelled",
		"cancel": "cancelled", "pass the time": "expired"}
	submitted := map[string]string{"succeeded": "%s succeeded", "failed": "%s failed", "cancelled": "cancelled cancelled"}
	legal := map[string]map[string]string{"pending_review": review, "awaiting_customer": review, "approved": approved, "partly_approved": approved,
		"approved submitted": submitted, "partly_approved submitted": submitted}
	l := open(ledger.Options{Now: at.Time})
	late := open(ledger.Options{Now: (at + 2*vaglio.Day).Time})
	took := func(id, step string) (ledger.RequestState, error) {
		ctx := context.Background()
		switch step {
		case "approve":
			return l.Resolve(ctx, id, ledger.Resolution{Verdict: vaglio.Approve, By: "anna"}, nil)
		case "approve part":
			return l.Resolve(ctx, id, ledger.Resolution{Verdict: vaglio.Approve, ApprovedAmount: 999, By: "anna"}, nil)
		case "deny":
			return l.Resolve(ctx, id, ledger.Resolution{Verdict: vaglio.Deny, By: "anna"}, nil)
		case "ask":
			return l.Resolve(ctx, id, ledger.Resolution{Verdict: ledger.AskCustomer, By: "anna"}, nil)
		case "cancel":
			return l.Cancel(ctx, id, "found it", "customer")
		case "pass the time":
			return late.Request(ctx, id)
		default:
			return l.Execute(ctx, id, ledger.Execution{State: step})
		}
	}
	shown := func(s ledger.RequestState) string {
		if s.Execution != nil {
			return string(s.State) + " " + s.Execution.State
		}
		return string(s.State)
	}
	n := 0
	var walk func(path []string, from string, entry func(*vaglio.Request, vaglio.Instant) ledger.Entry)
	walk = func(path []string, from string, entry func(*vaglio.Request, vaglio.Instant) ledger.Entry) {
		for _, step := range steps {
			done := func(step string) bool { return slices.Contains(path, step) }
			if done(step) && step != "ask" || done("pass the time") || step == "cancel" && done("cancelled") {
				continue // the same again, which another test says
			}
			n++
			r := request(fmt.Sprint("rr_", n), "c", fmt.Sprint("p_", n))
			decide(t, l, r, entry(r, at))
			for _, s := range path[1:] {
				_, err := took(r.ID, s)
				must(t, err)
			}
			to, allowed := legal[from][step]
			if strings.Contains(to, "%s") {
				to = fmt.Sprintf(to, strings.Fields(from)[0])
			}
			s, err := took(r.ID, step)
			var wrong *ledger.TransitionError
			switch {
			case step == "pass the time" && !allowed:
				if err != nil || shown(s) != from {
					t.Errorf("%s, %s: %s (%v)", strings.Join(path, ", "), step, shown(s), err)
				}
				continue
			case !allowed:
				if !errors.As(err, &wrong) || !errors.Is(err, ledger.ErrTransition) || wrong.RequestID != r.ID || wrong.To == "" {
					t.Errorf("%s, %s: %s (%v), want a refusal", strings.Join(path, ", "), step, shown(s), err)
				}
				continue
			case err != nil || shown(s) != to:
				t.Errorf("%s, %s: %s (%v), want %s", strings.Join(path, ", "), step, shown(s), err, to)
				continue
			}
			if step != "pass the time" {
				if again, err := l.Request(t.Context(), r.ID); err != nil || shown(again) != to {
					t.Errorf("%s, %s: read as %s (%v)", strings.Join(path, ", "), step, shown(again), err)
				}
			}
			if len(path) < 3 {
				walk(append(slices.Clone(path), step), to, entry)
			}
		}
	}
	walk([]string{"review"}, "pending_review", inReview)
	walk([]string{"approval"}, "approved", func(r *vaglio.Request, t vaglio.Instant) ledger.Entry { return approval(r, t, vaglio.Day) })
	walk([]string{"denial"}, "denied", denial)
	if _, err := l.Request(t.Context(), "rr_none"); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
}

// executing follows one refund to its end, with everything said twice.
func executing(t *testing.T, open opener) {
	c := clockAt(at)
	l := open(ledger.Options{Now: c.time})
	r := request("rr_1", "c", "p")
	decide(t, l, r, approval(r, at, vaglio.Hour))
	deliverAll(t, l)
	execute := func(e ledger.Execution) ledger.RequestState {
		t.Helper()
		s, err := l.Execute(t.Context(), "rr_1", e)
		must(t, err)
		return s
	}
	c.set(at + 30*vaglio.Minute)
	for range 2 {
		if s := execute(ledger.Execution{State: ledger.Submitted, Reference: "tx_9", Actor: "key_1"}); s.State != ledger.Approved || s.Execution.Reference != "tx_9" ||
			s.Execution.Amount != 1999 || s.Execution.At != at+30*vaglio.Minute || s.Execution.Actor != "key_1" || len(s.Revisions) != 1 {
			t.Errorf("%+v", s)
		}
	}
	c.set(at + 2*vaglio.Hour)
	if n, err := l.Expire(t.Context()); n != 0 || err != nil {
		t.Errorf("%d expired (%v) while the money is on its way", n, err)
	}
	if got := reserved(t, l, subject(r)); got != 1999 {
		t.Errorf("%d is reserved while the money is on its way", got)
	}
	var over vaglio.Invalid
	if _, err := l.Execute(t.Context(), "rr_1", ledger.Execution{State: ledger.Succeeded, Amount: 2000}); !errors.As(err, &over) || over[0].Pointer != "/amount" {
		t.Error(err)
	}
	for range 2 {
		s := execute(ledger.Execution{State: ledger.Succeeded, Reference: "tx_9", Amount: 1000, At: at + vaglio.Hour})
		if s.Execution.State != ledger.Succeeded || s.Execution.Amount != 1000 || len(s.Revisions) != 2 || s.Revisions[1].Seq != 2 {
			t.Errorf("%+v", s)
		}
	}
	if s := execute(ledger.Execution{State: ledger.Submitted, Reference: "tx_9"}); s.Execution.State != ledger.Succeeded || len(s.Revisions) != 2 {
		t.Errorf("an old message again: %+v", s)
	}
	facts, err := l.Recent(t.Context(), []vaglio.Entity{{Kind: "payment", ID: "p"}}, math.MaxInt64)
	must(t, err)
	facts = slices.DeleteFunc(facts, func(f vaglio.Fact) bool { return f.Kind == vaglio.KindRefundRequested })
	if len(facts) != 1 {
		t.Fatalf("%+v", facts)
	}
	paid := facts[0]
	if paid.ID != "rr_1:paid" || paid.Kind != vaglio.KindRefundPaid || paid.Amount != 1000 || paid.Currency != "EUR" || !paid.BaseKnown || paid.BaseAmount != 1000 ||
		paid.OccurredAt != at+vaglio.Hour || paid.KnownAt != at+2*vaglio.Hour || paid.Entities.Get("request") != "rr_1" || paid.Entities.Get("device") != "d_c" {
		t.Errorf("%+v", paid)
	}
	standing, err := l.Standing(t.Context(), subject(r))
	must(t, err)
	if len(standing.Reserved) != 0 || len(standing.Movements) != 1 || standing.Movements[0].Amount != 1000 {
		t.Errorf("%+v", standing)
	}
	c.set(at + 30*vaglio.Day)
	if n, err := l.DropMovements(t.Context()); n != 0 || err != nil || held(must2(l.Standing(t.Context(), subject(r)))) != 1000 {
		t.Errorf("%d movements were dropped (%v), of an execution", n, err)
	}
	for _, wrong := range []ledger.Execution{{State: "paid"}, {State: ledger.Failed, Amount: -1}, {State: ledger.Failed, Reason: strings.Repeat("x", 2001)},
		{State: ledger.Failed, At: at + 31*vaglio.Day}} {
		var bad vaglio.Invalid
		if _, err := l.Execute(t.Context(), "rr_1", wrong); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if _, err := l.Execute(t.Context(), "rr_9", ledger.Execution{State: ledger.Failed}); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ending looks at what history is told of refunds that are not paid.
func ending(t *testing.T, open opener) {
	l := open(ledger.Options{Now: at.Time})
	for i, end := range []func(id string) error{
		func(id string) error {
			_, err := l.Execute(t.Context(), id, ledger.Execution{State: ledger.Failed})
			return err
		},
		func(id string) error {
			_, err := l.Execute(t.Context(), id, ledger.Execution{State: ledger.ExecutionCanceled})
			return err
		},
		func(id string) error { _, err := l.Cancel(t.Context(), id, "", "customer"); return err },
	} {
		r := request(fmt.Sprint("rr_", i), "c", "")
		decide(t, l, r, approval(r, at, vaglio.Hour))
		must(t, end(r.ID))
		must(t, end(r.ID))
	}
	var told []string
	for _, batch := range deliverAll(t, l) {
		for _, f := range batch {
			if f.Kind != vaglio.KindRefundRequested {
				told = append(told, f.ID+" "+f.Kind)
			}
		}
	}
	if want := []string{"rr_0:failed refund_failed", "rr_1:cancelled refund_cancelled", "rr_2:cancelled refund_cancelled"}; !slices.Equal(told, want) {
		t.Errorf("history was told %q, want %q", told, want)
	}
}

// resolving lets reviewers decide on the same money at once.
func resolving(t *testing.T, open opener) {
	l, other := open(ledger.Options{Now: at.Time}), open(ledger.Options{Now: at.Time})
	var calls sync.WaitGroup
	var approved, refused atomic.Int64
	full := errors.New("nothing is left")
	for i := range 12 {
		r := request(fmt.Sprint("rr_", i), "c", "p")
		decide(t, l, r, inReview(r, at))
		calls.Go(func() {
			s, err := []*ledger.Ledger{l, other}[i%2].Resolve(context.Background(), r.ID, ledger.Resolution{Verdict: vaglio.Approve, ApprovedAmount: 1000, By: "anna",
				ValidUntil: at + vaglio.Hour, Reason: "looks good"}, func(s ledger.Standing) error {
				if sum(s) > 4000 {
					return full
				}
				return nil
			})
			switch {
			case errors.Is(err, full):
				refused.Add(1)
			case err != nil || s.State != ledger.PartlyApproved || s.ApprovedAmount != 1000 || s.ValidUntil != at+vaglio.Hour || s.Resolution.By != "anna":
				t.Errorf("%+v %v", s, err)
			default:
				approved.Add(1)
			}
		})
	}
	calls.Wait()
	if approved.Load() != 5 || refused.Load() != 7 || reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}) != 5000 {
		t.Errorf("%d were approved, %d refused", approved.Load(), refused.Load())
	}
	r := request("rr_again", "c", "p_2")
	decide(t, l, r, inReview(r, at))
	for range 2 {
		s, err := l.Resolve(t.Context(), r.ID, ledger.Resolution{Verdict: vaglio.Approve, By: "anna"}, nil)
		if err != nil || s.State != ledger.Approved || s.ApprovedAmount != 1999 || s.ValidUntil != at+vaglio.Day || len(s.Revisions) != 1 || s.Verdict != vaglio.Review {
			t.Errorf("%+v %v", s, err)
		}
	}
	for _, wrong := range []ledger.Resolution{{Verdict: "maybe", By: "anna"}, {Verdict: vaglio.Deny}, {Verdict: vaglio.Deny, ApprovedAmount: 1, By: "anna"}} {
		var bad vaglio.Invalid
		if _, err := l.Resolve(t.Context(), r.ID, wrong, nil); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}

// moving tells the ledger of money by events.
func moving(t *testing.T, open opener) {
	c := clockAt(at)
	l := open(ledger.Options{Now: c.time})
	r := request("rr_1", "c", "p")
	decide(t, l, r, approval(r, at, vaglio.Hour))
	early := money("e_early", vaglio.KindPayment, "p", "", 700)
	early.KnownAt = at + vaglio.Minute
	events := []vaglio.Fact{money("e_paid", vaglio.KindPayment, "p", "", 5000), money("e_login", "login", "p", "", 0), early,
		money("e_back", vaglio.KindChargeback, "p", "", 300), money("e_piece1", vaglio.KindRefundPaid, "", "rr_1", 600),
		money("e_piece2", vaglio.KindRefundPaid, "p", "rr_1", 400), money("e_other", vaglio.KindRefundPaid, "p", "rr_unheard", 100)}
	events[4].Entities = vaglio.FieldsOf("request", "rr_1")
	for range 2 {
		must(t, l.Move(t.Context(), events))
	}
	moved := func(want string) ledger.Standing {
		t.Helper()
		s, err := l.Standing(t.Context(), subject(r))
		must(t, err)
		var got []string
		for _, m := range s.Movements {
			got = append(got, fmt.Sprint(m.EventID, " ", m.Amount))
		}
		if slices.Sort(got); strings.Join(got, ", ") != want {
			t.Errorf("moved: %s, want %s", strings.Join(got, ", "), want)
		}
		return s
	}
	if s := moved("e_back 300, e_other 100, e_paid 5000, e_piece1 600, e_piece2 400"); len(s.Reserved) != 1 || held(s) != 1999+100 {
		t.Errorf("%+v", s)
	}
	s, err := l.Request(t.Context(), "rr_1")
	if err != nil || s.State != ledger.Approved || s.Execution != nil || len(s.Pieces) != 2 || s.Pieces[1].Event != "e_piece2" || s.Pieces[1].Amount != 400 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = l.Execute(t.Context(), "rr_1", ledger.Execution{State: ledger.Succeeded, Amount: 1000}); err != nil || s.Execution.Amount != 1000 || len(s.Execution.Events) != 0 {
		t.Errorf("%+v %v", s.Execution, err)
	}
	if got := reserved(t, l, subject(r)); got != 0 {
		t.Errorf("%d stays reserved", got)
	}
	if n, err := l.Backlog(t.Context()); n != 1 || err != nil {
		t.Errorf("%d events wait (%v): history was told of the payment by others", n, err)
	}
	c.set(at + vaglio.Minute)
	moved("e_back 300, e_early 700, e_other 100, e_paid 5000, e_piece1 600, e_piece2 400, rr_1:paid 1000")
	c.set(at + vaglio.Day - 1)
	if n, err := l.DropMovements(t.Context()); n != 0 || err != nil {
		t.Errorf("%d movements were dropped (%v)", n, err)
	}
	c.set(at + vaglio.Day)
	if n, err := l.DropMovements(t.Context()); n != 6 || err != nil {
		t.Errorf("%d movements were dropped (%v), want 6", n, err)
	}
	moved("rr_1:paid 1000")

	failed, waiting := request("rr_2", "c", "p_2"), request("rr_3", "c", "p_3")
	decide(t, l, failed, approval(failed, at+vaglio.Day, vaglio.Day))
	decide(t, l, waiting, inReview(waiting, at))
	must(t, l.Move(t.Context(), []vaglio.Fact{money("e_failed", vaglio.KindRefundFailed, "p_2", "rr_2", 0), money("e_cancelled", "refund_cancelled", "p_3", "rr_3", 0)}))
	for id, want := range map[string]string{"rr_2": "approved failed", "rr_3": "cancelled"} {
		s, err := l.Request(t.Context(), id)
		must(t, err)
		if got := string(s.State); s.Execution != nil && got+" "+s.Execution.State != want || s.Execution == nil && got != want {
			t.Errorf("%s is %+v, want %s", id, s, want)
		}
	}
	if got := reserved(t, l, subject(failed)); got != 0 {
		t.Errorf("%d stays reserved", got)
	}
}

// expiring lets many approvals pass their time.
func expiring(t *testing.T, open opener) {
	c := clockAt(at)
	l := open(ledger.Options{Now: c.time})
	for i := range 250 {
		r := request(fmt.Sprint("rr_", i), "c", "p")
		decide(t, l, r, approval(r, at, vaglio.Hour+vaglio.Instant(i%2)*vaglio.Hour))
	}
	expires := func(now vaglio.Instant, want int) {
		t.Helper()
		c.set(now)
		if n, err := l.Expire(t.Context()); n != want || err != nil {
			t.Errorf("%d expired (%v), want %d", n, err, want)
		}
	}
	expires(at+vaglio.Hour-1, 0)
	expires(at+vaglio.Hour, 125)
	expires(at+vaglio.Hour, 0)
	expires(at+3*vaglio.Hour, 125)
	s, err := l.Request(t.Context(), "rr_7")
	if err != nil || s.State != ledger.Expired || len(s.Revisions) != 1 || s.Revisions[0].Kind != ledger.RevisionExpiry || s.ApprovedAmount != 1999 {
		t.Errorf("%+v %v", s, err)
	}
}

// racing sends requests of the same ids and different content to two replicas.
func racing(t *testing.T, open opener) {
	replicas := []*ledger.Ledger{open(ledger.Options{}), open(ledger.Options{})}
	answers := make([][4]string, 60)
	var calls sync.WaitGroup
	for i := range answers {
		for k := range 4 {
			calls.Go(func() {
				r := request(fmt.Sprint("rr_", i), fmt.Sprint("c_", k/2), fmt.Sprint("p_", k/2))
				response, _, err := replicas[k%2].Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
					e := approval(r, at, vaglio.Minute)
					e.DecisionID += fmt.Sprint("_", k)
					e.Response = fmt.Appendf(nil, `{"by":%d}`, k)
					return e, nil
				})
				switch {
				case errors.Is(err, ledger.ErrConflict):
					answers[i][k] = "conflict"
				case err != nil:
					t.Error(err)
				default:
					answers[i][k] = string(response)
				}
			})
		}
	}
	calls.Wait()
	for i, a := range answers {
		if winner := a[0] != "conflict"; a[0] != a[1] || a[2] != a[3] || winner == (a[2] != "conflict") {
			t.Errorf("request %d: %q", i, a)
		}
	}
}
