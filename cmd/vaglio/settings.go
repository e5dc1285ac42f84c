package main

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"vaglio/api"
)

// check finds all that is wrong with the settings of a server before anything is opened.
func (s *serving) check() error {
	var failures []error
	wrong := func(format string, args ...any) { failures = append(failures, usagef(format, args...)) }
	if _, port, err := net.SplitHostPort(s.listen); err != nil || port == "" {
		wrong("--listen %s: want HOST:PORT", s.listen)
	}
	switch {
	case s.budget <= 0:
		wrong("--budget %v: want a time above 0", s.budget)
	case s.cache < 0:
		wrong("--cache %d: want bytes from 0", s.cache)
	}
	if !(s.rate >= 0) {
		wrong("--rate-limit %v: want calls a second from 0", s.rate)
	}
	if s.policy != "" {
		if _, err := readPolicy(s.policy); err != nil {
			failures = append(failures, err)
		}
	}
	switch {
	case (s.cert == "") != (s.key == ""):
		wrong("--tls-cert and --tls-key belong together")
	case s.cert != "":
		if _, err := api.TLSConfig(s.cert, s.key, nil); err != nil {
			failures = append(failures, err)
		}
	}
	if key := os.Getenv("VAGLIO_BOOTSTRAP_KEY"); key != "" && len(key) < 16 {
		wrong("VAGLIO_BOOTSTRAP_KEY has %d bytes, want at least 16", len(key))
	}
	return errors.Join(append(failures, s.wiring.check())...)
}

// check finds what is wrong with the addresses. It never shows one: they hold passwords.
func (w *wiring) check() error {
	var failures []error
	dsn := func(flag, value string, schemes ...string) {
		if value == "" {
			return
		}
		u, err := url.Parse(value)
		if err != nil || !slices.Contains(schemes, u.Scheme) || u.Scheme != "sqlite" && cmp.Or(u.Host, u.Query().Get("host")) == "" {
			failures = append(failures, usagef("--%s: want an address that begins with %s://HOST", flag, strings.Join(schemes, ":// or ")))
		}
	}
	dsn("clickhouse", w.clickhouse, "clickhouse", "tcp", "http", "https")
	if w.clickhouse == "" && w.cluster != "" {
		failures = append(failures, usagef("--cluster wants --clickhouse: the embedded ClickHouse is one server"))
	}
	if strings.Contains(w.ledger, "://") {
		dsn("ledger", w.ledger, "postgres", "postgresql", "sqlite")
	}
	return errors.Join(failures...)
}
