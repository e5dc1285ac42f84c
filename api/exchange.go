package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/oklog/ulid/v2"

	"vaglio/ledger"
)

// exchange is one request and its answer.
type exchange struct {
	echo.Context
	id     string // of this exchange: X-Request-Id
	route  string // the row's method and pattern, "unmatched" without one
	quiet  bool
	key    ledger.Key // of who asks; its zero value opens nothing
	status int        // what was answered, where that is not what was sent
}

// observe surrounds everything: id, headers, recovery, answering of errors, log, metrics.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		started := time.Now()
		x := &exchange{Context: c, id: exchangeID(c.Request()), route: "unmatched"}
		h := c.Response().Header()
		h.Set("X-Request-Id", x.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if err := s.recovered(func() error { return next(x) }); err != nil {
			s.fail(err, x)
		}
		status := x.status
		if status == 0 {
			status = c.Response().Status
		}
		took := time.Since(started)
		s.metrics.request(x.route, status, took)
		level := slog.LevelInfo
		if x.quiet && status < http.StatusInternalServerError {
			level = slog.LevelDebug
		}
		s.log.LogAttrs(c.Request().Context(), level, "request", slog.String("method", methodName(c.Request().Method)),
			slog.String("route", x.route), slog.Int("status", status), slog.Float64("ms", float64(took.Microseconds())/1000),
			slog.String("request_id", x.id), slog.String("key_id", x.key.ID))
		return nil
	}
}

// recovered turns a panic into an error that carries its stack.
func (s *Server) recovered(work func() error) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.metrics.panics.Inc()
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return work()
}

// guard is a row's handler behind its checks, in the order of their cost: key, parameters, room, and only then the body.
func (s *Server) guard(r *route) echo.HandlerFunc {
	name := r.method + " " + r.path
	query, mediaTypes := r.queryNames(), r.mediaTypes()
	room := make(chan struct{}, max(r.atOnce, 1))
	return func(c echo.Context) error {
		x := c.(*exchange)
		x.route, x.quiet = name, r.quiet
		if r.csp != "" {
			c.Response().Header().Set("Content-Security-Policy", r.csp)
		}
		if r.scopes != nil {
			if err := s.authenticate(x); err != nil {
				return err
			}
			if err := x.need(r.scopes...); err != nil {
				return err
			}
			if err := s.limits.take(x.key, s.now()); err != nil {
				return err
			}
		}
		if err := checkQuery(c.Request().URL.RawQuery, query); err != nil {
			return err
		}
		if r.atOnce > 0 {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
			default:
				return problemf(Busy, "%d of these are running", r.atOnce)
			}
		}
		if !r.bodyOptional || c.Request().ContentLength != 0 {
			if err := checkMediaType(c.Request(), mediaTypes); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(c.Request().Context(), r.timeout)
		defer cancel()
		sent := c.Request()
		defer c.SetRequest(sent) // whose context ends with the client only
		request := sent.WithContext(ctx)
		request.Body = http.MaxBytesReader(c.Response(), sent.Body, r.maxBody)
		c.SetRequest(request)
		return r.handle(s, x)
	}
}

// body reads the whole body, which must not be empty.
func (x *exchange) body() ([]byte, error) {
	const usual = 4 << 10
	room := bytes.NewBuffer(make([]byte, 0, min(max(0, x.Request().ContentLength), usual)+bytes.MinRead))
	_, err := room.ReadFrom(x.Request().Body)
	b := room.Bytes()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil:
		return nil, problemf(IncompleteBody, "it broke off or came too slowly after %d bytes", len(b))
	case len(bytes.TrimSpace(b)) == 0:
		return nil, problemf(EmptyBody, "want one JSON value")
	}
	return b, nil
}

// Blob answers bytes with their length, so that long answers are not sent in chunks.
func (x *exchange) Blob(status int, contentType string, b []byte) error {
	x.Response().Header().Set(echo.HeaderContentLength, strconv.Itoa(len(b)))
	return x.Context.Blob(status, contentType, b)
}

// param is a part of the path, decoded.
func (x *exchange) param(name string) (string, error) {
	value := x.Param(name)
	if x.Request().URL.RawPath == "" {
		return value, nil // Echo matched the decoded path
	}
	decoded, err := url.PathUnescape(value)
	if err != nil {
		return "", problemf(NotFound, "there is nothing at this path")
	}
	return decoded, nil
}

// exchangeID is the caller's own id if it is harmless, or a new one.
func exchangeID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	harmless := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool { return !harmless(c) }) {
		return ulid.Make().String()
	}
	return id
}

// methodName keeps invented methods out of the log.
func methodName(method string) string {
	known := []string{http.MethodGet, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	if slices.Contains(known, method) {
		return method
	}
	return "other"
}

// checkQuery refuses parameters that a route does not take, and those given twice.
func checkQuery(raw string, allowed []string) error {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return problemf(InvalidParameter, "the query string is malformed")
	}
	for name, given := range values {
		switch {
		case !slices.Contains(allowed, name):
			return invalidParameter(name, "is not known here")
		case len(given) > 1:
			return invalidParameter(name, "is given twice")
		}
	}
	return nil
}

// checkMediaType wants one of the media types of a route that takes a body, plain and in UTF-8.
func checkMediaType(r *http.Request, allowed []string) error {
	if len(allowed) == 0 {
		return nil
	}
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || !slices.Contains(allowed, mediaType) || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return problemf(UnsupportedMediaType, "want Content-Type: %s", strings.Join(allowed, " or "))
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return problemf(UnsupportedMediaType, "want a body without Content-Encoding")
	}
	return nil
}
