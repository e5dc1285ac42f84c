package scoring

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/scoring/states"
)

// inUse is a model with the window states that its catalogue needs.
type inUse struct {
	bundle *models.Bundle
	memory *states.Cache // nil without a cache
}

// UseModel makes later decisions use a model; those under way keep theirs. A model trained on money of another currency
// than history's is refused.
func (e *Engine) UseModel(b *models.Bundle) error {
	if trained, base := b.Manifest().BaseCurrency, e.history.BaseCurrency(); trained != base {
		return fmt.Errorf("model %s was trained on amounts in %s, history keeps %s", b.Manifest().Version, trained, base)
	}
	next := &inUse{bundle: b}
	if before := e.inUse.Load(); before != nil && sameCatalogue(before.bundle.Catalogue(), b.Catalogue()) {
		next.memory = before.memory
	} else if e.cache > 0 {
		next.memory = states.New(states.Options{Catalogue: b.Catalogue(), Read: e.history.Latest, Bytes: e.cache})
	}
	e.inUse.Store(next)
	return nil
}

func sameCatalogue(a, b *features.Catalogue) bool {
	x, errA := a.YAML()
	y, errB := b.YAML()
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// Model is the model in use, nil without one.
func (e *Engine) Model() *models.Bundle {
	if m := e.inUse.Load(); m != nil {
		return m.bundle
	}
	return nil
}

// How the memory keeps up with what others store: it is asked often, and not relied on when it has not heard for long.
const (
	followEvery = 200 * time.Millisecond
	maxLag      = 2 * time.Second
)

// Follow keeps the engine's memory up to date with what any writer stores, until ctx ends. Until it runs, and whenever it lags
// by more than two seconds, decisions read history afresh.
func (e *Engine) Follow(ctx context.Context) error {
	if e.cache == 0 {
		return nil
	}
	tail, err := e.history.Tail(ctx)
	if err != nil {
		return err
	}
	e.forget() // what was read before this tail began may have changed unseen
	e.tail.Store(tail)
	defer e.tail.Store(nil)
	tail.Follow(ctx, followEvery, e.remember, e.forget)
	return nil
}

func (e *Engine) forget() {
	if m := e.inUse.Load(); m != nil && m.memory != nil {
		m.memory.Forget()
	}
}

// remember brings facts into the memory, which may have them already.
func (e *Engine) remember(facts []vaglio.Fact) {
	if m := e.inUse.Load(); m != nil && m.memory != nil {
		m.memory.Add(facts)
	}
}

// Lag is how old the memory's picture of history may be; false when decisions read afresh.
func (e *Engine) Lag() (time.Duration, bool) {
	tail := e.tail.Load()
	if tail == nil {
		return 0, false
	}
	lag := tail.Lag()
	return lag, lag <= maxLag
}

// MemoryStats are those of the memory in use.
func (e *Engine) MemoryStats() states.Stats {
	if m := e.inUse.Load(); m != nil && m.memory != nil {
		return m.memory.Stats()
	}
	return states.Stats{}
}

// Store takes events into history, and tells the ledger of the money that they moved. All of them are stored, and count for
// the next decision, when it returns without an error; after one they are to be sent again.
func (e *Engine) Store(ctx context.Context, events []vaglio.Event) ([]vaglio.Outcome, error) {
	outcomes, err := e.history.Insert(ctx, events)
	if err != nil {
		return outcomes, err
	}
	var ids []string
	for i, outcome := range outcomes {
		if outcome == vaglio.Stored || outcome == vaglio.Repeated { // the call before may have ended between the two
			ids = append(ids, events[i].ID)
		}
	}
	stored, err := e.history.Events(ctx, ids) // completed and converted, as history has them
	if err != nil {
		return outcomes, err
	}
	facts := slices.Collect(maps.Values(stored))
	if err := e.ledger.Move(ctx, facts); err != nil {
		return outcomes, err
	}
	if e.cache > 0 {
		e.remember(facts)
	}
	return outcomes, nil
}
