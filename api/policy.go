package api

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring/policy"
)

// maxReason bounds, in bytes, why somebody changes something.
const maxReason = 500

// policyDraft is a policy that is to be published.
type policyDraft struct {
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// policyRollback takes the last change of the policy back.
type policyRollback struct {
	Reason string `json:"reason"`
}

// policyWire is a policy as people read it.
type policyWire struct {
	Version      string               `json:"version"`
	Name         string               `json:"name"`
	Published    string               `json:"published,omitzero"`
	Source       string               `json:"source"`
	Rules        []ruleWire           `json:"rules"`
	Segments     []string             `json:"segments"`
	Lists        []string             `json:"lists"`
	Warnings     []string             `json:"warnings"`
	Publications []ledger.Publication `json:"publications"`
}

type ruleWire struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	When        string         `json:"when"`
	Then        string         `json:"then,omitzero"`
	AtMost      string         `json:"at_most,omitzero"`
	Override    bool           `json:"override,omitzero"`
	Mandatory   bool           `json:"mandatory,omitzero"`
	Reason      string         `json:"reason,omitzero"`
	Actions     []string       `json:"actions,omitempty"`
	Due         string         `json:"due,omitzero"`
	State       string         `json:"state"`
	From        vaglio.Instant `json:"from,omitzero"`
	Until       vaglio.Instant `json:"until,omitzero"`
	Line        int            `json:"line"`
}

// publishedWire is what became of a change of the policy.
type publishedWire struct {
	Publication ledger.Publication `json:"publication"`
	InForce     bool               `json:"in_force"`
	Warnings    []string           `json:"warnings"`
}

// policyInUse shows the policy that this server decides by, and what was published.
func (s *Server) policyInUse(x *exchange) error {
	ctx := x.Request().Context()
	out, err := s.shown(s.engine.Policy())
	if err != nil {
		return err
	}
	if out.Publications, err = s.publications(ctx, ""); err != nil {
		return err
	}
	if out.Published, err = s.ledger.CurrentPolicy(ctx); err != nil {
		return err
	}
	return x.json(http.StatusOK, &out)
}

// policyVersion shows a policy that was ever published or proposed, or is in use here.
func (s *Server) policyVersion(x *exchange) error {
	version, err := x.name("version")
	if err != nil {
		return err
	}
	p, err := s.policyOf(x.Request().Context(), version)
	if err != nil {
		return err
	}
	out, err := s.shown(p)
	if err != nil {
		return err
	}
	if out.Publications, err = s.publications(x.Request().Context(), version); err != nil {
		return err
	}
	return x.json(http.StatusOK, &out)
}

// policyOf finds a version: in use, the embedded one, or one in the ledger.
func (s *Server) policyOf(ctx context.Context, version string) (*policy.Policy, error) {
	for _, p := range []*policy.Policy{s.engine.Policy(), policy.Default()} {
		if p.Version() == version {
			return p, nil
		}
	}
	text, err := s.ledger.Policy(ctx, version)
	if err != nil {
		return nil, err
	}
	return policy.Parse(text.Source)
}

// publications are those of a version, "" for all.
func (s *Server) publications(ctx context.Context, version string) ([]ledger.Publication, error) {
	all, err := s.ledger.Publications(ctx)
	return slices.DeleteFunc(append([]ledger.Publication{}, all...), func(p ledger.Publication) bool { return version != "" && p.Version != version }), err
}

// shown is a policy without its publications.
func (s *Server) shown(p *policy.Policy) (policyWire, error) {
	warnings, misfit := s.engine.Fits(s.engine.Lineup(), p)
	if misfit != nil { // it was published for other models
		for _, f := range policyFaults(misfit, nil) {
			warnings = append(warnings, f.Detail)
		}
	}
	out := policyWire{Version: p.Version(), Name: p.Name, Source: string(p.Source()), Rules: []ruleWire{}, Segments: append([]string{}, p.Segments()...),
		Lists: append([]string{}, p.Lists()...), Warnings: append([]string{}, warnings...)}
	for _, r := range p.Rules() {
		rule := ruleWire{Name: r.Name, Description: r.Description, When: r.When, Then: r.Then, Override: r.Override, Mandatory: r.Mandatory,
			Reason: r.Reason, Actions: r.Actions, Due: r.Due.String(), State: r.State, From: r.From, Until: r.Until, Line: r.Line}
		if r.AtMost {
			rule.AtMost = string(vaglio.Review)
		}
		out.Rules = append(out.Rules, rule)
	}
	return out, nil
}

// publish reads, checks and publishes a policy, or proposes it where a second person has to approve.
func (s *Server) publish(x *exchange) error {
	draft, pointer, err := readDraft(x)
	if err != nil {
		return err
	}
	p, err := policy.Parse([]byte(draft.Source))
	if err != nil {
		return invalidPolicy(err, pointer)
	}
	warnings, err := s.engine.Fits(s.engine.Lineup(), p)
	if err != nil {
		return invalidPolicy(err, pointer)
	}
	published, err := s.ledger.ProposePolicy(x.Request().Context(), ledger.PolicyText{Version: p.Version(), Name: p.Name, Source: []byte(draft.Source)},
		x.key.ID, draft.Reason, s.fourEyes)
	if err != nil {
		return err
	}
	return s.published(x, published, warnings)
}

// readDraft takes a policy as YAML, with the reason in the query, or as JSON. The pointer is where the YAML stands in the body.
func readDraft(x *exchange) (draft policyDraft, pointer *string, err error) {
	query := x.QueryParams()
	if mediaType, _, _ := mime.ParseMediaType(x.Request().Header.Get("Content-Type")); mediaType == typeYAML {
		if fault := checkReason(query.Get("reason")); fault != "" {
			return draft, nil, invalidParameter("reason", "%s", fault)
		}
		body, err := x.body()
		return policyDraft{Source: string(body), Reason: query.Get("reason")}, nil, err
	}
	if query.Has("reason") {
		return draft, nil, invalidParameter("reason", "stands in the body, beside the source")
	}
	if draft, err = read[policyDraft](x); err != nil {
		return draft, nil, err
	}
	var bad vaglio.Invalid
	if draft.Source == "" {
		bad = append(bad, vaglio.FieldError{Pointer: "/source", Detail: "is required"})
	}
	if fault := checkReason(draft.Reason); fault != "" {
		bad = append(bad, vaglio.FieldError{Pointer: "/reason", Detail: fault})
	}
	if len(bad) > 0 {
		return draft, nil, bad
	}
	source := "/source"
	return draft, &source, nil
}

// checkReason says what is wrong with a reason, "" when nothing is.
func checkReason(reason string) string {
	if reason == "" || len(reason) > maxReason || strings.ContainsFunc(reason, unicode.IsControl) {
		return fmt.Sprintf("want one line of 1 to %d bytes that says why", maxReason)
	}
	return ""
}

// published takes up what was just published and answers with it.
func (s *Server) published(x *exchange, p ledger.Publication, warnings []string) error {
	if p.Turn != 0 {
		s.takeUp(x.Request().Context())
	}
	return x.json(http.StatusOK, &publishedWire{Publication: p, InForce: p.Turn != 0, Warnings: append([]string{}, warnings...)})
}

// takeUp makes a change count here at once. When that fails the engine tries again within a second, as other replicas do.
func (s *Server) takeUp(ctx context.Context) {
	if err := s.engine.Refresh(ctx); err != nil {
		s.log.Error("a change is not taken up yet", "error", err)
	}
}

// approvePolicy brings a proposed publication into force in the name of a second person.
func (s *Server) approvePolicy(x *exchange) error {
	name, err := x.name("publication")
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return problemf(NotFound, "no publication has this number")
	}
	ctx := x.Request().Context()
	all, err := s.ledger.Publications(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(p ledger.Publication) bool { return p.ID == id && p.Turn == 0 })
	if at < 0 {
		return problemf(NotFound, "no publication of this number waits for a second person")
	}
	p, err := s.policyOf(ctx, all[at].Version)
	if err != nil {
		return err
	}
	warnings, err := s.engine.Fits(s.engine.Lineup(), p) // the models may be others by now
	if err != nil {
		return invalidPolicy(err, nil)
	}
	published, err := s.ledger.ApprovePolicy(ctx, id, x.key.ID)
	if err != nil {
		return err
	}
	return s.published(x, published, warnings)
}

// rollbackPolicy brings the version before the present one back, at once: a second person would be too late.
func (s *Server) rollbackPolicy(x *exchange) error {
	told, err := read[policyRollback](x)
	if err != nil {
		return err
	}
	if fault := checkReason(told.Reason); fault != "" {
		return vaglio.Invalid{{Pointer: "/reason", Detail: fault}}
	}
	published, err := s.ledger.RollbackPolicy(x.Request().Context(), x.key.ID, told.Reason)
	if errors.Is(err, ledger.ErrNotFound) {
		return problemf(NotFound, "there is no earlier policy")
	}
	if err != nil {
		return err
	}
	return s.published(x, published, nil)
}

// invalidPolicy lists the mistakes of a policy by line.
func invalidPolicy(err error, pointer *string) *problem {
	return invalidFields(InvalidPolicy, policyFaults(err, pointer))
}

// ofLine is a mistake with its line, in an error of package policy.
var ofLine = regexp.MustCompile(`^(?:.*?: )?line (\d+): (.*)$`)

// policyFaults are the mistakes that an error tells of, each once. The YAML parser shows a mistake on several lines, of which
// the first one says it.
func policyFaults(err error, pointer *string) []fault {
	var out []fault
	for text := range strings.Lines(err.Error()) {
		f := fault{Pointer: pointer, Detail: strings.TrimSpace(text)}
		if m := ofLine.FindStringSubmatch(f.Detail); m != nil {
			f.Line, _ = strconv.Atoi(m[1])
			f.Detail = m[2]
		}
		if f.Detail != "" && !slices.ContainsFunc(out, func(o fault) bool { return o.Line == f.Line && o.Detail == f.Detail }) {
			out = append(out, f)
		}
	}
	return out
}
