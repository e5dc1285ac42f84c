package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
	"vaglio/scoring"
)

// Limits of a batch.
const (
	maxBatch        = 1000
	batchConcurrent = 64 // of a batch at one time: enough for the ledger to commit them in groups
)

// batchEntry is what became of one request of a batch.
type batchEntry struct {
	Status   int            `json:"status"`
	Replayed bool           `json:"replayed,omitzero"`
	Decision jsontext.Value `json:"decision,omitzero"`
	Problem  jsontext.Value `json:"problem,omitzero"`
}

// scoreBatch decides an array of requests, each as if it had come alone.
func (s *Server) scoreBatch(x *exchange) error {
	o, err := s.decideOptions(x)
	if err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	requests, err := elements(body, maxBatch)
	if err != nil {
		return err
	}
	s.limits.charge(x.key, len(requests)-1, s.now())
	entries := make([]batchEntry, len(requests))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(batchConcurrent, len(requests)) {
		workers.Go(func() {
			for i := range next {
				entries[i] = s.batchEntry(x, requests[i], o)
			}
		})
	}
	for i := range requests {
		next <- i
	}
	close(next)
	workers.Wait()
	if err := x.Request().Context().Err(); errors.Is(err, context.Canceled) {
		return err // nobody is left to read it
	}
	return x.json(http.StatusOK, entries)
}

// elements cuts an array into its elements. They need not be valid in themselves, only delimited.
func elements(body []byte, most int) ([]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != '[' {
		if err := wellFormed(body); err != nil {
			return nil, err
		}
		return nil, invalidFields(InvalidRequest, faults(vaglio.Invalid{{Detail: "want an array of requests"}}, 0, ""))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	var all []jsontext.Value
	for dec.PeekKind() != ']' {
		raw, err := dec.ReadValue()
		if err != nil {
			return nil, malformed(err)
		}
		if len(all) == most {
			return nil, problemf(BodyTooLarge, "at most %d requests", most)
		}
		all = append(all, raw.Clone())
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	if len(all) == 0 {
		return nil, problemf(EmptyBody, "want at least one request")
	}
	return all, atEnd(dec)
}

// batchEntry decides one request of a batch. A panic of ours stays with its request.
func (s *Server) batchEntry(x *exchange, raw []byte, o scoring.DecideOptions) (entry batchEntry) {
	ctx := x.Request().Context()
	var answer scoring.Answer
	err := s.recovered(func() (err error) {
		answer, err = s.decide(ctx, raw, nil, o)
		return err
	})
	if err != nil {
		p := problemOf(err)
		if !errors.Is(err, context.Canceled) {
			s.report(ctx, x, p, err)
		}
		return batchEntry{Status: Problems[p.kind].Status, Problem: p.encode(x.id)}
	}
	s.metrics.decision(answer, o.DryRun)
	return batchEntry{Status: http.StatusOK, Decision: answer.Body, Replayed: answer.Repeated}
}
