package scoring

import (
	"context"
	"maps"
	"slices"
	"time"

	"vaglio"
)

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

// Lag is how old the memory's picture of history may be; false when decisions read afresh.
func (e *Engine) Lag() (time.Duration, bool) {
	tail := e.tail.Load()
	if tail == nil {
		return 0, false
	}
	lag := tail.Lag()
	return lag, lag <= maxLag
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
	e.remember(facts)
	return outcomes, nil
}
