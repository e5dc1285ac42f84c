package features_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	decimals "golang.org/x/text/number"

	"vaglio"
	"vaglio/features"
)

// The expected texts are those of golang.org/x/text, which reads CLDR.
func TestNumbersAreWrittenAsCLDRSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	values := []float64{0, math.Copysign(0, -1), 0.04, 0.05, 0.15, 0.25, 0.5, 0.949, 0.95, 0.994, 0.995, 0.005, 0.015, 0.025, 0.999, 1, 1.5, 2.5, 9.95, 12,
		99.95, 100, 999.94, 999.95, 1000, 99999, 999999.96, 1e6, 1234567.891, 1e15, 1 << 53, 1e21, 1e30, math.MaxFloat64, 5e-324, math.Inf(1)}
	for range 1_000 {
		values = append(values, math.Exp(random.Float64()*60-20), float64(random.IntN(100_000)), float64(random.IntN(100_000))/100)
	}
	for _, lang := range vaglio.Languages {
		p := message.NewPrinter(language.Make(lang))
		for _, v := range values {
			for _, v := range []float64{v, -v} {
				check := func(unit features.Unit, currency, want string) {
					t.Helper()
					f := features.Feature{Unit: unit}
					if got := f.Format(v, lang, currency); got != want {
						t.Errorf("%v %s in %s: %q, want %q", v, unit, lang, got, want)
					}
				}
				check(features.UnitNumber, "", p.Sprint(decimals.Decimal(v, decimals.MaxFractionDigits(1))))
				check(features.UnitShare, "", p.Sprint(decimals.Percent(v, decimals.MaxFractionDigits(0))))
				check(features.UnitMoney, "EUR", p.Sprintf("%v EUR", decimals.Decimal(v/10/10, decimals.Scale(2))))
				check(features.UnitMoney, "JPY", p.Sprintf("%v JPY", decimals.Decimal(v, decimals.Scale(0))))
				check(features.UnitMoney, "KWD", p.Sprintf("%v KWD", decimals.Decimal(v/10/10/10, decimals.Scale(3))))
				if days := math.Round(v / 24); v > 48 {
					word := map[string]string{"en": "days", "it": "giorni"}[lang]
					check(features.UnitHours, "", p.Sprintf("%v %s", decimals.Decimal(days), word))
				}
			}
		}
	}
}
