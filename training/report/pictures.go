package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Measures of pictures: half a page wide, or all of it.
const (
	halfWidth  = 380.0
	halfHeight = 290.0
	wideWidth  = 780.0
	rowHeight  = 17.0
	mostBars   = 20
)

// pictures draw what the input has; nil is no picture.
var pictures = []struct {
	name string
	draw func(*Input) (*picture, error)
}{
	{"roc", drawROC}, {"precision", drawPrecision}, {"calibration", drawCalibration}, {"scores", drawScores}, {"costs", drawCosts},
	{"importance", drawImportance}, {"swarm", drawSwarm}, {"drift", drawDrift},
}

// painted finishes a picture.
func painted(p *picture, width, height float64, paint func(draw.Canvas)) (*picture, error) {
	drawn, err := svg(p.Title, p.Reading, width, height, paint)
	if err != nil {
		return nil, err
	}
	p.SVG = drawn
	return p, nil
}

// curveColours are those of the model and of what it is compared with.
var (
	curveColours = []color.Color{model, other, policy, soft}
	curveNames   = []string{"model", "other", "policy", "soft"}
)

func drawROC(in *Input) (*picture, error) {
	p := &picture{Title: "ROC curve",
		Reading: "Each point is a threshold; the further the curve bends to the upper left, the more fraud is found for every honest customer held up, and " +
			"the dashed diagonal is chance."}
	return drawCurves(p, in.Curves, "Honest requests flagged (false positive rate)", "Frauds found (recall)",
		func(o Operating) Point { return Point{o.FalsePositiveRate, o.Recall} }, []Point{{0, 0}, {1, 1}}, -11)
}

func drawPrecision(in *Input) (*picture, error) {
	p := &picture{Title: "Precision and recall",
		Reading: "Going right, more of the fraud is found; going down, more of what is flagged turns out honest, and the dashed line is what flagging at " +
			"random gives."}
	frauds, rows := 0, len(in.Scores)
	for _, s := range in.Scores {
		if s.Fraud {
			frauds++
		}
	}
	chance := float64(frauds) / float64(max(1, rows))
	curves := slices.Clone(in.Curves)
	for i := range curves {
		if len(curves[i].Points) > 1 {
			curves[i].Points = curves[i].Points[1:] // the first flags nothing: a line from there would promise what no threshold gives
		}
	}
	return drawCurves(p, curves, "Frauds found (recall)", "Frauds among the flagged (precision)",
		func(o Operating) Point { return Point{o.Recall, o.Precision} }, []Point{{0, chance}, {1, chance}}, 11)
}

// drawCurves names points where there is room: above a curve or, by a length below 0, below it.
func drawCurves(p *picture, curves []Curve, x, y string, at func(Operating) Point, chance []Point, room vg.Length) (*picture, error) {
	if len(curves) == 0 {
		return nil, nil
	}
	chart := newPlot(x, y)
	shares(chart)
	chart.Add(lines(line, 1, chance, vg.Points(4), vg.Points(3)))
	written := &names{side: room}
	for i, c := range slices.Backward(curves) {
		k := min(i, len(curveColours)-1)
		if len(c.Points) > 1 {
			points := make([]Point, len(c.Points))
			for j, o := range c.Points {
				points[j] = at(o)
			}
			chart.Add(lines(curveColours[k], 1.8, points))
		}
		chart.Add(marks(curveColours[k], c.Marks, at, written))
	}
	for i, c := range curves {
		p.Legend = append(p.Legend, legend{Name: c.Name, Colour: curveNames[min(i, len(curveNames)-1)], Dot: len(c.Points) == 0})
	}
	return painted(p, halfWidth, halfHeight, chart.Draw)
}

// shares makes both axes run from 0 to 100 %.
func shares(chart *plot.Plot) {
	var ticks plot.ConstantTicks
	for i := range 6 {
		ticks = append(ticks, plot.Tick{Value: float64(i) / 5, Label: fmt.Sprintf("%d %%", 20*i)})
	}
	chart.X.Min, chart.X.Max, chart.Y.Min, chart.Y.Max = 0, 1, 0, 1
	chart.X.Tick.Marker, chart.Y.Tick.Marker = ticks, ticks
	chart.Add(grid())
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal, g.Vertical = stroke(line, 0.5), stroke(line, 0.5)
	return g
}

// lines draws a line through points.
func lines(c color.Color, width float64, points []Point, dashes ...vg.Length) drawing {
	return func(canvas draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&canvas)
		path := make([]vg.Point, 0, len(points))
		for _, at := range points {
			path = append(path, vg.Point{X: x(at.X), Y: y(at.Y)})
		}
		canvas.StrokeLines(stroke(c, width, dashes...), canvas.ClipLinesXY(path)...)
	}
}

// marks draws named operating points, each name beside its point and clear of the names before.
func marks(c color.Color, points []Operating, at func(Operating) Point, names *names) drawing {
	return func(canvas draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&canvas)
		for _, o := range points {
			place := vg.Point{X: x(at(o).X), Y: y(at(o).Y)}
			dot(canvas, c, place, 3)
			names.write(canvas, labelStyle(c, 9.5, draw.XLeft), place, o.Name)
		}
	}
}

// names are the places of a picture that have writing, and the side of a point on which there is most room: above it, or below 0.
type names struct {
	side  vg.Length
	taken []vg.Rectangle
}

// write puts a name to the right of a point, or to its left where that is nearer to the middle, a bit higher or lower if it must.
func (n *names) write(canvas draw.Canvas, style draw.TextStyle, at vg.Point, name string) {
	width, left := style.Width(name), at.X+7
	if at.X > canvas.Center().X {
		left = at.X - 7 - width
	}
	const half = 6
	free := func(r vg.Rectangle) bool {
		return r.Min.Y >= canvas.Min.Y && r.Max.Y <= canvas.Max.Y && !slices.ContainsFunc(n.taken, func(o vg.Rectangle) bool {
			return r.Min.X < o.Max.X && o.Min.X < r.Max.X && r.Min.Y < o.Max.Y && o.Min.Y < r.Max.Y
		})
	}
	for _, steps := range []vg.Length{1, 0, -1, 2, -2, 3, -3} {
		middle := at.Y + steps*n.side
		r := vg.Rectangle{Min: vg.Point{X: left, Y: middle - half}, Max: vg.Point{X: left + width, Y: middle + half}}
		if free(r) {
			n.taken = append(n.taken, r)
			canvas.FillText(style, vg.Point{X: left, Y: middle}, name)
			return
		}
	}
}

func dot(canvas draw.Canvas, c color.Color, at vg.Point, radius vg.Length) {
	canvas.DrawGlyph(draw.GlyphStyle{Color: c, Radius: radius, Shape: draw.CircleGlyph{}}, at)
}

func labelStyle(c color.Color, size float64, align text.XAlignment) draw.TextStyle {
	return draw.TextStyle{Color: c, Font: font.From(sans, vg.Points(size)), XAlign: align, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
}

// Bounds of axes of probability, which are spaced by log-odds: most requests are near 0.
const (
	leastShown = 0.0005
	mostShown  = 0.9995
)

func logOdds(p float64) float64 {
	p = min(max(p, leastShown), mostShown)
	return math.Log(p / (1 - p))
}

// probabilities shows from a bit below the lowest to a bit above the highest of some probabilities on axes.
func probabilities(in *Input, also []float64, axes ...*plot.Axis) {
	low, high := math.Inf(1), math.Inf(-1)
	see := func(p float64) { low, high = min(low, logOdds(p)), max(high, logOdds(p)) }
	for _, s := range in.Scores {
		see(s.Probability)
	}
	for _, p := range also {
		see(p)
	}
	if !(low <= high) {
		low, high = logOdds(0), logOdds(1)
	}
	marks := []float64{0.001, 0.01, 0.1, 0.5, 0.9, 0.99}
	if high-low < 7 {
		marks = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999}
	}
	var ticks plot.ConstantTicks
	for _, p := range marks {
		ticks = append(ticks, plot.Tick{Value: logOdds(p), Label: fmt.Sprintf("%g %%", 100*p)})
	}
	for _, axis := range axes {
		axis.Min, axis.Max, axis.Tick.Marker = low-0.4, high+0.4, ticks
	}
}

func drawCalibration(in *Input) (*picture, error) {
	if len(in.Calibration.Bins) == 0 {
		return nil, nil
	}
	p := &picture{Title: "Calibration",
		Reading: fmt.Sprintf("A dot on the dashed diagonal is a group of requests in which as many were fraud as the model said; dots above it mean more "+
			"fraud than said, bars are 95 %% intervals, and the grey columns count the requests. The expected calibration error is %s.",
			share(in.Calibration.Error)),
		Legend: []legend{{"groups of equally many requests", "model", true}, {"requests", "soft", false}}}
	chart := newPlot("Probability said", "Share that was fraud")
	var shown []float64
	for _, b := range in.Calibration.Bins {
		shown = append(shown, b.Probability)
		if b.Fraud > 0 {
			shown = append(shown, b.Fraud)
		}
	}
	probabilities(in, shown, &chart.X, &chart.Y)
	chart.Add(grid(), columns(softArea, 90, in.Scores, nil), lines(soft, 1, []Point{{chart.X.Min, chart.X.Min}, {chart.X.Max, chart.X.Max}},
		vg.Points(4), vg.Points(3)))
	chart.Add(drawing(func(canvas draw.Canvas, p *plot.Plot) {
		x, yAt := p.Transforms(&canvas)
		y := func(v float64) vg.Length { return yAt(min(max(v, p.Y.Min), p.Y.Max)) }
		for _, b := range in.Calibration.Bins {
			low, high := wilson(b.Fraud, b.Weight)
			at := x(logOdds(b.Probability))
			canvas.StrokeLine2(stroke(model, 0.8), at, y(logOdds(low)), at, y(logOdds(high)))
			dot(canvas, model, vg.Point{X: at, Y: y(logOdds(b.Fraud))}, 2.6)
		}
	}))
	return painted(p, halfWidth, halfHeight, chart.Draw)
}

// wilson is the score interval of a share of n (Wilson, 1927), of 95 %.
func wilson(share, n float64) (low, high float64) {
	const z = 1.959964
	centre, spread := share+z*z/(2*n), z*math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return max(0, (centre-spread)/(1+z*z/n)), min(1, (centre+spread)/(1+z*z/n))
}

// histogramColumns are those of a histogram over the x axis.
const histogramColumns = 40

// columns draws a histogram of scores at the foot of a picture, its highest column so many points high. of picks a class; nil
// takes both.
func columns(c color.Color, height float64, scores []Score, of *bool) drawing {
	return func(canvas draw.Canvas, p *plot.Plot) {
		var counts [histogramColumns]int
		for _, s := range scores {
			if of == nil || *of == s.Fraud {
				place := (logOdds(s.Probability) - p.X.Min) / (p.X.Max - p.X.Min) * histogramColumns
				counts[min(max(int(place), 0), histogramColumns-1)]++
			}
		}
		highest := max(1, slices.Max(counts[:]))
		width := (canvas.Max.X - canvas.Min.X) / histogramColumns
		for i, n := range counts {
			if n > 0 {
				left := canvas.Min.X + width*vg.Length(i)
				bar(canvas, c, left+0.5, canvas.Min.Y, left+width-0.5, canvas.Min.Y+vg.Points(height*float64(n)/float64(highest)))
			}
		}
	}
}

func bar(canvas draw.Canvas, c color.Color, left, bottom, right, top vg.Length) {
	canvas.FillPolygon(c, []vg.Point{{X: left, Y: bottom}, {X: right, Y: bottom}, {X: right, Y: top}, {X: left, Y: top}})
}

func drawScores(in *Input) (*picture, error) {
	if len(in.Scores) == 0 {
		return nil, nil
	}
	p := &picture{Title: "Scores by label",
		Reading: "The less the two shapes overlap, the better the model tells fraud from honest requests; each shape is drawn to the same height, and the " +
			"dashed lines are the thresholds.",
		Legend: []legend{{"frauds", "fraud", false}, {"honest requests", "model", false}}}
	chart := newPlot("Probability said", "Requests of the class (highest = 1)")
	var thresholds []float64
	for _, m := range in.Thresholds {
		thresholds = append(thresholds, m.X)
	}
	probabilities(in, thresholds, &chart.X)
	chart.Y.Min, chart.Y.Max = 0, 1.08
	chart.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0"}, {Value: 0.5, Label: "0.5"}, {Value: 1, Label: "1"}}
	yes, no := true, false
	chart.Add(grid(), shape(modelArea, in.Scores, no), shape(fraudArea, in.Scores, yes))
	for _, m := range in.Thresholds {
		chart.Add(lines(ink, 0.9, []Point{{logOdds(m.X), 0}, {logOdds(m.X), 1.08}}, vg.Points(3), vg.Points(3)))
	}
	return painted(p, halfWidth, halfHeight, chart.Draw)
}

// shape is a class's histogram, its highest column 1.
func shape(c color.Color, scores []Score, of bool) drawing {
	return func(canvas draw.Canvas, p *plot.Plot) {
		_, y := p.Transforms(&canvas)
		columns(c, float64((y(1)-y(0)).Points()), scores, &of)(canvas, p)
	}
}

func drawCosts(in *Input) (*picture, error) {
	if in.Costs == nil || len(in.Costs.Curves) == 0 {
		return nil, nil
	}
	p := &picture{Title: "Expected cost against the threshold", Reading: in.Costs.Reading, Wide: true}
	chart := newPlot(in.Costs.X, in.Costs.Y)
	chart.Add(grid())
	low, high := math.Inf(1), math.Inf(-1)
	for i, c := range in.Costs.Curves {
		k := min(i, len(curveColours)-1)
		chart.Add(lines(curveColours[k], 1.8, c.Points))
		p.Legend = append(p.Legend, legend{Name: c.Name, Colour: curveNames[k]})
		for _, at := range c.Points {
			chart.X.Min, chart.X.Max = min(chart.X.Min, at.X), max(chart.X.Max, at.X)
			low, high = min(low, at.Y), max(high, at.Y)
		}
	}
	if !(low < high) {
		low, high = low-1, high+1
	}
	chart.Y.Min, chart.Y.Max = min(low, 0), high+(high-low)*0.15
	for i, m := range in.Costs.Marks {
		chart.Add(lines(ink, 0.9, []Point{{m.X, chart.Y.Min}, {m.X, chart.Y.Max}}, vg.Points(3), vg.Points(3)))
		chart.Add(drawing(func(canvas draw.Canvas, p *plot.Plot) {
			x, _ := p.Transforms(&canvas)
			align, shift := draw.XLeft, vg.Length(5)
			if x(m.X) > canvas.Center().X {
				align, shift = draw.XRight, -5
			}
			canvas.FillText(labelStyle(ink, 9.5, align), vg.Point{X: x(m.X) + shift, Y: canvas.Max.Y - vg.Points(8+13*float64(i))}, m.Name)
		}))
	}
	chart.X.Tick.Marker, chart.Y.Tick.Marker = roundTicks{}, roundTicks{}
	return painted(p, wideWidth, 300, chart.Draw)
}

// roundTicks are the multiples of a round step, 0 among them.
type roundTicks struct{ share bool }

// Ticks implements plot.Ticker.
func (r roundTicks) Ticks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, m := range []float64{0.1, 0.2, 0.25, 0.5, 1} {
		if (high-low)/(m*step) <= 6 {
			step *= m
			break
		}
	}
	var ticks []plot.Tick
	for k := math.Ceil(low / step); k*step <= high*(1+1e-9); k++ {
		label := strconv.FormatFloat(k*step, 'g', 4, 64)
		switch {
		case r.share:
			label = strconv.FormatFloat(100*k*step, 'g', 4, 64) + " %"
		case math.Abs(k*step) >= 1000:
			label = grouped(strconv.FormatFloat(k*step, 'f', 0, 64))
		}
		ticks = append(ticks, plot.Tick{Value: k * step, Label: strings.Replace(label, "-", "−", 1)})
	}
	return ticks
}
