package ledger

import "time"

// MaxCommit replaces the bound of a group's transaction on PostgreSQL.
func MaxCommit(d time.Duration) (restore func()) {
	before := maxCommit
	maxCommit = d
	return func() { maxCommit = before }
}
