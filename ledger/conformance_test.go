package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/ledger/ledgertest"
)

// opener opens one store, the same one at every call.
type opener func(ledger.Options) *ledger.Ledger

// conformance is what every engine promises: the tests get a fresh, empty store.
var conformance = []struct {
	name string
	test func(*testing.T, opener)
}{
	{"a repeated request gets the stored bytes", repeated},
	{"other content under a request's id is a conflict that names the fields", conflicting},
	{"a decision that fails stores nothing", failing},
	{"a decision that panics panics in its caller", panicking},
	{"what the database refuses fails nobody else", refused},
	{"open approvals of a payment add up", reserving},
	{"approvals that expired no longer count", releasing},
	{"concurrent approvals never exceed what was captured", neverOver},
	{"replicas never approve too much, and nothing stays reserved in the end", neverLeaking},
	{"refunds in pieces settle what they pay, and no more", piecemeal},
	{"customers are counted exactly, over all replicas", counting},
	{"the first open request on the same money is found", duplicating},
	{"replicas decide an id once, whatever its content", racing},
	{"a request goes from state to state as the table says", transitioning},
	{"an execution is told once, however often it is said", executing},
	{"history is told of refunds that are not paid", ending},
	{"a reviewer's approval reserves like a decision", resolving},
	{"money that events tell of counts, once", moving},
	{"approvals expire", expiring},
	{"a call that ends while it waits stores nothing", leaving},
	{"closing answers everybody first", closing},
	{"a decision is found by either id", finding},
	{"a full outbox refuses new requests and answers old ones", filling},
	{"facts come back as they were", roundTrip},
	{"recent facts are found by their timelines, a while also after their delivery", recent},
	{"the relay delivers in order and forgets what was taken", relaying},
	{"the relay repeats what was not taken, and says so once", repeating},
	{"a key opens until it expires or is revoked", keys},
	{"a wrong key is refused with all its faults", wrongKeys},
	{"a bootstrap key is made once and stays revoked", bootstrapKey},
	{"a rotated key works on until its overlap ends", rotatedKeys},
	{"a key that another replica revokes is refused before long", keysElsewhere},
	{"a key has a last use and a rate of its own", usedAndLimitedKeys},
	{"policies are published, approved by a second person, and rolled back", policies},
	{"a list tells what was on it when", lists},
	{"guards hold until their time or a hand", guards},
	{"exploration keeps its budget", exploring},
	{"what people change is in the audit log, with it", controlled},
	{"decisions are read in the order of their time", scanning},
}

func TestSQLiteConforms(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			c.test(t, func(o ledger.Options) *ledger.Ledger { return open(t, "sqlite:"+path, o) })
		})
	}
}

func TestPostgreSQLConforms(t *testing.T) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			dsn := ledgertest.Postgres(t)
			c.test(t, func(o ledger.Options) *ledger.Ledger { return open(t, dsn, o) })
		})
	}
}

// open closes the ledger with the test. Without a clock of its own, the ledger stands still at the tests' moment.
func open(t testing.TB, dsn string, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if o.Now == nil {
		o.Now = at.Time
	}
	l, err := ledger.Open(context.Background(), dsn, o)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// record approves a request, with its whole amount reserved.
func record(t testing.TB, l *ledger.Ledger, r *vaglio.Request) []byte {
	t.Helper()
	response, repeated, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
		return approval(r, at, 10*vaglio.Minute), nil
	})
	must(t, err)
	if repeated {
		t.Fatalf("request %s had been decided before", r.ID)
	}
	return response
}

// reserved asks a ledger what a payment has reserved.
func reserved(t testing.TB, l *ledger.Ledger, s ledger.Subject) int64 {
	t.Helper()
	standing, err := l.Standing(context.Background(), s)
	must(t, err)
	return sum(standing)
}

func sum(s ledger.Standing) (minor int64) {
	for _, r := range s.Reserved {
		minor += r.Amount
	}
	return minor
}

func never(ledger.Standing) (ledger.Entry, error) { return ledger.Entry{}, errors.New("decided again") }

func repeated(t *testing.T, open opener) {
	l := open(ledger.Options{})
	r := request("rr_1", "c_1", "p_1")
	if _, found, err := l.Lookup(t.Context(), claim(r)); found || err != nil {
		t.Fatal("found before it was recorded", err)
	}
	first := record(t, l, r)
	must(t, l.Close())
	l = open(ledger.Options{})
	again, repeated, err := l.Record(t.Context(), claim(r), subject(r), never)
	if err != nil || !repeated || string(again) != string(first) {
		t.Fatalf("%s %v %v, want %s repeated", again, repeated, err, first)
	}
	looked, found, err := l.Lookup(t.Context(), claim(r))
	if err != nil || !found || string(looked) != string(first) {
		t.Fatalf("%s %v %v, want %s", looked, found, err, first)
	}
	if n, err := l.Backlog(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d events wait (%v), want the one of the first call", n, err)
	}
}

func conflicting(t *testing.T, open opener) {
	l := open(ledger.Options{})
	record(t, l, request("rr_1", "c_1", "p_1"))
	other := request("rr_1", "c_2", "p_1")
	other.Amount = 2000
	other.Language = "it"
	_, _, recorded := l.Record(t.Context(), claim(other), subject(other), never)
	_, _, looked := l.Lookup(t.Context(), claim(other))
	for _, err := range []error{recorded, looked} {
		var conflict *ledger.ConflictError
		if !errors.As(err, &conflict) || !errors.Is(err, ledger.ErrConflict) {
			t.Fatal(err)
		}
		if want := []string{"amount", "entities", "language"}; !slices.Equal(conflict.Fields, want) || conflict.RequestID != "rr_1" {
			t.Fatalf("%v of %s, want %v of rr_1", conflict.Fields, conflict.RequestID, want)
		}
	}
}

func failing(t *testing.T, open opener) {
	l := open(ledger.Options{})
	r := request("rr_1", "c_1", "p_1")
	broken := errors.New("no model")
	if _, _, err := l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) { return ledger.Entry{}, broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if n, err := l.Backlog(t.Context()); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	record(t, l, r)
}

func panicking(t *testing.T, open opener) {
	l := open(ledger.Options{})
	r := request("rr_1", "c_1", "p_1")
	func() {
		defer func() {
			if got := recover(); got != "a bug" {
				t.Errorf("recovered %v", got)
			}
		}()
		l.Record(t.Context(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) { panic("a bug") })
		t.Error("returned")
	}()
	record(t, l, r)
}

// grouped starts a call of Record for each request, all of which wait behind one that decides only after release is
// called: they share its transaction.
func grouped(t *testing.T, l *ledger.Ledger, n int, entry func(int) (*vaglio.Request, ledger.Entry)) (release func() []error) {
	t.Helper()
	errs := make([]error, n)
	blocked, deciding := make(chan struct{}), make(chan struct{})
	var calls, started sync.WaitGroup
	calls.Go(func() {
		r := request("rr_first", "c", "p")
		_, _, err := l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) {
			close(deciding)
			<-blocked
			return approval(r, at, vaglio.Minute), nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-deciding
	for i := range n {
		started.Add(1)
		calls.Go(func() {
			r, e := entry(i)
			started.Done()
			_, _, errs[i] = l.Record(context.Background(), claim(r), subject(r), func(ledger.Standing) (ledger.Entry, error) { return e, nil })
		})
	}
	started.Wait()
	return func() []error {
		close(blocked)
		calls.Wait()
		return errs
	}
}

func refused(t *testing.T, open opener) {
	l := open(ledger.Options{})
	wrong := map[int]func(*ledger.Entry){
		3: func(e *ledger.Entry) { e.DecisionID = "dec_rr_first" }, // taken
		5: func(e *ledger.Entry) { e.DecisionID = "" },
		7: func(e *ledger.Entry) { e.Response = nil },
		9: func(e *ledger.Entry) { e.Reserve = -1 },
	}
	errs := grouped(t, l, 12, func(i int) (*vaglio.Request, ledger.Entry) {
		r := request(fmt.Sprint("rr_", i), "c", "p")
		e := approval(r, at, vaglio.Minute)
		if spoil := wrong[i]; spoil != nil {
			spoil(&e)
		}
		return r, e
	})()
	for i, err := range errs {
		if refused := err != nil; refused != (wrong[i] != nil) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if got, want := reserved(t, l, ledger.Subject{Payment: "p", Currency: "EUR"}), int64((12-len(wrong)+1)*1999); got != want {
		t.Errorf("%d is reserved, want %d", got, want)
	}
	if n, err := l.Backlog(t.Context()); n != 12-len(wrong)+1 || err != nil {
		t.Errorf("%d events wait (%v)", n, err)
	}
}

func reserving(t *testing.T, open opener) {
	l := open(ledger.Options{})
	reservedOf := func(id, currency string, want int64) {
		t.Helper()
		if got := reserved(t, l, ledger.Subject{Payment: id, Currency: currency}); got != want {
			t.Errorf("%d %s of payment %q are reserved, want %d", got, currency, id, want)
		}
	}
	reservedOf("p_1", "EUR", 0)
	record(t, l, request("rr_1", "c_1", "p_1"))
	record(t, l, request("rr_2", "c_2", "p_1"))
	record(t, l, request("rr_3", "c_1", "p_2"))
	dollars := request("rr_4", "c_1", "p_1")
	dollars.Currency, dollars.Amount = "USD", 5
	record(t, l, dollars)
	record(t, l, request("rr_5", "c_1", "")) // no payment: nothing to hold back of
	review := request("rr_6", "c_1", "p_1")
	_, _, err := l.Record(t.Context(), claim(review), subject(review), func(ledger.Standing) (ledger.Entry, error) {
		return inReview(review, at), nil
	})
	must(t, err)
	reservedOf("p_1", "EUR", 2*1999)
	reservedOf("p_1", "USD", 5)
	reservedOf("p_2", "EUR", 1999)
	reservedOf("", "EUR", 0)
}

func releasing(t *testing.T, open opener) {
	now := at
	l := open(ledger.Options{Now: func() time.Time { return now.Time() }})
	record(t, l, request("rr_1", "c_1", "p_1")) // valid for 10 minutes
	record(t, l, request("rr_2", "c_1", "p_1"))
	reservedAt := func(t0 vaglio.Instant, want int64) {
		t.Helper()
		now = t0
		if got := reserved(t, l, ledger.Subject{Payment: "p_1", Currency: "EUR"}); got != want {
			t.Errorf("%d is reserved, want %d", got, want)
		}
	}
	reservedAt(at, 2*1999)
	reservedAt(at+10*vaglio.Minute-1, 2*1999)
	reservedAt(at+10*vaglio.Minute, 0)
}

func leaving(t *testing.T, open opener) {
	l := open(ledger.Options{})
	release := grouped(t, l, 0, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client went away")
	r := request("rr_1", "c_1", "p_1")
	cancel(gone)
	if _, _, err := l.Record(ctx, claim(r), subject(r), never); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	waiting, leave := context.WithTimeoutCause(t.Context(), time.Millisecond, gone)
	defer leave()
	if _, _, err := l.Record(waiting, claim(r), subject(r), never); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	release()
	record(t, l, r)
}

func closing(t *testing.T, open opener) {
	l := open(ledger.Options{})
	release := grouped(t, l, 100, func(i int) (*vaglio.Request, ledger.Entry) {
		r := request(fmt.Sprint("rr_", i), "c", "p")
		return r, approval(r, at, vaglio.Minute)
	})
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	for i, err := range release() {
		if err != nil && !errors.Is(err, ledger.ErrClosed) { // it had not been called yet when Close was
			t.Errorf("request %d: %v", i, err)
		}
	}
	must(t, <-closed)
	r := request("rr_late", "c", "p")
	if _, _, err := l.Record(t.Context(), claim(r), subject(r), never); !errors.Is(err, ledger.ErrClosed) {
		t.Fatal(err)
	}
	must(t, l.Close())
}

func finding(t *testing.T, open opener) {
	l := open(ledger.Options{})
	r := request("rr_1", "c_1", "p_1")
	response := record(t, l, r)
	record(t, l, request("dec_rr_1", "c_9", "p_9")) // a request named like the other's decision
	for _, id := range []string{"rr_1", "dec_rr_1"} {
		s, err := l.Decision(t.Context(), id)
		must(t, err)
		if s.RequestID != "rr_1" || s.DecisionID != "dec_rr_1" || s.DecidedAt != at || string(s.Response) != string(response) ||
			string(s.Request) != string(claim(r).Body) || string(s.Inputs) != `{"vector":[1,2,3]}` {
			t.Errorf("%s: %+v", id, s)
		}
	}
	if _, err := l.Decision(t.Context(), "rr_2"); !errors.Is(err, ledger.ErrNotFound) {
		t.Error(err)
	}
}

// neverOver runs 400 requests of random sizes, each sent twice, against 3 payments.
func neverOver(t *testing.T, open opener) {
	const captured = 100_000
	l := open(ledger.Options{})
	type outcome struct {
		payment  string
		amount   int64
		approved bool
	}
	outcomes := make([]outcome, 400)
	var calls sync.WaitGroup
	for i := range outcomes {
		r := request(fmt.Sprint("rr_", i), "c", fmt.Sprint("p_", i%3))
		r.Amount = 1 + int64(i*i*7919%2500)
		outcomes[i] = outcome{payment: fmt.Sprint("p_", i%3), amount: r.Amount}
		var responses [2][]byte
		var decided [2]bool
		var pair sync.WaitGroup
		for k := range responses {
			pair.Go(func() {
				var err error
				responses[k], _, err = l.Record(context.Background(), claim(r), subject(r), func(s ledger.Standing) (ledger.Entry, error) {
					decided[k] = true
					e := approval(r, at, vaglio.Minute)
					if outcomes[i].approved = captured-sum(s) >= r.Amount; !outcomes[i].approved {
						e = denial(r, at)
					}
					return e, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		calls.Go(func() {
			pair.Wait()
			if decided[0] == decided[1] || string(responses[0]) != string(responses[1]) {
				t.Errorf("request %d: decided %v, answered %s and %s", i, decided, responses[0], responses[1])
			}
		})
	}
	calls.Wait()
	approved := map[string]int64{}
	for _, o := range outcomes {
		if o.approved {
			approved[o.payment] += o.amount
		}
	}
	for id, minor := range approved {
		if stored := reserved(t, l, ledger.Subject{Payment: id, Currency: "EUR"}); minor > captured || stored != minor {
			t.Errorf("payment %s: %d approved, %d reserved, %d captured", id, minor, stored, int64(captured))
		}
	}
	for i, o := range outcomes {
		if left := captured - approved[o.payment]; !o.approved && o.amount <= left {
			t.Errorf("request %d for %d was refused while %d were left", i, o.amount, left)
		}
	}
}
