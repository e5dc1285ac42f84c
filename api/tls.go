package api

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSConfig serves a certificate chain and its key from PEM files, and takes up new ones with the next connection after
// the files have changed. Files that do not fit together, as in the middle of a change, leave the pair before in use.
func TLSConfig(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{files: [2]string{certFile, keyFile}, log: log}
	if _, err := c.current(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: c.current}, nil
}

// certificate is a pair of files with what was last read from them.
type certificate struct {
	files [2]string
	log   *slog.Logger

	mu   sync.Mutex
	pair *tls.Certificate // nil before the first reading
	seen [2]version       // of the files when they were last read, well or badly
}

// version tells one content of a file from the next.
type version struct {
	size    int64
	changed time.Time
}

func versionOf(info fs.FileInfo) version { return version{info.Size(), info.ModTime()} }

// current reads the files again when they have changed.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var now [2]version
	for i, name := range c.files {
		info, err := os.Stat(name)
		if err != nil {
			return c.keep(now, err)
		}
		now[i] = versionOf(info)
	}
	if c.pair != nil && now == c.seen {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.files[0], c.files[1])
	if err != nil {
		return c.keep(now, err)
	}
	if c.pair != nil {
		c.log.Info("certificate changed", "not_after", pair.Leaf.NotAfter)
	}
	c.pair, c.seen = &pair, now
	return c.pair, nil
}

// keep answers with the pair before, if there is one, and says so once for each state of the files.
func (c *certificate) keep(now [2]version, err error) (*tls.Certificate, error) {
	if c.pair == nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if now != c.seen {
		c.seen = now
		c.log.Error("the certificate can't be read, the one before stays", "error", err)
	}
	return c.pair, nil
}
