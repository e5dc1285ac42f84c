package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"vaglio"
	"vaglio/features"
	"vaglio/history"
	"vaglio/models"
)

func newFeatures() *cobra.Command {
	cmd := &cobra.Command{Use: "features", Short: "Check, list and explain feature catalogues"}
	cmd.AddCommand(
		&cobra.Command{Use: "check FILE", Short: "Check a catalogue; errors name line, feature and reason", Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				catalogue, err := readCatalogue(args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is good: %d features\n", args[0], len(catalogue.Features()))
				return nil
			}},
		&cobra.Command{Use: "list [FILE]", Short: "List the features of a catalogue (default: the embedded one)", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				catalogue, err := readCatalogue(strings.Join(args, ""))
				if err != nil {
					return err
				}
				var rows [][]string
				for _, f := range catalogue.Features() {
					rows = append(rows, []string{f.Name, f.Entity, window(f), string(f.Unit), f.Reason, f.Description})
				}
				table(cmd.OutOrStdout(), []string{"FEATURE", "ENTITY", "WINDOW", "UNIT", "REASON", "DESCRIPTION"}, rows, nil)
				return nil
			}},
		newFeaturesExplain(),
	)
	cmd.AddCommand(featureWork()...)
	return cmd
}

func window(f features.Feature) string {
	switch {
	case f.Window == 0:
		return ""
	case f.Window%vaglio.Day == 0:
		return fmt.Sprintf("%d d", f.Window/vaglio.Day)
	case f.Window%vaglio.Hour == 0:
		return fmt.Sprintf("%d h", f.Window/vaglio.Hour)
	default:
		return fmt.Sprintf("%d min", f.Window/vaglio.Minute)
	}
}

func newFeaturesExplain() *cobra.Command {
	var w wiring
	var asOf vaglio.Instant
	var file string
	var most int
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "explain REQUEST.json",
		Short:   "Show the features of a request, as history knew it at a moment, and the newest events behind each",
		Example: "  vaglio features explain request.json --as-of 2026-05-01T12:00:00Z",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if most < 0 {
				return usagef("--events: want 0 or more")
			}
			catalogue, err := readCatalogue(file)
			if err != nil {
				return err
			}
			requests, err := readRequests(args[0])
			if err != nil {
				return err
			}
			if len(requests) != 1 {
				return fmt.Errorf("%s holds %d requests: want one", args[0], len(requests))
			}
			in, err := newInstallation(cmd, w)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			store, err := in.joinHistory(cmd.Context())
			if err != nil {
				return err
			}
			if asOf == 0 {
				asOf = vaglio.InstantOf(time.Now())
			}
			explained, err := explainFeatures(cmd.Context(), store, catalogue, &requests[0].Request, asOf, most)
			if err != nil {
				return err
			}
			if asJSON {
				return json.MarshalWrite(cmd.OutOrStdout(), explained, jsontext.Multiline(true))
			}
			showFeatures(cmd.OutOrStdout(), explained)
			return nil
		},
	}
	w.historyFlags(cmd)
	f := cmd.Flags()
	f.Var(instantFlag{&asOf}, "as-of", "the moment whose knowledge counts (default: now)")
	f.StringVar(&file, "features", "", "catalogue (default: the embedded one)")
	f.IntVar(&most, "events", 3, "so many events of each feature, the newest first")
	f.BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// explainedFeature is one entry of a vector with events behind it.
type explainedFeature struct {
	Name        string           `json:"name"`
	Value       models.Number    `json:"value"`
	Category    string           `json:"category,omitzero"`
	Unit        features.Unit    `json:"unit,omitzero"`
	Description string           `json:"description"`
	Events      []explainedEvent `json:"events"`
}

type explainedEvent struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"`
	OccurredAt vaglio.Instant `json:"occurred_at"`
}

// explainFeatures reads history as a decision at that moment would, the request's neighbours last.
func explainFeatures(ctx context.Context, store *history.Store, catalogue *features.Catalogue, r *vaglio.Request,
	asOf vaglio.Instant, most int) ([]explainedFeature, error) {
	request, err := store.Prepare(r.Event(asOf), asOf)
	if err != nil {
		return nil, err
	}
	events := map[string]vaglio.Fact{}
	states := map[vaglio.Entity]*features.State{}
	read := func(wanted []vaglio.Entity) (map[vaglio.Entity][]vaglio.Fact, error) {
		wanted = slices.DeleteFunc(wanted, func(e vaglio.Entity) bool { _, known := states[e]; return known })
		timelines, err := store.Timelines(ctx, wanted, asOf)
		if err != nil {
			return nil, err
		}
		for _, entity := range wanted {
			states[entity] = catalogue.NewState(entity.Kind)
			for i, f := range timelines[entity] {
				events[f.ID] = f
				if states[entity] != nil {
					states[entity].Add(&timelines[entity][i])
				}
			}
		}
		return timelines, nil
	}
	state := func(e vaglio.Entity) *features.State { return states[e] }
	if id := request.Entities.Get(vaglio.EntityPayment); id != "" {
		payment := vaglio.Entity{Kind: vaglio.EntityPayment, ID: id}
		timelines, err := read([]vaglio.Entity{payment})
		if err != nil {
			return nil, err
		}
		history.Complete(&request, timelines[payment])
	}
	if _, err := read(catalogue.Timelines(&request)); err != nil {
		return nil, err
	}
	if _, err := read(catalogue.Neighbours(&request, state)); err != nil {
		return nil, err
	}
	vector := make([]float64, len(catalogue.Features()))
	catalogue.Vector(vector, &request, state)
	out := make([]explainedFeature, len(vector))
	for i, f := range catalogue.Features() {
		out[i] = explainedFeature{f.Name, models.Number(vector[i]), f.Category(vector[i]), f.Unit, f.Description, []explainedEvent{}}
		for _, id := range catalogue.Evidence(&request, state, most, []int{i})[0] {
			out[i].Events = append(out[i].Events, explainedEvent{id, events[id].Kind, events[id].OccurredAt})
		}
	}
	return out, nil
}

func showFeatures(w io.Writer, explained []explainedFeature) {
	var rows [][]string
	for _, f := range explained {
		value := strconv.FormatFloat(float64(f.Value), 'g', 12, 64)
		switch {
		case f.Category != "":
			value = f.Category
		case math.IsNaN(float64(f.Value)) || f.Unit == "": // a category that is not known
			value = "missing"
		}
		row := []string{f.Name, value, string(f.Unit)}
		if len(f.Events) == 0 {
			rows = append(rows, append(row, "", "", ""))
		}
		for _, e := range f.Events {
			rows = append(rows, append(row, e.ID, e.Kind, e.OccurredAt.String()))
			row = []string{"", "", ""}
		}
	}
	table(w, []string{"FEATURE", "VALUE", "UNIT", "EVENT", "KIND", "OCCURRED AT"}, rows, nil)
}
