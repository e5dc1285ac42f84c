package report

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

func drawImportance(in *Input) (*picture, error) {
	shown := in.Features[:min(len(in.Features), mostBars)]
	if len(shown) == 0 {
		return nil, nil
	}
	p := &picture{Title: "Importance of features", Wide: true,
		Reading: "The longer the bar, the more the feature moves scores on average (left), the more it reduced the training's error (middle), and the more " +
			"often trees ask for it (right).",
		Legend: []legend{{"made of what happened", "model", false}, {"recycles past policy: made of denials or labels", "policy", false}}}
	names, colours := make([]string, len(shown)), make([]color.Color, len(shown))
	panels := [3][]float64{}
	gain := 0.0
	for _, f := range in.Features {
		gain += f.Gain
	}
	for i, f := range shown {
		names[i], colours[i] = f.Name, model
		if f.RecyclesPolicy {
			colours[i] = policy
		}
		panels[0], panels[1], panels[2] = append(panels[0], f.Contribution), append(panels[1], f.Gain/max(gain, math.SmallestNonzeroFloat64)),
			append(panels[2], float64(f.Splits))
	}
	const first = 0.52 * wideWidth
	const each = (wideWidth - first) / 2
	return painted(p, wideWidth, barsHeight(len(shown)), func(c draw.Canvas) {
		barPanel("Mean |contribution| (log-odds)", names, panels[0], colours, number).Draw(draw.Crop(c, 0, first-wideWidth, 0, 0))
		gains := barPanel("Share of the gain", nil, panels[1], colours, share)
		gains.X.Tick.Marker = roundTicks{share: true}
		gains.Draw(draw.Crop(c, first+8, -each, 0, 0))
		barPanel("Splits", nil, panels[2], colours, func(v float64) string { return count(int(v)) }).Draw(draw.Crop(c, first+each+8, 0, 0, 0))
	})
}

func barsHeight(rows int) float64 { return rowHeight*float64(rows) + 52 }

// barPanel lies bars on their side, the first on top; without names there is no y axis.
func barPanel(x string, names []string, values []float64, colours []color.Color, write func(float64) string) *plot.Plot {
	chart := newPlot(x, "")
	top := 0.0
	for _, v := range values {
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			top = max(top, v)
		}
	}
	chart.X.Min, chart.X.Max = 0, max(top, 1e-9)*1.28
	rows(chart, names, len(values))
	g := grid()
	g.Horizontal.Width = 0
	chart.Add(g, drawing(func(canvas draw.Canvas, p *plot.Plot) {
		xAt, yAt := p.Transforms(&canvas)
		for i, v := range values {
			middle := yAt(-float64(i))
			if math.IsNaN(v) {
				canvas.FillText(labelStyle(soft, 9, draw.XLeft), vg.Point{X: xAt(0) + 4, Y: middle}, missing)
				continue
			}
			end := xAt(min(v, chart.X.Max))
			bar(canvas, colours[i], xAt(0), middle-5, end, middle+5)
			canvas.FillText(labelStyle(soft, 9, draw.XLeft), vg.Point{X: end + 4, Y: middle}, write(v))
		}
	}))
	chart.X.Tick.Marker = roundTicks{}
	return chart
}

// rows names n rows on the y axis, from 0 downwards.
func rows(chart *plot.Plot, names []string, n int) {
	chart.Y.Min, chart.Y.Max = -float64(n)+0.4, 0.6
	chart.Y.Width = 0
	ticks := plot.ConstantTicks{}
	for i, name := range names {
		ticks = append(ticks, plot.Tick{Value: -float64(i), Label: name})
	}
	chart.Y.Tick.Marker, chart.Y.Tick.Length = ticks, 0
	chart.Y.Tick.Label.Color = ink
	if names == nil {
		chart.HideY()
	}
}

func drawDrift(in *Input) (*picture, error) {
	known := slices.DeleteFunc(slices.Clone(in.Drift), func(d Drift) bool { return math.IsNaN(d.PSI) })
	shown := known[:min(len(known), mostBars)]
	if len(shown) == 0 {
		return nil, nil
	}
	p := &picture{Title: "Drift between training and test", Wide: true,
		Reading: "The population stability index says how far a feature's distribution moved: below 0.1 hardly, from 0.1 worth a look, from 0.25 (red) " +
			"enough to doubt what was learnt of it.",
		Legend: []legend{{"below 0.1", "model", false}, {"0.1 to 0.25", "policy", false}, {"from 0.25", "fraud", false}}}
	names, values, colours := make([]string, len(shown)), make([]float64, len(shown)), make([]color.Color, len(shown))
	for i, d := range shown {
		names[i], values[i], colours[i] = d.Feature, d.PSI, driftColour(d.PSI)
	}
	return painted(p, wideWidth, barsHeight(len(shown)), barPanel("Population stability index", names, values, colours, number).Draw)
}

func driftColour(psi float64) color.Color {
	switch {
	case psi < 0.1:
		return model
	case psi < 0.25:
		return policy
	default:
		return fraud
	}
}
