// Package policy turns what is known of a request into a verdict: a YAML file that business people own, compiled once and
// pure, without clock, I/O or ledger. [Parse] reads it (read.go), [Policy.Bind] ties it to the features of a model
// (language.go), [Bound.Evaluate] does what can be done ahead, [Bound.Conclude] (conclude.go) the rest, in the order of
// precedence that stands there. costs.go says what mistakes cost, warnings.go what a policy hardly means, diff.go what changed.
package policy

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"vaglio"
	"vaglio/document"
	"vaglio/expression"
)

// Limits of a policy.
const (
	maxPolicyBytes = 1 << 20
	maxRules       = 1000
	maxSegments    = 100
	maxTexts       = 256 // different strings of the request
	maxListed      = 16  // strings in one in_list
)

// Unlimited is a limit that nothing reaches.
const Unlimited = math.MaxInt64

// Policy is a compiled policy: immutable and safe for concurrent use, so its fields are read only. The same content is the
// same policy.
type Policy struct {
	Name           string
	Treatment                    // of requests in no segment
	RequirePayment bool          // approve only what can be held against a captured amount
	ApprovalValid  time.Duration // how long an approval reserves
	Capacity       Capacity
	Exploration    Exploration
	AuditSample    float64 // share of approvals that are drawn for silent review
	Guards         Guards

	segments []segment
	rules    []rule
	texts    []string // of the request, that conditions read
	source   []byte
	version  string
}

// Treatment is what differs between segments.
type Treatment struct {
	ApproveBelow *float64 // probability; nil: the model's
	DenyFrom     *float64 // likewise
	Costs        *Costs   // decide by least expected cost instead; nil: by thresholds
	ReviewWithin time.Duration
	Caps         Caps
}

// Caps bound what one customer gets without a person's look, this request included. Beyond them an approval becomes a review.
// They are what stops requests that come at the same moment and cannot see one another in history.
type Caps struct {
	Requests1h, Requests24h   int64
	Approvals1h, Approvals24h int64
	Approved24h               int64 // minor units of the base currency
}

// Capacity says what happens when reviewers can't keep up.
type Capacity struct {
	OpenCases    int64   // the queue is full with so many; 0: not given
	PerHour      float64 // or: reviewers do so many an hour; 0: not given
	From         float64 // the load (open cases to capacity) from which the queue counts as full
	Narrow       bool    // when full, the middle band keeps only its riskiest part
	ApproveBelow float64 // that part begins here: what only the score sends to review below it is approved
	MaxAmount    int64   // of such an approval, minor units of the base currency
}

// Exploration lets a few requests through that the score alone would have denied or sent to review, to learn what becomes of them.
type Exploration struct {
	Share       float64 // of those requests; 0: none
	MaxAmount   int64   // of each, minor units of the base currency
	DailyBudget int64   // of all, likewise
}

// Guards watch what is decided automatically and stop it when it runs away.
type Guards struct {
	Limits                      // over all requests
	Segments  map[string]Limits // of single segments, besides
	MaxDrift  float64           // population stability index of the scores; 0: not watched
	LastModel bool              // when tripped, go back to the last good model; otherwise to review
	Recover   time.Duration     // how long a tripped guard holds; 0: until cleared by hand
}

// Limits of what is decided automatically in an hour.
type Limits struct {
	Approvals    int64
	Approved     int64   // minor units of the base currency
	DenyRate     float64 // of decisions; 1: not watched
	MinDecisions int64   // below so many the rate says nothing
}

// segment is a kind of requests that is treated in its own way.
type segment struct {
	name      string
	source    string
	when      expression.Node
	line      int
	treatment Treatment
}

// What a rule says of the requests that it fires on, beside the verdicts.
const (
	Flag         = "flag"           // nothing but that it fired
	AtMostReview = "at_most_review" // a review is the worst that may become of it
)

// States of a rule.
const (
	Active = "active"
	Shadow = "shadow" // reported, and without any effect
	Off    = "off"
)

// RequiredActions is the closed set of what a decision can ask for.
var RequiredActions = []string{"step_up_auth", "hold_funds", "return_to_source", "verify_payee", "contact_previous_channel", "await_settlement",
	"escalate_aml", "four_eyes"}

// RuleInfo is a rule as it is written.
type RuleInfo struct {
	Name, Description string
	Descriptions      map[string]string // in other languages; nil: none
	When              string
	Then              string // approve, review, deny or flag; "" for a rule that is a ceiling only
	AtMost            bool   // a ceiling: review is the worst that may become of the request
	Override          bool   // of approve: an allow-list
	Mandatory         bool   // holds against allow-lists
	Reason            string // reason code; "": none
	Actions           []string
	Due               Due // of a review; zero: as the segment has it
	State             string
	From, Until       vaglio.Instant // valid in [From, Until); 0: open
	Line              int
}

// Words describe the rule in a language, or else as its author did.
func (r *RuleInfo) Words(lang string) string { return cmp.Or(r.Descriptions[lang], r.Description) }

// Action is what the rule says, in one word.
func (r *RuleInfo) Action() string {
	if r.Then == "" {
		return AtMostReview
	}
	return r.Then
}

// Due is a time limit of a review.
type Due struct {
	Within          time.Duration
	NextBusinessDay bool
}

const nextBusinessDay = "next_business_day"

func (d Due) String() string {
	switch {
	case d.NextBusinessDay:
		return nextBusinessDay
	case d.Within == 0:
		return ""
	default:
		return document.FormatSpan(d.Within)
	}
}

// closingHour is when a business day ends, in UTC: early enough for every zone of Europe.
const closingHour = 16 * vaglio.Hour

// from is the time left at a moment. The next business day is the next one from Monday to Friday; that public holidays count as
// business days errs towards the earlier day.
func (d Due) from(at vaglio.Instant) time.Duration {
	if !d.NextBusinessDay {
		return d.Within
	}
	day := at - at%vaglio.Day + vaglio.Day
	for weekday := day.Time().Weekday(); weekday == time.Saturday || weekday == time.Sunday; weekday = day.Time().Weekday() {
		day += vaglio.Day
	}
	return time.Duration(day+closingHour-at) * time.Millisecond
}

type rule struct {
	RuleInfo
	node  expression.Node
	reads []string // features
	lists []string
	late  bool // reads counters, so that it waits for Conclude
}

func (r *rule) validAt(at vaglio.Instant) bool { return at >= r.From && (r.Until == 0 || at < r.Until) }

//go:embed default.yaml
var defaultYAML []byte

var defaultPolicy = sync.OnceValue(func() *Policy {
	p, err := Parse(defaultYAML)
	if err != nil {
		panic("policy: the default policy: " + err.Error())
	}
	return p
})

// Default is the embedded policy.
func Default() *Policy { return defaultPolicy() }

// DefaultYAML is the text of the embedded policy.
func DefaultYAML() []byte { return slices.Clone(defaultYAML) }

// Version names the exact content: the policy's name and a digest.
func (p *Policy) Version() string { return p.version }

// Source is the text that was parsed.
func (p *Policy) Source() []byte { return slices.Clone(p.source) }

// Rules lists the rules in the order of the file.
func (p *Policy) Rules() []RuleInfo {
	infos := make([]RuleInfo, len(p.rules))
	for i := range p.rules {
		infos[i] = p.rules[i].RuleInfo
	}
	return infos
}

// Rule finds a rule by its name.
func (p *Policy) Rule(name string) (RuleInfo, bool) {
	for i := range p.rules {
		if p.rules[i].Name == name {
			return p.rules[i].RuleInfo, true
		}
	}
	return RuleInfo{}, false
}

// Segments lists the names of the segments in the order in which they are tried.
func (p *Policy) Segments() []string {
	names := make([]string, len(p.segments))
	for i := range p.segments {
		names[i] = p.segments[i].name
	}
	return names
}

// Segment is how a segment is treated; false if there is none of that name.
func (p *Policy) Segment(name string) (Treatment, bool) {
	for i := range p.segments {
		if p.segments[i].name == name {
			return p.segments[i].treatment, true
		}
	}
	return Treatment{}, false
}

// Lists names the lists that rules ask, sorted, those of rules that are off left out.
func (p *Policy) Lists() []string {
	var names []string
	for i := range p.rules {
		if p.rules[i].State != Off {
			names = append(names, p.rules[i].lists...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func versionOf(name string, source []byte) string {
	digest := sha256.Sum256(source)
	return name + "-" + hex.EncodeToString(digest[:6])
}

func ruleError(r *RuleInfo, err error) error {
	return fmt.Errorf("line %d: rule %q: %w", r.Line, r.Name, err)
}
