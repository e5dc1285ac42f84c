package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vaglio"
	"vaglio/scoring"
)

// healthz answers as long as the process does.
func (s *Server) healthz(x *exchange) error {
	return x.json(http.StatusOK, &healthWire{"alive", vaglio.Version})
}

type healthWire struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// readyz answers 200 when requests can be decided.
func (s *Server) readyz(x *exchange) error {
	if err := s.engine.Ready(x.Request().Context()); err != nil {
		return &problem{kind: NotReady, detail: strings.Join(partsOf(err), ", "), cause: err}
	}
	return x.json(http.StatusOK, &readyWire{"ready"})
}

type readyWire struct {
	Status string `json:"status"`
}

// partsOf names the parts that joined errors begin with. What follows the name is for the log.
func partsOf(err error) []string {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	parts := make([]string, len(all))
	for i, one := range all {
		parts[i], _, _ = strings.Cut(one.Error(), ":")
	}
	return parts
}

// metrics are what the API itself counts.
type metrics struct {
	exchanges *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	degraded  *prometheus.CounterVec
	repeated  prometheus.Counter
	events    *prometheus.CounterVec
	panics    prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) metrics {
	m := metrics{
		exchanges: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vaglio_http_request_duration_seconds",
			Help:    "Time to answer, by route and status; its count is the number of requests.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}, []string{"route", "status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaglio_decisions_total",
			Help: "Decisions taken, by verdict."}, []string{"decision", "degraded", "dry_run"}),
		degraded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaglio_decisions_degraded_total",
			Help: "Decisions that are a review for want of what they should rest on, by what it was."}, []string{"reason"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{Name: "vaglio_decisions_repeated_total",
			Help: "Requests answered with the decision taken before."}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaglio_events_received_total",
			Help: "Valid events received, by what became of them: stored, repeated or conflict."}, []string{"result"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "vaglio_http_panics_total",
			Help: "Requests that ended in a panic and were answered 500."}),
	}
	for _, reason := range scoring.DegradedReasons {
		m.degraded.WithLabelValues(reason) // from 0, so that the first one is seen as a rise
	}
	registry.MustRegister(m.exchanges, m.decisions, m.degraded, m.repeated, m.events, m.panics)
	return m
}

func (m metrics) request(route string, status int, took time.Duration) {
	m.exchanges.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// showMetrics answers in Prometheus' formats.
func (s *Server) showMetrics(x *exchange) error {
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP(x.Response(), x.Request())
	return nil
}

// decision counts an answered decision.
func (m metrics) decision(a scoring.Answer, dryRun bool) {
	if a.Repeated {
		m.repeated.Inc()
		return
	}
	m.decisions.WithLabelValues(string(a.Verdict), strconv.FormatBool(a.Degraded), strconv.FormatBool(dryRun)).Inc()
	for _, reason := range a.DegradedReasons {
		m.degraded.WithLabelValues(reason).Inc()
	}
}
