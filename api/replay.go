package api

import "net/http"

// replay takes a stored decision again, from its inputs and from history as it was known then.
func (s *Server) replay(x *exchange) error {
	id, err := x.name("id")
	if err != nil {
		return err
	}
	again, err := s.engine.Replay(x.Request().Context(), id)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, &again)
}
