package vaglio

import (
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the bytes that json.Marshal gives, at a fraction of the cost: other decisions wait while one is encoded. It
// fails on what JSON can't hold: a number that is NaN or infinite, a string that is not UTF-8.
func (d *Decision) AppendJSON(b []byte) ([]byte, error) {
	e := encoder{b: b}
	e.text(`{"id":`, d.ID)
	e.text(`,"request_id":`, d.RequestID)
	e.text(`,"decision":`, string(d.Verdict))
	e.optional(`,"fraud_probability":`, d.FraudProbability)
	e.optional(`,"risk_score":`, d.RiskScore)
	e.text(`,"risk_level":`, d.RiskLevel)
	e.integer(`,"approved_amount":`, d.ApprovedAmount)
	if d.RefundableAmount != nil {
		e.integer(`,"refundable_amount":`, *d.RefundableAmount)
	} else {
		e.raw(`,"refundable_amount":null`)
	}
	e.instant(`,"valid_until":`, d.ValidUntil)
	e.instant(`,"review_due_at":`, d.ReviewDueAt)
	if d.ExpectedLoss != nil {
		e.integer(`,"expected_loss":{"amount":`, d.ExpectedLoss.Amount)
		e.text(`,"currency":`, d.ExpectedLoss.Currency)
		e.raw(`}`)
	} else {
		e.raw(`,"expected_loss":null`)
	}
	e.text(`,"reversibility":`, d.Reversibility)
	e.raw(`,"reasons":`)
	list(&e, d.Reasons, e.reason)
	e.raw(`,"rules":`)
	list(&e, d.Rules, func(r *RuleHit) {
		e.text(`{"name":`, r.Name)
		e.text(`,"action":`, r.Action)
		e.text(`,"state":`, r.State)
		e.raw(`}`)
	})
	e.texts(`,"required_actions":`, d.RequiredActions)
	e.change(d.Counterfactual)
	if d.Model != nil {
		e.text(`,"model":{"name":`, d.Model.Name)
		e.text(`,"version":`, d.Model.Version)
		e.text(`,"sha256":`, d.Model.SHA256)
		e.raw(`}`)
	} else {
		e.raw(`,"model":null`)
	}
	e.text(`,"policy_version":`, d.PolicyVersion)
	e.raw(`,"features_as_of":`)
	e.moment(d.FeaturesAsOf)
	e.texts(`,"warnings":`, d.Warnings)
	e.boolean(`,"degraded":`, d.Degraded)
	e.texts(`,"degraded_reasons":`, d.DegradedReasons)
	e.notEmpty(`,"case_id":`, d.CaseID)
	e.notEmpty(`,"duplicate_of":`, d.DuplicateOf)
	if d.DryRun {
		e.raw(`,"dry_run":true`)
	}
	e.raw(`,"decided_at":`)
	e.moment(d.DecidedAt)
	l := &d.LatencyMS
	e.number(`,"latency_ms":{"history":`, l.History)
	e.number(`,"features":`, l.Features)
	e.number(`,"model":`, l.Model)
	e.number(`,"explain":`, l.Explain)
	e.number(`,"store":`, l.Store)
	e.number(`,"total":`, l.Total)
	e.raw(`}}`)
	return e.b, e.err
}

func (e *encoder) reason(r *Reason) {
	e.text(`{"code":`, r.Code)
	e.text(`,"direction":`, r.Direction)
	e.number(`,"contribution":`, r.Contribution)
	e.raw(`,"features":`)
	list(e, r.Features, func(f *ReasonFeature) {
		e.text(`{"name":`, f.Name)
		e.any(`,"value":`, f.Value)
		e.any(`,"usual":`, f.Usual)
		if f.CustomerUsual != nil && f.CustomerUsual != "" {
			e.any(`,"customer_usual":`, f.CustomerUsual)
		}
		e.raw(`}`)
	})
	e.text(`,"text":`, r.Text)
	e.notEmpty(`,"customer_text":`, r.CustomerText)
	e.notEmpty(`,"earlier_contact_text":`, r.EarlierContactText)
	if len(r.Evidence) > 0 {
		e.texts(`,"evidence":`, r.Evidence)
	}
	e.raw(`}`)
}

func (e *encoder) change(c *Change) {
	if c == nil {
		e.raw(`,"counterfactual":null`)
		return
	}
	e.text(`,"counterfactual":{"decision":`, string(c.Verdict))
	e.raw(`,"changes":`)
	list(e, c.Changes, func(f *FeatureChange) {
		e.text(`{"feature":`, f.Feature)
		e.any(`,"from":`, f.From)
		e.any(`,"to":`, f.To)
		e.raw(`}`)
	})
	e.text(`,"text":`, c.Text)
	e.integer(`,"trials":`, int64(c.Trials))
	e.raw(`}`)
}

// encoder appends JSON, each value behind its name and what stands before that. It keeps the first error.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) raw(text string) { e.b = append(e.b, text...) }

func (e *encoder) text(name, value string) {
	e.raw(name)
	e.quoted(value)
}

func (e *encoder) quoted(value string) {
	b, err := jsontext.AppendQuote(e.b, value)
	if e.b = b; e.err == nil && err != nil {
		e.err = fmt.Errorf("encode %q: %w", value, err)
	}
}

func (e *encoder) notEmpty(name, value string) {
	if value != "" {
		e.text(name, value)
	}
}

func (e *encoder) integer(name string, value int64) {
	e.raw(name)
	e.b = strconv.AppendInt(e.b, value, 10)
}

func (e *encoder) boolean(name string, value bool) {
	e.raw(name)
	e.b = strconv.AppendBool(e.b, value)
}

func (e *encoder) number(name string, value float64) {
	e.raw(name)
	if e.err == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
		e.err = fmt.Errorf("encode %s: %v is no number of JSON", name, value)
	}
	e.b = AppendNumber(e.b, value)
}

func (e *encoder) optional(name string, value *float64) {
	if value != nil {
		e.number(name, *value)
	} else {
		e.any(name, nil)
	}
}

func (e *encoder) instant(name string, t Instant) {
	if t != 0 {
		e.raw(name)
		e.moment(t)
	}
}

func (e *encoder) moment(t Instant) {
	e.raw(`"`)
	e.b, _ = t.AppendText(e.b) // never fails
	e.raw(`"`)
}

// any takes what reasons and changes hold.
func (e *encoder) any(name string, value any) {
	switch v := value.(type) {
	case nil:
		e.raw(name)
		e.raw(`null`)
	case float64:
		e.number(name, v)
	case int64:
		e.integer(name, v)
	case string:
		e.text(name, v)
	case bool:
		e.boolean(name, v)
	default:
		e.err = fmt.Errorf("encode %s: a %T is no value of a reason", name, v)
	}
}

func (e *encoder) texts(name string, values []string) {
	e.raw(name)
	list(e, values, func(v *string) { e.quoted(*v) })
}

func list[T any](e *encoder, values []T, item func(*T)) {
	e.raw(`[`)
	for i := range values {
		if i > 0 {
			e.raw(`,`)
		}
		item(&values[i])
	}
	e.raw(`]`)
}

// AppendNumber appends a finite number as JSON (RFC 8785) writes it: the fewest digits that read back bit for bit.
func AppendNumber(b []byte, value float64) []byte {
	size := math.Abs(value)
	if size == 0 || 1e-6 <= size && size < 1e21 {
		return strconv.AppendFloat(b, value, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, value, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // e-09 is e-9
		b = append(b[:n-2], b[n-1])
	}
	return b
}
