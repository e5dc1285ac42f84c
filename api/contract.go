package api

import (
	"context"

	"vaglio"
)

// Engine decides; package scoring has it.
type Engine interface {
	Decide(ctx context.Context, r *vaglio.Request, o ScoreOptions) (Answer, error)
	Decision(ctx context.Context, id string) ([]byte, error)
	Explanation(ctx context.Context, id string) (any, error)
	Ready(ctx context.Context) error
	Store(ctx context.Context, events []vaglio.Event) ([]StoreResult, error)
}

type ScoreOptions struct {
	DryRun   bool
	AsOf     vaglio.Instant
	Language string
}

type Answer struct {
	Body     []byte
	Repeated bool
}

type StoreResult struct{ Status string }

const (
	statusStored   = "stored"
	statusRepeated = "repeated"
	statusConflict = "conflict"
)
