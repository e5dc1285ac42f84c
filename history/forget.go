package history

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// sharedKinds are kinds of entities that are nobody's own, and ids of records, which stay.
var sharedKinds = []string{vaglio.EntityCustomer, vaglio.EntityPayment, vaglio.EntityRequest, "merchant", "employee"}

// Own are the entities that no other customer's event names: the devices, instruments, addresses and the like that are a
// customer's alone, sorted. What he shares with others is not among them, for it says as much of them.
func (s *Store) Own(ctx context.Context, customer string) ([]vaglio.Entity, error) {
	his := map[vaglio.Entity]bool{}
	err := s.factsOf(ctx, vaglio.Entity{Kind: vaglio.EntityCustomer, ID: customer}, func(f vaglio.Fact) error {
		for _, e := range f.Timelines() {
			if !slices.Contains(sharedKinds, e.Kind) {
				his[e] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for e := range his {
		err := s.factsOf(ctx, e, func(f vaglio.Fact) error {
			if owner := f.Entities.Get(vaglio.EntityCustomer); owner != "" && owner != customer {
				return errShared
			}
			return nil
		})
		switch {
		case err == errShared: //nolint:errorlint // made here, and passed through as it is
			delete(his, e)
		case err != nil:
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Keys(his), func(a, b vaglio.Entity) int { return strings.Compare(a.String(), b.String()) }), nil
}

var errShared = fmt.Errorf("another customer's event names it")

// factsOf streams all facts of a timeline, each once, ordered by id; visit's error ends it and is returned as it is.
func (s *Store) factsOf(ctx context.Context, e vaglio.Entity, visit func(vaglio.Fact) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := s.conn.Query(ctx, "SELECT payload FROM timelines WHERE entity = ? ORDER BY id, precedence DESC LIMIT 1 BY id", e.String())
	if err != nil {
		return fmt.Errorf("read the timeline of a %s: %w", e.Kind, err)
	}
	defer rows.Close()
	for rows.Next() {
		var payload []byte
		if err := rows.Scan(&payload); err != nil {
			return fmt.Errorf("read the timeline of a %s: %w", e.Kind, err)
		}
		fact, err := decodeFact(payload)
		if err != nil {
			return fmt.Errorf("read the timeline of a %s: %w", e.Kind, err)
		}
		if err := visit(fact); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the timeline of a %s: %w", e.Kind, err)
	}
	return nil
}

// Forgotten is what [Store.Forget] did.
type Forgotten struct {
	Events    int `json:"events"`
	Decisions int `json:"decisions"`
}

// forgottenAtOnce is how many events are rewritten at once: their ids fit into a statement's text.
const forgottenAtOnce = 1000

// Forget gives a customer, and what is his alone, new names in all events and decisions of theirs: the pseudonyms that the
// ledger gave. An event keeps its id, its times and amounts; its digest becomes that of what it now says, so the event as it
// was first sent is refused. It returns when nothing of the old is on disk any more. It may be cut off and run again under the
// same names; a running server's memory forgets with its next restart, or when the timeline falls out of it.
func (s *Store) Forget(ctx context.Context, customer string, names vaglio.Pseudonyms) (Forgotten, error) {
	var out Forgotten
	facts := map[string]vaglio.Fact{}
	for e := range names {
		err := s.factsOf(ctx, e, func(f vaglio.Fact) error {
			facts[f.ID] = f
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(facts)), forgottenAtOnce) {
		renamed := make([]sent, len(ids))
		for i, id := range ids {
			f := facts[id]
			names.Event(&f.Event)
			renamed[i] = sent{f, f.Digest()}
		}
		if err := s.replace(ctx, ids, renamed); err != nil {
			return out, err
		}
		out.Events += len(ids)
	}
	old := vaglio.Entity{Kind: vaglio.EntityCustomer, ID: customer}
	var n uint64
	if err := s.conn.QueryRow(ctx, "SELECT uniqExact(decision_id) FROM decisions WHERE customer = ?", customer).Scan(&n); err != nil {
		return out, fmt.Errorf("count a customer's decisions: %w", err)
	}
	if n > 0 {
		if err := s.mutate(ctx, "decisions", "UPDATE customer = ? WHERE customer = ?", names[old], customer); err != nil {
			return out, err
		}
		out.Decisions = int(n)
	}
	return out, nil
}

// replace writes events anew and then removes what was there: in between both are, and readers take the new one.
func (s *Store) replace(ctx context.Context, ids []string, renamed []sent) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	// The newest wins here, so each rewriting must be above all before it: precedence, which falls with the time of storing, is
	// below 1<<63 for events that came in.
	precedence := 1<<63 + uint64(s.now())
	for len(renamed) > 0 {
		var err error
		if renamed, err = s.writeRound(ctx, renamed, precedence); err != nil {
			return err
		}
	}
	for _, table := range []string{"timelines", "events"} {
		if err := s.mutate(ctx, table, "DELETE WHERE id IN (?) AND precedence < ?", ids, precedence); err != nil {
			return err
		}
	}
	// Arrivals have no precedence; whoever follows them has the event already, or reads it where it now is.
	return s.mutate(ctx, "arrivals", "DELETE WHERE id IN (?)", ids)
}

// mutate changes rows on disk, on every replica, and waits for it.
func (s *Store) mutate(ctx context.Context, table, what string, bound ...any) error {
	where := table
	if s.cluster != "" {
		where = table + "_shard ON CLUSTER '" + s.cluster + "'"
	}
	if err := s.conn.Exec(ctx, "ALTER TABLE "+where+" "+what+" SETTINGS mutations_sync = 2", bound...); err != nil {
		return fmt.Errorf("rewrite %s: %w", table, err)
	}
	return nil
}

// exported is a line of what is held of a customer.
type exported struct {
	Source string `json:"source"` // history
	Kind   string `json:"kind"`   // event, decision
	Held   any    `json:"held"`
}

// Export writes all that history holds of a customer, as NDJSON: the events of his timeline, in order of their ids, and the
// decisions kept for analytics, in order of time. Numbers that nobody gave are left out.
func (s *Store) Export(ctx context.Context, customer string, w io.Writer) error {
	out := bufio.NewWriter(w)
	write := func(kind string, held any) error {
		if err := json.MarshalWrite(out, &exported{"history", kind, held}); err != nil {
			return err
		}
		return out.WriteByte('\n')
	}
	err := s.factsOf(ctx, vaglio.Entity{Kind: vaglio.EntityCustomer, ID: customer}, func(f vaglio.Fact) error { return write("event", &f.Event) })
	if err != nil {
		return err
	}
	err = s.scanDecisions(ctx, "customer = ?", []any{customer}, func(d vaglio.Taken) error { return write("decision", newExportedDecision(&d)) })
	if err != nil {
		return err
	}
	return out.Flush()
}

// exportedDecision is what analytics keeps of a decision, under the names that the API has for it.
type exportedDecision struct {
	ID             string           `json:"id"`
	RequestID      string           `json:"request_id"`
	Customer       string           `json:"customer"`
	Payment        string           `json:"payment,omitzero"`
	DecidedAt      vaglio.Instant   `json:"decided_at"`
	Verdict        vaglio.Verdict   `json:"decision"`
	Amount         int64            `json:"amount"`
	Currency       string           `json:"currency"`
	ApprovedAmount int64            `json:"approved_amount"`
	Probability    *float64         `json:"fraud_probability,omitzero"`
	RiskScore      *float64         `json:"risk_score,omitzero"`
	LogOdds        *float64         `json:"log_odds,omitzero"`
	Model          string           `json:"model,omitzero"`
	Policy         string           `json:"policy_version"`
	Stage          string           `json:"stage,omitzero"`
	Explored       bool             `json:"explored,omitzero"`
	Propensity     *float64         `json:"propensity,omitzero"`
	Audit          bool             `json:"audit,omitzero"`
	Degraded       bool             `json:"degraded,omitzero"`
	Reasons        []string         `json:"degraded_reasons,omitempty"`
	Rules          []vaglio.RuleHit `json:"rules,omitempty"`
	Shadows        []string         `json:"shadows,omitempty"` // models that did not decide: version, stage, probability, decision
}

func newExportedDecision(d *vaglio.Taken) *exportedDecision {
	out := &exportedDecision{ID: d.DecisionID, RequestID: d.RequestID, Customer: d.Customer, Payment: d.Payment, DecidedAt: d.DecidedAt, Verdict: d.Verdict,
		Amount: d.Amount, Currency: d.Currency, ApprovedAmount: d.ApprovedAmount, Probability: given(d.Probability), RiskScore: given(d.RiskScore),
		LogOdds: given(d.LogOdds), Model: d.ModelVersion, Policy: d.PolicyVersion, Stage: d.Stage, Explored: d.Explored,
		Propensity: given(d.Propensity), Audit: d.Audit, Degraded: d.Degraded, Reasons: d.DegradedReasons, Rules: d.Rules}
	for _, sh := range d.Shadows {
		out.Shadows = append(out.Shadows, fmt.Sprintf("%s %s %g %s", sh.ModelVersion, sh.Stage, sh.Probability, sh.Verdict))
	}
	return out
}

func given(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
