package history

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// dialWithin connects, and shakes hands, within the context's deadline: clickhouse-go itself gives both the whole
// DialTimeout, so a caller with a budget would wait for a server that accepts and says nothing.
func dialWithin(o *clickhouse.Options) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		dialer := &net.Dialer{Timeout: o.DialTimeout}
		var conn net.Conn
		var err error
		if o.TLS != nil {
			conn, err = (&tls.Dialer{NetDialer: dialer, Config: o.TLS}).DialContext(ctx, "tcp", address)
		} else {
			conn, err = dialer.DialContext(ctx, "tcp", address)
		}
		if err != nil {
			return nil, err
		}
		until, _ := ctx.Deadline()
		return &handshaking{Conn: conn, until: until}, nil
	}
}

// handshaking is a connection whose first deadline, that of the handshake, is cut to the dialler's own.
type handshaking struct {
	net.Conn
	until time.Time // zero: no longer
}

func (c *handshaking) SetDeadline(t time.Time) error {
	switch {
	case t.IsZero():
		c.until = t
	case !c.until.IsZero() && c.until.Before(t):
		t = c.until
	}
	return c.Conn.SetDeadline(t)
}
