// Package api is the HTTP side of the service: routes, keys and scopes, strict decoding, problem details, limits, the
// access log and the metrics of both. It is the only importer of Echo. Every route is a row of the table in this file;
// score.go, events.go and operations.go answer them, problems.go holds everything that can be answered instead.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"vaglio/ledger"
	"vaglio/scoring"
)

// Options are the parts of a server. Engine and Ledger are required.
type Options struct {
	Engine   *scoring.Engine
	Ledger   *ledger.Ledger
	Logger   *slog.Logger         // nil: slog.Default()
	Registry *prometheus.Registry // gets the server's metrics and is what /metrics shows; nil: a new one
	// OpenAccess lets anyone in for as long as the ledger holds no key. Only for a server that listens on loopback.
	OpenAccess bool
	Now        func() time.Time // nil: time.Now
}

// Server answers HTTP. Safe for concurrent use.
type Server struct {
	engine   *scoring.Engine
	ledger   *ledger.Ledger
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  metrics
	open     openAccess
	now      func() time.Time
	echo     *echo.Echo
}

// route is one row of the API.
type route struct {
	method, path string
	scopes       []string      // a key needs one of them; nil: open to all
	query        []string      // names of the query parameters that it takes
	bodies       []string      // media types of the body that it takes
	maxBody      int64         // bytes
	atOnce       int           // how many may run at one time, the next is answered 503; 0: any number
	timeout      time.Duration // of the work behind the route
	quiet        bool          // logged at debug only: machines ask it every few seconds
	handle       func(*Server, *exchange) error
}

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

var routes = []route{
	{method: "POST", path: "/v1/score", scopes: []string{ledger.ScopeScore}, query: []string{"dry_run", "as_of"}, bodies: []string{typeJSON},
		maxBody: 1 << 20, atOnce: 1024, timeout: 10 * time.Second, handle: (*Server).score},
	{method: "GET", path: "/v1/decisions/:id", scopes: []string{ledger.ScopeScore, ledger.ScopeReview},
		atOnce: 256, timeout: 10 * time.Second, handle: (*Server).decision},
	{method: "GET", path: "/v1/decisions/:id/explanation", scopes: []string{ledger.ScopeScore, ledger.ScopeReview}, query: []string{"audience"},
		atOnce: 64, timeout: 10 * time.Second, handle: (*Server).explanation},
	{method: "POST", path: "/v1/events", scopes: []string{ledger.ScopeEvents}, bodies: []string{typeJSON, typeNDJSON},
		maxBody: 16 << 20, atOnce: 8, timeout: 45 * time.Second, handle: (*Server).events},
	{method: "GET", path: "/healthz", timeout: time.Second, quiet: true, handle: (*Server).healthz},
	{method: "GET", path: "/readyz", atOnce: 16, timeout: 5 * time.Second, quiet: true, handle: (*Server).readyz},
	{method: "GET", path: "/metrics", scopes: []string{ledger.ScopeMetrics},
		atOnce: 4, timeout: 10 * time.Second, quiet: true, handle: (*Server).showMetrics},
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
	s := &Server{engine: o.Engine, ledger: o.Ledger, log: o.Logger, registry: o.Registry, metrics: newMetrics(o.Registry),
		open: openAccess{allowed: o.OpenAccess}, now: o.Now, echo: echo.New()}
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

// Times of the HTTP server. The longest route and its answer fit into writeTimeout.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 30 * time.Second
	writeTimeout    = 80 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = writeTimeout
	maxHeaderBytes  = 16 << 10
)

// Serve answers on the listener until ctx ends, then stops accepting and finishes what is in flight. It closes the
// listener. Nil after a clean shutdown.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: s.echo, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(bounded)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-ended
	return err
}
