package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vaglio/api"
)

// writePair writes a self-signed certificate for 127.0.0.1 and its key. Each serial has files of another age.
func writePair(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "vaglio"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), serial)
	write(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), serial)
}

func write(t *testing.T, path string, content []byte, age int64) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000+age, 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestANewCertificateIsTakenUpAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := api.TLSConfig(cert, key, slog.Default()); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("without files: %v", err)
	}
	writePair(t, dir, 1)
	var log bytes.Buffer
	config, err := api.TLSConfig(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := api.New(api.Options{Ledger: emptyLedger(t), OpenAccess: true, Logger: slog.New(slog.DiscardHandler)})
	go func() { served <- s.Serve(ctx, tls.NewListener(plain, config)) }()
	serial := func(protocols ...string) int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", plain.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) //nolint:gosec // reads the serial
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if state := conn.ConnectionState(); len(protocols) > 0 && state.NegotiatedProtocol != protocols[0] {
			t.Errorf("speaks %q", state.NegotiatedProtocol)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial("h2"); got != 1 {
		t.Errorf("serial %d", got)
	}
	writePair(t, dir, 2)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the change", got)
	}
	write(t, key, []byte("no key"), 3)
	for range 3 {
		if got := serial(); got != 2 {
			t.Errorf("serial %d with a broken key", got)
		}
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 1 {
		t.Errorf("%d errors logged:\n%s", got, &log)
	}
	writePair(t, dir, 4)
	if got := serial("http/1.1"); got != 4 {
		t.Errorf("serial %d after the repair", got)
	}
	if _, err := tls.Dial("tcp", plain.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // refused
		t.Error("TLS 1.1 is spoken")
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
