package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"vaglio"
	"vaglio/document"
	"vaglio/expression"
)

var (
	nameForm    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	codeForm    = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
)

// defaultCaps let a busy honest customer pass, and stop a burst.
var defaultCaps = Caps{Requests1h: 5, Requests24h: 20, Approvals1h: 3, Approvals24h: 10, Approved24h: 200_000}

var noLimits = Limits{Approvals: Unlimited, Approved: Unlimited, DenyRate: 1}

// Parse compiles a policy. All its mistakes come together, each with line, rule and reason.
func Parse(content []byte) (*Policy, error) {
	root, err := document.Parse(content, maxPolicyBytes)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	p := &Policy{Name: "policy", RequirePayment: true, ApprovalValid: 24 * time.Hour, source: slices.Clone(content),
		Treatment: Treatment{ReviewWithin: 30 * time.Minute, Caps: defaultCaps},
		Capacity:  Capacity{From: 1, MaxAmount: Unlimited}, Guards: Guards{Limits: noLimits, Recover: 30 * time.Minute}}
	p.read(root.Value)
	if err := root.Err(); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	p.version = versionOf(p.Name, content)
	return p, nil
}

func (p *Policy) read(v document.Value) {
	// What builds on other keys is read after them, wherever it stands in the file.
	var rules, segments, guards func()
	table := treatmentTable(&p.Treatment)
	table["name"] = func(v document.Value) {
		if p.Name = v.Text(); !versionForm.MatchString(p.Name) {
			v.Failf("want letters, digits, '.', '_' and '-', at most 64")
		}
	}
	table["require_payment"] = func(v document.Value) { p.RequirePayment = v.Flag() }
	table["approval_valid"] = func(v document.Value) { p.ApprovalValid = v.Span(time.Minute, 90*24*time.Hour) }
	table["review_capacity"] = p.readCapacity
	table["exploration"] = p.readExploration
	table["audit_sample"] = func(v document.Value) { p.AuditSample = v.Number(0, 1) }
	table["segments"] = func(v document.Value) { segments = func() { p.readSegments(v) } }
	table["guards"] = func(v document.Value) { guards = func() { p.readGuards(v) } }
	table["rules"] = func(v document.Value) { rules = func() { p.readRules(v) } }
	v.Fields(table)
	checkTreatment(v, &p.Treatment)
	for _, read := range []func(){segments, guards, rules} {
		if read != nil {
			read()
		}
	}
}

// treatmentTable reads what a policy and its segments have in common, over what is there.
func treatmentTable(t *Treatment) map[string]func(document.Value) {
	probability := func(into **float64) func(document.Value) {
		return func(v document.Value) {
			x := v.Number(0, 1)
			*into, t.Costs = &x, nil
		}
	}
	return map[string]func(document.Value){
		"approve_below": probability(&t.ApproveBelow),
		"deny_from":     probability(&t.DenyFrom),
		"thresholds": func(v document.Value) {
			t.ApproveBelow, t.DenyFrom, t.Costs = nil, nil, nil
			ofModel := false
			v.Fields(map[string]func(document.Value){
				"approve_below": probability(&t.ApproveBelow), "deny_from": probability(&t.DenyFrom),
				"from": func(v document.Value) { ofModel = v.OneOf("model") != "" }})
			if ofModel && (t.ApproveBelow != nil || t.DenyFrom != nil) {
				v.Failf("from: model takes no thresholds beside it")
			}
		},
		"costs": func(v document.Value) {
			base := DefaultCosts()
			if t.Costs != nil {
				base = *t.Costs
			}
			costs := readCosts(v, base, false)
			t.ApproveBelow, t.DenyFrom, t.Costs = nil, nil, &costs
		},
		"review_within": func(v document.Value) { t.ReviewWithin = v.Span(time.Minute, 90*24*time.Hour) },
		"caps":          func(v document.Value) { readCaps(v, &t.Caps) },
	}
}

// checkTreatment refuses more than one way to decide in one place.
func checkTreatment(v document.Value, t *Treatment) {
	ways := 0
	for _, keys := range [][]string{{"thresholds"}, {"costs"}, {"approve_below", "deny_from"}} {
		if slices.ContainsFunc(keys, v.Has) {
			ways++
		}
	}
	if ways > 1 {
		v.Failf("want one of thresholds, costs, and approve_below with deny_from")
	}
	if t.ApproveBelow != nil && t.DenyFrom != nil && *t.ApproveBelow > *t.DenyFrom {
		v.Failf("approve_below %v is above deny_from %v", *t.ApproveBelow, *t.DenyFrom)
	}
}

// limit reads a whole number, or none.
func limit(into *int64) func(document.Value) {
	return func(v document.Value) {
		if v.IsText() {
			if v.OneOf("none") != "" {
				*into = Unlimited
			}
			return
		}
		*into = v.Whole(0, vaglio.MaxAmount)
	}
}

func readCaps(v document.Value, c *Caps) {
	if v.IsText() {
		if v.OneOf("none") != "" {
			*c = Caps{Unlimited, Unlimited, Unlimited, Unlimited, Unlimited}
		}
		return
	}
	v.Fields(map[string]func(document.Value){"requests_1h": limit(&c.Requests1h), "requests_24h": limit(&c.Requests24h),
		"approvals_1h": limit(&c.Approvals1h), "approvals_24h": limit(&c.Approvals24h), "approved_amount_24h": limit(&c.Approved24h)})
}

func (p *Policy) readCapacity(v document.Value) {
	c := &p.Capacity
	v.Fields(map[string]func(document.Value){
		"open_cases":    func(v document.Value) { c.OpenCases = v.Whole(1, 1e9) },
		"per_hour":      func(v document.Value) { c.PerHour = v.Number(0.01, 1e6) },
		"from":          func(v document.Value) { c.From = v.Number(0.1, 100) },
		"when_full":     func(v document.Value) { c.Narrow = v.OneOf("keep", "narrow") == "narrow" },
		"approve_below": func(v document.Value) { c.ApproveBelow = v.Number(0, 1) },
		"max_amount":    limit(&c.MaxAmount),
	})
	if (c.OpenCases == 0) == (c.PerHour == 0) {
		v.Failf("want one of open_cases and per_hour")
	}
	if c.Narrow != v.Has("approve_below") {
		v.Failf("when_full: narrow and approve_below belong together: what is below is approved while the queue is full")
	}
}

func (p *Policy) readExploration(v document.Value) {
	x := &p.Exploration
	v.Fields(map[string]func(document.Value){
		"share":        func(v document.Value) { x.Share = v.Number(0, 0.5) },
		"max_amount":   func(v document.Value) { x.MaxAmount = v.Whole(1, vaglio.MaxAmount) },
		"daily_budget": func(v document.Value) { x.DailyBudget = v.Whole(1, vaglio.MaxAmount) },
	})
	if x.Share > 0 && (x.MaxAmount == 0 || x.DailyBudget == 0) {
		v.Failf("want max_amount and daily_budget beside share: it is money that may be lost")
	}
}

func limitsTable(l *Limits) map[string]func(document.Value) {
	return map[string]func(document.Value){
		"approvals_per_hour":       limit(&l.Approvals),
		"approved_amount_per_hour": limit(&l.Approved),
		"deny_rate": func(v document.Value) {
			l.MinDecisions = 100
			v.Fields(map[string]func(document.Value){
				"max":           func(v document.Value) { l.DenyRate = v.Number(0, 1) },
				"min_decisions": func(v document.Value) { l.MinDecisions = v.Whole(1, 1e9) }})
			if !v.Has("max") {
				v.Failf("want max")
			}
		},
	}
}

func (p *Policy) readGuards(v document.Value) {
	g := &p.Guards
	table := limitsTable(&g.Limits)
	table["score_drift"] = func(v document.Value) {
		v.Fields(map[string]func(document.Value){"max_psi": func(v document.Value) { g.MaxDrift = v.Number(0.01, 100) }})
	}
	table["on_trip"] = func(v document.Value) { g.LastModel = v.OneOf("review", "last_good_model") == "last_good_model" }
	table["recover"] = func(v document.Value) {
		if v.IsText() && v.TextIs("manual") {
			g.Recover = 0
			return
		}
		g.Recover = v.Span(time.Minute, 7*24*time.Hour)
	}
	table["segments"] = func(v document.Value) {
		g.Segments = map[string]Limits{}
		v.Each(func(name string, v document.Value) {
			if _, ok := p.Segment(name); !ok {
				v.Failf("there is no segment of this name")
			}
			l := noLimits
			v.Fields(limitsTable(&l))
			g.Segments[name] = l
		})
	}
	v.Fields(table)
}

func (p *Policy) readSegments(v document.Value) {
	taken := map[string]bool{}
	for _, v := range v.Items(maxSegments) {
		name := v.Get("name")
		v = v.Named(fmt.Sprintf("segment %q", name))
		s := segment{name: name, line: v.Line(), treatment: p.Treatment}
		table := treatmentTable(&s.treatment)
		table["name"] = func(document.Value) {}
		table["when"] = func(v document.Value) { s.source, s.when = p.readCondition(v, &rule{}, false) }
		v.Fields(table)
		checkTreatment(v, &s.treatment)
		checkName(v, name, taken)
		if !v.Has("when") {
			v.Failf("want when")
		}
		p.segments = append(p.segments, s)
	}
}

func checkName(v document.Value, name string, taken map[string]bool) {
	switch {
	case !nameForm.MatchString(name):
		v.Failf("want a name of a-z, 0-9 and _ that begins with a letter, at most 64 bytes")
	case taken[name]:
		v.Failf("the name is taken")
	}
	taken[name] = true
}

func (p *Policy) readRules(v document.Value) {
	taken := map[string]bool{RulePaymentUnknown: true, RulePaymentForeign: true, RuleCaps: true, RuleDuplicate: true, RuleGuard: true, RuleCapacity: true}
	for _, v := range v.Items(maxRules) {
		name := v.Get("name")
		r := p.readRule(v.Named(fmt.Sprintf("rule %q", name)))
		checkName(v.Named(fmt.Sprintf("rule %q", name)), name, taken)
		p.rules = append(p.rules, r)
	}
}

func (p *Policy) readRule(v document.Value) rule {
	r := rule{RuleInfo: RuleInfo{Name: v.Get("name"), State: Active, Line: v.Line()}}
	v.Fields(map[string]func(document.Value){
		"name":        func(document.Value) {},
		"description": func(v document.Value) { r.Description = v.Text() },
		"descriptions": func(v document.Value) {
			r.Descriptions = map[string]string{}
			v.Each(func(lang string, text document.Value) {
				if !slices.Contains(vaglio.Languages, lang) {
					text.Failf("want a language: %s", strings.Join(vaglio.Languages, ", "))
					return
				}
				r.Descriptions[lang] = text.Text()
			})
		},
		"when": func(v document.Value) { r.When, r.node = p.readCondition(v, &r, true) },
		"then": func(v document.Value) {
			r.Then = v.OneOf(string(vaglio.Approve), string(vaglio.Review), string(vaglio.Deny), Flag)
		},
		"at_most":   func(v document.Value) { r.AtMost = v.OneOf(string(vaglio.Review)) != "" },
		"override":  func(v document.Value) { r.Override = v.Flag() },
		"mandatory": func(v document.Value) { r.Mandatory = v.Flag() },
		"reason": func(v document.Value) {
			if r.Reason = v.Text(); !codeForm.MatchString(r.Reason) {
				v.Failf("want a reason code of A-Z, 0-9 and _, not %.64q", r.Reason)
			}
		},
		"actions": func(v document.Value) { r.Actions = readActions(v) },
		"due": func(v document.Value) {
			if r.Due.NextBusinessDay = v.TextIs(nextBusinessDay); !r.Due.NextBusinessDay {
				r.Due.Within = v.Span(time.Minute, 90*24*time.Hour)
			}
		},
		"state": func(v document.Value) { r.State = v.OneOf(Active, Shadow, Off) },
		"from":  func(v document.Value) { r.From = v.Instant() },
		"until": func(v document.Value) { r.Until = v.Instant() },
	})
	checkRule(v, &r)
	return r
}

func checkRule(v document.Value, r *rule) {
	verdict := r.Then == string(vaglio.Review) || r.Then == string(vaglio.Deny)
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{!v.Has("when"), "want when"},
		{!v.Has("then") && !v.Has("at_most"), "want then or at_most"},
		{r.Override && r.Then != string(vaglio.Approve), "override belongs to then: approve"},
		{r.Override && r.AtMost, "override and at_most do not go together"},
		{r.Mandatory && !verdict, "mandatory belongs to then: review or deny"},
		{r.Due != Due{} && r.Then != string(vaglio.Review) && !r.AtMost, "due belongs to a rule that asks for review, or at most review"},
		{r.Until != 0 && r.Until <= r.From, "until is not after from"},
	} {
		if c.wrong {
			v.Failf("%s", c.text)
		}
	}
}

func readActions(v document.Value) []string {
	actions := v.Texts(len(RequiredActions))
	for _, a := range actions {
		if a != "" && !slices.Contains(RequiredActions, a) {
			v.Failf("there is no action %.64q: there are %s", a, strings.Join(RequiredActions, ", "))
		}
	}
	return actions
}

// readCondition parses and checks a condition as far as that goes without a catalogue, and notes in r what it reads.
func (p *Policy) readCondition(v document.Value, r *rule, counters bool) (source string, node expression.Node) {
	failed := v.Failed()
	if source = v.Source(); v.Failed() > failed {
		return "", nil
	}
	node, err := expression.Parse(source)
	if err == nil {
		b := binder{paths: &p.texts}
		_, err = b.condition(node)
		if err == nil && b.late && !counters {
			err = errors.New("a segment can't read counters")
		}
		r.reads, r.lists, r.late = b.reads, b.lists, b.late
	}
	if err != nil {
		v.Failf("%v", err)
		return source, nil
	}
	return source, node
}
