// Command vaglio is the whole service in one binary: a file per subcommand, and here the root, flags from the environment
// and signals. installation.go wires the parts that commands share, terminal.go holds bars and tables.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/history/embedded"
	"vaglio/training/lightgbm"
)

// Exit codes: scripts rely on them.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	embedded.Main()
	lightgbm.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errReported) {
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "vaglio: "+err.Error())
	var usage usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintln(os.Stderr, "vaglio -h shows what there is")
		return exitUsage
	}
	return exitFailed
}

// usageError is a wrong call, exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is a failure whose details were printed already.
var errReported = errors.New("failed")

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "vaglio",
		Short:         "Decides refund and cancellation requests: approve, review or deny, with exact reasons",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return configure(cmd)
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().String("data", "data", "folder of the embedded ClickHouse, the ledger and the models")
	root.PersistentFlags().String("config", "", "configuration file (YAML): names of flags, and a section for each command")
	root.AddCommand(newServe(), newDemo(), newImport(), newSimulate(), newTrain(), newRetrain(), newEvaluate(), newDataset(), newScore(), newExplain(),
		newFeatures(), newModels(), newPolicy(), newLists(), newGuards(), newReplay(), newKeys(), newAudit(),
		newForget(), newExport(), newSweep(),
		newConfig(), newDoctor(), newVersion())
	return root
}

// exactly wants a number of arguments, as a usage error.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %d arguments, not %d", cmd.CommandPath(), n, len(args))
		}
		return nil
	}
}

// instantFlag is a flag that takes RFC 3339 or a date.
type instantFlag struct{ at *vaglio.Instant }

func (f instantFlag) String() string {
	if f.at == nil || *f.at == 0 {
		return ""
	}
	return f.at.String()
}

func (f instantFlag) Set(s string) (err error) {
	*f.at, err = vaglio.ParseInstant(s)
	return err
}

func (f instantFlag) Type() string { return "time" }

func newVersion() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: exactly(0), Run: func(cmd *cobra.Command, _ []string) {
		fmt.Fprintln(cmd.OutOrStdout(), vaglio.Version)
	}}
}
