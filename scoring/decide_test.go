package scoring_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
)

// risky has three failed logins, four earlier requests and a shared device behind it.
func risky(s *service) {
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"),
		s.happened("failed1", "login_failed", t0-3*vaglio.Hour), s.happened("failed2", "login_failed", t0-2*vaglio.Hour), s.happened("failed3", "login_failed", t0-vaglio.Hour),
		s.happened("neighbour", "login_failed", t0-vaglio.Day, func(e *vaglio.Event) { e.Entities = vaglio.FieldsOf("customer", s.id("n"), "device", s.id("d")) }),
		s.happened("r1", "refund_requested", t0-vaglio.Day), s.happened("r2", "refund_requested", t0-vaglio.Day+1),
		s.happened("r3", "refund_requested", t0-vaglio.Day+2), s.happened("r4", "refund_requested", t0-vaglio.Day+3))
}

// trusted has paid eight times, the last one EUR 10.00 for payment "p".
func trusted(s *service) {
	events := []vaglio.Event{s.money("paid", "payment", t0-80*vaglio.Hour, 1000, "EUR")}
	for _, name := range strings.Fields("a b c d e f g") {
		events = append(events, s.happened(name, "payment", t0-30*vaglio.Day))
	}
	s.imports(events...)
}

func TestADecisionSaysWhatItIsAndWhatItRestsOn(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, answer := s.decides(s.request("r"))
	expect(t, "request", d.RequestID, s.id("r"))
	expect(t, "verdict", d.Verdict, vaglio.Approve)
	expect(t, "the answer's verdict", answer.Verdict, vaglio.Approve)
	expect(t, "approved", d.ApprovedAmount, 1000)
	expect(t, "refundable", *d.RefundableAmount, 1000)
	expect(t, "valid until", d.ValidUntil, t0+vaglio.Day)
	expect(t, "review due", d.ReviewDueAt, 0)
	expect(t, "model", *d.Model, bundle.Identity())
	expect(t, "policy", d.PolicyVersion, policy.Default().Version())
	expect(t, "features as of", d.FeaturesAsOf, t0)
	expect(t, "decided at", d.DecidedAt, t0)
	expect(t, "degraded", d.Degraded, false)
	expect(t, "risk level", d.RiskLevel, vaglio.RiskLow)
	expect(t, "dry run", d.DryRun, false)
	expect(t, "expected loss", *d.ExpectedLoss, vaglio.Money{Amount: int64(math.Round(*d.FraudProbability * 1000)), Currency: "EUR"})
	if !strings.HasPrefix(d.ID, "dec_") || d.ID != strings.ToLower(d.ID) {
		t.Errorf("id %q", d.ID)
	}
	x, values := s.explained(d.ID)
	if p := bundle.Probability(*x.LogOdds); p != *d.FraudProbability || bundle.RiskScore(p) != *d.RiskScore {
		t.Errorf("probability %v and risk score %v for log-odds %v", *d.FraudProbability, *d.RiskScore, *x.LogOdds)
	}
	for name, want := range map[string]float64{"customer_requests_7d": 0, "customer_requested_sum_7d": 0, "customer_login_failed_24h": 0,
		"customer_payments_90d": 8, "device_customers_30d": 1, "payment_age": 80, "claim": 1} {
		expect(t, name, values[name], want)
	}
}

func TestReasonsAddUpToTheModelsLogOdds(t *testing.T) {
	s := newService(t)
	risky(s)
	d, _ := s.decides(s.request("r", func(r *vaglio.Request) { r.Reason = "unauthorised" }))
	x, _ := s.explained(s.id("r"))
	total, byCode := *x.Base, map[string]float64{}
	for i, f := range x.Features {
		total += f.Contribution
		byCode[bundle.Catalogue().Features()[i].Reason] += f.Contribution
	}
	if off := math.Abs(total - *x.LogOdds); off > 1e-9 || off != *x.AdditivityError {
		t.Errorf("base and contributions are %v off the log-odds, told is %v", off, *x.AdditivityError)
	}
	if len(d.Reasons) < 3 {
		t.Fatalf("%d reasons: %s", len(d.Reasons), indented(d))
	}
	for i, r := range d.Reasons {
		if r.Contribution != byCode[r.Code] || (r.Contribution > 0) != (r.Direction == "raises") || math.Abs(r.Contribution) < 0.1 {
			t.Errorf("%s %s by %v, its features contribute %v", r.Code, r.Direction, r.Contribution, byCode[r.Code])
		}
		if i > 0 && math.Abs(r.Contribution) > math.Abs(d.Reasons[i-1].Contribution) {
			t.Errorf("%s is stronger than the reason before it", r.Code)
		}
		delete(byCode, r.Code)
	}
	for code, left := range byCode {
		if math.Abs(left) >= 0.1 {
			t.Errorf("%s contributes %v and is no reason", code, left)
		}
	}
	velocity := d.Reasons[slices.IndexFunc(d.Reasons, func(r vaglio.Reason) bool { return r.Code == "VELOCITY" })]
	i := slices.IndexFunc(velocity.Features, func(f vaglio.ReasonFeature) bool { return f.Name == "customer_requests_7d" })
	if f := velocity.Features[i]; f.Value != 4.0 || f.Usual != 2.0 {
		t.Errorf("%v beside the usual %v, want 4 beside the training's median 2", f.Value, f.Usual)
	}
}

func TestEvidenceIsWhatTheFeaturesOfAReasonCounted(t *testing.T) {
	s := newService(t)
	risky(s)
	d, _ := s.decides(s.request("r", func(r *vaglio.Request) { r.Reason = "unauthorised" }))
	want := map[string][]string{"VELOCITY": {"r4", "r3", "r2", "r1"}, "ACCOUNT": {"failed3", "failed2", "failed1"}, "QUICK": {"paid"}, "CLAIM": nil,
		"TRUST": {"paid"}, "SHARED": {"failed3", "paid", "failed2", "failed1", "neighbour"}} // newest first; at one moment by id
	for _, r := range d.Reasons {
		var ids []string
		for _, name := range want[r.Code] {
			ids = append(ids, s.id(name))
		}
		slices.Sort(ids)
		slices.Sort(r.Evidence)
		if !slices.Equal(r.Evidence, ids) {
			t.Errorf("%s: evidence %v, want %v", r.Code, r.Evidence, ids)
		}
		stored, err := store.Events(t.Context(), r.Evidence)
		if err != nil || len(stored) != len(r.Evidence) {
			t.Errorf("%s: %d of %d events of its evidence are in history, %v", r.Code, len(stored), len(r.Evidence), err)
		}
	}
}

func TestCustomersReadTwoRaisingReasonsAndNeverAnInternalOne(t *testing.T) {
	s := newService(t, plain)
	risky(s)
	d, _ := s.decides(s.request("r", func(r *vaglio.Request) { r.Reason = "unauthorised" }))
	if d.Verdict != vaglio.Deny {
		t.Fatalf("not the case in question: %s", indented(d))
	}
	told := 0
	for _, r := range d.Reasons {
		if r.CustomerText == "" {
			continue
		}
		told++
		if r.Direction != "raises" {
			t.Errorf("the customer is told of %s, which %s the risk", r.Code, r.Direction)
		}
		if own := map[string]string{"VELOCITY": "Many requests.", "ACCOUNT": "We must know it is you.", "QUICK": "Very soon.",
			"CLAIM": "The claim needs checking.", "SHARED": "Not approved.", "TRUST": "Not approved."}; r.CustomerText != own[r.Code] {
			t.Errorf("%s: the customer is told %q, want %q", r.Code, r.CustomerText, own[r.Code])
		}
	}
	expect(t, "reasons told", told, 2)

	neighbours := make([]vaglio.Event, 3)
	for i := range neighbours {
		neighbours[i] = s.happened("n"+string(rune('1'+i)), "payment", t0-vaglio.Hour, func(e *vaglio.Event) {
			e.Entities = vaglio.FieldsOf("customer", e.ID, "device", s.id("shared"))
		})
	}
	s.imports(neighbours...)
	d, answer := s.decides(s.request("shared", func(r *vaglio.Request) {
		r.Entities = vaglio.FieldsOf("customer", s.id("new"), "device", s.id("shared"))
	}))
	if !strings.Contains(codes(d.Reasons), "SHARED") || d.Verdict == vaglio.Approve {
		t.Fatalf("not the case in question: %s", indented(d))
	}
	if bytes.Contains(answer.Body, []byte("SECRET")) || !bytes.Contains(answer.Body, []byte(`"A little more time."`)) {
		t.Errorf("an internal reason reads in public: %s", answer.Body)
	}

	lenient := newService(t, withPolicy("thresholds: {approve_below: 1, deny_from: 1}\nrequire_payment: false"))
	d, answer = lenient.decides(s.request("approved", func(r *vaglio.Request) { r.Reason = "unauthorised" }))
	if d.Verdict != vaglio.Approve || len(d.Reasons) == 0 || bytes.Contains(answer.Body, []byte("customer_text")) {
		t.Errorf("an approval gives the customer reasons: %s", answer.Body)
	}
}

func TestTextsComeInTheLanguageOfTheRequestOrElseOfTheCaller(t *testing.T) {
	s := newService(t)
	risky(s)
	texts := func(name, own, callers, reviewer, customer string) {
		t.Helper()
		r := s.request(name, func(r *vaglio.Request) { r.Language, r.Reason = own, "unauthorised" })
		d, answer := s.decidesWith(r, scoring.DecideOptions{DryRun: true, Language: callers})
		if !bytes.Contains(answer.Body, []byte(reviewer)) || !bytes.Contains(answer.Body, []byte(customer)) {
			t.Errorf("no %q and %q in %s", reviewer, customer, indented(d))
		}
	}
	texts("plain", "", "", "Requests in 7 days: 4", "We must know it is you.")
	texts("own", "it", "en", "Richieste in 7 giorni: 4", "Dobbiamo sapere che è lei.")
	texts("callers", "", "it", "Richieste in 7 giorni: 4", "Dobbiamo sapere che è lei.")
	texts("unknown", "", "de", "Requests in 7 days: 4", "We must know it is you.")
}

func TestTheSameRequestGetsTheSameBytesForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	open := func() (*service, func()) {
		l, err := ledger.Open(t.Context(), path, ledger.Options{Now: now.time})
		if err != nil {
			t.Fatal(err)
		}
		return newService(t, func(o *scoring.Options) { o.Ledger = l }), func() { l.Close() }
	}
	s, closeLedger := open()
	trusted(s)
	first, answer := s.decides(s.request("r"))
	s.clock.set(t0 + vaglio.Hour)
	s.imports(s.happened("since", "login_failed", t0+vaglio.Minute))
	again := func(s *service) {
		t.Helper()
		if _, repeated := s.decides(s.request("r")); !repeated.Repeated || !bytes.Equal(repeated.Body, answer.Body) {
			t.Errorf("the same request got\n%s, first it was\n%s", repeated.Body, answer.Body)
		}
		for _, id := range []string{first.ID, s.id("r")} {
			if body, err := s.Decision(t.Context(), id); err != nil || !bytes.Equal(body, answer.Body) {
				t.Errorf("decision %s: %s, %v", id, body, err)
			}
		}
	}
	again(s)
	closeLedger()
	s, closeLedger = open() // as after a restart
	defer closeLedger()
	again(s)
	other := s.request("r")
	other.Amount++
	_, err := s.Decide(t.Context(), &other, scoring.DecideOptions{})
	if !errors.Is(err, ledger.ErrConflict) || !strings.Contains(err.Error(), "amount") {
		t.Errorf("other content under a stored id: %v", err)
	}
	if _, err := s.Decision(t.Context(), "unknown"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a decision that is not there: %v", err)
	}
}

func TestManyAtOnceGetOneDecision(t *testing.T) {
	s := newService(t)
	bodies := make(chan []byte)
	for range 20 {
		go func() {
			r := s.request("r")
			answer, err := s.Decide(context.WithoutCancel(t.Context()), &r, scoring.DecideOptions{})
			if err != nil {
				t.Error(err)
			}
			bodies <- answer.Body
		}()
	}
	first := <-bodies
	for range 19 {
		if body := <-bodies; !bytes.Equal(body, first) {
			t.Errorf("two decisions for one request:\n%s\n%s", body, first)
		}
	}
}

func TestADryRunRecordsNothing(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
	if !d.DryRun || d.Verdict != vaglio.Approve {
		t.Errorf("dry run: %s", indented(d))
	}
	if _, err := s.Decision(t.Context(), s.id("r")); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a dry run left a decision: %v", err)
	}
	if n, err := s.ledger.Backlog(t.Context()); n != 0 || err != nil {
		t.Errorf("a dry run left %d events, %v", n, err)
	}
	d, _ = s.decides(s.request("r"))
	expect(t, "after the dry run, refundable", *d.RefundableAmount, 1000)
}

func TestAsOfSeesOnlyWhatWasKnownThen(t *testing.T) {
	s := newService(t)
	trusted(s)
	then := func(at vaglio.Instant) vaglio.Decision {
		d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true, AsOf: at})
		expect(t, "as of", d.FeaturesAsOf, at)
		return d
	}
	before := then(t0 - vaglio.Hour)
	late := s.happened("late", "login_failed", t0-2*vaglio.Hour)
	late.ObservedAt = t0 - vaglio.Hour + 1
	s.imports(late, s.happened("after", "login_failed", t0-vaglio.Minute))
	if after := then(t0 - vaglio.Hour); *after.FraudProbability != *before.FraudProbability || codes(after.Reasons) != codes(before.Reasons) {
		t.Errorf("what was observed later changed\n%s into\n%s", indented(before), indented(after))
	}
	if known := then(t0 - vaglio.Hour + 1); *known.FraudProbability <= *before.FraudProbability {
		t.Errorf("the failed login, once observed, left the probability at %v", *known.FraudProbability)
	}
}

func TestARequestCountsForTheNextAtOnceAndOnlyOnce(t *testing.T) {
	s := newService(t)
	trusted(s)
	requests := func(name string, want float64) {
		t.Helper()
		d, _ := s.decides(s.request(name))
		_, values := s.explained(d.ID)
		expect(t, name+" sees requests", values["customer_requests_7d"], want)
		expect(t, name+" sees their sum", values["customer_requested_sum_7d"], 1000*want)
	}
	requests("first", 0)
	requests("of the same millisecond", 0)
	s.clock.set(t0 + 1)
	requests("next", 2)
	s.delivers()
	s.clock.set(t0 + 2)
	requests("after the delivery", 3)
	s.clock.set(t0 + 3)
	requests("one waiting, the others delivered", 4)
}

func TestARequestIsCompletedFromItsPayment(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, _ := s.decides(s.request("r", func(r *vaglio.Request) { r.Entities = vaglio.FieldsOf("customer", s.id("c"), "payment", s.id("p")) }))
	x, values := s.explained(d.ID)
	expect(t, "customers of the payment's device", values["device_customers_30d"], 1)
	device := slices.IndexFunc(x.Timelines, func(l scoring.TimelineInput) bool { return l.Entity == "device:"+s.id("d") })
	if device < 0 || x.Timelines[device].Events != 8 {
		t.Errorf("timelines %+v: want the device's 8 events among them", x.Timelines)
	}
}

func TestRequestedAtIsComparedWithTheClock(t *testing.T) {
	s := newService(t)
	at := func(name string, off vaglio.Instant, warning bool) {
		t.Helper()
		d, _ := s.decides(s.request(name, func(r *vaglio.Request) { r.RequestedAt = t0 + off }))
		if slices.Contains(d.Warnings, "requested_at_differs") != warning {
			t.Errorf("%s: warnings %v", name, d.Warnings)
		}
		expect(t, "features as of", d.FeaturesAsOf, t0)
	}
	at("now", 0, false)
	at("just late", -5*vaglio.Minute, false)
	at("late", -6*vaglio.Minute, true)
	at("just early", 5*vaglio.Minute, false)
	r := s.request("early", func(r *vaglio.Request) { r.RequestedAt = t0 + 6*vaglio.Minute })
	var invalid vaglio.Invalid
	if _, err := s.Decide(t.Context(), &r, scoring.DecideOptions{}); !errors.As(err, &invalid) || invalid[0].Pointer != "/requested_at" {
		t.Errorf("6 minutes ahead of the clock: %v", err)
	}
}

func TestAModelOfAnotherBaseCurrencyIsRefused(t *testing.T) {
	contents, err := smallModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contents.Manifest.BaseCurrency = "USD"
	dir := filepath.Join(t.TempDir(), "dollars")
	if err := models.Write(dir, contents); err != nil {
		t.Fatal(err)
	}
	dollars, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t)
	if err := s.UseModel(dollars); err == nil || !strings.Contains(err.Error(), "USD") || !strings.Contains(err.Error(), "EUR") {
		t.Errorf("a model of dollars on a history of euros: %v", err)
	}
	expect(t, "the model in use", s.Model(), bundle)
}

func TestTheVectorIsThatOfTheCatalogue(t *testing.T) {
	s := newService(t)
	risky(s)
	r := s.request("r")
	d, _ := s.decides(r)
	x, _ := s.explained(d.ID)
	fact, err := store.Prepare(r.Event(t0), t0)
	if err != nil {
		t.Fatal(err)
	}
	c := bundle.Catalogue()
	timelines, err := store.Timelines(t.Context(), c.Timelines(&fact), t0)
	if err != nil {
		t.Fatal(err)
	}
	states := func(e vaglio.Entity) *features.State {
		state := c.NewState(e.Kind)
		for i := range timelines[e] {
			state.Add(&timelines[e][i])
		}
		return state
	}
	want := make([]float64, len(c.Features()))
	c.Vector(want, &fact, states)
	for i, f := range x.Features {
		if math.Float64bits(float64(f.Value)) != math.Float64bits(want[i]) {
			t.Errorf("%s: %v, want %v", f.Name, f.Value, want[i])
		}
	}
}

func TestARequestDoesNotCountForItself(t *testing.T) {
	s := newService(t)
	trusted(s)
	s.imports(s.happened("announced", "refund_requested", t0-vaglio.Second, func(e *vaglio.Event) { e.Amount, e.Currency = 1000, "EUR" }))
	d, _ := s.decides(s.request("announced"))
	_, values := s.explained(d.ID)
	expect(t, "earlier requests", values["customer_requests_7d"], 0)
}

func TestARepeatedAnswerHasItsVerdict(t *testing.T) {
	s := newService(t)
	trusted(s)
	_, first := s.decides(s.request("r"))
	_, again := s.decides(s.request("r"))
	expect(t, "verdict", again.Verdict, first.Verdict)
	expect(t, "degraded", again.Degraded, first.Degraded)
}

func TestAsOfMeansNothingOutsideADryRun(t *testing.T) {
	s := newService(t)
	r := s.request("r", func(r *vaglio.Request) { r.RequestedAt = t0 + vaglio.Hour })
	if answer, err := s.Decide(t.Context(), &r, scoring.DecideOptions{AsOf: t0 - vaglio.Day}); err == nil {
		t.Errorf("an hour ahead of the clock: %s", answer.Body)
	}
}
