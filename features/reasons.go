package features

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	decimals "golang.org/x/text/number"

	"vaglio"
)

// Texts are the sentences of one reason code, by language. Reviewers' sentences hold placeholders: see template.
type Texts struct {
	Internal       bool              `yaml:"internal,omitempty"`        // customers see only the general sentence
	Lowers         bool              `yaml:"lowers,omitempty"`          // a reason in favour: customers read it only where it lowers the risk
	EarlierContact bool              `yaml:"earlier_contact,omitempty"` // for customers only through a contact older than the account's changes
	Reviewer       map[string]string `yaml:"reviewer"`
	Customer       map[string]string `yaml:"customer,omitempty"`
}

// General holds the sentences for customers where a reason must not be told.
type General struct {
	Pending map[string]string `yaml:"pending"`
	Denied  map[string]string `yaml:"denied"`
}

// template is a sentence with placeholders. "{feature}" is the value as people read it. "{feature | case: text | …}" is
// the text of the first case that fits the value, with the value for each "#":
//
//	missing                            the value is not known
//	yes, no                            of a flag
//	a category's name                  of a category
//	=0, =1, …                          exactly this number
//	zero, one, two, few, many, other   the plural form of the number in the sentence's language (CLDR)
//	other                              any known value
//
// Where no case fits, it is the value.
type template []part

// part is a text, or a placeholder.
type part struct {
	text    string
	feature int // -1 for a text
	cases   []choice
}

type choice struct{ when, text string }

var (
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	pluralForms = map[plural.Form]string{plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many",
		plural.Other: "other"}
)

func (c *Catalogue) parseTemplate(text string) (template, error) {
	var t template
	end := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		if at[0] > end {
			t = append(t, part{text[end:at[0]], -1, nil})
		}
		name, rest, hasCases := strings.Cut(text[at[2]:at[3]], "|")
		p := part{feature: c.index(strings.TrimSpace(name))}
		if p.feature < 0 {
			return nil, fmt.Errorf("names {%s}, which is no feature", strings.TrimSpace(name))
		}
		if hasCases {
			for one := range strings.SplitSeq(rest, "|") {
				when, then, ok := strings.Cut(one, ":")
				k := choice{strings.TrimSpace(when), strings.TrimSpace(then)}
				if !ok || !c.features[p.feature].mayBe(k.when) {
					return nil, fmt.Errorf("has the case %q, which {%s} never is", k.when, c.features[p.feature].Name)
				}
				p.cases = append(p.cases, k)
			}
		}
		t, end = append(t, p), at[1]
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}") {
		return nil, fmt.Errorf("has a brace without its other one")
	}
	if end < len(text) {
		t = append(t, part{text[end:], -1, nil})
	}
	return t, nil
}

// mayBe reports whether a case can ever fit a value of the feature.
func (f *Feature) mayBe(when string) bool {
	number, isNumber := strings.CutPrefix(when, "=")
	switch {
	case when == "missing" || when == "other":
		return true
	case f.Categorical:
		return len(f.Categories) == 0 || slices.Contains(f.Categories, when)
	case f.Unit == UnitFlag:
		return when == "yes" || when == "no"
	case isNumber:
		_, err := strconv.Atoi(number)
		return err == nil
	default:
		for _, form := range pluralForms {
			if form == when {
				return true
			}
		}
		return false
	}
}

func (t template) write(c *Catalogue, lang string, vector []float64, baseCurrency, requestCurrency string) string {
	var b strings.Builder
	for _, p := range t {
		if p.feature < 0 {
			b.WriteString(p.text)
			continue
		}
		f, value := &c.features[p.feature], vector[p.feature]
		shown := c.Shown(p.feature, value, lang, baseCurrency, requestCurrency)
		fitting := f.cases(value, lang)
		if i := slices.IndexFunc(p.cases, func(k choice) bool { return slices.Contains(fitting, k.when) }); i >= 0 {
			b.WriteString(strings.ReplaceAll(p.cases[i].text, "#", shown))
		} else {
			b.WriteString(shown)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (f *Feature) known(value float64) bool {
	if f.Categorical {
		return f.Category(value) != ""
	}
	return !math.IsNaN(value)
}

// cases are those that fit a value.
func (f *Feature) cases(value float64, lang string) []string {
	switch {
	case !f.known(value):
		return []string{"missing"}
	case f.Categorical:
		return []string{f.Category(value), "other"}
	case f.Unit == UnitFlag && value == 1:
		return []string{"yes", "other"}
	case f.Unit == UnitFlag:
		return []string{"no", "other"}
	default:
		return []string{"=" + strconv.FormatFloat(value, 'f', -1, 64), pluralForm(value, lang), "other"}
	}
}

// pluralForm is the plural form of a number as it is shown, with at most one decimal.
func pluralForm(value float64, lang string) string {
	tenths := math.Round(math.Abs(value) * 10)
	if !(tenths < 1e9) {
		return "other"
	}
	whole, decimal, decimals := int(tenths)/10, int(tenths)%10, 0
	if decimal != 0 {
		decimals = 1
	}
	return pluralForms[plural.Cardinal.MatchPlural(tagOf(lang), whole, decimals, decimals, decimal, decimal)]
}

func (c *Catalogue) checkTexts(code string, texts Texts) error {
	for _, lang := range slices.Sorted(maps.Keys(texts.Reviewer)) {
		t, err := c.parseTemplate(texts.Reviewer[lang])
		if err != nil {
			return fmt.Errorf("reason %s: the %s text %w", code, lang, err)
		}
		if c.templates == nil {
			c.templates = map[string]template{}
			c.findLonger()
		}
		c.templates[code+" "+lang] = t
	}
	if texts.Reviewer[vaglio.Languages[0]] == "" {
		return fmt.Errorf("reason %s: has no %s text for reviewers", code, vaglio.Languages[0])
	}
	return nil
}

// Reasons lists the codes of the catalogue's reasons, sorted.
func (c *Catalogue) Reasons() []string { return slices.Sorted(maps.Keys(c.reasons)) }

// ReviewerText is a reason in words, with the values of this vector as [Catalogue.Shown] writes them. An unknown language
// falls back to the first.
func (c *Catalogue) ReviewerText(code, lang string, vector []float64, baseCurrency, requestCurrency string) string {
	t := c.templates[code+" "+lang]
	if t == nil {
		lang = vaglio.Languages[0]
		if t = c.templates[code+" "+lang]; t == nil {
			return code
		}
	}
	return t.write(c, lang, vector, baseCurrency, requestCurrency)
}

// Shown is a feature's value as people read it, money in the currency that the feature is in: that of the base, or of the
// request for features of entity payment.
func (c *Catalogue) Shown(feature int, value float64, lang, baseCurrency, requestCurrency string) string {
	if c.source.Features[feature].own {
		return c.features[feature].Format(value, lang, requestCurrency)
	}
	return c.features[feature].Format(value, lang, baseCurrency)
}

// CustomerText is what the customer may be told of a reason on any channel: its own sentence, or the general one where
// that must not be told; "" of a reason that lowers the risk, unless it is meant for that. Where the own sentence may go to
// a contact that is older than the account's changes only, it is earlierContact.
func (c *Catalogue) CustomerText(code, lang string, verdict vaglio.Verdict, raises bool) (text, earlierContact string) {
	general := c.general.Pending
	if verdict == vaglio.Deny {
		general = c.general.Denied
	}
	texts := c.reasons[code]
	text = cmp.Or(general[lang], general[vaglio.Languages[0]])
	own := texts.Customer[lang]
	switch {
	case !raises && !texts.Lowers:
		return "", ""
	case texts.Internal || own == "" || texts.Lowers && raises:
		return text, ""
	case texts.EarlierContact:
		return text, own
	default:
		return own, ""
	}
}

// CustomerUsual is what is usual for this very customer of a feature that counts or adds up the customer's events in a
// window: the same over the longest window of which the catalogue has a feature, at least four times as long, scaled to
// the feature's own. It is false where there is no such feature.
func (c *Catalogue) CustomerUsual(feature int, vector []float64) (float64, bool) {
	longer := c.longer[feature]
	if longer < 0 || math.IsNaN(vector[longer]) {
		return 0, false
	}
	return vector[longer] * float64(c.features[feature].Window) / float64(c.features[longer].Window), true
}

// findLonger finds for each feature the one that CustomerUsual scales, or -1.
func (c *Catalogue) findLonger() {
	alike := make([]spec, len(c.source.Features)) // but for the window
	for i, s := range c.source.Features {
		s.Name, s.Window, s.Reason, s.Description, s.Unit, s.line = "", "", "", "", "", 0
		alike[i] = s
	}
	c.longer = make([]int, len(c.features))
	for i, s := range alike {
		c.longer[i] = -1
		if s.Entity != vaglio.EntityCustomer || s.Aggregate != "count" && s.Aggregate != "sum" || s.Offset != "" {
			continue
		}
		longest := 4*c.features[i].Window - 1
		for j := range alike {
			if window := c.features[j].Window; window > longest && reflect.DeepEqual(alike[j], s) {
				c.longer[i], longest = j, window
			}
		}
	}
}

// valueWords are those of values, by language. Those of units are by plural form, with "other" for the rest.
var valueWords = map[string]map[string]string{
	"en": {"missing": "none", "hours other": "h", "days one": "day", "days other": "days", "yes": "yes", "no": "no"},
	"it": {"missing": "nessuno", "hours one": "ora", "hours other": "ore", "days one": "giorno", "days other": "giorni", "yes": "sì", "no": "no"},
}

func unitWord(unit string, value float64, lang string) string {
	return cmp.Or(valueWords[lang][unit+" "+pluralForm(value, lang)], valueWords[lang][unit+" other"])
}

// Format writes a value for people: hours above 48 as days, shares as per cent, money with its currency, "none" for a
// missing one.
func (f *Feature) Format(value float64, lang, currency string) string {
	if valueWords[lang] == nil {
		lang = vaglio.Languages[0]
	}
	p := printerOf(lang)
	defer printers[p.lang].Put(p)
	if f.Categorical {
		if name := f.Category(value); name != "" {
			return name
		}
		return valueWords[lang]["missing"]
	}
	switch {
	case value != value:
		return valueWords[lang]["missing"]
	case f.Unit == UnitMoney:
		return FormatMoney(value, currency, lang)
	case f.Unit == UnitShare:
		return p.Sprint(decimals.Percent(value, decimals.MaxFractionDigits(0)))
	case f.Unit == UnitHours && value > 48:
		days := math.Round(value / 24)
		return p.Sprintf("%v %s", decimals.Decimal(days), unitWord("days", days, lang))
	case f.Unit == UnitHours:
		return p.Sprintf("%v %s", decimals.Decimal(value, decimals.MaxFractionDigits(1)), unitWord("hours", value, lang))
	case f.Unit == UnitFlag && value == 1:
		return valueWords[lang]["yes"]
	case f.Unit == UnitFlag && value == 0:
		return valueWords[lang]["no"]
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
	p := printerOf(lang)
	defer printers[p.lang].Put(p)
	return p.Sprintf("%v %s", decimals.Decimal(minor, decimals.Scale(digits)), currency)
}

// tags are the languages, parsed once: reading a name and making a printer cost more than what is printed.
var tags = func() map[string]language.Tag {
	all := map[string]language.Tag{}
	for _, lang := range vaglio.Languages {
		all[lang] = language.Make(lang)
	}
	return all
}()

func tagOf(lang string) language.Tag {
	if tag, ok := tags[lang]; ok {
		return tag
	}
	return language.Make(lang)
}

// printer is one of printers, by language; "" is for any other one, and makes a new printer each time.
type printer struct {
	*message.Printer
	lang string
}

var printers = func() map[string]*sync.Pool {
	all := map[string]*sync.Pool{"": {}}
	for _, lang := range vaglio.Languages {
		all[lang] = &sync.Pool{New: func() any { return &printer{message.NewPrinter(tags[lang]), lang} }}
	}
	return all
}()

// printerOf is the caller's alone until he puts it back.
func printerOf(lang string) *printer {
	if pool := printers[lang]; lang != "" && pool != nil {
		return pool.Get().(*printer)
	}
	return &printer{message.NewPrinter(tagOf(lang)), ""}
}
