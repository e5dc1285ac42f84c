package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A flag's value comes from the command line, or VAGLIO_…, or the configuration file, or is its default: the first that says
// something. The file is YAML: names of flags at its top for every command that has them, and a section for each command
// ("serve", "models promote") for that one alone, which goes before the top.

// maxConfigBytes is far more than a file of flags can need.
const maxConfigBytes = 1 << 20

// setting is a value of the file, with its place.
type setting struct {
	value string
	line  int
}

// config is a configuration file: settings by command ("" is the top) and flag.
type config struct {
	path     string
	settings map[string]map[string]setting
}

// readConfig reads a file and holds it against the flags that commands have. It reports all mistakes together.
func readConfig(root *cobra.Command, path string) (*config, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the configuration: %w", err)}
	}
	if stat.Size() > maxConfigBytes {
		return nil, usagef("read the configuration: %s has %d bytes, more than %d", path, stat.Size(), maxConfigBytes)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the configuration: %w", err)}
	}
	c := &config{path: path, settings: map[string]map[string]setting{}}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, usagef("read the configuration %s: %v", path, err)
	}
	var failures []error
	wrong := func(line int, format string, args ...any) {
		failures = append(failures, usagef("%s:%d: %s", path, line, fmt.Sprintf(format, args...)))
	}
	commands := map[string]*cobra.Command{}
	known := map[string]*pflag.Flag{}
	eachCommand(root, func(name string, cmd *cobra.Command) {
		commands[name] = cmd
		visitFlags(cmd, func(f *pflag.Flag) { known[f.Name] = f })
	})
	if len(file.Docs) > 1 {
		wrong(file.Docs[1].Start.Position.Line, "a second document")
	}
	for _, entry := range mappingOf(file, wrong) {
		name, line := entry.Key.String(), entry.Key.GetToken().Position.Line
		section, isSection := commands[name]
		switch {
		case isSection:
			values, ok := entry.Value.(*ast.MappingNode)
			if !ok {
				if single, isOne := entry.Value.(*ast.MappingValueNode); isOne {
					values, ok = &ast.MappingNode{Values: []*ast.MappingValueNode{single}}, true
				}
			}
			if !ok {
				wrong(line, "%s is a command: want its flags below", name)
				continue
			}
			has := map[string]*pflag.Flag{}
			visitFlags(section, func(f *pflag.Flag) { has[f.Name] = f })
			for _, v := range values.Values {
				c.take(name, v, has, "vaglio "+name+" has no flag", wrong)
			}
		case known[name] != nil:
			c.take("", entry, known, "", wrong)
		default:
			wrong(line, "%q is neither a flag nor a command", name)
		}
	}
	return c, errors.Join(failures...)
}

func mappingOf(file *ast.File, wrong func(int, string, ...any)) []*ast.MappingValueNode {
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		return body.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{body}
	case *ast.CommentGroupNode:
		return nil
	default:
		wrong(body.GetToken().Position.Line, "want names of flags and their values")
		return nil
	}
}

// take keeps one value, once it is a flag's and a scalar or a list of scalars.
func (c *config) take(section string, entry *ast.MappingValueNode, has map[string]*pflag.Flag, no string, wrong func(int, string, ...any)) {
	name, line := entry.Key.String(), entry.Key.GetToken().Position.Line
	flag := has[name]
	if flag == nil || name == "config" || name == "help" {
		wrong(line, "%s", cmp.Or(no, "there is no flag")+" "+name)
		return
	}
	text, ok := scalar(entry.Value)
	if list, isList := entry.Value.(*ast.SequenceNode); isList {
		parts := make([]string, len(list.Values))
		ok = true
		for i, v := range list.Values {
			var one bool
			parts[i], one = scalar(v)
			ok = ok && one
		}
		text = strings.Join(parts, ",")
	}
	if !ok {
		wrong(line, "%s: want one value", name)
		return
	}
	// A flag of the same type tells now what would be wrong later; its own must stay unset.
	if err := tryFlag(flag, text); err != nil {
		wrong(line, "%s: %v", name, err)
		return
	}
	if c.settings[section] == nil {
		c.settings[section] = map[string]setting{}
	}
	if before, twice := c.settings[section][name]; twice {
		wrong(line, "%s stands on line %d too", name, before.line)
		return
	}
	c.settings[section][name] = setting{text, line}
}

func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// tryFlag sets a value and puts the one before back.
func tryFlag(f *pflag.Flag, text string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		before := list.GetSlice()
		defer func() { _ = list.Replace(before) }()
		return list.Replace(strings.Split(text, ","))
	}
	before := f.Value.String()
	err := f.Value.Set(text)
	if before != "" {
		_ = f.Value.Set(before)
	} else if err == nil {
		_ = f.Value.Set(f.DefValue)
	}
	return err
}

// of is the file's value for a command's flag, and where it stands.
func (c *config) of(command, flag string) (value, place string, ok bool) {
	if c == nil {
		return "", "", false
	}
	for _, section := range []string{command, ""} {
		if s, ok := c.settings[section][flag]; ok {
			return s.value, fmt.Sprintf("%s:%d", c.path, s.line), true
		}
	}
	return "", "", false
}

// eachCommand visits all commands that do something, by the words behind vaglio.
func eachCommand(cmd *cobra.Command, visit func(name string, cmd *cobra.Command)) {
	for _, sub := range cmd.Commands() {
		_, name, _ := strings.Cut(sub.CommandPath(), " ")
		if sub.Runnable() {
			visit(name, sub)
		}
		eachCommand(sub, visit)
	}
}

// visitFlags visits the flags of a command and those that it inherits.
func visitFlags(cmd *cobra.Command, visit func(*pflag.Flag)) {
	cmd.NonInheritedFlags().VisitAll(visit)
	cmd.InheritedFlags().VisitAll(visit)
}

func variableOf(flag string) string {
	return "VAGLIO_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configure fills the flags that were not given from the environment and the file: after parsing, so that help shows defaults
// and never what these hold. It reports all wrong values together.
func configure(cmd *cobra.Command) error {
	file, err := configOf(cmd)
	if err != nil {
		return err
	}
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	var failures []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" {
			return
		}
		value, place, ok := "", variableOf(f.Name), false
		if value, ok = os.LookupEnv(place); !ok {
			value, place, ok = file.of(name, f.Name)
		}
		if ok {
			if err := cmd.Flags().Set(f.Name, value); err != nil {
				failures = append(failures, usagef("%s: %v", place, err))
			}
		}
	})
	return errors.Join(failures...)
}

// configOf reads the file that --config or VAGLIO_CONFIG names; nil without one.
func configOf(cmd *cobra.Command) (*config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, nil //nolint:nilerr // a command without the flag, such as completion, has no configuration
	}
	if path = cmp.Or(path, os.Getenv("VAGLIO_CONFIG")); path == "" {
		return nil, nil
	}
	return readConfig(cmd.Root(), path)
}

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show the settings in force and where they come from, check a configuration file"}
	show := &cobra.Command{Use: "show [COMMAND]", Short: "Show a command's settings (default: serve); passwords are masked",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := cmp.Or(strings.Join(args, " "), "serve")
			file, err := configOf(cmd)
			if err != nil {
				return err
			}
			var rows [][]string
			eachCommand(cmd.Root(), func(have string, of *cobra.Command) {
				if have != name {
					return
				}
				visitFlags(of, func(f *pflag.Flag) {
					if f.Name != "config" && f.Name != "help" {
						rows = append(rows, settingRow(cmd, file, name, f))
					}
				})
			})
			if rows == nil {
				return usagef("there is no command %q", name)
			}
			slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
			table(cmd.OutOrStdout(), []string{"SETTING", "VALUE", "FROM"}, rows, nil)
			return nil
		}}
	check := &cobra.Command{Use: "check FILE", Short: "Check a configuration file", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := readConfig(cmd.Root(), args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0]+" is fine")
			return nil
		}}
	cmd.AddCommand(show, check)
	return cmd
}

// settingRow is a flag's value and its source. Of the flags of this very call only the inherited ones count for another command.
func settingRow(cmd *cobra.Command, file *config, command string, f *pflag.Flag) []string {
	value, from := f.DefValue, "default"
	if v, place, ok := file.of(command, f.Name); ok {
		value, from = v, place
	}
	if v, ok := os.LookupEnv(variableOf(f.Name)); ok {
		value, from = v, variableOf(f.Name)
	}
	if own := cmd.Flags().Lookup(f.Name); own != nil && own.Changed && from == "default" {
		value, from = own.Value.String(), "--"+f.Name
	}
	return []string{f.Name, masked(value), from}
}

// masked hides the password of a DSN. What looks like a DSN and can't be read is hidden whole.
func masked(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	u, err := url.Parse(value)
	if err != nil {
		return "xxxxx"
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "pass") || strings.Contains(strings.ToLower(name), "secret") {
			query.Set(name, "xxxxx")
		}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}
