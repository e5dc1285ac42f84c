package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/training"
)

func newEvaluate() *cobra.Command {
	var w wiring
	var model, maturity, predictions string
	var period training.Period
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "evaluate",
		Short: "Measure a model on the labelled requests of a period",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if period.From == 0 || period.Until == 0 {
				return usagef("evaluate wants --from TIME and --until TIME")
			}
			age, err := parseDays(maturity)
			if err != nil {
				return usagef("--maturity: %v", err)
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			bundle, err := in.openModel(model)
			if err != nil {
				return err
			}
			store, err := in.openHistory(cmd.Context())
			if err != nil {
				return err
			}
			bar := newProgress()
			evaluation, err := training.Evaluate(cmd.Context(), store, bundle, period, vaglio.InstantOf(time.Now()), age,
				func(p training.Progress) { bar.show(p.Step, int64(p.Done), int64(p.Total), "", p.Note) })
			bar.end()
			if err != nil {
				return err
			}
			if predictions != "" {
				if err := writeFile(predictions, func(out io.Writer) error { return writePredictions(out, evaluation.Predictions) }); err != nil {
					return fmt.Errorf("write %s: %w", predictions, err)
				}
			}
			return printEvaluation(cmd.OutOrStdout(), &evaluation, asJSON)
		},
	}
	w.historyFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "folder of a bundle, or version in the registry (default: the champion)")
	f.Var(instantFlag{&period.From}, "from", "begin of the period")
	f.Var(instantFlag{&period.Until}, "until", "end of the period, exclusive")
	f.StringVar(&maturity, "maturity", "30d", "age from which a request without a label counts as clean")
	f.StringVar(&predictions, "predictions", "", "also write request_id,probability,label as CSV")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func writePredictions(w io.Writer, predictions []training.Prediction) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"request_id", "probability", "label"}); err != nil {
		return err
	}
	for _, p := range predictions {
		label := "0"
		if p.Fraud {
			label = "1"
		}
		if err := out.Write([]string{p.RequestID, strconv.FormatFloat(p.Probability, 'g', -1, 64), label}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func printEvaluation(out io.Writer, e *training.Evaluation, asJSON bool) error {
	if asJSON {
		return json.MarshalWrite(out, e, jsontext.Multiline(true))
	}
	_, err := fmt.Fprintf(out, "%d requests, %d frauds: ROC AUC %.4f, average precision %.4f, recall %.3f at 1 %% false positives, log loss %.4f, Brier %.4f\n",
		e.Rows, e.Frauds, e.ROCAUC, e.AveragePrecision, e.RecallAt1FPR, e.LogLoss, e.Brier)
	return err
}
