package training_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/training"
)

// after is an event about request 1 or its payment, some days after the request.
func after(days int, kind string, entities []string, attributes ...string) vaglio.Event {
	e := event(fmt.Sprint(kind, "@", days), kind, t0+vaglio.Instant(days)*vaglio.Day, entities...)
	e.Attributes = vaglio.FieldsOf(attributes...)
	return e
}

var (
	ofRequest = []string{"request", "r1", "payment", "p1"}
	ofPayment = []string{"payment", "p1"}
)

// outcomeCase is what must be known 50 days after a request of what happened to it.
type outcomeCase struct {
	line   int
	reason string
	events []vaglio.Event
	want   training.Label
}

// checkOutcomes gives each case a request and a payment of its own, in one history.
func checkOutcomes(t *testing.T, cases []outcomeCase) {
	t.Helper()
	var all []vaglio.Event
	for i, c := range cases {
		own := strings.NewReplacer("r1", fmt.Sprint("r", i*10+1), "r2", fmt.Sprint("r", i*10+2), "p1", fmt.Sprint("p", i*10+1), "p2", fmt.Sprint("p", i*10+2))
		request := refund(i*10+1, t0, "reason", c.reason)
		request.Entities = request.Entities.With("payment", own.Replace("p1"))
		all = append(all, request)
		for _, e := range c.events {
			e.ID = fmt.Sprint(e.ID, "#", i)
			e.Entities = slices.Clone(e.Entities)
			for j := range e.Entities {
				e.Entities[j].Value = own.Replace(e.Entities[j].Value)
			}
			all = append(all, e)
		}
	}
	labels, err := training.ReadLabels(t.Context(), newHistory(t, all...), t0, t0+50*vaglio.Day)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if got := labels.Of(&training.Row{ID: fmt.Sprint("r", i*10+1), At: t0, Traits: &training.Traits{Reason: c.reason}}); got != c.want {
			t.Errorf("line %d: got %+v, want %+v", c.line, got, c.want)
		}
	}
}

// The cases are the rows of the table of what an outcome means.
func TestOutcomesMeanWhatTheTableSays(t *testing.T) {
	var cases []outcomeCase
	reason := "unauthorised"
	is := func(want training.Label, events ...vaglio.Event) {
		_, _, line, _ := runtime.Caller(1)
		cases = append(cases, outcomeCase{line, reason, events, want})
	}
	fraud := func(source training.LabelSource, weight float64, fraudType string) training.Label {
		return training.Label{Verdict: training.Fraud, Source: source, Weight: weight, FraudType: fraudType}
	}
	clean := func(source training.LabelSource, weight float64) training.Label {
		return training.Label{Verdict: training.Clean, Source: source, Weight: weight}
	}
	silent, unlabelled := training.Label{}, training.Label{Verdict: training.Unlabelled}
	confirmed := func(days int, attributes ...string) vaglio.Event {
		return after(days, vaglio.KindFraudConfirmed, ofRequest, attributes...)
	}
	cleared := func(days int, attributes ...string) vaglio.Event {
		return after(days, vaglio.KindFraudCleared, ofRequest, attributes...)
	}
	paid, denied := after(1, vaglio.KindRefundPaid, ofRequest), after(1, vaglio.KindRefundDenied, ofRequest)

	is(silent) // nothing was said: clean, once the request is mature
	is(silent, paid)
	is(unlabelled, denied) // whether it was honest never shows
	is(silent, denied, after(3, vaglio.KindRefundPaid, ofRequest))

	is(fraud(training.FromUnnamed, 1, ""), confirmed(2))
	is(fraud(training.FromInvestigation, 1, "ring"), confirmed(2, "source", vaglio.SourceInvestigation, "fraud_type", "ring"))
	is(fraud(training.FromRecall, 1, "mule"), confirmed(2, "source", vaglio.SourceRecall, "fraud_type", "mule"))
	is(fraud(training.FromOther, 1, ""), confirmed(2, "source", "something of yours"))
	is(fraud(training.FromVictimReport, 1, "third_party"), confirmed(2, "source", vaglio.SourceVictimReport))
	is(fraud(training.FromReview, 0.5, ""), confirmed(2, "source", vaglio.SourceReview))
	is(fraud(training.FromReview, 0.5, ""), confirmed(2, "source", "reviewer")) // the simulator's words
	is(fraud(training.FromPaymentReturned, 1, ""), confirmed(2, "source", "return"))
	is(clean(training.FromReview, 0.8), cleared(2, "source", vaglio.SourceReview))
	is(clean(training.FromAudit, 1), cleared(2, "source", vaglio.SourceAudit))
	is(clean(training.FromInvestigation, 1), confirmed(2), cleared(3, "source", vaglio.SourceInvestigation)) // taken back
	is(fraud(training.FromUnnamed, 1, ""), cleared(2), confirmed(3))
	is(fraud(training.FromReview, 0.5, ""), confirmed(2, "source", vaglio.SourceReview), denied)

	is(fraud(training.FromUnnamed, 0.25, ""), confirmed(2, "weight", "0.25"))
	is(fraud(training.FromReview, 0.5, ""), confirmed(2, "source", vaglio.SourceReview, "weight", "heavy"))
	is(fraud(training.FromUnnamed, 1, ""), confirmed(2, "weight", "1.5"))

	is(fraud(training.FromChargeback, 1, "first_party"), paid, after(2, vaglio.KindChargeback, ofRequest))
	is(fraud(training.FromChargeback, 1, "first_party"), paid, after(2, vaglio.KindChargeback, ofPayment))
	is(fraud(training.FromPaymentReturned, 1, "first_party"), paid, after(2, vaglio.KindPaymentReturned, ofPayment))
	is(silent, after(0, vaglio.KindChargeback, ofPayment), paid) // before the refund it says nothing of it
	is(silent, after(2, vaglio.KindChargeback, ofPayment))       // neither paid nor denied
	is(silent, paid, after(2, vaglio.KindChargeback, []string{"payment", "p2"}))
	is(silent, paid, after(2, vaglio.KindChargeback, []string{"payment", "p1", "request", "r2"}))
	is(fraud(training.FromRecall, 1, "mule"), after(2, vaglio.KindRecallRequested, ofRequest, "fraud_type", "mule"))
	is(silent, after(2, vaglio.KindRecallRequested, ofRequest))

	is(unlabelled, denied, after(2, vaglio.KindChargeback, ofRequest))
	is(unlabelled, denied, after(2, vaglio.KindPaymentReturned, ofPayment))
	is(clean(training.FromDispute, 1), denied, after(2, vaglio.KindChargeback, ofPayment), after(3, vaglio.KindDisputeLost, ofPayment))
	is(fraud(training.FromDispute, 1, "first_party"), denied, after(2, vaglio.KindChargeback, ofRequest), after(3, vaglio.KindDisputeWon, ofRequest))
	is(fraud(training.FromUnnamed, 1, ""), confirmed(0), denied, after(2, vaglio.KindChargeback, ofRequest)) // what is known stays
	is(clean(training.FromDispute, 1), confirmed(0), denied, after(2, vaglio.KindChargeback, ofRequest), after(3, vaglio.KindDisputeLost, ofRequest))
	is(silent, paid, after(3, vaglio.KindDisputeLost, ofPayment))

	late := confirmed(2)
	late.ObservedAt = t0 + 51*vaglio.Day
	is(silent, late)
	late.ObservedAt = t0 + 50*vaglio.Day
	is(fraud(training.FromUnnamed, 1, ""), late)
	is(fraud(training.FromUnnamed, 1, ""), confirmed(2), func() vaglio.Event { e := cleared(3); e.ObservedAt = t0 + 51*vaglio.Day; return e }())

	reason = "not_received" // a dispute that the merchant won is fraud only if the payment was disowned
	is(unlabelled, denied, after(2, vaglio.KindChargeback, ofRequest), after(3, vaglio.KindDisputeWon, ofRequest))
	is(fraud(training.FromChargeback, 1, "first_party"), paid, after(2, vaglio.KindChargeback, ofRequest), after(3, vaglio.KindDisputeWon, ofRequest))
	checkOutcomes(t, cases)
}

// A payment of 100.00: what was refunded, and what the bank took back later.
func TestATakenBackPaymentIsFraudOnlyWhereMoneyCameBackTwice(t *testing.T) {
	var cases []outcomeCase
	of := func(kind string, days int, amountMinor int64, entities []string) vaglio.Event {
		e := after(days, kind, entities)
		if e.ID += fmt.Sprint("/", amountMinor); amountMinor > 0 {
			e.Amount, e.Currency = amountMinor, "EUR"
		}
		return e
	}
	payment := of(vaglio.KindPayment, -40, 10_000, ofPayment)
	paid := func(amountMinor int64) vaglio.Event { return of(vaglio.KindRefundPaid, 1, amountMinor, ofRequest) }
	taken := func(amountMinor int64) vaglio.Event { return of(vaglio.KindChargeback, 20, amountMinor, ofPayment) }
	is := func(want training.Verdict, events ...vaglio.Event) {
		t.Helper()
		_, _, line, _ := runtime.Caller(1)
		label := training.Label{Verdict: want}
		if want == training.Fraud {
			label = training.Label{Verdict: want, Source: training.FromChargeback, Weight: 1, FraudType: "first_party"}
		}
		cases = append(cases, outcomeCase{line, "other", events, label})
	}
	is(training.Fraud, payment, paid(10_000), taken(10_000))
	is(training.Fraud, payment, paid(3000), taken(10_000))
	is(training.Fraud, payment, paid(3000), taken(7001))
	is(training.Silent, payment, paid(3000), taken(7000)) // the rest: no evidence about the refund
	is(training.Silent, payment, paid(3000), of(vaglio.KindChargeback, 20, 7000, ofRequest))
	is(training.Fraud, payment, paid(3000), of(vaglio.KindRefundPaid, 2, 3000, []string{"payment", "p1", "request", "r2"}), taken(7000))
	is(training.Silent, payment, paid(10_000), of(vaglio.KindRefundReversed, 3, 10_000, ofRequest), taken(10_000)) // it had come back
	is(training.Fraud, payment, paid(3000), taken(0))                                                              // of unknown amount: of the whole
	is(training.Fraud, paid(3000), taken(7000))                                                                    // of an unknown payment
	foreign := taken(7000)
	foreign.Currency = "USD"
	is(training.Fraud, payment, paid(3000), foreign)
	checkOutcomes(t, cases)
}

func TestSilenceAfterADenialByADecisionSaysNothing(t *testing.T) {
	h := traffic(t, func(i int, _ bool, d *vaglio.Taken) {
		if i < 8 {
			d.Verdict = vaglio.Deny
		}
	})
	imports(t, h, after(1, vaglio.KindRefundPaid, ofRequest)) // somebody else decided otherwise
	labels, err := training.ReadLabels(t.Context(), h, t0, vaglio.InstantOf(today()))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]training.Verdict{1: training.Silent, 3: training.Unlabelled, 4: training.Fraud, 9: training.Silent} {
		if got := labels.Of(&training.Row{ID: fmt.Sprint("r", i), Traits: &training.Traits{}}).Verdict; got != want {
			t.Errorf("request %d: %v, want %v", i, got, want)
		}
	}
}

func TestWhatIsKnownLateOrWeighsNothingKnownIsCounted(t *testing.T) {
	h := newHistory(t, label(1, vaglio.KindFraudConfirmed, t0+vaglio.Day), label(2, vaglio.KindFraudConfirmed, t0+60*vaglio.Day),
		after(3, vaglio.KindFraudCleared, ofRequest, "weight", "-1"))
	labels, err := training.ReadLabels(t.Context(), h, t0, t0+50*vaglio.Day)
	if err != nil || labels.Late != 1 || labels.BadWeights != 1 {
		t.Errorf("late %d, bad weights %d, %v", labels.Late, labels.BadWeights, err)
	}
}

func TestAnOutcomeThatIsTakenBackWasNeverSaid(t *testing.T) {
	said := func(i int) vaglio.Event { return label(i, vaglio.KindFraudConfirmed, t0+vaglio.Day) }
	takenBack := after(1, vaglio.KindFraudCleared, ofRequest, vaglio.AttributeClears, said(1).ID)
	labels, err := training.ReadLabels(t.Context(), newHistory(t, said(1), said(2), takenBack), t0, t0+50*vaglio.Day)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]training.Verdict{1: training.Silent, 2: training.Fraud} {
		if got := labels.Of(&training.Row{ID: fmt.Sprint("r", i), Traits: &training.Traits{}}).Verdict; got != want {
			t.Errorf("request %d: %v, want %v", i, got, want)
		}
	}
}

func TestRailsOnWhichPaymentsComeBackMatureLater(t *testing.T) {
	var events []vaglio.Event
	rails := []string{"card", "direct_debit", "sct_inst", ""}
	for i := range 100 {
		events = append(events, refund(i, t0+vaglio.Instant(i)*vaglio.Day, "rail", rails[i%4]))
	}
	events = append(events, label(0, vaglio.KindFraudConfirmed, t0+vaglio.Day))
	o := training.DatasetOptions{History: newHistory(t, events...), Period: everything, LabelsUntil: t0 + 100*vaglio.Day,
		Progress: func(training.Progress) {}, Catalogue: parse(t, smallYAML)}
	settled := func(want int) {
		t.Helper()
		size, err := training.WriteDataset(t.Context(), o, training.CSV, discard{})
		if got := size.Frauds + size.Clean; err != nil || got != want || size.Rows() != 100 {
			t.Errorf("%d of %d are settled, want %d; %v", got, size.Rows(), want, err)
		}
	}
	settled(3 + 3 + 18 + 17)     // r0, r4, r8; r1, r5, r9; r2 to r70; r3 to r67
	o.Maturity = 30 * vaglio.Day // one age for all
	settled(18 + 18 + 18 + 17)
	o.RailMaturity = map[string]vaglio.Instant{"sct_inst": 80 * vaglio.Day}
	settled(18 + 18 + 5 + 17)
	o.Maturity = 95 * vaglio.Day
	settled(2 + 2 + 1 + 1)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
