package simulate_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/simulate"
)

var until = must(vaglio.ParseInstant("2026-11-01"))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func small() simulate.Config {
	c := simulate.DemoConfig()
	c.Customers, c.Until = 600, until
	return c
}

// truth is a row of the ground truth.
type truth struct {
	id, pattern, fraudType, lookAlike string
	at                                vaglio.Instant
	labelled                          bool
	delayDays                         float64
}

type world struct {
	config  simulate.Config
	summary simulate.Summary
	lines   []byte
	events  []vaglio.Event // in the order of the file
	truths  []truth
}

// simulated runs a config and reads what it wrote back through the strict decoder.
func simulated(t *testing.T, c simulate.Config) world {
	t.Helper()
	var lines, rows bytes.Buffer
	summary, err := simulate.Write(t.Context(), c, &lines, &rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := world{config: c, summary: summary, lines: lines.Bytes()}
	for line := range bytes.Lines(w.lines) {
		e, err := vaglio.DecodeEvent(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		w.events = append(w.events, e)
	}
	records, err := csv.NewReader(&rows).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if header := strings.Join(records[0], ",") + "\n"; header != simulate.TruthHeader {
		t.Fatalf("the ground truth begins with %q", header)
	}
	for _, r := range records[1:] {
		row := truth{id: r[0], at: must(vaglio.ParseInstant(r[1])), pattern: r[2], fraudType: r[3], lookAlike: r[4], labelled: r[5] != ""}
		if row.labelled {
			row.delayDays = float64(must(vaglio.ParseInstant(r[5]))-row.at) / float64(vaglio.Day)
		}
		w.truths = append(w.truths, row)
	}
	return w
}

func TestTheSameConfigGivesTheSameBytesWhateverWorkers(t *testing.T) {
	c := small()
	write := func(workers int) (events, truths string) {
		c.Workers = workers
		var e, g bytes.Buffer
		if _, err := simulate.Write(t.Context(), c, &e, &g, nil); err != nil {
			t.Fatal(err)
		}
		return e.String(), g.String()
	}
	events1, truths1 := write(1)
	events5, truths5 := write(5)
	if events1 != events5 || truths1 != truths5 {
		t.Error("one worker and five wrote different bytes")
	}
}

func TestRunAndWriteTellTheSameStory(t *testing.T) {
	c := small()
	w := simulated(t, c)
	var lines []byte
	done := 0
	summary, err := simulate.Run(t.Context(), c, func(events []vaglio.Event) error {
		for i := range events {
			line, err := json.Marshal(&events[i])
			if err != nil {
				return err
			}
			lines = append(append(lines, line...), '\n')
		}
		return nil
	}, func(n, total int) {
		if n <= done || total != c.Customers {
			t.Errorf("progress went from %d to %d of %d", done, n, total)
		}
		done = n
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(lines, w.lines) {
		t.Error("the lines of Write are not the events of Run as MarshalJSON writes them")
	}
	if done != c.Customers || summary.Events != len(w.events) || summary.Requests != len(w.truths) {
		t.Errorf("progress %d, summary %d events and %d requests; the file has %d and %d", done, summary.Events, summary.Requests, len(w.events), len(w.truths))
	}
}

func TestIDsAreUniqueAndMarkedAndNotSharedByTwoSeeds(t *testing.T) {
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 2; seed++ {
		c := small()
		c.Seed = seed
		for _, e := range simulated(t, c).events {
			if seen[e.ID] {
				t.Fatalf("the id %s comes twice", e.ID)
			}
			seen[e.ID] = true
			if want := map[bool]string{true: "rr_sim_", false: "sim_"}[e.Kind == vaglio.KindRefundRequested]; !strings.HasPrefix(e.ID, want) {
				t.Fatalf("the id %s of a %s does not begin with %s", e.ID, e.Kind, want)
			}
		}
	}
}

func TestRatesAreThoseOfTheConfig(t *testing.T) {
	for name, c := range map[string]simulate.Config{"default": simulate.DefaultConfig(), "demo": simulate.DemoConfig()} {
		c.Until = until
		s, err := simulate.Run(t.Context(), c, func([]vaglio.Event) error { return nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		near := func(what string, got, want, tolerance float64) {
			if math.Abs(got-want) > tolerance*want {
				t.Errorf("%s: %s is %.4f, want %.4f ± %.0f %%", name, what, got, want, 100*tolerance)
			}
		}
		requests := float64(s.Requests)
		near("requests per payment", requests/float64(s.Payments), c.RequestShare, 0.08)
		near("frauds per request", float64(s.Frauds)/requests, c.FraudShare, 0.10)
		near("payments per customer and year", float64(s.Payments)/float64(c.Customers)*365/float64(c.Days), 32, 0.10)
		for p := simulate.SerialRefunder; p <= simulate.Insider; p++ {
			want := c.Patterns[p]
			near(p.String(), float64(s.Patterns[p])/requests, want, 0.15+2/math.Sqrt(want*requests))
		}
		near("heavy returners", float64(s.LookAlikes[simulate.HeavyReturner])/requests, c.LookAlikes.HeavyReturnerRequests, 0.10)
		near("new phones", float64(s.LookAlikes[simulate.NewPhone])/requests, c.LookAlikes.NewPhoneRequests, 0.25)
		near("own accounts", float64(s.LookAlikes[simulate.OwnAccount])/requests, c.LookAlikes.OwnAccountRequests, 0.3)
		near("outages", float64(s.LookAlikes[simulate.Outage])/requests, 4*c.LookAlikes.OutageRequests, 0.3)
		if s.LookAlikes[simulate.Household] == 0 {
			t.Errorf("%s: no request from a household", name)
		}
	}
}

// crowded has thousands of frauds, so that their statistics are stable.
func crowded() simulate.Config {
	c := simulate.DefaultConfig()
	c.Customers, c.RequestShare, c.FraudShare, c.Until = 9_000, 0.12, 0.2, until
	c.Days = 540
	c.PaymentsPerYear = 12
	return c
}

var crowd struct {
	sync.Once
	world
}

func crowdedWorld(t *testing.T) world {
	t.Helper()
	crowd.Do(func() { crowd.world = simulated(t, crowded()) })
	return crowd.world
}

func TestLabelsComeAsLateAndAsRarelyAsSaid(t *testing.T) {
	w := crowdedWorld(t)
	// docs/simulator.md: median delay in days, share never labelled.
	for pattern, want := range map[string]struct{ medianDays, never float64 }{
		"serial_refunder": {30, 0.4}, "account_takeover": {2, 0}, "mule_deposit": {20, 0}, "device_ring": {14, 0},
		"not_received_abuse": {20, 0.5}, "spent_disowned": {45, 0}, "double_dip": {45, 0}, "insider": {60, 0},
	} {
		var delays []float64
		all, never := 0, 0
		patience := vaglio.Instant(8*want.medianDays) * vaglio.Day
		if pattern == "device_ring" {
			patience = 60 * vaglio.Day
		}
		patience = min(patience, 270*vaglio.Day)
		for _, row := range w.truths {
			if row.pattern != pattern || row.at > until-patience {
				continue
			}
			all++
			if row.labelled {
				delays = append(delays, row.delayDays)
			} else {
				never++
			}
		}
		if all < 30 {
			t.Errorf("%s: only %d old requests to look at", pattern, all)
			continue
		}
		slices.Sort(delays)
		tolerance := 0.15
		switch pattern {
		case "device_ring": // a batch a burst
			tolerance = 0.35
		case "insider": // a dozen batches
			tolerance = 0.5
		}
		if median := delays[len(delays)/2]; math.Abs(median-want.medianDays) > tolerance*want.medianDays {
			t.Errorf("%s: the median delay is %.1f days, want %.0f", pattern, median, want.medianDays)
		}
		if share := float64(never) / float64(all); math.Abs(share-want.never) > 0.05 {
			t.Errorf("%s: %.2f never labelled, want %.2f", pattern, share, want.never)
		}
	}
	honest, wrong, confirmed, cleared := 0, 0, map[string]bool{}, 0
	for _, row := range w.truths {
		if row.pattern == "honest" && row.at < until-90*vaglio.Day {
			honest++
			if row.labelled {
				wrong++
			}
		}
	}
	if share := float64(wrong) / float64(honest); math.Abs(share-0.003) > 0.002 { // of 7,000: three standard errors
		t.Errorf("%.4f of honest requests have a fraud label, want 0.003", share)
	}
	for _, e := range w.events {
		switch request := e.Entities.Get("request"); {
		case e.Kind == vaglio.KindFraudConfirmed && e.OccurredAt < until-60*vaglio.Day:
			confirmed[request] = true
		case e.Kind == vaglio.KindFraudCleared && confirmed[request]:
			cleared++
		}
	}
	if share := float64(cleared) / float64(len(confirmed)); math.Abs(share-0.03) > 0.012 {
		t.Errorf("%.3f of fraud labels are taken back, want 0.03", share)
	}
}

func TestRingsAreAbsentInTheFirstHalfYear(t *testing.T) {
	w := crowdedWorld(t)
	first := until
	for _, row := range w.truths {
		if row.pattern == "device_ring" {
			first = min(first, row.at)
		}
	}
	begin := until - vaglio.Instant(w.config.Days)*vaglio.Day
	if first < begin+182*vaglio.Day || first == until {
		t.Errorf("the first request of a ring comes at %v, the history begins at %v", first, begin)
	}
}

func TestCausesComeBeforeEffects(t *testing.T) {
	w := simulated(t, small())
	type money struct{ captured, refunded int64 }
	payments, requests := map[string]*money{}, map[string]vaglio.Instant{}
	last := map[string]vaglio.Instant{}
	dips := map[string]bool{}
	for i := range w.events {
		e := &w.events[i]
		customer, payment, request := e.Entities.Get("customer"), e.Entities.Get("payment"), e.Entities.Get("request")
		if e.OccurredAt < last[customer] {
			t.Fatalf("%s of %s comes after a later event in the file", e.ID, customer)
		}
		if _, known := last[customer]; !known && e.Kind != "account_opened" {
			t.Errorf("the life of %s begins with %s", customer, e.Kind)
		}
		last[customer] = e.OccurredAt
		if e.OccurredAt >= until || e.ObservedAt >= until || e.ObservedAt < e.OccurredAt {
			t.Errorf("%s occurred at %v and was observed at %v", e.ID, e.OccurredAt, e.ObservedAt)
		}
		if e.Kind == vaglio.KindPayment {
			payments[payment] = &money{captured: e.Amount}
			continue
		}
		if payment != "" && payments[payment] == nil && e.Kind != "payment_failed" {
			t.Errorf("%s %s comes before its payment", e.Kind, e.ID)
			continue
		}
		if request != "" && requests[request] == 0 {
			t.Errorf("%s %s comes before its request", e.Kind, e.ID)
		}
		switch e.Kind {
		case vaglio.KindRefundRequested:
			requests[e.ID] = e.OccurredAt
			if e.ObservedAt != e.OccurredAt || e.Amount < 1 {
				t.Errorf("request %s: %+v", e.ID, e)
			}
		case vaglio.KindRefundPaid:
			payments[payment].refunded += e.Amount
			if payments[payment].refunded > payments[payment].captured {
				t.Errorf("%s pays %d back of %d", e.ID, payments[payment].refunded, payments[payment].captured)
			}
		case vaglio.KindChargeback, "payment_returned":
			dips[payment] = payments[payment].refunded > 0
		}
	}
	for _, row := range w.truths {
		if row.pattern != "honest" && row.labelled && row.delayDays <= 0 {
			t.Errorf("the label of %s comes before it", row.id)
		}
	}
	if !slices.Contains(slices.Collect(func(yield func(bool) bool) {
		for _, dip := range dips {
			if !yield(dip) {
				return
			}
		}
	}), true) {
		t.Error("nobody dipped twice: no chargeback or return of a refunded payment")
	}
}

// Nothing in a request, or in what comes before it, may say more than a real shop would know.
func TestNoEventTellsTheTruth(t *testing.T) {
	w := crowdedWorld(t)
	fraud := map[string]bool{}
	for _, row := range w.truths {
		fraud[row.id] = row.pattern != "honest"
	}
	shapes := map[bool]map[string]bool{true: {}, false: {}}
	values := map[bool]map[string]bool{true: {}, false: {}}
	for i := range w.events {
		e := &w.events[i]
		if !slices.IsSortedFunc(e.Entities, byName) || !slices.IsSortedFunc(e.Attributes, byName) {
			t.Fatalf("the fields of %s are not in order", e.ID)
		}
		if e.IsLabel() {
			continue
		}
		for p := simulate.SerialRefunder; p <= simulate.Insider; p++ {
			for _, f := range slices.Concat(e.Entities, e.Attributes, vaglio.Fields{{Value: e.ID}, {Value: e.Kind}}) {
				if strings.Contains(f.Value, p.String()) {
					t.Fatalf("%s names a pattern: %+v", e.ID, f)
				}
			}
		}
		if e.Kind != vaglio.KindRefundRequested {
			continue
		}
		truth, known := fraud[e.ID]
		if !known {
			t.Fatalf("the ground truth lacks %s", e.ID)
		}
		shape := ""
		for _, f := range e.Entities {
			prefix, _, _ := strings.Cut(f.Value, "sim_")
			if f.Name == "ip" {
				prefix = "ip"
			}
			shapes[truth][fmt.Sprint(f.Name, " ", prefix, " ", f.Name != "ip" && len(f.Value) != len(prefix)+len("sim_123456_12345678"))] = true
		}
		for _, f := range e.Attributes {
			shape += f.Name + " "
			values[truth][f.Name+"="+f.Value] = true
		}
		shapes[truth][shape] = true
	}
	for _, sets := range []map[bool]map[string]bool{shapes, values} {
		for v := range sets[true] {
			if !sets[false][v] {
				t.Errorf("only fraudulent requests have %q", v)
			}
		}
	}
}

func byName(a, b vaglio.Field) int { return strings.Compare(a.Name, b.Name) }

func TestWrongKnobsAreRefusedTogether(t *testing.T) {
	c := small()
	c.Customers, c.RequestShare, c.Until, c.LookAlikes.NewPhoneRequests, c.Currency = 0, math.NaN(), 0, -1, "EURO"
	err := c.Validate()
	for _, knob := range []string{"/customers", "/request_share", "/until", "/currency", "/look_alikes/new_phone_requests"} {
		if err == nil || !strings.Contains(err.Error(), knob) {
			t.Errorf("%q does not name %s", err, knob)
		}
	}
	if _, err := simulate.Write(t.Context(), c, io.Discard, nil, nil); err == nil {
		t.Error("a wrong config was run")
	}
}

func TestSmallAndShortHistoriesWork(t *testing.T) {
	for _, days := range []int{7, 30, 200} {
		for _, customers := range []int{1, 9, 300} {
			c := small()
			c.Days, c.Customers, c.ForeignShare = days, customers, 0.5
			w := simulated(t, c)
			if len(w.events) < customers {
				t.Errorf("%d customers, %d days: %d events", customers, days, len(w.events))
			}
		}
	}
}

func TestMoneyIsInTheCurrencyOfTheShopAndSomeInOthers(t *testing.T) {
	c := small()
	c.Currency = "GBP"
	count := func() map[string]int {
		counts := map[string]int{}
		for _, e := range simulated(t, c).events {
			counts[e.Currency]++
		}
		delete(counts, "")
		return counts
	}
	if got := count(); len(got) != 1 || got["GBP"] == 0 {
		t.Errorf("a shop in GBP, nobody foreign: events in %v", got)
	}
	c.ForeignShare = 0.3
	if got := count(); len(got) != 3 || got["EUR"] == 0 || got["USD"] == 0 || got["GBP"] < got["EUR"]+got["USD"] {
		t.Errorf("a shop in GBP, 30 %% foreign: events in %v", got)
	}
}

func TestAnErrorOrACancelledContextEndsTheRun(t *testing.T) {
	full := errors.New("disk full")
	if _, err := simulate.Run(t.Context(), small(), func([]vaglio.Event) error { return full }, nil); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := simulate.Write(ctx, small(), io.Discard, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkWrite reports events/s with all processors, encoding included.
func BenchmarkWrite(b *testing.B) {
	c := simulate.DemoConfig()
	c.Customers, c.Until = 2_000, until
	events := 0
	for b.Loop() {
		s, err := simulate.Write(b.Context(), c, io.Discard, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		events += s.Events
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
