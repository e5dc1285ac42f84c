package api

import (
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vaglio"
)

// schema is a JSON Schema (draft 2020-12), as much of it as the API needs.
type schema struct {
	Ref                  string              `json:"$ref,omitzero"`
	Description          string              `json:"description,omitzero"`
	Type                 types               `json:"type,omitempty"`
	Format               string              `json:"format,omitzero"`
	Const                any                 `json:"const,omitempty"`
	Enum                 []string            `json:"enum,omitempty"`
	Pattern              string              `json:"pattern,omitzero"`
	MinLength            int                 `json:"minLength,omitzero"`
	MaxLength            int                 `json:"maxLength,omitzero"`
	Minimum              *float64            `json:"minimum,omitzero"`
	Maximum              *float64            `json:"maximum,omitzero"`
	Items                *schema             `json:"items,omitzero"`
	MinItems             int                 `json:"minItems,omitzero"`
	MaxItems             int                 `json:"maxItems,omitzero"`
	Required             []string            `json:"required,omitempty"`
	Properties           members             `json:"properties,omitempty"`
	PropertyNames        *schema             `json:"propertyNames,omitzero"`
	AdditionalProperties any                 `json:"additionalProperties,omitempty"` // false or a schema
	MinProperties        int                 `json:"minProperties,omitzero"`
	MaxProperties        int                 `json:"maxProperties,omitzero"`
	DependentRequired    map[string][]string `json:"dependentRequired,omitempty"`
	OneOf                []*schema           `json:"oneOf,omitempty"`
	AnyOf                []*schema           `json:"anyOf,omitempty"`
	AllOf                []*schema           `json:"allOf,omitempty"`
}

// types are the JSON types of a value; a single one is written without its array.
type types []string

// MarshalJSONTo implements json.MarshalerTo.
func (t types) MarshalJSONTo(enc *jsontext.Encoder) error {
	if len(t) == 1 {
		return enc.WriteToken(jsontext.String(t[0]))
	}
	return json.MarshalEncode(enc, []string(t))
}

// member is one named part of an object of the document.
type member[T any] struct {
	name  string
	value T
}

// ordered is a JSON object that keeps its order.
type ordered[T any] []member[T]

type members = ordered[*schema]

// MarshalJSONTo implements json.MarshalerTo.
func (o ordered[T]) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, m := range o {
		if err := enc.WriteToken(jsontext.String(m.name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(enc, m.value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

func (o ordered[T]) get(name string) (value T, ok bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return value, false
}

// schemas describes Go types as they are on the wire: structs as components, each once, under the names of their types.
type schemas struct {
	components members
	used       map[string]bool // rows of the table of constraints
}

// anyOf and oneOf describe a value of one of several types.
type (
	anyOf []any
	array struct { // of elements of a type, within bounds
		of       any
		min, max int
	}
	oneOf []string // a string of a closed set
)

// of describes the type of a value; wire types of this file may stand for themselves.
func (s *schemas) of(v any) *schema {
	switch v := v.(type) {
	case nil:
		return &schema{}
	case *schema:
		return v
	case anyOf:
		out := &schema{}
		for _, one := range v {
			out.AnyOf = append(out.AnyOf, s.of(one))
		}
		return out
	case array:
		return &schema{Type: types{"array"}, Items: s.of(v.of), MinItems: v.min, MaxItems: v.max}
	case oneOf:
		return &schema{Type: types{"string"}, Enum: v}
	default:
		return s.ofType(reflect.TypeOf(v))
	}
}

// special are the types whose wire form their Go form does not tell.
var special = map[reflect.Type]*schema{
	reflect.TypeFor[vaglio.Instant](): {Type: types{"string"}, Format: "date-time"},
	reflect.TypeFor[vaglio.Fields]():  fieldsSchema,
	reflect.TypeFor[vaglio.Verdict](): {Type: types{"string"}, Enum: []string{string(vaglio.Approve), string(vaglio.Review), string(vaglio.Deny)}},
	reflect.TypeFor[jsontext.Value](): {},
	reflect.TypeFor[any]():            {Type: types{"number", "string", "boolean", "null"}},
}

var marshaler = reflect.TypeFor[json.MarshalerTo]()

// printable admits what the root package admits in ids and values: no control characters.
const printable = "^[^\x00-\x1f\x7f-\u009f]+$"

// printableOrEmpty is for members that mean nothing when they are empty.
const printableOrEmpty = "^[^\x00-\x1f\x7f-\u009f]*$"

var nameSchema = &schema{Pattern: "^[a-z][a-z0-9_]*$", MaxLength: vaglio.MaxNameBytes}

var fieldsSchema = &schema{Type: types{"object"}, MaxProperties: vaglio.MaxFields, PropertyNames: nameSchema,
	AdditionalProperties: &schema{Type: types{"string"}, MinLength: 1, MaxLength: vaglio.MaxValueBytes, Pattern: printable}}

func (s *schemas) ofType(t reflect.Type) *schema {
	if t.Kind() == reflect.Float64 && t.Implements(marshaler) { // models.Number
		return &schema{AnyOf: []*schema{{Type: types{"number"}}, {Type: types{"string"}, Enum: []string{"NaN", "Infinity", "-Infinity"}}}}
	}
	if known := special[t]; known != nil {
		return known
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.ofType(t.Elem())
	case reflect.Slice:
		return &schema{Type: types{"array"}, Items: s.ofType(t.Elem())}
	case reflect.Map:
		return &schema{Type: types{"object"}, AdditionalProperties: s.ofType(t.Elem())}
	case reflect.String:
		return &schema{Type: types{"string"}}
	case reflect.Bool:
		return &schema{Type: types{"boolean"}}
	case reflect.Int, reflect.Int64:
		return &schema{Type: types{"integer"}}
	case reflect.Float64:
		return &schema{Type: types{"number"}}
	case reflect.Struct:
		return s.component(t)
	default:
		panic("api: there is no schema for " + t.String())
	}
}

// component describes a struct under its name and returns the reference to it.
func (s *schemas) component(t reflect.Type) *schema {
	name := componentName(t)
	ref := &schema{Ref: "#/components/schemas/" + name}
	if _, ok := s.components.get(name); ok {
		return ref
	}
	out := &schema{Type: types{"object"}, AdditionalProperties: false, Description: abouts[name]}
	if tied[name] != nil {
		out.DependentRequired = tied[name]
	}
	s.components = append(s.components, member[*schema]{name, out})
	s.fields(t, name, out)
	return ref
}

func componentName(t reflect.Type) string {
	name := strings.TrimSuffix(t.Name(), "Wire")
	return strings.ToUpper(name[:1]) + name[1:]
}

// fields adds a struct's members: those that are always written are required.
func (s *schemas) fields(t reflect.Type, name string, out *schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			s.fields(f.Type, name, out)
			continue
		}
		jsonName, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if jsonName == "" || jsonName == "-" {
			continue
		}
		optional := options == "omitzero" || options == "omitempty"
		one := s.ofType(f.Type)
		if f.Type.Kind() == reflect.Pointer && !optional {
			one = orNull(one)
		}
		if change, ok := constraints()[name+"."+jsonName]; ok {
			s.used[name+"."+jsonName] = true
			one = changed(one, change)
		}
		if !optional {
			out.Required = append(out.Required, jsonName)
		} else if received[name] {
			one = orNull(one)
		}
		out.Properties = append(out.Properties, member[*schema]{jsonName, one})
	}
}

// orNull admits null, which is read as if the member were not there.
func orNull(s *schema) *schema {
	if s.Ref != "" || s.Enum != nil {
		return &schema{Description: s.Description, AnyOf: []*schema{s, {Type: types{"null"}}}}
	}
	out := *s
	out.Type = append(slices.Clone(s.Type), "null")
	return &out
}

// changed is a schema with what a row of the table adds.
func changed(s *schema, add schema) *schema {
	out := *s
	if out.Ref != "" && add.Description != "" { // in 2020-12 a reference may have siblings
		out.Description = add.Description
		return &out
	}
	into, from := reflect.ValueOf(&out).Elem(), reflect.ValueOf(add)
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			into.Field(i).Set(from.Field(i))
		}
	}
	return &out
}
