package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// What a problem is about, for errors.Is.
var (
	ErrInvalid      = errors.New("what was sent is wrong")
	ErrUnauthorized = errors.New("the key is missing or not valid")
	ErrForbidden    = errors.New("the key may not do this")
	ErrNotFound     = errors.New("there is no such thing")
	ErrConflict     = errors.New("the id is taken by other content")
	ErrRateLimited  = errors.New("the key's rate is used up")
	ErrUnavailable  = errors.New("the server can't answer")
	ErrTooLarge     = errors.New("the answer is larger than is taken")
)

// Problem is what a server answered instead (RFC 9457).
type Problem struct {
	Type     string  `json:"type"` // stable: "/problems/invalid-request"; "about:blank" when something before the server answered
	Title    string  `json:"title"`
	Status   int     `json:"status"`
	Detail   string  `json:"detail"`
	Instance string  `json:"instance"` // names the exchange in the server's log
	Fields   []Field `json:"errors"`
}

// Field is one wrong thing in what was sent.
type Field struct {
	Line      int    `json:"line"`      // of NDJSON, from 1
	Parameter string `json:"parameter"` // of the query
	Pointer   string `json:"pointer"`   // RFC 6901, into the body
	Detail    string `json:"detail"`
}

func (p *Problem) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s", p.Status, p.Title)
	if p.Detail != "" {
		fmt.Fprintf(&out, ": %s", p.Detail)
	}
	for i, f := range p.Fields {
		if i == 5 {
			fmt.Fprintf(&out, "; and %d more", len(p.Fields)-i)
			break
		}
		fmt.Fprintf(&out, "; %s%s %s", f.Pointer, f.Parameter, f.Detail)
	}
	if p.Instance != "" {
		fmt.Fprintf(&out, " (%s)", p.Instance)
	}
	return out.String()
}

// Is reports whether the problem is of a kind: one of the errors above.
func (p *Problem) Is(target error) bool {
	switch target {
	case ErrUnauthorized:
		return p.Status == http.StatusUnauthorized
	case ErrForbidden:
		return p.Status == http.StatusForbidden
	case ErrNotFound:
		return p.Status == http.StatusNotFound
	case ErrConflict:
		return p.Status == http.StatusConflict
	case ErrRateLimited:
		return p.Status == http.StatusTooManyRequests
	case ErrUnavailable:
		return p.Status >= http.StatusInternalServerError
	case ErrInvalid:
		return p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge ||
			p.Status == http.StatusUnsupportedMediaType || p.Status == http.StatusUnprocessableEntity
	default:
		return false
	}
}

// problemOf reads a problem document, or makes one of an answer that has none: a proxy's, for example.
func problemOf(response *http.Response, body []byte) *Problem {
	mediaType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	p := &Problem{}
	if mediaType == "application/problem+json" && json.Unmarshal(body, p) == nil {
		p.Status = response.StatusCode
		return p
	}
	return &Problem{Type: "about:blank", Title: http.StatusText(response.StatusCode), Status: response.StatusCode}
}

// readAll reads no more than a number of bytes.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	return b, err
}

// isFinal reports errors of a connection that come again each time.
func isFinal(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &record)
}

// backoff is how long to wait after an attempt: between half and all of a time that doubles.
func (c *Client) backoff(attempt int) time.Duration {
	wait := c.first
	for range attempt - 1 {
		wait = min(2*wait, c.most)
	}
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // jitter needs no secret
}

// sleep waits, or returns the error of a context that ends before.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
