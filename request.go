package vaglio

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// Request asks whether money may go back. Only ID, Type, the customer, Amount and Currency are required.
type Request struct {
	ID             string        `json:"id"`
	Type           string        `json:"type"`
	Entities       Fields        `json:"entities"`
	Amount         int64         `json:"amount"` // minor units of Currency
	Currency       string        `json:"currency"`
	Partial        bool          `json:"partial,omitzero"`
	Reason         string        `json:"reason,omitzero"`
	RequestedAt    Instant       `json:"requested_at,omitzero"` // recorded, never used as the moment of decision
	RequestedBy    string        `json:"requested_by,omitzero"`
	Authentication string        `json:"authentication,omitzero"`
	Payment        *PaymentState `json:"payment,omitzero"`
	Attributes     Fields        `json:"attributes,omitempty"`
	Language       string        `json:"language,omitzero"`
}

// PaymentState is what the caller knows of the payment that the request is about.
type PaymentState struct {
	Rail            string  `json:"rail,omitzero"`
	State           string  `json:"state,omitzero"`
	CapturedAmount  *int64  `json:"captured_amount,omitzero"` // counts only while history is silent
	ReversibleUntil Instant `json:"reversible_until,omitzero"`
}

// The closed sets of values of a request's fields.
var (
	RequestTypes   = []string{"cancellation", "refund", "recall"}
	RequestReasons = []string{"duplicate", "wrong_amount", "not_credited", "not_received", "not_as_described", "changed_mind",
		"withdrawal_right", "unauthorised", "service_failure", "other"}
	Requesters      = []string{"customer", "employee", "merchant", "system"}
	Authentications = []string{"none", "password", "strong"}
	Rails           = []string{"card", "sct_inst", "open_banking", "direct_debit", "ach", "wallet"}
	PaymentStates   = []string{"pending", "settled", "returned"}
)

// DecodeRequest reads one request strictly and validates it. The error is an [Invalid].
func DecodeRequest(b []byte) (Request, error) {
	r, usual := scanRequest(b)
	if !usual {
		var err error
		if r, err = Decode[Request](b); err != nil {
			return r, err
		}
	}
	return r, r.Validate()
}

// Validate checks everything but times against a clock. The error is an [Invalid].
func (r *Request) Validate() error {
	var bad Invalid
	checkID(&bad, "/id", r.ID)
	oneOf := func(pointer, value string, required bool, allowed []string) {
		if value == "" && !required || slices.Contains(allowed, value) {
			return
		}
		bad.add(pointer, "want one of %s", strings.Join(allowed, ", "))
	}
	oneOf("/type", r.Type, true, RequestTypes)
	oneOf("/reason", r.Reason, false, RequestReasons)
	oneOf("/requested_by", r.RequestedBy, false, Requesters)
	oneOf("/authentication", r.Authentication, false, Authentications)
	oneOf("/language", r.Language, false, Languages)
	if r.Entities.Get(EntityCustomer) == "" {
		bad.add("/entities/customer", "is required")
	}
	checkFields(&bad, "/entities", r.Entities)
	checkFields(&bad, "/attributes", r.Attributes)
	for _, f := range r.ownAttributes() {
		if r.Attributes.Get(f.Name) != "" {
			bad.add("/attributes/"+f.Name, "is set by the field of the request that has this meaning")
		}
	}
	checkMoney(&bad, r.Amount, r.Currency)
	if r.Amount == 0 {
		bad.add("/amount", "must be above 0")
	}
	if p := r.Payment; p != nil {
		oneOf("/payment/rail", p.Rail, false, Rails)
		oneOf("/payment/state", p.State, false, PaymentStates)
		if p.CapturedAmount != nil && (*p.CapturedAmount < 0 || *p.CapturedAmount > MaxAmount) {
			bad.add("/payment/captured_amount", "want minor units from 0 to %d", int64(MaxAmount))
		}
	}
	return bad.err()
}

// Languages in which texts exist; the first is the default.
var Languages = []string{"en", "it"}

// ownAttributes are the request's fields that its event carries as attributes, under names that the sender can't use.
func (r *Request) ownAttributes() Fields {
	var p PaymentState
	if r.Payment != nil {
		p = *r.Payment
	}
	return Fields{{"authentication", r.Authentication}, {"payment_state", p.State}, {"rail", p.Rail},
		{"reason", r.Reason}, {"requested_by", r.RequestedBy}, {"type", r.Type}}
}

// Event is the request as an event of history, at the moment t of its decision. The two share one id.
func (r *Request) Event(t Instant) Event {
	own := r.ownAttributes()
	e := Event{ID: r.ID, Kind: KindRefundRequested, OccurredAt: t, ObservedAt: t, Entities: slices.Clone(r.Entities),
		Attributes: append(make(Fields, 0, len(r.Attributes)+len(own)), r.Attributes...), Amount: r.Amount, Currency: r.Currency}
	for _, f := range own {
		if f.Value != "" {
			e.Attributes = e.Attributes.With(f.Name, f.Value)
		}
	}
	return e
}

// RequestOf is the request behind an event of kind refund_requested, as far as an event tells.
func RequestOf(e *Event) Request {
	r := Request{ID: e.ID, Entities: e.Entities, Amount: e.Amount, Currency: e.Currency, RequestedAt: e.OccurredAt}
	var p PaymentState
	own := map[string]*string{"authentication": &r.Authentication, "payment_state": &p.State, "rail": &p.Rail,
		"reason": &r.Reason, "requested_by": &r.RequestedBy, "type": &r.Type}
	for _, f := range e.Attributes {
		if field := own[f.Name]; field != nil {
			*field = f.Value
		} else {
			r.Attributes = append(r.Attributes, f)
		}
	}
	if p != (PaymentState{}) {
		r.Payment = &p
	}
	return r
}

// requestBytes hold most requests.
const requestBytes = 512

// Encode is the request's JSON and a digest that identifies the content of the decoded body: spelling, order and white space of
// what was sent do not matter.
func (r *Request) Encode() (body []byte, digest [sha256.Size]byte, err error) {
	if body, err = r.AppendJSON(make([]byte, 0, requestBytes)); err != nil {
		return nil, digest, fmt.Errorf("encode request %s: %w", r.ID, err)
	}
	return body, sha256.Sum256(body), nil
}

// Digest is that of [Request.Encode].
func (r *Request) Digest() [sha256.Size]byte {
	_, digest, err := r.Encode()
	if err != nil {
		panic("vaglio: " + err.Error())
	}
	return digest
}
