package scoring_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
)

// explains is what an audience reads of a decision, as JSON.
func (s *service) explains(id string, audience scoring.Audience) string {
	s.t.Helper()
	x, err := s.ExplanationFor(s.t.Context(), id, audience)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := json.Marshal(x)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func TestEachAudienceReadsItsPartOfOneExplanation(t *testing.T) {
	s := newService(t, plain)
	risky(s)
	d, _ := s.decides(s.request("r", func(r *vaglio.Request) { r.Reason = "unauthorised" }))
	expect(t, "verdict", d.Verdict, vaglio.Deny)
	of := map[string]string{
		`"additivity_error":`: "reviewer auditor", `"base":`: "reviewer auditor", `"policy_version":`: "reviewer auditor", `"sha256":`: "reviewer auditor",
		`"timelines":`: "reviewer auditor", `"fraud_probability":`: "reviewer auditor", `"features":`: "reviewer auditor",
		`"reasons":`: "reviewer", `"counterfactual":{`: "reviewer", `"evidence":`: "reviewer", "Requests in 7 days: 4": "reviewer", `"VELOCITY"`: "reviewer",
		`"texts":["`: "customer", "We must know it is you.": "reviewer customer", "SECRET": "",
		`"decision":"deny"`: "reviewer auditor customer", `"request_id":`: "reviewer auditor customer"}
	for _, audience := range scoring.Audiences {
		text := s.explains(d.ID, audience)
		for part, audiences := range of {
			if has, want := strings.Contains(text, part), strings.Contains(audiences, string(audience)); has != want {
				t.Errorf("%s: %s is there: %v, want %v, in %s", audience, part, has, want, text)
			}
		}
	}
	expect(t, "by the request's id", s.explains(d.RequestID, scoring.Reviewer), s.explains(d.ID, scoring.Reviewer))
	if _, err := s.ExplanationFor(t.Context(), "nothing", scoring.Customer); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("an unknown decision: %v", err)
	}
}

func TestADryRunIsExplainedFromItsAnswer(t *testing.T) {
	s := newService(t)
	risky(s)
	r := s.request("r")
	_, answer := s.decidesWith(r, scoring.DecideOptions{DryRun: true})
	dry, err := scoring.Explain(ledger.Stored{RequestID: r.ID, Response: answer.Body, Inputs: answer.Inputs})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := s.decides(r)
	x, _ := s.explained(d.ID)
	expect(t, "log-odds", *dry.LogOdds, *x.LogOdds)
	expect(t, "features", len(dry.Features), len(x.Features))
}

func TestAWaterfallGoesFromTheBaseToTheLogOdds(t *testing.T) {
	s := newService(t)
	risky(s)
	r := s.request("<r>&")
	_, answer := s.decidesWith(r, scoring.DecideOptions{DryRun: true})
	x, err := scoring.Explain(ledger.Stored{RequestID: r.ID, Response: answer.Body, Inputs: answer.Inputs})
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range vaglio.Languages {
		for _, most := range []int{1, 3, 6, 100} {
			w, ok := x.Waterfall(s.Model(), lang, most)
			if !ok || len(w.Bars) != min(most+1, len(x.Features)) {
				t.Fatalf("%d bars of %d features, at most %d; %v", len(w.Bars), len(x.Features), most, ok)
			}
			at := w.Base
			for i, b := range w.Bars {
				if b.From != at || i > 0 && i < most && math.Abs(b.Contribution()) > math.Abs(w.Bars[i-1].Contribution())+1e-12 {
					t.Errorf("bar %d %+v after %v", i, b, at)
				}
				at = b.To
			}
			if math.Abs(at-*x.LogOdds) > 1e-9 {
				t.Errorf("the bars end at %v, the log-odds are %v", at, *x.LogOdds)
			}
			var svg bytes.Buffer
			if err := w.SVG(&svg); err != nil {
				t.Fatal(err)
			}
			rectangles, decoder := 0, xml.NewDecoder(&svg)
			for {
				token, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("the picture is no XML: %v", err)
				}
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
					rectangles++
				}
			}
			expect(t, "rectangles", rectangles, len(w.Bars)+3) // background and legend
		}
	}
	nothing := scoring.ReviewerExplanation{}
	if _, ok := nothing.Waterfall(nil, "en", 5); ok {
		t.Error("a decision without a model has a waterfall")
	}
}
