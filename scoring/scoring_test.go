package scoring_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/scoring/policy"
	"vaglio/training/lightgbm"
)

// What the tests of this package share: one ClickHouse, one history in it, and one model.
var (
	dsn      string
	store    *history.Store
	modelDir string
	bundle   *models.Bundle
	now      clock
)

func TestMain(m *testing.M) {
	embedded.Main()
	lightgbm.Main()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "scoring")
	must(err)
	defer os.RemoveAll(dir)
	server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(dir, "clickhouse")})
	must(err)
	defer server.Close()
	dsn = server.DSN()
	now.set(t0)
	store, err = history.Open(ctx, dsn, history.Options{Now: now.time})
	must(err)
	defer store.Close()
	contents, err := smallModel(ctx)
	must(err)
	modelDir = filepath.Join(dir, "model")
	must(models.Write(modelDir, contents))
	bundle, err = models.Open(modelDir)
	must(err)
	return m.Run()
}

const t0 = vaglio.Instant(1_790_000_000_000)

// clock stands still until it is moved.
type clock struct{ at atomic.Int64 }

func (c *clock) set(at vaglio.Instant) { c.at.Store(int64(at)) }
func (c *clock) time() time.Time       { return vaglio.Instant(c.at.Load()).Time() }

// catalogueYAML has every form of feature. The internal reason has a customers' text, which no customer may read.
const catalogueYAML = `
name: small
features:
  - {name: customer_requests_7d, entity: customer, events: [refund_requested], aggregate: count, window: 7d, reason: VELOCITY}
  - {name: customer_requested_sum_7d, entity: customer, events: [refund_requested], aggregate: sum, of: amount, window: 7d, reason: VELOCITY}
  - {name: customer_login_failed_24h, entity: customer, events: [login_failed], aggregate: count, window: 24h, reason: ACCOUNT}
  - {name: customer_payments_90d, entity: customer, events: [payment], aggregate: count, window: 90d, reason: TRUST}
  - {name: device_customers_30d, entity: device, events: [login_failed, payment], aggregate: distinct, of: customer, window: 30d, reason: SHARED}
  - {name: payment_age, entity: payment, events: [payment], aggregate: since_first, reason: QUICK}
  - {name: claim, categorical: request.reason, categories: [unauthorised, changed_mind, other], reason: CLAIM}
reasons:
  VELOCITY: {reviewer: {en: 'Requests in 7 days: {customer_requests_7d}', it: 'Richieste in 7 giorni: {customer_requests_7d}'}, customer: {en: 'Many requests.', it: 'Molte richieste.'}}
  ACCOUNT: {reviewer: {en: 'Failed logins: {customer_login_failed_24h}', it: 'Accessi falliti: {customer_login_failed_24h}'}, customer: {en: 'We must know it is you.', it: 'Dobbiamo sapere che è lei.'}}
  TRUST: {reviewer: {en: 'Payments: {customer_payments_90d}', it: 'Pagamenti: {customer_payments_90d}'}}
  SHARED: {internal: true, reviewer: {en: 'Customers on the device: {device_customers_30d}', it: 'Clienti sul dispositivo: {device_customers_30d}'}, customer: {en: 'SECRET', it: 'SEGRETO'}}
  QUICK: {reviewer: {en: 'Age: {payment_age}', it: 'Età: {payment_age}'}, customer: {en: 'Very soon.', it: 'Molto presto.'}}
  CLAIM: {reviewer: {en: 'Claim: {claim}', it: 'Motivo: {claim}'}, customer: {en: 'The claim needs checking.', it: 'Il motivo va verificato.'}}
general:
  pending: {en: 'A little more time.', it: 'Ancora un po'' di tempo.'}
  denied: {en: 'Not approved.', it: 'Non approvata.'}
`

// smallModel is trained on vectors drawn at random, whose fraud rises with requests, failed logins, shared devices, quick
// and unauthorised claims and falls with payments.
func smallModel(ctx context.Context) (models.Contents, error) {
	catalogue, err := features.Parse([]byte(catalogueYAML))
	if err != nil {
		return models.Contents{}, err
	}
	const rows = 4000
	names := catalogue.Names()
	random := rand.New(rand.NewPCG(1, 2))
	x, label := make([]float64, 0, rows*len(names)), make([]float64, 0, rows)
	for range rows {
		requests, failed, payments, shared := float64(random.IntN(6)), float64(random.IntN(4)), float64(random.IntN(8)), float64(random.IntN(4))
		age, claim := random.Float64()*100, float64(random.IntN(4)-1)
		logOdds := -3 + requests + 1.5*failed - 0.7*payments + 0.9*shared - 0.02*age
		if claim == 0 {
			logOdds++
		}
		for _, missable := range []*float64{&shared, &age} {
			if random.IntN(10) == 0 {
				*missable = math.NaN()
			}
		}
		x = append(x, requests, requests*1000, failed, payments, shared, age, claim)
		fraud := 0.0
		if random.Float64() < 1/(1+math.Exp(-logOdds)) {
			fraud = 1
		}
		label = append(label, fraud)
	}
	categorical := make([]bool, len(names))
	categorical[len(names)-1] = true
	golden := x[:16*len(names)]
	result, err := lightgbm.Train(ctx, lightgbm.Job{Params: map[string]string{"learning_rate": "0.2", "num_leaves": "15", "max_depth": "5"}, Rounds: 40,
		Train: lightgbm.Dataset{Names: names, Categorical: categorical, Rows: rows, X: x, Label: label}, Golden: golden}, nil)
	if err != nil {
		return models.Contents{}, err
	}
	model, err := models.ReadModel(result.Model)
	if err != nil {
		return models.Contents{}, err
	}
	raw, fraud := make([]float64, rows), make([]bool, rows)
	for i := range rows {
		fraud[i] = label[i] == 1
		if raw[i], err = model.LogOdds(x[i*len(names) : (i+1)*len(names)]); err != nil {
			return models.Contents{}, err
		}
	}
	c := models.Contents{Model: result.Model, Catalogue: []byte(catalogueYAML), Manifest: models.Manifest{Name: "small", Version: "1",
		BaseCurrency: "EUR", Thresholds: models.Thresholds{ApproveBelow: 0.3, DenyFrom: 0.9},
		Population: []models.FeatureQuantiles{{Name: "customer_requests_7d", Q50: 2}}}}
	if c.Calibration, err = models.FitPlatt(raw, fraud, nil); err != nil {
		return models.Contents{}, err
	}
	for i, answer := range result.GoldenRaw {
		c.Golden = append(c.Golden, models.NewGolden(golden[i*len(names):(i+1)*len(names)], answer, result.GoldenContributions[i]))
	}
	return c, nil
}

// service is an engine with a ledger of its own. Its ids begin with the test's name, so that tests can share the history.
type service struct {
	*scoring.Engine
	t      *testing.T
	ledger *ledger.Ledger
	log    *bytes.Buffer
	clock  clock
}

// newService makes an engine over the shared history, or over another one.
func newService(t *testing.T, vary ...func(*scoring.Options)) *service {
	t.Helper()
	s := &service{t: t, log: &bytes.Buffer{}}
	s.clock.set(t0)
	var err error
	s.ledger, err = ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{Now: s.clock.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ledger.Close() })
	o := scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time, Budget: 30 * time.Second,
		Logger: slog.New(slog.NewTextHandler(s.log, nil))}
	for _, v := range vary {
		v(&o)
	}
	s.Engine = scoring.New(o)
	if err := s.UseModel(bundle); err != nil {
		t.Fatal(err)
	}
	return s
}

// withPolicy is a policy in YAML, without caps.
func withPolicy(text string) func(*scoring.Options) {
	p, err := policy.Parse([]byte(text + "\ncaps: {requests_1h: none, requests_24h: none, approvals_1h: none, approvals_24h: none, approved_amount_24h: none}\n"))
	if err != nil {
		panic(err)
	}
	return func(o *scoring.Options) { o.Policy = p }
}

// plain leaves everything to the model's thresholds.
var plain = withPolicy("name: plain")

// thresholds sets those of the policy.
func thresholds(approveBelow, denyFrom float64) func(*scoring.Options) {
	return withPolicy(fmt.Sprintf("thresholds: {approve_below: %v, deny_from: %v}", approveBelow, denyFrom))
}

// id is an id that no other test uses, nor the same test when it runs again.
func (s *service) id(name string) string {
	run, _ := runs.LoadOrStore(s.t, ulid.Make().String())
	return run.(string) + "/" + name
}

var runs sync.Map // *testing.T → string

// request is about EUR 10.00 of the payment "p" of customer "c".
func (s *service) request(name string, vary ...func(*vaglio.Request)) vaglio.Request {
	r := vaglio.Request{ID: s.id(name), Type: "refund", Amount: 1000, Currency: "EUR", Reason: "changed_mind",
		Entities: vaglio.FieldsOf("customer", s.id("c"), "payment", s.id("p"), "device", s.id("d"))}
	for _, v := range vary {
		v(&r)
	}
	if err := r.Validate(); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// happened is an event of customer "c" and device "d", observed as it occurred unless varied.
func (s *service) happened(name, kind string, at vaglio.Instant, vary ...func(*vaglio.Event)) vaglio.Event {
	e := vaglio.Event{ID: s.id(name), Kind: kind, OccurredAt: at, Entities: vaglio.FieldsOf("customer", s.id("c"), "device", s.id("d"))}
	for _, v := range vary {
		v(&e)
	}
	return e
}

// money is an event about payment "p".
func (s *service) money(name, kind string, at vaglio.Instant, amountMinor int64, currency string, entities ...string) vaglio.Event {
	return s.happened(name, kind, at, func(e *vaglio.Event) {
		e.Amount, e.Currency = amountMinor, currency
		e.Entities = e.Entities.With("payment", s.id("p"))
		for i := 0; i < len(entities); i += 2 {
			e.Entities = e.Entities.With(entities[i], s.id(entities[i+1]))
		}
	})
}

func (s *service) imports(events ...vaglio.Event) {
	s.t.Helper()
	outcomes, err := store.Import(s.t.Context(), events)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, outcome := range outcomes {
		if outcome != vaglio.Stored {
			s.t.Fatalf("event %s: outcome %v", events[i].ID, outcome)
		}
	}
}

// decides answers a request and reads the answer.
func (s *service) decides(r vaglio.Request) (vaglio.Decision, scoring.Answer) {
	s.t.Helper()
	return s.decidesWith(r, scoring.DecideOptions{})
}

func (s *service) decidesWith(r vaglio.Request, o scoring.DecideOptions) (vaglio.Decision, scoring.Answer) {
	s.t.Helper()
	answer, err := s.Decide(s.t.Context(), &r, o)
	if err != nil {
		s.t.Fatalf("request %s: %v", r.ID, err)
	}
	d, err := vaglio.Decode[vaglio.Decision](answer.Body)
	if err != nil {
		s.t.Fatalf("request %s: %v in %s", r.ID, err, answer.Body)
	}
	return d, answer
}

// explained returns a decision's explanation and its features' values by name.
func (s *service) explained(id string) (scoring.Explanation, map[string]float64) {
	s.t.Helper()
	x, err := s.Explanation(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range x.Features {
		values[f.Name] = float64(f.Value)
	}
	return x, values
}

// delivers empties the outbox into history.
func (s *service) delivers() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	deliver := func(ctx context.Context, facts []vaglio.Fact) error {
		defer cancel()
		return store.Deliver(context.WithoutCancel(ctx), facts)
	}
	if err := s.ledger.Relay(ctx, time.Hour, deliver); err != nil {
		s.t.Fatal(err)
	}
	if n, err := s.ledger.Backlog(s.t.Context()); n != 0 || err != nil {
		s.t.Fatalf("%d events still wait, %v", n, err)
	}
}

// expect compares one property of a decision.
func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func codes(reasons []vaglio.Reason) string {
	var out []string
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	return strings.Join(out, " ")
}

func indented(d vaglio.Decision) string {
	b, err := json.Marshal(d)
	return fmt.Sprint(string(b), err)
}
