package training

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"vaglio"
	"vaglio/history"
)

// leastPropensity bounds what a request can count for by inverse propensity: no more than 20, however seldom its like is let
// through, or a single outcome would sway everything.
const leastPropensity = 1.0 / 20

// decisionDelay is how much later than its request a decision may be and still be found.
const decisionDelay = vaglio.Day

// propensities are what exploration tells of requests. Of those that it could have let through, only the ones that it did let
// through count: they were drawn by lot, so each stands for 1/propensity of its like (Horvitz and Thompson 1952), and the
// others, whose labels are what reviewers believed, would count the same requests a second time.
type propensities struct {
	of   map[string]lot  // of requests that were let through
	held map[string]bool // their like that were not
	lots lots
}

// lot is the chance with which a decision let its request through, as it was logged, and its span.
type lot struct {
	chance float64
	span   vaglio.Instant
}

// lotSpan is the time within which requests for which a day's budget had room stand for those for which it had none. By the day
// they would stand for too many: a budget for n ends a day at its nth lot, and 1/(the share of the day until then) is by
// about 1/n too large on average, as Haldane 1945 shows of sampling until the nth find. Over many days that evens out.
const lotSpan = 30 * vaglio.Day

// lots are the decisions by span that exploration could have changed, had the budgets been without end. Whether there was room
// for a request depends on what came before it, never on its own lot, so while there was the logged chance is the true one. For
// those that came later stand the others of the span: a request's chance is the logged one times the share of the span's
// for which there was room.
type lots map[vaglio.Instant]*struct{ all, room int }

// note counts a decision, if exploration could have changed it.
func (s lots) note(d *vaglio.Taken) (l lot, could bool) {
	l = lot{d.Propensity, d.DecidedAt / lotSpan}
	if !d.Explored && !(d.Propensity < 1) {
		return l, false
	}
	of := s[l.span]
	if of == nil {
		of = &struct{ all, room int }{}
		s[l.span] = of
	}
	of.all++
	if d.Propensity > 0 {
		of.room++
	}
	return l, true
}

// chance is that of a request of its span, without regard to leastPropensity.
func (s lots) chance(l lot) float64 {
	return l.chance * float64(s[l.span].room) / float64(s[l.span].all)
}

func readPropensities(ctx context.Context, h *history.Store, p Period) (propensities, error) {
	out := propensities{map[string]lot{}, map[string]bool{}, lots{}}
	err := h.ScanDecisions(ctx, p.From, p.Until+decisionDelay, func(d vaglio.Taken) error {
		switch l, could := out.lots.note(&d); {
		case d.Explored:
			out.of[strings.Clone(d.RequestID)] = l
		case could:
			out.held[strings.Clone(d.RequestID)] = true
		}
		return nil
	})
	return out, err
}

// apply sets the rows' propensities and leaves out those that stood behind: none where nothing was let through. It uses m up.
func (p *propensities) apply(m *Matrix) (out *Matrix, held int) {
	if len(p.of) == 0 {
		return m, 0
	}
	kept := *m
	kept.Rows, kept.X = m.Rows[:0], m.X[:0]
	for i := range m.Rows {
		row := m.Rows[i]
		if p.held[row.ID] {
			held++
			continue
		}
		if l, explored := p.of[row.ID]; explored {
			row.Propensity = min(1, max(p.lots.chance(l), leastPropensity))
		}
		kept.Rows = append(kept.Rows, row)
		kept.X = append(kept.X, m.vector(i)...)
	}
	return &kept, held
}

// Exploration is what was let through to learn from it, and what audits of approvals found. Money is in minor units of the
// base currency.
type Exploration struct {
	Requests  int   `json:"requests"` // let through though the score was against it
	Frauds    int   `json:"frauds"`   // of these
	Clean     int   `json:"clean"`
	Unsettled int   `json:"unsettled"` // too young, or nothing can be known
	Paid      int64 `json:"paid"`      // approved by it
	Lost      int64 `json:"lost"`      // of that to frauds
	Clipped   int   `json:"clipped"`   // whose chance was below 1 in 20: they count for 20
	Held      int   `json:"held"`      // requests of the same kind that were not let through
	Late      int   `json:"late"`      // of these, when the day's budget had no room for them
	Audit     Audit `json:"audit"`
}

// Audit is the random sample of approvals that people look at in silence.
type Audit struct {
	Approvals int       `json:"approvals"` // automatic ones, exploration aside
	Drawn     int       `json:"drawn"`
	Judged    int       `json:"judged"` // with a label of source audit
	Frauds    int       `json:"frauds"`
	Missed    *float64  `json:"missed"`   // share of frauds among approvals; nil before anything is judged
	Interval  *Interval `json:"interval"` // 95 %, by Wilson 1927
}

// ReadExploration sums up the decisions on the requests of a period by the labels known at a cut.
func ReadExploration(ctx context.Context, h *history.Store, p Period, cut, matureAt vaglio.Instant) (Exploration, error) {
	var x Exploration
	paid, drawn := map[string]int64{}, map[string]bool{}
	all, explored := lots{}, []lot{}
	err := h.ScanDecisions(ctx, p.From, p.Until, func(d vaglio.Taken) error {
		switch l, could := all.note(&d); {
		case d.Explored:
			x.Requests++
			if d.BaseKnown {
				x.Paid += d.BaseAmount
			}
			explored = append(explored, l)
			paid[strings.Clone(d.RequestID)] = d.BaseAmount
		case could:
			x.Held++
			if d.Propensity == 0 {
				x.Late++
			}
		case d.Verdict == vaglio.Approve:
			x.Audit.Approvals++
			if d.Audit {
				x.Audit.Drawn++
				drawn[strings.Clone(d.RequestID)] = true
			}
		}
		return nil
	})
	for _, l := range explored {
		if all.chance(l) < leastPropensity {
			x.Clipped++
		}
	}
	if err == nil && x.Requests > 0 {
		err = x.settle(ctx, h, p, cut, matureAt, paid)
	}
	if err == nil && x.Audit.Drawn > 0 {
		err = x.Audit.judge(ctx, h, p, cut, drawn)
	}
	if err != nil {
		return x, fmt.Errorf("read what was explored and audited: %w", err)
	}
	return x, nil
}

// settle counts what became of the requests that were let through.
func (x *Exploration) settle(ctx context.Context, h *history.Store, p Period, cut, matureAt vaglio.Instant, paid map[string]int64) error {
	labels, err := ReadLabels(ctx, h, p.From-decisionDelay, cut)
	if err != nil {
		return err
	}
	rows, mature := newRowMaker(), maturityOf(matureAt, nil)
	x.Unsettled = x.Requests
	return h.Scan(ctx, []string{vaglio.KindRefundRequested}, p.From-decisionDelay, p.Until, func(f vaglio.Fact) error {
		amount, explored := paid[f.ID]
		if !explored {
			return nil
		}
		row := rows.row(&f)
		label := labels.Of(&row)
		if !row.settled(cut, mature) || label.Verdict == Unlabelled {
			return nil
		}
		x.Unsettled--
		if label.Verdict == Fraud {
			x.Frauds++
			x.Lost += amount
		} else {
			x.Clean++
		}
		return nil
	})
}

// judge counts what audits said: of each request the newest label of that source by (occurred_at, id).
func (a *Audit) judge(ctx context.Context, h *history.Store, p Period, cut vaglio.Instant, drawn map[string]bool) error {
	said := map[string]evidence{}
	fraud := map[string]bool{}
	err := h.Scan(ctx, []string{vaglio.KindFraudConfirmed, vaglio.KindFraudCleared}, p.From, math.MaxInt64, func(f vaglio.Fact) error {
		request := f.Entities.Get(vaglio.EntityRequest)
		if !drawn[request] || f.KnownAt > cut || f.Attributes.Get(vaglio.AttributeSource) != vaglio.SourceAudit {
			return nil
		}
		if before, twice := said[request]; twice && cmp.Or(cmp.Compare(f.OccurredAt, before.at), cmp.Compare(f.ID, before.id)) < 0 {
			return nil
		}
		request = strings.Clone(request)
		said[request] = evidence{at: f.OccurredAt, id: strings.Clone(f.ID)}
		fraud[request] = f.Kind == vaglio.KindFraudConfirmed
		return nil
	})
	if err != nil {
		return err
	}
	a.Judged = len(said)
	for _, is := range fraud {
		if is {
			a.Frauds++
		}
	}
	if a.Judged > 0 {
		share, between := float64(a.Frauds)/float64(a.Judged), Wilson(a.Frauds, a.Judged)
		a.Missed, a.Interval = &share, &between
	}
	return nil
}

// Wilson is the interval of 95 % of a share (Wilson, "Probable inference, the law of succession, and statistical inference", Journal
// of the American Statistical Association 22, 1927): it holds for few finds too, and for none.
func Wilson(found, of int) Interval {
	if of == 0 {
		return Interval{0, 1}
	}
	const z = 1.959963984540054 // the normal distribution's 97.5th percentile
	n, p := float64(of), float64(found)/float64(of)
	middle, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return Interval{max(0, (middle-half)/(1+z*z/n)), min(1, (middle+half)/(1+z*z/n))}
}

// Text says it in a few sentences; "" where nothing was explored or audited.
func (x *Exploration) Text(currency string) string {
	var out strings.Builder
	money := func(minor int64) string {
		digits, _ := vaglio.CurrencyDigits(currency)
		return fmt.Sprintf("%.0f %s", float64(minor)/math.Pow10(digits), currency)
	}
	if x.Requests > 0 {
		fmt.Fprintf(&out, "%d requests for %s were let through by exploration, %d of their like were not; %d turned out fraud (%s), %d clean, %d are not settled.",
			x.Requests, money(x.Paid), x.Held, x.Frauds, money(x.Lost), x.Clean, x.Unsettled)
		if x.Late > 0 {
			fmt.Fprintf(&out, " For %d of these the day's budget had no room any more: where inverse propensity weighs, those of the same 30 days for which it had "+
				"stand for them.", x.Late)
		}
		if x.Clipped > 0 {
			fmt.Fprintf(&out, " %d had less than 1 chance in 20 and count for 20 where inverse propensity weighs.", x.Clipped)
		}
	}
	if a := &x.Audit; a.Drawn > 0 {
		if out.Len() > 0 {
			out.WriteByte(' ')
		}
		fmt.Fprintf(&out, "Of %d approvals %d were drawn for audit, %d are judged", a.Approvals, a.Drawn, a.Judged)
		if a.Interval != nil {
			fmt.Fprintf(&out, ", %d of them fraud: approvals miss %.2f %% (95 %%: %.2f to %.2f %%), some %.0f frauds", a.Frauds, 100**a.Missed,
				100*a.Interval.Low, 100*a.Interval.High, *a.Missed*float64(a.Approvals))
		}
		out.WriteByte('.')
	}
	return out.String()
}
