package ledger

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// harmless are scans of no table: of constants, and of what a lookup's arm yields.
var harmless = regexp.MustCompile(`SCAN (CONSTANT ROW|a\d+)`)

// TestHotPathsUseTheirIndexes looks inside the package because it asks for the plans of the very texts that run.
func TestHotPathsUseTheirIndexes(t *testing.T) {
	l, err := Open(context.Background(), filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, text := range []string{decisionOfSQL, lookupSQL(answersArm, 0, 2), lookupSQL(openArm, 0, 2), lookupSQL(movementsArm, 1, 2), lookupSQL(countersArm, 2, 2),
		stateSQL, revisionsSQL, closeSQL, expiredSQL, dropMovementsSQL, backlogSQL, readKeySQL, nextKindSQL, newestSQL, waitingSQL, removeSQL, replayableSQL,
		recentSQL(recentSizes[0]), recentSQL(recentSizes[2])} {
		args := make([]any, strings.Count(text, "$"))
		rows, err := l.read.Query("EXPLAIN QUERY PLAN "+text, args...)
		if err != nil {
			t.Fatal(text, err)
		}
		defer rows.Close()
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "\n")
		if scans := harmless.ReplaceAllString(all, ""); !strings.Contains(all, "SEARCH") || strings.Contains(scans, "SCAN") {
			t.Errorf("%s\n%s", text, all)
		}
	}
}
