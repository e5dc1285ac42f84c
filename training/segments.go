package training

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"vaglio"
)

// Segment is how a model does on a part of the requests. Too few of a class, and TooFew says so instead of numbers.
type Segment struct {
	By               string              `json:"by"` // channel, country, amount, customer, rail, type, reason
	Value            string              `json:"value"`
	Rows             int                 `json:"rows"`
	Frauds           int                 `json:"frauds"`
	ROCAUC           *float64            `json:"roc_auc"`
	AveragePrecision *float64            `json:"average_precision"`
	RecallAt1FPR     *float64            `json:"recall_at_1pct_fpr"` // of the segment's own honest requests
	Intervals        map[string]Interval `json:"intervals"`
	TooFew           string              `json:"too_few,omitzero"`
}

// What a segment must hold to be measured: fewer frauds say next to nothing, and 1 % of fewer honest requests is none.
const (
	fewestFrauds   = 10
	fewestHonest   = 100
	mostSegments   = 10 // of one kind; the rarer ones are "other"
	newCustomerFor = 30 * vaglio.Day
)

// Names of segments whose requests say nothing, and of the rarer ones together.
const (
	segmentUnknown = "unknown"
	segmentOther   = "other"
)

// dimension cuts requests into segments.
type dimension struct {
	by     string
	of     func(row int) string
	listed []string // the segments in their order; nil: the most frequent first
}

func (g *ground) dimensions(o *MeasureOptions) []dimension {
	said := func(by string, get func(*Traits) string) dimension {
		return dimension{by: by, of: func(row int) string {
			if g.rows[row].Traits == nil {
				return ""
			}
			return get(g.rows[row].Traits)
		}}
	}
	out := []dimension{
		said("channel", func(t *Traits) string { return t.Channel }), said("country", func(t *Traits) string { return t.Country }),
		amountBands(g.rows, o.Currency), {},
		said("rail", func(t *Traits) string { return t.Rail }), said("type", func(t *Traits) string { return t.Type }),
		said("reason", func(t *Traits) string { return t.Reason }),
	}
	out[3] = dimension{by: "customer", listed: []string{"new", "known"}, of: func(row int) string {
		if o.New == nil {
			return ""
		}
		switch isNew, known := o.New(row); {
		case !known:
			return ""
		case isNew:
			return "new"
		default:
			return "known"
		}
	}}
	return out
}

// amountBands cuts by the amount in the base currency.
func amountBands(rows []Row, currency string) dimension {
	minor := int64(1)
	digits, ok := vaglio.CurrencyDigits(currency)
	if !ok {
		digits = 2
	}
	for range digits {
		minor *= 10
	}
	edges := []int64{20, 50, 100, 200, 500, 1000}
	name := func(band int) string {
		text := ""
		switch {
		case band == 0:
			text = fmt.Sprintf("below %d", edges[0])
		case band == len(edges):
			text = fmt.Sprintf("from %d", edges[band-1])
		default:
			text = fmt.Sprintf("%d to %d", edges[band-1], edges[band])
		}
		if currency != "" {
			text += " " + currency
		}
		return text
	}
	d := dimension{by: "amount"}
	for band := range len(edges) + 1 {
		d.listed = append(d.listed, name(band))
	}
	d.of = func(row int) string {
		if !rows[row].BaseKnown {
			return ""
		}
		band := 0
		for band < len(edges) && rows[row].BaseAmount >= edges[band]*minor {
			band++
		}
		return d.listed[band]
	}
	return d
}

// segmented measures all segments.
type segmented struct {
	segments []Segment
	ranked   []*ranked // nil: too few
}

// segmentMetrics are measured of each.
var segmentMetrics = []string{"roc_auc", "average_precision", "recall_at_1pct_fpr"}

func (g *ground) segments(own *board, o *MeasureOptions) *segmented {
	s := &segmented{}
	for _, d := range g.dimensions(o) {
		counts := map[string]int{}
		for i := range g.rows {
			counts[d.of(i)]++
		}
		if counts[""] == len(g.rows) {
			continue
		}
		listed := d.listed
		if listed == nil {
			listed = slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
			listed = slices.DeleteFunc(listed, func(v string) bool { return v == "" })
		}
		place := map[string]int{}
		first := len(s.segments)
		for i, value := range listed[:min(len(listed), mostSegments)] {
			if counts[value] > 0 {
				place[value] = len(s.segments)
				s.segments = append(s.segments, Segment{By: d.by, Value: listed[i], Intervals: map[string]Interval{}})
			}
		}
		for _, rest := range []string{segmentOther, segmentUnknown} {
			s.segments = append(s.segments, Segment{By: d.by, Value: rest, Intervals: map[string]Interval{}})
		}
		other := len(s.segments) - 2
		parts := make([][]int32, len(s.segments)-first) // rows by falling score
		for _, i := range own.order {
			value := d.of(int(i))
			at, ok := place[value]
			switch {
			case value == "":
				at = other + 1
			case !ok:
				at = other
			}
			parts[at-first] = append(parts[at-first], i)
			s.segments[at].Rows++
			if g.fraud[i] {
				s.segments[at].Frauds++
			}
		}
		for _, rows := range parts {
			s.ranked = append(s.ranked, rankedInOrder(rows, own.score, g.fraud, g.weight, g.cluster, g.clusters))
		}
	}
	s.drop()
	return s
}

// drop forgets empty segments and says which are too small.
func (s *segmented) drop() {
	kept := 0
	for i := range s.segments {
		segment := s.segments[i]
		if segment.Rows == 0 {
			continue
		}
		s.segments[kept], s.ranked[kept] = segment, s.ranked[i]
		if honest := segment.Rows - segment.Frauds; segment.Frauds < fewestFrauds || honest < fewestHonest {
			s.segments[kept].TooFew = fmt.Sprintf("%d frauds and %d honest requests; at least %d and %d are needed", segment.Frauds, honest, fewestFrauds, fewestHonest)
			s.ranked[kept] = nil
		}
		kept++
	}
	s.segments, s.ranked = s.segments[:kept], s.ranked[:kept]
}

func (s *segmented) size() int { return len(s.segments) * len(segmentMetrics) }

func (s *segmented) measure(counts []uint8, into []float64) {
	for i, r := range s.ranked {
		of := into[i*len(segmentMetrics):]
		if r == nil {
			of[0], of[1], of[2] = math.NaN(), math.NaN(), math.NaN()
			continue
		}
		o := r.measure(counts, []float64{0.01}, nil)
		of[0], of[1], of[2] = o.rocAUC, o.averagePrecision, o.recall[0]
	}
}

func (s *segmented) told(point []float64, drawn [][]float64) []Segment {
	for i := range s.segments {
		segment, first := &s.segments[i], i*len(segmentMetrics)
		segment.ROCAUC, segment.AveragePrecision, segment.RecallAt1FPR = known(point[first]), known(point[first+1]), known(point[first+2])
		for m, name := range segmentMetrics {
			if interval, ok := intervalOf(drawn[first+m]); ok && !math.IsNaN(point[first+m]) {
				segment.Intervals[name] = interval
			}
		}
	}
	return s.segments
}

// newCustomers tells by the catalogue's feature customer_age which rows are of customers of at most 30 days; nil without it.
func (m *Matrix) newCustomers() func(row int) (isNew, known bool) {
	column := slices.Index(m.Names, "customer_age")
	if column < 0 {
		return nil
	}
	return func(row int) (bool, bool) {
		hours := m.vector(row)[column]
		return !(hours > float64(newCustomerFor)/float64(vaglio.Hour)), m.Rows[row].Customer != "" // without an age nothing came before
	}
}

// FraudType is how much of a kind of fraud, by its labels' fraud_type, a model finds.
type FraudType struct {
	Type         string  `json:"type"`
	Frauds       int     `json:"frauds"`
	Denied       float64 `json:"denied"`             // share, at the thresholds
	Stopped      float64 `json:"stopped"`            // share in review or denied
	RecallAt1FPR float64 `json:"recall_at_1pct_fpr"` // at 1 % false positives among all honest requests
}

// fraudTypes lists the kinds, the most frequent first. Each fraud counts once, whatever its label's weight.
func fraudTypes(rows []Row, r *ranked, probability []float64, verdicts []vaglio.Verdict) []FraudType {
	out := []FraudType{}
	threshold := r.thresholdAt(0.01)
	for i := range rows {
		if !rows[i].Fraud {
			continue
		}
		kind := cmp.Or(rows[i].FraudType, segmentUnknown)
		at := slices.IndexFunc(out, func(t FraudType) bool { return t.Type == kind })
		if at < 0 {
			at, out = len(out), append(out, FraudType{Type: kind})
		}
		t := &out[at]
		t.Frauds++
		if verdicts[i] == vaglio.Deny {
			t.Denied++
		}
		if verdicts[i] != vaglio.Approve {
			t.Stopped++
		}
		if probability[i] >= threshold {
			t.RecallAt1FPR++
		}
	}
	for i := range out {
		n := float64(out[i].Frauds)
		out[i].Denied, out[i].Stopped, out[i].RecallAt1FPR = out[i].Denied/n, out[i].Stopped/n, out[i].RecallAt1FPR/n
	}
	slices.SortStableFunc(out, func(a, b FraudType) int { return cmp.Or(cmp.Compare(b.Frauds, a.Frauds), cmp.Compare(a.Type, b.Type)) })
	return out
}
