package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"vaglio"
	"vaglio/ledger"
)

// newList is a list that is to be made.
type newList struct {
	Name   string `json:"name"`
	Hashed bool   `json:"hashed,omitzero"`
}

type listsWire struct {
	Lists []ledger.List `json:"lists"`
}

// entriesPage is a page of what is on a list.
type entriesPage struct {
	Entries []ledger.ListEntry `json:"entries"`
	Next    string             `json:"next,omitzero"`
}

type addedWire struct {
	Added int `json:"added"`
}

type removedWire struct {
	Removed int `json:"removed"`
}

// name is a part of the path that is a name or an id; what can't be one is not found.
func (x *exchange) name(part string) (string, error) {
	value, err := x.param(part)
	if err == nil && strings.ContainsFunc(value, unicode.IsControl) {
		err = problemf(NotFound, "nothing has this name")
	}
	return value, err
}

// read reads the body into a T, strictly.
func read[T any](x *exchange) (told T, err error) {
	body, err := x.body()
	if err != nil {
		return told, err
	}
	if told, err = vaglio.Decode[T](body); err != nil {
		err = errors.Join(wellFormed(body), err)
	}
	return told, err
}

// lists shows all lists, without what is on them.
func (s *Server) lists(x *exchange) error {
	all, err := s.ledger.Lists(x.Request().Context())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, &listsWire{append([]ledger.List{}, all...)})
}

// createList makes a list. One that is there already, of the same kind, is answered as it is.
func (s *Server) createList(x *exchange) error {
	told, err := read[newList](x)
	if err != nil {
		return err
	}
	list, err := s.ledger.CreateList(x.Request().Context(), told.Name, told.Hashed, x.key.ID)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, &list)
}

// listPlace is where a page of a list's entries goes on.
type listPlace struct {
	List  string `json:"l"`
	After int64  `json:"a"`
}

// entries shows what is on a list, page by page, or whether a value is on it.
func (s *Server) entries(x *exchange) error {
	name, err := x.name("list")
	if err != nil {
		return err
	}
	value := x.QueryParams().Get("value")
	if x.QueryParams().Has("value") && (value == "" || len(value) > vaglio.MaxValueBytes) {
		return invalidParameter("value", "want 1 to %d bytes", vaglio.MaxValueBytes)
	}
	place, limit, err := pageOf[listPlace](x)
	if err != nil {
		return err
	}
	if place.List != "" && place.List != name {
		return invalidParameter(cursorParameter.name, "is of another list")
	}
	all, err := s.ledger.ListEntries(x.Request().Context(), name, value, vaglio.InstantOf(s.now()), place.After, limit+1)
	if err != nil {
		return err
	}
	page := entriesPage{Entries: append([]ledger.ListEntry{}, all[:min(limit, len(all))]...)}
	if len(all) > limit {
		page.Next = x.next(listPlace{name, page.Entries[limit-1].ID})
	}
	return x.json(http.StatusOK, &page)
}

// addEntries puts values on a list.
func (s *Server) addEntries(x *exchange) error {
	name, err := x.name("list")
	if err != nil {
		return err
	}
	values, err := read[[]ledger.ListValue](x)
	if err != nil {
		return err
	}
	if err := s.ledger.AddToList(x.Request().Context(), name, values, x.key.ID); err != nil {
		return err
	}
	s.takeUp(x.Request().Context())
	return x.json(http.StatusOK, &addedWire{len(values)})
}

// removeEntries takes values off a list: those of the body, or the one of the query.
func (s *Server) removeEntries(x *exchange) error {
	name, err := x.name("list")
	if err != nil {
		return err
	}
	query := x.QueryParams()
	values := []string{query.Get("value")}
	switch sent := x.Request().ContentLength != 0; {
	case sent && query.Has("value"):
		return invalidParameter("value", "stands in the query or in the body, not in both")
	case sent:
		if values, err = read[[]string](x); err != nil {
			return err
		}
		if err := checkValues(values); err != nil {
			return err
		}
	case values[0] == "" || len(values[0]) > vaglio.MaxValueBytes:
		return invalidParameter("value", "want 1 to %d bytes, or an array of values in the body", vaglio.MaxValueBytes)
	}
	removed, err := s.ledger.RemoveFromList(x.Request().Context(), name, values, x.key.ID)
	if err != nil {
		return err
	}
	s.takeUp(x.Request().Context())
	return x.json(http.StatusOK, &removedWire{removed})
}

// checkValues refuses values that no list can hold.
func checkValues(values []string) error {
	var bad vaglio.Invalid
	for i, v := range values {
		if v == "" || len(v) > vaglio.MaxValueBytes {
			bad = append(bad, vaglio.FieldError{Pointer: fmt.Sprintf("/%d", i), Detail: fmt.Sprintf("want 1 to %d bytes", vaglio.MaxValueBytes)})
		}
		if len(bad) > maxFaults {
			break
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}
