package report

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"image/color"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours of pictures: each stands for a variable of the page's style, which light and dark set.
var (
	ink    = color.NRGBA{1, 1, 1, 255}
	soft   = color.NRGBA{2, 2, 2, 255}
	line   = color.NRGBA{3, 3, 3, 255}
	model  = color.NRGBA{4, 4, 4, 255}
	fraud  = color.NRGBA{5, 5, 5, 255}
	other  = color.NRGBA{6, 6, 6, 255}
	policy = color.NRGBA{7, 7, 7, 255}
	// For areas that others shine through.
	softArea  = color.NRGBA{8, 8, 8, 255}
	modelArea = color.NRGBA{9, 9, 9, 255}
	fraudArea = color.NRGBA{10, 10, 10, 255}
)

var variables = strings.NewReplacer("#010101", "var(--ink)", "#020202", "var(--soft)", "#030303", "var(--line)", "#040404", "var(--model)",
	"#050505", "var(--fraud)", "#060606", "var(--other)", "#070707", "var(--policy)",
	"#080808", "var(--soft-area)", "#090909", "var(--model-area)", "#0A0A0A", "var(--fraud-area)")

// picture is a drawing with the sentence that says how to read it.
type picture struct {
	Title, Reading string
	Legend         []legend
	Wide           bool
	Swarm          bool
	SVG            template.HTML
}

// legend names a colour of the style.
type legend struct {
	Name, Colour string
	Dot          bool
}

// drawing is a plotter made of a function.
type drawing func(draw.Canvas, *plot.Plot)

// Plot implements plot.Plotter.
func (d drawing) Plot(c draw.Canvas, p *plot.Plot) { d(c, p) }

// sans has the widths of Arial and Helvetica, which the page asks browsers for.
var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

func newPlot(x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for axis, label := range map[*plot.Axis]string{&p.X: x, &p.Y: y} {
		axis.Label.Text = label
		axis.Label.TextStyle.Font, axis.Label.TextStyle.Color = font.From(sans, 10.5), ink
		axis.Label.Padding = vg.Points(3)
		axis.Tick.Label.Font, axis.Tick.Label.Color = font.From(sans, 10), soft
		axis.Tick.Length, axis.Tick.Color, axis.Color = vg.Points(3), line, line
		axis.Padding = 0
	}
	p.Legend.TextStyle.Font, p.Legend.TextStyle.Color = font.From(sans, 10), ink
	p.Legend.ThumbnailWidth, p.Legend.Padding = vg.Points(16), vg.Points(2)
	return p
}

func stroke(c color.Color, width float64, dashes ...vg.Length) draw.LineStyle {
	return draw.LineStyle{Color: c, Width: vg.Points(width), Dashes: dashes}
}

// svg draws on a canvas of points, which the page shows at about a pixel each.
func svg(title, reading string, width, height float64, paint func(draw.Canvas)) (template.HTML, error) {
	canvas := vgsvg.New(vg.Points(width), vg.Points(height))
	paint(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	_, body, found := strings.Cut(out.String(), `xmlns:xlink="http://www.w3.org/1999/xlink">`)
	if !found {
		return "", fmt.Errorf("gonum/plot wrote another SVG than expected: %.120s", out.String())
	}
	body = variables.Replace(fonts.ReplaceAllString(body, ""))
	head := fmt.Sprintf(`<svg class="plot" viewBox="0 0 %g %g" role="img" aria-label="%s"><title>%s</title><desc>%s</desc>`,
		width, height, html.EscapeString(title), html.EscapeString(title), html.EscapeString(reading))
	return template.HTML(head + strings.TrimSpace(body)), nil //nolint:gosec // made by us; texts in it are escaped
}

// fonts are left to the page's style.
var fonts = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*;?`)
