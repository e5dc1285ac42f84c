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

// ReadText gives a text that is stored packed.
func ReadText(b []byte) ([]byte, error) { return readText(b) }
