package scoring_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/scoring"
	"vaglio/training/lightgbm"
)

// changeableYAML has what a requester or the desk can change, and what nobody can.
const changeableYAML = `
name: changeable
features:
  - {name: amount_vs_mean, expr: request.amount / customer_mean, reason: AMOUNT}
  - {name: payout_differs, expr: request.entities.payout_instrument != request.entities.instrument, reason: PAYOUT}
  - {name: weak, expr: request.attributes.authentication != "strong", reason: ACCESS}
  - {name: settled, entity: payment, events: [payment_settled], aggregate: count, reason: PAYMENT}
  - {name: delivered, entity: payment, events: [delivered], aggregate: count, reason: PAYMENT}
  - {name: failed, entity: customer, events: [login_failed], aggregate: count, reason: ACCESS}
  - {name: customer_mean, entity: customer, events: [payment], aggregate: mean, of: amount, reason: AMOUNT}
reasons:
  AMOUNT: {reviewer: {en: '{amount_vs_mean} times the mean'}}
  PAYOUT: {reviewer: {en: 'Payout differs: {payout_differs}'}}
  ACCESS: {reviewer: {en: 'Failed logins: {failed}'}}
  PAYMENT: {reviewer: {en: 'Settled: {settled}'}}
general: {pending: {en: Later.}, denied: {en: No.}}
`

var changeable = sync.OnceValues(func() (models.Contents, error) {
	catalogue, err := features.Parse([]byte(changeableYAML))
	if err != nil {
		return models.Contents{}, err
	}
	random := rand.New(rand.NewPCG(3, 4))
	d := lightgbm.Dataset{Names: catalogue.Names(), Rows: 6000}
	coin := func() float64 { return float64(random.IntN(2)) }
	var fraud []bool
	for range d.Rows {
		x := []float64{3 * random.Float64(), coin(), coin(), coin(), coin(), float64(random.IntN(4)), 1000}
		logOdds := -7 + 3*x[0] + 3*x[1] + 3*x[2] - 2*x[3] - 2*x[4] + 3*x[5]
		y := 0.0
		if fraud = append(fraud, random.Float64() < 1/(1+math.Exp(-logOdds))); fraud[len(fraud)-1] {
			y = 1
		}
		d.X, d.Label = append(d.X, x...), append(d.Label, y)
	}
	result, err := lightgbm.Train(context.Background(), lightgbm.Job{Params: map[string]string{"learning_rate": "0.2", "num_leaves": "15", "max_depth": "6"},
		Rounds: 60, Train: d, Golden: d.X[:70]}, nil)
	if err != nil {
		return models.Contents{}, err
	}
	model, err := models.ReadModel(result.Model)
	if err != nil {
		return models.Contents{}, err
	}
	raw := make([]float64, d.Rows)
	for i := range raw {
		if raw[i], err = model.LogOdds(d.X[i*7 : i*7+7]); err != nil {
			return models.Contents{}, err
		}
	}
	c := models.Contents{Model: result.Model, Catalogue: []byte(changeableYAML), Manifest: models.Manifest{Name: "changeable", Version: "1",
		BaseCurrency: "EUR", Thresholds: models.Thresholds{ApproveBelow: 0.3, DenyFrom: 0.9}}}
	c.Calibration, err = models.FitPlatt(raw, fraud, nil)
	for i, answer := range result.GoldenRaw {
		c.Golden = append(c.Golden, models.NewGolden(d.X[i*7:i*7+7], answer, result.GoldenContributions[i]))
	}
	return c, err
})

// changeableService decides by that model for a customer whose mean payment is EUR 10.00.
func changeableService(t *testing.T, vary ...func(*scoring.Options)) *service {
	t.Helper()
	contents, err := changeable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := models.Write(dir, contents); err != nil {
		t.Fatal(err)
	}
	b, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, vary...)
	if err := s.UseModel(b); err != nil {
		t.Fatal(err)
	}
	s.imports(s.money("other", "payment", t0-30*vaglio.Day, 1000, "EUR", "payment", "elsewhere", "instrument", "card"))
	return s
}

func (s *service) failedLogins(n int) {
	for i := range n {
		s.imports(s.happened(fmt.Sprint("failed", i), "login_failed", t0-vaglio.Hour))
	}
}

// changed is a request as a counterfactual would have it.
func changed(r vaglio.Request, c *vaglio.Change) vaglio.Request {
	for _, change := range c.Changes {
		switch change.Feature {
		case "amount":
			r.Amount = int64(change.To.(float64))
		case "authentication":
			r.Authentication = change.To.(string)
		case "payout_instrument":
			r.Entities = r.Entities.With("payout_instrument", change.To.(string))
		case "type":
			r.Type = change.To.(string)
		}
	}
	return r
}

func changes(c *vaglio.Change) string {
	var out []string
	for _, change := range c.Changes {
		out = append(out, change.Feature)
	}
	return strings.Join(out, " ")
}

// holds checks that a request with the change that its decision names is approved.
func (s *service) holds(r vaglio.Request, c *vaglio.Change) {
	s.t.Helper()
	for _, confirmed := range []string{"payment_settled", "delivered"} {
		if strings.Contains(changes(c), confirmed) {
			s.imports(s.money(confirmed, confirmed, t0-vaglio.Minute, 0, ""))
		}
	}
	d, _ := s.decidesWith(changed(r, c), scoring.DecideOptions{DryRun: true})
	expect(s.t, "the changed request", d.Verdict, vaglio.Approve)
	if d.Counterfactual != nil {
		s.t.Errorf("an approval has a counterfactual: %+v", d.Counterfactual)
	}
}

func TestACounterfactualNamesTheSmallestChangeInWords(t *testing.T) {
	want := func(name string, failed int, want, text string, vary func(*vaglio.Request)) {
		t.Run(name, func(t *testing.T) {
			s := changeableService(t)
			s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR", "instrument", "card"))
			s.failedLogins(failed)
			r := s.request("r", vary)
			d, _ := s.decides(r)
			c := d.Counterfactual
			if d.Verdict == vaglio.Approve || c == nil {
				t.Fatalf("decided %s, counterfactual %+v", d.Verdict, c)
			}
			expect(t, "verdict of the change", c.Verdict, vaglio.Approve)
			expect(t, "changes", changes(c), want)
			expect(t, "text", c.Text, text)
		})
	}
	want("weak", 1, "authentication", "Would be approved with strong authentication.", func(r *vaglio.Request) { r.Authentication = "password" })
	want("elsewhere", 1, "payout_instrument", "Sarebbe approvata con l'accredito sull'origine del pagamento.", func(r *vaglio.Request) {
		r.Authentication, r.Language = "strong", "it"
		r.Entities = r.Entities.With("payout_instrument", "other").With("instrument", "card")
	})
	want("too much", 0, "amount", "Would be approved with an amount of 10.00 EUR instead of 15.00 EUR.", func(r *vaglio.Request) {
		r.Authentication, r.Amount = "strong", 1500
	})
}

// Random requests: whatever is named holds when the request is decided again, and never takes more trials than stated.
func TestACounterfactualHoldsWhenItIsTried(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	found, partial, none := 0, 0, 0
	for i := range 24 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := changeableService(t)
			captured := int64(500 + random.IntN(3000))
			s.imports(s.money("paid", "payment", t0-vaglio.Hour, captured, "EUR", "instrument", "card"))
			s.failedLogins(random.IntN(4))
			r := s.request("r", func(r *vaglio.Request) {
				r.Type = []string{"refund", "cancellation"}[random.IntN(2)]
				r.Amount = 500 + int64(random.IntN(3000))
				r.Authentication = []string{"password", "strong"}[random.IntN(2)]
				if random.IntN(2) == 0 {
					r.Entities = r.Entities.With("payout_instrument", "other")
				}
			})
			d, _ := s.decidesWith(r, scoring.DecideOptions{DryRun: true})
			c := d.Counterfactual
			switch {
			case d.Verdict == vaglio.Approve:
				if c != nil {
					t.Errorf("an approval has a counterfactual: %+v", c)
				}
				return
			case c.Trials < 1 || c.Trials > 64:
				t.Errorf("%d trials", c.Trials)
			case c.Verdict != vaglio.Approve:
				none++
				expect(t, "verdict without a change", c.Verdict, d.Verdict)
				expect(t, "changes", changes(c), "")
				expect(t, "text", c.Text, fmt.Sprintf("None of %d changed requests would be approved.", c.Trials))
				return
			}
			found++
			if strings.Contains(changes(c), "amount") {
				partial++
			}
			s.holds(r, c)
		})
	}
	if found < 8 || partial < 4 {
		t.Errorf("of 24 requests %d had a counterfactual, %d with a smaller amount, %d none: this tests little", found, partial, none)
	}
}

// What other approvals reserve is known only in the decision's own transaction.
func TestACounterfactualFitsWhatOthersHaveReserved(t *testing.T) {
	s := newService(t, always)
	trusted(s)
	s.decides(s.request("first", func(r *vaglio.Request) { r.Amount = 700 }))
	d, _ := s.decides(s.request("second", func(r *vaglio.Request) { r.Amount = 600 }))
	expect(t, "verdict", d.Verdict, vaglio.Deny)
	expect(t, "text", d.Counterfactual.Text, "Would be approved with an amount of 3.00 EUR instead of 6.00 EUR.")
}

func TestADegradedDecisionHasNoCounterfactual(t *testing.T) {
	s := newService(t)
	s.Engine = scoring.New(scoring.Options{History: store, Ledger: s.ledger, Now: s.clock.time})
	d, _ := s.decides(s.request("r"))
	expect(t, "degraded", d.Degraded, true)
	if d.Counterfactual != nil {
		t.Errorf("counterfactual %+v", d.Counterfactual)
	}
}
