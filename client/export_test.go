package client

import (
	"context"
	"time"
)

// WithSleep waits by a function of the test's.
func WithSleep(f func(context.Context, time.Duration) error) Option {
	return func(c *Client) { c.sleep = f }
}
