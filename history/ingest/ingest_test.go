package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"vaglio"
	"vaglio/history/ingest"
)

// shelf is a sink that keeps events in memory, once per id.
type shelf struct {
	events  []vaglio.Event
	batches []int
	digests map[string][32]byte
	failAt  int // the batch, from 1, that is not stored
}

func (s *shelf) sink(_ context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
	s.batches = append(s.batches, len(events))
	if len(s.batches) == s.failAt {
		return nil, errors.New("disk full")
	}
	if s.digests == nil {
		s.digests = map[string][32]byte{}
	}
	outcomes := make([]vaglio.Outcome, len(events))
	for i := range events {
		there, known := s.digests[events[i].ID]
		switch {
		case !known:
			outcomes[i] = vaglio.Stored
			s.digests[events[i].ID] = events[i].Digest()
			s.events = append(s.events, events[i])
		case there == events[i].Digest():
			outcomes[i] = vaglio.Repeated
		default:
			outcomes[i] = vaglio.Conflicting
		}
	}
	return outcomes, nil
}

func (s *shelf) ids() string {
	ids := make([]string, len(s.events))
	for i := range s.events {
		ids[i] = s.events[i].ID
	}
	return strings.Join(ids, " ")
}

func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func options(s *shelf) ingest.Options { return ingest.Options{Sink: s.sink, Now: now} }

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func event(id, kind, entities string) string {
	return fmt.Sprintf(`{"id":%q,"kind":%q,"occurred_at":"2026-01-02T03:04:05Z","entities":{%s}}`+"\n", id, kind, entities)
}

func login(id string) string { return event(id, "login", `"customer":"c_1"`) }

func TestABadLineIsNamedByFileLineAndField(t *testing.T) {
	check := func(line, pointer, reason string) {
		t.Helper()
		path := write(t, "events.ndjson", login("e_1")+"\n\r\n"+line+"\n"+login("e_2"))
		var s shelf
		report, err := ingest.Files(t.Context(), options(&s), []string{path})
		if err == nil || !strings.HasPrefix(err.Error(), path+":4: ") || !strings.HasSuffix(err.Error(), "; nothing was stored") {
			t.Errorf("error %v", err)
		}
		if len(s.batches) != 0 || report.Stored != 0 {
			t.Errorf("%d batches were stored", len(s.batches))
		}
		if report.Rejected != 1 || len(report.Rejects) != 1 {
			t.Fatalf("%d rejects", report.Rejected)
		}
		bad := report.Rejects[0]
		if bad.Line != 4 || bad.File != path || bad.Errors[0].Pointer != pointer || !strings.Contains(bad.Errors[0].Detail, reason) {
			t.Errorf("%s: got %+v, want %s %s", line[:min(len(line), 80)], bad.Errors, pointer, reason)
		}
		if len(line) < 1<<20 && bad.Text != line {
			t.Errorf("the text is %q, want %q", bad.Text, line)
		}
	}
	with := func(member string) string {
		return `{"id":"e","kind":"login","occurred_at":"2026-01-02T03:04:05Z","entities":{"customer":"c"},` + member + `}`
	}
	check(`{"id":"e",`, "", "malformed JSON at byte 10")
	check(`[1]`, "", "does not fit")
	check(login("e")[:len(login("e"))-1]+"{}", "", "malformed JSON")
	check(with(`"colour":"red"`), "/colour", "unknown member")
	check(with(`"amount":"12","currency":"EUR"`), "/amount", "a JSON string does not fit here")
	check(with(`"amount":1.5,"currency":"EUR"`), "/amount", "")
	check(with(`"amount":-1,"currency":"EUR"`), "/amount", "want minor units from 0")
	check(with(`"amount":10000000000001,"currency":"EUR"`), "/amount", "want minor units from 0")
	check(with(`"amount":1,"currency":"EURO"`), "/currency", "ISO 4217")
	check(with(`"amount":1`), "/currency", "is required with an amount")
	check(with(`"attributes":{"channel":""}`), "/attributes/channel", "is empty")
	check(with(`"attributes":{"channel":1}`), "/attributes/channel", "want a string")
	check(with(`"observed_at":"2026-11-23T12:00:00.001Z"`), "/observed_at", "more than 24 hours in the future")
	check(`{"id":"e","kind":"login","occurred_at":"2026-11-23T12:00:00.001Z","entities":{"customer":"c"}}`, "/occurred_at", "more than 24 hours in the future")
	check(`{"id":"e","kind":"login","occurred_at":"2026-01-02","entities":{"customer":"c"}}`, "/occurred_at", "RFC 3339")
	check(`{"kind":"login","occurred_at":"2026-01-02T03:04:05Z","entities":{"customer":"c"}}`, "/id", "is required")
	check(`{"id":"e","kind":"login","occurred_at":"2026-01-02T03:04:05Z"}`, "/entities", "at least one")
	check(`{"id":"e","kind":"fraud_confirmed","occurred_at":"2026-01-02T03:04:05Z","entities":{"customer":"c"}}`, "/entities/request", "required for a label")
	check(`{"id":"`+strings.Repeat("x", 1<<20)+`"}`, "", "longer than 1 MiB")
	check("{\"id\":\"\xff\"}", "/id", "")
	check("{\"id\":\"\x00\"}", "/id", "")
}

func TestStopChecksEverythingBeforeAnythingIsStored(t *testing.T) {
	var good strings.Builder
	for i := range 125_000 {
		good.WriteString(login(fmt.Sprint("e_", i)))
	}
	first, second := write(t, "a.ndjson", good.String()), write(t, "b.ndjson", "{}\n"+login("f")+"nonsense\n")
	var s shelf
	report, err := ingest.Files(t.Context(), options(&s), []string{first, second})
	if err == nil || !strings.Contains(err.Error(), second+":1: /id: is required") || !strings.Contains(err.Error(), "the first of 2 bad lines; nothing was stored") {
		t.Fatalf("error %v", err)
	}
	if len(s.events) != 0 || report.Stored != 0 || report.Events != 125_001 || report.Lines != 125_003 || report.Rejected != 2 {
		t.Errorf("report %+v, %d stored", report, len(s.events))
	}

	s = shelf{}
	report, err = ingest.Files(t.Context(), options(&s), []string{first})
	if err != nil {
		t.Fatal(err)
	}
	if report.Stored != 125_000 || report.Kinds["login"] != 125_000 || len(s.events) != 125_000 {
		t.Errorf("report %+v", report)
	}
	if !slices.Equal(s.batches, []int{50_000, 50_000, 25_000}) {
		t.Errorf("batches of %v", s.batches)
	}
	for i := range s.events {
		if s.events[i].ID != fmt.Sprint("e_", i) {
			t.Fatalf("event %d is %s: order is lost", i, s.events[i].ID)
		}
	}
}

func TestSkipWritesRejectsAndGoesOn(t *testing.T) {
	path := write(t, "events.ndjson", login("e_1")+"{\"id\": 7 }\n"+login("e_2")+"\xff\n"+strings.Replace(login("e_1"), "c_1", "c_2", 1))
	var s shelf
	o := options(&s)
	o.OnError = ingest.Skip
	report, err := ingest.Files(t.Context(), o, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if s.ids() != "e_1 e_2" || report.Stored != 2 || report.Rejected != 2 || report.Conflicts != 1 || report.RejectsFile != path+".rejects" {
		t.Errorf("stored %s, report %+v", s.ids(), report)
	}
	written, err := os.ReadFile(report.RejectsFile)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(written)) {
		var bad struct {
			File   string              `json:"file"`
			Line   int                 `json:"line"`
			Errors []vaglio.FieldError `json:"errors"`
			Text   string              `json:"text"`
			Bytes  []byte              `json:"text_base64"`
		}
		if err := json.Unmarshal([]byte(line), &bad, json.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, fmt.Sprintf("%d %s %s%s", bad.Line, bad.Errors[0].Pointer, bad.Text, bad.Bytes))
	}
	want := []string{"2 /id {\"id\": 7 }", "4  \xff",
		`5 /id {"id":"e_1","kind":"login","occurred_at":"2026-01-02T03:04:05.000Z","observed_at":"2026-01-02T03:04:05.000Z","entities":{"customer":"c_2"}}`}
	if !slices.Equal(got, want) {
		t.Errorf("rejects\n%q, want\n%q", got, want)
	}
	if info, err := os.Stat(report.RejectsFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("rejects file: %v %v", info.Mode(), err)
	}
}

func TestAnImportCanRunAgain(t *testing.T) {
	var lines strings.Builder
	for i := range 125_000 {
		lines.WriteString(login(fmt.Sprint("e_", i)))
	}
	path := write(t, "events.ndjson", lines.String())
	s := shelf{failAt: 2}
	report, err := ingest.Files(t.Context(), options(&s), []string{path})
	if err == nil || !strings.Contains(err.Error(), "store 50000 events: disk full; 50000 events were stored before that") {
		t.Fatalf("error %v", err)
	}
	if report.Stored != 50_000 {
		t.Errorf("report %+v", report)
	}
	report, err = ingest.Files(t.Context(), options(&s), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if report.Stored != 75_000 || report.Repeated != 50_000 || len(s.events) != 125_000 {
		t.Errorf("report %+v, %d stored", report, len(s.events))
	}
}

func TestAConflictStopsAfterItsBatch(t *testing.T) {
	path := write(t, "events.ndjson", login("e_1")+strings.Replace(login("e_1"), "c_1", "c_2", 1)+login("e_2"))
	var s shelf
	report, err := ingest.Files(t.Context(), options(&s), []string{path})
	if err == nil || !strings.Contains(err.Error(), path+":2: /id: another event is stored under the id e_1") {
		t.Fatalf("error %v", err)
	}
	if report.Stored != 2 || report.Conflicts != 1 || s.ids() != "e_1 e_2" {
		t.Errorf("report %+v", report)
	}
}

func TestRequestsFollowEverythingAndWhatNamesThemFollowsRequests(t *testing.T) {
	first := write(t, "a.ndjson", event("label_1", "fraud_confirmed", `"request":"rr_1"`)+event("rr_1", "refund_requested", `"payment":"p_1"`)+
		event("label_2", "fraud_cleared", `"request":"rr_2"`)+event("paid_1", "refund_paid", `"request":"rr_1"`))
	second := write(t, "b.ndjson", event("rr_2", "refund_requested", `"payment":"p_1"`)+event("p_1", "payment", `"customer":"c_1"`))
	var s shelf
	report, err := ingest.Files(t.Context(), options(&s), []string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	if want := "p_1 rr_1 rr_2 label_1 label_2 paid_1"; s.ids() != want || report.Stored != 6 {
		t.Errorf("stored %s, want %s", s.ids(), want)
	}
	if s.events[0].ObservedAt != s.events[0].OccurredAt || s.events[2].ObservedAt != s.events[2].OccurredAt {
		t.Error("observed_at does not default to occurred_at")
	}
}

func TestWhatWaitsIsSpooledToDisk(t *testing.T) {
	var lines strings.Builder
	entities := `"customer":"` + strings.Repeat("x", 120) + `","payment":"` + strings.Repeat("y", 120) + `"`
	for i := range 52_000 {
		lines.WriteString(event(fmt.Sprint("rr_", i), "refund_requested", entities))
	}
	path := write(t, "requests.ndjson", lines.String())
	var s shelf
	o := options(&s)
	o.TempDir = t.TempDir()
	report, err := ingest.Files(t.Context(), o, []string{path})
	if err != nil {
		t.Fatal(err)
	}
	if report.Stored != 52_000 || !slices.Equal(s.batches, []int{ingest.MaxBatch, 2_000}) {
		t.Errorf("stored %d in batches %v", report.Stored, s.batches)
	}
	for i := range s.events {
		if s.events[i].ID != fmt.Sprint("rr_", i) {
			t.Fatalf("event %d is %s: order is lost", i, s.events[i].ID)
		}
	}
	if left, err := os.ReadDir(o.TempDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestFormatsAndCompression(t *testing.T) {
	check := func(name, content string) {
		t.Helper()
		var s shelf
		o := options(&s)
		if strings.Contains(name, ".csv") {
			o.Mapping = mapping(t, logins)
		}
		if _, err := ingest.Files(t.Context(), o, []string{write(t, name, content)}); err != nil || s.ids() != "e_1 e_2" {
			t.Errorf("%s: stored %q, error %v", name, s.ids(), err)
		}
	}
	ndjson, csv := login("e_1")+login("e_2"), "id,customer\ne_1,c_1\ne_2,c_1\n"
	check("a.ndjson", ndjson)
	check("a.JSONL", ndjson)
	check("a.json", strings.TrimSuffix(ndjson, "\n"))
	check("a.ndjson.gz", zipped(t, ndjson))
	check("gzip without saying so.ndjson", zipped(t, ndjson))
	check("no gzip although it says so.ndjson.gz", ndjson)
	check("two members.ndjson.gz", zipped(t, login("e_1"))+zipped(t, login("e_2")))
	check("byte order mark.ndjson", "\ufeff"+ndjson)
	check("a.csv", csv)
	check("a.csv.gz", zipped(t, csv))
	check("windows.csv", "\ufeff"+strings.ReplaceAll(csv, "\n", "\r\n"))
}

func TestTheStandardInput(t *testing.T) {
	check := func(content string, m *ingest.Mapping, onError ingest.OnError) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping, o.OnError, o.Stdin, o.TempDir = m, onError, strings.NewReader(content), t.TempDir()
		report, err := ingest.Files(t.Context(), o, []string{"-"})
		if err != nil || s.ids() != "e_1 e_2" || report.Stored != 2 {
			t.Errorf("stored %q, error %v", s.ids(), err)
		}
		if left, err := os.ReadDir(o.TempDir); err != nil || len(left) != 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
	ndjson, csv := login("e_1")+login("e_2"), "id,customer\ne_1,c_1\ne_2,c_1\n"
	check(ndjson, nil, ingest.Stop)
	check(ndjson, nil, ingest.Skip)
	check(zipped(t, ndjson), nil, ingest.Stop)
	check(csv, mapping(t, logins), ingest.Stop)
	check(zipped(t, csv), mapping(t, logins), ingest.Skip)

	var s shelf
	o := options(&s)
	o.Stdin = strings.NewReader(login("e_1") + "{}\n")
	if _, err := ingest.Files(t.Context(), o, []string{"-"}); err == nil || !strings.HasPrefix(err.Error(), "stdin:2: ") || len(s.batches) > 0 {
		t.Errorf("error %v, stored %s", err, s.ids())
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	events, table := write(t, "a.ndjson", login("e_1")), write(t, "a.csv", "id,customer\ne_1,c_1\n")
	gz := zipped(t, strings.Repeat(login("e_1"), 1000))
	check := func(reason string, m *ingest.Mapping, paths ...string) {
		t.Helper()
		var s shelf
		o := options(&s)
		o.Mapping = m
		if _, err := ingest.Files(t.Context(), o, paths); err == nil || !strings.Contains(err.Error(), reason) || len(s.batches) > 0 {
			t.Errorf("error %v, want %s; stored %q", err, reason, s.ids())
		}
	}
	check("no file to import", nil)
	check("no such file", nil, events, "/nowhere/b.ndjson")
	check("does not tell its format", nil, events, "events.xlsx")
	check("has to be said by a mapping", nil, table)
	check("none of the files is CSV", mapping(t, logins), events)
	check("twice", nil, "-", "-")
	check("is a directory", nil, func() string {
		dir := filepath.Join(t.TempDir(), "dir.json")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}())
	check("unexpected EOF; nothing was stored", nil, events, write(t, "cut.ndjson.gz", gz[:len(gz)-20]))
	check("; nothing was stored", nil, events, write(t, "broken.ndjson.gz", gz[:50]+strings.Repeat("x", 50)+gz[100:]))

	var s shelf
	o := options(&s)
	o.OnError, o.Rejects = ingest.Skip, events
	if _, err := ingest.Files(t.Context(), o, []string{events}); err == nil || !strings.Contains(err.Error(), "is one of the files to import") {
		t.Errorf("error %v", err)
	}
}

func TestACancelledImportEnds(t *testing.T) {
	var s shelf
	ctx, cancel := context.WithCancel(t.Context())
	o := options(&s)
	o.OnError = ingest.Skip
	o.Sink = func(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
		cancel()
		return s.sink(ctx, events)
	}
	var lines strings.Builder
	for i := range 200_000 {
		lines.WriteString(login(fmt.Sprint("e_", i)))
	}
	report, err := ingest.Files(ctx, o, []string{write(t, "a.ndjson", lines.String())})
	if !errors.Is(err, context.Canceled) || report.Stored != 50_000 || len(s.events) != 50_000 {
		t.Errorf("error %v, report %+v", err, report)
	}
}

func TestProgressGrowsToTheWhole(t *testing.T) {
	var lines strings.Builder
	for i := range 20_000 {
		lines.WriteString(login(fmt.Sprint("e_", i)))
		lines.WriteString(event(fmt.Sprint("rr_", i), "refund_requested", `"customer":"c"`))
	}
	path := write(t, "a.ndjson.gz", zipped(t, lines.String()))
	var s shelf
	o := options(&s)
	clock := now()
	o.Now = func() time.Time { clock = clock.Add(time.Millisecond); return clock }
	var seen []ingest.Progress
	o.Progress = func(p ingest.Progress) { seen = append(seen, p) }
	if _, err := ingest.Files(t.Context(), o, []string{path}); err != nil {
		t.Fatal(err)
	}
	var phases []ingest.Phase
	for i, p := range seen {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		} else if p.BytesDone < seen[i-1].BytesDone || p.Events < seen[i-1].Events {
			t.Fatalf("%+v after %+v", p, seen[i-1])
		}
		if p.BytesTotal == 0 || p.BytesDone > p.BytesTotal || p.Rate <= 0 {
			t.Fatalf("%+v", p)
		}
		last := i == len(seen)-1 || seen[i+1].Phase != p.Phase
		if last && (p.BytesDone != p.BytesTotal || p.TimeLeft != 0) {
			t.Errorf("phase %s ends at %+v", p.Phase, p)
		}
	}
	if want := []ingest.Phase{ingest.Checking, ingest.Storing, ingest.StoringDeferred}; !slices.Equal(phases, want) {
		t.Errorf("phases %v", phases)
	}
}

func TestAnyEventsComeBackEqual(t *testing.T) {
	value := rapid.StringMatching(`[a-z0-9ü "\\]{1,20}`)
	fields := func(least int) *rapid.Generator[vaglio.Fields] {
		return rapid.Custom(func(r *rapid.T) vaglio.Fields {
			fs := vaglio.Fields{}
			for name, v := range rapid.MapOfN(rapid.StringMatching(`[a-z][a-z_0-9]{0,8}`), value, least, 5).Draw(r, "fields") {
				fs = fs.With(name, v)
			}
			return fs
		})
	}
	instant := rapid.Custom(func(r *rapid.T) vaglio.Instant {
		return vaglio.Instant(rapid.Int64Range(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), now().UnixMilli()).Draw(r, "ms"))
	})
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(0, 50).Draw(r, "n")
		var text strings.Builder
		var want [3][]vaglio.Event // by their turn: others, requests, labels
		for i := range n {
			e := vaglio.Event{ID: fmt.Sprint(i, "/", value.Draw(r, "id")), OccurredAt: instant.Draw(r, "occurred"), Entities: fields(1).Draw(r, "entities"),
				Attributes: fields(0).Draw(r, "attributes"), Kind: rapid.SampledFrom([]string{"payment", "refund_requested", "fraud_confirmed", "fraud_cleared", "x_1"}).Draw(r, "kind")}
			if rapid.Bool().Draw(r, "observed") {
				e.ObservedAt = instant.Draw(r, "observed")
			}
			if rapid.Bool().Draw(r, "money") {
				e.Amount, e.Currency = rapid.Int64Range(0, vaglio.MaxAmount).Draw(r, "amount"), "EUR"
			}
			turn := 0
			switch {
			case e.IsLabel():
				turn, e.Entities = 2, e.Entities.With("request", "rr")
			case e.FollowsRequest():
				turn = 2
			case e.Kind == vaglio.KindRefundRequested:
				turn = 1
			}
			line, err := e.MarshalJSON()
			if err != nil {
				r.Fatal(err)
			}
			text.Write(append(line, '\n'))
			if e.ObservedAt == 0 {
				e.ObservedAt = e.OccurredAt
			}
			want[turn] = append(want[turn], e)
		}
		var s shelf
		o := options(&s)
		o.Stdin = strings.NewReader(text.String())
		if _, err := ingest.Files(t.Context(), o, []string{"-"}); err != nil {
			r.Fatal(err)
		}
		equal := func(a, b vaglio.Event) bool {
			return a.Digest() == b.Digest() && a.ObservedAt == b.ObservedAt
		}
		if all := slices.Concat(want[:]...); !slices.EqualFunc(s.events, all, equal) {
			r.Fatalf("got %+v, want %+v", s.events, all)
		}
	})
}
