package scoring

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goccy/go-yaml"

	"vaglio"
)

// Policy turns a probability into a verdict. The zero value is that of an installation without a policy file: it takes the
// thresholds that the model's training recommends.
type Policy struct {
	Version         string        // names the exact content; "" is "default"
	ApproveBelow    *float64      // probability; nil: the model's
	DenyFrom        *float64      // likewise
	PaymentOptional bool          // approve also what can't be held against a captured amount
	ApprovalValid   time.Duration // how long an approval reserves; 0: 24 hours
	ReviewWithin    time.Duration // 0: 30 minutes
}

// filled is the policy with its defaults spelled out.
func (p Policy) filled() Policy {
	p.Version = cmp.Or(p.Version, "default")
	p.ApprovalValid = cmp.Or(p.ApprovalValid, 24*time.Hour)
	p.ReviewWithin = cmp.Or(p.ReviewWithin, 30*time.Minute)
	return p
}

func (p *Policy) validFor() vaglio.Instant     { return vaglio.Instant(p.ApprovalValid.Milliseconds()) }
func (p *Policy) reviewWithin() vaglio.Instant { return vaglio.Instant(p.ReviewWithin.Milliseconds()) }

// ReadPolicy reads a policy file (YAML). Its version is the file's name for it and a digest of its content.
func ReadPolicy(path string) (Policy, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	var p Policy
	file := struct {
		Name           string   `yaml:"name"`
		ApproveBelow   *float64 `yaml:"approve_below"`
		DenyFrom       *float64 `yaml:"deny_from"`
		RequirePayment *bool    `yaml:"require_payment"`
		ApprovalValid  string   `yaml:"approval_valid"`
		ReviewWithin   string   `yaml:"review_within"`
	}{Name: "policy"}
	documents := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict())
	switch err := documents.Decode(&file); {
	case errors.Is(err, io.EOF):
		return Policy{}, fmt.Errorf("read the policy %s: the file is empty", path)
	case err != nil:
		return Policy{}, fmt.Errorf("read the policy %s: %s", path, yaml.FormatError(err, false, false))
	case !errors.Is(documents.Decode(&struct{}{}), io.EOF):
		return Policy{}, fmt.Errorf("read the policy %s: it holds more than one document", path)
	}
	p.ApproveBelow, p.DenyFrom = file.ApproveBelow, file.DenyFrom
	p.PaymentOptional = file.RequirePayment != nil && !*file.RequirePayment
	if err := errors.Join(readSpan(&p.ApprovalValid, "approval_valid", file.ApprovalValid),
		readSpan(&p.ReviewWithin, "review_within", file.ReviewWithin), p.check()); err != nil {
		return Policy{}, fmt.Errorf("read the policy %s: %w", path, err)
	}
	digest := sha256.Sum256(content)
	p.Version = file.Name + "-" + hex.EncodeToString(digest[:6])
	return p, nil
}

func readSpan(into *time.Duration, name, text string) error {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > 90*24*time.Hour {
		return fmt.Errorf("%s: want a duration from 1m to 2160h, not %q", name, text)
	}
	*into = d
	return nil
}

func (p *Policy) check() error {
	var failures []error
	probability := func(name string, v *float64) {
		if v != nil && !(*v >= 0 && *v <= 1) {
			failures = append(failures, fmt.Errorf("%s: want a probability from 0 to 1, not %v", name, *v))
		}
	}
	probability("approve_below", p.ApproveBelow)
	probability("deny_from", p.DenyFrom)
	if p.ApproveBelow != nil && p.DenyFrom != nil && !(*p.ApproveBelow <= *p.DenyFrom) {
		failures = append(failures, fmt.Errorf("approve_below %v is above deny_from %v", *p.ApproveBelow, *p.DenyFrom))
	}
	return errors.Join(failures...)
}

// Names of the rules that hold whatever the model says.
const (
	rulePaymentUnknown = "payment_unknown"
	rulePaymentForeign = "payment_of_another_customer"
	ruleOverCaptured   = "over_captured"
	ruleDuplicate      = "duplicate_request" // the first one on the same payment and amount is still open
)

// reasonOfRule is the reason code that a rule gives.
var reasonOfRule = map[string]string{rulePaymentUnknown: "PAYMENT_UNKNOWN", rulePaymentForeign: "PAYMENT_UNKNOWN", ruleOverCaptured: "OVER_CAPTURED",
	ruleDuplicate: "REFUND_VELOCITY"}

// apply sets the verdict. Whatever is missing or not a number ends in review.
func (p *Policy) apply(d *decision, reservedMinor int64) {
	out := &d.out
	out.Verdict = p.byProbability(d)
	refundable, known := d.exposure.refundable(reservedMinor)
	if known {
		out.RefundableAmount = &refundable
	}
	hit := func(rule string, verdict vaglio.Verdict) {
		out.Verdict = verdict
		out.Rules = append(out.Rules, vaglio.RuleHit{Name: rule, Action: string(verdict), State: "active"})
	}
	switch {
	case out.Degraded: // without history nothing is known of the payment; an approval is out of the question anyway
	case known && d.request.Amount > refundable:
		hit(ruleOverCaptured, vaglio.Deny)
	case d.exposure.foreign && out.Verdict != vaglio.Deny:
		hit(rulePaymentForeign, vaglio.Review)
	case !known && !p.PaymentOptional && out.Verdict != vaglio.Deny:
		hit(rulePaymentUnknown, vaglio.Review)
	}
	if d.request.Type == "cancellation" {
		out.RequiredActions = append(out.RequiredActions, "return_to_source")
	}
}

func (p *Policy) byProbability(d *decision) vaglio.Verdict {
	if d.assessment == nil || d.out.Degraded {
		return vaglio.Review
	}
	approveBelow, denyFrom := d.bundle.Manifest().Thresholds.ApproveBelow, d.bundle.Manifest().Thresholds.DenyFrom
	if p.ApproveBelow != nil {
		approveBelow = *p.ApproveBelow
	}
	if p.DenyFrom != nil {
		denyFrom = *p.DenyFrom
	}
	switch probability := d.assessment.probability; {
	case probability < approveBelow && probability < denyFrom:
		return vaglio.Approve
	case probability >= denyFrom:
		return vaglio.Deny
	default:
		return vaglio.Review
	}
}

// reversibility says how money could be had back once it has left. An own wallet can be debited again, other rails know
// recalls, which need the receiver's consent or a dispute; of an unknown rail the worst is assumed.
func reversibility(r *vaglio.Request, at vaglio.Instant) string {
	if r.Payment == nil {
		return "irreversible"
	}
	switch {
	case r.Payment.ReversibleUntil > at, r.Payment.Rail == "wallet":
		return "reversible"
	case r.Payment.Rail != "":
		return "recall_only"
	default:
		return "irreversible"
	}
}
