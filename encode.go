package vaglio

import "fmt"

// AppendJSON appends the bytes that json.Marshal gives, at a fraction of the cost: other decisions wait while one is encoded. It
// fails on what JSON can't hold: a number that is NaN or infinite, a string that is not UTF-8.
func (d *Decision) AppendJSON(b []byte) ([]byte, error) {
	e := Encoder{Bytes: b}
	e.Text(`{"id":`, d.ID)
	e.Text(`,"request_id":`, d.RequestID)
	e.Text(`,"decision":`, string(d.Verdict))
	e.Optional(`,"fraud_probability":`, d.FraudProbability)
	e.Optional(`,"risk_score":`, d.RiskScore)
	e.Text(`,"risk_level":`, d.RiskLevel)
	e.Integer(`,"approved_amount":`, d.ApprovedAmount)
	if d.RefundableAmount != nil {
		e.Integer(`,"refundable_amount":`, *d.RefundableAmount)
	} else {
		e.Raw(`,"refundable_amount":null`)
	}
	e.Given(`,"valid_until":`, d.ValidUntil)
	e.Given(`,"review_due_at":`, d.ReviewDueAt)
	if d.ExpectedLoss != nil {
		e.Integer(`,"expected_loss":{"amount":`, d.ExpectedLoss.Amount)
		e.Text(`,"currency":`, d.ExpectedLoss.Currency)
		e.Raw(`}`)
	} else {
		e.Raw(`,"expected_loss":null`)
	}
	e.Text(`,"reversibility":`, d.Reversibility)
	e.Raw(`,"reasons":`)
	list(&e, d.Reasons, e.reason)
	e.Raw(`,"rules":`)
	list(&e, d.Rules, func(r *RuleHit) {
		e.Text(`{"name":`, r.Name)
		e.Text(`,"action":`, r.Action)
		e.Text(`,"state":`, r.State)
		e.Raw(`}`)
	})
	e.Texts(`,"required_actions":`, d.RequiredActions)
	e.change(d.Counterfactual)
	e.Model(`,"model":`, d.Model)
	e.Text(`,"policy_version":`, d.PolicyVersion)
	e.Moment(`,"features_as_of":`, d.FeaturesAsOf)
	e.Texts(`,"warnings":`, d.Warnings)
	e.Boolean(`,"degraded":`, d.Degraded)
	e.Texts(`,"degraded_reasons":`, d.DegradedReasons)
	e.NotEmpty(`,"case_id":`, d.CaseID)
	e.NotEmpty(`,"duplicate_of":`, d.DuplicateOf)
	if d.DryRun {
		e.Raw(`,"dry_run":true`)
	}
	e.Moment(`,"decided_at":`, d.DecidedAt)
	l := &d.LatencyMS
	e.Number(`,"latency_ms":{"history":`, l.History)
	e.Number(`,"features":`, l.Features)
	e.Number(`,"model":`, l.Model)
	e.Number(`,"explain":`, l.Explain)
	e.Number(`,"store":`, l.Store)
	e.Number(`,"total":`, l.Total)
	e.Raw(`}}`)
	return e.Bytes, e.Err
}

func (e *Encoder) reason(r *Reason) {
	e.Text(`{"code":`, r.Code)
	e.Text(`,"direction":`, r.Direction)
	e.Number(`,"contribution":`, r.Contribution)
	e.Raw(`,"features":`)
	list(e, r.Features, func(f *ReasonFeature) {
		e.Text(`{"name":`, f.Name)
		e.any(`,"value":`, f.Value)
		e.any(`,"usual":`, f.Usual)
		if f.CustomerUsual != nil && f.CustomerUsual != "" {
			e.any(`,"customer_usual":`, f.CustomerUsual)
		}
		e.Raw(`}`)
	})
	e.Text(`,"text":`, r.Text)
	e.NotEmpty(`,"customer_text":`, r.CustomerText)
	e.NotEmpty(`,"earlier_contact_text":`, r.EarlierContactText)
	if len(r.Evidence) > 0 {
		e.Texts(`,"evidence":`, r.Evidence)
	}
	e.Raw(`}`)
}

func (e *Encoder) change(c *Change) {
	if c == nil {
		e.Raw(`,"counterfactual":null`)
		return
	}
	e.Text(`,"counterfactual":{"decision":`, string(c.Verdict))
	e.Raw(`,"changes":`)
	list(e, c.Changes, func(f *FeatureChange) {
		e.Text(`{"feature":`, f.Feature)
		e.any(`,"from":`, f.From)
		e.any(`,"to":`, f.To)
		e.Raw(`}`)
	})
	e.Text(`,"text":`, c.Text)
	e.Integer(`,"trials":`, int64(c.Trials))
	e.Raw(`}`)
}

// any takes what reasons and changes hold.
func (e *Encoder) any(name string, value any) {
	switch v := value.(type) {
	case nil:
		e.Raw(name)
		e.Raw(`null`)
	case float64:
		e.Number(name, v)
	case int64:
		e.Integer(name, v)
	case string:
		e.Text(name, v)
	case bool:
		e.Boolean(name, v)
	default:
		e.Err = fmt.Errorf("encode %s: a %T is no value of a reason", name, v)
	}
}

// AppendJSON appends the bytes that json.Marshal gives. It fails on what JSON can't hold: a string that is not UTF-8.
func (r *Request) AppendJSON(b []byte) ([]byte, error) {
	e := Encoder{Bytes: b}
	e.Text(`{"id":`, r.ID)
	e.Text(`,"type":`, r.Type)
	e.Fields(`,"entities":`, r.Entities)
	e.Integer(`,"amount":`, r.Amount)
	e.Text(`,"currency":`, r.Currency)
	if r.Partial {
		e.Raw(`,"partial":true`)
	}
	e.NotEmpty(`,"reason":`, r.Reason)
	e.Given(`,"requested_at":`, r.RequestedAt)
	e.NotEmpty(`,"requested_by":`, r.RequestedBy)
	e.NotEmpty(`,"authentication":`, r.Authentication)
	if r.Payment != nil {
		e.payment(r.Payment)
	}
	if len(r.Attributes) > 0 {
		e.Fields(`,"attributes":`, r.Attributes)
	}
	e.NotEmpty(`,"language":`, r.Language)
	e.Raw(`}`)
	return e.Bytes, e.Err
}

func (e *Encoder) payment(p *PaymentState) {
	e.Raw(`,"payment":{`)
	first := len(e.Bytes)
	e.NotEmpty(`,"rail":`, p.Rail)
	e.NotEmpty(`,"state":`, p.State)
	if p.CapturedAmount != nil {
		e.Integer(`,"captured_amount":`, *p.CapturedAmount)
	}
	e.Given(`,"reversible_until":`, p.ReversibleUntil)
	if first < len(e.Bytes) { // without the first comma
		e.Bytes = append(e.Bytes[:first], e.Bytes[first+1:]...)
	}
	e.Raw(`}`)
}
