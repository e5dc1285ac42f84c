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
	"unicode"
	"unicode/utf8"

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

// choice is one case; its text is what stands before, between and behind the values.
type choice struct {
	when string
	text []string
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

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
				k := choice{strings.TrimSpace(when), strings.Split(strings.TrimSpace(then), "#")}
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
	var room, valueRoom [256]byte
	text := room[:0]
	for i := range t {
		p := &t[i]
		if p.feature < 0 {
			text = append(text, p.text...)
			continue
		}
		f, value := &c.features[p.feature], vector[p.feature]
		shown := f.appendFormat(valueRoom[:0], value, lang, c.currencyOf(p.feature, baseCurrency, requestCurrency))
		parts := []string{"", ""} // of no case
		if k := slices.IndexFunc(p.cases, func(k choice) bool { return f.fits(k.when, value, lang) }); k >= 0 {
			parts = p.cases[k].text
		}
		for j, part := range parts {
			if j > 0 {
				text = append(text, shown...)
			}
			text = append(text, part...)
		}
	}
	return string(singleSpaced(text))
}

// singleSpaced trims a text and makes all white space in it single spaces, in place.
func singleSpaced(text []byte) []byte {
	out, gap := text[:0], false
	for len(text) > 0 {
		size := 0
		for size < len(text) && ' ' < text[size] && text[size] < utf8.RuneSelf {
			size++
		}
		if size == 0 {
			var r rune
			if r, size = utf8.DecodeRune(text); unicode.IsSpace(r) {
				gap, text = len(out) > 0, text[size:]
				continue
			}
		}
		if gap {
			out, gap = append(out, ' '), false
		}
		out, text = append(out, text[:size]...), text[size:]
	}
	return out
}

func (f *Feature) known(value float64) bool {
	if f.Categorical {
		return f.Category(value) != ""
	}
	return !math.IsNaN(value)
}

// fits tells whether a case is that of a value.
func (f *Feature) fits(when string, value float64, lang string) bool {
	switch {
	case !f.known(value):
		return when == "missing"
	case when == "other":
		return true
	case f.Categorical:
		return when == f.Category(value)
	case f.Unit == UnitFlag:
		return when == "yes" && value == 1 || when == "no" && value != 1
	case when[0] == '=':
		var digits [24]byte
		return string(strconv.AppendFloat(digits[:0], value, 'f', -1, 64)) == when[1:]
	default:
		return when == pluralForm(value, lang)
	}
}

func (c *Catalogue) checkTexts(code string, texts Texts) error {
	for _, lang := range slices.Sorted(maps.Keys(texts.Reviewer)) {
		t, err := c.parseTemplate(texts.Reviewer[lang])
		if err != nil {
			return fmt.Errorf("reason %s: the %s text %w", code, lang, err)
		}
		if c.templates == nil {
			c.templates = map[string]map[string]template{}
			c.findLonger()
		}
		if c.templates[code] == nil {
			c.templates[code] = map[string]template{}
		}
		c.templates[code][lang] = t
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
	t := c.templates[code][lang]
	if t == nil {
		lang = vaglio.Languages[0]
		if t = c.templates[code][lang]; t == nil {
			return code
		}
	}
	return t.write(c, lang, vector, baseCurrency, requestCurrency)
}

// Shown is a feature's value as people read it, money in the currency that the feature is in: that of the base, or of the
// request for features of entity payment.
func (c *Catalogue) Shown(feature int, value float64, lang, baseCurrency, requestCurrency string) string {
	return c.features[feature].Format(value, lang, c.currencyOf(feature, baseCurrency, requestCurrency))
}

func (c *Catalogue) currencyOf(feature int, base, request string) string {
	if c.source.Features[feature].own {
		return request
	}
	return base
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
