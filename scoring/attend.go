package scoring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"vaglio"
	"vaglio/scoring/policy"
)

// attendEvery is how often the engine looks at what people and other replicas changed.
const attendEvery = time.Second

// Attend keeps the engine in step with the ledger until ctx ends: lists, the policy that was published, the guards, and how
// busy reviewers are. What can't be had stays as it was; the log tells once.
func (e *Engine) Attend(ctx context.Context) {
	tick := time.NewTicker(attendEvery)
	defer tick.Stop()
	trouble := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			e.log.Error("the engine can't keep in step with the ledger", "error", err)
		case err == nil && trouble != "":
			trouble = ""
			e.log.Info("the engine is in step with the ledger again")
		}
	}
}

// Refresh is one look: see [Engine.Attend]. Call it before the first decision, and after a change that counts at once.
func (e *Engine) Refresh(ctx context.Context) error {
	e.refreshing.Lock()
	defer e.refreshing.Unlock()
	return errors.Join(e.lists.Refresh(ctx, e.ledger), e.takePublished(ctx), e.guard.Sync(ctx, &e.Policy().Guards), e.measureQueue(ctx),
		e.dropForgotten(ctx))
}

// dropForgotten empties the memory once a customer was forgotten everywhere: what is read again has his new name.
func (e *Engine) dropForgotten(ctx context.Context) error {
	n, err := e.ledger.Forgettings(ctx, e.forgettings)
	if n != e.forgettings {
		e.forget()
		e.forgettings = n
	}
	return err
}

// takePublished takes the published policy up, unless the engine was given one of its own.
func (e *Engine) takePublished(ctx context.Context) error {
	if e.pinned {
		return nil
	}
	version, err := e.ledger.CurrentPolicy(ctx)
	if err != nil || version == "" || version == e.Policy().Version() {
		return err
	}
	text, err := e.ledger.Policy(ctx, version)
	if err != nil {
		return err
	}
	p, err := policy.Parse(text.Source)
	if err == nil && p.Version() != version {
		err = fmt.Errorf("it reads as version %s", p.Version())
	}
	if err == nil {
		err = e.UsePolicy(p)
	}
	if err != nil {
		return fmt.Errorf("take up the published policy %s: %w", version, err)
	}
	e.log.Info("policy changed", "version", version)
	return nil
}

// measureQueue asks how many requests wait for a reviewer, if the policy wants to know.
func (e *Engine) measureQueue(ctx context.Context) error {
	load := math.NaN()
	switch capacity := e.Policy().Capacity; {
	case capacity.OpenCases > 0:
		open, err := e.ledger.OpenReviews(ctx)
		if err != nil {
			return err
		}
		load = float64(open) / float64(capacity.OpenCases)
	case capacity.PerHour > 0:
		load = float64(e.guard.Reviews(vaglio.InstantOf(e.now()))) / capacity.PerHour
	}
	e.queueLoad.Store(math.Float64bits(load))
	return nil
}
