package api

import (
	"fmt"
	"strings"
	"sync"

	"vaglio"
	"vaglio/ledger"
	"vaglio/scoring"
	"vaglio/scoring/policy"
)

// eventWire is an event as it is on the wire: vaglio.Event tells by its currency whether it has an amount.
type eventWire struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"`
	OccurredAt vaglio.Instant `json:"occurred_at"`
	ObservedAt vaglio.Instant `json:"observed_at,omitzero"`
	Entities   vaglio.Fields  `json:"entities"`
	Amount     *int64         `json:"amount,omitzero"`
	Currency   string         `json:"currency,omitzero"`
	Attributes vaglio.Fields  `json:"attributes,omitempty"`
}

// abouts say what components are.
var abouts = map[string]string{
	"Request":             "A request for money back.",
	"PaymentState":        "What the caller knows of the payment that the request is about.",
	"Decision":            "The answer to a request. It never changes.",
	"Event":               "One thing that happened. It is stored once per id: the first wins.",
	"ReportedOutcome":     "What became of a request: a label, from which training learns.",
	"DecisionsPage":       "A page of a list of decisions.",
	"Listed":              "A decision in a list.",
	"RequestState":        "A request with all that has become of it.",
	"ExecutionReport":     "What the payment provider did.",
	"Piece":               "A part of a refund, as an event told it.",
	"Cancellation":        "The withdrawal of a request.",
	"Revision":            "One thing that became of a request. Revisions are appended and never change.",
	"Problem":             "What is answered instead (RFC 9457). Write programs against type; title and detail are for people.",
	"Fault":               "One wrong thing: a place in the body, or a query parameter.",
	"BatchEntry":          "What became of one request of a batch: its decision, or a problem.",
	"Reason":              "One argument for or against, in log-odds of fraud.",
	"Change":              "What would have led to an approval.",
	"AuditorExplanation":  "A decision in numbers: base + all contributions = log_odds, up to additivity_error.",
	"ReviewerExplanation": "Everything that explains a decision.",
	"CustomerExplanation": "What the customer may read.",
	"Latency":             "Where the time went, in milliseconds.",
	"TimelineInput":       "The events that a decision saw of one entity.",
	"FeatureInput":        "One feature with its value and its contribution.",
	"RuleHit":             "A rule of the policy that fired.",
	"ModelIdentity":       "The exact model that scored.",
	"Money":               "An amount in minor units of a currency.",
	"FeatureChange":       "One thing that would have to differ.",
	"ReasonFeature":       "A feature's value beside what is usual.",
	"Replayed":            "A stored decision taken again, twice.",
	"Comparison":          "How a decision taken again differs from the stored one.",
	"Difference":          "A member of the decision, or a feature, that came out otherwise.",
	"TimelineChanged":     "An entity whose events differ from those that the decision saw.",
	"Policy":              "A policy: what makes a verdict of a probability.",
	"Rule":                "A rule of a policy.",
	"Publication":         "That a policy was to be in force, and since when it was.",
	"Published":           "What became of a change of the policy.",
	"PolicyDraft":         "A policy that is to be published.",
	"PolicyRollback":      "The last change of the policy taken back.",
	"List":                "A named set of values that rules ask for.",
	"NewList":             "A list that is to be made.",
	"ListValue":           "A value that is to be on a list.",
	"ListEntry":           "A value's stay on a list.",
	"GuardTrip":           "A guard that tripped: automatic approvals stopped, until its time or a hand.",
	"HourCounts":          "What was decided in the last hour in one segment, by all servers.",
	"Model":               "A version of the registry.",
	"Lineup":              "The models that a server uses.",
	"StageChange":         "A promotion of a model.",
	"StageRollback":       "A promotion taken back.",
}

// received are the components that callers send.
var received = map[string]bool{"Request": true, "PaymentState": true, "Event": true, "ReportedOutcome": true, "ExecutionReport": true, "Cancellation": true,
	"PolicyDraft": true, "PolicyRollback": true, "NewList": true, "ListValue": true, "StageChange": true, "StageRollback": true}

var requestStates = []string{string(ledger.PendingReview), string(ledger.AwaitingCustomer), string(ledger.Approved), string(ledger.PartlyApproved),
	string(ledger.Denied), string(ledger.Cancelled), string(ledger.Expired)}

// tied are the members that need each other.
var tied = map[string]map[string][]string{"Event": moneyIsBoth, "ReportedOutcome": moneyIsBoth}

var moneyIsBoth = map[string][]string{"amount": {"currency"}, "currency": {"amount"}}

// constraints are what Go types do not tell of fields: meaning, limits and closed sets, by component and member. The
// limits themselves live beside the validation.
var constraints = sync.OnceValue(func() map[string]schema {
	currency := choice("ISO 4217", currencies()...)
	amount := between("minor units of currency", 0, vaglio.MaxAmount)
	return map[string]schema{
		"Request.id": id("chosen by the caller; the request is decided once under it"),
		"Request.type": choice("a cancellation stops an unsettled deposit, a refund sends settled money back, a recall asks another bank",
			vaglio.RequestTypes...),
		"Request.entities": {Description: "customer is required; what else is missing is taken from the payment's first event",
			Required: []string{vaglio.EntityCustomer}},
		"Request.amount":         between("minor units of currency", 1, vaglio.MaxAmount),
		"Request.currency":       currency,
		"Request.reason":         choice("why the customer wants the money back", vaglio.RequestReasons...),
		"Request.requested_at":   about("recorded, never used as the moment of the decision; refused when more than 5 minutes ahead of the server's clock"),
		"Request.requested_by":   choice("who asks", vaglio.Requesters...),
		"Request.authentication": choice("how the customer proved who they are", vaglio.Authentications...),
		"Request.attributes":     about("of your own; not those that a field of the request gives"),
		"Request.language":       choice("of the texts", vaglio.Languages...),
		"Request.partial":        about("whether only a part of the payment is asked back"),

		"PaymentState.rail":             choice("how the money came", vaglio.Rails...),
		"PaymentState.state":            choice("", vaglio.PaymentStates...),
		"PaymentState.captured_amount":  between("minor units of the request's currency; counts only while history is silent", 0, vaglio.MaxAmount),
		"PaymentState.reversible_until": about("until when the money can be had back from where it goes"),

		"Event.id": id("chosen by the caller; the event is stored once under it"),
		"Event.kind": {Description: "an open set; docs/import.md lists the kinds that count",
			Pattern: nameSchema.Pattern, MinLength: 1, MaxLength: vaglio.MaxNameBytes},
		"Event.occurred_at": about("when it happened"),
		"Event.observed_at": about("when it became known to you; the server's clock by default"),
		"Event.entities":    {Description: "what it is about, at least one", MinProperties: 1},
		"Event.amount":      amount,
		"Event.currency":    currency,

		"ReportedOutcome.id": {Description: "chosen by the caller; the outcome is stored once under it",
			MinLength: 1, MaxLength: vaglio.MaxOutcomeIDBytes, Pattern: printable},
		"ReportedOutcome.request_id":  id("the request that it is about, known or not"),
		"ReportedOutcome.outcome":     choice("what became of it", vaglio.ReportedOutcomes...),
		"ReportedOutcome.occurred_at": about("when it happened"),
		"ReportedOutcome.fraud_type":  choice("of an outcome that says fraud", vaglio.FraudTypes...),
		"ReportedOutcome.verdict":     choice("of a verdict: the reviewer's", string(vaglio.Approve), string(vaglio.Deny)),
		"ReportedOutcome.amount":      amount,
		"ReportedOutcome.currency":    currency,
		"ReportedOutcome.reference":   {Description: "your own or the provider's", MaxLength: vaglio.MaxValueBytes, Pattern: printableOrEmpty},
		"ReportedOutcome.clears": {Description: "of clear: the id of the outcome that is taken back",
			MaxLength: vaglio.MaxOutcomeIDBytes, Pattern: printableOrEmpty},

		"Execution.state":              choice("what the provider says", ledger.Executions...),
		"Execution.reference":          about("the provider's"),
		"Execution.amount":             about("minor units that moved"),
		"Execution.reason":             about("of a failure or cancellation"),
		"Execution.at":                 about("when it happened"),
		"ExecutionReport.state":        choice("what the provider says", ledger.Executions...),
		"ExecutionReport.reference":    {Description: "the provider's", MaxLength: 2000},
		"ExecutionReport.amount":       between("minor units that moved; all that was approved by default", 0, vaglio.MaxAmount),
		"ExecutionReport.reason":       {Description: "of a failure or cancellation", MaxLength: 2000},
		"ExecutionReport.at":           about("when it happened; now by default"),
		"DecisionsPage.next":           about("the cursor of the next page; without it this is the last"),
		"Listed.amount":                about("minor units of currency, as requested"),
		"Cancellation.reason":          {Description: "why", MaxLength: 2000},
		"RequestState.state":           choice("", requestStates...),
		"RequestState.decision":        about("the first one, which never changes"),
		"RequestState.approved_amount": about("by the decision, or by the reviewer since"),
		"RequestState.amount":          about("minor units of currency, as requested"),
		"RequestState.revisions":       about("what became of it, in order"),
		"RequestState.pieces":          about("what events told of its refund, while something was left of it"),
		"Piece.event":                  about("the event's id"),
		"Piece.kind":                   choice("of the event", vaglio.KindRefundPaid, vaglio.KindRefundFailed, "refund_cancelled"),
		"Piece.amount":                 about("minor units of currency; 0 of a failure: all that was left"),
		"Piece.at":                     about("when it happened"),
		"Revision.kind": choice("", ledger.RevisionResolution, ledger.RevisionExecution, ledger.RevisionPiece, ledger.RevisionCancellation,
			ledger.RevisionExpiry),
		"Revision.detail":    about("what the kind says: a Resolution, an Execution, a Piece, a reason, a time"),
		"Resolution.verdict": {Enum: []string{string(vaglio.Approve), string(vaglio.Deny), string(ledger.AskCustomer)}},

		"Decision.decision":          about("what is to happen with the money"),
		"Decision.fraud_probability": between("calibrated; null without a model", 0, 1),
		"Decision.risk_score":        between("percentile among the requests that the model was calibrated on; null without a model", 0, 100),
		"Decision.risk_level":        choice("elevated from 80, high from 95", vaglio.RiskLow, vaglio.RiskElevated, vaglio.RiskHigh, vaglio.RiskNotAssessed),
		"Decision.approved_amount":   about("minor units of the request's currency"),
		"Decision.refundable_amount": about("what was left of the payment before this decision; null: unknown"),
		"Decision.valid_until":       about("an approval reserves its amount until then"),
		"Decision.review_due_at":     about("when a review is due"),
		"Decision.expected_loss":     about("probability times what is not recoverable; null: unknown"),
		"Decision.rules":             about("the rules that fired"),
		"Decision.required_actions":  about("what has to happen before money moves"),
		"Decision.counterfactual":    about("what would have led to an approval; null: nothing was looked for"),
		"Decision.model":             about("null without a model"),
		"Decision.features_as_of":    about("the moment of the decision: what was known by then counted"),
		"Decision.degraded":          about("taken without what it should have rested on, and therefore a review"),
		"Decision.degraded_reasons":  about("such as %s", strings.Join(scoring.DegradedReasons, ", ")),
		"Decision.duplicate_of":      about("the open request on the same payment and amount that came first"),
		"Decision.dry_run":           about("nothing was recorded; no money may move on it"),
		"Reason.code":                about("stable; the text is not"),
		"Reason.direction":           choice("", "raises", "lowers"),
		"Reason.contribution":        about("log-odds, the exact sum of its features' contributions"),
		"Reason.evidence":            about("ids of the events behind it"),
		"ReasonFeature.usual":        about("the median of the population at training time"),
		"Money.currency":             about("ISO 4217"),

		"Comparison.unavailable":     about("why it could not be taken again"),
		"Comparison.features":        about("values of the vector that differ"),
		"TimelineChanged.then":       about("number of events"),
		"TimelineChanged.came_later": about("ids of events that tell of before and were stored after the decision, at most 100"),
		"Policy.version":             about("the name and a digest of the content"),
		"Policy.published":           about("the version in force, if any was published"),
		"Policy.source":              about("YAML"),
		"Policy.lists":               about("that its rules ask"),
		"Policy.segments":            about("in the order in which they are tried"),
		"Rule.then":                  choice("missing: it is a ceiling only", string(vaglio.Approve), string(vaglio.Review), string(vaglio.Deny), policy.Flag),
		"Rule.state":                 choice("", policy.Active, policy.Shadow, policy.Off),
		"Rule.reason":                about("reason code"),
		"Publication.turn":           about("missing: it waits for a second person; the highest one is in force"),
		"Publication.author":         about("id of a key, or the user of the command line"),
		"Published.in_force":         about("false: it waits for a second person"),
		"PolicyDraft.source":         {Description: "YAML; docs/policy.md tells its keys", MinLength: 1},
		"PolicyDraft.reason":         {Description: "why, in one line", MinLength: 1, MaxLength: maxReason, Pattern: printable},
		"PolicyRollback.reason":      {Description: "why, in one line", MinLength: 1, MaxLength: maxReason, Pattern: printable},
		"NewList.name":               {Pattern: nameSchema.Pattern, MinLength: 1, MaxLength: 64},
		"NewList.hashed":             about("keep digests of the values only"),
		"List.revision":              about("grows with every change"),
		"ListValue.value":            {Description: "such as a device or an account", MinLength: 1, MaxLength: vaglio.MaxValueBytes, Pattern: printable},
		"ListValue.reason":           {Description: "why it is on the list", MaxLength: ledger.MaxListReason, Pattern: printableOrEmpty},
		"ListValue.expires_at":       about("when it ends by itself; never by default"),
		"ListEntry.value":            about("empty on a hashed list"),
		"GuardTrip.until":            about("when it ends by itself; missing: when a person clears it"),
		"HourCounts.segment":         about("of the policy; empty: all requests"),
		"HourCounts.approved_amount": about("minor units of the base currency"),
		"Model.stages":               {Description: "that it is current for", Items: &schema{Type: types{"string"}, Enum: stages()}},
		"Model.refused":              about("why it can't be used"),
		"Lineup.share":               between("of customers, for whom the challenger decides", 0, 1),
		"Lineup.fallback":            about("decides instead of the champion while a guard on its scores holds, if the policy says so"),
		"StageChange.stage":          choice("", stages()...),
		"StageChange.share":          between("of customers; of a challenger only", 0, 1),
		"StageChange.reason":         {Description: "why, in one line", MaxLength: maxReason, Pattern: printableOrEmpty},
		"StageRollback.stage":        choice("", stages()...),

		"Problem.type":        about("stable: /problems/ and a kind"),
		"Problem.instance":    about("the id of this exchange, as in X-Request-Id and in the log"),
		"Problem.errors":      {Description: "all that is wrong, up to the first hundred", MaxItems: maxFaults},
		"Fault.line":          between("of NDJSON or of a policy, from 1", 1, 1<<31),
		"Fault.pointer":       about("RFC 6901, within the body or the line"),
		"BatchEntry.decision": {Ref: "#/components/schemas/Decision"},
		"BatchEntry.problem":  {Ref: "#/components/schemas/Problem"},
		"BatchEntry.replayed": about("answered before, these are the same bytes"),
		"BatchEntry.status":   about("what the request alone would have been answered with"),
	}
})

func id(about string) schema {
	return schema{Description: about, MinLength: 1, MaxLength: vaglio.MaxIDBytes, Pattern: printable}
}

func choice(about string, values ...string) schema { return schema{Description: about, Enum: values} }

func about(format string, args ...any) schema {
	return schema{Description: fmt.Sprintf(format, args...)}
}

func between(about string, low, high float64) schema {
	return schema{Description: about, Minimum: &low, Maximum: &high}
}

// currencies are all the codes that requests and events may have.
func currencies() []string {
	var all []string
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				code := string([]rune{a, b, c})
				if _, ok := vaglio.CurrencyDigits(code); ok {
					all = append(all, code)
				}
			}
		}
	}
	return all
}
