// Package simulate writes synthetic customer histories: honest customers, eight fraud patterns that hide among them and
// five honest look-alikes, with the outcomes and late, incomplete labels that a real shop would have. The same [Config]
// gives the same bytes, whatever Workers is. [Run] hands out events, [Write] writes NDJSON; knobs.go is the table of
// numbers to tune, plan.go decides who does what, customer.go lives one honest life, fraud.go and lookalikes.go change it.
package simulate

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/cespare/xxhash/v2"

	"vaglio"
)

// Config says how much of what to simulate. Shares are fractions (0.04 is 4 %).
type Config struct {
	Customers int            // accounts, of honest people and fraudsters together
	Days      int            // length of the history, which ends at Until
	Seed      uint64         // another seed is another world, with other ids
	Until     vaglio.Instant // end, exclusive: what would happen or be learned later is not written; required

	Currency string // ISO 4217: in which the shop sells; amounts have the same minor units in any

	PaymentsPerYear float64 // mean of an active customer
	RequestShare    float64 // refund and cancellation requests per payment
	FraudShare      float64 // frauds per request; Patterns say how it divides
	Patterns        PatternShares
	LookAlikes      LookAlikeShares
	LateShare       float64 // ordinary events observed minutes to hours after they happened
	WrongLabelShare float64 // honest requests with a fraud label
	ClearedShare    float64 // fraud labels taken back later
	ForeignShare    float64 // customers who pay in another currency: of EUR, GBP and USD

	Workers int // goroutines, 0: one per processor; never changes the result
}

// PatternShares are weights by pattern, given as shares of all requests; they are scaled to add up to Config.FraudShare.
// The one of Honest must be 0.
type PatternShares [patternCount]float64

// LookAlikeShares say how common the honest look-alikes are.
type LookAlikeShares struct {
	HeavyReturners        float64 // of customers
	HeavyReturnerRequests float64 // of requests
	NewPhoneRequests      float64 // of requests
	HouseholdCustomers    float64 // of customers
	OutagesPerYear        float64
	OutageRequests        float64 // of a year's requests, in one outage: at least 20, at most 900
	OwnAccountRequests    float64 // of requests
}

// DefaultConfig has the rates of a plausible shop: 10,000 customers for a year. Until is the caller's to set.
func DefaultConfig() Config {
	return Config{
		Customers:       10_000,
		Days:            365,
		Seed:            1,
		Currency:        "EUR",
		PaymentsPerYear: 36,
		RequestShare:    0.03,
		FraudShare:      0.04,
		Patterns:        defaultPatternShares(),
		LookAlikes: LookAlikeShares{
			HeavyReturners:        0.02,
			HeavyReturnerRequests: 0.15,
			NewPhoneRequests:      0.015,
			HouseholdCustomers:    0.05,
			OutagesPerYear:        4,
			OutageRequests:        0.008,
			OwnAccountRequests:    0.01,
		},
		LateShare:       0.02,
		WrongLabelShare: 0.003,
		ClearedShare:    0.03,
	}
}

// DemoConfig is small and rich in requests, so that a model can be trained on it within a minute; its history is long enough
// for more than 400 labelled frauds, rings among them, before a test period of the last months.
func DemoConfig() Config {
	c := DefaultConfig()
	c.Customers = 5_200
	c.Days = 540
	c.RequestShare = 0.08
	return c
}

// Limits of a Config.
const (
	maxCustomers = 8_000_000
	maxDays      = 3_650
)

// Validate checks the ranges of all knobs. The error is a [vaglio.Invalid] that names every wrong one.
func (c Config) Validate() error {
	var bad vaglio.Invalid
	within := func(name string, value, low, high float64) {
		if !(value >= low && value <= high) {
			bad = append(bad, vaglio.FieldError{Pointer: "/" + name, Detail: fmt.Sprintf("want %v to %v", low, high)})
		}
	}
	within("customers", float64(c.Customers), 1, maxCustomers)
	within("days", float64(c.Days), 7, maxDays)
	if c.Until == 0 {
		bad = append(bad, vaglio.FieldError{Pointer: "/until", Detail: "is required"})
	} else {
		within("until", float64(c.Until), float64(20*365*vaglio.Day), float64(200*365*vaglio.Day))
	}
	if _, ok := vaglio.CurrencyDigits(c.Currency); !ok {
		bad = append(bad, vaglio.FieldError{Pointer: "/currency", Detail: "is not an ISO 4217 code"})
	}
	within("payments_per_year", c.PaymentsPerYear, 1, 200)
	within("request_share", c.RequestShare, 0.001, 0.3)
	within("fraud_share", c.FraudShare, 0, 0.3)
	total := 0.0
	for p := range patternCount {
		within("patterns/"+p.String(), c.Patterns[p], 0, 1)
		total += c.Patterns[p]
	}
	if c.FraudShare > 0 && total == 0 || c.Patterns[Honest] != 0 {
		bad = append(bad, vaglio.FieldError{Pointer: "/patterns", Detail: "want a weight above 0 for at least one pattern, and 0 for honest"})
	}
	l := c.LookAlikes
	within("look_alikes/heavy_returners", l.HeavyReturners, 0, 0.2)
	within("look_alikes/heavy_returner_requests", l.HeavyReturnerRequests, 0, 0.5)
	within("look_alikes/new_phone_requests", l.NewPhoneRequests, 0, 0.2)
	within("look_alikes/household_customers", l.HouseholdCustomers, 0, 0.5)
	within("look_alikes/outages_per_year", l.OutagesPerYear, 0, 50)
	within("look_alikes/outage_requests", l.OutageRequests, 0, 0.05)
	within("look_alikes/own_account_requests", l.OwnAccountRequests, 0, 0.2)
	within("late_share", c.LateShare, 0, 1)
	within("wrong_label_share", c.WrongLabelShare, 0, 1)
	within("cleared_share", c.ClearedShare, 0, 1)
	within("foreign_share", c.ForeignShare, 0, 1)
	within("workers", float64(c.Workers), 0, 1024)
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// fingerprint differs between any two configs that give different histories.
func (c Config) fingerprint() uint64 {
	c.Workers = 0
	return xxhash.Sum64String(fmt.Sprintf("%+v", c))
}

func (c Config) start() vaglio.Instant { return c.Until - vaglio.Instant(c.Days)*vaglio.Day }

// Summary counts what was written.
type Summary struct {
	Customers  int
	Events     int
	Kinds      map[string]int
	Payments   int // events of kind payment
	Requests   int // events of kind refund_requested
	Frauds     int // requests that truly are fraud
	Patterns   map[Pattern]int
	LookAlikes map[LookAlike]int // honest requests that look like fraud; of households: requests of their members
	Confirmed  int               // requests with a fraud label, right or wrong, before Until
	Cleared    int               // labels taken back or explicit all-clears before Until
}

func newSummary() Summary {
	return Summary{Kinds: map[string]int{}, Patterns: map[Pattern]int{}, LookAlikes: map[LookAlike]int{}}
}

func (s *Summary) add(b *block) {
	s.Customers += b.customers
	for i := range b.events {
		s.Events++
		s.Kinds[b.events[i].Kind]++
	}
	for _, t := range b.truths {
		if t.pattern != Honest {
			s.Frauds++
			s.Patterns[t.pattern]++
		}
		if t.lookAlike != NoLookAlike {
			s.LookAlikes[t.lookAlike]++
		}
	}
	s.Payments = s.Kinds[vaglio.KindPayment]
	s.Requests = s.Kinds[vaglio.KindRefundRequested]
	s.Confirmed = s.Kinds[vaglio.KindFraudConfirmed]
	s.Cleared = s.Kinds[vaglio.KindFraudCleared]
}

// blockCustomers is how many customers are made and handed out at a time: some 7,000 events.
const blockCustomers = 64

// Run makes the events and gives them to emit, which owns them, in batches of a few customers; each customer's events
// are in the order in which they happened, the file as a whole is not. emit and progress (which may be nil, and counts
// customers) are called from one goroutine. The first error of emit, or the context's, ends the run.
func Run(ctx context.Context, c Config, emit func([]vaglio.Event) error, progress func(done, total int)) (Summary, error) {
	return run(ctx, c, progress, func(*block) {}, func(b *block) error { return emit(b.events) })
}

// run plans, makes the blocks in parallel (each then passes through prepare, also in parallel) and delivers them in order.
func run(ctx context.Context, c Config, progress func(done, total int), prepare func(*block), deliver func(*block) error) (Summary, error) {
	if err := c.Validate(); err != nil {
		return Summary{}, fmt.Errorf("simulate: %w", err)
	}
	p, err := newPlan(c)
	if err != nil {
		return Summary{}, fmt.Errorf("plan %d customers: %w", c.Customers, err)
	}
	workers := c.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	total := newSummary()
	blocks := int(math.Ceil(float64(c.Customers) / blockCustomers))
	err = inOrder(ctx, workers, blocks, func(i int) *block {
		b := p.block(i*blockCustomers, min((i+1)*blockCustomers, c.Customers))
		prepare(b)
		return b
	}, func(b *block) error {
		total.add(b)
		if err := deliver(b); err != nil {
			return err
		}
		if progress != nil {
			progress(total.Customers, c.Customers)
		}
		return nil
	})
	return total, err
}

// inOrder makes items 0 to n−1 in workers goroutines and consumes them in order in this one. At most 2·workers made
// items wait. All goroutines have ended when it returns.
func inOrder[T any](ctx context.Context, workers, n int, produce func(i int) T, consume func(T) error) error {
	ctx, stop := context.WithCancel(ctx)
	type job struct {
		i    int
		done chan T
	}
	jobs := make(chan job)
	order := make(chan chan T, 2*workers)
	ended := make(chan struct{})
	defer func() {
		stop()
		for range workers + 1 {
			<-ended
		}
	}()
	go func() {
		defer func() { ended <- struct{}{} }()
		defer close(order)
		defer close(jobs)
		for i := range n {
			j := job{i, make(chan T, 1)}
			select {
			case order <- j.done:
			case <-ctx.Done():
				return
			}
			select {
			case jobs <- j:
			case <-ctx.Done():
				return
			}
		}
	}()
	for range workers {
		go func() {
			defer func() { ended <- struct{}{} }()
			for j := range jobs {
				j.done <- produce(j.i)
			}
		}()
	}
	for done := range order {
		select {
		case item := <-done:
			if err := consume(item); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}
