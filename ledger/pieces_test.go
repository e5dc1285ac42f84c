package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"vaglio"
	"vaglio/ledger"
)

// refunded is what has become of a request, by the words of DESIGN.md and none of the code's.
type refunded struct {
	*vaglio.Request
	approved   bool
	validUntil vaglio.Instant
	submitted  bool
	paid       int64  // told by events at any time
	failed     int64  // told by events, of an approval
	since      int64  // of both, told of an approval
	reported   int64  // paid, by its execution
	over       string // how it ended
	byEvent    bool   // it ended by an event: its execution may still say the same
	said       map[string]bool
}

func (r *refunded) open(now vaglio.Instant) bool {
	return r.approved && r.over == "" && (r.submitted || now < r.validUntil)
}

// gone is what of the payment nobody else may have: what left, and what is still held back.
func (r *refunded) gone(now vaglio.Instant) int64 {
	gone := max(r.paid, r.reported)
	if r.open(now) {
		gone += max(0, r.Amount-r.paid-r.failed)
	}
	return gone
}

// hear takes an event for the first time.
func (r *refunded) hear(kind string, minor int64, now vaglio.Instant) {
	if kind == vaglio.KindRefundPaid {
		r.paid += minor
	}
	if !r.open(now) {
		return
	}
	all := kind == vaglio.KindRefundFailed && minor == 0
	if kind == vaglio.KindRefundFailed {
		r.failed += minor
	}
	if r.since += minor; all || r.since >= r.Amount {
		r.over, r.byEvent = ledger.Failed, true
		if r.paid > 0 {
			r.over = ledger.Succeeded
		}
	}
}

// piecemeal pays refunds in pieces, also more than was approved, before it was, in any order and again, beside executions,
// withdrawals and the passing of time, each step told to another of two replicas, and compares what may still leave the payment.
func piecemeal(t *testing.T, open opener) {
	c := clockAt(at)
	replicas := []*ledger.Ledger{open(ledger.Options{Now: c.time}), open(ledger.Options{Now: c.time})}
	ctx := context.Background()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		now, payment := at, fmt.Sprint("p_", run)
		c.set(now)
		captured := rapid.Int64Range(1, 6000).Draw(rt, "captured")
		told := []vaglio.Fact{money(fmt.Sprint("e_", run), vaglio.KindPayment, payment, "", captured)}
		if err := replicas[0].Move(ctx, told); err != nil {
			rt.Fatal(err)
		}
		var requests []*refunded
		for i := range 5 {
			r := request(fmt.Sprintf("rr_%d_%d", run, i), "c", payment)
			r.Amount = rapid.Int64Range(1, 2500).Draw(rt, "amount")
			requests = append(requests, &refunded{Request: r, said: map[string]bool{}})
		}
		left := func() int64 {
			rest := captured
			for _, r := range requests {
				rest -= r.gone(now)
			}
			return max(0, rest)
		}
		agree := func(s ledger.Standing) error {
			if minor := max(0, captured-held(s)); minor != left() {
				return fmt.Errorf("%d of %d are left, want %d: %+v", minor, captured, left(), s)
			}
			return nil
		}
		// expect compares what the ledger allowed with what it should have; what was said before is no change.
		expect := func(r *refunded, word string, legal bool, err error, then func()) {
			var illegal *ledger.TransitionError
			switch {
			case r.said[word] && err == nil && !legal:
			case legal && err == nil:
				r.said[word] = true
				then()
			case legal || !errors.As(err, &illegal) && !errors.Is(err, ledger.ErrNotFound):
				rt.Fatalf("%s of %s, which is %q: %v", word, r.ID, r.over, err)
			}
		}
		steps := map[string]func(*ledger.Ledger, *refunded){
			"decide": func(l *ledger.Ledger, r *refunded) {
				valid := vaglio.Instant(rapid.IntRange(1, 3).Draw(rt, "hours")) * vaglio.Hour
				_, _, err := l.Record(ctx, claim(r.Request), subject(r.Request), func(s ledger.Standing) (ledger.Entry, error) {
					if err := agree(s); err != nil {
						return ledger.Entry{}, err
					}
					if r.approved = r.Amount <= left(); !r.approved {
						return denial(r.Request, now), nil
					}
					r.validUntil = now + valid
					return approval(r.Request, now, valid), nil
				})
				if err != nil {
					rt.Fatal(err)
				}
			},
			"hear": func(l *ledger.Ledger, r *refunded) {
				kind := rapid.SampledFrom([]string{vaglio.KindRefundPaid, vaglio.KindRefundPaid, vaglio.KindRefundFailed}).Draw(rt, "kind")
				minor := rapid.OneOf(rapid.Int64Range(1, 900), rapid.Just(max(1, r.Amount-r.since))).Draw(rt, "minor")
				if kind == vaglio.KindRefundFailed && rapid.IntRange(0, 3).Draw(rt, "all of it") == 0 {
					minor = 0
				}
				told = append(told, money(fmt.Sprint("e_", run, "_", len(told)), kind, payment, r.ID, minor))
				if err := l.Move(ctx, told[len(told)-1:]); err != nil {
					rt.Fatal(err)
				}
				r.hear(kind, minor, now)
			},
			"again": func(l *ledger.Ledger, _ *refunded) {
				if err := l.Move(ctx, rapid.Permutation(told).Draw(rt, "told again")); err != nil {
					rt.Fatal(err)
				}
			},
			"execute": func(l *ledger.Ledger, r *refunded) {
				state := rapid.SampledFrom([]string{ledger.Submitted, ledger.Succeeded, ledger.Failed}).Draw(rt, "state")
				minor := r.Amount
				if state == ledger.Succeeded {
					minor = rapid.Int64Range(1, r.Amount).Draw(rt, "minor")
				}
				_, err := l.Execute(ctx, r.ID, ledger.Execution{State: state, Amount: minor})
				legal := r.open(now) && (state != ledger.Submitted || !r.submitted) || r.byEvent && r.over == state
				expect(r, fmt.Sprint(state, minor), legal, err, func() {
					switch state {
					case ledger.Submitted:
						r.submitted = true
						return
					case ledger.Succeeded:
						r.reported = minor
					}
					r.over, r.byEvent = state, false
				})
			},
			"cancel": func(l *ledger.Ledger, r *refunded) {
				_, err := l.Cancel(ctx, r.ID, "", "customer")
				expect(r, "cancel", r.open(now) && !r.submitted, err, func() { r.over = "cancelled" })
			},
			"wait": func(l *ledger.Ledger, _ *refunded) {
				now += vaglio.Instant(rapid.IntRange(1, 90).Draw(rt, "minutes")) * vaglio.Minute
				c.set(now)
				if rapid.Bool().Draw(rt, "sweep") {
					if _, err := l.Expire(ctx); err != nil {
						rt.Fatal(err)
					}
				}
			},
		}
		names := []string{"decide", "decide", "hear", "hear", "hear", "again", "execute", "cancel", "wait"}
		for step := range 16 {
			l, r := replicas[step%2], requests[rapid.IntRange(0, len(requests)-1).Draw(rt, "request")]
			what := rapid.SampledFrom(names).Draw(rt, "step")
			if step < 3 {
				what, r = "decide", requests[step]
			}
			if what != "decide" || r.validUntil == 0 && !r.said["decide"] {
				r.said["decide"] = r.said["decide"] || what == "decide"
				steps[what](l, r)
			}
			s, err := replicas[(step+1)%2].Standing(ctx, subject(r.Request))
			if err = errors.Join(err, agree(s)); err != nil {
				rt.Fatalf("%s: %v", what, err)
			}
		}
		for _, r := range requests {
			if r.submitted && r.over == "" {
				_, err := replicas[0].Execute(ctx, r.ID, ledger.Execution{State: ledger.Failed})
				expect(r, "the end", true, err, func() { r.over = ledger.Failed })
			}
		}
		now += 3 * vaglio.Hour
		c.set(now)
		_, err := replicas[1].Expire(ctx)
		s, standing := replicas[0].Standing(ctx, subject(requests[0].Request))
		if err = errors.Join(err, standing, agree(s)); err != nil || len(s.Reserved) > 0 {
			rt.Fatalf("%+v stays reserved, %v", s.Reserved, err)
		}
	})
}
