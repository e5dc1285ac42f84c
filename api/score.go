package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/language"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
)

// score decides one request. A request that was decided before gets its bytes again, marked by a header.
func (s *Server) score(x *exchange) error {
	o, err := s.decideOptions(x)
	if err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	answer, err := s.decide(x.Request().Context(), body, x.Request().Header.Values(idempotencyKey.name), o)
	if err != nil {
		return err
	}
	if answer.Repeated {
		x.Response().Header().Set("Idempotent-Replayed", "true")
	}
	s.metrics.decision(answer, o.DryRun)
	return x.Blob(http.StatusOK, typeJSON, answer.Body)
}

// decide reads one request and decides it. Idempotency keys that were sent with it have to be its id.
func (s *Server) decide(ctx context.Context, body []byte, keys []string, o scoring.DecideOptions) (scoring.Answer, error) {
	r, err := vaglio.DecodeRequest(body)
	var invalid vaglio.Invalid
	if errors.As(err, &invalid) {
		if err := wellFormed(body); err != nil {
			return scoring.Answer{}, err
		}
		return scoring.Answer{}, invalidFields(InvalidRequest, faults(invalid, 0, ""))
	}
	if err != nil {
		return scoring.Answer{}, err
	}
	if err := sameKey(keys, r.ID); err != nil {
		return scoring.Answer{}, err
	}
	return s.engine.Decide(ctx, &r, o)
}

// sameKey wants idempotency keys to be the id under which the thing is done once anyway. RFC 8941 strings may be quoted.
func sameKey(keys []string, id string) error {
	for _, key := range keys {
		if key != id && key != strconv.Quote(id) {
			return problemf(KeyMismatch, "want the id of the request, or no such header")
		}
	}
	return nil
}

// decideOptions reads Accept-Language and ?dry_run=true&as_of=T, for which the key needs the scope admin.
func (s *Server) decideOptions(x *exchange) (scoring.DecideOptions, error) {
	o := scoring.DecideOptions{Language: preferredLanguage(x.Request().Header.Get("Accept-Language"))}
	query := x.QueryParams()
	switch query.Get("dry_run") {
	case "true":
		o.DryRun = true
		if err := x.need(ledger.ScopeAdmin); err != nil {
			return o, err
		}
	case "false":
	default:
		if query.Has("dry_run") {
			return o, invalidParameter("dry_run", "want true or false")
		}
	}
	if !query.Has("as_of") {
		return o, nil
	}
	if !o.DryRun {
		return o, invalidParameter("as_of", "needs dry_run=true: nobody can decide for real as of another time")
	}
	if err := o.AsOf.UnmarshalText([]byte(query.Get("as_of"))); err != nil {
		return o, invalidParameter("as_of", "%s", err)
	}
	if o.AsOf > vaglio.InstantOf(s.now()) {
		return o, invalidParameter("as_of", "is in the future")
	}
	return o, nil
}

// maxAcceptLanguage is longer than what browsers send; what is over it is not looked at.
const maxAcceptLanguage = 256

var languages = func() language.Matcher {
	tags := make([]language.Tag, len(vaglio.Languages))
	for i, l := range vaglio.Languages {
		tags[i] = language.MustParse(l)
	}
	return language.NewMatcher(tags)
}()

// preferredLanguage picks from vaglio.Languages by an Accept-Language header, the default when nothing fits.
func preferredLanguage(accept string) string {
	if accept == "" || len(accept) > maxAcceptLanguage {
		return vaglio.Languages[0]
	}
	wanted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil {
		return vaglio.Languages[0]
	}
	_, i, _ := languages.Match(wanted...)
	return vaglio.Languages[i]
}

// decision shows a stored decision, byte for byte.
func (s *Server) decision(x *exchange) error {
	id, err := x.param("id")
	if err != nil {
		return err
	}
	body, err := s.engine.Decision(x.Request().Context(), id)
	if err != nil {
		return err
	}
	return x.Blob(http.StatusOK, typeJSON, body)
}

// decisionsPage is a page of a list of decisions.
type decisionsPage struct {
	Decisions []ledger.Listed `json:"decisions"`
	Next      string          `json:"next,omitzero"` // the cursor of the next page; "": this is the last
}

// decisions lists those on requests of a customer, the newest first.
func (s *Server) decisions(x *exchange) error {
	customer := x.QueryParams().Get("customer")
	if customer == "" || len(customer) > vaglio.MaxValueBytes {
		return invalidParameter("customer", "want the id of a customer, at most %d bytes", vaglio.MaxValueBytes)
	}
	from, err := x.instantParameter("from")
	if err != nil {
		return err
	}
	until, err := x.instantParameter("until")
	if err != nil {
		return err
	}
	after, limit, err := pageOf[ledger.Place](x)
	if err != nil {
		return err
	}
	all, err := s.ledger.DecisionsOf(x.Request().Context(), customer, from, until, after, limit+1)
	if err != nil {
		return err
	}
	page := decisionsPage{Decisions: all[:min(limit, len(all))]}
	if len(all) > limit {
		last := page.Decisions[limit-1]
		page.Next = x.next(ledger.Place{DecidedAt: last.DecidedAt, RequestID: last.RequestID})
	}
	return x.json(http.StatusOK, &page)
}

// explanation shows what led to a decision, to the audience that ?audience names.
func (s *Server) explanation(x *exchange) error {
	id, err := x.param("id")
	if err != nil {
		return err
	}
	audience := scoring.Auditor
	if query := x.QueryParams(); query.Has("audience") {
		if audience = scoring.Audience(query.Get("audience")); !slices.Contains(scoring.Audiences, audience) {
			return invalidParameter("audience", "want reviewer, auditor or customer")
		}
	}
	e, err := s.engine.ExplanationFor(x.Request().Context(), id, audience)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, e)
}

// json answers a value.
func (x *exchange) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.Blob(status, typeJSON, body)
}
