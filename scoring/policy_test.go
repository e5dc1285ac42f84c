package scoring_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vaglio"
	"vaglio/scoring"
)

func TestAProbabilityOnAThresholdIsNotBelowIt(t *testing.T) {
	s := newService(t)
	trusted(s)
	d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
	p := *d.FraudProbability
	above, below := math.Nextafter(p, 1), math.Nextafter(p, 0)
	verdict := func(approveBelow, denyFrom float64, want vaglio.Verdict) {
		t.Helper()
		s := newService(t, thresholds(approveBelow, denyFrom))
		d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
		expect(t, "probability", *d.FraudProbability, p)
		expect(t, "verdict", d.Verdict, want)
	}
	verdict(above, 1, vaglio.Approve)
	verdict(p, 1, vaglio.Review)
	verdict(below, 1, vaglio.Review)
	verdict(0, above, vaglio.Review)
	verdict(0, p, vaglio.Deny)
	verdict(p, p, vaglio.Deny)
	verdict(above, above, vaglio.Approve)
	verdict(below, below, vaglio.Deny)
	nan := math.NaN()
	verdict(nan, 1, vaglio.Review)
	verdict(1, nan, vaglio.Review)
	verdict(nan, nan, vaglio.Review)
	verdict(1, p, vaglio.Deny) // thresholds the wrong way round: nothing that is denied is approved
}

func TestThePolicysThresholdsStandInForTheModels(t *testing.T) {
	zero, one := 0.0, 1.0
	verdict := func(change func(*scoring.Policy), want vaglio.Verdict) {
		t.Helper()
		s := newService(t, withPolicy(change))
		d, _ := s.decidesWith(s.request("r"), scoring.DecideOptions{DryRun: true})
		expect(t, "verdict", d.Verdict, want)
	}
	trusted(newService(t))
	verdict(func(*scoring.Policy) {}, vaglio.Approve)                          // the model's: approve below 0.3
	verdict(func(p *scoring.Policy) { p.ApproveBelow = &zero }, vaglio.Review) // deny from the model's 0.9
	verdict(func(p *scoring.Policy) { p.DenyFrom = &zero }, vaglio.Deny)       // even below the model's 0.3
	verdict(func(p *scoring.Policy) { p.ApproveBelow = &one }, vaglio.Approve)
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPolicyFileSaysWhatIsToHappen(t *testing.T) {
	p, err := scoring.ReadPolicy(write(t, "name: strict\napprove_below: 0.02\ndeny_from: 0.5\nrequire_payment: false\napproval_valid: 2h\nreview_within: 15m\n"))
	if err != nil {
		t.Fatal(err)
	}
	if *p.ApproveBelow != 0.02 || *p.DenyFrom != 0.5 || !p.PaymentOptional || p.ApprovalValid != 2*time.Hour || p.ReviewWithin != 15*time.Minute ||
		!strings.HasPrefix(p.Version, "strict-") {
		t.Errorf("policy %+v", p)
	}
	other, err := scoring.ReadPolicy(write(t, "name: strict\napprove_below: 0.03\n"))
	if err != nil || other.Version == p.Version {
		t.Errorf("two contents are both of version %s, %v", other.Version, err)
	}
	if other.PaymentOptional || other.ApprovalValid != 0 || other.DenyFrom != nil {
		t.Errorf("what the file leaves out is %+v", other)
	}
	s := newService(t, func(o *scoring.Options) { o.Policy = other })
	d, _ := s.decides(s.request("r"))
	expect(t, "policy version", d.PolicyVersion, other.Version)
}

func TestAWrongPolicyFileIsRefusedWithItsPlace(t *testing.T) {
	refused := func(content string, wants ...string) {
		t.Helper()
		path := write(t, content)
		p, err := scoring.ReadPolicy(path)
		if err == nil {
			t.Errorf("%q was read as %+v", content, p)
			return
		}
		for _, want := range append(wants, path) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want it to name %q", content, err, want)
			}
		}
	}
	refused("approve_belov: 0.1\n", "approve_belov", "1:1")
	refused("approve_below: 0.5\ndeny_from: 0.4\n", "approve_below 0.5 is above deny_from 0.4")
	refused("approve_below: 1.5\n", "approve_below", "1.5")
	refused("deny_from: -0.1\napprove_below: 2\n", "deny_from", "-0.1", "approve_below", "2")
	refused("approve_below: .nan\n", "approve_below")
	refused("deny_from: .inf\n", "deny_from")
	refused("approve_below: often\n", "1:")
	refused("approval_valid: a day\n", "approval_valid", "a day")
	refused("approval_valid: 59s\nreview_within: 2161h\n", "approval_valid", "review_within")
	refused("approval_valid: -1h\n", "approval_valid")
	refused("approve_below: 0.1\napprove_below: 0.2\n", "approve_below")
	refused("- approve_below: 0.1\n")
	refused("require_payment: perhaps\n")
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := scoring.ReadPolicy(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestACancellationMayOnlyReturnToItsSource(t *testing.T) {
	s := newService(t, always)
	s.imports(s.money("paid", "payment", t0-vaglio.Hour, 1000, "EUR"))
	for _, kind := range vaglio.RequestTypes {
		d, _ := s.decidesWith(s.request(kind, func(r *vaglio.Request) { r.Type = kind }), scoring.DecideOptions{DryRun: true})
		expect(t, kind, slices.Contains(d.RequiredActions, "return_to_source"), kind == "cancellation")
	}
}

func TestHowMoneyCouldBeHadBack(t *testing.T) {
	s := newService(t)
	way := func(want string, p *vaglio.PaymentState) {
		t.Helper()
		d, _ := s.decidesWith(s.request("r", func(r *vaglio.Request) { r.Payment = p }), scoring.DecideOptions{DryRun: true})
		expect(t, "reversibility", d.Reversibility, want)
	}
	way("irreversible", nil)
	way("irreversible", &vaglio.PaymentState{State: "settled"})
	way("recall_only", &vaglio.PaymentState{Rail: "sct_inst"})
	way("recall_only", &vaglio.PaymentState{Rail: "card"})
	way("reversible", &vaglio.PaymentState{Rail: "wallet"})
	way("reversible", &vaglio.PaymentState{Rail: "sct_inst", ReversibleUntil: t0 + 1})
	way("recall_only", &vaglio.PaymentState{Rail: "sct_inst", ReversibleUntil: t0})
	way("irreversible", &vaglio.PaymentState{ReversibleUntil: t0 - 1})
}

func TestTheZeroPolicyIsNoLaxerThanTheDefault(t *testing.T) {
	s := newService(t, func(o *scoring.Options) { o.Policy = scoring.Policy{} })
	trusted(s)
	d, _ := s.decides(s.request("first"))
	expect(t, "first", d.Verdict, vaglio.Approve)
	d, _ = s.decides(s.request("second"))
	expect(t, "second, all captured money being reserved", d.Verdict, vaglio.Deny)
	d, _ = s.decides(s.request("unknown", func(r *vaglio.Request) { r.Entities = r.Entities.With("payment", s.id("other")) }))
	expect(t, "of an unknown payment", d.Verdict, vaglio.Review)
}

func TestAPolicyFileIsOneDocumentThatSaysSomething(t *testing.T) {
	if p, err := scoring.ReadPolicy(write(t, "approve_below: 0.1\n---\ndeny_from: 0.2\n")); err == nil {
		t.Errorf("the second document was dropped: %+v", p)
	}
	if _, err := scoring.ReadPolicy(write(t, "")); err == nil || strings.HasSuffix(err.Error(), "EOF") {
		t.Errorf("an empty file: %v", err)
	}
}
