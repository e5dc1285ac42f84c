package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

var (
	//go:embed docs.html
	docsHTML string
	//go:embed docs.css
	docsCSS string
)

// docsPolicy lets a browser apply the page's own style sheet, and nothing else.
var docsPolicy = func() string {
	digest := sha256.Sum256([]byte(docsCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// page is what the template shows.
type page struct {
	Version    string
	CSS        template.CSS
	Groups     []pageGroup
	Components []pageComponent
	Problems   []pageProblem
}

type pageGroup struct {
	Title  string
	Routes []pageRoute
}

type pageRoute struct {
	Name, Method, Path, Summary, About, Curl string
	Scopes                                   []string
	Parameters                               []pageField
	Bodies                                   []pageBody
	Answer                                   pageBody
	Problems                                 []pageProblem
}

type pageField struct {
	Name, In, About string
	Type            template.HTML
	Required        bool
}

type pageBody struct {
	MediaType string
	Type      template.HTML
	Example   string
}

type pageComponent struct {
	Name, About string
	Fields      []pageField
}

type pageProblem struct {
	Status int
	Kind   Kind
	Title  string
}

// docsPage is the description as a page, made from the same document as /openapi.json.
var docsPage = sync.OnceValue(func() []byte {
	d, _ := spec()
	s := &schemas{used: map[string]bool{}}
	p := page{Version: vaglio.Version, CSS: template.CSS(docsCSS)} //nolint:gosec // ours, embedded
	for i := range routes {
		r := &routes[i]
		title := groupOf(r.path)
		if n := len(p.Groups); n == 0 || p.Groups[n-1].Title != title {
			p.Groups = append(p.Groups, pageGroup{Title: title})
		}
		g := &p.Groups[len(p.Groups)-1]
		g.Routes = append(g.Routes, s.pageRoute(r))
	}
	for _, c := range d.Components.Schemas {
		one := pageComponent{Name: c.name, About: c.value.Description}
		for _, m := range c.value.Properties {
			one.Fields = append(one.Fields, pageField{Name: m.name, About: m.value.Description, Type: typeHTMLOf(m.value),
				Required: slices.Contains(c.value.Required, m.name)})
		}
		p.Components = append(p.Components, one)
	}
	for kind := range Problems {
		p.Problems = append(p.Problems, pageProblem{Problems[kind].Status, kind, Problems[kind].Title})
	}
	slices.SortFunc(p.Problems, func(a, b pageProblem) int { return byStatus(a.Kind, b.Kind) })
	var out bytes.Buffer
	if err := template.Must(template.New("docs").Parse(docsHTML)).Execute(&out, &p); err != nil {
		panic("api: the page does not render: " + err.Error())
	}
	return out.Bytes()
})

// groupOf is the heading under which a path stands: the first part below /v1.
func groupOf(path string) string {
	rest, versioned := strings.CutPrefix(path, "/v1/")
	if !versioned {
		return "Operations"
	}
	first, _, _ := strings.Cut(rest, "/")
	return strings.ToUpper(first[:1]) + first[1:]
}

func (s *schemas) pageRoute(r *route) pageRoute {
	out := pageRoute{Name: r.name, Method: r.method, Path: r.template(), Summary: r.summary, About: r.about, Scopes: r.scopes,
		Curl: r.curl("http://127.0.0.1:8080")}
	for _, name := range r.pathParameters() {
		out.Parameters = append(out.Parameters, pageField{Name: name, In: "path", Type: "string", Required: true})
	}
	for _, p := range r.query {
		out.Parameters = append(out.Parameters, pageField{Name: p.name, In: "query", About: p.about, Type: typeHTMLOf(s.of(p.of))})
	}
	for _, p := range r.headers {
		out.Parameters = append(out.Parameters, pageField{Name: p.name, In: "header", About: p.about, Type: typeHTMLOf(s.of(p.of))})
	}
	for _, b := range r.bodies {
		body := pageBody{MediaType: b.mediaType, Example: b.example}
		switch {
		case b.lines != nil:
			body.Type = "one " + typeHTMLOf(s.of(b.lines)) + " a line"
		case b.mediaType == typeJSON:
			body.Type, body.Example = typeHTMLOf(s.of(b.of)), indented(b.example)
		default:
			body.Type = typeHTMLOf(s.of(b.of))
		}
		out.Bodies = append(out.Bodies, body)
	}
	out.Answer = pageBody{MediaType: r.answer.mediaType, Type: typeHTMLOf(s.of(r.answer.of)), Example: r.answer.example}
	for _, kind := range r.kinds() {
		out.Problems = append(out.Problems, pageProblem{Problems[kind].Status, kind, Problems[kind].Title})
	}
	return out
}

func indented(example string) string {
	v := jsontext.Value(example)
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		panic("api: an example is no JSON: " + err.Error())
	}
	return v.String()
}

// shownChoices is how many values of a closed set the page spells out.
const shownChoices = 16

// typeHTMLOf is a schema in words, with links to the components that it refers to.
func typeHTMLOf(s *schema) template.HTML {
	var all []*schema
	switch {
	case s.Ref != "":
		name := template.HTMLEscapeString(s.Ref[strings.LastIndexByte(s.Ref, '/')+1:])
		return template.HTML(fmt.Sprintf(`<a href="#type-%s">%s</a>`, name, name)) //nolint:gosec // escaped
	case len(s.AnyOf) > 0:
		all = s.AnyOf
	case len(s.OneOf) > 0:
		all = s.OneOf
	}
	if len(all) > 0 {
		parts := make([]string, len(all))
		for i, one := range all {
			parts[i] = string(typeHTMLOf(one))
		}
		return template.HTML(strings.Join(parts, " or ")) //nolint:gosec // of escaped parts
	}
	if s.Items != nil {
		text := "array of " + typeHTMLOf(s.Items)
		if s.MaxItems > 0 {
			text += template.HTML(fmt.Sprintf(", up to %d", s.MaxItems)) //nolint:gosec // a number
		}
		return text
	}
	if n := len(s.Enum); n > 0 && n <= shownChoices {
		return "<code>" + template.HTML(strings.Join(escaped(s.Enum), "</code> <code>")) + "</code>" //nolint:gosec // escaped
	}
	text := strings.Join(s.Type, " or ")
	switch {
	case s.Format != "":
		text = s.Format
	case s.AdditionalProperties != nil && s.AdditionalProperties != false:
		text = fmt.Sprintf("object of strings, up to %d", s.MaxProperties)
	case s.MaxLength > 0:
		text += fmt.Sprintf(", %d to %d long", s.MinLength, s.MaxLength)
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(", %.0f to %.0f", *s.Minimum, *s.Maximum)
	}
	return template.HTML(template.HTMLEscapeString(text)) //nolint:gosec // escaped
}

func escaped(all []string) []string {
	out := make([]string, len(all))
	for i, one := range all {
		out[i] = template.HTMLEscapeString(one)
	}
	return out
}

// docs answers the page.
func (s *Server) docs(x *exchange) error {
	return x.Blob(http.StatusOK, typeHTML+"; charset=utf-8", s.page())
}
