package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// logName is the file, in the data folder, of ClickHouse's own errors.
const logName = "clickhouse.log"

// readyLine is what the child prints once it listens.
const readyLine = "vaglio: clickhouse listens"

// prompt is what the child prints when the script is over.
const prompt = ":) "

const script = "CREATE DATABASE IF NOT EXISTS vaglio; SYSTEM START LISTEN TCP; " +
	"INSERT INTO FUNCTION file('/dev/stdout', 'LineAsString', 's String') SELECT concat('vaglio: ', 'clickhouse listens')"

// arguments are those of "clickhouse local", without the word local; the log level is no setting of the file. After the
// script the program waits for more queries and ends, cleanly, with its standard input. It must be interactive, and its
// input a terminal: otherwise it installs an error handler that aborts the process when any client breaks a connection
// off, sends rubbish or a wrong password (ClickHouse issue 115666, mended after 26.8).
func arguments(dir string) []string {
	return []string{"--config-file=" + filepath.Join(dir, "config.xml"), "--log-level=error", "--query=" + script,
		"--interactive", "--disable_suggestion", "--history_file=/dev/null", "--progress=off", "--progress-table=off"}
}

// 40 % of memory, and caches far below ClickHouse's defaults (5 GB of marks), leave room for the service, its own cache
// and a training on the same machine.
const configXML = `<clickhouse>
    <path>{{.Dir}}/data</path>
    <listen_host>127.0.0.1</listen_host>
    <tcp_port>{{.Port}}</tcp_port>
    <users_config>{{.Dir}}/users.xml</users_config>
    <logger><log>{{.Dir}}/{{.Log}}</log><size>8M</size><count>1</count><console>0</console></logger>
    <max_server_memory_usage_to_ram_ratio>0.4</max_server_memory_usage_to_ram_ratio>
    <mark_cache_size>268435456</mark_cache_size>
    <merge_tree><fsync_after_insert>1</fsync_after_insert><fsync_part_directory>1</fsync_part_directory></merge_tree>
</clickhouse>
`

// The script runs as "default", which "clickhouse local" takes for itself without a password; its one session is used up
// by the script, so nobody else on the machine becomes default. Everyone else is "vaglio", which has no access to files,
// URLs or other sources: what can speak to the port can't reach further than the tables.
const usersXML = `<clickhouse>
    <profiles>
        <default/>
        <script><max_sessions_for_user>1</max_sessions_for_user></script>
    </profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <no_password/>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>script</profile>
            <quota>default</quota>
        </default>
        <vaglio>
            <password_sha256_hex>{{.PasswordHash}}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants><query>GRANT ALL ON *.*</query><query>REVOKE READ, WRITE ON *.*</query></grants>
        </vaglio>
    </users>
</clickhouse>
`

var configFiles = template.Must(template.New("config.xml").Parse(configXML))

func init() { template.Must(configFiles.New("users.xml").Parse(usersXML)) }

// writeConfig writes config.xml and users.xml, readable by this user only.
func writeConfig(dir string, port int, password string) error {
	values := map[string]any{
		"Dir":          escapeXML(dir),
		"Log":          logName,
		"Port":         port,
		"PasswordHash": fmt.Sprintf("%x", sha256.Sum256([]byte(password))),
	}
	for _, file := range configFiles.Templates() {
		var content bytes.Buffer
		if err := file.Execute(&content, values); err != nil {
			return fmt.Errorf("fill %s: %w", file.Name(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, file.Name()), content.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func escapeXML(s string) string {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(s)) // a strings.Builder does not fail
	return escaped.String()
}
