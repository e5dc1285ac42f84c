package vaglio

import (
	"slices"
	"strings"
)

// What can become of a request after its decision: the values of [ReportedOutcome.Outcome].
const (
	OutcomeChargeback      = "chargeback"
	OutcomeDisputeWon      = "dispute_won"  // by the merchant
	OutcomeDisputeLost     = "dispute_lost" // by the merchant: the customer was right
	OutcomeFraudWarning    = "early_fraud_warning"
	OutcomePaymentReturned = "payment_returned"
	OutcomeRecallRequested = "recall_requested"
	OutcomeVictimReport    = "victim_report"
	OutcomeVerdict         = "verdict" // a reviewer's
	OutcomeAuditClean      = "audit_clean"
	OutcomeRefundReversed  = "refund_reversed"
	OutcomeClear           = "clear" // takes back another outcome
)

// OutcomePrefix stands before the id of an outcome in the id of its event: outcomes never take the ids of requests.
const OutcomePrefix = "outcome:"

// MaxOutcomeIDBytes leaves room for OutcomePrefix.
const MaxOutcomeIDBytes = MaxIDBytes - len(OutcomePrefix)

// AttributeClears of a label names the event whose label it takes back.
const AttributeClears = "clears"

// AttributeReference is the sender's or the provider's own name for a thing.
const AttributeReference = "reference"

// outcomeEvent is what an outcome is in history: what happened, or the label that somebody gave. The weight of a label is
// that of its source, which training knows.
type outcomeEvent struct {
	kind, source string
	fraudType    string // unless the outcome names one
	saysFraud    bool   // may have a fraud_type
}

var outcomeEvents = map[string]outcomeEvent{
	OutcomeChargeback:      {kind: KindChargeback, saysFraud: true},
	OutcomeDisputeWon:      {kind: KindDisputeWon, saysFraud: true},
	OutcomeDisputeLost:     {kind: KindDisputeLost},
	OutcomeFraudWarning:    {kind: KindFraudWarning, saysFraud: true},
	OutcomePaymentReturned: {kind: KindPaymentReturned, saysFraud: true},
	OutcomeRecallRequested: {kind: KindRecallRequested, saysFraud: true},
	OutcomeVictimReport:    {kind: KindFraudConfirmed, source: SourceVictimReport, fraudType: "third_party", saysFraud: true},
	OutcomeVerdict:         {kind: KindFraudConfirmed, source: SourceReview, saysFraud: true}, // of an approval: KindFraudCleared
	OutcomeAuditClean:      {kind: KindFraudCleared, source: SourceAudit},
	OutcomeRefundReversed:  {kind: KindRefundReversed},
	OutcomeClear:           {kind: KindFraudCleared},
}

// ReportedOutcomes are all there are.
var ReportedOutcomes = []string{OutcomeChargeback, OutcomeDisputeWon, OutcomeDisputeLost, OutcomeFraudWarning, OutcomePaymentReturned,
	OutcomeRecallRequested, OutcomeVictimReport, OutcomeVerdict, OutcomeAuditClean, OutcomeRefundReversed, OutcomeClear}

// ReportedOutcome tells what became of a request, known or not yet.
type ReportedOutcome struct {
	ID         string  `json:"id"`
	RequestID  string  `json:"request_id"`
	Outcome    string  `json:"outcome"`
	OccurredAt Instant `json:"occurred_at"`
	FraudType  string  `json:"fraud_type,omitzero"` // one of FraudTypes
	Verdict    Verdict `json:"verdict,omitzero"`    // of OutcomeVerdict: Approve or Deny
	Amount     *int64  `json:"amount,omitzero"`     // minor units of Currency
	Currency   string  `json:"currency,omitzero"`
	Reference  string  `json:"reference,omitzero"`
	Clears     string  `json:"clears,omitzero"` // of OutcomeClear: the id of the outcome that is taken back
}

// DecodeReportedOutcome reads one outcome strictly and validates it. The error is an [Invalid].
func DecodeReportedOutcome(b []byte) (ReportedOutcome, error) {
	o, err := Decode[ReportedOutcome](b)
	if err != nil {
		return o, err
	}
	return o, o.Validate()
}

// Validate checks everything but times against a clock. The error is an [Invalid].
func (o *ReportedOutcome) Validate() error {
	var bad Invalid
	checkOutcomeID(&bad, "/id", o.ID)
	checkID(&bad, "/request_id", o.RequestID)
	bad.oneOf("/outcome", o.Outcome, ReportedOutcomes)
	if o.OccurredAt == 0 {
		bad.add("/occurred_at", "is required")
	}
	if o.FraudType != "" {
		bad.oneOf("/fraud_type", o.FraudType, FraudTypes)
		if !outcomeEvents[o.Outcome].saysFraud || o.Verdict == Approve {
			bad.add("/fraud_type", "is only for outcomes that say fraud")
		}
	}
	switch {
	case o.Outcome == OutcomeVerdict:
		bad.oneOf("/verdict", string(o.Verdict), []string{string(Approve), string(Deny)})
	case o.Verdict != "":
		bad.add("/verdict", "is only for the outcome verdict")
	}
	switch {
	case o.Outcome == OutcomeClear:
		checkOutcomeID(&bad, "/clears", o.Clears)
	case o.Clears != "":
		bad.add("/clears", "is only for the outcome clear")
	}
	switch {
	case o.Amount != nil && o.Currency == "":
		bad.add("/currency", "is required with an amount")
	case o.Amount == nil && o.Currency != "":
		bad.add("/amount", "is required with a currency")
	case o.Amount != nil:
		checkMoney(&bad, *o.Amount, o.Currency)
	}
	if o.Reference != "" {
		checkFields(&bad, "", Fields{{AttributeReference, o.Reference}})
	}
	return bad.err()
}

func checkOutcomeID(bad *Invalid, pointer, id string) {
	if len(id) > MaxOutcomeIDBytes {
		bad.add(pointer, "is longer than %d bytes", MaxOutcomeIDBytes)
		return
	}
	checkID(bad, pointer, id)
}

// Event is a valid outcome as an event of history. It names its request; history adds the request's entities.
func (o *ReportedOutcome) Event() Event {
	is := outcomeEvents[o.Outcome]
	if o.Verdict == Approve {
		is.kind = KindFraudCleared
	}
	e := Event{ID: OutcomePrefix + o.ID, Kind: is.kind, OccurredAt: o.OccurredAt, Entities: FieldsOf(EntityRequest, o.RequestID),
		Attributes: FieldsOf(AttributeSource, is.source, AttributeFraudType, is.fraudType, AttributeReference, o.Reference)}
	if o.FraudType != "" {
		e.Attributes = e.Attributes.With(AttributeFraudType, o.FraudType)
	}
	if o.Clears != "" {
		e.Attributes = e.Attributes.With(AttributeClears, OutcomePrefix+o.Clears)
	}
	if o.Amount != nil {
		e.Amount, e.Currency = *o.Amount, o.Currency
	}
	return e
}

// oneOf notes a value that is not of a closed set.
func (e *Invalid) oneOf(pointer, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		e.add(pointer, "want one of %s", strings.Join(allowed, ", "))
	}
}
