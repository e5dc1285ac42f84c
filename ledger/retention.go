package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// Retention is how long things are kept; 0 is for ever.
type Retention struct {
	Inputs    time.Duration // what decisions were made from: replay and explanations in numbers end with it
	Decisions time.Duration // texts of requests and decisions, the customer, who revised them and why
	Audit     time.Duration // entries of the audit log
}

// Swept is what a sweep has removed.
type Swept struct {
	Inputs    int `json:"inputs,omitzero"`
	Decisions int `json:"decisions,omitzero"`
	Movements int `json:"movements,omitzero"` // that lost their customer
	Audit     int `json:"audit,omitzero"`
	Messages  int `json:"-"` // delivered ones that nobody had taken from the outbox
}

// sweptRows is how many rows one transaction of a sweep takes: decisions wait for it.
const sweptRows = 50

// privacyLock is held by whoever rewrites what was sealed.
const privacyLock = "privacy"

// Sweep removes what is older than it may be, in small transactions, each noted in the audit log, so that the chain still
// verifies. Of a decision the ids, the digest, the amounts and times stay for ever: its request is never decided anew, and
// gets [ErrNotKept]. It may run at any time, on any replica, and be cut off.
func (l *Ledger) Sweep(ctx context.Context, r Retention) (Swept, error) {
	var all Swept
	steps := []struct {
		keep   time.Duration
		action string
		count  *int
		find   string // ids of rows of before $1, at most $2
		sweep  func(*transaction, string) error
	}{
		{r.Inputs, "retention.inputs", &all.Inputs,
			`SELECT decision_id FROM decisions WHERE inputs IS NOT NULL AND decided_at < $1 ORDER BY decided_at LIMIT $2`,
			func(t *transaction, id string) error { return t.rewrite(&decisionKind, id, column{"inputs", nil}) }},
		{r.Decisions, "retention.decisions", &all.Decisions,
			`SELECT decision_id FROM decisions WHERE length(response) > 0 AND decided_at < $1 ORDER BY decided_at LIMIT $2`, (*transaction).emptyDecision},
		{r.Audit, "retention.audit", &all.Audit,
			`SELECT id FROM audit_log WHERE at < $1 ORDER BY seq LIMIT $2`,
			func(t *transaction, id string) error { return t.remove(&auditKind, id) }},
	}
	for _, step := range steps {
		if step.keep <= 0 {
			continue
		}
		before := l.now() - vaglio.Instant(step.keep.Milliseconds())
		for n := sweptRows; n == sweptRows; {
			err := l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
				ids, err := t.texts(step.find, int64(before), sweptRows)
				if n = len(ids); err != nil || n == 0 {
					return err
				}
				for _, id := range ids {
					if err := step.sweep(t, id); err != nil {
						return err
					}
				}
				return t.noteRows("", step.action, "", n, before)
			})
			if err != nil {
				return all, fmt.Errorf("sweep what is older than %v: %s: %w", before, step.action, err)
			}
			*step.count += n
		}
	}
	var err error
	if r.Decisions > 0 {
		if all.Movements, err = l.anonymiseMovements(ctx, l.now()-vaglio.Instant(r.Decisions.Milliseconds())); err != nil {
			return all, fmt.Errorf("sweep the movements: %w", err)
		}
	}
	for n := maxDelivery; n == maxDelivery; all.Messages += n {
		if n, err = l.sweepDelivered(ctx, maxDelivery); err != nil {
			return all, fmt.Errorf("sweep the outbox: %w", err)
		}
	}
	return all, nil
}

// noteRows notes what was done to how many rows.
func (t *transaction) noteRows(actor, action, subject string, rows int, before vaglio.Instant) error {
	detail, err := json.Marshal(struct {
		Rows   int            `json:"rows"`
		Before vaglio.Instant `json:"before,omitzero"`
	}{rows, before})
	t.note(AuditEntry{Actor: actor, Action: action, Subject: subject, Detail: detail})
	return err
}

// emptyDecision leaves of a decision what proves that it was taken.
func (t *transaction) emptyDecision(id string) error {
	none := []byte{}
	err := t.rewrite(&decisionKind, id, column{"request", none}, column{"response", none}, column{"inputs", nil}, column{"customer_id", ""})
	if err != nil {
		return err
	}
	revisions, err := t.texts(`SELECT v.id FROM revisions v JOIN decisions d ON d.request_id = v.request_id WHERE d.decision_id = $1 ORDER BY v.seq`, id)
	if err != nil {
		return err
	}
	for _, revision := range revisions {
		if err := t.rewriteRevision(revision, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// anonymiseMovements takes the customer from what the ledger was told before a moment.
func (l *Ledger) anonymiseMovements(ctx context.Context, before vaglio.Instant) (all int, err error) {
	for n := int64(sweptRows); n == sweptRows; all += int(n) {
		err := l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
			result, err := t.tx.ExecContext(ctx, `UPDATE movements SET customer_id = '' WHERE (payment_id, event_id) IN (SELECT payment_id, event_id FROM movements
				WHERE customer_id <> '' AND told_at < $1 ORDER BY told_at LIMIT $2)`, int64(before), sweptRows)
			if err == nil {
				n, err = result.RowsAffected()
			}
			return err
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}
