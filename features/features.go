// Package features turns what is known of a request's entities into the numbers that a model reads. A catalogue (YAML,
// one row a feature) is compiled once; its window states ([State]) take the facts of one timeline each and are read at
// the moment of a request. Serving, training and replay all run this code on facts in the order in which they became
// known, so their vectors are the same bit for bit. Start with [Catalogue.Vector]; state.go holds the windows,
// expression.go what their `expr` and `where` can read, reasons.go the texts.
package features

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"vaglio"
)

// Limits of a catalogue.
const (
	maxCatalogueBytes = 1 << 20
	maxFeatures       = 1000
	maxCategories     = 1024
	maxFilters        = 64
)

// Feature describes one entry of the vector.
type Feature struct {
	Name        string
	Reason      string   // reason code, "" when the feature gives none
	Categorical bool     // the value is an index of Categories, or -1 for an unknown or absent one
	Categories  []string // in the order of their codes
	Unit        Unit
	Entity      string // "" for expressions and categories
	Window      vaglio.Instant
	Description string
}

// Unit says how a value is shown to people.
type Unit string

// The units of features.
const (
	UnitNumber Unit = "number"
	UnitCount  Unit = "count"
	UnitMoney  Unit = "money" // minor units
	UnitHours  Unit = "hours"
	UnitShare  Unit = "share" // 1 is 100 %
	UnitFlag   Unit = "flag"  // 0 or 1
)

// Catalogue is a compiled feature catalogue. It is immutable and safe for concurrent use.
type Catalogue struct {
	source      document
	features    []Feature
	roles       []role             // the timelines that features read, each once
	layouts     map[string]*layout // by kind of the timeline's entity
	links       []link
	expressions []formula // in an order in which each finds what it reads
	categories  []category
	paths       []string // the request's strings that expressions and categories read
	texts       []func(*vaglio.Fact) string
	reasons     map[string]Texts
	templates   map[string]map[string]template // reviewers' sentences, by code and language
	longer      []int                          // by feature: what CustomerUsual scales, or -1
	sources     [][]source                     // by feature
	general     General
	scratches   sync.Pool
}

type formula struct {
	index int
	eval  number
}

type category struct {
	index int
	path  int
	codes map[uint64]float64
}

//go:embed default.yaml
var defaultYAML []byte

var defaultCatalogue = sync.OnceValue(func() *Catalogue {
	c, err := Parse(defaultYAML)
	if err != nil {
		panic("features: the default catalogue: " + err.Error())
	}
	return c
})

// Default is the embedded catalogue.
func Default() *Catalogue { return defaultCatalogue() }

// DefaultYAML is the text of the embedded catalogue.
func DefaultYAML() []byte { return slices.Clone(defaultYAML) }

// Features lists the entries of the vector in order. The slice is the catalogue's own: read only.
func (c *Catalogue) Features() []Feature { return c.features }

// Names lists the features' names in the order of the vector.
func (c *Catalogue) Names() []string {
	names := make([]string, len(c.features))
	for i := range c.features {
		names[i] = c.features[i].Name
	}
	return names
}

// Timelines lists the entities whose timelines a vector of this request reads, each once.
func (c *Catalogue) Timelines(request *vaglio.Fact) []vaglio.Entity {
	out := make([]vaglio.Entity, 0, len(c.roles)+1) // a payment's, which callers add
	for i := range c.roles {
		if entity, ok := c.roles[i].timeline(request); ok && !slices.Contains(out, entity) {
			out = append(out, entity)
		}
	}
	return out
}

// States finds the window state of an entity; nil is an empty timeline.
type States func(vaglio.Entity) *State

// Vector computes all features of a request at the moment it occurred, from the states of [Catalogue.Timelines] and
// [Catalogue.Neighbours]. They must hold what was known then, and nothing later. dst has len(Features()) entries.
func (c *Catalogue) Vector(dst []float64, request *vaglio.Fact, states States) {
	s := c.scratch(request)
	defer c.scratches.Put(s)
	for i := range c.roles {
		r := &c.roles[i]
		entity, ok := r.timeline(request)
		if !ok {
			r.absent(dst)
			continue
		}
		r.read(dst, s, states(entity))
	}
	if len(c.links) > 0 {
		c.readLinks(dst, s, states)
	}
	c.finish(dst, s)
}

// VectorPart computes the features that read one entity's timeline and leaves the rest of dst alone. A replay that walks
// history entity by entity fills a vector by one call for each of [Catalogue.Timelines] and ends with
// [Catalogue.FinishVector]; the outcome equals [Catalogue.Vector]. Linked features take a second pass in between: see
// [Catalogue.NeighboursPart] and [Catalogue.LinkedPart].
func (c *Catalogue) VectorPart(dst []float64, request *vaglio.Fact, entity vaglio.Entity, state *State) {
	s := c.scratch(request)
	defer c.scratches.Put(s)
	for i := range c.roles {
		if of, ok := c.roles[i].timeline(request); ok && of == entity {
			c.roles[i].read(dst, s, state)
		}
	}
}

// FinishVector sets the features of absent entities, categories and expressions once all parts are there.
func (c *Catalogue) FinishVector(dst []float64, request *vaglio.Fact) {
	s := c.scratch(request)
	defer c.scratches.Put(s)
	for i := range c.roles {
		if _, ok := c.roles[i].timeline(request); !ok {
			c.roles[i].absent(dst)
		}
	}
	c.finish(dst, s)
}

func (c *Catalogue) finish(dst []float64, s *scratch) {
	c.absentLinks(dst, s.request)
	for i := range c.categories {
		dst[c.categories[i].index] = c.categories[i].code(s)
	}
	s.vector = dst
	for i := range c.expressions {
		v := c.expressions[i].eval(s)
		if v != v {
			v = math.NaN() // of one bit pattern on every machine
		}
		dst[c.expressions[i].index] = v
	}
}

func (k *category) code(s *scratch) float64 {
	if code, known := k.codes[s.strings[k.path]]; known {
		return code
	}
	return -1
}

// source is an aggregate of a role, or with role -1 a link, that a feature is made of.
type source struct{ role, place int }

// findSources finds those of all features.
func (c *Catalogue) findSources() {
	c.sources = make([][]source, len(c.features))
	for i := range c.features {
		wanted := c.reads(i)
		for r := range c.roles {
			for place := range c.roles[r].aggregates {
				if wanted[c.roles[r].aggregates[place].index] {
					c.sources[i] = append(c.sources[i], source{r, place})
				}
			}
		}
		for place := range c.links {
			if wanted[c.links[place].index] {
				c.sources[i] = append(c.sources[i], source{-1, place})
			}
		}
	}
}

// reads is the set of features behind one: itself and, for an expression, all it is made of.
func (c *Catalogue) reads(feature int) map[int]bool {
	set := map[int]bool{}
	var visit func(int)
	visit = func(i int) {
		if !set[i] {
			set[i] = true
			for _, name := range c.source.Features[i].reads {
				visit(c.index(name))
			}
		}
	}
	visit(feature)
	return set
}

func (c *Catalogue) index(name string) int {
	return slices.IndexFunc(c.features, func(f Feature) bool { return f.Name == name })
}

// Category names the value of a categorical feature, "" for an unknown one.
func (f *Feature) Category(value float64) string {
	if !f.Categorical || value < 0 || int(value) >= len(f.Categories) {
		return ""
	}
	return f.Categories[int(value)]
}

// scratch is what one computation needs; pooled, so that the steady state allocates nothing.
type scratch struct {
	request *vaglio.Fact
	strings []uint64  // by Catalogue.paths; 0: absent
	vector  []float64 // what expressions read
	row     row       // the event that a `where` looks at
	seen    set

	neighbours, nearest []Neighbour
	latest              latest
}

func (c *Catalogue) scratch(request *vaglio.Fact) *scratch {
	s, _ := c.scratches.Get().(*scratch)
	if s == nil {
		s = &scratch{strings: make([]uint64, len(c.paths))}
	}
	s.request = request
	for i, text := range c.texts {
		s.strings[i] = hash(text(request))
	}
	return s
}

// RequestText reads one of the request's strings by its path ("entities.device", "reason"); "" when it is absent.
func RequestText(path string) func(*vaglio.Fact) string {
	section, name, nested := strings.Cut(path, ".")
	switch {
	case nested && section == "attributes":
		return func(r *vaglio.Fact) string { return r.Attributes.Get(name) }
	case nested:
		return func(r *vaglio.Fact) string { return requestEntity(r, name) }
	case section == "currency":
		return func(r *vaglio.Fact) string { return r.Currency }
	default: // reason, type and the like
		return func(r *vaglio.Fact) string { return r.Attributes.Get(section) }
	}
}

// requestEntity is the id of the request's entity of a kind, "" without one. An absent payout instrument is the source: money goes
// back where it came from.
func requestEntity(r *vaglio.Fact, kind string) string {
	id := r.Entities.Get(kind)
	if id == "" && kind == vaglio.EntityPayoutInstrument {
		return r.Entities.Get(vaglio.EntityInstrument)
	}
	return id
}

// RequestNumber reads one of the request's numbers, NaN when it is unknown; nil if there is none of that name.
func RequestNumber(name string) func(*vaglio.Fact) float64 {
	switch name {
	case "amount": // in minor units of the base currency
		return func(r *vaglio.Fact) float64 {
			if !r.BaseKnown {
				return math.NaN()
			}
			return float64(r.BaseAmount)
		}
	case "hour": // 0..23, UTC
		return func(r *vaglio.Fact) float64 { return float64(r.OccurredAt.Time().Hour()) }
	case "weekday": // 1 Monday .. 7 Sunday, as ISO 8601 counts
		return func(r *vaglio.Fact) float64 { return float64((int(r.OccurredAt.Time().Weekday())+6)%7 + 1) }
	default:
		return nil
	}
}

// role is one way in which features relate a request to a timeline.
type role struct {
	entity     string // as the request names it
	layout     *layout
	aggregates []aggregate
}

// timeline is the entity whose events the role reads, false if the request has none.
func (r *role) timeline(request *vaglio.Fact) (vaglio.Entity, bool) {
	id := requestEntity(request, r.entity)
	return vaglio.Entity{Kind: r.layout.entity, ID: id}, id != ""
}

func (r *role) absent(dst []float64) {
	for i := range r.aggregates {
		dst[r.aggregates[i].index] = math.NaN()
	}
}

func (r *role) read(dst []float64, s *scratch, state *State) {
	if state == nil {
		state = r.layout.empty
	}
	for i := range r.aggregates {
		dst[r.aggregates[i].index] = r.aggregates[i].value(s, state)
	}
}

// timelineKind is the kind of entity whose timeline holds a role's events.
func timelineKind(entity string) string {
	if entity == vaglio.EntityPayoutInstrument {
		return vaglio.EntityInstrument
	}
	return entity
}

// NewState is an empty window state for timelines of this kind of entity; nil if no feature reads such a timeline.
func (c *Catalogue) NewState(entityKind string) *State {
	l := c.layouts[entityKind]
	if l == nil {
		return nil
	}
	return newState(l)
}

// EventKinds lists the kinds of events that features read in timelines of this kind of entity, sorted; nil if they read
// all kinds.
func (c *Catalogue) EventKinds(entityKind string) []string {
	l := c.layouts[entityKind]
	if l == nil || l.identifies {
		return nil
	}
	kinds := make([]string, len(l.kinds))
	for i := range l.kinds {
		kinds[i] = l.kinds[i].name
	}
	slices.Sort(kinds)
	return kinds
}

// Reads reports whether [Catalogue.EventKinds] lists a kind of events.
func (c *Catalogue) Reads(entityKind, kind string) bool {
	l := c.layouts[entityKind]
	return l != nil && !l.identifies && l.kind(kind) >= 0
}

// EntityKinds lists the kinds of timelines that features read, sorted.
func (c *Catalogue) EntityKinds() []string {
	var kinds []string
	for kind := range c.layouts {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

func featureErrorf(line int, feature, format string, args ...any) error {
	return fmt.Errorf("line %d: feature %q: %s", line, feature, fmt.Sprintf(format, args...))
}
