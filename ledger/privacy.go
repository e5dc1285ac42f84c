package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// Forgotten is what [Ledger.Forget] did.
type Forgotten struct {
	Pseudonym  string            `json:"pseudonym"` // what the customer is called now
	Pseudonyms vaglio.Pseudonyms `json:"-"`         // who is called what: to be passed on to history, and kept nowhere
	Decisions  int               `json:"decisions"`
	Revisions  int               `json:"revisions"`
	Messages   int               `json:"messages"`
	Movements  int               `json:"movements"`
	Audit      int               `json:"audit"`
}

// forgottenText stands for free text that may have named the customer.
const forgottenText = "forgotten"

// Forget gives a customer, and entities that are his alone, random names in all that the ledger keeps: what belongs together
// stays together, and nothing leads to him. Ids of requests and payments, and digests of requests, stay, so that a repeated
// request gets what is stored and money is still counted; so do amounts, times and reasons. It may be cut off and run again,
// under the same names, until [Ledger.ForgottenEverywhere]. A customer that nobody knows is no error.
func (l *Ledger) Forget(ctx context.Context, customer, actor string, own ...vaglio.Entity) (Forgotten, error) {
	var out Forgotten
	who := vaglio.Entity{Kind: vaglio.EntityCustomer, ID: customer}
	err := l.locked(ctx, []string{privacyLock}, func(t *transaction) (err error) {
		out.Pseudonyms, err = t.pseudonyms(customer, append([]vaglio.Entity{who}, own...))
		return err
	})
	out.Pseudonym = out.Pseudonyms[who]
	defer l.recent.forget()
	steps := []struct {
		count *int
		find  string // ids of rows of customer $1, at most $2
		what  string
		do    func(*transaction, string, vaglio.Pseudonyms) error
	}{
		{&out.Decisions, `SELECT decision_id FROM decisions WHERE customer_id = $1 LIMIT $2`, "decisions",
			func(t *transaction, id string, p vaglio.Pseudonyms) error {
				revisions, err := t.forgetDecision(id, p)
				out.Revisions += revisions
				return err
			}},
		{&out.Messages, `SELECT CAST(seq AS TEXT) FROM outbox WHERE customer = $1 LIMIT $2`, "messages", (*transaction).forgetMessage},
		{&out.Audit, `SELECT id FROM audit_log WHERE subject = $1 LIMIT $2`, "audit entries", func(t *transaction, id string, _ vaglio.Pseudonyms) error {
			return t.rewrite(&auditKind, id, column{"subject", out.Pseudonym})
		}},
	}
	for _, step := range steps {
		for n := sweptRows; err == nil && n == sweptRows; {
			before := out
			err = l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
				out = before
				args := []any{customer, sweptRows}
				if step.what == "messages" {
					args[0] = []byte(customer)
				}
				ids, err := t.texts(step.find, args...)
				if n = len(ids); err != nil || n == 0 {
					return err
				}
				for _, id := range ids {
					if err := step.do(t, id, out.Pseudonyms); err != nil {
						return err
					}
				}
				*step.count += n
				return t.noteRows(actor, "customer.forgotten", out.Pseudonym, n, 0)
			})
		}
		if err != nil {
			return out, fmt.Errorf("forget a customer's %s: %w", step.what, err)
		}
	}
	err = l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
		result, err := t.tx.ExecContext(t.ctx, `UPDATE movements SET customer_id = $1 WHERE customer_id = $2`, out.Pseudonym, customer)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		out.Movements = int(n)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("forget a customer's movements: %w", err)
	}
	return out, nil
}

// ForgottenEverywhere ends what [Ledger.Forget] began, once history has forgotten the customer too: stays on lists that are over get
// the new names, servers hear of it by [Ledger.Forgettings], and which pseudonym was whose is then known to nobody. It is noted in
// the audit log.
func (l *Ledger) ForgottenEverywhere(ctx context.Context, customer, pseudonym, actor string) error {
	err := l.locked(ctx, []string{privacyLock}, func(t *transaction) error {
		t.note(AuditEntry{Actor: actor, Action: "customer.forgotten_everywhere", Subject: pseudonym})
		names, err := t.pseudonyms(customer, nil)
		if err != nil {
			return err
		}
		if err := t.forgetListings(names); err != nil {
			return err
		}
		if _, err := t.tx.ExecContext(t.ctx, `UPDATE forgettings SET n = n + 1 WHERE one = 1`); err != nil {
			return err
		}
		_, err = t.tx.ExecContext(t.ctx, `DELETE FROM forgetting WHERE customer = $1`, customer)
		return err
	})
	if err != nil {
		return fmt.Errorf("end forgetting a customer: %w", err)
	}
	return nil
}

// pseudonyms are those of a run that was cut off, and new ones.
func (t *transaction) pseudonyms(customer string, entities []vaglio.Entity) (vaglio.Pseudonyms, error) {
	text, err := t.blob(`SELECT pseudonyms FROM forgetting WHERE customer = $1`, customer)
	if err != nil {
		return nil, err
	}
	var rows []pseudonymRow
	if len(text) > 0 {
		if err := json.Unmarshal(text, &rows); err != nil {
			return nil, err
		}
	}
	all := vaglio.Pseudonyms{}
	for _, r := range rows {
		all[vaglio.Entity{Kind: r.Kind, ID: r.ID}] = r.Name
	}
	for _, e := range entities {
		if all[e] == "" {
			all[e] = "anon_" + strings.ToLower(rand.Text())
			rows = append(rows, pseudonymRow{e.Kind, e.ID, all[e]})
		}
	}
	if text, err = json.Marshal(rows); err != nil {
		return nil, err
	}
	_, err = t.tx.ExecContext(t.ctx, `INSERT INTO forgetting (customer, pseudonyms, begun_at) VALUES ($1, $2, $3)
		ON CONFLICT (customer) DO UPDATE SET pseudonyms = $2`, customer, text, int64(t.now))
	return all, err
}

type pseudonymRow struct{ Kind, ID, Name string }

// forgetDecision renames what stands in a decision, its revisions and its open request.
func (t *transaction) forgetDecision(id string, p vaglio.Pseudonyms) (revisions int, err error) {
	found, err := readSealed(t.tx.QueryContext(t.ctx, `SELECT decision_id, request, response, inputs, request_id, payment_id, customer_id
		FROM decisions WHERE decision_id = $1`, id))
	if err != nil {
		return 0, err
	}
	row := found[id]
	var columns []column
	for i, name := range []string{"request", "response", "inputs"} {
		if body, _ := row[i].([]byte); len(body) > 0 {
			if body, err = renamedText(body, p); err != nil {
				return 0, fmt.Errorf("the %s of decision %s: %w", name, id, err)
			}
			columns = append(columns, column{name, body})
		}
	}
	customer := p[vaglio.Entity{Kind: vaglio.EntityCustomer, ID: fmt.Sprint(row[5])}]
	if err := t.rewrite(&decisionKind, id, append(columns, column{"customer_id", customer})...); err != nil {
		return 0, err
	}
	request, payment := row[3], row[4]
	ids, err := t.texts(`SELECT id FROM revisions WHERE request_id = $1 ORDER BY seq`, request)
	if err != nil {
		return 0, err
	}
	for _, revision := range ids {
		if err := t.rewriteRevision(revision, p, false); err != nil {
			return 0, err
		}
	}
	event, err := t.blob(eventSQL, payment, request)
	if err != nil || event == nil {
		return len(ids), err
	}
	if event, err = renamedText(event, p); err != nil {
		return 0, fmt.Errorf("the event of request %v: %w", request, err)
	}
	_, err = t.tx.ExecContext(t.ctx, `UPDATE open_requests SET event = $1 WHERE payment_id = $2 AND request_id = $3`, event, payment, request)
	return len(ids), err
}

// freeTexts are the members of revisions that people write.
var (
	freeTexts   = []string{"reason"}
	personTexts = []string{"reason", "by", "actor", "reference"}
)

// rewriteRevision renames what stands in a revision and takes its free text out; with people, also who wrote it.
func (t *transaction) rewriteRevision(id string, p vaglio.Pseudonyms, people bool) error {
	detail, err := t.blob(`SELECT detail FROM revisions WHERE id = $1`, id)
	if err != nil {
		return err
	}
	blank, columns := freeTexts, []column(nil)
	if people {
		blank, columns = personTexts, []column{{"actor", ""}}
	}
	if detail, err = renamed(detail, p, blank); err != nil {
		return fmt.Errorf("the detail of revision %s: %w", id, err)
	}
	return t.rewrite(&revisionKind, id, append(columns, column{"detail", detail})...)
}

// forgetMessage renames what stands in a message of the outbox.
func (t *transaction) forgetMessage(seq string, p vaglio.Pseudonyms) error {
	number := new(int64)
	if _, err := fmt.Sscan(seq, number); err != nil {
		return err
	}
	body, err := t.blob(`SELECT body FROM outbox WHERE seq = $1`, *number)
	if err != nil || body == nil {
		return err
	}
	before := body
	if body, err = renamed(body, p, nil); err != nil {
		return fmt.Errorf("message %s: %w", seq, err)
	}
	var topic string
	var customer []byte
	if err := t.tx.QueryRowContext(t.ctx, `SELECT topic, customer FROM outbox WHERE seq = $1`, *number).Scan(&topic, &customer); err != nil {
		return err
	}
	name := p[vaglio.Entity{Kind: vaglio.EntityCustomer, ID: string(customer)}]
	if _, err := t.tx.ExecContext(t.ctx, `UPDATE outbox SET body = $1, customer = $2 WHERE seq = $3`, body, []byte(name), *number); err != nil {
		return err
	}
	if Topic(topic) != TopicHistory {
		return nil
	}
	fact, err := decodeFact(before)
	if err != nil {
		return err
	}
	for _, entity := range fact.Timelines() {
		if name, ok := p[entity]; ok {
			_, err := t.tx.ExecContext(t.ctx, `UPDATE outbox_timelines SET entity = $1 WHERE entity = $2 AND seq = $3`,
				[]byte(vaglio.Entity{Kind: entity.Kind, ID: name}.String()), []byte(entity.String()), *number)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// renamedText is renamed for a text as it is stored.
func renamedText(stored []byte, p vaglio.Pseudonyms) ([]byte, error) {
	text, err := readText(stored)
	if err != nil {
		return nil, err
	}
	if text, err = renamed(text, p, nil); err != nil {
		return nil, err
	}
	return storedText(text), nil
}

// renamed gives a JSON text with new names: in maps of entities, as values of attributes, as kind:id anywhere, and as the
// member Customer. Members named in blank lose their text. All else stays as it is written.
func renamed(text []byte, p vaglio.Pseudonyms, blank []string) ([]byte, error) {
	byName, byID := map[string]string{}, map[string]string{}
	for e, name := range p {
		byName[e.String()], byID[e.ID] = e.Kind+":"+name, name
	}
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	var out bytes.Buffer
	enc := jsontext.NewEncoder(&out)
	for {
		token, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
		}
		if err != nil {
			return nil, err
		}
		if _, n := dec.StackIndex(dec.StackDepth()); token.Kind() == '"' && !(isObject(dec) && n%2 == 1) {
			path := strings.Split(string(dec.StackPointer()), "/")
			member, parent := path[len(path)-1], path[max(0, len(path)-2)]
			value := token.String()
			switch {
			case slices.Contains(blank, member):
				value = forgottenText
			case parent == "entities":
				value = p.Entities(vaglio.Fields{{Name: member, Value: value}})[0].Value
			case parent == "attributes" || member == "Customer":
				if name, ok := byID[value]; ok {
					value = name
				}
			default:
				if name, ok := byName[value]; ok {
					value = name
				}
			}
			token = jsontext.String(value)
		}
		if err := enc.WriteToken(token); err != nil {
			return nil, err
		}
	}
}

func isObject(dec *jsontext.Decoder) bool {
	kind, _ := dec.StackIndex(dec.StackDepth())
	return kind == '{'
}
