package api

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"vaglio"
	"vaglio/ledger"
)

// maxSecretBytes is far above the length of any secret that the ledger gives out.
const maxSecretBytes = 256

// need is nil when the key opens what one of the scopes protects.
func (x *exchange) need(scopes ...string) error {
	if slices.ContainsFunc(scopes, x.key.Allows) {
		return nil
	}
	return problemf(Forbidden, "this needs a key with the scope %s", strings.Join(scopes, " or "))
}

// authenticate finds out who asks: the owner of the bearer secret or, while access is open, anyone.
func (s *Server) authenticate(x *exchange) error {
	ctx := x.Request().Context()
	given := x.Request().Header.Values("Authorization")
	if len(given) == 0 {
		open, err := s.open.admits(ctx, s.ledger, x.Request().Host)
		if err != nil {
			return err
		}
		if !open {
			return problemf(Unauthorized, "send Authorization: Bearer and a key")
		}
		x.key = ledger.Key{ID: "open", Scopes: []string{ledger.ScopeAdmin}}
		return nil
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	secret = strings.TrimSpace(secret)
	if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" || len(secret) > maxSecretBytes {
		return problemf(Unauthorized, "want one Authorization header: Bearer and a key")
	}
	key, err := s.ledger.Authenticate(ctx, secret)
	if errors.Is(err, ledger.ErrUnauthenticated) {
		return problemf(Unauthorized, "this key is unknown or revoked")
	}
	if err != nil {
		return err
	}
	x.key = key
	s.uses.note(key, vaglio.InstantOf(s.now()))
	return nil
}

// openAccess lets anyone in on a loopback listener until the first key is seen, and never again after that.
type openAccess struct {
	allowed bool
	ended   atomic.Bool
}

// admits also wants a loopback host name: a page in a browser of this machine can make some other name resolve to
// 127.0.0.1 (DNS rebinding), but it can't choose the name that the browser sends.
func (o *openAccess) admits(ctx context.Context, keys *ledger.Ledger, host string) (bool, error) {
	if !o.allowed || o.ended.Load() || !isLoopback(host) {
		return false, nil
	}
	hasKeys, err := keys.HasKeys(ctx)
	if err != nil {
		return false, err
	}
	if hasKeys {
		o.ended.Store(true)
	}
	return !hasKeys, nil
}

// isLoopback reads the Host header, with or without a port.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
