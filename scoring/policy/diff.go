package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vaglio"
	"vaglio/document"
)

// Change is one difference between two policies. From is "" for what was added, To for what was removed.
type Change struct {
	Where string `json:"where"` // "policy", "segment vip", "rule listed"
	Field string `json:"field"` // "" when the whole was added, removed or moved
	From  string `json:"from"`
	To    string `json:"to"`
}

// String is the change in one line: + added, - removed, ~ changed.
func (c Change) String() string {
	where := c.Where
	if c.Field != "" {
		where += ": " + c.Field
	}
	switch {
	case c.From == "":
		return "+ " + where + ": " + c.To
	case c.To == "":
		return "- " + where + ": " + c.From
	default:
		return "~ " + where + ": " + c.From + " → " + c.To
	}
}

// part is a policy, a segment or a rule as fields of text, without those that say nothing.
type part struct {
	where  string
	fields [][2]string
}

// Diff lists what differs between two policies: fields of the policy, then segments, then rules, in the order of a, then what
// only b has. The order of rules means nothing; that of segments does.
func Diff(a, b *Policy) []Change {
	var changes []Change
	before, after := a.parts(), b.parts()
	find := func(parts []part, where string) *part {
		if i := slices.IndexFunc(parts, func(p part) bool { return p.where == where }); i >= 0 {
			return &parts[i]
		}
		return nil
	}
	for i := range before {
		old := &before[i]
		if now := find(after, old.where); now == nil {
			changes = append(changes, Change{Where: old.where, From: old.summary()})
		} else {
			changes = append(changes, old.compare(now)...)
		}
	}
	for i := range after {
		if now := &after[i]; find(before, now.where) == nil {
			changes = append(changes, Change{Where: now.where, To: now.summary()})
		}
	}
	return changes
}

func (p *part) field(name string) string {
	for _, f := range p.fields {
		if f[0] == name {
			return f[1]
		}
	}
	return ""
}

func (p *part) summary() string {
	texts := make([]string, len(p.fields))
	for i, f := range p.fields {
		texts[i] = f[0] + ": " + f[1]
	}
	return strings.Join(texts, ", ")
}

func (p *part) compare(now *part) []Change {
	var changes []Change
	names := []string{}
	for _, f := range slices.Concat(p.fields, now.fields) {
		if !slices.Contains(names, f[0]) {
			names = append(names, f[0])
		}
	}
	for _, name := range names {
		if from, to := p.field(name), now.field(name); from != to {
			changes = append(changes, Change{p.where, name, from, to})
		}
	}
	return changes
}

// put adds a field that says something.
func (p *part) put(name, value string) {
	if value != "" {
		p.fields = append(p.fields, [2]string{name, value})
	}
}

func (p *Policy) parts() []part {
	whole := part{where: "policy"}
	whole.put("name", p.Name)
	whole.treatment(&p.Treatment)
	whole.put("require_payment", strconv.FormatBool(p.RequirePayment))
	whole.put("approval_valid", document.FormatSpan(p.ApprovalValid))
	if c := p.Capacity; c.OpenCases != 0 || c.PerHour != 0 {
		whole.put("review_capacity: open_cases", unless(c.OpenCases, 0))
		whole.put("review_capacity: per_hour", unlessZero(c.PerHour))
		whole.put("review_capacity: from", decimal(c.From))
		if c.Narrow {
			whole.put("review_capacity: approve_below", decimal(c.ApproveBelow))
			whole.put("review_capacity: max_amount", unless(c.MaxAmount, Unlimited))
		}
	}
	if x := p.Exploration; x.Share > 0 {
		whole.put("exploration", fmt.Sprintf("share %s, at most %d each and %d a day", decimal(x.Share), x.MaxAmount, x.DailyBudget))
	}
	whole.put("audit_sample", unlessZero(p.AuditSample))
	whole.limits("guards: ", &p.Guards.Limits)
	for _, name := range slices.Sorted(maps.Keys(p.Guards.Segments)) {
		limits := p.Guards.Segments[name]
		whole.limits("guards of "+name+": ", &limits)
	}
	whole.put("guards: score_drift: max_psi", unlessZero(p.Guards.MaxDrift))
	whole.put("guards: on_trip", map[bool]string{false: "review", true: "last_good_model"}[p.Guards.LastModel])
	recovers := "manual"
	if p.Guards.Recover > 0 {
		recovers = document.FormatSpan(p.Guards.Recover)
	}
	whole.put("guards: recover", recovers)
	parts := []part{whole}
	for i := range p.segments {
		s := &p.segments[i]
		one := part{where: "segment " + s.name}
		one.put("place", strconv.Itoa(i+1))
		one.put("when", s.source)
		one.treatment(&s.treatment)
		parts = append(parts, one)
	}
	for i := range p.rules {
		parts = append(parts, p.rules[i].part())
	}
	return parts
}

func (r *RuleInfo) part() part {
	p := part{where: "rule " + r.Name}
	flag := func(name string, set bool) {
		if set {
			p.put(name, "true")
		}
	}
	p.put("when", strings.Join(strings.Fields(r.When), " "))
	p.put("then", r.Then)
	if r.AtMost {
		p.put("at_most", "review")
	}
	flag("override", r.Override)
	flag("mandatory", r.Mandatory)
	p.put("reason", r.Reason)
	p.put("actions", strings.Join(r.Actions, ", "))
	p.put("due", r.Due.String())
	p.put("state", r.State)
	if r.From != 0 {
		p.put("from", r.From.String())
	}
	if r.Until != 0 {
		p.put("until", r.Until.String())
	}
	p.put("description", r.Description)
	for _, lang := range vaglio.Languages {
		p.put("descriptions."+lang, r.Descriptions[lang])
	}
	return p
}

func (p *part) treatment(t *Treatment) {
	if t.Costs != nil {
		p.costs(t.Costs)
	} else {
		for _, threshold := range []struct {
			name  string
			value *float64
		}{{"approve_below", t.ApproveBelow}, {"deny_from", t.DenyFrom}} {
			text := "the model's"
			if threshold.value != nil {
				text = decimal(*threshold.value)
			}
			p.put(threshold.name, text)
		}
	}
	p.put("review_within", document.FormatSpan(t.ReviewWithin))
	for _, c := range []struct {
		name  string
		value int64
	}{{"requests_1h", t.Caps.Requests1h}, {"requests_24h", t.Caps.Requests24h}, {"approvals_1h", t.Caps.Approvals1h},
		{"approvals_24h", t.Caps.Approvals24h}, {"approved_amount_24h", t.Caps.Approved24h}} {
		p.put("caps: "+c.name, unless(c.value, Unlimited))
	}
}

func (p *part) costs(c *Costs) {
	for _, f := range []struct {
		name  string
		value float64
	}{{"recovery: reversible", c.Recovery.Reversible}, {"recovery: recall_only", c.Recovery.RecallOnly},
		{"recovery: irreversible", c.Recovery.Irreversible}, {"recovery: elsewhere", c.Recovery.Elsewhere}, {"returned", c.Returned},
		{"fraud_fee", float64(c.FraudFee)}, {"wrong_denial: margin", c.WrongDenial.Margin}, {"wrong_denial: churn", float64(c.WrongDenial.Churn)},
		{"review: cost", float64(c.Review.Cost)}, {"review: catch", c.Review.Catch}, {"review: wrong", c.Review.Wrong},
		{"review: per_hour", c.Review.PerHour}} {
		p.put("costs: "+f.name, decimal(f.value))
	}
}

func (p *part) limits(prefix string, l *Limits) {
	p.put(prefix+"approvals_per_hour", unless(l.Approvals, Unlimited))
	p.put(prefix+"approved_amount_per_hour", unless(l.Approved, Unlimited))
	if l.DenyRate < 1 {
		p.put(prefix+"deny_rate", fmt.Sprintf("%s of at least %d", decimal(l.DenyRate), l.MinDecisions))
	}
}

// unless is a whole number, "" for the one that says nothing.
func unless(v, nothing int64) string {
	if v == nothing {
		return ""
	}
	return strconv.FormatInt(v, 10)
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// unlessZero is a number, "" for 0.
func unlessZero(v float64) string {
	if v == 0 {
		return ""
	}
	return decimal(v)
}
