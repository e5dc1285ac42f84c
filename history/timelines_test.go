package history_test

import (
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func TestOfTwoWritersOfOneIDTheFirstCountsInTimelines(t *testing.T) {
	s := open(t, "EUR")
	insert(t, s, paid("p", t0, 100, "EUR", "customer", "c"), event("a", "login", t0, "customer", "c"))
	options, err := clickhouse.ParseDSN(strings.TrimSuffix(dsn, "vaglio") + strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, later := range []string{"precedence - 1, replaceOne(payload, 'EUR', 'USD')", "precedence, payload"} {
		if err := conn.Exec(t.Context(), "INSERT INTO timelines SELECT entity, kind, occurred_at, id, known_at, "+later+" FROM timelines WHERE kind = 'payment'"); err != nil {
			t.Fatal(err)
		}
		facts := timeline(t, s, customer, t0+1)
		if len(facts) != 2 || facts[0].ID != "a" || facts[1].Currency != "EUR" {
			t.Errorf("%v: want the login, and the payment as it was first stored", facts)
		}
	}
}
