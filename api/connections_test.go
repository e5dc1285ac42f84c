package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/api"
	"vaglio/scoring"
)

// realOn is the API with a real engine on a port.
func realOn(t *testing.T, o api.Options) (address string, end func() error) {
	t.Helper()
	if o.Ledger == nil {
		o.Ledger, o.OpenAccess = emptyLedger(t), true
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.Engine = scoring.New(scoring.Options{History: events, Ledger: o.Ledger, Logger: o.Logger})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := api.New(o)
	go func() { served <- s.Serve(ctx, listener) }()
	return listener.Addr().String(), func() error { cancel(); return <-served }
}

// exchangeRaw writes bytes as they are and reads until the server closes the connection.
func exchangeRaw(t *testing.T, address, sent string, closeWrite bool) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, sent); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
		t.Fatal(err)
	}
	if closeWrite {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("%v after %q", err, answer)
	}
	return string(answer)
}

func TestSlowAndBrokenConnectionsAreEnded(t *testing.T) {
	// Of these limits, only what is cut off by one meets it: what is answered has 5 seconds to arrive.
	address, end := realOn(t, api.Options{Timeouts: api.Timeouts{Header: time.Minute, Read: 5 * time.Second, Idle: 50 * time.Millisecond}})
	hasty, endHasty := realOn(t, api.Options{Timeouts: api.Timeouts{Header: 50 * time.Millisecond, Read: time.Minute, Idle: time.Minute}})
	head := func(length int) string {
		return fmt.Sprintf("POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", length)
	}
	ends := func(sent string, closeWrite bool, want string) {
		t.Helper()
		if answer := exchangeRaw(t, address, sent, closeWrite); !strings.Contains(answer, want) {
			t.Errorf("%.60q: %q, want %q", sent, answer, want)
		}
	}
	for _, sent := range []string{"", "POST /v1/sco"} { // says nothing, stops in the header
		exchangeRaw(t, hasty, sent, false)
	}
	ends(head(10)+`{"id"`, false, "/problems/incomplete-body")             // stops in the body
	ends(head(10)+`{"id"`, true, "/problems/incomplete-body")              // breaks off in the body
	ends("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", false, "200") // goes silent after an answer
	ends("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", true, "400")      // speaks TLS to a plain port
	ends("GET / HTTP/9.9\r\n\r\n", false, "HTTP/1.1 505")
	ends("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", false, "431")
	ends("POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, "/problems/incomplete-body")
	ends("POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", false, "/problems/unsupported-media-type")
	ends("POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false, "400")
	ends("GET /healthz HTTP/1.1\r\n\r\n", false, "400") // has no Host
	response, err := http.Get("http://" + address + "/healthz")
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("after all that: %v, %v", response, err)
	}
	response.Body.Close()
	for _, end := range []func() error{end, endHasty} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

func TestAShutdownKeepsWhatItAcknowledged(t *testing.T) {
	address, end := realOn(t, api.Options{})
	finish := halfSent(t, address, "/v1/score", requestWithID("shutdown_1"))
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	for { // until the listener is closed
		conn, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		conn.Close()
	}
	answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(strings.TrimLeft(finish(), "\r\n"))), nil)
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%+v, %v", answer, err)
	}
	var d vaglio.Decision
	if err := json.UnmarshalRead(answer.Body, &d); err != nil || d.RequestID != "shutdown_1" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAShutdownDoesNotWaitForEver(t *testing.T) {
	address, end := realOn(t, api.Options{Timeouts: api.Timeouts{Shutdown: time.Millisecond}})
	halfSent(t, address, "/v1/score", requestWithID("never_sent"))
	if err := end(); err == nil {
		t.Error("nothing is said of the call that was cut off")
	}
}
