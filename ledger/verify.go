package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// AuditProblem is a place where what is stored is not what was sealed.
type AuditProblem struct {
	Block int64  `json:"block,omitzero"` // of the chain; 0: of none
	Kind  string `json:"kind,omitzero"`  // of row: decision, audit, …; "" for the chain itself
	ID    string `json:"id,omitzero"`    // of row
	What  string `json:"what"`
}

func (p AuditProblem) String() string {
	switch {
	case p.Block == 0 && p.Kind == "":
		return p.What
	case p.Block == 0:
		return fmt.Sprintf("%s %s: %s", p.Kind, p.ID, p.What)
	case p.Kind == "":
		return fmt.Sprintf("block %d: %s", p.Block, p.What)
	default:
		return fmt.Sprintf("block %d, %s %s: %s", p.Block, p.Kind, p.ID, p.What)
	}
}

// maxProblems is how many problems a report lists.
const maxProblems = 1000

// AuditReport is what [Ledger.Verify] found.
type AuditReport struct {
	Root     AuditRoot      `json:"root"` // of what was verified
	Blocks   int64          `json:"blocks"`
	Rows     int64          `json:"rows"`     // that are as they were sealed
	Removed  int64          `json:"removed"`  // rows that are gone, as an entry of the audit log says
	Problems []AuditProblem `json:"problems"` // the first 1,000
	More     int64          `json:"more,omitzero"`
}

// Intact is false when anything was changed, removed, inserted or put in another order behind the ledger's back.
func (r AuditReport) Intact() bool { return len(r.Problems) == 0 }

func (r *AuditReport) add(block int64, kind, id, format string, args ...any) {
	if len(r.Problems) == maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, AuditProblem{block, kind, id, fmt.Sprintf(format, args...)})
}

// A part of the chain that is verified at once.
const (
	verifiedBlocks = 500
	verifiedLeaves = 1000
)

// Verify checks every block of the chain, and every row against what was sealed of it. It needs nothing but the database
// and may run beside writers. progress (nil: none) hears of leaves. Who can write the database can also make the whole chain
// anew, or cut off its end with what that sealed: that is found only against a root that was exported before and kept where
// he could not write.
func (l *Ledger) Verify(ctx context.Context, progress func(done, total int64), exported ...AuditRoot) (AuditReport, error) {
	v := verification{Ledger: l, exported: exported}
	if err := l.read.QueryRowContext(ctx, `SELECT COALESCE(SUM(leaves), 0) FROM audit_blocks`).Scan(&v.total); err != nil {
		return AuditReport{}, fmt.Errorf("read the audit chain: %w", err)
	}
	for {
		var more bool
		err := l.snapshot(ctx, func(tx *sql.Tx) (err error) {
			v.tx, v.ctx = tx, ctx
			if more, err = v.part(); err != nil || more {
				return err
			}
			return v.end()
		})
		if err != nil {
			return AuditReport{}, fmt.Errorf("verify the audit chain: %w", err)
		}
		if progress != nil {
			progress(v.done, max(v.done, v.total))
		}
		if !more {
			return v.report, nil
		}
	}
}

// snapshot reads several things as of one moment.
func (l *Ledger) snapshot(ctx context.Context, f func(*sql.Tx) error) error {
	var options *sql.TxOptions // SQLite's transactions are of this kind
	if l.replicated {
		options = &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	tx, err := l.read.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return errors.Join(f(tx), tx.Rollback())
}

// verification is one run of Verify.
type verification struct {
	*Ledger
	ctx         context.Context
	tx          *sql.Tx
	exported    []AuditRoot
	last        block // the one before those to come
	done, total int64
	report      AuditReport
}

// storedLeaf is a leaf as it is stored.
type storedLeaf struct {
	block          *block
	n              int64
	kind, id       string
	state          int64
	content        [sha256.Size]byte
	salt, personal []byte
	newest         bool // of what is sealed of its row
	removed        bool // the row is gone, as a newer leaf says
}

// part verifies some blocks. False: there are no more.
func (v *verification) part() (more bool, err error) {
	blocks, err := v.blocks()
	if err != nil || len(blocks) == 0 {
		return false, err
	}
	leaves, err := v.leaves(blocks)
	if err != nil {
		return false, err
	}
	byKind := map[string][]*storedLeaf{}
	for i := range blocks {
		b := &blocks[i]
		own := leaves[string(b.id)]
		v.checkBlock(b, own)
		v.last = *b
		v.report.Blocks++
		v.done += b.leaves
		for _, leaf := range own {
			byKind[leaf.kind] = append(byKind[leaf.kind], leaf)
		}
	}
	for _, kind := range sealedKinds {
		for some := range slices.Chunk(byKind[kind.name], bulkRows) {
			if err := v.checkRows(kind, some); err != nil {
				return false, err
			}
		}
		delete(byKind, kind.name)
	}
	for _, unknown := range byKind {
		for _, leaf := range unknown {
			v.report.add(leaf.block.seq, leaf.kind, leaf.id, "the kind of leaf is unknown: it was changed, or written by a newer vaglio")
		}
	}
	return true, nil
}

// blocks reads the next blocks, as many as have about verifiedLeaves.
func (v *verification) blocks() ([]block, error) {
	rows, err := v.tx.QueryContext(v.ctx, `SELECT seq, id, prev, root, leaves, at, hash FROM audit_blocks WHERE seq > $1 ORDER BY seq LIMIT $2`,
		v.last.seq, verifiedBlocks)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var blocks []block
	for n := int64(0); n < verifiedLeaves && rows.Next(); {
		var b block
		var prev, root, hash []byte
		if err := rows.Scan(&b.seq, &b.id, &prev, &root, &b.leaves, &b.at, &hash); err != nil {
			return nil, err
		}
		b.prev, b.root, b.hash = sized(prev), sized(root), sized(hash)
		blocks = append(blocks, b)
		n += b.leaves
	}
	return blocks, rows.Err()
}

// sized is a hash; another length of it is a change, and then it is that of nothing.
func sized(b []byte) (sum [sha256.Size]byte) {
	if len(b) != len(sum) {
		return sha256.Sum256([]byte("not a hash"))
	}
	copy(sum[:], b)
	return sum
}

// leaves reads the blocks' leaves, by the block's id, in order.
func (v *verification) leaves(blocks []block) (map[string][]*storedLeaf, error) {
	byID := map[string]*block{}
	args := make([]any, len(blocks))
	for i := range blocks {
		args[i] = blocks[i].id
		byID[string(blocks[i].id)] = &blocks[i]
	}
	rows, err := v.tx.QueryContext(v.ctx, `SELECT block, n, kind, id, state, content, salt, personal FROM audit_leaves
		WHERE block IN (`+numbered(1, len(args))+`) ORDER BY block, n`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string][]*storedLeaf{}
	for rows.Next() {
		var leaf storedLeaf
		var id, hash []byte
		if err := rows.Scan(&id, &leaf.n, &leaf.kind, &leaf.id, &leaf.state, &hash, &leaf.salt, &leaf.personal); err != nil {
			return nil, err
		}
		leaf.block, leaf.content = byID[string(id)], sized(hash)
		found[string(id)] = append(found[string(id)], &leaf)
	}
	return found, rows.Err()
}

// checkBlock checks a block by itself: its place, its leaves, its hash.
func (v *verification) checkBlock(b *block, leaves []*storedLeaf) {
	switch {
	case b.seq != v.last.seq+1:
		v.report.add(b.seq, "", "", "the blocks from %d on before it are missing", v.last.seq+1)
	case b.prev != v.last.hash:
		v.report.add(b.seq, "", "", "it does not follow on the block before it")
	}
	if b.sum() != b.hash {
		v.report.add(b.seq, "", "", "it was changed: its hash is not that of its content")
	}
	for _, root := range v.exported {
		if root.Seq == b.seq && root.Hash != hex.EncodeToString(b.hash[:]) {
			v.report.add(b.seq, "", "", "it is not the block whose root was exported: the chain was made anew")
		}
	}
	hashes := make([][sha256.Size]byte, len(leaves))
	audited, later := false, false
	for i, leaf := range leaves {
		hashes[i] = leafHash(leaf.kind, leaf.id, leaf.state, leaf.content)
		if leaf.n != int64(i) {
			v.report.add(b.seq, leaf.kind, leaf.id, "the leaf has the number %d and the place %d", leaf.n, i)
		}
		audited = audited || leaf.kind == auditKind.name && leaf.state == rowMade
		later = later || leaf.state != rowMade
	}
	switch {
	case int64(len(leaves)) != b.leaves:
		v.report.add(b.seq, "", "", "it has %d leaves and was sealed with %d", len(leaves), b.leaves)
	case len(leaves) == 0 || merkleRoot(hashes) != b.root:
		v.report.add(b.seq, "", "", "its leaves were changed: their root is another")
	case later && !audited:
		v.report.add(b.seq, "", "", "it rewrites or removes rows, and no entry of the audit log says why")
	}
}

// bulkRows is how many rows are read at once.
const bulkRows = 200

// checkRows checks leaves of one kind against the rows.
func (v *verification) checkRows(kind *sealedKind, leaves []*storedLeaf) error {
	if err := v.findNewer(kind, leaves); err != nil {
		return err
	}
	found, err := v.rows(kind, leaves)
	if err != nil {
		return err
	}
	for _, leaf := range leaves {
		row, there := found[leaf.id]
		what := ""
		switch {
		case leaf.state == rowRemoved && (leaf.salt != nil || leaf.personal != nil):
			what = "its leaf was changed"
		case leaf.state == rowRemoved && there:
			what = "it was removed and is there again"
		case leaf.state == rowRemoved:
			v.report.Removed++
		case leaf.removed && (leaf.salt != nil || leaf.personal != nil):
			what = "it was removed, and its leaf still has a part of it"
		case leaf.removed: // its newest leaf says the rest
		case !there:
			what = "it is missing"
		case leaf.newest && leaf.salt == nil:
			what = "its leaf was changed: it says that the row was rewritten, and no later one does"
		case (leaf.salt == nil) == (leaf.personal == nil):
			what = "its leaf was changed"
		case !leaf.fits(kind, row):
			what = "it was changed"
		case leaf.newest:
			v.report.Rows++
		}
		if what != "" {
			v.report.add(leaf.block.seq, leaf.kind, leaf.id, "%s", what)
		}
	}
	return nil
}

// fits is whether the row is what was sealed; of a row rewritten since, only what is public can be told.
func (leaf *storedLeaf) fits(kind *sealedKind, row []any) bool {
	public, personal := row[:len(kind.public)], row[len(kind.public):]
	hidden := sized(leaf.personal)
	if leaf.salt != nil {
		hidden = personalHash(leaf.salt, personal)
	}
	return contentHash(public, hidden) == leaf.content
}

// findNewer notes which leaves are the newest of their row, and which rows are gone. A leaf with its salt that fits its row is
// the newest of it: only the others are looked up.
func (v *verification) findNewer(kind *sealedKind, leaves []*storedLeaf) error {
	var args []any
	for _, leaf := range leaves {
		leaf.newest = true
		if leaf.salt == nil && leaf.state != rowRemoved {
			args = append(args, leaf.id)
		}
	}
	if len(args) == 0 {
		return nil
	}
	rows, err := v.tx.QueryContext(v.ctx, `SELECT l.id, l.state, b.seq FROM audit_leaves l JOIN audit_blocks b ON b.id = l.block
		WHERE l.kind = $1 AND l.state > 0 AND l.id IN (`+numbered(2, len(args))+`)`, append([]any{kind.name}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	type last struct{ seq, state int64 }
	newest := map[string]last{}
	for rows.Next() {
		var id string
		var at last
		if err := rows.Scan(&id, &at.state, &at.seq); err != nil {
			return err
		}
		if at.seq > newest[id].seq {
			newest[id] = at
		}
	}
	for _, leaf := range leaves {
		if at, ok := newest[leaf.id]; ok && at.seq > leaf.block.seq {
			leaf.newest, leaf.removed = false, at.state == rowRemoved
		}
	}
	return rows.Err()
}

// rows reads the rows of leaves: public columns, then personal ones.
func (v *verification) rows(kind *sealedKind, leaves []*storedLeaf) (map[string][]any, error) {
	args := make([]any, len(leaves))
	for i, leaf := range leaves {
		args[i] = leaf.id
	}
	return readSealed(v.tx.QueryContext(v.ctx, `SELECT `+kind.columns()+` FROM `+kind.table+` WHERE `+kind.id+` IN (`+numbered(1, len(args))+`)`, args...))
}

// readSealed reads a result of a kind's columns, by the rows' ids.
func readSealed(rows *sql.Rows, err error) (map[string][]any, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	found := map[string][]any{}
	for rows.Next() {
		values := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		found[fmt.Sprint(values[0])] = values[1:]
	}
	return found, rows.Err()
}

// end looks for what no block knows of, and compares the end of the chain.
func (v *verification) end() error {
	v.report.Root = AuditRoot{Seq: v.last.seq, Hash: hex.EncodeToString(v.last.hash[:]), At: v.last.at}
	var seq int64
	var hash []byte
	if err := v.tx.QueryRowContext(v.ctx, `SELECT seq, hash FROM audit_head`).Scan(&seq, &hash); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if seq != v.last.seq || sized(hash) != v.last.hash {
		v.report.add(0, "", "", "the chain ends with block %d and should end with block %d", v.last.seq, seq)
	}
	for _, root := range v.exported {
		if root.Seq > v.last.seq {
			v.report.add(0, "", "", "the chain ends with block %d and a root of block %d was exported: its end was cut off", v.last.seq, root.Seq)
		}
	}
	strays := []struct{ kind, what, text string }{
		{"leaf", "it belongs to no block: it was inserted, or its block removed", `SELECT l.id FROM audit_leaves l
			WHERE NOT EXISTS (SELECT 1 FROM audit_blocks b WHERE b.id = l.block) LIMIT 100`}}
	for _, kind := range sealedKinds {
		strays = append(strays, struct{ kind, what, text string }{kind.name, "it was inserted: nothing sealed it", `SELECT r.` + kind.id + ` FROM ` + kind.table +
			` r WHERE NOT EXISTS (SELECT 1 FROM audit_leaves l WHERE l.id = r.` + kind.id + ` AND l.kind = '` + kind.name + `') LIMIT 100`})
	}
	for _, s := range strays {
		found, err := readTexts(v.tx.QueryContext(v.ctx, s.text))
		if err != nil {
			return err
		}
		for _, id := range found {
			v.report.add(0, s.kind, id, "%s", s.what)
		}
	}
	return nil
}

// readTexts reads a column of texts.
func readTexts(rows *sql.Rows, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
