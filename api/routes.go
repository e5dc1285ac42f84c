package api

import (
	"slices"
	"strings"
	"time"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
)

// route is one row of the API: what it takes and answers, within which limits, and how the documentation tells it.
type route struct {
	method, path  string // the parts that vary as ":id"
	name          string // the operation's
	summary       string
	about         string
	scopes        []string // a key needs one of them; nil: open to all
	query         []parameter
	headers       []parameter // those that mean something to this route alone
	bodies        []media     // by media type
	bodyOptional  bool
	maxBody       int64    // bytes
	answer        media    // with 200
	answerHeaders []string // of the answer, beside X-Request-Id
	problems      []Kind   // beside those that follow from the row
	atOnce        int      // how many may run at one time, the next is answered 503; 0: any number
	timeout       time.Duration
	quiet         bool // logged at debug only: machines ask it every few seconds
	csp           string
	handle        func(*Server, *exchange) error
}

// parameter is one of the query, the path or the headers.
type parameter struct {
	name, about string
	of          any // as schemas.of takes it
	example     string
	required    bool
}

// media is a body: its type, what it holds and an example that the tests send or get.
type media struct {
	mediaType string
	of        any // as schemas.of takes it
	lines     any // of NDJSON: each line
	example   string
}

const (
	typeJSON    = "application/json"
	typeNDJSON  = "application/x-ndjson"
	typeYAML    = "application/yaml"
	typeHTML    = "text/html"
	typeText    = "text/plain"
	typeProblem = "application/problem+json"
)

const (
	exampleRequest = `{"id":"rr_1","type":"refund","amount":1999,"currency":"EUR","reason":"not_received",` +
		`"entities":{"customer":"c_1","payment":"p_1","payout_instrument":"iban_7"}}`
	exampleSecond = `{"id":"rr_2","type":"cancellation","amount":500,"currency":"EUR",` +
		`"entities":{"customer":"c_2","payment":"p_2"},"payment":{"rail":"sct_inst","state":"pending"}}`
	examplePayment = `{"id":"evt_1","kind":"payment","occurred_at":"2026-11-22T10:00:00.123Z",` +
		`"entities":{"customer":"c_1","payment":"p_1"},"amount":1999,"currency":"EUR"}`
	exampleLogin = `{"id":"evt_2","kind":"login","occurred_at":"2026-11-22T10:05:00Z",` +
		`"entities":{"customer":"c_1","device":"d_9"},"attributes":{"channel":"app"}}`
	exampleExecution = `{"state":"submitted","reference":"tr-4711"}`
	exampleOutcome   = `{"id":"out_1","request_id":"rr_1","outcome":"chargeback","occurred_at":"2026-11-22T12:00:00Z",` +
		`"amount":1999,"currency":"EUR","reference":"cb-7781"}`
	exampleVerdict = `{"id":"out_2","request_id":"rr_2","outcome":"verdict","verdict":"deny","occurred_at":"2026-11-22T12:00:00Z"}`
	examplePolicy  = "name: shop\nthresholds: {approve_below: 0.05, deny_from: 0.8}\nrules:\n  - name: large\n    when: request.amount >= 50000\n" +
		"    then: review\n    reason: AMOUNT_UNUSUAL\n"
	exampleDraft = `{"source":"name: shop\nthresholds: {approve_below: 0.05, deny_from: 0.8}\n","reason":"large amounts get a look"}`
	exampleClear = `{"id":"out_3","request_id":"rr_2","outcome":"clear","clears":"out_2","occurred_at":"2026-11-22T13:00:00Z"}`
)

var (
	dryRun = parameter{name: "dry_run", about: "decides and records nothing; needs the scope admin", of: false, example: "true"}
	asOf   = parameter{name: "as_of", about: "of a dry run: decides with what was known then", of: vaglio.Instant(0), example: "2026-11-22T10:00:00Z"}
	accept = parameter{name: "Accept-Language", about: "language of the texts, unless the request names one", of: "", example: "it"}
)

var routes = []route{
	{method: "POST", path: "/v1/score", name: "score", summary: "Decide one request",
		about: "The decision is stored when it is answered. The same id with the same content gets the same bytes for ever, marked by the header " +
			"Idempotent-Replayed; with other content it is a request-conflict.",
		scopes: []string{ledger.ScopeScore}, query: []parameter{dryRun, asOf}, headers: []parameter{accept, idempotencyKey},
		bodies: []media{{mediaType: typeJSON, of: vaglio.Request{}, example: exampleRequest}}, maxBody: 1 << 20,
		answer: media{mediaType: typeJSON, of: vaglio.Decision{}}, answerHeaders: []string{"Idempotent-Replayed"},
		problems: []Kind{InvalidRequest, RequestConflict, KeyMismatch, Gone},
		atOnce:   1024, timeout: 10 * time.Second, handle: (*Server).score},
	{method: "POST", path: "/v1/score/batch", name: "scoreBatch", summary: "Decide up to 1,000 requests",
		about: "Answers an entry for each request, in their order: its status with the decision or the problem that the request alone would " +
			"have been answered with. A bad request never fails the others. Counts as many calls as it holds requests.",
		scopes: []string{ledger.ScopeScore}, query: []parameter{dryRun, asOf}, headers: []parameter{accept},
		bodies:  []media{{mediaType: typeJSON, of: array{vaglio.Request{}, 1, maxBatch}, example: "[" + exampleRequest + "," + exampleSecond + "]"}},
		maxBody: 8 << 20, answer: media{mediaType: typeJSON, of: array{batchEntry{}, 1, maxBatch}}, problems: []Kind{InvalidRequest},
		atOnce: 4, timeout: 30 * time.Second, handle: (*Server).scoreBatch},
	{method: "GET", path: "/v1/decisions", name: "decisions", summary: "List the decisions on a customer's requests",
		about:  "The newest first. next, also in the header Link, is the cursor of the next page; without it this is the last.",
		scopes: []string{ledger.ScopeReview}, query: []parameter{
			{name: "customer", about: "the customer's id", of: &schema{Type: types{"string"}, MinLength: 1, MaxLength: vaglio.MaxValueBytes},
				example: "c_1", required: true},
			{name: "from", about: "decided at or after", of: vaglio.Instant(0)}, {name: "until", about: "decided before", of: vaglio.Instant(0)},
			limitParameter, cursorParameter},
		answer: media{mediaType: typeJSON, of: decisionsPage{}}, answerHeaders: []string{"Link"}, atOnce: 32, timeout: 10 * time.Second, handle: (*Server).decisions},
	{method: "GET", path: "/v1/decisions/:id", name: "decision", summary: "Read a decision",
		about:  "By its id or by its request's, byte for byte as it was answered.",
		scopes: []string{ledger.ScopeScore, ledger.ScopeReview}, answer: media{mediaType: typeJSON, of: vaglio.Decision{}},
		problems: []Kind{NotFound, Gone}, atOnce: 256, timeout: 10 * time.Second, handle: (*Server).decision},
	{method: "GET", path: "/v1/decisions/:id/explanation", name: "explanation", summary: "Explain a decision",
		about:    "Every feature with its value and its exact contribution, from what was stored with the decision.",
		scopes:   []string{ledger.ScopeScore, ledger.ScopeReview},
		query:    []parameter{{name: "audience", about: "who reads it: auditor by default", of: oneOf(audiences()), example: "reviewer"}},
		answer:   media{mediaType: typeJSON, of: anyOf{scoring.AuditorExplanation{}, scoring.ReviewerExplanation{}, scoring.CustomerExplanation{}}},
		problems: []Kind{NotFound, Gone}, atOnce: 64, timeout: 10 * time.Second, handle: (*Server).explanation},
	{method: "POST", path: "/v1/decisions/:id/replay", name: "replay", summary: "Take a decision again",
		about: "From the inputs stored with it, which gives the same, and from history as it was known then, which does too, or the answer names the " +
			"events that differ or came later. latency_ms and decided_at are left out. Nothing is recorded.",
		scopes: []string{ledger.ScopeReview}, answer: media{mediaType: typeJSON, of: scoring.Replayed{}},
		problems: []Kind{NotFound, Gone}, atOnce: 8, timeout: 30 * time.Second, handle: (*Server).replay},
	{method: "GET", path: "/v1/requests/:id", name: "request", summary: "Read what has become of a request",
		about:  "Its state with the decision, a reviewer's resolution, the execution, and every revision in order.",
		scopes: []string{ledger.ScopeScore, ledger.ScopeReview}, answer: media{mediaType: typeJSON, of: ledger.RequestState{}},
		problems: []Kind{NotFound}, atOnce: 256, timeout: 10 * time.Second, handle: (*Server).requestState},
	{method: "POST", path: "/v1/requests/:id/execution", name: "execute", summary: "Tell what the payment provider did",
		about: "Of an approved refund: submitted keeps the approval from expiring; succeeded, failed and cancelled end what it holds back. The same again " +
			"changes nothing. Without amount, all that was approved moved; without at, it happened now.",
		scopes: []string{ledger.ScopeScore}, headers: []parameter{idempotencyKey},
		bodies:  []media{{mediaType: typeJSON, of: executionReport{}, example: exampleExecution}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: ledger.RequestState{}},
		problems: []Kind{NotFound, InvalidRequest, IllegalTransition, KeyMismatch}, atOnce: 256, timeout: 10 * time.Second, handle: (*Server).execution},
	{method: "POST", path: "/v1/requests/:id/cancel", name: "cancel", summary: "Withdraw a request",
		about:  "One that is neither over nor on its way to be paid. A cancelled request stays as it is.",
		scopes: []string{ledger.ScopeScore}, headers: []parameter{idempotencyKey},
		bodies:  []media{{mediaType: typeJSON, of: cancellation{}, example: `{"reason":"the customer called"}`}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: ledger.RequestState{}},
		problems: []Kind{NotFound, InvalidRequest, IllegalTransition, KeyMismatch}, atOnce: 256, timeout: 10 * time.Second, handle: (*Server).cancel},
	{method: "POST", path: "/v1/events", name: "events", summary: "Store events",
		about: "One event, an array or NDJSON; at most 20,000 events, 256 KiB each. 200 means that all of them are stored. When any is wrong " +
			"(invalid-events), none of the call is stored. When ids conflict (event-conflict), the others are stored and the conflicting ones are named.",
		scopes: []string{ledger.ScopeEvents}, bodies: []media{
			{mediaType: typeJSON, of: anyOf{eventWire{}, array{eventWire{}, 1, maxEvents}}, example: examplePayment},
			{mediaType: typeNDJSON, lines: eventWire{}, example: examplePayment + "\n" + exampleLogin + "\n"}},
		maxBody: 16 << 20, answer: media{mediaType: typeJSON, of: storedWire{}}, problems: []Kind{InvalidEvents, EventConflict},
		atOnce: 8, timeout: 45 * time.Second, handle: (*Server).events},
	{method: "POST", path: "/v1/outcomes", name: "outcomes", summary: "Report what became of requests",
		about: "Labels for training: one outcome, an array or NDJSON, within the limits of events. Each is stored once per id. A request that is not known " +
			"yet may be named; the outcome waits for it. clear takes back what the outcome named by clears said.",
		scopes: []string{ledger.ScopeEvents}, bodies: []media{
			{mediaType: typeJSON, of: anyOf{vaglio.ReportedOutcome{}, array{vaglio.ReportedOutcome{}, 1, maxEvents}}, example: exampleOutcome},
			{mediaType: typeNDJSON, lines: vaglio.ReportedOutcome{}, example: exampleVerdict + "\n" + exampleClear + "\n"}},
		maxBody: 16 << 20, answer: media{mediaType: typeJSON, of: storedWire{}}, problems: []Kind{InvalidOutcomes, OutcomeConflict},
		atOnce: 8, timeout: 45 * time.Second, handle: (*Server).outcomes},
	{method: "GET", path: "/v1/policy", name: "policy", summary: "Read the policy in use",
		about: "That of the server that answers, with its rules, what it warns of, and the publications, the newest first. published is the version in " +
			"force; a server that was started with a policy of its own uses that one.",
		scopes: []string{ledger.ScopeAdmin}, answer: media{mediaType: typeJSON, of: policyWire{}},
		atOnce: 8, timeout: 10 * time.Second, handle: (*Server).policyInUse},
	{method: "POST", path: "/v1/policy", name: "publish", summary: "Publish a policy",
		about: "It is checked against the models in use; with mistakes nothing happens, and each is named with its line. It is in force at once, on every " +
			"server within a second; where a second person has to approve, it waits: turn is missing then.",
		scopes: []string{ledger.ScopeAdmin}, query: []parameter{{name: "reason", about: "of YAML: why; JSON has it in the body",
			of: &schema{Type: types{"string"}, MinLength: 1, MaxLength: maxReason}, example: "summer"}},
		bodies: []media{{mediaType: typeJSON, of: policyDraft{}, example: exampleDraft},
			{mediaType: typeYAML, of: &schema{Type: types{"object"}, Description: "YAML; docs/policy.md tells its keys"}, example: examplePolicy}},
		maxBody: 4 << 20, answer: media{mediaType: typeJSON, of: publishedWire{}}, problems: []Kind{InvalidPolicy, InvalidRequest},
		atOnce: 2, timeout: 30 * time.Second, handle: (*Server).publish},
	{method: "POST", path: "/v1/policy/publications/:publication/approve", name: "approvePolicy", summary: "Approve a policy as the second person",
		about:  "By its number. It is in force at once. Its author can't approve it.",
		scopes: []string{ledger.ScopeAdmin}, answer: media{mediaType: typeJSON, of: publishedWire{}},
		problems: []Kind{NotFound, FourEyes, InvalidPolicy}, atOnce: 2, timeout: 30 * time.Second, handle: (*Server).approvePolicy},
	{method: "POST", path: "/v1/policy/rollback", name: "rollbackPolicy", summary: "Go back to the policy before",
		about:  "The last one in force of another version, at once, without a second person.",
		scopes: []string{ledger.ScopeAdmin}, bodies: []media{{mediaType: typeJSON, of: policyRollback{}, example: `{"reason":"it denied too much"}`}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: publishedWire{}}, problems: []Kind{NotFound, InvalidRequest},
		atOnce: 2, timeout: 30 * time.Second, handle: (*Server).rollbackPolicy},
	{method: "GET", path: "/v1/policy/:version", name: "policyVersion", summary: "Read a version of the policy",
		about:  "One that was published or proposed, or the embedded one.",
		scopes: []string{ledger.ScopeAdmin}, answer: media{mediaType: typeJSON, of: policyWire{}},
		problems: []Kind{NotFound}, atOnce: 8, timeout: 10 * time.Second, handle: (*Server).policyVersion},
	{method: "GET", path: "/v1/lists", name: "lists", summary: "List the lists", about: "By name, without what is on them.",
		scopes: []string{ledger.ScopeReview}, answer: media{mediaType: typeJSON, of: listsWire{}}, atOnce: 32, timeout: 10 * time.Second, handle: (*Server).lists},
	{method: "POST", path: "/v1/lists", name: "createList", summary: "Make a list",
		about:  "Of a hashed list only digests of the values are kept: nobody can read them. A list that is there already stays as it is.",
		scopes: []string{ledger.ScopeAdmin}, bodies: []media{{mediaType: typeJSON, of: newList{}, example: `{"name":"confirmed_fraud","hashed":true}`}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: ledger.List{}}, problems: []Kind{InvalidRequest},
		atOnce: 8, timeout: 10 * time.Second, handle: (*Server).createList},
	{method: "GET", path: "/v1/lists/:list/entries", name: "entries", summary: "Read what is on a list",
		about:  "The oldest first; with value, only that one's. Of hashed lists value is empty.",
		scopes: []string{ledger.ScopeReview}, query: []parameter{{name: "value", about: "whether this is on the list",
			of: &schema{Type: types{"string"}, MinLength: 1, MaxLength: vaglio.MaxValueBytes}, example: "d_9"}, limitParameter, cursorParameter},
		answer: media{mediaType: typeJSON, of: entriesPage{}}, answerHeaders: []string{"Link"}, problems: []Kind{NotFound},
		atOnce: 32, timeout: 10 * time.Second, handle: (*Server).entries},
	{method: "POST", path: "/v1/lists/:list/entries", name: "addEntries", summary: "Put values on a list",
		about:  "Up to 5,000, all or none. A value that is on it already gets what is said now. It counts on every server within a second.",
		scopes: []string{ledger.ScopeReview}, bodies: []media{{mediaType: typeJSON, of: array{ledger.ListValue{}, 1, ledger.MaxListChange},
			example: `[{"value":"d_9","reason":"ring of November"},{"value":"iban_7","expires_at":"2100-01-01T00:00:00Z"}]`}},
		maxBody: 8 << 20, answer: media{mediaType: typeJSON, of: addedWire{}}, problems: []Kind{NotFound, InvalidRequest},
		atOnce: 4, timeout: 30 * time.Second, handle: (*Server).addEntries},
	{method: "DELETE", path: "/v1/lists/:list/entries", name: "removeEntries", summary: "Take values off a list",
		about:  "Those of the body, up to 5,000, or the one in the query, which proxies may write down. What was decided by them stays explained.",
		scopes: []string{ledger.ScopeAdmin}, query: []parameter{{name: "value", about: "a single one, instead of a body",
			of: &schema{Type: types{"string"}, MinLength: 1, MaxLength: vaglio.MaxValueBytes}, example: "d_9"}},
		bodies: []media{{mediaType: typeJSON, of: array{&schema{Type: types{"string"}, MinLength: 1, MaxLength: vaglio.MaxValueBytes}, 1, ledger.MaxListChange},
			example: `["d_9","iban_7"]`}}, bodyOptional: true,
		maxBody: 2 << 20, answer: media{mediaType: typeJSON, of: removedWire{}}, problems: []Kind{NotFound, InvalidRequest},
		atOnce: 4, timeout: 30 * time.Second, handle: (*Server).removeEntries},
	{method: "GET", path: "/v1/models", name: "models", summary: "List the models",
		about:  "Of the registry, with their stages, or why they are refused; and which this server uses.",
		scopes: []string{ledger.ScopeAdmin}, answer: media{mediaType: typeJSON, of: modelsWire{}}, problems: []Kind{NotFound},
		atOnce: 2, timeout: 30 * time.Second, handle: (*Server).listModels},
	{method: "POST", path: "/v1/models/:model/promote", name: "promote", summary: "Promote a model",
		about: "The champion decides, the challenger decides for its share of customers, the shadow only watches. A model that can't be opened, or lacks " +
			"features that the policy asks for, is refused; so is, without a reason, one whose training was interrupted, and every champion: only " +
			"the command line compares it with the present one. Servers take it up within two seconds.",
		scopes: []string{ledger.ScopeAdmin}, bodies: []media{{mediaType: typeJSON, of: stageChange{}, example: `{"stage":"challenger","share":0.05}`}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: stagedWire{}}, problems: []Kind{NotFound, InvalidRequest, ModelRefused},
		atOnce: 2, timeout: 30 * time.Second, handle: (*Server).promote},
	{method: "POST", path: "/v1/models/rollback", name: "rollbackModel", summary: "Take a promotion back",
		about:  "The last one to the stage. The model before it is current again.",
		scopes: []string{ledger.ScopeAdmin}, bodies: []media{{mediaType: typeJSON, of: stageRollback{}, example: `{"stage":"champion"}`}},
		maxBody: 64 << 10, answer: media{mediaType: typeJSON, of: stagedWire{}}, problems: []Kind{NotFound, InvalidRequest, ModelRefused},
		atOnce: 2, timeout: 30 * time.Second, handle: (*Server).rollbackModel},
	{method: "GET", path: "/v1/guards", name: "guards", summary: "Read which guards tripped",
		about:  "The latest 100, the newest first, and what was decided in the last hour, by segment of the policy; the empty one is all requests.",
		scopes: []string{ledger.ScopeReview}, answer: media{mediaType: typeJSON, of: guardsWire{}}, atOnce: 8, timeout: 10 * time.Second, handle: (*Server).guards},
	{method: "POST", path: "/v1/guards/:guard/clear", name: "clearGuard", summary: "Clear a guard",
		about:  "Approvals go on, here at once and on every server within a second; what was counted until now is forgiven.",
		scopes: []string{ledger.ScopeAdmin}, answer: media{mediaType: typeJSON, of: guardsWire{}}, problems: []Kind{NotFound},
		atOnce: 8, timeout: 10 * time.Second, handle: (*Server).clearGuard},
	{method: "GET", path: "/healthz", name: "healthz", summary: "Whether the process lives",
		answer: media{mediaType: typeJSON, of: healthWire{}}, timeout: time.Second, quiet: true, handle: (*Server).healthz},
	{method: "GET", path: "/readyz", name: "readyz", summary: "Whether requests can be decided in full", about: "503 names what is missing.",
		answer: media{mediaType: typeJSON, of: readyWire{}}, problems: []Kind{NotReady},
		atOnce: 16, timeout: 5 * time.Second, quiet: true, handle: (*Server).readyz},
	{method: "GET", path: "/metrics", name: "metrics", summary: "Metrics for Prometheus",
		scopes: []string{ledger.ScopeMetrics}, answer: media{mediaType: typeText, of: ""},
		atOnce: 4, timeout: 10 * time.Second, quiet: true, handle: (*Server).showMetrics},
	{method: "GET", path: "/openapi.json", name: "openapi", summary: "This description, as OpenAPI 3.1",
		answer: media{mediaType: typeJSON, of: &schema{Type: types{"object"}}}, atOnce: 64, timeout: time.Second, handle: (*Server).openAPI},
	{method: "GET", path: "/docs", name: "docs", summary: "This description, to read", answer: media{mediaType: typeHTML, of: ""},
		atOnce: 64, timeout: time.Second, csp: docsPolicy, handle: (*Server).docs},
}

// idempotencyKey is for clients that send one with every call.
var idempotencyKey = parameter{name: "Idempotency-Key", about: "if given, it has to be the id of the request", of: "", example: "rr_1"}

func audiences() []string {
	var all []string
	for _, a := range scoring.Audiences {
		all = append(all, string(a))
	}
	return all
}

// pathParameters are the names of the parts that vary.
func (r *route) pathParameters() []string {
	var names []string
	for part := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			names = append(names, name)
		}
	}
	return names
}

// template is the path as OpenAPI writes it.
func (r *route) template() string {
	path := r.path
	for _, name := range r.pathParameters() {
		path = strings.Replace(path, ":"+name, "{"+name+"}", 1)
	}
	return path
}

// kinds are all problems that the route can answer: what its guard refuses, what its handler does, and what no route is
// safe from; by status, then name.
func (r *route) kinds() []Kind {
	all := append([]Kind{InvalidParameter, Internal, Timeout}, r.problems...)
	if r.scopes != nil {
		all = append(all, Unauthorized, Forbidden, RateLimited, NotReady)
	}
	if r.atOnce > 0 {
		all = append(all, Busy)
	}
	if len(r.bodies) > 0 {
		all = append(all, EmptyBody, MalformedJSON, IncompleteBody, BodyTooLarge, UnsupportedMediaType)
	}
	slices.SortFunc(all, byStatus)
	return slices.Compact(all)
}

func (r *route) queryNames() []string {
	names := make([]string, len(r.query))
	for i, p := range r.query {
		names[i] = p.name
	}
	return names
}

func (r *route) mediaTypes() []string {
	names := make([]string, len(r.bodies))
	for i, b := range r.bodies {
		names[i] = b.mediaType
	}
	return names
}
