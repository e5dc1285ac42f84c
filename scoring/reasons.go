package scoring

import (
	"cmp"
	"math"
	"slices"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/scoring/policy"
)

// What matters: a reason's contribution is at least minContribution of log-odds (it moves odds by a tenth), at most
// maxReasons are told, each with its strongest features and the newest events behind them.
const (
	minContribution = 0.1
	maxReasons      = 6
	maxFeatures     = 4
	maxEvidence     = 5
)

// reasons groups the contributions by reason code, the strongest first.
func (d *decision) reasons(lang string) []vaglio.Reason {
	type group struct {
		code    string
		total   float64
		members []int
	}
	features := d.seat.catalogue.Features()
	groups := make([]group, 0, 32)
	for i := range features {
		code := features[i].Reason
		if code == "" {
			continue
		}
		g := slices.IndexFunc(groups, func(g group) bool { return g.code == code })
		if g < 0 {
			g, groups = len(groups), append(groups, group{code: code})
		}
		groups[g].total += d.assessment.contributions[i]
		groups[g].members = append(groups[g].members, i)
	}
	groups = slices.DeleteFunc(groups, func(g group) bool { return math.Abs(g.total) < minContribution })
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(math.Abs(b.total), math.Abs(a.total)), cmp.Compare(a.code, b.code))
	})
	reasons := make([]vaglio.Reason, min(len(groups), maxReasons))
	for i := range reasons {
		reasons[i] = d.reason(groups[i].code, groups[i].total, groups[i].members, lang)
	}
	return reasons
}

func (d *decision) reason(code string, total float64, members []int, lang string) vaglio.Reason {
	catalogue := d.seat.catalogue
	reason := vaglio.Reason{Code: code, Direction: "raises", Contribution: total, Features: []vaglio.ReasonFeature{},
		Text: catalogue.ReviewerText(code, lang, d.vector, d.engine.history.BaseCurrency(), d.request.Currency)}
	if total < 0 {
		reason.Direction = "lowers"
	}
	strongest := slices.Clone(members)
	slices.SortStableFunc(strongest, func(a, b int) int {
		return cmp.Compare(math.Abs(d.assessment.contributions[b]), math.Abs(d.assessment.contributions[a]))
	})
	for _, i := range strongest[:min(len(strongest), maxFeatures)] {
		if d.assessment.contributions[i] == 0 {
			continue
		}
		f := &catalogue.Features()[i]
		said := vaglio.ReasonFeature{Name: f.Name, Value: shown(f, d.vector[i]), Usual: d.usual(i)}
		if own, ok := catalogue.CustomerUsual(i, d.vector); ok {
			said.CustomerUsual = own
		}
		reason.Features = append(reason.Features, said)
		if len(reason.Evidence) < maxEvidence {
			for _, id := range d.evidence(i) {
				if !slices.Contains(reason.Evidence, id) && len(reason.Evidence) < maxEvidence {
					reason.Evidence = append(reason.Evidence, id)
				}
			}
		}
	}
	return reason
}

// usual is the population's median at training time, nil where the model has none.
func (d *decision) usual(feature int) any {
	f := &d.seat.catalogue.Features()[feature]
	population := d.seat.bundle.Manifest().Population
	i := slices.IndexFunc(population, func(q models.FeatureQuantiles) bool { return q.Name == f.Name })
	if i < 0 {
		return nil
	}
	return shown(f, population[i].Q50)
}

// shown is a feature's value for JSON: a number, a category's name, or nil when it is missing.
func shown(f *features.Feature, value float64) any {
	switch {
	case f.Categorical:
		if name := f.Category(value); name != "" {
			return name
		}
		return nil
	case math.IsNaN(value), math.IsInf(value, 0):
		return nil
	default:
		return value
	}
}

// allReasons are those of the rules, then what the model says. A code stands once: what a rule says of it the model's reason
// says better, unless that lowers the risk.
func (d *decision) allReasons(lang string) []vaglio.Reason {
	reasons, told := []vaglio.Reason{}, slices.Clone(d.told)
	for _, code := range d.outcome.Codes {
		i := slices.IndexFunc(told, func(r vaglio.Reason) bool { return r.Code == code })
		if i >= 0 && told[i].Direction == "raises" {
			reasons = append(reasons, told[i])
		} else {
			reasons = append(reasons, vaglio.Reason{Code: code, Direction: "raises", Features: []vaglio.ReasonFeature{}, Text: d.ruleText(code, lang)})
		}
		if i >= 0 {
			told = slices.Delete(told, i, i+1)
		}
	}
	return append(reasons, told...)
}

// ruleText is what a code says when a rule alone gives it: the words of that rule, or those of the built-in one, or else the
// catalogue's. What the model's features say of the code may be the contrary.
func (d *decision) ruleText(code, lang string) string {
	if text, ok := ruleTexts[code]; ok {
		return text[lang]
	}
	for _, hit := range d.outcome.Rules {
		if r, ok := d.setup.policy.Rule(hit.Name); ok && hit.State == policy.Active && r.Reason == code {
			if words := r.Words(lang); words != "" {
				return words
			}
		}
	}
	if d.vector == nil {
		return code
	}
	return cmp.Or(d.seat.catalogue.ReviewerText(code, lang, d.vector, d.engine.history.BaseCurrency(), d.request.Currency), code)
}

var ruleTexts = map[string]map[string]string{
	"PAYMENT_UNKNOWN": {"en": "The captured amount of the payment is not known", "it": "L'importo incassato del pagamento non è noto"},
	"OVER_CAPTURED":   {"en": "The amount exceeds what is left of the payment", "it": "L'importo supera quanto resta del pagamento"},
}

// tellCustomer writes what the customer may read of at most two reasons: those that raise the risk and then, in a review,
// those that speak for the request.
func (d *decision) tellCustomer(lang string) {
	if d.out.Verdict == vaglio.Approve {
		return
	}
	catalogue := d.seat.catalogue
	told := 0
	tell := func(direction string) {
		for i := range d.out.Reasons {
			if r := &d.out.Reasons[i]; r.Direction == direction && told < 2 {
				r.CustomerText, r.EarlierContactText = catalogue.CustomerText(r.Code, lang, d.out.Verdict, direction == "raises")
				if r.CustomerText != "" {
					told++
				}
			}
		}
	}
	tell("raises")
	if d.out.Verdict == vaglio.Review {
		tell("lowers")
	}
}
