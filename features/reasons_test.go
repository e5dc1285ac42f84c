package features_test

import (
	"strings"
	"testing"

	"vaglio"
	"vaglio/features"
)

func TestReasonsAreTextsWithValues(t *testing.T) {
	c := features.Default()
	request := fact("r", "refund_requested", t0, 250, "customer", "c")
	tl := newTimelines(c).add(fact("a", "payment", t0-100*vaglio.Day, 123456, "customer", "c"),
		fact("b", "refund_requested", t0-vaglio.Minute, 100, "customer", "c"))
	check := func(code, lang, want string) {
		t.Helper()
		if got := c.ReviewerText(code, lang, tl.vector(request), "EUR", "EUR"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("TRUSTED_HISTORY", "en", "Customer for 100 days; 1,234.56 EUR paid in 180 days")
	check("TRUSTED_HISTORY", "it", "Cliente da 100 giorni; pagati 1.234,56 EUR in 180 giorni")
	check("ACCOUNT_CHANGED", "en", "No change of credentials on record; device not seen before")
	check("REFUND_VELOCITY", "en", "1 request in the last hour, 1 in 7 days")
	check("REFUND_VELOCITY", "it", "1 richiesta nell'ultima ora, 1 in 7 giorni")
	check("REFUND_VELOCITY", "xx", "1 request in the last hour, 1 in 7 days")
	check("AMOUNT_UNUSUAL", "en", "No payments in 90 days to compare with")
	tl.add(fact("c", "refund_requested", t0-vaglio.Second, 100, "customer", "c"), fact("d", "payment", t0-vaglio.Hour, 100, "customer", "c"))
	check("REFUND_VELOCITY", "en", "2 requests in the last hour, 2 in 7 days")
	check("REFUND_VELOCITY", "it", "2 richieste nell'ultima ora, 2 in 7 giorni")
	check("AMOUNT_UNUSUAL", "it", "2,5 × il pagamento medio del cliente di 1,00 EUR")
	check("NO_SUCH_REASON", "en", "NO_SUCH_REASON")
}

func TestEveryReasonHasTextsInEveryLanguage(t *testing.T) {
	c := features.Default()
	missing := make([]float64, len(c.Features()))
	for _, code := range c.Reasons() {
		seen := map[string]bool{}
		for _, lang := range vaglio.Languages {
			for _, text := range []string{c.ReviewerText(code, lang, missing, "EUR", "EUR"), customer(c, code, lang)} {
				if text == "" || seen[text] || strings.ContainsAny(text, "{}|#") {
					t.Errorf("%s in %s: %q", code, lang, text)
				}
				seen[text] = true
			}
		}
	}
}

func customer(c *features.Catalogue, code, lang string) string {
	text, _ := c.CustomerText(code, lang, vaglio.Review, true)
	return text
}

func TestValuesAreWrittenAsPeopleReadThem(t *testing.T) {
	check := func(unit features.Unit, value float64, lang, want string) {
		t.Helper()
		f := features.Feature{Unit: unit}
		if got := f.Format(value, lang, "EUR"); got != want {
			t.Errorf("%v %s in %s: %q, want %q", value, unit, lang, got, want)
		}
	}
	check(features.UnitHours, 1, "it", "1 ora")
	check(features.UnitHours, 1.04, "it", "1 ora")
	check(features.UnitHours, 1.5, "it", "1,5 ore")
	check(features.UnitHours, 48, "en", "48 h")
	check(features.UnitHours, 49, "en", "2 days")
	check(features.UnitHours, 1000*24, "it", "1.000 giorni")
	check(features.UnitShare, 0.256, "en", "26%")
	check(features.UnitMoney, 123456, "it", "1.234,56 EUR")
	check(features.UnitCount, 12345, "it", "12.345")
	check(features.UnitFlag, 1, "it", "sì")
}

const reasonsYAML = `
name: small
features:
  - {name: requests, entity: customer, events: [refund_requested], aggregate: count, window: 7d, reason: A}
  - {name: requests_70d, entity: customer, events: [refund_requested], aggregate: count, window: 70d, reason: A}
  - {name: differs, expr: request.entities.a != request.entities.b, unit: flag, reason: A}
  - {name: claim, categorical: request.reason, categories: [other, fraud], reason: A}
reasons:
  A: {reviewer: {en: 'TEXT'}}
`

func TestATemplateThatCanNeverFitIsRefused(t *testing.T) {
	refused := func(text, want string) {
		t.Helper()
		_, err := features.Parse([]byte(strings.Replace(reasonsYAML, "TEXT", text, 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", text, err, want)
		}
	}
	refused("{nothing}", "names {nothing}, which is no feature")
	refused("{requests | singular: #}", `has the case "singular", which {requests} never is`)
	refused("{requests | yes: #}", `has the case "yes"`)
	refused("{requests | =x: #}", `has the case "=x"`)
	refused("{requests | one #}", `has the case "one #"`)
	refused("{differs | one: #}", `has the case "one"`)
	refused("{claim | unheard_of: #}", `has the case "unheard_of"`)
	refused("{requests", "has a brace without its other one")
	refused("requests}", "has a brace without its other one")
	refused("{{requests}}", "has a brace without its other one")
}

func TestACustomersOwnUsualIsScaledFromTheLongestWindow(t *testing.T) {
	c, err := features.Parse([]byte(strings.Replace(reasonsYAML, "TEXT", "{requests | one: # request | other: # requests | missing: unknown}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if usual, ok := c.CustomerUsual(0, []float64{4, 20, 0, 0}); !ok || usual != 2 {
		t.Errorf("usual %v, %v: want 20 requests in 70 days to be 2 in 7", usual, ok)
	}
	for i := 1; i < 4; i++ {
		if usual, ok := c.CustomerUsual(i, []float64{4, 20, 0, 0}); ok {
			t.Errorf("feature %d has a usual value of its customer: %v", i, usual)
		}
	}
}

func TestWhatACustomerMayReadOfAReason(t *testing.T) {
	c := features.Default()
	check := func(code string, verdict vaglio.Verdict, raises bool, want, earlier string) {
		t.Helper()
		if got, contact := c.CustomerText(code, "en", verdict, raises); got != want || contact != earlier {
			t.Errorf("%s: %q and %q, want %q and %q", code, got, contact, want, earlier)
		}
	}
	const pending = "We need a little more time to complete our checks."
	const denied = "We could not approve this request; you can ask for a person to review it."
	check("LINKED_FRAUD", vaglio.Review, true, pending, "")
	check("LINKED_FRAUD", vaglio.Deny, true, denied, "")
	check("NO_SUCH_REASON", vaglio.Review, true, pending, "")
	check("AMOUNT_UNUSUAL", vaglio.Review, true, "The amount is larger than usual for you.", "")
	check("TRUSTED_HISTORY", vaglio.Review, true, pending, "")
	check("TRUSTED_HISTORY", vaglio.Approve, false, "Your history with us supports the request.", "")
	check("ACCOUNT_CHANGED", vaglio.Review, true, pending, "To protect you, we need to be sure that it is you.")
}
