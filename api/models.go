package api

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"

	"vaglio"
	"vaglio/ledger"
	"vaglio/models"
	"vaglio/scoring"
)

// modelsWire are the models of the registry, and which this server uses.
type modelsWire struct {
	Models []modelWire `json:"models"`
	InUse  lineupWire  `json:"in_use"`
}

type modelWire struct {
	Version  string             `json:"version"`
	Name     string             `json:"name,omitzero"`
	Stages   []models.Stage     `json:"stages"`
	Refused  string             `json:"refused,omitzero"`
	Created  vaglio.Instant     `json:"created_at,omitzero"`
	Training models.Window      `json:"training,omitzero"`
	Test     models.Window      `json:"test,omitzero"`
	Metrics  map[string]float64 `json:"metrics,omitempty"`
}

type lineupWire struct {
	Champion   string  `json:"champion,omitzero"`
	Challenger string  `json:"challenger,omitzero"`
	Share      float64 `json:"share,omitzero"`
	Shadow     string  `json:"shadow,omitzero"`
	Fallback   string  `json:"fallback,omitzero"`
}

// stageChange promotes a model.
type stageChange struct {
	Stage  models.Stage `json:"stage"`
	Share  float64      `json:"share,omitzero"`
	Reason string       `json:"reason,omitzero"`
}

// stageRollback takes the last promotion to a stage back.
type stageRollback struct {
	Stage models.Stage `json:"stage"`
}

// stagedWire says who is current for a stage now.
type stagedWire struct {
	Stage   models.Stage `json:"stage"`
	Version string       `json:"version"`
}

// errNoRegistry is for servers that decide by one given model.
var errNoRegistry = problemf(NotFound, "this server has no registry of models")

// models lists the registry.
func (s *Server) listModels(x *exchange) error {
	if s.models == nil {
		return errNoRegistry
	}
	entries, err := s.models.List()
	if err != nil {
		return err
	}
	out := modelsWire{Models: []modelWire{}, InUse: lineupOf(s.engine.Lineup())}
	for _, e := range entries {
		m := modelWire{Version: e.Version, Stages: append([]models.Stage{}, e.Stages...)}
		if e.Refused != nil {
			m.Refused = s.withoutFolder(e.Version, e.Refused)
		} else {
			m.Name, m.Created, m.Training, m.Test, m.Metrics = e.Manifest.Name, e.Manifest.CreatedAt, e.Manifest.Training, e.Manifest.Test, e.Manifest.Metrics
		}
		out.Models = append(out.Models, m)
	}
	return x.json(http.StatusOK, &out)
}

func lineupOf(l scoring.Lineup) lineupWire {
	version := func(b *models.Bundle) string {
		if b == nil {
			return ""
		}
		return b.Manifest().Version
	}
	return lineupWire{version(l.Champion), version(l.Challenger), l.Share, version(l.Shadow), version(l.Fallback)}
}

// withoutFolder is an error about a version that does not tell where the registry is.
func (s *Server) withoutFolder(version string, err error) string {
	dir, invalid := s.models.Dir(version)
	if invalid != nil {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), dir, version)
}

// promote makes a version current for a stage. Servers take it up within two seconds.
func (s *Server) promote(x *exchange) error {
	version, err := x.name("model")
	if err != nil {
		return err
	}
	told, err := read[stageChange](x)
	if err != nil {
		return err
	}
	if s.models == nil {
		return errNoRegistry
	}
	if err := checkStageChange(&told); err != nil {
		return err
	}
	dir, err := s.models.Dir(version)
	if err == nil {
		_, err = os.Stat(dir)
	}
	if err != nil {
		return problemf(NotFound, "the registry has no model of this version")
	}
	b, err := s.usable(version)
	if err != nil {
		return err
	}
	manifest := b.Manifest()
	against := manifest.Against(told.Stage)
	if told.Stage == models.Champion {
		against = append(against, errors.New("only `vaglio models promote` compares it with the champion on the same requests"))
	}
	if len(against) > 0 && told.Reason == "" {
		return problemf(ModelRefused, "%s: promote it all the same with a reason, which is recorded", joined(against))
	}
	promotion := models.Promotion{Version: version, At: vaglio.InstantOf(s.now()), Share: told.Share, Reason: told.Reason}
	if err := s.models.Promote(told.Stage, promotion); err != nil {
		return err
	}
	return s.staged(x, "model.promoted", told.Stage, version, told)
}

// usable opens a model that can decide by the policy in use.
func (s *Server) usable(version string) (*models.Bundle, error) {
	b, err := s.models.Open(version)
	if err == nil {
		_, err = s.engine.Fits(scoring.Lineup{Champion: b}, s.engine.Policy())
	}
	if err != nil {
		return nil, &problem{kind: ModelRefused, detail: s.withoutFolder(version, err), cause: err}
	}
	return b, nil
}

// joined is several errors in one line.
func joined(failures []error) string {
	texts := make([]string, len(failures))
	for i, err := range failures {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func checkStage(bad *vaglio.Invalid, stage models.Stage) {
	if !slices.Contains(models.Stages, stage) {
		*bad = append(*bad, vaglio.FieldError{Pointer: "/stage", Detail: "want one of " + strings.Join(stages(), ", ")})
	}
}

func stages() []string {
	names := make([]string, len(models.Stages))
	for i, stage := range models.Stages {
		names[i] = string(stage)
	}
	return names
}

func checkStageChange(c *stageChange) error {
	var bad vaglio.Invalid
	checkStage(&bad, c.Stage)
	if c.Share < 0 || c.Share > 1 || c.Share != 0 && c.Stage != models.Challenger {
		bad = append(bad, vaglio.FieldError{Pointer: "/share", Detail: "want 0 to 1, of a challenger only"})
	}
	if len(c.Reason) > maxReason || strings.ContainsFunc(c.Reason, unicode.IsControl) {
		bad = append(bad, vaglio.FieldError{Pointer: "/reason", Detail: fmt.Sprintf("want one line of at most %d bytes", maxReason)})
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// rollbackModel takes the last promotion to a stage back.
func (s *Server) rollbackModel(x *exchange) error {
	told, err := read[stageRollback](x)
	if err != nil {
		return err
	}
	if s.models == nil {
		return errNoRegistry
	}
	var bad vaglio.Invalid
	if checkStage(&bad, told.Stage); len(bad) > 0 {
		return bad
	}
	h, err := s.models.History(told.Stage)
	if err != nil {
		return err
	}
	h = slices.DeleteFunc(h, func(p models.Promotion) bool { return p.TakenBack != 0 })
	if len(h) < 2 {
		return problemf(NotFound, "there is no earlier %s", told.Stage)
	}
	if _, err := s.usable(h[1].Version); err != nil {
		return err
	}
	version, err := s.models.Rollback(told.Stage, vaglio.InstantOf(s.now()))
	if err != nil {
		return err
	}
	return s.staged(x, "model.rolled_back", told.Stage, version, told)
}

// staged notes a change of a stage and answers it.
func (s *Server) staged(x *exchange, action string, stage models.Stage, version string, detail any) error {
	said, err := json.Marshal(detail)
	if err == nil {
		err = s.ledger.Note(x.Request().Context(), ledger.AuditEntry{Actor: x.key.ID, Action: action, Subject: version, Detail: said})
	}
	if err != nil {
		return fmt.Errorf("%s is %s now: %w", version, stage, err)
	}
	return x.json(http.StatusOK, &stagedWire{stage, version})
}
