package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vaglio"
)

// Subject is what a decision is about: whose counters, and which payment's exposure. Without a payment there is none, and
// nothing is held back.
type Subject struct {
	Customer, Payment, Currency string
	Amount                      int64 // requested, minor units
}

// Standing is what the ledger knows of a subject at one moment; for a decision, the moment of its own transaction.
type Standing struct {
	Reserved  []Reservation `json:"reserved"`            // open approvals that hold money of the payment, in the subject's currency
	Movements []Movement    `json:"movements"`           // money of the payment that the ledger was told of, in any currency
	Counters  Counters      `json:"counters"`            // of the customer, before this request
	Duplicate *Duplicate    `json:"duplicate,omitempty"` // the first open request on the same payment, amount and currency
	// Incomplete says that more than 2,000 open requests or movements of the payment exist, and some are missing here.
	Incomplete bool `json:"incomplete,omitzero"`
}

// Reservation is money that an open approval holds back.
type Reservation struct {
	RequestID  string         `json:"request_id"`
	Amount     int64          `json:"amount"` // minor units
	ValidUntil vaglio.Instant `json:"valid_until"`
}

// Movement is money of a payment that moved, as an event told it.
type Movement struct {
	EventID    string         `json:"event_id"`
	Kind       string         `json:"kind"`
	RequestID  string         `json:"request_id,omitzero"` // the request that the event names
	Customer   string         `json:"customer,omitzero"`
	Amount     int64          `json:"amount"` // minor units
	Currency   string         `json:"currency"`
	OccurredAt vaglio.Instant `json:"occurred_at"`
}

// Counters are what a customer had decided in the hour and the day before, exactly; beyond 5,000 requests in the day they
// stop growing. An approval that a reviewer gave is not among them. Amounts are minor units of the base currency.
type Counters struct {
	Requests1h   int   `json:"requests_1h"`
	Requests24h  int   `json:"requests_24h"`
	Approvals1h  int   `json:"approvals_1h"`
	Approvals24h int   `json:"approvals_24h"`
	Approved1h   int64 `json:"approved_1h"`
	Approved24h  int64 `json:"approved_24h"`
}

// Duplicate is an open request that asked for the same money first.
type Duplicate struct {
	RequestID string `json:"request_id"`
	CaseID    string `json:"case_id,omitzero"` // "" when no reviewer has it
}

// What one decision reads at most: of a payment's rows, and of a customer's requests of a day.
const (
	maxPaymentRows = vaglio.NewestPerKind
	maxCounted     = 5000
)

// openRequest is a row of open_requests.
type openRequest struct {
	id, currency          string
	amount, approved      int64
	submitted             bool // the money is on its way
	validUntil, decidedAt vaglio.Instant
	caseID                string
}

// holds reports whether the request holds money back.
func (o *openRequest) holds(now vaglio.Instant) bool {
	return o.approved > 0 && (o.submitted || now < o.validUntil)
}

// over reports whether the request is over although nobody has written it down yet.
func (o *openRequest) over(now vaglio.Instant) bool { return o.approved > 0 && !o.holds(now) }

// payment is what the ledger holds of one payment.
type payment struct {
	open       []openRequest
	movements  []Movement
	incomplete bool
}

// standings are what a transaction has read of payments and customers, with what it has decided since.
type standings struct {
	now       vaglio.Instant
	payments  map[string]*payment
	customers map[string]*Counters
}

// of is the standing of a subject. The request itself does not count.
func (s *standings) of(subject Subject, request string) Standing {
	out := Standing{Reserved: []Reservation{}, Movements: []Movement{}}
	if c := s.customers[subject.Customer]; c != nil {
		out.Counters = *c
	}
	p := s.payments[subject.Payment]
	if p == nil {
		return out
	}
	out.Movements, out.Incomplete = append(out.Movements, p.movements...), p.incomplete
	var first *openRequest
	for i := range p.open {
		o := &p.open[i]
		if o.id == request || o.currency != subject.Currency || o.over(s.now) {
			continue
		}
		if o.holds(s.now) {
			out.Reserved = append(out.Reserved, Reservation{o.id, o.approved, o.validUntil})
		}
		if o.amount == subject.Amount && (first == nil || cmp.Or(cmp.Compare(o.decidedAt, first.decidedAt), cmp.Compare(o.id, first.id)) < 0) {
			first = o
		}
	}
	if first != nil {
		out.Duplicate = &Duplicate{first.id, first.caseID}
	}
	return out
}

// add counts a decision that the transaction has taken.
func (s *standings) add(subject Subject, id string, e *Entry) {
	if c := s.customers[subject.Customer]; c != nil {
		c.Requests1h++
		c.Requests24h++
		if e.Verdict == vaglio.Approve {
			c.Approvals1h++
			c.Approvals24h++
			c.Approved1h += countedAmount(e)
			c.Approved24h += countedAmount(e)
		}
	}
	if p := s.payments[subject.Payment]; p != nil && e.Verdict != vaglio.Deny {
		p.open = append(p.open, openRequest{id: id, currency: subject.Currency, amount: subject.Amount, approved: e.Reserve,
			validUntil: e.ValidUntil, decidedAt: e.DecidedAt, caseID: e.CaseID})
	}
}

// countedAmount is what an approval adds to its customer's counters: within bounds in which 5,000 of them add up.
func countedAmount(e *Entry) int64 {
	if e.Verdict != vaglio.Approve {
		return 0
	}
	return min(max(0, e.BaseAmount), 100*vaglio.MaxAmount)
}

// lookup asks the same of several keys in one statement: one arm per key, all joined by UNION ALL, so that each arm has its
// own limit. In an arm, $key stands for the key's parameter and $arm for its number.
type lookup struct{ stmts []*sql.Stmt } // by the sizes of lookupSizes

var lookupSizes = []int{1, 2, 4, 8, 16, 32, 64}

// lookupSQL is the text for n keys, whose parameters follow the first ones.
func lookupSQL(arm string, first, n int) string {
	arms := make([]string, n)
	for i := range arms {
		arms[i] = strings.NewReplacer("$key", "$"+strconv.Itoa(first+i+1), "$arm", strconv.Itoa(i)).Replace(arm)
	}
	return strings.Join(arms, " UNION ALL ")
}

func prepareLookup(ctx context.Context, db *sql.DB, arm string, first int, sizes []int) (*lookup, error) {
	var l lookup
	for _, n := range sizes {
		text := lookupSQL(arm, first, n)
		stmt, err := db.PrepareContext(ctx, text) //nolint:sqlclosecheck // lives as long as its database
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		l.stmts = append(l.stmts, stmt)
	}
	return &l, nil
}

// run calls found for each row of the keys, after scanning its columns into variables. An arm's first column is its number.
func (l *lookup) run(ctx context.Context, bind binder, first []any, keys []string, into []any, found func(key string)) error {
	var arm int
	into = append([]any{&arm}, into...)
	for some := range slices.Chunk(keys, lookupSizes[len(lookupSizes)-1]) {
		size, _ := slices.BinarySearch(lookupSizes, len(some))
		args := slices.Clone(first)
		for i := range lookupSizes[size] {
			args = append(args, some[min(i, len(some)-1)]) // the same one again, whose rows are left out below
		}
		stmt := bind(l.stmts[size]) //nolint:sqlclosecheck // ends with its transaction, or lives as long as its database
		err := scanRows(ctx, stmt, args, into, func() {
			if arm < len(some) {
				found(some[arm])
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scanRows scans the rows of a query, one after the other, into variables.
func scanRows(ctx context.Context, stmt *sql.Stmt, args, into []any, row func()) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row()
	}
	return rows.Err()
}

// binder makes a statement one of a transaction, or leaves it as it is.
type binder func(*sql.Stmt) *sql.Stmt

func unbound(s *sql.Stmt) *sql.Stmt { return s }

// The arms of what standings read.
var (
	openArm = `SELECT * FROM (SELECT $arm, request_id, currency, amount, approved, submitted, valid_until, decided_at, case_id
		FROM open_requests WHERE payment_id = $key LIMIT ` + strconv.Itoa(maxPaymentRows+1) + `) AS a$arm`
	movementsArm = `SELECT * FROM (SELECT $arm, event_id, kind, request_id, customer_id, amount, currency, occurred_at
		FROM movements WHERE payment_id = $key AND known_at <= $1 LIMIT ` + strconv.Itoa(maxPaymentRows+1) + `) AS a$arm`
	countersArm = `SELECT $arm, COUNT(*), COUNT(*) FILTER (WHERE decided_at > $2), COUNT(*) FILTER (WHERE verdict = 'approve'),
		COUNT(*) FILTER (WHERE verdict = 'approve' AND decided_at > $2), CAST(COALESCE(SUM(base_amount), 0) AS BIGINT),
		CAST(COALESCE(SUM(base_amount) FILTER (WHERE decided_at > $2), 0) AS BIGINT)
		FROM (SELECT decided_at, verdict, base_amount FROM decisions WHERE customer_id = $key AND decided_at > $1
			ORDER BY decided_at DESC LIMIT ` + strconv.Itoa(maxCounted) + `) AS a$arm`
)

// reading are the statements that standings are read by.
type reading struct{ open, movements, counters *lookup }

func prepareReading(ctx context.Context, db *sql.DB, sizes []int) (r reading, err error) {
	for _, p := range []struct {
		lookup **lookup
		arm    string
		first  int
	}{{&r.open, openArm, 0}, {&r.movements, movementsArm, 1}, {&r.counters, countersArm, 2}} {
		if *p.lookup, err = prepareLookup(ctx, db, p.arm, p.first, sizes); err != nil {
			return r, err
		}
	}
	return r, nil
}

// read reads the standings of payments and customers at a moment.
func (r reading) read(ctx context.Context, bind binder, now vaglio.Instant, subjects []Subject) (*standings, error) {
	s := &standings{now: now, payments: map[string]*payment{}, customers: map[string]*Counters{}}
	var payments, customers []string
	for _, subject := range subjects {
		if id := subject.Payment; id != "" && s.payments[id] == nil {
			s.payments[id] = &payment{}
			payments = append(payments, id)
		}
		if id := subject.Customer; id != "" && s.customers[id] == nil {
			s.customers[id] = &Counters{}
			customers = append(customers, id)
		}
	}
	var o openRequest
	err := r.open.run(ctx, bind, nil, payments, []any{&o.id, &o.currency, &o.amount, &o.approved, &o.submitted, &o.validUntil, &o.decidedAt,
		&o.caseID}, func(id string) { s.payments[id].open = append(s.payments[id].open, o) })
	if err != nil {
		return nil, fmt.Errorf("read the open requests of %d payments: %w", len(payments), err)
	}
	var m Movement
	err = r.movements.run(ctx, bind, []any{int64(now)}, payments, []any{&m.EventID, &m.Kind, &m.RequestID, &m.Customer, &m.Amount, &m.Currency,
		&m.OccurredAt}, func(id string) { s.payments[id].movements = append(s.payments[id].movements, m) })
	if err != nil {
		return nil, fmt.Errorf("read the movements of %d payments: %w", len(payments), err)
	}
	for _, p := range s.payments {
		p.incomplete = len(p.open) > maxPaymentRows || len(p.movements) > maxPaymentRows
	}
	var c Counters
	err = r.counters.run(ctx, bind, []any{int64(now - vaglio.Day), int64(now - vaglio.Hour)}, customers, []any{&c.Requests24h, &c.Requests1h,
		&c.Approvals24h, &c.Approvals1h, &c.Approved24h, &c.Approved1h}, func(id string) { *s.customers[id] = c })
	if err != nil {
		return nil, fmt.Errorf("count the requests of %d customers: %w", len(customers), err)
	}
	return s, nil
}

// Standing is what the ledger knows of a subject now. A decision is told within its own transaction; this is for those that
// record nothing.
func (l *Ledger) Standing(ctx context.Context, subject Subject) (Standing, error) {
	s, err := l.sql.reader.read(ctx, unbound, l.now(), []Subject{subject})
	if err != nil {
		return Standing{}, err
	}
	return s.of(subject, ""), nil
}
