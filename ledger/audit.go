package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/oklog/ulid/v2"

	"vaglio"
)

// AuditEntry says that somebody did something.
type AuditEntry struct {
	Seq     int64          `json:"seq"`
	ID      string         `json:"id"`
	At      vaglio.Instant `json:"at"`
	Actor   string         `json:"actor"`   // id of a key or user, or the command that was run
	Action  string         `json:"action"`  // such as key.created
	Subject string         `json:"subject"` // what it was done to
	Detail  jsontext.Value `json:"detail,omitzero"`
}

// Note records that somebody did something. Seq, ID and At are given here.
func (l *Ledger) Note(ctx context.Context, e AuditEntry) error {
	err := l.change(ctx, func(_ *sql.Tx, s *staged) error {
		s.note(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %s of %s: %w", e.Action, e.Subject, err)
	}
	return nil
}

// note records what the transaction does, with it.
func (s *staged) note(e AuditEntry) { s.entries = append(s.entries, e) }

const insertEntrySQL = `INSERT INTO audit_log (id, at, actor, action, subject, detail) VALUES `

// AuditLog lists at most limit entries behind the one with the number after, in order.
func (l *Ledger) AuditLog(ctx context.Context, after int64, limit int) ([]AuditEntry, error) {
	rows, err := l.read.QueryContext(ctx, `SELECT seq, id, at, actor, action, subject, detail FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2`,
		after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer rows.Close()
	var all []AuditEntry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

func scanEntry(rows *sql.Rows) (e AuditEntry, err error) {
	var detail []byte
	err = rows.Scan(&e.Seq, &e.ID, &e.At, &e.Actor, &e.Action, &e.Subject, &detail)
	if len(detail) > 0 {
		e.Detail = detail
	}
	return e, err
}

// AuditRoot is a state of the chain. Kept elsewhere, it shows later that nothing before it was changed, and that it was not
// made anew.
type AuditRoot struct {
	Seq  int64          `json:"seq"`  // of the last block; 0: there is none
	Hash string         `json:"hash"` // 64 hexadecimal digits
	At   vaglio.Instant `json:"at"`   // of the block
}

// Root is the chain's present state.
func (l *Ledger) Root(ctx context.Context) (AuditRoot, error) {
	r := AuditRoot{Hash: hex.EncodeToString(make([]byte, sha256.Size))}
	var hash []byte
	err := l.read.QueryRowContext(ctx, `SELECT seq, hash, at FROM audit_blocks ORDER BY seq DESC LIMIT 1`).Scan(&r.Seq, &hash, &r.At)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("read the end of the audit chain: %w", err)
	}
	r.Hash = hex.EncodeToString(hash)
	return r, nil
}

// sealedKind is a table whose rows are leaves of the chain. What is public of a row never changes while the row is there; what
// is personal may be rewritten or emptied later, which then is a leaf of its own.
type sealedKind struct {
	name, table, id  string
	public, personal []string // columns
}

func (k *sealedKind) columns() string {
	return k.id + ", " + strings.Join(k.public, ", ") + ", " + strings.Join(k.personal, ", ")
}

// leaf is what is staged for the chain.
type leaf struct {
	kind    *sealedKind
	id      string
	state   int64
	content [sha256.Size]byte
	salt    []byte // nil: removed
}

// What a leaf says of its row.
const (
	rowMade      = 0
	rowRewritten = 1
	rowRemoved   = 2
)

// addLeaf stages that a row is now like this. The values are those of the kind's columns.
func (s *staged) addLeaf(kind *sealedKind, id string, state int64, public, personal []any) {
	l := leaf{kind: kind, id: id, state: state}
	if state != rowRemoved {
		l.salt = make([]byte, 16)
		rand.Read(l.salt) // never fails: crypto/rand ends the process instead
		s.scratch = appendPersonal(s.scratch[:0], l.salt, personal)
		l.content = contentHash(public, sha256.Sum256(s.scratch))
	}
	s.leaves = append(s.leaves, l)
}

// The hashes of the chain, each with a first byte of its own, as in RFC 6962, section 2.1, so that none can stand for another.
const (
	hashOfLeaf = iota
	hashOfNode
	hashOfBlock
	hashOfContent
	hashOfPersonal
)

// leafHash is what stands for one state of a row in the tree: H(0, kind, id, state, hash of the content).
func leafHash(kind, id string, state int64, content [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(appendValues([]byte{hashOfLeaf}, []any{kind, id, state, content[:]}))
}

// contentHash is H(3, public part, H(4, salt, personal part)). The personal part can be forgotten with its salt, and nobody
// finds it by trying; what is public still proves itself.
func contentHash(public []any, personal [sha256.Size]byte) [sha256.Size]byte {
	b := appendValues(append(make([]byte, 0, 512), hashOfContent), public)
	return sha256.Sum256(append(b, personal[:]...))
}

func personalHash(salt []byte, personal []any) [sha256.Size]byte {
	return sha256.Sum256(appendPersonal(nil, salt, personal))
}

func appendPersonal(b, salt []byte, personal []any) []byte {
	return appendValues(appendValues(append(b, hashOfPersonal), []any{salt}), personal)
}

// appendValues writes integers as eight bytes, texts and bytes behind their length, alike; NULL is empty.
func appendValues(b []byte, values []any) []byte {
	b = binary.AppendUvarint(b, uint64(len(values)))
	for _, v := range values {
		switch v := v.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
		case string:
			b = append(binary.AppendUvarint(append(b, 's'), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(append(b, 's'), uint64(len(v))), v...)
		case nil:
			b = append(b, 's', 0)
		default:
			panic(fmt.Sprintf("ledger: a value of type %T can't be sealed", v))
		}
	}
	return b
}

// merkleRoot is RFC 6962's tree over at least one leaf; it uses the slice up.
func merkleRoot(leaves [][sha256.Size]byte) [sha256.Size]byte {
	// Pairing neighbours, level by level, an odd one going up as it is, makes the same tree as the RFC's recursion.
	for len(leaves) > 1 {
		above := leaves[:0]
		for i := 0; i < len(leaves); i += 2 {
			if i+1 == len(leaves) {
				above = append(above, leaves[i])
				break
			}
			var b [1 + 2*sha256.Size]byte
			b[0] = hashOfNode
			copy(b[1:], leaves[i][:])
			copy(b[1+sha256.Size:], leaves[i+1][:])
			above = append(above, sha256.Sum256(b[:]))
		}
		leaves = above
	}
	return leaves[0]
}

// block is one link of the chain.
type block struct {
	seq              int64
	id               []byte
	prev, root, hash [sha256.Size]byte
	leaves           int64
	at               vaglio.Instant
}

func (b *block) sum() [sha256.Size]byte {
	return sha256.Sum256(appendValues([]byte{hashOfBlock}, []any{b.seq, b.id, b.prev[:], b.root[:], b.leaves, int64(b.at)}))
}

const (
	insertLeafSQL  = `INSERT INTO audit_leaves (block, n, kind, id, state, content, salt) VALUES `
	takeHeadSQL    = `UPDATE audit_head SET seq = seq + 1 WHERE one = 1 RETURNING seq, hash`
	insertBlockSQL = `INSERT INTO audit_blocks (seq, id, prev, root, leaves, at, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	setHeadSQL     = `UPDATE audit_head SET hash = $1 WHERE one = 1`
)

// writeLeaves writes the entries of the audit log and the leaves of a block that is to be appended; nil: there are none.
func (l *Ledger) writeLeaves(ctx context.Context, tx *sql.Tx, s *staged) (*block, error) {
	if err := l.writeEntries(ctx, tx, s); err != nil || len(s.leaves) == 0 {
		return nil, err
	}
	id := ulid.Make()
	b := &block{id: id[:], leaves: int64(len(s.leaves)), at: l.now()}
	hashes := make([][sha256.Size]byte, len(s.leaves))
	values := make([]any, 0, 7*len(s.leaves))
	for i := range s.leaves {
		leaf := &s.leaves[i]
		hashes[i] = leafHash(leaf.kind.name, leaf.id, leaf.state, leaf.content)
		values = append(values, b.id, int64(i), leaf.kind.name, leaf.id, leaf.state, leaf.content[:], leaf.salt)
	}
	if err := l.sql.insertLeaves.exec(ctx, tx, values); err != nil {
		return nil, fmt.Errorf("write %d leaves of the audit chain: %w", len(s.leaves), err)
	}
	b.root = merkleRoot(hashes)
	return b, nil
}

// writeEntries writes the entries of the audit log, and stages them as leaves.
func (l *Ledger) writeEntries(ctx context.Context, tx *sql.Tx, s *staged) error {
	values := make([]any, 0, 6*len(s.entries))
	for i := range s.entries {
		e := &s.entries[i]
		e.ID, e.At = "aud_"+strings.ToLower(ulid.Make().String()), l.now()
		values = append(values, e.ID, int64(e.At), e.Actor, e.Action, e.Subject, nonNil(e.Detail))
	}
	numbers, err := l.sql.insertEntries.numbers(ctx, tx, values)
	if err != nil {
		return fmt.Errorf("write %d entries of the audit log: %w", len(s.entries), err)
	}
	for i, e := range s.entries {
		s.addLeaf(&auditKind, e.ID, rowMade, []any{numbers[i], int64(e.At), e.Action}, []any{e.Actor, e.Subject, []byte(e.Detail)})
	}
	return nil
}

// nonNil is for columns that are never NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// append puts a block at the end of the chain. From here to the commit, other writers wait.
func (l *Ledger) append(ctx context.Context, tx *sql.Tx, b *block) error {
	var prev []byte
	if err := tx.StmtContext(ctx, l.sql.takeHead).QueryRowContext(ctx).Scan(&b.seq, &prev); err != nil { //nolint:sqlclosecheck // ends with its transaction
		return fmt.Errorf("take the end of the audit chain: %w", err)
	}
	copy(b.prev[:], prev)
	b.hash = b.sum()
	insert := tx.StmtContext(ctx, l.sql.insertBlock) //nolint:sqlclosecheck // likewise
	if _, err := insert.ExecContext(ctx, b.seq, b.id, b.prev[:], b.root[:], b.leaves, int64(b.at), b.hash[:]); err != nil {
		return fmt.Errorf("write block %d of the audit chain: %w", b.seq, err)
	}
	if _, err := tx.StmtContext(ctx, l.sql.setHead).ExecContext(ctx, b.hash[:]); err != nil { //nolint:sqlclosecheck // likewise
		return fmt.Errorf("write the end of the audit chain: %w", err)
	}
	return nil
}
