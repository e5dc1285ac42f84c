// Package api is the HTTP side of the service: routes, keys and scopes, strict decoding, problem details, limits, the
// access log and the metrics of both. It is the only importer of Echo. Every route is a row of the table in routes.go, from
// which the description is made, too (openapi.go, docs.go); problems.go holds everything that can be answered instead.
package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
)

// Options are the parts of a server. Engine and Ledger are required.
type Options struct {
	Engine   *scoring.Engine
	Ledger   *ledger.Ledger
	Logger   *slog.Logger         // nil: slog.Default()
	Registry *prometheus.Registry // gets the server's metrics and is what /metrics shows; nil: a new one
	Models   *models.Registry     // nil: there is none
	// OpenAccess lets anyone in for as long as the ledger holds no key. Only for a server that listens on loopback.
	OpenAccess     bool
	PolicyFourEyes bool             // a policy waits for a second person before it is in force
	RateLimit      float64          // calls a second of a key that has no limit of its own; 0: none
	Timeouts       Timeouts         // of connections; zero ones take the defaults
	Now            func() time.Time // nil: time.Now
}

// Server answers HTTP. Safe for concurrent use.
type Server struct {
	engine   *scoring.Engine
	ledger   *ledger.Ledger
	log      *slog.Logger
	registry *prometheus.Registry
	models   *models.Registry
	fourEyes bool
	metrics  metrics
	open     openAccess
	limits   limits
	uses     uses
	timeouts Timeouts
	now      func() time.Time
	spec     func() (*document, []byte)
	page     func() []byte
	echo     *echo.Echo
}

// New builds a server. Its metrics are registered at once: one server for each registry.
func New(o Options) *Server {
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{engine: o.Engine, ledger: o.Ledger, log: o.Logger, registry: o.Registry, models: o.Models,
		fourEyes: o.PolicyFourEyes, metrics: newMetrics(o.Registry),
		open: openAccess{allowed: o.OpenAccess}, limits: limits{standard: o.RateLimit}, timeouts: o.Timeouts.orDefault(), now: o.Now,
		spec: spec, page: docsPage, echo: echo.New()}
	s.echo.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(err, c.(*exchange)) }
	s.echo.Use(s.observe)
	for i := range routes {
		r := &routes[i]
		handler := s.guard(r)
		s.echo.Add(r.method, r.path, handler)
		if r.method == http.MethodGet {
			s.echo.Add(http.MethodHead, r.path, handler)
		}
	}
	return s
}

// Handler is the whole API.
func (s *Server) Handler() http.Handler { return s.echo }

// Timeouts bound what slow peers can hold: a connection's header and body, the answer, the silence between two requests,
// and at the end what is still in flight.
type Timeouts struct {
	Header, Read, Write, Idle, Shutdown time.Duration
}

// orDefault fills in what is not given. The longest route and its answer fit into Write.
func (t Timeouts) orDefault() Timeouts {
	t.Header = cmp.Or(t.Header, 5*time.Second)
	t.Read = cmp.Or(t.Read, 30*time.Second)
	t.Write = cmp.Or(t.Write, 80*time.Second)
	t.Idle = cmp.Or(t.Idle, 2*time.Minute)
	t.Shutdown = cmp.Or(t.Shutdown, t.Write)
	return t
}

const maxHeaderBytes = 16 << 10

// Serve answers on the listener until ctx ends, then stops accepting and finishes what is in flight. It closes the
// listener. Nil after a clean shutdown.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: s.echo, ReadHeaderTimeout: s.timeouts.Header, ReadTimeout: s.timeouts.Read, WriteTimeout: s.timeouts.Write,
		IdleTimeout: s.timeouts.Idle, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	noting, stopNoting := context.WithCancel(context.WithoutCancel(ctx))
	var noted sync.WaitGroup
	noted.Go(func() { s.noteUses(noting) })
	defer noted.Wait()
	defer stopNoting()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeouts.Shutdown)
	defer cancel()
	err := server.Shutdown(bounded)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-ended
	return err
}
