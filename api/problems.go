package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/labstack/echo/v4"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
)

// Kind names a problem: the stable last part of its type, "/problems/" + Kind.
type Kind string

// Every kind of problem that the API answers.
const (
	MalformedJSON        Kind = "malformed-json"
	EmptyBody            Kind = "empty-body"
	IncompleteBody       Kind = "incomplete-body"
	InvalidRequest       Kind = "invalid-request"
	InvalidEvents        Kind = "invalid-events"
	InvalidOutcomes      Kind = "invalid-outcomes"
	InvalidPolicy        Kind = "invalid-policy"
	InvalidParameter     Kind = "invalid-parameter"
	Unauthorized         Kind = "unauthorized"
	Forbidden            Kind = "forbidden"
	NotFound             Kind = "not-found"
	MethodNotAllowed     Kind = "method-not-allowed"
	RequestConflict      Kind = "request-conflict"
	EventConflict        Kind = "event-conflict"
	KeyMismatch          Kind = "idempotency-key-mismatch"
	IllegalTransition    Kind = "illegal-transition"
	OutcomeConflict      Kind = "outcome-conflict"
	FourEyes             Kind = "four-eyes"
	ModelRefused         Kind = "model-refused"
	Gone                 Kind = "gone"
	BodyTooLarge         Kind = "body-too-large"
	UnsupportedMediaType Kind = "unsupported-media-type"
	RateLimited          Kind = "rate-limited"
	Internal             Kind = "internal"
	Busy                 Kind = "busy"
	Timeout              Kind = "timeout"
	NotReady             Kind = "not-ready"
)

// Problems is what each kind means, and its status.
var Problems = map[Kind]struct {
	Status int
	Title  string
}{
	MalformedJSON:        {400, "The body is not one JSON value"},
	EmptyBody:            {400, "The body is empty"},
	IncompleteBody:       {400, "The body did not arrive"},
	InvalidRequest:       {422, "The request has wrong fields"},
	InvalidEvents:        {422, "Some events have wrong fields; none was stored"},
	InvalidOutcomes:      {422, "Some outcomes have wrong fields; none was stored"},
	InvalidPolicy:        {422, "The policy has mistakes; nothing was published"},
	InvalidParameter:     {400, "A query parameter is wrong"},
	Unauthorized:         {401, "A valid key is needed"},
	Forbidden:            {403, "The key may not do this"},
	NotFound:             {404, "There is no such thing"},
	MethodNotAllowed:     {405, "The path does not take this method"},
	RequestConflict:      {409, "Another request has this id"},
	EventConflict:        {409, "Other events have these ids"},
	KeyMismatch:          {422, "The header Idempotency-Key is not the request's id"},
	IllegalTransition:    {409, "The request's state does not allow this"},
	FourEyes:             {409, "Another person than its author has to approve"},
	ModelRefused:         {409, "The model can't be used"},
	OutcomeConflict:      {409, "Other outcomes have these ids"},
	Gone:                 {410, "It is no longer kept"},
	BodyTooLarge:         {413, "The body is too large"},
	UnsupportedMediaType: {415, "The body has a type that is not taken here"},
	RateLimited:          {429, "The key's rate is used up"},
	Internal:             {500, "Something went wrong on our side"},
	Busy:                 {503, "Too much at once; try again shortly"},
	Timeout:              {503, "It took too long; try again"},
	NotReady:             {503, "Not ready"},
}

// uri is the stable name of the kind in answers.
func (k Kind) uri() string { return "/problems/" + string(k) }

// byStatus orders kinds by status, then name.
func byStatus(a, b Kind) int {
	return cmp.Or(cmp.Compare(Problems[a].Status, Problems[b].Status), cmp.Compare(a, b))
}

// problem is an error that the client may read as it is.
type problem struct {
	kind   Kind
	detail string
	errors []fault
	cause  error // for the log

	retryAfter int // seconds
}

// fault is one wrong thing in what was sent: a place in the body, or a query parameter.
type fault struct {
	Line      int     `json:"line,omitzero"` // of NDJSON or of a policy, from 1
	Parameter string  `json:"parameter,omitzero"`
	Pointer   *string `json:"pointer,omitzero"` // RFC 6901, within the body or the line
	Detail    string  `json:"detail"`
}

func (p *problem) Error() string {
	if p.cause != nil {
		return string(p.kind) + ": " + p.cause.Error()
	}
	return string(p.kind) + ": " + p.detail
}

func problemf(k Kind, format string, args ...any) *problem {
	return &problem{kind: k, detail: fmt.Sprintf(format, args...)}
}

// invalidParameter tells what one query parameter has to be.
func invalidParameter(name, format string, args ...any) *problem {
	return &problem{kind: InvalidParameter, detail: "the query parameter " + strconv.Quote(name) + " is wrong",
		errors: []fault{{Parameter: name, Detail: fmt.Sprintf(format, args...)}}}
}

// maxFaults bounds how many wrong things one answer lists.
const maxFaults = 100

// faults are the wrong fields of a value of the body.
func faults(invalid vaglio.Invalid, line int, prefix string) []fault {
	out := make([]fault, len(invalid))
	for i, f := range invalid {
		pointer := prefix + f.Pointer
		out[i] = fault{Line: line, Pointer: &pointer, Detail: f.Detail}
	}
	return out
}

// wellFormed is nil for exactly one JSON value.
func wellFormed(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body))
	if _, err := dec.ReadValue(); err != nil {
		return malformed(err)
	}
	return atEnd(dec)
}

// atEnd is nil when nothing follows what was read.
func atEnd(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return problemf(MalformedJSON, "something follows the first value")
	}
	return nil
}

// malformed tells where a body stops being JSON.
func malformed(err error) *problem {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return problemf(MalformedJSON, "it ends too early")
	}
	pointer, detail := string(syntactic.JSONPointer), fmt.Sprintf("at byte %d: %v", syntactic.ByteOffset, syntactic.Err)
	return &problem{kind: MalformedJSON, detail: detail, errors: []fault{{Pointer: &pointer, Detail: detail}}}
}

// invalidFields lists wrong fields, at most maxFaults of them.
func invalidFields(k Kind, all []fault) *problem {
	if len(all) > maxFaults {
		return &problem{kind: k, detail: fmt.Sprintf("more than %d things are wrong, the first are listed", maxFaults), errors: all[:maxFaults]}
	}
	if len(all) == 1 {
		return &problem{kind: k, detail: "1 thing is wrong", errors: all}
	}
	return &problem{kind: k, detail: fmt.Sprintf("%d things are wrong", len(all)), errors: all}
}

// problemOf puts an error into words for the client. What it does not know is Internal, without a detail: the log has it.
func problemOf(err error) *problem {
	var known *problem
	var invalid vaglio.Invalid
	var tooLarge *http.MaxBytesError
	var routing *echo.HTTPError
	var conflict *ledger.ConflictError
	var transition *ledger.TransitionError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &invalid):
		return invalidFields(InvalidRequest, faults(invalid, 0, ""))
	case errors.As(err, &conflict):
		return &problem{kind: RequestConflict, detail: "a decided request has this id and other content", errors: differing(conflict.Fields)}
	case errors.As(err, &transition):
		return problemf(IllegalTransition, "it is %s, which allows %s", transition.From, cmp.Or(strings.Join(transition.Legal, ", "), "nothing more"))
	case errors.As(err, &tooLarge):
		return problemf(BodyTooLarge, "at most %d bytes", tooLarge.Limit)
	case errors.As(err, &routing) && routing.Code == http.StatusNotFound:
		return problemf(NotFound, "there is nothing at this path")
	case errors.As(err, &routing) && routing.Code == http.StatusMethodNotAllowed:
		return problemf(MethodNotAllowed, "the Allow header lists the methods of this path")
	case errors.Is(err, ledger.ErrFourEyes):
		return problemf(FourEyes, "approve with the key of another person")
	case errors.Is(err, ledger.ErrNotFound):
		return problemf(NotFound, "nothing has this id")
	case errors.Is(err, ledger.ErrNotKept):
		return problemf(Gone, "it was decided, and what was kept of it is over its time: send nothing again under this id")
	case errors.Is(err, ledger.ErrOutboxFull):
		return problemf(Busy, "too many events wait for history")
	case errors.Is(err, ledger.ErrClosed):
		return problemf(NotReady, "the server is shutting down")
	case errors.Is(err, context.DeadlineExceeded):
		return problemf(Timeout, "nothing is known to be wrong with what was sent; sent again it counts once")
	case scoring.Unavailable(err):
		return problemf(NotReady, "a database can't be reached or has no room; sent again it counts once")
	default:
		return problemf(Internal, "the log has more under the id of this request")
	}
}

// differing names the members in which two contents differ.
func differing(members []string) []fault {
	out := make([]fault, len(members))
	for i, m := range members {
		pointer := "/" + m
		out[i] = fault{Pointer: &pointer, Detail: "differs"}
	}
	return out
}

// statusGone is what the log and the metrics call a request whose client went away.
const statusGone = 499

// fail answers an error and logs what the client does not get to see.
func (s *Server) fail(err error, x *exchange) {
	p := problemOf(err)
	if ctx := x.Request().Context(); ctx.Err() != nil && errors.Is(err, context.Canceled) {
		x.status = statusGone
	} else {
		s.report(ctx, x, p, err)
	}
	if x.Response().Committed {
		return
	}
	h := x.Response().Header()
	switch p.kind {
	case Unauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="vaglio"`)
	case Forbidden:
		h.Set("WWW-Authenticate", `Bearer realm="vaglio", error="insufficient_scope"`)
	case Busy, Timeout, NotReady:
		h.Set("Retry-After", "1")
	case RateLimited:
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	_ = x.Blob(Problems[p.kind].Status, typeProblem, p.encode(x.id)) // fails only when nobody is left to read it
}

// report logs what is ours to look at.
func (s *Server) report(ctx context.Context, x *exchange, p *problem, err error) {
	if p.kind == Internal || p.kind == Timeout || p.kind == NotReady {
		s.log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("route", x.route), slog.String("request_id", x.id),
			slog.Any("error", err))
	}
}

// problemWire is a problem as it is answered.
type problemWire struct {
	Type     string  `json:"type"`
	Title    string  `json:"title"`
	Status   int     `json:"status"`
	Detail   string  `json:"detail"`
	Instance string  `json:"instance"`
	Errors   []fault `json:"errors,omitempty"`
}

// encode writes the problem of an exchange.
func (p *problem) encode(instance string) []byte {
	meaning := Problems[p.kind]
	body, err := json.Marshal(&problemWire{p.kind.uri(), meaning.Title, meaning.Status, p.detail, instance, p.errors}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("api: a problem does not encode: " + err.Error())
	}
	return body
}
