package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/api"
	"vaglio/history"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
)

// serving are the flags of everything that answers HTTP.
type serving struct {
	wiring
	listen   string
	model    string
	policy   string
	budget   time.Duration
	cache    int64
	rate     float64
	fourEyes bool
	cert     string
	key      string
	// retrain is how old the newest model of a retraining may get, as text; "": there is no retraining.
	retrain string
	config  string // file of the settings, "" if none
}

func (s *serving) flags(cmd *cobra.Command) {
	s.historyFlags(cmd)
	s.ledgerFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:8080", "address to serve on")
	f.StringVar(&s.model, "model", "", "folder of a bundle, or version in the registry (default: the champion, also when it changes)")
	f.StringVar(&s.policy, "policy", "", "policy file (YAML; default: the published policy, or else the default one)")
	f.Int64Var(&s.cache, "cache", 256<<20, "bytes for timelines in memory; 0 reads history for every decision")
	f.DurationVar(&s.budget, "budget", 2*time.Second, "time for reading history; beyond it a decision is a degraded review")
}

func newServe() *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve decisions over HTTP",
		Long: "Serve decisions over HTTP.\n\nVAGLIO_BOOTSTRAP_KEY, if set, becomes an admin key. Without any key the API is open, and then listens on\n" +
			"loopback only.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := s.check(); err != nil {
				return err
			}
			in, err := newInstallation(cmd, s.wiring)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			if s.retrain != "" {
				if every, err := parseDays(s.retrain); err != nil || every == 0 {
					return usagef("--retrain-every: want a number of days such as 7d, not %q", s.retrain)
				}
			}
			if s.config, err = cmd.Flags().GetString("config"); err != nil {
				return err
			}
			running, err := s.start(cmd.Context(), in)
			if err != nil {
				return err
			}
			scheme := "http"
			if s.cert != "" {
				scheme = "https"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "vaglio %s serves on %s://%s\n", vaglio.Version, scheme, running.listener.Addr())
			return running.wait()
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.Float64Var(&s.rate, "rate-limit", 0, "calls a second of each API key that has no limit of its own, on this replica; 0: any number")
	f.BoolVar(&s.fourEyes, "policy-four-eyes", false, "a policy published over HTTP waits until the key of another person approves it")
	f.StringVar(&s.cert, "tls-cert", "", "certificate chain (PEM), read again when it changes; without one HTTP is plain: for loopback or behind a proxy")
	f.StringVar(&s.retrain, "retrain-every", "", "run vaglio retrain beside, in a process of its own, when its newest model is so old, such as 7d")
	f.StringVar(&s.key, "tls-key", "", "key of the certificate (PEM)")
	return cmd
}

// service is a running server with all that works behind it.
type service struct {
	listener    net.Listener
	stopServing context.CancelFunc
	work        sync.WaitGroup
	err         error // of serving
	lost        error // of a ClickHouse that ended for good
}

// drainTime bounds the wait at the end for the outbox to reach history. What is left is delivered after the next start.
const drainTime = 5 * time.Second

func drain(l *ledger.Ledger) {
	for end := time.Now().Add(drainTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		waiting, err := l.Backlogs(context.Background())
		if n := waiting[ledger.TopicHistory] + waiting[ledger.TopicDecisions]; n == 0 || err != nil {
			return
		}
	}
}

// start opens everything and serves until ctx ends or the service is stopped.
func (s *serving) start(ctx context.Context, in *installation) (*service, error) {
	store, err := in.openHistory(ctx)
	if err != nil {
		return nil, err
	}
	l, err := in.openLedger(ctx)
	if err != nil {
		return nil, err
	}
	open, err := s.access(ctx, l)
	if err != nil {
		return nil, err
	}
	return s.serveOn(ctx, in, store, l, open)
}

// serveOn starts the engine, what works behind it, and the server.
func (s *serving) serveOn(ctx context.Context, in *installation, store *history.Store, l *ledger.Ledger, open bool) (*service, error) {
	if err := collectLater(); err != nil {
		in.log.Warn("the memory that there is can't be found out: the collector has no limit", "error", err)
	}
	engine, follow, err := s.engine(ctx, in, store, l)
	if err != nil {
		return nil, err
	}
	bundles, err := in.registry()
	if err != nil {
		return nil, err
	}
	listener, err := s.open(in)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		outbox(l, "vaglio_outbox_events", "Events that wait for history.", ledger.TopicHistory),
		outbox(l, "vaglio_outbox_decisions", "Decisions that wait for analytics.", ledger.TopicDecisions),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vaglio_guards_tripped", Help: "Guards that hold now."}, func() float64 {
			trips, err := l.GuardTrips(context.Background(), true)
			if err != nil {
				return -1
			}
			return float64(len(trips))
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vaglio_reviews_open", Help: "Requests that wait for a reviewer."}, func() float64 {
			n, err := l.OpenReviews(context.Background())
			if err != nil {
				return -1
			}
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vaglio_history_lag_seconds", Help: "Age of the memory's picture of history."}, func() float64 {
			lag, _ := engine.Lag()
			return lag.Seconds()
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vaglio_memory_bytes", Help: "Timelines in memory."}, func() float64 {
			return float64(engine.MemoryStats().Bytes)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "vaglio_memory_misses_total", Help: "Timelines that had to be read."}, func() float64 {
			return float64(engine.MemoryStats().Misses)
		}))
	server := api.New(api.Options{Engine: engine, Ledger: l, Logger: in.log, Registry: registry, OpenAccess: open, RateLimit: s.rate,
		Models: bundles, PolicyFourEyes: s.fourEyes})
	v := &service{listener: listener}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	serving, stop := context.WithCancel(ctx)
	v.stopServing = stop
	v.work.Go(func() {
		v.err = server.Serve(serving, listener)
		drain(l)
		cancel()
	})
	v.work.Go(func() {
		for background.Err() == nil { // history may be gone when we start
			if err := engine.Follow(background); err != nil {
				select {
				case <-background.Done():
				case <-time.After(time.Second):
				}
			} else {
				return
			}
		}
	})
	v.work.Go(func() { _ = l.Relay(background, time.Second, store.Deliver) })
	v.work.Go(func() { _ = l.RelayDecisions(background, time.Second, store.DeliverDecisions) })
	v.work.Go(func() { engine.Attend(background) })
	v.work.Go(func() { keepHouse(background, in, l) })
	if every, err := parseDays(s.retrain); err == nil && every > 0 {
		v.work.Go(func() { s.keepRetraining(background, in, bundles, every) })
	}
	if follow != nil {
		v.work.Go(func() { follow(background) })
	}
	if in.server != nil {
		v.work.Go(func() {
			select {
			case <-in.server.Done(): // it kept dying: whoever supervises us may start afresh
				v.lost = in.server.Err()
				stop()
			case <-background.Done():
			}
		})
	}
	return v, nil
}

// outbox counts what waits in a topic of the outbox; -1 when the ledger does not answer.
func outbox(l *ledger.Ledger, name, help string, topic ledger.Topic) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		waiting, err := l.Backlogs(context.Background())
		if err != nil {
			return -1
		}
		return float64(waiting[topic])
	})
}

// open listens, with TLS if there is a certificate.
func (s *serving) open(in *installation) (net.Listener, error) {
	var secure *tls.Config
	if s.cert != "" {
		var err error
		if secure, err = api.TLSConfig(s.cert, s.key, in.log); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	return listener, nil
}

// engine is ready to decide, with what the ledger and the registry say now. follow keeps its models up to date; nil when the
// flags name one.
func (s *serving) engine(ctx context.Context, in *installation, store *history.Store, l *ledger.Ledger) (
	e *scoring.Engine, follow func(context.Context), err error) {
	registry, err := in.registry()
	if err != nil {
		return nil, nil, err
	}
	o := scoring.Options{History: store, Ledger: l, Budget: s.budget, Cache: s.cache, Logger: in.log, Models: registry.Open}
	if s.policy != "" {
		if o.Policy, err = readPolicy(s.policy); err != nil {
			return nil, nil, err
		}
	}
	e = scoring.New(o)
	if err := e.Refresh(ctx); err != nil {
		return nil, nil, err
	}
	follow, err = s.useModels(in, e, registry)
	return e, follow, err
}

// wait returns when the server has ended, everything behind it with it.
func (v *service) wait() error {
	v.work.Wait()
	return errors.Join(v.err, v.lost)
}

// stop ends the server and waits.
func (v *service) stop() error {
	v.stopServing()
	return v.wait()
}

// access says whether the API is open to all: only on loopback, and only while there is no key.
func (s *serving) access(ctx context.Context, l *ledger.Ledger) (open bool, err error) {
	if secret := os.Getenv("VAGLIO_BOOTSTRAP_KEY"); secret != "" {
		if err := l.EnsureBootstrapKey(ctx, secret); err != nil {
			return false, fmt.Errorf("VAGLIO_BOOTSTRAP_KEY: %w", err)
		}
	}
	has, err := l.HasKeys(ctx)
	if err != nil || has {
		return false, err
	}
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return false, usagef("--listen %s: want HOST:PORT", s.listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false, fmt.Errorf("listen on %s: there is no API key yet, and without one the API is open: "+
			"set VAGLIO_BOOTSTRAP_KEY or run `vaglio keys create`, or listen on 127.0.0.1", s.listen)
	}
	return true, nil
}

// houseEvery is how often what is over is put away.
const houseEvery = 10 * time.Second

// keepHouse ends approvals whose time is over and drops what history has by now.
func keepHouse(ctx context.Context, in *installation, l *ledger.Ledger) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, expired := l.Expire(ctx)
		_, dropped := l.DropMovements(ctx)
		if err := errors.Join(expired, dropped); err != nil && ctx.Err() == nil {
			in.log.Error("what is over can't be put away", "error", err)
		}
	}
}

// modelPoll is how often a change of stages is looked for.
const modelPoll = 2 * time.Second

// useModels loads the model that the flags name, or those of the registry's stages. For these it returns a loop that follows
// their changes; what can't be opened leaves the lineup before in place.
func (s *serving) useModels(in *installation, engine *scoring.Engine, registry *models.Registry) (follow func(context.Context), err error) {
	if s.model != "" {
		bundle, err := in.openModel(s.model)
		if err != nil {
			return nil, err
		}
		return nil, engine.UseModel(bundle)
	}
	if _, err := takeUp(registry, engine); err != nil {
		return nil, err
	}
	if engine.Model() == nil {
		in.log.Warn("there is no champion: every decision is a degraded review until a model is promoted")
	}
	return func(ctx context.Context) {
		tick := time.NewTicker(modelPoll)
		defer tick.Stop()
		failure := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			changed, err := takeUp(registry, engine)
			switch {
			case err != nil && err.Error() != failure:
				failure = err.Error()
				in.log.Error("the registry's models can't be taken up, those before stay", "error", err)
			case err == nil:
				failure = ""
				if changed {
					in.log.Info("models changed", "lineup", engine.Lineup().String())
				}
			}
		}
	}, nil
}

// takeUp makes the engine use the models of the registry's stages, and tells whether that changed anything. The champion before
// the present one stands by for the time when a guard finds the present one's scores wrong.
func takeUp(registry *models.Registry, engine *scoring.Engine) (changed bool, err error) {
	before := engine.Lineup()
	next := before
	var failures []error
	open := func(into **models.Bundle, version string) {
		if version == "" {
			changed = changed || *into != nil
			*into = nil
			return
		}
		if *into != nil && (*into).Manifest().Version == version {
			return
		}
		b, err := registry.Open(version)
		if err != nil {
			failures = append(failures, err)
			return
		}
		*into, changed = b, true
	}
	current := map[models.Stage]models.Promotion{}
	for _, stage := range models.Stages {
		p, _, err := registry.InForce(stage)
		if err != nil {
			return false, err
		}
		current[stage] = p
	}
	open(&next.Champion, current[models.Champion].Version)
	open(&next.Challenger, current[models.Challenger].Version)
	open(&next.Shadow, current[models.Shadow].Version)
	fallback, err := standBy(registry)
	if err != nil {
		return false, err
	}
	open(&next.Fallback, fallback)
	if share := current[models.Challenger].Share; share != next.Share {
		next.Share, changed = share, true
	}
	if err := errors.Join(failures...); err != nil || !changed {
		return false, err
	}
	return true, engine.UseModels(next)
}

// standBy is the version that was champion before the present one, "" if none was.
func standBy(registry *models.Registry) (string, error) {
	h, err := registry.History(models.Champion)
	if err != nil {
		return "", err
	}
	first := ""
	for _, p := range h {
		switch {
		case p.TakenBack != 0:
		case first == "":
			first = p.Version
		case p.Version != first:
			return p.Version, nil
		}
	}
	return "", nil
}
