package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vaglio"
)

// healthz answers as long as the process does.
func (s *Server) healthz(x *exchange) error {
	return x.json(http.StatusOK, map[string]string{"status": "alive", "version": vaglio.Version})
}

// readyz answers 200 when requests can be decided.
func (s *Server) readyz(x *exchange) error {
	if err := s.engine.Ready(x.Request().Context()); err != nil {
		return notReady(err)
	}
	return x.json(http.StatusOK, map[string]string{"status": "ready"})
}

// metrics are what the API itself counts.
type metrics struct {
	exchanges *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	events    *prometheus.CounterVec
	panics    prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) metrics {
	m := metrics{
		exchanges: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vaglio_http_request_duration_seconds",
			Help:    "Time to answer, by route and status; its count is the number of requests.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}, []string{"route", "status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaglio_decisions_total",
			Help: "Decisions answered, by verdict, degradation and whether they were new, repeated or a dry run."},
			[]string{"decision", "degraded", "answer"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaglio_events_received_total",
			Help: "Valid events received, by what became of them: stored, repeated or conflict."}, []string{"result"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "vaglio_http_panics_total",
			Help: "Requests that ended in a panic and were answered 500."}),
	}
	registry.MustRegister(m.exchanges, m.decisions, m.events, m.panics)
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
func (m metrics) decision(a Answer, dryRun bool) error {
	var d struct {
		Verdict  vaglio.Verdict `json:"decision"`
		Degraded bool           `json:"degraded"`
	}
	if err := json.Unmarshal(a.Body, &d); err != nil {
		return err
	}
	answer := "new"
	switch {
	case dryRun:
		answer = "dry_run"
	case a.Repeated:
		answer = "repeated"
	}
	m.decisions.WithLabelValues(string(d.Verdict), strconv.FormatBool(d.Degraded), answer).Inc()
	return nil
}

func notReady(err error) error {
	return &problem{kind: NotReady, detail: err.Error()}
}
