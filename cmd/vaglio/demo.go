package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vaglio"
	"vaglio/client"
	"vaglio/history"
	"vaglio/history/ingest"
	"vaglio/models"
	"vaglio/simulate"
	"vaglio/training"
)

func newDemo() *cobra.Command {
	var s serving
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Simulate, import, train, serve and decide: the whole service on synthetic data, in its own folder",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			in, err := newInstallation(cmd, s.wiring)
			if err != nil {
				return err
			}
			in.data = filepath.Join(in.data, "demo")
			level := new(slog.LevelVar)
			level.Set(slog.LevelWarn) // a line for each of our own requests would tear the output apart
			in.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			defer func() { err = errors.Join(err, in.Close()) }()
			if err := os.MkdirAll(in.data, 0o700); err != nil {
				return err
			}
			return s.demo(cmd, in, level, once)
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "stop after the decisions instead of serving on")
	return cmd
}

func (s *serving) demo(cmd *cobra.Command, in *installation, level *slog.LevelVar, once bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	store, err := in.openHistory(ctx)
	if err != nil {
		return err
	}
	if err := demoHistory(ctx, in, store, out); err != nil {
		return err
	}
	registry, err := in.registry()
	if err != nil {
		return err
	}
	if _, trained, err := registry.Current(models.Champion); err != nil {
		return err
	} else if !trained {
		until := today()
		begin := until - vaglio.Instant(simulate.DemoConfig().Days)*vaglio.Day
		o := training.Options{History: store, Seed: 1,
			Train: training.Period{From: begin, Until: until - 110*vaglio.Day},
			Test:  training.Period{From: until - 110*vaglio.Day, Until: until - training.DefaultMaturity}}
		if err := (&trainFlags{promote: true}).run(cmd, in, o); err != nil {
			return err
		}
	}
	l, err := in.openLedger(ctx)
	if err != nil {
		return err
	}
	open, err := s.access(ctx, l)
	if err != nil {
		return err
	}
	running, err := s.serveOn(ctx, in, store, l, open)
	if err != nil {
		return err
	}
	address := "http://" + running.listener.Addr().String()
	if err := showDecisions(ctx, store, address, out); err != nil {
		return errors.Join(err, running.stop())
	}
	if once {
		return running.stop()
	}
	level.Set(slog.LevelInfo)
	fmt.Fprintf(out, "\nVaglio serves on %s; Ctrl-C stops it, and the next `make demo` begins where this one ends.\n", address)
	return running.wait()
}

func today() vaglio.Instant { return vaglio.InstantOf(time.Now()) / vaglio.Day * vaglio.Day }

// demoHistory imports a simulated history, unless it is there.
func demoHistory(ctx context.Context, in *installation, store *history.Store, out io.Writer) error {
	done := filepath.Join(in.data, "imported")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	c := simulate.DemoConfig()
	c.Until, c.Currency = today(), store.BaseCurrency()
	bar := newProgress()
	defer bar.end()
	file := filepath.Join(in.data, "events.ndjson")
	summary := simulate.Summary{}
	if err := writeFile(file, func(w io.Writer) (err error) {
		summary, err = simulate.Write(ctx, c, w, nil, func(done, total int) { bar.show("simulating", int64(done), int64(total), "customers", "") })
		return err
	}); err != nil {
		return err
	}
	bar.end()
	fmt.Fprintf(out, "simulated %d days of %d customers: %d events, %d refund requests, %d of them fraud (all synthetic)\n",
		c.Days, summary.Customers, summary.Events, summary.Requests, summary.Frauds)
	report, err := ingest.Files(ctx, ingest.Options{Sink: store.Import, OnError: ingest.Stop, Progress: func(p ingest.Progress) {
		bar.show(string(p.Phase), p.BytesDone, p.BytesTotal, "bytes", fmt.Sprintf("%.0f events/s", p.Rate))
	}}, []string{file})
	if err != nil {
		return err
	}
	bar.end()
	fmt.Fprintf(out, "imported %d events in %.1f s\n", report.Stored+report.Repeated, report.Elapsed.Seconds())
	return errors.Join(os.Remove(file), os.WriteFile(done, []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600))
}

// scene is a request of the demo with what happened just before it.
type scene struct {
	title   string
	before  []vaglio.Event
	request vaglio.Request
}

// showDecisions plays each scene through the API and prints what came of it.
func showDecisions(ctx context.Context, store *history.Store, address string, out io.Writer) error {
	scenes, err := demoScenes(ctx, store, vaglio.InstantOf(time.Now()))
	if err != nil {
		return err
	}
	server, err := client.New(address, os.Getenv("VAGLIO_BOOTSTRAP_KEY"))
	if err != nil {
		return err
	}
	defer server.Close()
	var rows [][]string
	var example vaglio.Request
	for _, s := range scenes {
		if len(s.before) > 0 {
			if _, err := server.Events(ctx, s.before...); err != nil {
				return fmt.Errorf("%s: %w", s.title, err)
			}
		}
		d, err := server.Score(ctx, &s.request)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		rows = append(rows, sceneRow(&s, d)...)
		example = s.request
	}
	fmt.Fprintln(out)
	header := []string{"REQUEST", "      AMOUNT", "VERDICT", "  FRAUD", "RISK", "  MS", "LOG-ODDS", "REASON"}
	table(out, header, fitted(out, header, rows), func(column int, cell string) string {
		switch {
		case column == 2:
			return map[string]string{"approve": green, "review": yellow, "deny": red}[cell]
		case column != 6:
			return ""
		case strings.HasPrefix(cell, "   +"):
			return red
		case strings.HasPrefix(cell, "   -"):
			return green
		default:
			return yellow
		}
	})
	body, err := json.Marshal(&example)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
Next:
  1. Ask the last one again, and get the same answer, byte for byte:
     curl -s %s/v1/score -H 'Content-Type: application/json' -d '%s'
  2. See every feature, its value and its exact contribution:
     curl -s %s/v1/decisions/%s/explanation
  3. Read docs/api.md for the routes and docs/import.md to bring your own history.
`, address, body, address, example.ID)
	return nil
}

// sceneRow is a decision in two lines, for its two weightiest reasons.
func sceneRow(s *scene, d *vaglio.Decision) [][]string {
	probability, risk := "-", d.RiskLevel
	if d.FraudProbability != nil && d.RiskScore != nil {
		probability, risk = fmt.Sprintf("%5.1f %%", *d.FraudProbability*100), fmt.Sprintf("%3.0f %s", *d.RiskScore, d.RiskLevel)
	}
	rows := [][]string{{s.title, fmt.Sprintf("%5d.%02d %s", s.request.Amount/100, s.request.Amount%100, s.request.Currency), string(d.Verdict),
		probability, risk, fmt.Sprintf("%4.1f", d.LatencyMS.Total), "", ""}}
	for i, reason := range d.Reasons[:min(2, len(d.Reasons))] {
		if i > 0 {
			rows = append(rows, make([]string, len(rows[0])))
		}
		contribution := fmt.Sprintf("   %+.2f", reason.Contribution)
		if reason.Contribution == 0 {
			contribution = "    rule"
		}
		copy(rows[i][6:], []string{contribution, reason.Text})
	}
	return rows
}

// fitted cuts the last column so that no line is wider than the terminal; elsewhere everything stays.
func fitted(out io.Writer, header []string, rows [][]string) [][]string {
	f, ok := out.(*os.File)
	if !ok {
		return rows
	}
	room, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return rows
	}
	last := len(header) - 1
	for column := range last {
		width := utf8.RuneCountInString(header[column])
		for _, row := range rows {
			width = max(width, utf8.RuneCountInString(row[column]))
		}
		room -= width + 2
	}
	for _, row := range rows {
		if text := []rune(row[last]); room > 20 && len(text) > room {
			row[last] = strings.TrimRight(string(text[:room-1]), " ;,:") + "…"
		}
	}
	return rows
}

// demoScenes makes one request of each kind around customers of the simulated history.
func demoScenes(ctx context.Context, store *history.Store, now vaglio.Instant) ([]scene, error) {
	regulars, err := regularPayments(ctx, store, now, 5)
	if err != nil {
		return nil, err
	}
	tag := ulid.Make().String()
	id := func(name string) string { return "demo_" + name + "_" + tag }
	event := func(name, kind string, ago vaglio.Instant, entities vaglio.Fields, attributes ...string) vaglio.Event {
		return vaglio.Event{ID: id(name), Kind: kind, OccurredAt: now - ago, ObservedAt: now - ago, Entities: entities, Attributes: vaglio.FieldsOf(attributes...)}
	}
	paid := func(name string, ago vaglio.Instant, amountMinor int64, entities vaglio.Fields) vaglio.Event {
		e := event(name, vaglio.KindPayment, ago, entities, "channel", "app", "rail", "card")
		e.Amount, e.Currency = amountMinor, store.BaseCurrency()
		return e
	}
	request := func(name, kind, reason string, amountMinor int64, entities vaglio.Fields) vaglio.Request {
		return vaglio.Request{ID: id(name), Type: kind, Reason: reason, Amount: amountMinor, Currency: store.BaseCurrency(), RequestedBy: "customer",
			Entities: entities, Authentication: "password", Payment: &vaglio.PaymentState{Rail: "card", State: "settled"},
			Attributes: vaglio.FieldsOf("channel", "app")}
	}
	of := func(p vaglio.Fact) vaglio.Fields {
		return vaglio.FieldsOf("customer", p.Entities.Get("customer"), "payment", p.Entities.Get("payment"))
	}
	slip := paid("slip_payment", 4*vaglio.Minute, 4990, regulars[0].Entities.With("payment", id("slip")))
	taken := regulars[2]
	thief := vaglio.FieldsOf("customer", taken.Entities.Get("customer"), "device", id("device"), "ip", "203.0.113.66")
	mule := vaglio.FieldsOf("customer", id("mule"), "payment", id("mule_payment"), "device", id("mule_device"), "instrument", id("mule_card"))
	scenes := []scene{
		{"a slip, cancelled", []vaglio.Event{slip}, request("slip", "cancellation", "duplicate", 4990, slip.Entities)},
		{"a regular's refund", nil, request("regular", "refund", "changed_mind", regulars[1].Amount, of(regulars[1]))},
		{"an account taken over", []vaglio.Event{
			event("failed1", "login_failed", 3*vaglio.Hour, thief), event("failed2", "login_failed", 3*vaglio.Hour-vaglio.Minute, thief),
			event("failed3", "login_failed", 3*vaglio.Hour-2*vaglio.Minute, thief), event("in", "login", 3*vaglio.Hour-3*vaglio.Minute, thief),
			event("changed", "credentials_changed", 2*vaglio.Hour, thief, "what", "password"),
			event("payout", "payout_instrument_added", 2*vaglio.Hour-vaglio.Minute, thief.With("payout_instrument", id("iban"))),
		}, withPayout(request("takeover", "refund", "not_received", taken.Amount, of(taken).With("device", id("device"))), id("iban"), "no_match")},
		{"a mule's deposit", []vaglio.Event{
			event("mule_open", "account_opened", 5*vaglio.Day, mule[:1]), event("mule_login", "login", 5*vaglio.Hour, mule[:2]),
			paid("mule_paid", 4*vaglio.Hour, 180000, mule),
		}, withPayout(request("mule", "refund", "changed_mind", 180000, of(vaglio.Fact{Event: vaglio.Event{Entities: mule}})), id("mule_iban"), "close_match")},
		{"more than was paid", nil, request("over", "refund", "wrong_amount", regulars[3].Amount*3, of(regulars[3]))},
		{"an unknown payment", nil, request("unknown", "refund", "not_credited", 2500, of(regulars[4]).With("payment", id("nowhere")))},
	}
	return scenes, nil
}

func withPayout(r vaglio.Request, instrument, payee string) vaglio.Request {
	r.Entities = r.Entities.With(vaglio.EntityPayoutInstrument, instrument)
	r.Attributes = r.Attributes.With("payee_verification", payee)
	return r
}

// regularPayments finds the newest payments of customers who pay often, from an instrument and a device that they have used
// for months, and to whom nothing unusual has happened lately; the newest come first.
func regularPayments(ctx context.Context, store *history.Store, now vaglio.Instant, n int) ([]vaglio.Fact, error) {
	payments := map[string][]vaglio.Fact{}
	unusual := map[string]bool{}
	look := func(kinds []string, days vaglio.Instant) error {
		return store.Scan(ctx, kinds, now-days*vaglio.Day, now, func(f vaglio.Fact) error {
			customer := f.Entities.Get(vaglio.EntityCustomer)
			if f.Kind != vaglio.KindPayment || strings.HasPrefix(f.ID, "demo_") {
				unusual[customer] = true
			} else {
				payments[customer] = append(payments[customer], f)
			}
			return nil
		})
	}
	if err := errors.Join(look([]string{vaglio.KindPayment, vaglio.KindRefundRequested, "credentials_changed", "payout_instrument_added", "login_failed",
		"step_up_failed", "support_contact"}, 150), look([]string{vaglio.KindChargeback, "payment_returned", "early_fraud_warning"}, 365)); err != nil {
		return nil, err
	}
	var regulars []vaglio.Fact
	for customer, facts := range payments {
		slices.SortFunc(facts, func(a, b vaglio.Fact) int { return cmp.Compare(b.OccurredAt, a.OccurredAt) })
		if !unusual[customer] && isRegular(facts) {
			regulars = append(regulars, facts[0])
		}
	}
	slices.SortFunc(regulars, func(a, b vaglio.Fact) int {
		return cmp.Or(cmp.Compare(b.OccurredAt, a.OccurredAt), cmp.Compare(a.ID, b.ID))
	})
	if len(regulars) < n {
		return nil, fmt.Errorf("the simulated history has %d regular customers left instead of %d: remove the demo's folder and begin again", len(regulars), n)
	}
	return regulars[:n], nil
}

// isRegular looks at a customer's payments, the newest first.
func isRegular(payments []vaglio.Fact) bool {
	newest := &payments[0]
	sum, known := int64(0), map[string]bool{}
	for i := range payments {
		p := &payments[i]
		sum += p.BaseAmount
		if newest.OccurredAt-p.OccurredAt > 60*vaglio.Day {
			known[p.Entities.Get(vaglio.EntityInstrument)], known[p.Entities.Get("device")] = true, true
		}
	}
	mean := sum / int64(len(payments))
	return len(payments) >= 12 && known[newest.Entities.Get(vaglio.EntityInstrument)] && known[newest.Entities.Get("device")] &&
		newest.BaseAmount >= 2000 && newest.BaseAmount < mean*3/2
}
