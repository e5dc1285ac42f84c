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

// topic is a reason code with the features that give it.
type topic struct {
	code    string
	members []int
}

func topicsOf(all []features.Feature) (topics []topic) {
	for i := range all {
		code := all[i].Reason
		if code == "" {
			continue
		}
		at := slices.IndexFunc(topics, func(t topic) bool { return t.code == code })
		if at < 0 {
			at, topics = len(topics), append(topics, topic{code: code})
		}
		topics[at].members = append(topics[at].members, i)
	}
	return topics
}

// usualOf are the population's medians at training time by feature, nil where the model has none.
func usualOf(all []features.Feature, population []models.FeatureQuantiles) []any {
	usual := make([]any, len(all))
	for i := range all {
		if at := slices.IndexFunc(population, func(q models.FeatureQuantiles) bool { return q.Name == all[i].Name }); at >= 0 {
			usual[i] = shown(&all[i], population[at].Q50)
		}
	}
	return usual
}

// reasons adds the contributions up by reason code, the strongest first.
func (d *decision) reasons(lang string) []vaglio.Reason {
	type sum struct {
		*topic
		total float64
	}
	var room [64]sum
	sums := room[:0]
	for i := range d.seat.topics {
		t := &d.seat.topics[i]
		total := 0.0
		for _, feature := range t.members {
			total += d.assessment.contributions[feature]
		}
		if !(math.Abs(total) < minContribution) {
			sums = append(sums, sum{t, total})
		}
	}
	slices.SortFunc(sums, func(a, b sum) int {
		return cmp.Or(cmp.Compare(math.Abs(b.total), math.Abs(a.total)), cmp.Compare(a.code, b.code))
	})
	sums = sums[:min(len(sums), maxReasons)]
	reasons, strongest := make([]vaglio.Reason, len(sums)), make([][]int, len(sums))
	for i := range reasons {
		strongest[i] = d.strongest(sums[i].topic)
		reasons[i] = d.reason(sums[i].code, sums[i].total, strongest[i], lang)
	}
	if d.states != nil { // a replay from inputs has no events
		for i, ids := range d.seat.catalogue.Evidence(&d.fact, d.states, maxEvidence, strongest...) {
			reasons[i].Evidence = ids
		}
	}
	return reasons
}

// strongest are the features that contribute most to a topic.
func (d *decision) strongest(t *topic) []int {
	contributions := d.assessment.contributions
	var room [32]int
	all := append(room[:0], t.members...)
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(math.Abs(contributions[b]), math.Abs(contributions[a])) })
	all = slices.DeleteFunc(all[:min(len(all), maxFeatures)], func(i int) bool { return contributions[i] == 0 })
	return slices.Clone(all)
}

func (d *decision) reason(code string, total float64, strongest []int, lang string) vaglio.Reason {
	catalogue := d.seat.catalogue
	reason := vaglio.Reason{Code: code, Direction: "raises", Contribution: total, Features: make([]vaglio.ReasonFeature, len(strongest)),
		Text: catalogue.ReviewerText(code, lang, d.vector, d.engine.history.BaseCurrency(), d.request.Currency)}
	if total < 0 {
		reason.Direction = "lowers"
	}
	for i, feature := range strongest {
		f := &catalogue.Features()[feature]
		said := vaglio.ReasonFeature{Name: f.Name, Value: shown(f, d.vector[feature]), Usual: d.seat.usual[feature]}
		if own, ok := catalogue.CustomerUsual(feature, d.vector); ok {
			said.CustomerUsual = own
		}
		reason.Features[i] = said
	}
	return reason
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
	codes := d.outcome.Codes
	reasons := make([]vaglio.Reason, 0, len(codes)+len(d.told))
	for _, code := range codes {
		i := slices.IndexFunc(d.told, func(r vaglio.Reason) bool { return r.Code == code })
		if i >= 0 && d.told[i].Direction == "raises" {
			reasons = append(reasons, d.told[i])
		} else {
			reasons = append(reasons, vaglio.Reason{Code: code, Direction: "raises", Features: []vaglio.ReasonFeature{}, Text: d.ruleText(code, lang)})
		}
	}
	for i := range d.told {
		if !slices.Contains(codes, d.told[i].Code) {
			reasons = append(reasons, d.told[i])
		}
	}
	return reasons
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
