package ledger

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// exported is a line of what is held of a customer.
type exported struct {
	Source string `json:"source"` // ledger
	Kind   string `json:"kind"`   // decision, revision, movement, message or audit
	Held   any    `json:"held"`
}

type exportedDecision struct {
	RequestID  string         `json:"request_id"`
	DecisionID string         `json:"decision_id"`
	DecidedAt  vaglio.Instant `json:"decided_at"`
	Request    jsontext.Value `json:"request,omitzero"`
	Decision   jsontext.Value `json:"decision,omitzero"`
	Inputs     jsontext.Value `json:"inputs,omitzero"` // what it was decided from
}

type exportedRevision struct {
	RequestID string `json:"request_id"`
	Revision
}

type exportedMovement struct {
	Payment string `json:"payment"`
	Movement
}

type exportedMessage struct {
	Topic Topic          `json:"topic"`
	Body  jsontext.Value `json:"body"`
}

// Export writes all that the ledger holds of a customer, as NDJSON, the oldest first within each kind: decisions with their
// requests and inputs, what became of them, money of their payments, what is on its way to history, and what was done to his
// records.
func (l *Ledger) Export(ctx context.Context, customer string, w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, part := range []struct {
		kind, text string
		arg        any
		scan       func(*sql.Rows) (any, error)
	}{
		{"decision", `SELECT request_id, decision_id, decided_at, request, response, inputs FROM decisions WHERE customer_id = $1 ORDER BY decided_at, decision_id`,
			customer, func(rows *sql.Rows) (any, error) {
				var d exportedDecision
				err := rows.Scan(&d.RequestID, &d.DecisionID, &d.DecidedAt, textOf{(*[]byte)(&d.Request)}, textOf{(*[]byte)(&d.Decision)},
					textOf{(*[]byte)(&d.Inputs)})
				return &d, err
			}},
		{"revision", `SELECT v.request_id, v.seq, v.at, v.actor, v.kind, v.detail FROM revisions v JOIN decisions d ON d.request_id = v.request_id
			WHERE d.customer_id = $1 ORDER BY v.at, v.request_id, v.seq`, customer, func(rows *sql.Rows) (any, error) {
			var r exportedRevision
			err := rows.Scan(&r.RequestID, &r.Seq, &r.At, &r.Actor, &r.Kind, (*[]byte)(&r.Detail))
			return &r, err
		}},
		{"movement", `SELECT payment_id, event_id, kind, request_id, customer_id, amount, currency, occurred_at FROM movements WHERE customer_id = $1
			ORDER BY occurred_at, event_id`, customer, func(rows *sql.Rows) (any, error) {
			var m exportedMovement
			err := rows.Scan(&m.Payment, &m.EventID, &m.Kind, &m.RequestID, &m.Customer, &m.Amount, &m.Currency, &m.OccurredAt)
			return &m, err
		}},
		{"message", `SELECT topic, body FROM outbox WHERE customer = $1 ORDER BY seq`, []byte(customer), func(rows *sql.Rows) (any, error) {
			var m exportedMessage
			err := rows.Scan(&m.Topic, (*[]byte)(&m.Body))
			return &m, err
		}},
		{"audit", `SELECT seq, id, at, actor, action, subject, detail FROM audit_log WHERE subject = $1 ORDER BY seq`, customer, func(rows *sql.Rows) (any, error) {
			return scanEntry(rows)
		}},
	} {
		err := func() error {
			rows, err := l.read.QueryContext(ctx, part.text, part.arg)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				held, err := part.scan(rows)
				if err != nil {
					return err
				}
				if err := json.MarshalWrite(out, &exported{"ledger", part.kind, held}); err != nil {
					return err
				}
				if err := out.WriteByte('\n'); err != nil {
					return err
				}
			}
			return rows.Err()
		}()
		if err != nil {
			return fmt.Errorf("export a customer's %ss: %w", part.kind, err)
		}
	}
	return out.Flush()
}
