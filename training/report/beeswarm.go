package report

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// What a beeswarm shows at most.
const (
	swarmRows     = 1500
	swarmFeatures = 15
	swarmShades   = 12
	swarmHeight   = 26.0 // of a feature's row
	swarmDot      = 2.2
)

func drawSwarm(in *Input) (*picture, error) {
	s := in.Swarm
	if s == nil || len(s.Contributions) == 0 {
		return nil, nil
	}
	for i := range s.Contributions {
		if len(s.Contributions[i]) != len(s.Features) || len(s.Values) != len(s.Contributions) || len(s.Values[i]) != len(s.Features) {
			return nil, fmt.Errorf("row %d: %d contributions and %d rows of values for %d features", i, len(s.Contributions[i]), len(s.Values), len(s.Features))
		}
	}
	features := s.strongest()
	p := &picture{Title: "Contributions, request by request", Wide: true, Swarm: true,
		Reading: "Each dot is one request: right of the middle the feature raised its risk, left it lowered it; red dots had a high value of the feature, " +
			"blue ones a low value, grey ones none or a category."}
	names := make([]string, len(features))
	reach := 0.1
	for k, f := range features {
		names[k] = s.Features[f]
		for i := range s.rows() {
			reach = max(reach, math.Abs(s.Contributions[i][f]))
		}
	}
	chart := newPlot("Contribution to the log-odds of fraud", "")
	chart.X.Min, chart.X.Max = -reach*1.03, reach*1.03
	if low := s.lowest(features); -low < reach/2 {
		chart.X.Min = low*1.1 - reach*0.05
	}
	if high := s.highest(features); high < reach/2 {
		chart.X.Max = high*1.1 + reach*0.05
	}
	rows(chart, names, len(names))
	chart.X.Tick.Marker = roundTicks{}
	g := grid()
	g.Horizontal.Width = 0
	chart.Add(g, lines(soft, 0.8, []Point{{0, chart.Y.Min}, {0, chart.Y.Max}}), drawing(func(canvas draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&canvas)
		paths := make([]vg.Path, swarmShades+1)
		for k, f := range features {
			s.swarm(f, x, y(-float64(k)), paths)
		}
		canvas.SetLineWidth(swarmDot)
		for shade, path := range paths {
			if len(path) > 0 {
				canvas.SetColor(shadeColour(shade))
				canvas.Stroke(path) // points of no length, which the page's style ends in circles
			}
		}
	}))
	return painted(p, wideWidth, swarmHeight*float64(len(names))+48, chart.Draw)
}

func (s *Swarm) rows() int { return min(len(s.Contributions), swarmRows) }

// strongest are the features of largest mean |contribution|.
func (s *Swarm) strongest() []int {
	strength, order := make([]float64, len(s.Features)), make([]int, len(s.Features))
	for f := range order {
		order[f] = f
		for i := range s.rows() {
			strength[f] += math.Abs(s.Contributions[i][f])
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(strength[b], strength[a]) })
	return order[:min(len(order), swarmFeatures)]
}

func (s *Swarm) lowest(features []int) float64  { return -s.extreme(features, -1) }
func (s *Swarm) highest(features []int) float64 { return s.extreme(features, 1) }

func (s *Swarm) extreme(features []int, sign float64) float64 {
	most := 0.0
	for _, f := range features {
		for i := range s.rows() {
			most = max(most, sign*s.Contributions[i][f])
		}
	}
	return most
}

// swarm places the dots of a feature: those that would lie upon one another pile up, to both sides by turns.
func (s *Swarm) swarm(feature int, x func(float64) vg.Length, middle vg.Length, paths []vg.Path) {
	shades := s.shades(feature)
	const bin = swarmDot * 0.8
	piles := map[int]int{}
	highest := 0
	for i := range s.rows() {
		at := int(math.Floor(x(s.Contributions[i][feature]).Points() / bin))
		piles[at]++
		highest = max(highest, piles[at])
	}
	spread := min(swarmDot*0.85, (swarmHeight-4)/float64(max(1, highest)))
	clear(piles)
	for i := range s.rows() {
		at := int(math.Floor(x(s.Contributions[i][feature]).Points() / bin))
		step := (piles[at] + 1) / 2
		if piles[at]%2 == 1 {
			step = -step
		}
		piles[at]++
		place := vg.Point{X: vg.Points((float64(at) + 0.5) * bin), Y: middle + vg.Points(float64(step)*spread)}
		path := &paths[shades[i]]
		path.Move(place)
		path.Line(place)
	}
}

// shades are by rank among the values that are known: 1 is the lowest, swarmShades the highest, 0 missing or a category.
func (s *Swarm) shades(feature int) []int {
	shades := make([]int, s.rows())
	if s.Categorical[feature] {
		return shades
	}
	var values []float64
	for i := range shades {
		if v := s.Values[i][feature]; !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	for i := range shades {
		if v := s.Values[i][feature]; !math.IsNaN(v) {
			below, _ := slices.BinarySearch(values, v)
			above, _ := slices.BinarySearchFunc(values, v, func(a, b float64) int {
				if a <= b {
					return -1
				}
				return 1
			})
			shades[i] = 1 + min(swarmShades-1, (below+above)*swarmShades/(2*len(values)))
		}
	}
	return shades
}

// shadeColour runs from blue over violet to red, which all are seen on white and on black.
func shadeColour(shade int) color.Color {
	if shade == 0 {
		return color.NRGBA{0x9a, 0xa1, 0xa9, 255}
	}
	low, mid, high := [3]float64{0x1e, 0x88, 0xe5}, [3]float64{0x9c, 0x3f, 0xc4}, [3]float64{0xf0, 0x2d, 0x4f}
	at := float64(shade-1) / (swarmShades - 1)
	from, to := low, mid
	if at > 0.5 {
		from, to, at = mid, high, at-0.5
	}
	mix := func(i int) uint8 { return uint8(math.Round(from[i] + 2*at*(to[i]-from[i]))) }
	return color.NRGBA{mix(0), mix(1), mix(2), 255}
}
