package ledger

import "time"

// MaxCommit replaces the bound of a group's transaction on PostgreSQL.
func MaxCommit(d time.Duration) (restore func()) {
	before := maxCommit
	maxCommit = d
	return func() { maxCommit = before }
}

// MaxUnindexed replaces the length of SQLite's outbox from which on facts get timelines.
func MaxUnindexed(n int64) (restore func()) {
	before := maxUnindexed
	maxUnindexed = n
	return func() { maxUnindexed = before }
}
