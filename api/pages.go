package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json"

	"vaglio"
)

// How many entries a page of a list has.
const (
	defaultLimit = 50
	maxLimit     = 500
)

// limitParameter and cursorParameter are those of every list.
var (
	limitParameter = parameter{name: "limit", about: fmt.Sprintf("entries of a page, %d by default", defaultLimit),
		of: &schema{Type: types{"integer"}, Minimum: bound(1), Maximum: bound(maxLimit)}, example: "10"}
	cursorParameter = parameter{name: "cursor", about: "where the page begins: next of the page before, with the same other parameters", of: ""}
)

func bound(v float64) *float64 { return &v }

// pageOf reads limit and cursor of a list whose places are Ts. Without a cursor, from is T's zero value.
func pageOf[T any](x *exchange) (from T, limit int, err error) {
	query := x.QueryParams()
	limit = defaultLimit
	if query.Has(limitParameter.name) {
		if limit, err = strconv.Atoi(query.Get(limitParameter.name)); err != nil || limit < 1 || limit > maxLimit {
			return from, 0, invalidParameter(limitParameter.name, "want a whole number from 1 to %d", maxLimit)
		}
	}
	if !query.Has(cursorParameter.name) {
		return from, limit, nil
	}
	wrong := invalidParameter(cursorParameter.name, "is not the next of a page of this list")
	raw, err := base64.RawURLEncoding.DecodeString(query.Get(cursorParameter.name))
	if err != nil || len(raw) <= listDigest {
		return from, 0, wrong
	}
	if string(raw[:listDigest]) != x.listOf() {
		return from, 0, wrong
	}
	if err := json.Unmarshal(raw[listDigest:], &from, json.RejectUnknownMembers(true)); err != nil {
		return from, 0, wrong
	}
	return from, limit, nil
}

// next is the cursor of the page that follows a place; it also stands in the header Link.
func (x *exchange) next(place any) string {
	raw, err := json.Marshal(place)
	if err != nil {
		panic("api: a place of a list does not encode: " + err.Error())
	}
	cursor := base64.RawURLEncoding.EncodeToString(append([]byte(x.listOf()), raw...))
	query := url.Values{}
	for name, values := range x.QueryParams() {
		query[name] = values
	}
	query.Set(cursorParameter.name, cursor)
	x.Response().Header().Set("Link", "<"+x.Request().URL.EscapedPath()+"?"+query.Encode()+`>; rel="next"`)
	return cursor
}

// listDigest is how many bytes tell one list from another in a cursor.
const listDigest = 8

// listOf identifies the list that is read: its route and parameters, but for those of the page.
func (x *exchange) listOf() string {
	query := url.Values{}
	for name, values := range x.QueryParams() {
		if name != limitParameter.name && name != cursorParameter.name {
			query[name] = values
		}
	}
	digest := sha256.Sum256([]byte(x.route + "?" + query.Encode()))
	return string(digest[:listDigest])
}

// instantParameter reads a moment of the query, 0 without one.
func (x *exchange) instantParameter(name string) (at vaglio.Instant, err error) {
	if query := x.QueryParams(); query.Has(name) {
		if err := at.UnmarshalText([]byte(query.Get(name))); err != nil {
			return 0, invalidParameter(name, "%s", err)
		}
	}
	return at, nil
}
