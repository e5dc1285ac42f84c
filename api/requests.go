package api

import (
	"net/http"

	"vaglio"
	"vaglio/ledger"
)

// executionReport is what a payment provider did, as it is told.
type executionReport struct {
	State     string         `json:"state"`
	Reference string         `json:"reference,omitzero"`
	Amount    int64          `json:"amount,omitzero"`
	Reason    string         `json:"reason,omitzero"`
	At        vaglio.Instant `json:"at,omitzero"`
}

// cancellation withdraws a request.
type cancellation struct {
	Reason string `json:"reason,omitzero"`
}

// requestState shows what has become of a request.
func (s *Server) requestState(x *exchange) error {
	id, err := x.param("id")
	if err != nil {
		return err
	}
	return x.state(s.ledger.Request(x.Request().Context(), id))
}

// execution records what the payment provider says of an approved refund. The same again changes nothing.
func (s *Server) execution(x *exchange) error {
	id, told, err := change[executionReport](x)
	if err != nil {
		return err
	}
	return x.state(s.ledger.Execute(x.Request().Context(), id, ledger.Execution{State: told.State, Reference: told.Reference, Amount: told.Amount,
		Reason: told.Reason, At: told.At, Actor: x.key.ID}))
}

// cancel withdraws a request.
func (s *Server) cancel(x *exchange) error {
	id, told, err := change[cancellation](x)
	if err != nil {
		return err
	}
	return x.state(s.ledger.Cancel(x.Request().Context(), id, told.Reason, x.key.ID))
}

// change reads what is told of the request in the path.
func change[T any](x *exchange) (id string, told T, err error) {
	if id, err = x.param("id"); err != nil {
		return id, told, err
	}
	if err := sameKey(x.Request().Header.Values(idempotencyKey.name), id); err != nil {
		return id, told, err
	}
	told, err = read[T](x)
	return id, told, err
}

// state answers a request's state.
func (x *exchange) state(r ledger.RequestState, err error) error {
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, &r)
}
