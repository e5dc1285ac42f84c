package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"modernc.org/sqlite"
)

// bulk inserts any number of rows by few statements.
type bulk struct {
	columns int
	stmts   []*sql.Stmt // one per size of bulkSizes
}

// bulkSizes are the numbers of rows of one statement.
var bulkSizes = []int{64, 32, 16, 8, 4, 2, 1}

// bulkSQL is an INSERT of some rows: head ends in VALUES, tail follows the rows.
func bulkSQL(head string, columns, rows int, tail string) string {
	parts := make([]string, rows)
	for i := range parts {
		parts[i] = "(" + numbered(i*columns+1, columns) + ")"
	}
	return head + strings.Join(parts, ", ") + tail
}

var numberedParameter = regexp.MustCompile(`\$[0-9]+`)

func prepareBulk(ctx context.Context, db *sql.DB, head string, columns int, tail string) (*bulk, error) {
	b := &bulk{columns: columns}
	for _, rows := range bulkSizes {
		text := bulkSQL(head, columns, rows, tail)
		if _, lite := db.Driver().(*sqlite.Driver); lite {
			text = numberedParameter.ReplaceAllString(text, "?") // SQLite looks each name up among all of them
		}
		stmt, err := db.PrepareContext(ctx, text) //nolint:sqlclosecheck // lives as long as its database
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		b.stmts = append(b.stmts, stmt)
	}
	return b, nil
}

// parts cuts values, row after row, into what one statement takes.
func (b *bulk) parts(values []any, run func(*sql.Stmt, []any) error) error {
	for i, rows := range bulkSizes {
		for n := rows * b.columns; len(values) >= n; values = values[n:] {
			if err := run(b.stmts[i], values[:n]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bulk) exec(ctx context.Context, tx *sql.Tx, values []any) error {
	return b.parts(values, func(stmt *sql.Stmt, some []any) error {
		_, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, some...) //nolint:sqlclosecheck // ends with its transaction
		return err
	})
}

// numbers inserts and returns what the statements return, a number for each row. Both engines give numbers in the order of the
// rows; that the rows come back in this order is not promised, so the numbers are sorted.
func (b *bulk) numbers(ctx context.Context, tx *sql.Tx, values []any) (all []int64, err error) {
	err = b.parts(values, func(stmt *sql.Stmt, some []any) error {
		found, err := readNumbers(tx.StmtContext(ctx, stmt).QueryContext(ctx, some...)) //nolint:sqlclosecheck // likewise
		all = append(all, found...)
		return err
	})
	return all, err
}
