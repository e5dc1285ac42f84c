package vaglio

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/currency"
)

// The well-known kinds of events that the service itself reads or writes; the set of kinds is open.
const (
	KindPayment         = "payment"
	KindRefundRequested = "refund_requested"
	KindRefundPaid      = "refund_paid"
	KindRefundFailed    = "refund_failed"
	KindChargeback      = "chargeback"
	KindPaymentReturned = "payment_returned" // pulled back: direct debit, ACH
	KindDisputeWon      = "dispute_won"      // by the merchant
	KindDisputeLost     = "dispute_lost"     // by the merchant: the customer was right
	KindRefundDenied    = "refund_denied"
	KindRecallRequested = "recall_requested"
	KindRefundReversed  = "refund_reversed"     // the money came back after it was paid
	KindFraudWarning    = "early_fraud_warning" // an issuer's report
	KindFraudConfirmed  = "fraud_confirmed"
	KindFraudCleared    = "fraud_cleared"
)

// The attributes of a label: who says so, what kind of fraud it was, and, where it is not the source's usual one, how much
// the label weighs in training, a decimal number from 0 to 1.
const (
	AttributeSource    = "source"
	AttributeFraudType = "fraud_type"
	AttributeWeight    = "weight"
)

// Where labels come from; the set is open.
const (
	SourceInvestigation   = "investigation"
	SourceChargeback      = "chargeback"
	SourcePaymentReturned = "payment_returned"
	SourceRecall          = "recall"
	SourceDispute         = "dispute"
	SourceVictimReport    = "victim_report"
	SourceReview          = "review"
	SourceAudit           = "audit"
)

// FraudTypes are the values of a label's fraud_type.
var FraudTypes = []string{"first_party", "third_party", "mule", "ring", "insider"}

// The kinds of entities that the service itself reads; the set is open.
const (
	EntityCustomer         = "customer"
	EntityPayment          = "payment"
	EntityInstrument       = "instrument"
	EntityPayoutInstrument = "payout_instrument" // a role: it lives in the timeline of the instrument of that value
	EntityRequest          = "request"           // names the request that a label or a refund is about
)

// Limits of an event. A field over its limit is refused, never cut.
const (
	MaxIDBytes    = 128
	MaxNameBytes  = 64
	MaxValueBytes = 256
	MaxFields     = 64
	// MaxAmount is 10^13 minor units: no plausible refund, and 2,000 of them still add up within 63 bits.
	MaxAmount = 10_000_000_000_000
)

// What of a timeline counts for a decision.
const (
	Horizon       = 400 * Day // older events stay stored and are not read
	NewestPerKind = 2000      // of one kind in one timeline, by (occurred_at, id)
)

// Event is one thing that happened: an immutable line of history, stored once per ID.
type Event struct {
	ID         string
	Kind       string
	OccurredAt Instant
	ObservedAt Instant // when we learned of it; 0: not given
	Entities   Fields
	Attributes Fields
	Amount     int64  // minor units of Currency; meaningless without one
	Currency   string // ISO 4217, "" for an event without money
}

// Fact is an event as history keeps it: with the moment from which it counts, and its money in the base currency.
type Fact struct {
	Event
	KnownAt    Instant // max(ObservedAt, OccurredAt + 1 ms)
	BaseAmount int64   // minor units of the base currency, converted at the rate of the day it happened
	BaseKnown  bool    // false: no money, or no rate
	Completed  bool    // on the way to history: a request that has its payment's entities already
}

// Outcome tells what became of an event that was given to history.
type Outcome uint8

// The outcomes of storing an event.
const (
	Stored      Outcome = iota + 1
	Repeated            // the same event was there already
	Conflicting         // another event was there under this id, and stays
)

// Entity is the owner of a timeline.
type Entity struct{ Kind, ID string }

func (e Entity) String() string { return e.Kind + ":" + e.ID }

// KnownAt is the first moment at which the event counts for anything. ObservedAt must have been filled in.
func (e *Event) KnownAt() Instant { return max(e.ObservedAt, e.OccurredAt+Millisecond) }

// IsLabel reports whether the event says of a request that it was or was not fraud.
func (e *Event) IsLabel() bool { return e.Kind == KindFraudConfirmed || e.Kind == KindFraudCleared }

// FollowsRequest reports whether the event is about a request that it names, and takes over the entities that it lacks:
// labels, what became of a refund, and disputes that do not say whose they are.
func (e *Event) FollowsRequest() bool {
	switch e.Kind {
	case KindChargeback, KindPaymentReturned, KindDisputeWon, KindDisputeLost, KindRecallRequested, KindRefundReversed, KindFraudWarning:
		return e.Entities.Get(EntityRequest) != "" && e.Entities.Get(EntityCustomer) == ""
	case KindFraudConfirmed, KindFraudCleared, KindRefundPaid, KindRefundFailed, "refund_cancelled", KindRefundDenied:
		return e.Entities.Get(EntityRequest) != ""
	default:
		return false
	}
}

// Timelines lists the entities whose timelines the event enters, each once.
func (e *Event) Timelines() []Entity {
	return slices.AppendSeq(make([]Entity, 0, len(e.Entities)), e.timelines)
}

// Enters reports whether an entity's timeline is one of them.
func (e *Event) Enters(timeline Entity) bool {
	switch {
	case timeline.ID == "" || timeline.Kind == EntityPayoutInstrument: // that is a role, whose timeline is an instrument's
		return false
	case timeline.Kind == EntityInstrument && e.Entities.Get(EntityPayoutInstrument) == timeline.ID:
		return true
	default:
		return e.Entities.Get(timeline.Kind) == timeline.ID
	}
}

func (e *Event) timelines(yield func(Entity) bool) {
	for _, f := range e.Entities {
		entity := Entity{f.Name, f.Value}
		if f.Name == EntityPayoutInstrument {
			if f.Value == e.Entities.Get(EntityInstrument) {
				continue
			}
			entity.Kind = EntityInstrument
		}
		if !yield(entity) {
			return
		}
	}
}

// Clone is a copy that shares no memory with the fact.
func (f *Fact) Clone() Fact {
	c := *f
	c.ID, c.Kind, c.Currency = strings.Clone(f.ID), strings.Clone(f.Kind), strings.Clone(f.Currency)
	c.Entities, c.Attributes = f.Entities.clone(), f.Attributes.clone()
	return c
}

// Complete adds the entities of kinds that the event lacks: a request's from its payment, a label's from its request.
func (e *Event) Complete(from Fields) {
	for _, f := range from {
		if e.Entities.Get(f.Name) == "" {
			e.Entities = e.Entities.With(f.Name, f.Value)
		}
	}
}

// Digest identifies the content of the event as it was sent, except ObservedAt, which a resending may not repeat: the
// SHA-256 of its members, each string behind its length.
func (e *Event) Digest() [sha256.Size]byte {
	b := make([]byte, 0, 512)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text(e.ID)
	text(e.Kind)
	b = binary.AppendVarint(b, int64(e.OccurredAt))
	text(e.Currency)
	b = binary.AppendVarint(b, e.Amount)
	for _, fs := range []Fields{e.Entities, e.Attributes} {
		b = binary.AppendUvarint(b, uint64(len(fs)))
		for _, f := range fs {
			text(f.Name)
			text(f.Value)
		}
	}
	return sha256.Sum256(b)
}

// Validate checks everything but times against a clock. The error is an [Invalid], never one that wraps it.
func (e *Event) Validate() error {
	var bad Invalid
	checkID(&bad, "/id", e.ID)
	if !isName(e.Kind) {
		bad.add("/kind", "want a name of a-z, 0-9 and _, at most %d bytes", MaxNameBytes)
	}
	if e.OccurredAt == 0 {
		bad.add("/occurred_at", "is required")
	}
	if len(e.Entities) == 0 {
		bad.add("/entities", "at least one entity is required")
	}
	checkFields(&bad, "/entities", e.Entities)
	checkFields(&bad, "/attributes", e.Attributes)
	if e.IsLabel() && e.Entities.Get(EntityRequest) == "" {
		bad.add("/entities/request", "is required for a label")
	}
	if e.Currency != "" {
		checkMoney(&bad, e.Amount, e.Currency)
	}
	return bad.err()
}

// eventJSON is the wire form: it tells an absent amount from one of zero.
type eventJSON struct {
	ID         string  `json:"id"`
	Kind       string  `json:"kind"`
	OccurredAt Instant `json:"occurred_at"`
	ObservedAt Instant `json:"observed_at,omitzero"`
	Entities   Fields  `json:"entities"`
	Amount     *int64  `json:"amount,omitzero"`
	Currency   string  `json:"currency,omitzero"`
	Attributes Fields  `json:"attributes,omitempty"`
}

// MarshalJSON writes the wire form.
func (e *Event) MarshalJSON() ([]byte, error) {
	wire := eventJSON{ID: e.ID, Kind: e.Kind, OccurredAt: e.OccurredAt, ObservedAt: e.ObservedAt, Entities: e.Entities,
		Currency: e.Currency, Attributes: e.Attributes}
	if e.Currency != "" {
		wire.Amount = &e.Amount
	}
	return json.Marshal(&wire)
}

// DecodeEvent reads one event strictly and validates it. The error is an [Invalid].
func DecodeEvent(b []byte) (Event, error) {
	e, hasAmount, usual := scanEvent(b)
	if !usual {
		wire, err := Decode[eventJSON](b)
		if err != nil {
			return Event{}, err
		}
		e = Event{ID: wire.ID, Kind: wire.Kind, OccurredAt: wire.OccurredAt, ObservedAt: wire.ObservedAt,
			Entities: wire.Entities, Attributes: wire.Attributes, Currency: wire.Currency}
		if hasAmount = wire.Amount != nil; hasAmount {
			e.Amount = *wire.Amount
		}
	}
	var bad Invalid
	switch {
	case hasAmount && e.Currency == "":
		bad.add("/currency", "is required with an amount")
		e.Amount = 0
	case !hasAmount && e.Currency != "":
		bad.add("/amount", "is required with a currency")
	}
	var invalid Invalid
	if errors.As(e.Validate(), &invalid) {
		bad = append(bad, invalid...)
	}
	return e, bad.err()
}

// CurrencyDigits is the number of decimals of a currency's minor unit (2 for EUR, 0 for JPY), false if it is none of
// ISO 4217.
func CurrencyDigits(code string) (int, bool) {
	unit, err := currency.ParseISO(code)
	if err != nil || unit.String() != code {
		return 0, false
	}
	digits, _ := currency.Standard.Rounding(unit)
	return digits, true
}

func checkID(bad *Invalid, pointer, id string) {
	switch {
	case id == "":
		bad.add(pointer, "is required")
	case len(id) > MaxIDBytes:
		bad.add(pointer, "is longer than %d bytes", MaxIDBytes)
	case !isPrintable(id):
		bad.add(pointer, "has control characters or is not UTF-8")
	}
}

func checkFields(bad *Invalid, pointer string, fs Fields) {
	if len(fs) > MaxFields {
		bad.add(pointer, "has more than %d members", MaxFields)
		return
	}
	for i, f := range fs {
		switch {
		case !isName(f.Name):
			shown := strconv.QuoteToASCII(f.Name[:min(len(f.Name), MaxNameBytes)])
			bad.add(pointer, "the name %s is not made of a-z, 0-9 and _ with at most %d bytes", shown, MaxNameBytes)
		case i > 0 && fs[i-1].Name == f.Name:
			bad.add(pointer+"/"+f.Name, "is given twice")
		case f.Value == "":
			bad.add(pointer+"/"+f.Name, "is empty; leave it out")
		case len(f.Value) > MaxValueBytes:
			bad.add(pointer+"/"+f.Name, "is longer than %d bytes", MaxValueBytes)
		case !isPrintable(f.Value):
			bad.add(pointer+"/"+f.Name, "has control characters or is not UTF-8")
		}
	}
}

func checkMoney(bad *Invalid, amountMinor int64, code string) {
	if amountMinor < 0 || amountMinor > MaxAmount {
		bad.add("/amount", "want minor units from 0 to %d", int64(MaxAmount))
	}
	if _, ok := CurrencyDigits(code); !ok {
		bad.add("/currency", "is not an ISO 4217 code")
	}
}

func isName(s string) bool {
	if s == "" || len(s) > MaxNameBytes || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

func isPrintable(s string) bool {
	plain := true
	for i := range len(s) {
		plain = plain && ' ' <= s[i] && s[i] <= '~'
	}
	if plain {
		return true
	}
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
