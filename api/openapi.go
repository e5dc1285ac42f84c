package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
	"vaglio/scoring/policy"
)

// The document's parts, as OpenAPI 3.1 names them.
type (
	document struct {
		OpenAPI    string                       `json:"openapi"`
		Info       documentInfo                 `json:"info"`
		Servers    []map[string]string          `json:"servers"`
		Security   []map[string][]string        `json:"security"`
		Paths      ordered[ordered[*operation]] `json:"paths"`
		Components components                   `json:"components"`
	}
	documentInfo struct {
		Title       string            `json:"title"`
		Version     string            `json:"version"`
		Description string            `json:"description"`
		License     map[string]string `json:"license"`
	}
	components struct {
		Schemas         members                   `json:"schemas"`
		Headers         ordered[*header]          `json:"headers"`
		SecuritySchemes map[string]securityScheme `json:"securitySchemes"`
	}
	securityScheme struct {
		Type        string `json:"type"`
		Scheme      string `json:"scheme"`
		Description string `json:"description"`
	}
	operation struct {
		ID          string                 `json:"operationId"`
		Summary     string                 `json:"summary"`
		Description string                 `json:"description,omitzero"`
		Security    *[]map[string][]string `json:"security,omitzero"`
		Parameters  []documentParameter    `json:"parameters,omitempty"`
		RequestBody *requestBody           `json:"requestBody,omitzero"`
		Responses   ordered[*response]     `json:"responses"`
	}
	documentParameter struct {
		Name        string  `json:"name"`
		In          string  `json:"in"`
		Description string  `json:"description"`
		Required    bool    `json:"required,omitzero"`
		Schema      *schema `json:"schema"`
		Example     string  `json:"example,omitzero"`
	}
	requestBody struct {
		Required bool             `json:"required"`
		Content  ordered[content] `json:"content"`
	}
	content struct {
		Schema  *schema        `json:"schema,omitzero"`
		Example jsontext.Value `json:"example,omitzero"`
	}
	response struct {
		Description string           `json:"description"`
		Headers     ordered[*header] `json:"headers,omitempty"`
		Content     ordered[content] `json:"content"`
	}
	header struct {
		Ref         string  `json:"$ref,omitzero"`
		Description string  `json:"description,omitzero"`
		Schema      *schema `json:"schema,omitzero"`
	}
)

// spec is the description of the API, made from the route table and the Go types, with its JSON.
var spec = sync.OnceValues(func() (*document, []byte) {
	s := &schemas{used: map[string]bool{}}
	s.of(problemWire{})
	d := &document{OpenAPI: "3.1.0",
		Info: documentInfo{Title: "Vaglio", Version: vaglio.Version, License: map[string]string{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			Description: "Decides refund and cancellation requests on instant payments: approve, review or deny, with exact reasons. Times are RFC 3339, " +
				"kept in UTC to the millisecond; amounts are whole minor units of an ISO 4217 currency. What a route does not know is refused, never ignored."},
		Servers:  []map[string]string{{"url": "/"}},
		Security: []map[string][]string{{"key": {}}},
	}
	for i := range routes {
		r := &routes[i]
		at := slices.IndexFunc(d.Paths, func(m member[ordered[*operation]]) bool { return m.name == r.template() })
		if at < 0 {
			at = len(d.Paths)
			d.Paths = append(d.Paths, member[ordered[*operation]]{name: r.template()})
		}
		d.Paths[at].value = append(d.Paths[at].value, member[*operation]{strings.ToLower(r.method), s.operation(r)})
	}
	for row := range constraints() {
		if !s.used[row] {
			panic("api: the table of constraints names " + row + ", which does not exist")
		}
	}
	slices.SortFunc(s.components, func(a, b member[*schema]) int { return cmp.Compare(a.name, b.name) })
	d.Components = components{Schemas: s.components, Headers: answerHeaders, SecuritySchemes: map[string]securityScheme{
		"key": {Type: "http", Scheme: "bearer", Description: "A key of `vaglio keys create`. It has scopes; admin includes all others."}}}
	body, err := json.Marshal(d, json.Deterministic(true))
	if err != nil {
		panic("api: the description does not encode: " + err.Error())
	}
	return d, body
})

// answerHeaders are the headers of answers that clients may act on.
var answerHeaders = ordered[*header]{
	{"X-Request-Id", &header{Description: "the id of this exchange, as in the log", Schema: &schema{Type: types{"string"}}}},
	{"Retry-After", &header{Description: "seconds after which to try again", Schema: &schema{Type: types{"string"}, Pattern: "^[0-9]+$"}}},
	{"WWW-Authenticate", &header{Description: "what is wrong with the key", Schema: &schema{Type: types{"string"}}}},
	{"Idempotent-Replayed", &header{Description: "true: answered before, these are the same bytes",
		Schema: &schema{Type: types{"string"}, Enum: []string{"true"}}}},
	{"Link", &header{Description: `the next page, with rel="next"`, Schema: &schema{Type: types{"string"}}}},
}

func headersOf(names ...string) ordered[*header] {
	var out ordered[*header]
	for _, name := range append([]string{"X-Request-Id"}, names...) {
		out = append(out, member[*header]{name, &header{Ref: "#/components/headers/" + name}})
	}
	return out
}

func (s *schemas) operation(r *route) *operation {
	o := &operation{ID: r.name, Summary: r.summary, Description: r.about}
	if r.scopes == nil {
		o.Security = &[]map[string][]string{}
	} else {
		o.Description = strings.TrimSpace(o.Description + " Scope: " + strings.Join(r.scopes, " or ") + ".")
	}
	for _, name := range r.pathParameters() {
		o.Parameters = append(o.Parameters, documentParameter{Name: name, In: "path", Description: "the id", Required: true,
			Schema: &schema{Type: types{"string"}, MinLength: 1}, Example: examplePath[name]})
	}
	for _, p := range r.query {
		o.Parameters = append(o.Parameters, documentParameter{Name: p.name, In: "query", Description: p.about, Required: p.required, Schema: s.of(p.of)})
	}
	for _, p := range r.headers {
		o.Parameters = append(o.Parameters, documentParameter{Name: p.name, In: "header", Description: p.about, Schema: s.of(p.of)})
	}
	for _, b := range r.bodies {
		if o.RequestBody == nil {
			o.RequestBody = &requestBody{Required: !r.bodyOptional}
		}
		c := content{Schema: s.of(b.of), Example: jsontext.Value(b.example)}
		if b.mediaType != typeJSON {
			example, err := json.Marshal(b.example)
			if err != nil {
				panic("api: an example does not encode: " + err.Error())
			}
			c.Example = example
		}
		if b.lines != nil {
			s.of(b.lines)
			c.Schema = &schema{Type: types{"string"}, Description: "one JSON value a line, each as the entries of the JSON body"}
		}
		o.RequestBody.Content = append(o.RequestBody.Content, member[content]{b.mediaType, c})
	}
	ok := &response{Description: "OK", Headers: headersOf(r.answerHeaders...), Content: ordered[content]{{r.answer.mediaType, content{Schema: s.of(r.answer.of)}}}}
	o.Responses = ordered[*response]{{"200", ok}}
	return s.refusals(o, r)
}

// refusals adds the problems of a route, a response for each status.
func (s *schemas) refusals(o *operation, r *route) *operation {
	byStatus := map[int][]Kind{}
	var statuses []int
	for _, kind := range r.kinds() {
		status := Problems[kind].Status
		if byStatus[status] == nil {
			statuses = append(statuses, status)
		}
		byStatus[status] = append(byStatus[status], kind)
	}
	for _, status := range statuses {
		var uris, titles []string
		for _, kind := range byStatus[status] {
			uris, titles = append(uris, kind.uri()), append(titles, Problems[kind].Title)
		}
		headers := headersOf()
		switch status {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			headers = headersOf("Retry-After")
		case http.StatusUnauthorized, http.StatusForbidden:
			headers = headersOf("WWW-Authenticate")
		}
		of := &schema{AllOf: []*schema{s.of(problemWire{}), {Properties: members{{"type", &schema{Enum: uris}},
			{"status", &schema{Const: status}}}}}}
		o.Responses = append(o.Responses, member[*response]{strconv.Itoa(status),
			&response{Description: strings.Join(titles, "; "), Headers: headers, Content: ordered[content]{{typeProblem, content{Schema: of}}}}})
	}
	return o
}

// examplePath are examples of the parts of paths that vary.
var examplePath = map[string]string{"id": "rr_1", "version": policy.Default().Version(), "publication": "3", "list": "confirmed_fraud",
	"model": "refund-2", "guard": "guard_1"}

// openAPI answers the description.
func (s *Server) openAPI(x *exchange) error {
	_, body := s.spec()
	return x.Blob(http.StatusOK, typeJSON, body)
}

// curl is a command that sends the route's first example.
func (r *route) curl(address string) string {
	path := r.template()
	for _, name := range r.pathParameters() {
		path = strings.Replace(path, "{"+name+"}", examplePath[name], 1)
	}
	for _, p := range r.query {
		if p.required {
			path += "?" + p.name + "=" + p.example
		}
	}
	command := fmt.Sprintf("curl %s%s", address, path)
	if r.method != http.MethodGet && (r.method != http.MethodPost || len(r.bodies) == 0) {
		command += " -X " + r.method
	}
	if r.scopes != nil {
		command += ` -H "Authorization: Bearer $KEY"`
	}
	if len(r.bodies) > 0 {
		b := r.bodies[0]
		command += fmt.Sprintf(" -H 'Content-Type: %s' -d '%s'", b.mediaType, b.example)
	}
	return command
}
