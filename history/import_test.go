package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/history/ingest"
)

func TestAnInterruptedImportRunAgainLoadsTheRestOnce(t *testing.T) {
	s := open(t, "EUR")
	const events = 3*ingest.MaxBatch - 1000
	var lines bytes.Buffer
	for i := range events {
		e := thirdParty(i)
		line, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	batches := 0
	interrupted, err := ingest.Files(ctx, ingest.Options{Sink: func(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
		if batches++; batches == 2 {
			go cancel() // at any moment of this batch
		}
		return s.Import(ctx, events)
	}}, []string{path})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	report, err := ingest.Files(t.Context(), ingest.Options{Sink: s.Import}, []string{path})
	if err != nil || report.Conflicts != 0 || report.Repeated < interrupted.Stored || report.Stored+report.Repeated != events {
		t.Fatalf("error %v, interrupted %+v, then %+v", err, interrupted, report)
	}
	if n, err := s.Count(t.Context()); err != nil || n != events {
		t.Errorf("%d events, error %v", n, err)
	}
	perCustomer, err := s.Timelines(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c_7"}}, t0)
	if facts := perCustomer[vaglio.Entity{Kind: "customer", ID: "c_7"}]; err != nil || len(facts) != (events-7+4999)/5000 {
		t.Errorf("%d facts, error %v", len(facts), err)
	}
	stored := map[string]bool{}
	err = s.Walk(t.Context(), "device", []string{"payment"}, func(_ vaglio.Entity, facts []vaglio.Fact) error {
		for i := range facts {
			if stored[facts[i].ID] {
				return fmt.Errorf("%s is there twice", facts[i].ID)
			}
			stored[facts[i].ID] = true
		}
		return nil
	})
	if err != nil || len(stored) != events {
		t.Errorf("%d events in timelines of devices, error %v", len(stored), err)
	}
}
