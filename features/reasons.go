package features

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	decimals "golang.org/x/text/number"

	"vaglio"
)

// Texts are the sentences of one reason code, by language. Reviewers' sentences hold {feature} placeholders.
type Texts struct {
	Internal bool              `yaml:"internal,omitempty"` // customers see only the general sentence
	Reviewer map[string]string `yaml:"reviewer"`
	Customer map[string]string `yaml:"customer,omitempty"`
}

// General holds the sentences for customers where a reason must not be told.
type General struct {
	Pending map[string]string `yaml:"pending"`
	Denied  map[string]string `yaml:"denied"`
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

func (c *Catalogue) checkTexts(code string, texts Texts) error {
	for _, lang := range slices.Sorted(maps.Keys(texts.Reviewer)) {
		for _, m := range placeholder.FindAllStringSubmatch(texts.Reviewer[lang], -1) {
			if c.index(m[1]) < 0 {
				return fmt.Errorf("reason %s: the %s text names {%s}, which is no feature", code, lang, m[1])
			}
		}
	}
	if texts.Reviewer[vaglio.Languages[0]] == "" {
		return fmt.Errorf("reason %s: has no %s text for reviewers", code, vaglio.Languages[0])
	}
	return nil
}

// Reasons lists the codes of the catalogue's reasons, sorted.
func (c *Catalogue) Reasons() []string { return slices.Sorted(maps.Keys(c.reasons)) }

// ReviewerText is a reason in words, with the values of this vector. Money is in the given currency (of the base, or of
// the request for features of entity payment). An unknown language falls back to the first.
func (c *Catalogue) ReviewerText(code, lang string, vector []float64, baseCurrency, requestCurrency string) string {
	template := c.reasons[code].Reviewer[lang]
	if template == "" {
		lang = vaglio.Languages[0]
		if template = c.reasons[code].Reviewer[lang]; template == "" {
			return code
		}
	}
	return placeholder.ReplaceAllStringFunc(template, func(name string) string {
		i := c.index(strings.Trim(name, "{}"))
		currency := baseCurrency
		if c.source.Features[i].own {
			currency = requestCurrency
		}
		return c.features[i].Format(vector[i], lang, currency)
	})
}

// CustomerText is what the customer may be told of a reason: its own sentence, or the general one when it is internal
// or has none.
func (c *Catalogue) CustomerText(code, lang string, verdict vaglio.Verdict) string {
	general := c.general.Pending
	if verdict == vaglio.Deny {
		general = c.general.Denied
	}
	texts := c.reasons[code]
	if !texts.Internal && texts.Customer[lang] != "" {
		return texts.Customer[lang]
	}
	return general[lang]
}

var words = map[string]map[string]string{
	"en": {"missing": "none", "hours": "h", "days": "days", "yes": "yes", "no": "no"},
	"it": {"missing": "nessuno", "hours": "ore", "days": "giorni", "yes": "sì", "no": "no"},
}

// Format writes a value for people: hours above 48 as days, shares as per cent, money with its currency, "none" for a
// missing one.
func (f *Feature) Format(value float64, lang, currency string) string {
	p := message.NewPrinter(language.Make(lang))
	if f.Categorical {
		if name := f.Category(value); name != "" {
			return name
		}
		return words[lang]["missing"]
	}
	switch {
	case value != value:
		return words[lang]["missing"]
	case f.Unit == UnitMoney:
		return FormatMoney(value, currency, lang)
	case f.Unit == UnitShare:
		return p.Sprint(decimals.Percent(value, decimals.MaxFractionDigits(0)))
	case f.Unit == UnitHours && value > 48:
		return p.Sprintf("%v %s", decimals.Decimal(value/24, decimals.MaxFractionDigits(0)), words[lang]["days"])
	case f.Unit == UnitHours:
		return p.Sprintf("%v %s", decimals.Decimal(value, decimals.MaxFractionDigits(1)), words[lang]["hours"])
	case f.Unit == UnitFlag && value == 1:
		return words[lang]["yes"]
	case f.Unit == UnitFlag && value == 0:
		return words[lang]["no"]
	default:
		return p.Sprint(decimals.Decimal(value, decimals.MaxFractionDigits(1)))
	}
}

// FormatMoney writes an amount in minor units with its currency.
func FormatMoney(minor float64, currency, lang string) string {
	digits, _ := vaglio.CurrencyDigits(currency)
	for range digits {
		minor /= 10
	}
	return message.NewPrinter(language.Make(lang)).Sprintf("%v %s", decimals.Decimal(minor, decimals.Scale(digits)), currency)
}
