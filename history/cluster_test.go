package history_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"vaglio"
	"vaglio/history"
	"vaglio/history/embedded"
)

// oneNode configures the embedded ClickHouse as a cluster of one server, with a keeper in its memory and the settings of
// connections to a cluster.
const oneNode = `<clickhouse>
	<include_from>%s/config.xml</include_from>
	<zookeeper><implementation>testkeeper</implementation></zookeeper>
	<macros><shard>s1</shard><replica>r1</replica></macros>
	<remote_servers><one><shard><internal_replication>true</internal_replication>
		<replica><host>127.0.0.1</host><port incl="tcp_port"/></replica></shard></one></remote_servers>
</clickhouse>`

var replication = regexp.MustCompile(`Replicated(\w+)\('[^']*', '[^']*'(?:, )?`)

// openCluster makes the tables of a cluster in a ClickHouse of its own and opens the history on them. ON CLUSTER is left out,
// since an embedded ClickHouse has no queue for distributed statements. Replicated tables can be made there, and are, in
// another database, but its keeper does not let them be written: those in use are not replicated.
func openCluster(t *testing.T) *history.Store {
	t.Helper()
	dir := t.TempDir()
	configure := func(folder, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "cluster.xml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("config.d", fmt.Sprintf(oneNode, dir))
	var settings strings.Builder
	for name, value := range history.ClusterSettings {
		fmt.Fprintf(&settings, "<%s>%v</%s>", name, value, name)
	}
	configure("users.d", "<clickhouse><profiles><default>"+settings.String()+"</default></profiles></clickhouse>")
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	options, err := clickhouse.ParseDSN(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := func(statement string) {
		t.Helper()
		if err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
	for _, database := range []string{"replicated", "vaglio"} {
		statements, err := history.ClusterStatements("one", database)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // cut off, they run again
			for _, statement := range statements {
				statement = strings.Replace(statement, " ON CLUSTER 'one'", "", 1)
				switch {
				case database == "vaglio":
					run(replication.ReplaceAllString(statement, "$1("))
				case !strings.HasPrefix(statement, "INSERT"):
					run(statement)
				}
			}
		}
	}
	migrations, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for i := range migrations {
		run(fmt.Sprintf("INSERT INTO vaglio.goose_db_version (version_id, is_applied) VALUES (%d, 1)", i+1))
	}
	s, err := history.Open(t.Context(), server.DSN(), history.Options{BaseCurrency: "EUR", Now: func() time.Time { return (t0 + vaglio.Day).Time() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// whatAHistoryAnswers uses a history in every way and notes what comes back.
func whatAHistoryAnswers(t *testing.T, s *history.Store) (answers []any) {
	t.Helper()
	note := func(v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, v)
	}
	tail, err := s.Tail(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	note(s.ImportRates(t.Context(), strings.NewReader("Date,USD\n2025-10-07,1.25\n")))
	var events []vaglio.Event
	for i := range 3000 {
		events = append(events, thirdParty(i))
	}
	events = append(events, paid("dollars", t0-vaglio.Hour, 1000, "USD", "customer", "c_1", "payment", "p_1"),
		event("request", vaglio.KindRefundRequested, t0, "payment", "p_7"),
		event("label", vaglio.KindFraudConfirmed, t0+vaglio.Hour, "request", "request"))
	note(s.Import(t.Context(), events))
	events[0].Amount++
	note(s.Import(t.Context(), events[:3]))
	note(s.Count(t.Context()))
	note(s.Timelines(t.Context(), []vaglio.Entity{{Kind: "customer", ID: "c_7"}, {Kind: "payment", ID: "p_1"}, {Kind: "device", ID: "d_9"}}, t0+vaglio.Day))
	note(s.Events(t.Context(), []string{"request", "label", "dollars", "none"}))
	var walked, scanned []string
	note(nil, s.Walk(t.Context(), "customer", []string{"payment"}, func(e vaglio.Entity, facts []vaglio.Fact) error {
		walked = append(walked, fmt.Sprint(e, ids(facts)))
		return nil
	}))
	note(nil, s.Scan(t.Context(), []string{"payment"}, t0-vaglio.Hour, t0, func(f vaglio.Fact) error {
		scanned = append(scanned, f.ID)
		return nil
	}))
	var replayed []string
	note(nil, s.Replay(t.Context(), "customer", nil, t0-vaglio.Day, t0+vaglio.Day, []func(*history.Step) error{func(step *history.Step) error {
		replayed = append(replayed, fmt.Sprint(step.Entity, step.Asks, step.Fact.ID))
		return nil
	}}))
	note([][]string{walked, scanned, replayed}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	news := false // all of it, or that it is too much: on a slow machine the tail began long ago
	tail.Follow(ctx, time.Millisecond, func(facts []vaglio.Fact) { news = len(facts) > 0; cancel() }, func() { news = true; cancel() })
	note(news, nil)
	return answers
}

func TestAClusterAnswersAsOneServerDoes(t *testing.T) {
	one := whatAHistoryAnswers(t, open(t, "EUR"))
	cluster := whatAHistoryAnswers(t, openCluster(t))
	for i := range one {
		if !reflect.DeepEqual(one[i], cluster[i]) {
			t.Errorf("answer %d\n%v on one server\n%v on a cluster", i, one[i], cluster[i])
		}
	}
}

// What an embedded ClickHouse can't run of a cluster it can at least read.
func TestStatementsForAClusterAreAllOnIt(t *testing.T) {
	statements, err := history.ClusterStatements("one", "vaglio")
	if err != nil {
		t.Fatal(err)
	}
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, statement := range statements {
		var formatted string
		if err := conn.QueryRow(t.Context(), "SELECT formatQuery(?)", strings.TrimSuffix(statement, ";")).Scan(&formatted); err != nil {
			t.Errorf("%v\n%s", err, statement)
		}
		if strings.HasPrefix(formatted, "CREATE") && !strings.Contains(formatted, "ON CLUSTER one") {
			t.Errorf("this would run on one server only:\n%s", formatted)
		}
	}
}
