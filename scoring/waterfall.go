package scoring

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	decimals "golang.org/x/text/number"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
)

// Waterfall is an explanation as a picture: from the base, a bar for each of the strongest features, the strongest first,
// down to the log-odds. Every bar begins where the one before ends.
type Waterfall struct {
	Lang    string
	Title   string
	Summary string // the verdict with its probability and risk score
	Base    float64
	LogOdds float64
	Bars    []Bar
}

// Bar is what one feature, or all the others together, contributed, in log-odds.
type Bar struct {
	Label, Value string
	From, To     float64
}

// Contribution is the bar's length: above 0 it raises the risk.
func (b Bar) Contribution() float64 { return b.To - b.From }

// Waterfall draws up to most features and adds the others up in one bar. The model, which may be nil, lends its catalogue
// to write values with their units. It is false where no model explained the decision.
func (x *ReviewerExplanation) Waterfall(model *models.Bundle, lang string, most int) (Waterfall, bool) {
	if x.Base == nil || x.LogOdds == nil {
		return Waterfall{}, false
	}
	if waterfallTexts[lang] == nil {
		lang = vaglio.Languages[0]
	}
	words := waterfallTexts[lang]
	w := Waterfall{Lang: lang, Base: *x.Base, LogOdds: *x.LogOdds, Title: fmt.Sprintf(words["title"], x.RequestID)}
	if x.FraudProbability != nil && x.RiskScore != nil {
		p := message.NewPrinter(language.Make(lang))
		w.Summary = p.Sprintf("%s · %s %v · %s %v", words[string(x.Verdict)], words["probability"],
			decimals.Percent(*x.FraudProbability, decimals.MaxFractionDigits(1)), words["score"], decimals.Decimal(*x.RiskScore, decimals.MaxFractionDigits(0)))
	}
	sorted := slices.Clone(x.Features)
	slices.SortStableFunc(sorted, func(a, b FeatureInput) int { return cmp.Compare(math.Abs(b.Contribution), math.Abs(a.Contribution)) })
	at := w.Base
	for i, f := range sorted {
		if i == most && i < len(sorted)-1 {
			w.Bars = append(w.Bars, Bar{fmt.Sprintf(words["others"], len(sorted)-i), "", at, w.LogOdds})
			break
		}
		w.Bars = append(w.Bars, Bar{f.Name, x.shown(model, f, lang), at, at + f.Contribution})
		at += f.Contribution
	}
	return w, true
}

func (x *ReviewerExplanation) shown(model *models.Bundle, f FeatureInput, lang string) string {
	if model != nil {
		if i := slices.Index(model.Catalogue().Names(), f.Name); i >= 0 {
			return model.Catalogue().Shown(i, float64(f.Value), lang, model.Manifest().BaseCurrency, x.currency)
		}
	}
	plain := features.Feature{Unit: features.UnitNumber}
	return plain.Format(float64(f.Value), lang, "")
}

// Begin and End name the first and the last line of the picture.
func (w *Waterfall) Begin() string { return waterfallTexts[w.Lang]["base"] }

// End is the last line's name.
func (w *Waterfall) End() string { return waterfallTexts[w.Lang]["log-odds"] }

// Signed writes a number of log-odds with its sign.
func (w *Waterfall) Signed(v float64) string {
	p := message.NewPrinter(language.Make(w.Lang))
	text := p.Sprint(decimals.Decimal(math.Abs(v), decimals.Scale(2)))
	switch rounded := math.Round(v * 100); {
	case rounded > 0:
		return "+" + text
	case rounded < 0:
		return "−" + text
	default:
		return text
	}
}

var waterfallTexts = map[string]map[string]string{
	"en": {"title": "Request %s", "approve": "approve", "review": "review", "deny": "deny", "probability": "probability of fraud", "score": "risk score",
		"others": "%d other features", "base": "Base: the mean of training", "log-odds": "Log-odds of fraud",
		"raises": "raises the risk", "lowers": "lowers the risk"},
	"it": {"title": "Richiesta %s", "approve": "approvare", "review": "rivedere", "deny": "negare", "probability": "probabilità di frode",
		"score": "punteggio di rischio", "others": "%d altre variabili", "base": "Base: la media dell'addestramento", "log-odds": "Log-odds di frode",
		"raises": "aumenta il rischio", "lowers": "riduce il rischio"},
}

// Extent is the smallest range of log-odds that holds the whole picture; it is never empty.
func (w *Waterfall) Extent() (low, high float64) {
	low, high = min(w.Base, w.LogOdds), max(w.Base, w.LogOdds)
	for _, b := range w.Bars {
		low, high = min(low, b.To), max(high, b.To)
	}
	if high-low < 0.1 {
		low, high = low-0.05, high+0.05
	}
	return low, high
}

// Measures of the picture in pixels.
const (
	svgWidth   = 960
	svgLabels  = 392 // where the bars begin
	svgNumbers = 68  // right of the bars
	svgTop     = 92
	svgRow     = 30
)

const svgStyle = `<style>
.w{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;
--ink:#1f2933;--soft:#66727f;--line:#dfe4ea;--up:#c2402d;--down:#1d7f74;--back:#fff}
@media (prefers-color-scheme:dark){.w{--ink:#e8ecf0;--soft:#9aa7b4;--line:#36414d;--up:#ec7a66;--down:#4cb8a9;--back:#161b22}}
.w text{fill:var(--ink)}.w .t{font-size:17px;font-weight:600}.w .s{fill:var(--soft)}.w .n{font-variant-numeric:tabular-nums}
.w .e{font-weight:600}.w .g{stroke:var(--line)}.w .c{stroke:var(--soft);stroke-dasharray:2 3}.w .u{fill:var(--up)}.w .d{fill:var(--down)}.w .b{fill:var(--back)}
</style>
`

// SVG writes the picture as a document of its own, for pages and reports, in light and dark.
func (w *Waterfall) SVG(out io.Writer) error {
	var b strings.Builder
	low, high := w.Extent()
	step := tick(high - low)
	low, high = math.Floor(low/step)*step, math.Ceil(high/step)*step
	x := func(v float64) float64 {
		return svgLabels + (v-low)/(high-low)*(svgWidth-svgLabels-svgNumbers)
	}
	bottom := svgTop + svgRow*(len(w.Bars)+2)
	words := waterfallTexts[w.Lang]
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" class="w" viewBox="0 0 %d %d" width="%d" height="%d" role="img" lang="%s">`+"\n",
		svgWidth, bottom+34, svgWidth, bottom+34, w.Lang)
	fmt.Fprintf(&b, "<title>%s: %s</title>\n%s", html.EscapeString(w.Title), html.EscapeString(w.Summary), svgStyle)
	fmt.Fprintf(&b, `<rect class="b" width="%d" height="%d"/>`+"\n", svgWidth, bottom+34)
	text := func(x, y float64, class, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(s))
	}
	text(16, 32, "t", "start", shortened(w.Title, 70))
	text(16, 56, "s", "start", w.Summary)
	for i, key := range []string{"lowers", "raises"} {
		at := float64(svgWidth - svgNumbers - 150)
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%d" width="10" height="10" rx="2"/>`+"\n", []string{"d", "u"}[i], at, 23+24*i)
		text(at+16, float64(32+24*i), "s", "start", words[key])
	}
	for k := 0; ; k++ {
		v := low + float64(k)*step
		if v > high+step/2 {
			break
		}
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x(v), x(v), svgTop-8, bottom)
		text(x(v), float64(bottom)+18, "s n", "middle", w.Signed(v))
	}
	row := func(i int) float64 { return float64(svgTop + svgRow*i) }
	mark := func(i int, label string, v float64) {
		text(16, row(i)+18, "e", "start", label)
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="var(--ink)"/>`+"\n", x(v), row(i)+14)
		text(svgWidth-16, row(i)+18, "e n", "end", w.Signed(v))
	}
	mark(0, w.Begin(), w.Base)
	for i, bar := range w.Bars {
		y := row(i + 1)
		fmt.Fprintf(&b, `<line class="c" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", x(bar.From), x(bar.From), y-6, y+5)
		class := "d"
		if bar.Contribution() > 0 {
			class = "u"
		}
		left, width := min(x(bar.From), x(bar.To)), max(1.5, math.Abs(x(bar.To)-x(bar.From)))
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="18" rx="2.5"/>`+"\n", class, left, y+5, width)
		text(16, y+18, "", "start", shortened(bar.Label, 38))
		text(svgLabels-14, y+18, "s n", "end", shortened(bar.Value, 16))
		text(svgWidth-16, y+18, "n", "end", w.Signed(bar.Contribution()))
	}
	last := len(w.Bars) + 1
	fmt.Fprintf(&b, `<line class="c" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", x(w.LogOdds), x(w.LogOdds), row(last)-6, row(last)+8)
	mark(last, w.End(), w.LogOdds)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// tick is a round distance that divides a range into 4 to 10 parts.
func tick(extent float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(extent)))
	for _, m := range []float64{0.1, 0.2, 0.25, 0.5, 1} {
		if extent/(m*power) <= 8 {
			return m * power
		}
	}
	return 2 * power
}

func shortened(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}
