package ledger

// The tables whose rows are leaves of the audit chain. A column that is in neither list may change freely.
var (
	decisionKind = sealedKind{name: "decision", table: "decisions", id: "decision_id",
		public:   []string{"request_id", "digest", "currency", "reserved", "valid_until", "decided_at"},
		personal: []string{"request", "response", "inputs", "customer_id", "payment_id"}}
	auditKind = sealedKind{name: "audit", table: "audit_log", id: "id",
		public:   []string{"at", "action"},
		personal: []string{"actor", "subject", "detail"}}
)

var sealedKinds = []*sealedKind{&decisionKind, &auditKind}

// addDecision stages a decision for the chain.
func (s *staged) addDecision(c *Claim, p *Payment, e *Entry) {
	s.addLeaf(&decisionKind, e.DecisionID, rowMade,
		[]any{c.RequestID, c.Digest[:], p.Currency, e.Reserve, int64(e.ValidUntil), int64(e.DecidedAt)},
		[]any{c.Body, e.Response, e.Inputs, e.Customer, p.ID})
}
