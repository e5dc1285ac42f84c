package features

import (
	"fmt"
	"strings"
)

// describe is the row's description, or what the row computes in plain English.
func (s *spec) describe() string {
	switch {
	case s.Description != "":
		return s.Description
	case s.Expr != "":
		return s.Expr
	case s.Categorical != "":
		path := strings.Split(strings.TrimPrefix(s.Categorical, "request."), ".")
		return "the request's " + plain(path[len(path)-1])
	}
	kinds := anyOf(s.Events)
	events := kinds + " events"
	of := plain(strings.TrimPrefix(string(s.Of), "attributes."))
	subject := map[function]string{
		count:      "number of " + events,
		rate:       events + " a day",
		sum:        "sum of the " + of + " of " + events,
		mean:       "mean " + of + " of " + events,
		least:      "smallest " + of + " of " + events,
		greatest:   "largest " + of + " of " + events,
		stddev:     "standard deviation of the " + of + " of " + events,
		distinct:   "number of different values of " + of + " in " + events,
		share:      "share with " + s.Part + " among " + events,
		same:       fmt.Sprintf("whether the request's %s is the %s one in %s", of, s.Which, events),
		habit:      fmt.Sprintf("share within %s of the request's time of day (UTC) among %s", span(s.Within), events),
		sinceFirst: "hours since the first " + kinds + " event",
		sinceLast:  "hours since the last " + kinds + " event",
		linked:     "number of other customers who share a " + plain(anyOf(s.Of.list())) + " and have " + events,
	}[functions[s.Aggregate]]
	entity, second, isPair := strings.Cut(s.Entity, "+")
	switch {
	case functions[s.Aggregate] == linked:
	case isPair:
		subject += fmt.Sprintf(" of the %s with this %s", plain(entity), plain(second))
	default:
		subject += " of the " + plain(entity)
	}
	if s.Where != "" {
		subject += " where " + s.Where
	}
	if s.Window != "" && s.Window != "all" {
		subject += " in " + span(s.Window)
	}
	if s.Offset != "" {
		subject += ", up to " + span(s.Offset) + " ago"
	}
	if functions[s.Aggregate] == linked {
		subject += ", net of fraud_cleared"
	}
	return subject
}

// anyOf is "a, b or c".
func anyOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	most := len(names) - 1
	return strings.Join(names[:most], ", ") + " or " + names[most]
}

func plain(name string) string { return strings.ReplaceAll(name, "_", " ") }

// span spells a window out: 7d is "7 days".
func span(window string) string {
	if window == "" {
		return ""
	}
	units := map[byte]string{'m': "minute", 'h': "hour", 'd': "day", 'w': "week"}
	n, unit := window[:len(window)-1], units[window[len(window)-1]]
	if n != "1" {
		unit += "s"
	}
	return n + " " + unit
}
