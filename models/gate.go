package models

import (
	"errors"
	"fmt"
)

// Against lists what a manifest says against promoting its model to a stage; nil is nothing. That the bundle answers as LightGBM
// did is not asked here: [Open] refuses one that does not. Whether a model is better than the champion takes history: see
// training.Gate.
func (m *Manifest) Against(stage Stage) []error {
	var against []error
	no := func(format string, args ...any) { against = append(against, fmt.Errorf(format, args...)) }
	if m.Interrupted {
		no("its training was interrupted")
	}
	if stage != Champion {
		return against
	}
	switch t := m.Test; {
	case t.Rows == 0:
		no("it was tested on no requests: there is no test period")
	case t.From < m.Training.Until:
		no("its test period begins at %v, before the end of its training at %v", t.From, m.Training.Until)
	case t.Positives == 0 || t.Positives == t.Rows:
		no("its test period has %d frauds among %d requests: both kinds are needed", t.Positives, t.Rows)
	}
	return against
}

// ErrGate is wrapped by every refusal of a promotion that a reason can overrule.
var ErrGate = errors.New("promotion refused")

// Refusal is [ErrGate] with what speaks against a promotion; nil when nothing does.
func Refusal(version string, stage Stage, against []error) error {
	if len(against) == 0 {
		return nil
	}
	return fmt.Errorf("%w: model %s as %s: %w", ErrGate, version, stage, errors.Join(against...))
}
