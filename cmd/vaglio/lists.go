package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/ledger"
)

func newLists() *cobra.Command {
	cmd := &cobra.Command{Use: "lists", Short: "The lists that rules of the policy ask: make, fill and read them"}
	cmd.AddCommand(newListsList(), newListsCreate(), newListsAdd(), newListsRemove(), newListsShow())
	return cmd
}

func newListsList() *cobra.Command {
	var w wiring
	var asJSON bool
	cmd := &cobra.Command{Use: "list", Short: "List the lists", Args: exactly(0),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, _ []string) error {
			all, err := l.Lists(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), append([]ledger.List{}, all...), jsontext.Multiline(true))
			}
			var rows [][]string
			for _, list := range all {
				rows = append(rows, []string{list.Name, strconv.FormatBool(list.Hashed), strconv.FormatInt(list.Revision, 10), moment(list.CreatedAt)})
			}
			table(cmd.OutOrStdout(), []string{"NAME", "HASHED", "REVISION", "CREATED"}, rows, nil)
			return nil
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func newListsCreate() *cobra.Command {
	var w wiring
	var hashed bool
	cmd := &cobra.Command{Use: "create NAME", Short: "Make a list; one that is there already stays as it is", Args: exactly(1),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			list, err := l.CreateList(cmd.Context(), args[0], hashed, actor())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "list %s is there since %s\n", list.Name, list.CreatedAt)
			return nil
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().BoolVar(&hashed, "hashed", false, "keep digests of the values only: nobody can read them")
	return cmd
}

// values are what a command shall put on a list or take off it: those of the arguments, or of a file.
type values struct {
	file    string
	reason  string
	expires vaglio.Instant
	lines   []int // of the file; nil for arguments
	all     []ledger.ListValue
}

// read reads them. Of a file all that is malformed is told together, before anything is changed.
func (v *values) read(cmd *cobra.Command, args []string) error {
	if (v.file == "") == (len(args) == 0) {
		return usagef("want values as arguments or a --file, - for standard input")
	}
	if v.file == "" {
		for _, arg := range args {
			v.all = append(v.all, ledger.ListValue{Value: arg, Reason: v.reason, ExpiresAt: v.expires})
		}
		return nil
	}
	if v.file == "-" {
		return v.readCSV(cmd.InOrStdin())
	}
	return withFile(v.file, v.readCSV)
}

// maxFaults is how many wrong lines are told.
const maxFaults = 20

// readCSV reads value, reason and expiry, of which the last two may be left out. The first line may name them.
func (v *values) readCSV(r io.Reader) error {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord, rows.TrimLeadingSpace = -1, true, true
	var failures []error
	for len(failures) < maxFaults {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			failures = append(failures, err)
			break
		}
		line, _ := rows.FieldPos(0)
		if len(v.all) == 0 && v.lines == nil && row[0] == "value" {
			v.lines = []int{}
			continue
		}
		if len(row) > 3 {
			failures = append(failures, fmt.Errorf("line %d: want value, reason and expiry, not %d fields", line, len(row)))
			continue
		}
		one := ledger.ListValue{Value: row[0], Reason: v.reason, ExpiresAt: v.expires}
		if len(row) > 1 && row[1] != "" {
			one.Reason = row[1]
		}
		if len(row) > 2 && row[2] != "" {
			if one.ExpiresAt, err = vaglio.ParseInstant(row[2]); err != nil {
				failures = append(failures, fmt.Errorf("line %d: %w", line, err))
			}
		}
		v.all, v.lines = append(v.all, one), append(v.lines, line)
	}
	if len(failures) == 0 && len(v.all) == 0 {
		return fmt.Errorf("%s holds no value", v.file)
	}
	return errors.Join(failures...)
}

// each calls change with batches that one transaction may have. Done is how many values went through.
func (v *values) each(step string, change func([]ledger.ListValue) error) (done int, err error) {
	shows := newProgress()
	defer shows.end()
	for batch := range slices.Chunk(v.all, ledger.MaxListChange) {
		if err := change(batch); err != nil {
			return done, v.placed(done, err)
		}
		done += len(batch)
		shows.show(step, int64(done), int64(len(v.all)), "values", "")
	}
	return done, nil
}

// placed names lines of the file instead of places in a batch, and tells what was done before.
func (v *values) placed(done int, err error) error {
	var invalid vaglio.Invalid
	if errors.As(err, &invalid) && v.lines != nil {
		failures := make([]error, 0, len(invalid))
		for _, f := range invalid {
			at, field, _ := strings.Cut(strings.TrimPrefix(f.Pointer, "/"), "/")
			if i, failed := strconv.Atoi(at); failed == nil && done+i < len(v.lines) {
				f.Detail = fmt.Sprintf("line %d: %s %s", v.lines[done+i], field, f.Detail)
			}
			failures = append(failures, errors.New(f.Detail))
		}
		err = errors.Join(failures...)
	}
	if done > 0 {
		err = fmt.Errorf("after %d values, which are done (doing them again changes nothing for decisions): %w", done, err)
	}
	return err
}

func newListsAdd() *cobra.Command {
	var w wiring
	var v values
	var asJSON bool
	cmd := &cobra.Command{Use: "add NAME [VALUE…]", Short: "Put values on a list; running servers know it within a second", Args: cobra.MinimumNArgs(1),
		Long: "Put values on a list; running servers know it within a second.\n\nA file is CSV: value, reason, expires (a time or a date); the last two may\n" +
			"be left out, and the first line may name them. Arguments stay in the shell's history: give what is personal in a file.",
		Example: "  vaglio lists add confirmed_fraud d_9 iban_7 --reason 'ring of November' --expires 2027-01-01\n" +
			"  vaglio lists add confirmed_fraud --file devices.csv",
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			if err := v.read(cmd, args[1:]); err != nil {
				return err
			}
			done, err := v.each("add", func(batch []ledger.ListValue) error { return l.AddToList(cmd.Context(), args[0], batch, actor()) })
			if err != nil {
				return err
			}
			return tell(cmd, asJSON, "added", done, args[0])
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&v.file, "file", "", "CSV of values; - for standard input")
	cmd.Flags().StringVar(&v.reason, "reason", "", "why they are on it, where the file does not say")
	cmd.Flags().Var(instantFlag{&v.expires}, "expires", "when they end, where the file does not say (default: never)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func newListsRemove() *cobra.Command {
	var w wiring
	var v values
	var asJSON bool
	cmd := &cobra.Command{Use: "remove NAME [VALUE…]", Short: "Take values off a list", Args: cobra.MinimumNArgs(1),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			if err := v.read(cmd, args[1:]); err != nil {
				return err
			}
			removed := 0
			_, err := v.each("remove", func(batch []ledger.ListValue) error {
				texts := make([]string, len(batch))
				for i := range batch {
					texts[i] = batch[i].Value
				}
				n, err := l.RemoveFromList(cmd.Context(), args[0], texts, actor())
				removed += n
				return err
			})
			if err != nil {
				return err
			}
			return tell(cmd, asJSON, "removed", removed, args[0])
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&v.file, "file", "", "CSV of values; - for standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// tell prints how many values were changed.
func tell(cmd *cobra.Command, asJSON bool, what string, n int, list string) error {
	if asJSON {
		return json.MarshalWrite(cmd.OutOrStdout(), map[string]any{"list": list, what: n}, json.Deterministic(true))
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %d (list %s)\n", what, n, list)
	return err
}

func newListsShow() *cobra.Command {
	var w wiring
	var value string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{Use: "show NAME", Short: "Show what is on a list, the oldest first", Args: exactly(1),
		RunE: withLedger(&w, func(cmd *cobra.Command, l *ledger.Ledger, args []string) error {
			if limit < 1 {
				return usagef("--limit: want at least 1")
			}
			entries, err := l.ListEntries(cmd.Context(), args[0], value, vaglio.InstantOf(time.Now()), 0, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), append([]ledger.ListEntry{}, entries...), jsontext.Multiline(true))
			}
			var rows [][]string
			for _, e := range entries {
				shown := e.Value
				if shown == "" {
					shown = "(hashed)"
				}
				rows = append(rows, []string{shown, e.Reason, e.Author, moment(e.AddedAt), moment(e.ExpiresAt)})
			}
			table(cmd.OutOrStdout(), []string{"VALUE", "REASON", "AUTHOR", "ADDED", "EXPIRES"}, rows, nil)
			if len(entries) == limit {
				fmt.Fprintf(os.Stderr, "the first %d; --limit shows more\n", limit)
			}
			return nil
		})}
	w.ledgerFlags(cmd)
	cmd.Flags().StringVar(&value, "value", "", "only this one: whether it is on the list")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
