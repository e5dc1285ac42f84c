package features

import (
	"cmp"
	"math"
	"strconv"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"

	"vaglio"
)

// writing is how a language writes numbers, as CLDR has it: digits in threes.
type writing struct {
	tag          language.Tag
	group, point byte
}

// writings are those of [vaglio.Languages].
var writings = map[string]writing{"en": {language.English, ',', '.'}, "it": {language.Italian, '.', ','}}

// valueWords are those of values, by language. Those of units are by plural form, with "other" for the rest.
var valueWords = map[string]map[string]string{
	"en": {"missing": "none", "hours other": "h", "days one": "day", "days other": "days", "yes": "yes", "no": "no"},
	"it": {"missing": "nessuno", "hours one": "ora", "hours other": "ore", "days one": "giorno", "days other": "giorni", "yes": "sì", "no": "no"},
}

func unitWord(unit string, value float64, lang string) string {
	return cmp.Or(valueWords[lang][unit+" "+pluralForm(value, lang)], valueWords[lang][unit+" other"])
}

var pluralForms = map[plural.Form]string{plural.Zero: "zero", plural.One: "one", plural.Two: "two", plural.Few: "few", plural.Many: "many",
	plural.Other: "other"}

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

func tagOf(lang string) language.Tag {
	if w, ok := writings[lang]; ok {
		return w.tag
	}
	return language.Make(lang)
}

// Format writes a value for people: hours above 48 as days, shares as per cent, money with its currency, "none" for a
// missing one. An unknown language falls back to the first.
func (f *Feature) Format(value float64, lang, currency string) string {
	return string(f.appendFormat(nil, value, lang, currency))
}

func (f *Feature) appendFormat(b []byte, value float64, lang, currency string) []byte {
	if valueWords[lang] == nil {
		lang = vaglio.Languages[0]
	}
	if f.Categorical {
		return append(b, cmp.Or(f.Category(value), valueWords[lang]["missing"])...)
	}
	switch {
	case value != value:
		return append(b, valueWords[lang]["missing"]...)
	case f.Unit == UnitMoney:
		return appendMoney(b, value, currency, lang)
	case f.Unit == UnitShare:
		return append(appendDecimal(b, value, 2, 0, 0, lang), '%')
	case f.Unit == UnitHours && value > 48:
		days := math.Round(value / 24)
		return append(append(appendDecimal(b, days, 0, 0, 0, lang), ' '), unitWord("days", days, lang)...)
	case f.Unit == UnitHours:
		return append(append(appendDecimal(b, value, 0, 0, 1, lang), ' '), unitWord("hours", value, lang)...)
	case f.Unit == UnitFlag && value == 1:
		return append(b, valueWords[lang]["yes"]...)
	case f.Unit == UnitFlag && value == 0:
		return append(b, valueWords[lang]["no"]...)
	default:
		return appendDecimal(b, value, 0, 0, 1, lang)
	}
}

// FormatMoney writes an amount in minor units with its currency. An unknown language falls back to the first.
func FormatMoney(minor float64, currency, lang string) string {
	return string(appendMoney(nil, minor, currency, lang))
}

func appendMoney(b []byte, minor float64, currency, lang string) []byte {
	digits, _ := vaglio.CurrencyDigits(currency)
	for range digits {
		minor /= 10
	}
	return append(append(appendDecimal(b, minor, 0, digits, digits, lang), ' '), currency...)
}

// appendDecimal writes value·10^shift with least to most decimals, rounded half to even.
func appendDecimal(b []byte, value float64, shift, least, most int, lang string) []byte {
	w, ok := writings[lang]
	if !ok {
		w = writings[vaglio.Languages[0]]
	}
	if value < 0 {
		b = append(b, '-')
	}
	value = math.Abs(value) // of -0 too
	if math.IsInf(value, 0) {
		return append(b, "∞"...)
	}
	var room [400]byte // what the largest number takes
	digits := strconv.AppendFloat(room[:0], value, 'f', shift+most, 64)
	if shift+most > 0 { // without the point
		point := len(digits) - shift - most - 1
		digits = append(digits[:point], digits[point+1:]...)
	}
	whole, decimals := digits[:len(digits)-most], digits[len(digits)-most:]
	for len(whole) > 1 && whole[0] == '0' {
		whole = whole[1:]
	}
	for len(decimals) > least && decimals[len(decimals)-1] == '0' {
		decimals = decimals[:len(decimals)-1]
	}
	for i, digit := range whole {
		if left := len(whole) - i; i > 0 && left%3 == 0 {
			b = append(b, w.group)
		}
		b = append(b, digit)
	}
	if len(decimals) > 0 {
		b = append(append(b, w.point), decimals...)
	}
	return b
}
