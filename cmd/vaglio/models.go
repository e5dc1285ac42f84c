package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
)

func newModels() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "List, show, promote and roll back models, and import one trained elsewhere"}
	cmd.AddCommand(newModelsList(), newModelsShow(), newModelsPromote(), newModelsRollback(),
		newModelsWithdraw(), newModelsImport(),
		newModelsCompare(), newThresholds())
	return cmd
}

func withRegistry(use func(*cobra.Command, *models.Registry, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		in, err := newInstallation(cmd, wiring{})
		if err != nil {
			return err
		}
		registry, err := in.registry()
		if err != nil {
			return err
		}
		return use(cmd, registry, args)
	}
}

// modelLine is a version as --json lists it.
type modelLine struct {
	Version  string           `json:"version"`
	Stages   []models.Stage   `json:"stages"`
	Refused  string           `json:"refused,omitzero"` // why it can't be used
	Manifest *models.Manifest `json:"manifest,omitzero"`
}

func newModelsList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "list", Short: "List the models of the registry, with the reason where one is refused", Args: exactly(0),
		RunE: withRegistry(func(cmd *cobra.Command, registry *models.Registry, _ []string) error {
			entries, err := registry.List()
			if err != nil {
				return err
			}
			lines := []modelLine{}
			var rows [][]string
			for _, e := range entries {
				line := modelLine{Version: e.Version, Stages: append([]models.Stage{}, e.Stages...)}
				row := make([]string, len(listed)+4)
				row[0], row[1] = e.Version, stageNames(e.Stages)
				if e.Refused != nil {
					line.Refused = e.Refused.Error()
					row[len(row)-1] = "refused: " + line.Refused
				} else {
					line.Manifest = &e.Manifest
					for i, column := range listed {
						row[2+i] = metric(&e.Manifest, column.metric)
					}
					row[len(row)-2], row[len(row)-1] = testText(&e.Manifest.Test), trainedText(&e.Manifest)
				}
				lines, rows = append(lines, line), append(rows, row)
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), lines, json.Deterministic(true), jsontext.Multiline(true))
			}
			header := []string{"VERSION", "STAGE"}
			for _, column := range listed {
				header = append(header, column.title)
			}
			table(cmd.OutOrStdout(), append(header, "TESTED ON", "NOTE"), rows, nil)
			return nil
		})}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// listed are the metrics that models are listed with, side by side: of each one's own test period.
var listed = []struct{ title, metric string }{{"ROC AUC", "roc_auc"}, {"AVG PREC", "average_precision"}, {"RECALL 1 % FPR", "recall_at_1pct_fpr"},
	{"FRAUD MONEY", "fraud_amount_stopped"}, {"HONEST MONEY", "honest_amount_held_up"}, {"CALIBR. ERROR", "expected_calibration_error"}}

func testText(w *models.Window) string {
	if w.Rows == 0 {
		return ""
	}
	return fmt.Sprintf("%s to %s, %d frauds of %d", day(w.From), day(w.Until), w.Positives, w.Rows)
}

func trainedText(m *models.Manifest) string {
	if m.Training.Until == 0 {
		return "imported"
	}
	return fmt.Sprintf("trained on %d requests until %s", m.Training.Rows, day(m.Training.Until))
}

func stageNames(stages []models.Stage) string {
	names := make([]string, len(stages))
	for i, s := range stages {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func metric(m *models.Manifest, name string) string {
	if v, ok := m.Metrics[name]; ok {
		return fmt.Sprintf("%.4f", v)
	}
	return ""
}

func newModelsShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "show VERSION", Short: "Show what a model is, how good its probabilities are, and when it was promoted", Args: exactly(1),
		RunE: withRegistry(func(cmd *cobra.Command, registry *models.Registry, args []string) error {
			bundle, err := registry.Open(args[0])
			if err != nil {
				return err
			}
			m := bundle.Manifest()
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), m, json.Deterministic(true), jsontext.Multiline(true))
			}
			return showModel(cmd.OutOrStdout(), registry, bundle)
		})}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	return cmd
}

func showModel(out io.Writer, registry *models.Registry, bundle *models.Bundle) error {
	m, identity := bundle.Manifest(), bundle.Identity()
	period := func(w models.Window) string {
		if w.Rows == 0 {
			return "unknown"
		}
		return fmt.Sprintf("%s to %s, %d requests, %d frauds", w.From, w.Until, w.Rows, w.Positives)
	}
	rows := [][]string{{"name", m.Name}, {"version", m.Version}, {"sha256", identity.SHA256},
		{"trees", fmt.Sprintf("%d, %d splits deep, over %d features", bundle.Trees(), bundle.Depth(), len(bundle.Names()))},
		{"training", period(m.Training)}, {"calibration", period(m.Calibration)}, {"test", period(m.Test)},
		{"thresholds", fmt.Sprintf("approve below %v, deny from %v", m.Thresholds.ApproveBelow, m.Thresholds.DenyFrom)},
		{"base currency", m.BaseCurrency}}
	for _, name := range []string{"roc_auc", "average_precision", "log_loss", "brier", "recall_at_1pct_fpr"} {
		if v := metric(&m, name); v != "" {
			rows = append(rows, []string{name, v})
		}
	}
	rows = append(rows, []string{"calibrated by", cmp.Or(bundle.Calibration.Method, models.MethodPlatt)})
	if len(m.Reliability.Curve) > 0 {
		rows = append(rows, []string{"calibration error", fmt.Sprintf("%.4f expected, over %d bins", m.Reliability.ExpectedError, len(m.Reliability.Curve))})
	}
	for _, stage := range models.Stages {
		h, err := registry.History(stage)
		if err != nil {
			return err
		}
		for _, p := range slices.Backward(h) {
			if p.Version != m.Version {
				continue
			}
			text := fmt.Sprintf("since %s", p.At)
			if p.TakenBack != 0 {
				text += fmt.Sprintf(", taken back %s", p.TakenBack)
			}
			if p.Share > 0 {
				text += fmt.Sprintf(", for %g %% of customers", 100*p.Share)
			}
			if p.Reason != "" {
				text += ": " + p.Reason
			}
			rows = append(rows, []string{string(stage), text})
		}
	}
	for _, row := range rows {
		fmt.Fprintf(out, "%-18s %s\n", row[0], row[1])
	}
	return nil
}

func newModelsImport() *cobra.Command {
	var catalogue, golden, calibration string
	m := models.Manifest{Metrics: map[string]float64{}, Parameters: map[string]string{}, Libraries: map[string]string{"vaglio": vaglio.Version}}
	cmd := &cobra.Command{Use: "import MODEL.txt --features FEATURES.yaml --golden GOLDEN.csv",
		Short: "Import a LightGBM model trained elsewhere, once it answers here as it did there",
		Long: "Import a LightGBM model trained elsewhere, once it answers here as it did there.\n\n" +
			"GOLDEN.csv holds vectors with LightGBM's own answers: a column for each feature, raw (the raw score) and, better, base and\n" +
			"contribution:FEATURE for each. Scores must come out the same to the bit, contributions to 1e-9. docs/explanations.md has more,\n" +
			"examples/notebook a program that makes all of it.",
		Args: exactly(1),
		RunE: withRegistry(func(cmd *cobra.Command, registry *models.Registry, args []string) error {
			if catalogue == "" || golden == "" {
				return usagef("models import wants --features FILE and --golden FILE")
			}
			contents, rows, err := readImport(args[0], catalogue, golden, calibration)
			if err != nil {
				return err
			}
			if calibration == "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "without --calibration, probabilities are the model's own, and risk scores percentiles among the %d golden rows\n", rows)
			}
			m.Version = cmp.Or(m.Version, time.Now().UTC().Format("20060102-150405"))
			m.CreatedAt, m.Reliability, m.Calibration = vaglio.InstantOf(time.Now()), contents.Manifest.Reliability, contents.Manifest.Calibration
			contents.Manifest = m
			dir, err := registry.Dir(m.Version)
			if err != nil {
				return err
			}
			if err := models.Write(dir, contents); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "model %s answers as it did where it was trained, on %d golden rows; "+
				"`vaglio models promote %s --force --reason …` makes it champion\n",
				m.Version, rows, m.Version)
			return nil
		})}
	f := cmd.Flags()
	f.StringVar(&catalogue, "features", "", "feature catalogue (YAML) whose features are the model's, in its order")
	f.StringVar(&golden, "golden", "", "vectors with LightGBM's own answers (CSV)")
	f.StringVar(&calibration, "calibration", "", "raw scores that training has not seen, with labels: log_odds,label (CSV)")
	f.StringVar(&m.Name, "name", "refund", "name of the model")
	f.StringVar(&m.Version, "version", "", "version of the model (default: the time of the import)")
	f.StringVar(&m.BaseCurrency, "base-currency", "EUR", "currency of the amounts it was trained on")
	f.Float64Var(&m.Thresholds.ApproveBelow, "approve-below", 0.06, "approve below this probability, unless a policy says otherwise")
	f.Float64Var(&m.Thresholds.DenyFrom, "deny-from", 0.75, "deny from this probability, unless a policy says otherwise")
	return cmd
}

// readImport reads the files of an import and calibrates. Of the manifest it sets what it learns of the calibration.
func readImport(model, catalogue, golden, calibration string) (c models.Contents, rows int, err error) {
	if c.Model, err = os.ReadFile(model); err != nil {
		return c, 0, err
	}
	if c.Catalogue, err = os.ReadFile(catalogue); err != nil {
		return c, 0, err
	}
	parsed, err := features.Parse(c.Catalogue)
	if err != nil {
		return c, 0, fmt.Errorf("read the catalogue %s: %w", catalogue, err)
	}
	err = withFile(golden, func(r io.Reader) (err error) {
		c.Golden, err = models.ReadGoldenCSV(r, parsed.Names())
		return err
	})
	if err != nil {
		return c, 0, err
	}
	if calibration == "" {
		raw := make([]float64, len(c.Golden))
		for i, g := range c.Golden {
			raw[i] = float64(g.Raw)
		}
		c.Calibration = models.Uncalibrated(raw)
		return c, len(c.Golden), nil
	}
	err = withFile(calibration, func(r io.Reader) error {
		logOdds, fraud, err := models.ReadScoresCSV(r)
		if err != nil {
			return err
		}
		c.Manifest.Calibration.Rows = len(fraud)
		for _, f := range fraud {
			if f {
				c.Manifest.Calibration.Positives++
			}
		}
		c.Calibration, c.Manifest.Reliability, err = models.FitCalibration(logOdds, fraud, nil)
		return err
	})
	return c, len(c.Golden), err
}

func withFile(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := read(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
