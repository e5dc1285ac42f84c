package ledger

// The tables whose rows are leaves of the audit chain. A column that is in neither list may change freely.
var (
	decisionKind = sealedKind{name: "decision", table: "decisions", id: "decision_id",
		public: []string{"request_id", "digest", "payment_id", "currency", "reserved", "valid_until", "decided_at", "verdict", "amount", "base_amount",
			"review_due_at", "case_id", "duplicate_of"},
		personal: []string{"request", "response", "inputs", "customer_id"}}
	revisionKind = sealedKind{name: "revision", table: "revisions", id: "id",
		public:   []string{"request_id", "seq", "at", "kind"},
		personal: []string{"actor", "detail"}}
	auditKind = sealedKind{name: "audit", table: "audit_log", id: "id",
		public:   []string{"seq", "at", "action"},
		personal: []string{"actor", "subject", "detail"}}
)

var sealedKinds = []*sealedKind{&decisionKind, &revisionKind, &auditKind}

// addDecision stages a decision for the chain, with its texts as they are stored.
func (s *staged) addDecision(c *Claim, p *Subject, e *Entry, request, response, inputs []byte) {
	s.addLeaf(&decisionKind, e.DecisionID, rowMade,
		[]any{c.RequestID, c.Digest[:], p.Payment, p.Currency, e.Reserve, int64(e.ValidUntil), int64(e.DecidedAt), string(e.Verdict), p.Amount,
			countedAmount(e), int64(e.ReviewDueAt), e.CaseID, e.DuplicateOf},
		[]any{request, response, inputs, e.Customer})
}

// addRevision stages a revision for the chain.
func (s *staged) addRevision(id, request string, v *Revision) {
	s.addLeaf(&revisionKind, id, rowMade, []any{request, int64(v.Seq), int64(v.At), v.Kind}, []any{v.Actor, []byte(v.Detail)})
}
