// Package client calls a Vaglio server from Go: [Client.Score] decides a request, [Client.Events] and [Client.Outcomes]
// tell what happened. Everything that is sent has an id under which it counts once, so the client simply sends again what
// was refused for a moment or lost on the way. What the server refuses for good is a [*Problem]: problem.go.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// The most that one call may hold.
const (
	MaxBatch  = 1000   // requests of ScoreBatch
	MaxEvents = 20_000 // events or outcomes
)

// Client calls one server. Its methods may be called from any number of goroutines.
type Client struct {
	base      string
	key       string
	http      *http.Client
	own       *http.Transport // nil when the caller gave an http.Client
	attempts  int
	first     time.Duration
	most      time.Duration
	maxAnswer int64
	sleep     func(context.Context, time.Duration) error
}

// Option changes how a client calls.
type Option func(*Client)

// WithHTTPClient calls through an http.Client of the caller's: for proxies, own certificates, tracing.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithAttempts sends at most n times, the first included; the default is 4.
func WithAttempts(n int) Option { return func(c *Client) { c.attempts = max(n, 1) } }

// WithBackoff waits about first before the second attempt and twice as long before each further one, up to most, each
// time between half and all of it. The defaults are 100 ms and 2 s. A Retry-After that asks for more is kept.
func WithBackoff(first, most time.Duration) Option {
	return func(c *Client) { c.first, c.most = first, most }
}

// WithMaxAnswer refuses answers of more bytes; the default is 32 MiB.
func WithMaxAnswer(bytes int64) Option { return func(c *Client) { c.maxAnswer = bytes } }

// New makes a client for the server at a URL such as https://vaglio.internal:8443, with an API key, "" for a server that
// is open. Each attempt may take a minute.
func New(baseURL, key string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("read the server's URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the server's URL %q is not like https://host:port", u.Redacted())
	}
	c := &Client{base: strings.TrimRight(baseURL, "/"), key: key, attempts: 4, first: 100 * time.Millisecond, most: 2 * time.Second,
		maxAnswer: 32 << 20, sleep: sleep}
	for _, o := range opts {
		o(c)
	}
	if c.http == nil {
		c.own = http.DefaultTransport.(*http.Transport).Clone()
		c.own.MaxIdleConnsPerHost = 64 // a pipeline calls one host, from many goroutines
		c.http = &http.Client{Transport: c.own, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return c, nil
}

// Close ends the idle connections, unless they are of the caller's http.Client. Calls under way go on.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Score decides a request. The same request gets the same decision for ever; another request under its id is ErrConflict.
func (c *Client) Score(ctx context.Context, r *vaglio.Request) (*vaglio.Decision, error) {
	return post[vaglio.Decision](ctx, c, "/v1/score", r, "decide request "+r.ID)
}

// Scored is what became of one request of a batch: a decision or a problem.
type Scored struct {
	Decision *vaglio.Decision `json:"decision"`
	Problem  *Problem         `json:"problem"`
	Replayed bool             `json:"replayed"` // it had been decided before
}

// Err is the problem as an error, nil with a decision.
func (s *Scored) Err() error {
	if s.Problem == nil {
		return nil
	}
	return s.Problem
}

// ScoreBatch decides 1 to MaxBatch requests and answers in their order. A bad request does not fail the others.
func (c *Client) ScoreBatch(ctx context.Context, requests []vaglio.Request) ([]Scored, error) {
	doing := fmt.Sprintf("decide %d requests", len(requests))
	all, err := post[[]Scored](ctx, c, "/v1/score/batch", requests, doing)
	if err != nil {
		return nil, err
	}
	if len(*all) != len(requests) {
		return nil, fmt.Errorf("%s: the answer has %d entries", doing, len(*all))
	}
	for i, s := range *all {
		if (s.Decision == nil) == (s.Problem == nil) {
			return nil, fmt.Errorf("%s: entry %d is neither a decision nor a problem", doing, i)
		}
	}
	return *all, nil
}

// Stored tells what became of what was sent.
type Stored struct {
	Stored   int `json:"stored"`
	Repeated int `json:"repeated"` // was there already
}

// Events stores 1 to MaxEvents events: all of them or, when one is invalid, none. Other events under the same ids are
// ErrConflict; the rest of the call is stored then.
func (c *Client) Events(ctx context.Context, events ...vaglio.Event) (Stored, error) {
	return stored(post[Stored](ctx, c, "/v1/events", events, fmt.Sprintf("store %d events", len(events))))
}

// Outcomes reports 1 to MaxEvents outcomes, as Events stores events.
func (c *Client) Outcomes(ctx context.Context, outcomes ...vaglio.ReportedOutcome) (Stored, error) {
	return stored(post[Stored](ctx, c, "/v1/outcomes", outcomes, fmt.Sprintf("report %d outcomes", len(outcomes))))
}

func stored(s *Stored, err error) (Stored, error) {
	if err != nil {
		return Stored{}, err
	}
	return *s, nil
}

// Decision reads a stored decision by its id or its request's; ErrNotFound if there is none.
func (c *Client) Decision(ctx context.Context, id string) (*vaglio.Decision, error) {
	return get[vaglio.Decision](ctx, c, "/v1/decisions/"+url.PathEscape(id), "read decision "+id)
}

// Explanation reads what led to a decision, as JSON for an audience: reviewer, auditor, customer, or "" for the default.
func (c *Client) Explanation(ctx context.Context, id, audience string) (jsontext.Value, error) {
	path := "/v1/decisions/" + url.PathEscape(id) + "/explanation"
	if audience != "" {
		path += "?audience=" + url.QueryEscape(audience)
	}
	v, err := get[jsontext.Value](ctx, c, path, "explain decision "+id)
	if err != nil {
		return nil, err
	}
	return *v, nil
}

// State is what has become of a request since its decision.
type State struct {
	RequestID      string         `json:"request_id"`
	DecisionID     string         `json:"decision_id"`
	State          string         `json:"state"` // pending_review, awaiting_customer, approved, partly_approved, denied, cancelled, expired
	Verdict        vaglio.Verdict `json:"decision"`
	ApprovedAmount int64          `json:"approved_amount"` // minor units of Currency
	Currency       string         `json:"currency"`
	ValidUntil     vaglio.Instant `json:"valid_until"`
	ReviewDueAt    vaglio.Instant `json:"review_due_at"`
	Execution      *Execution     `json:"execution"` // nil: none was told
}

// Execution is what a payment provider did.
type Execution struct {
	State     string         `json:"state"`              // submitted, succeeded, failed, cancelled
	Reference string         `json:"reference,omitzero"` // the provider's
	Amount    int64          `json:"amount,omitzero"`    // minor units that moved; 0: all that was approved
	Reason    string         `json:"reason,omitzero"`    // of a failure or cancellation
	At        vaglio.Instant `json:"at,omitzero"`        // 0: now
}

// Request reads what has become of a request.
func (c *Client) Request(ctx context.Context, id string) (*State, error) {
	return get[State](ctx, c, "/v1/requests/"+url.PathEscape(id), "read request "+id)
}

// Execute tells what the payment provider did. The same again changes nothing; what the request's state does not allow is
// ErrConflict.
func (c *Client) Execute(ctx context.Context, id string, e Execution) (*State, error) {
	return post[State](ctx, c, "/v1/requests/"+url.PathEscape(id)+"/execution", &e, "tell the execution of request "+id)
}

// Cancel withdraws a request. What the request's state does not allow is ErrConflict.
func (c *Client) Cancel(ctx context.Context, id, reason string) (*State, error) {
	return post[State](ctx, c, "/v1/requests/"+url.PathEscape(id)+"/cancel", &struct {
		Reason string `json:"reason,omitzero"`
	}{reason}, "withdraw request "+id)
}

// post sends a value and reads the answer into a T.
func post[T any](ctx context.Context, c *Client, path string, v any, doing string) (*T, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return call[T](ctx, c, http.MethodPost, path, body, doing)
}

func get[T any](ctx context.Context, c *Client, path, doing string) (*T, error) {
	return call[T](ctx, c, http.MethodGet, path, nil, doing)
}

func call[T any](ctx context.Context, c *Client, method, path string, body []byte, doing string) (*T, error) {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	var out T
	if err := json.Unmarshal(answer, &out); err != nil { // members that a newer server adds are left out
		return nil, fmt.Errorf("%s: read the answer: %w", doing, err)
	}
	return &out, nil
}

// do sends until there is an answer that another attempt would not change.
func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		answer, wait, err := c.once(ctx, method, path, body)
		if err == nil || wait < 0 {
			return answer, err
		}
		wait = max(wait, c.backoff(attempt))
		if deadline, ok := ctx.Deadline(); attempt == c.attempts || ok && time.Until(deadline) <= wait {
			return nil, err
		}
		if stopped := c.sleep(ctx, wait); stopped != nil {
			return nil, errors.Join(stopped, err)
		}
	}
}

// attemptTimeout bounds one attempt: longer than any route works.
const attemptTimeout = 60 * time.Second

const never = time.Duration(-1)

// once sends once. The wait is that which the server asked for, 0 without one, never when another attempt has no sense.
func (c *Client) once(ctx context.Context, method, path string, body []byte) (answer []byte, wait time.Duration, err error) {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(attempt, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, never, err
	}
	request.Header.Set("User-Agent", "vaglio-client/"+vaglio.Version)
	request.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil || isFinal(err) {
			return nil, never, err
		}
		return nil, 0, err
	}
	defer response.Body.Close()
	answer, err = readAll(response.Body, c.maxAnswer)
	switch {
	case errors.Is(err, ErrTooLarge), err != nil && ctx.Err() != nil:
		return nil, never, err
	case err != nil:
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	case response.StatusCode == http.StatusOK:
		return answer, 0, nil
	}
	p := problemOf(response, answer)
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, retryAfter(response.Header.Get("Retry-After")), p
	default:
		return nil, never, p
	}
}

// retryAfter reads seconds; 0 for none. Dates are not what the server sends.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}
