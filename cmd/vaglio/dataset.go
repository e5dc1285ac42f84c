package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/training"
)

func newDataset() *cobra.Command {
	var w wiring
	var o training.DatasetOptions
	var catalogue, maturity, byRail, shard, out string
	cmd := &cobra.Command{
		Use:   "dataset",
		Short: "Write the requests of a period with labels and features, as Parquet or CSV",
		Example: "  vaglio dataset --from 2026-01-01 --until 2026-07-01 --out requests.parquet\n" +
			"  vaglio dataset --from 2026-01-01 --until 2026-07-01 --shard 2/6 --out requests-2.parquet",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			holdMatrix()
			if o.From == 0 || o.Until == 0 || out == "" {
				return usagef("dataset wants --from TIME, --until TIME and --out FILE")
			}
			var format training.DatasetFormat
			switch name := strings.TrimSuffix(strings.ToLower(out), ".gz"); {
			case strings.HasSuffix(name, ".csv"):
				format = training.CSV
			case strings.HasSuffix(strings.ToLower(out), ".parquet"):
				format = training.Parquet
			default:
				return usagef("--out %s: want a name that ends in .parquet, .csv or .csv.gz", out)
			}
			if o.Maturity, o.RailMaturity, err = parseMaturity(maturity, byRail); err != nil {
				return err
			}
			if shard != "" {
				s, err := training.ParseShard(shard)
				if err != nil {
					return usagef("--shard: %v", err)
				}
				o.Period = s.Part(o.Period)
			}
			if o.Catalogue, err = readCatalogue(catalogue); err != nil {
				return err
			}
			if o.LabelsUntil == 0 {
				o.LabelsUntil = vaglio.InstantOf(time.Now())
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			if o.History, err = in.joinHistory(cmd.Context()); err != nil {
				return err
			}
			bar := newProgress()
			defer bar.end()
			o.Progress = func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) }
			var size training.DatasetSize
			err = writeFile(out, func(file io.Writer) (err error) {
				size, err = training.WriteDataset(cmd.Context(), o, format, file)
				return err
			})
			if err != nil {
				return fmt.Errorf("write %s: %w", out, err)
			}
			bar.end()
			fmt.Fprintf(cmd.ErrOrStderr(), "%d requests: %d frauds, %d clean, %d not settled, %d of which nothing can be known\n", size.Rows(), size.Frauds, size.Clean,
				size.Unsettled, size.Unlabelled)
			return nil
		},
	}
	w.historyFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&o.From}, "from", "begin of the period")
	f.Var(instantFlag{&o.Until}, "until", "end of the period, exclusive")
	f.Var(instantFlag{&o.LabelsUntil}, "labels-until", "use the labels known then (default: now)")
	maturityFlags(cmd, &maturity, &byRail)
	f.StringVar(&shard, "shard", "", "write one of some parts of the period, such as 2/6: train --matrix takes them all")
	f.StringVar(&catalogue, "features", "", "feature catalogue (YAML; default: the embedded one)")
	f.StringVar(&out, "out", "", "file to write: .parquet, .csv or .csv.gz")
	return cmd
}
