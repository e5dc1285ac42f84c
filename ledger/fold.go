package ledger

import (
	"context"
	"database/sql"
	"time"
)

const (
	foldEvery = 250 * time.Millisecond
	longLog   = 24000 // pages of 4 KiB; copying its end and beginning anew takes the writer 15 ms and more, so it is done seldom
)

// foldLog copies SQLite's log into its file beside the commits, until the ledger is closed. Copied to its end, the log begins
// anew; while others write that takes the writer's turn, but then little is left to copy and no commit waits long
// (https://www.sqlite.org/wal.html, "Checkpointing").
func (l *Ledger) foldLog() {
	defer close(l.folded)
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	var seen int64
	failing := false
	for {
		select {
		case <-l.closed:
			return
		case <-tick.C:
		}
		groups := l.groups.Load()
		if groups == seen {
			continue
		}
		seen = groups
		pages, err := fold(l.read)
		if err == nil && pages > longLog {
			_, err = fold(l.write)
		}
		switch {
		case err != nil && !failing:
			l.log.Warn("the ledger's log can't be folded into its file", "error", err)
		case err == nil && failing:
			l.log.Info("the ledger's log is folded into its file again")
		}
		failing = err != nil
	}
}

// fold copies what it can without waiting for others, and says how long the log is.
func fold(db *sql.DB) (pages int, err error) {
	var busy, copied int
	err = db.QueryRowContext(context.Background(), `PRAGMA wal_checkpoint(PASSIVE)`).Scan(&busy, &pages, &copied)
	return pages, err
}
