package api

import (
	"net/http"
	"slices"
	"strings"

	"vaglio"
	"vaglio/ledger"
)

// guardsWire are the guards that tripped and what they count.
type guardsWire struct {
	Trips    []guardTrip  `json:"trips"`
	LastHour []hourCounts `json:"last_hour"`
}

type guardTrip struct {
	ledger.GuardTrip
	Holds bool `json:"holds"`
}

// hourCounts are the decisions of the last hour in one segment of the policy.
type hourCounts struct {
	Segment        string `json:"segment"`
	Decisions      int64  `json:"decisions"`
	Approvals      int64  `json:"approvals"`
	ApprovedAmount int64  `json:"approved_amount"`
	Denials        int64  `json:"denials"`
}

// guards shows the guards that tripped, the newest first, and the counts of the last hour, of all replicas.
func (s *Server) guards(x *exchange) error {
	ctx, now := x.Request().Context(), vaglio.InstantOf(s.now())
	trips, err := s.ledger.GuardTrips(ctx, false)
	if err != nil {
		return err
	}
	counts, err := s.ledger.GuardCounts(ctx, now-vaglio.Hour+vaglio.Minute)
	if err != nil {
		return err
	}
	out := guardsWire{Trips: []guardTrip{}, LastHour: []hourCounts{}}
	for _, t := range trips {
		out.Trips = append(out.Trips, guardTrip{t, t.Holds(now)})
	}
	for _, c := range counts {
		at := slices.IndexFunc(out.LastHour, func(h hourCounts) bool { return h.Segment == c.Segment })
		if at < 0 {
			at = len(out.LastHour)
			out.LastHour = append(out.LastHour, hourCounts{Segment: c.Segment})
		}
		h := &out.LastHour[at]
		h.Decisions += c.Decisions
		h.Approvals += c.Approvals
		h.ApprovedAmount += c.Approved
		h.Denials += c.Denials
	}
	slices.SortFunc(out.LastHour, func(a, b hourCounts) int { return strings.Compare(a.Segment, b.Segment) })
	return x.json(http.StatusOK, &out)
}

// clearGuard ends a trip by hand.
func (s *Server) clearGuard(x *exchange) error {
	id, err := x.name("guard")
	if err != nil {
		return err
	}
	if err := s.ledger.ClearGuard(x.Request().Context(), id, x.key.ID); err != nil {
		return err
	}
	s.takeUp(x.Request().Context())
	return s.guards(x)
}
