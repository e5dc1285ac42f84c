package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vaglio/history"
	"vaglio/history/embedded"
	"vaglio/ledger"
	"vaglio/models"
)

// wiring are the flags that say where history and ledger live.
type wiring struct {
	clickhouse   string
	cluster      string
	ledger       string
	baseCurrency string
}

func (w *wiring) historyFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.clickhouse, "clickhouse", "", "DSN of a ClickHouse; without one an embedded ClickHouse runs below --data")
	cmd.Flags().StringVar(&w.cluster, "cluster", "", "name of the cluster that the ClickHouse server is of: tables are made on all its servers")
	cmd.Flags().StringVar(&w.baseCurrency, "base-currency", "", "currency of amounts in features, fixed by the first use of a history (default EUR)")
}

func (w *wiring) ledgerFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.ledger, "ledger", "", "DSN of the ledger (sqlite:PATH); without one ledger.db below --data")
}

// installation is what commands work on. Parts are opened on demand and closed together, the last first.
type installation struct {
	data   string
	wiring wiring
	log    *slog.Logger
	closer []io.Closer
	ledger *ledger.Ledger   // once it is open
	server *embedded.Server // the ClickHouse that we run; nil when it is somebody else's
}

func newInstallation(cmd *cobra.Command, w wiring) (*installation, error) {
	data, err := cmd.Flags().GetString("data")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	return &installation{data: data, wiring: w, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}, nil
}

func (in *installation) Close() error {
	var failures []error
	for i := len(in.closer) - 1; i >= 0; i-- {
		failures = append(failures, in.closer[i].Close())
	}
	in.closer, in.ledger = nil, nil
	return errors.Join(failures...)
}

// openHistory connects to the ClickHouse that was named, or starts the embedded one.
func (in *installation) openHistory(ctx context.Context) (*history.Store, error) {
	dsn := in.wiring.clickhouse
	if dsn == "" && in.wiring.cluster != "" {
		return nil, usagef("--cluster wants --clickhouse: the embedded ClickHouse is one server")
	}
	if dsn == "" {
		server, err := embedded.Start(ctx, embedded.Options{Dir: filepath.Join(in.data, "clickhouse"), Logger: in.log})
		if err != nil {
			return nil, err
		}
		in.closer, in.server = append(in.closer, server), server
		dsn = server.DSN()
	}
	store, err := history.Open(ctx, dsn, history.Options{BaseCurrency: in.wiring.baseCurrency, Cluster: in.wiring.cluster, Logger: in.log})
	if err != nil {
		return nil, err
	}
	in.closer = append(in.closer, store)
	return store, nil
}

// joinHistory is openHistory that goes along with a server on the same folder: it uses the embedded ClickHouse of that one.
func (in *installation) joinHistory(ctx context.Context) (*history.Store, error) {
	dsn, running := embedded.Running(filepath.Join(in.data, "clickhouse"))
	if in.wiring.clickhouse != "" || !running {
		return in.openHistory(ctx)
	}
	store, err := history.Open(ctx, dsn, history.Options{BaseCurrency: in.wiring.baseCurrency, Logger: in.log})
	if err != nil { // what is written there may be of one that was killed
		return in.openHistory(ctx)
	}
	in.closer = append(in.closer, store)
	return store, nil
}

func (in *installation) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	if in.ledger != nil {
		return in.ledger, nil
	}
	dsn := in.wiring.ledger
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(in.data, "ledger.db")
	}
	l, err := ledger.Open(ctx, dsn, ledger.Options{Logger: in.log})
	if err != nil {
		return nil, err
	}
	in.closer, in.ledger = append(in.closer, l), l
	return l, nil
}

func (in *installation) registry() (*models.Registry, error) {
	return models.OpenRegistry(filepath.Join(in.data, "models"))
}

// openModel opens a bundle by its folder or by its version in the registry; "" is the champion.
func (in *installation) openModel(name string) (*models.Bundle, error) {
	if _, err := os.Stat(filepath.Join(name, "manifest.json")); name != "" && err == nil {
		return models.Open(name)
	}
	registry, err := in.registry()
	if err != nil {
		return nil, err
	}
	if name == "" {
		version, ok, err := registry.Current(models.Champion)
		if err != nil || !ok {
			return nil, errors.Join(err, errNoChampion)
		}
		name = version
	}
	return registry.Open(name)
}

var errNoChampion = errors.New("no model is champion: train one with `vaglio train … --promote`")
