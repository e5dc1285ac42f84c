package scoring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"vaglio"
	"vaglio/features"
	"vaglio/ledger"
	"vaglio/scoring/policy"
)

// maxTrials bounds the search for a counterfactual: so often is a changed request scored and put through the policy.
const maxTrials = 64

// lever is one thing that the requester or the desk can still change about a request. A trial is a copy of the decision
// whose request, fact and states are its own; its slices are shared until they are replaced.
type lever struct {
	name     string
	possible func(*decision) bool
	pull     func(trial *decision) []vaglio.FeatureChange
}

// levers in the order in which they are preferred: what costs the requester least first. A smaller amount, tried after
// each set of them, costs the most.
var levers = []lever{
	{"authentication", func(d *decision) bool { return d.request.Authentication != "strong" }, func(t *decision) []vaglio.FeatureChange {
		from := t.request.Authentication
		t.request.Authentication = "strong"
		t.set("authentication", "strong")
		t.suppose("step_up_passed", vaglio.EntityCustomer, "device")
		return []vaglio.FeatureChange{{Feature: "authentication", From: absent(from), To: "strong"}}
	}},
	{"payout_instrument", func(d *decision) bool {
		payout := d.fact.Entities.Get(vaglio.EntityPayoutInstrument)
		return payout != "" && payout != d.fact.Entities.Get(vaglio.EntityInstrument)
	}, func(t *decision) []vaglio.FeatureChange {
		from, source := t.fact.Entities.Get(vaglio.EntityPayoutInstrument), t.fact.Entities.Get(vaglio.EntityInstrument)
		elsewhere := func(f vaglio.Field) bool { return f.Name == vaglio.EntityPayoutInstrument }
		t.request.Entities = slices.DeleteFunc(slices.Clone(t.request.Entities), elsewhere)
		t.fact.Entities = slices.DeleteFunc(slices.Clone(t.fact.Entities), elsewhere)
		return []vaglio.FeatureChange{{Feature: "payout_instrument", From: from, To: absent(source)}}
	}},
	{"settlement", func(d *decision) bool { return d.awaits("payment_settled") }, func(t *decision) []vaglio.FeatureChange {
		changes := []vaglio.FeatureChange{{Feature: "payment_settled", From: false, To: true}}
		payment := vaglio.PaymentState{}
		if t.request.Payment != nil {
			payment = *t.request.Payment
		}
		payment.State = "settled"
		t.request.Payment = &payment
		t.set("payment_state", "settled")
		t.suppose("payment_settled", vaglio.EntityCustomer, vaglio.EntityPayment)
		if t.request.Type == "cancellation" { // a settled deposit can be refunded, no longer cancelled
			t.request.Type = "refund"
			t.set("type", "refund")
			changes = append(changes, vaglio.FeatureChange{Feature: "type", From: "cancellation", To: "refund"})
		}
		return changes
	}},
	{"delivery", func(d *decision) bool { // who says that nothing came is not helped by a delivery
		return d.awaits("delivered") && d.request.Reason != "not_received" && d.request.Reason != "not_credited"
	}, func(t *decision) []vaglio.FeatureChange {
		t.suppose("delivered", vaglio.EntityCustomer, vaglio.EntityPayment)
		return []vaglio.FeatureChange{{Feature: "delivered", From: false, To: true}}
	}},
}

func absent(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// set changes an attribute of the request's own event.
func (d *decision) set(attribute, value string) {
	d.fact.Attributes = slices.Clone(d.fact.Attributes).With(attribute, value)
}

// awaits reports whether the request's payment is known and has no event of this kind yet.
func (d *decision) awaits(kind string) bool {
	return len(d.known.payment) > 0 && !slices.ContainsFunc(d.known.payment, func(f vaglio.Fact) bool { return f.Kind == kind })
}

// suppose adds an event to what is known at the moment of decision, in the timelines of these kinds of entities. The
// timelines themselves stay: only features see it.
func (d *decision) suppose(kind string, entities ...string) {
	f := vaglio.Fact{Event: vaglio.Event{ID: "supposed/" + kind, Kind: kind, OccurredAt: d.moment - vaglio.Millisecond,
		ObservedAt: d.moment, Entities: d.fact.Entities}, KnownAt: d.moment}
	catalogue, before := d.seat.catalogue, d.states
	rebuilt := map[vaglio.Entity]*features.State{}
	for _, name := range entities {
		entity := vaglio.Entity{Kind: name, ID: d.fact.Entities.Get(name)}
		if !catalogue.Reads(name, kind) || entity.ID == "" {
			continue
		}
		if state := before(entity); state != nil {
			rebuilt[entity] = state.With(&f)
		}
	}
	if len(rebuilt) == 0 {
		return
	}
	d.states = func(entity vaglio.Entity) *features.State {
		if state := rebuilt[entity]; state != nil {
			return state
		}
		return before(entity)
	}
}

// search looks for the smallest change that the policy would approve.
type search struct {
	decision  *decision
	situation policy.Situation
	trials    int
	found     *decision
	changes   []vaglio.FeatureChange
	spare     *decision // of a trial that came to nothing: the next one uses its memory
}

// try scores a changed request again: features, model and the whole policy with its exposure check. Amount 0 leaves the
// amount. It is false, too, when the trials are used up.
func (s *search) try(pulled []lever, amountMinor int64) bool {
	if s.trials == maxTrials {
		return false
	}
	s.trials++
	d, r := s.decision, *s.decision.request
	amount := cmp.Or(amountMinor, r.Amount)
	if d.seat.bound.Forbids(s.situation, amount) {
		return false
	}
	t := s.spare
	if t == nil {
		t = &decision{vector: make([]float64, len(d.vector))}
	}
	s.spare = t
	vector, evaluation := t.vector, t.evaluation
	*t = *d
	t.request, t.out, t.vector, t.evaluation = &r, vaglio.Decision{}, vector, evaluation
	var changes []vaglio.FeatureChange
	for _, l := range pulled {
		changes = append(changes, l.pull(t)...)
	}
	if amountMinor != 0 {
		changes = append(changes, vaglio.FeatureChange{Feature: "amount", From: r.Amount, To: amountMinor})
		r.Amount, r.Partial, t.fact.Amount = amountMinor, true, amountMinor
		fact, err := d.engine.history.Prepare(t.fact.Event, d.moment)
		if err != nil {
			return false
		}
		t.fact = fact
	}
	t.seat.catalogue.Vector(t.vector, &t.fact, t.states)
	logOdds, err := t.seat.bundle.LogOdds(t.vector)
	if err != nil {
		return false
	}
	a := assessment{logOdds: logOdds, probability: t.seat.bundle.Probability(logOdds)}
	a.riskScore = t.seat.bundle.RiskScore(a.probability)
	t.assessment = &a
	t.evaluate()
	if !t.approves(s.situation) {
		return false
	}
	s.found, s.changes, s.spare = t, changes, s.found
	return true
}

// approves asks the policy, without recording what it says.
func (d *decision) approves(s policy.Situation) bool {
	return d.seat.bound.Conclude(&d.evaluation, s).Verdict == vaglio.Approve
}

// run tries sets of levers, the smaller sets first. Each size is tried without and then, with one lever less, with a
// smaller amount.
func (s *search) run() {
	possible := slices.DeleteFunc(slices.Clone(levers), func(l lever) bool { return !l.possible(s.decision) })
	for size := 1; size <= len(possible)+1; size++ {
		for pulled := range subsets(possible, size) {
			if s.try(pulled, 0) {
				return
			}
		}
		for pulled := range subsets(possible, size-1) {
			if s.partial(pulled) {
				return
			}
		}
	}
}

// partial looks for a smaller amount, not below a tenth of what was asked for: downwards over a coarse grid, since
// neither trees nor policies need be monotone, then up between the amount approved and the refused one above it, to a
// thousandth of the amount asked for.
func (s *search) partial(pulled []lever) bool {
	asked := s.decision.request.Amount
	refused := asked
	amounts := []int64{asked / 10 * 9, asked / 10 * 7, asked / 2, asked / 10 * 3, asked / 10}
	if left := s.situation.RefundableMinor; s.situation.RefundableKnown && left < asked {
		amounts = slices.Insert(slices.DeleteFunc(amounts, func(a int64) bool { return a >= left }), 0, left)
		refused = left + 1
	}
	for _, amount := range amounts {
		if amount < max(1, asked/10) {
			break
		}
		if !s.try(pulled, amount) {
			refused = amount
			continue
		}
		for approved := amount; refused-approved > max(1, asked/1000); {
			if middle := approved + (refused-approved)/2; s.try(pulled, middle) {
				approved = middle
			} else {
				refused = middle
			}
		}
		return true
	}
	return false
}

// subsets yields the sets of so many levers, in order; the slice is reused.
func subsets(of []lever, size int) func(yield func([]lever) bool) {
	return func(yield func([]lever) bool) {
		chosen := make([]lever, 0, size)
		var choose func(from int) bool
		choose = func(from int) bool {
			if len(chosen) == size {
				return yield(chosen)
			}
			for i := from; i < len(of); i++ {
				chosen = append(chosen, of[i])
				more := choose(i + 1)
				if chosen = chosen[:len(chosen)-1]; !more {
					return false
				}
			}
			return true
		}
		if size <= len(of) {
			choose(0)
		}
	}
}

// seekCounterfactual searches before the decision's transaction, by what history shows of the payment, so that no other
// decision waits for it. A request that the policy approves is left alone.
func (d *decision) seekCounterfactual() {
	situation := d.situation(d.shown, &ledger.Standing{})
	if d.approves(situation) {
		return
	}
	d.search = &search{decision: d, situation: situation}
	d.search.run()
}

// counterfactual is what would have been approved instead, verified with what the transaction knows, and searched for again if
// the payment's exposure has changed; without any, a change to the verdict itself with no changes. It is nil for approvals,
// decisions without what they should rest on, and what no change of the request helps: duplicates and guards that tripped.
func (d *decision) counterfactual(s policy.Situation, lang string) *vaglio.Change {
	if d.out.Verdict == vaglio.Approve || d.assessment == nil || d.blind || s.Duplicate || s.Guard.Review {
		return nil
	}
	if d.search == nil || d.exposure != d.shown && (d.search.found == nil || !d.search.found.approves(s)) {
		d.search = &search{decision: d, situation: s}
		d.search.run()
	}
	return d.change(d.search, d.search.found != nil && d.search.found.approves(s), lang)
}

// change tells what a search found, if it holds.
func (d *decision) change(s *search, holds bool, lang string) *vaglio.Change {
	if !holds {
		return &vaglio.Change{Verdict: d.out.Verdict, Changes: []vaglio.FeatureChange{}, Trials: s.trials,
			Text: fmt.Sprintf(changeTexts["none"][lang], s.trials)}
	}
	var parts []string
	for _, c := range s.changes {
		text := changeTexts[c.Feature][lang]
		if c.Feature == "amount" {
			money := func(minor any) string {
				return features.FormatMoney(float64(minor.(int64)), d.request.Currency, lang)
			}
			text = fmt.Sprintf(text, money(c.To), money(c.From))
		}
		parts = append(parts, text)
	}
	return &vaglio.Change{Verdict: vaglio.Approve, Changes: s.changes, Trials: s.trials,
		Text: fmt.Sprintf(changeTexts["found"][lang], strings.Join(parts, changeTexts["and"][lang]))}
}

var changeTexts = map[string]map[string]string{
	"found":             {"en": "Would be approved with %s.", "it": "Sarebbe approvata con %s."},
	"and":               {"en": " and ", "it": " e "},
	"none":              {"en": "None of %d changed requests would be approved.", "it": "Nessuna di %d varianti della richiesta sarebbe approvata."},
	"amount":            {"en": "an amount of %s instead of %s", "it": "un importo di %s anziché %s"},
	"authentication":    {"en": "strong authentication", "it": "l'autenticazione forte"},
	"payout_instrument": {"en": "a payout to the source of the payment", "it": "l'accredito sull'origine del pagamento"},
	"payment_settled":   {"en": "the payment settled", "it": "il pagamento regolato"},
	"type":              {"en": "a refund instead of a cancellation", "it": "un rimborso anziché un annullamento"},
	"delivered":         {"en": "the delivery confirmed", "it": "la consegna confermata"},
}
