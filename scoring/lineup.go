package scoring

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"vaglio"
	"vaglio/features"
	"vaglio/models"
	"vaglio/scoring/policy"
	"vaglio/scoring/states"
)

// Lineup is who answers. All may be nil: without a champion every decision is a degraded review.
type Lineup struct {
	Champion   *models.Bundle
	Challenger *models.Bundle // decides for its share of customers
	Share      float64        // of customers, 0 to 1
	Shadow     *models.Bundle // never decides
	Fallback   *models.Bundle // decides instead of the champion while a guard on its scores holds, if the policy says so
}

// String names who answers.
func (l Lineup) String() string {
	var parts []string
	name := func(stage string, b *models.Bundle) {
		if b != nil {
			parts = append(parts, stage+" "+b.Manifest().Version)
		}
	}
	name("champion", l.Champion)
	name(fmt.Sprintf("challenger (%g %% of customers)", l.Share*100), l.Challenger)
	name(stageShadow, l.Shadow)
	name("standing by", l.Fallback)
	return strings.Join(parts, ", ")
}

// Stages of models that do not decide as a rule.
const (
	stageShadow   = string(models.Shadow)
	stageFallback = "fallback"
)

// seat is a model at work: bound to the policy, with the window states that its catalogue needs.
type seat struct {
	stage     string
	bundle    *models.Bundle // nil: rules alone, beside the default catalogue
	catalogue *features.Catalogue
	memory    *states.Cache // nil without a cache
	bound     *policy.Bound

	topics []topic
	usual  []any // by feature
}

// setup is all that decisions are taken with. It changes as a whole; those under way keep theirs.
type setup struct {
	lineup                                 Lineup
	policy                                 *policy.Policy
	champion, challenger, shadow, fallback *seat // only the champion's is always there
}

// seats are all seats that are taken.
func (s *setup) seats() []*seat {
	return slices.DeleteFunc([]*seat{s.champion, s.challenger, s.shadow, s.fallback}, func(s *seat) bool { return s == nil })
}

// decider is the seat that decides for a customer: always the same one, for as long as the share stays.
func (s *setup) decider(customer string) *seat {
	const slots = 10_000
	if s.challenger != nil && float64(xxhash.Sum64String(customer)%slots) < s.lineup.Share*slots {
		return s.challenger
	}
	return s.champion
}

// UseModel makes later decisions use one model alone.
func (e *Engine) UseModel(b *models.Bundle) error { return e.UseModels(Lineup{Champion: b}) }

// UseModels changes who answers from the next decision on. Refused, with everything left as it is, are models that were trained
// on money of another currency than history's, and models without the features that the policy asks for.
func (e *Engine) UseModels(l Lineup) error {
	if l.Share < 0 || l.Share > 1 || l.Share != l.Share {
		return fmt.Errorf("a challenger's share of customers is 0 to 1, not %v", l.Share)
	}
	e.changing.Lock()
	defer e.changing.Unlock()
	return e.arrange(l, e.setup.Load().policy)
}

// UsePolicy changes the policy from the next decision on. One that asks for features that a model in use does not have is refused.
func (e *Engine) UsePolicy(p *policy.Policy) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	return e.arrange(e.setup.Load().lineup, p)
}

// Fits tells whether a lineup could decide by a policy, without changing anything: the error says what of the policy a model
// does not have, or which model history's money does not suit. The warnings are the policy's, and those that the models show.
func (e *Engine) Fits(l Lineup, p *policy.Policy) (warnings []string, err error) {
	warnings = p.Warnings(vaglio.InstantOf(e.now()))
	var failures []error
	for _, c := range []struct {
		stage  string
		bundle *models.Bundle
	}{{string(models.Champion), l.Champion}, {string(models.Challenger), l.Challenger}, {stageShadow, l.Shadow}, {stageFallback, l.Fallback}} {
		if c.bundle == nil && c.stage != string(models.Champion) {
			continue
		}
		s, err := e.bind(c.stage, c.bundle, p)
		if failures = append(failures, err); err == nil {
			warnings = append(warnings, s.bound.Warnings()...)
		}
	}
	seen := map[string]bool{}
	warnings = slices.DeleteFunc(warnings, func(w string) bool {
		again := seen[w]
		seen[w] = true
		return again
	})
	return warnings, errors.Join(failures...)
}

// arrange seats a lineup under a policy. What stays keeps its window states.
func (e *Engine) arrange(l Lineup, p *policy.Policy) error {
	next := &setup{lineup: l, policy: p}
	var failures []error
	take := func(into **seat, stage string, b *models.Bundle) {
		if b == nil && stage != string(models.Champion) {
			return
		}
		s, err := e.seat(next, stage, b, p)
		*into = s
		failures = append(failures, err)
	}
	take(&next.champion, string(models.Champion), l.Champion)
	take(&next.challenger, string(models.Challenger), l.Challenger)
	take(&next.shadow, stageShadow, l.Shadow)
	take(&next.fallback, stageFallback, l.Fallback)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	e.setup.Store(next)
	return nil
}

// bind is a model's seat under a policy, without window states.
func (e *Engine) bind(stage string, b *models.Bundle, p *policy.Policy) (*seat, error) {
	s := &seat{stage: stage, bundle: b, catalogue: features.Default()}
	if b != nil {
		if trained, base := b.Manifest().BaseCurrency, e.history.BaseCurrency(); trained != base {
			return nil, fmt.Errorf("model %s was trained on amounts in %s, history keeps %s", b.Manifest().Version, trained, base)
		}
		s.catalogue = b.Catalogue()
	}
	return s, s.bind(e, p)
}

func (e *Engine) seat(next *setup, stage string, b *models.Bundle, p *policy.Policy) (*seat, error) {
	s, err := e.bind(stage, b, p)
	if err != nil || b == nil || e.cache == 0 {
		return s, err
	}
	others := next.seats()
	if before := e.setup.Load(); before != nil {
		others = append(others, before.seats()...)
	}
	for _, other := range others {
		if other.memory != nil && sameCatalogue(other.catalogue, s.catalogue) {
			s.memory = other.memory
			return s, nil
		}
	}
	s.memory = states.New(states.Options{Catalogue: s.catalogue, Read: e.history.Latest, Bytes: e.cache})
	return s, nil
}

// bind ties the policy to the seat's features. Of the policy that comes with the program, rules about features that a model of
// one's own does not have are left out, and the log says so; another policy has to fit.
func (s *seat) bind(e *Engine, p *policy.Policy) (err error) {
	if s.bundle != nil {
		s.topics, s.usual = topicsOf(s.catalogue.Features()), usualOf(s.catalogue.Features(), s.bundle.Manifest().Population)
	}
	if p != policy.Default() {
		if s.bound, err = p.Bind(s.catalogue); err != nil {
			return fmt.Errorf("policy %s does not fit the %s: %w", p.Version(), s.stage, err)
		}
		return nil
	}
	var dropped []string
	if s.bound, dropped = p.BindLoose(s.catalogue); len(dropped) > 0 {
		e.log.Warn("rules of the default policy ask for features that the model does not have", "stage", s.stage, "rules", dropped)
	}
	return nil
}

func sameCatalogue(a, b *features.Catalogue) bool {
	x, errA := a.YAML()
	y, errB := b.YAML()
	return a == b || errA == nil && errB == nil && bytes.Equal(x, y)
}

// Model is the champion, nil without one.
func (e *Engine) Model() *models.Bundle { return e.setup.Load().lineup.Champion }

// Lineup is who answers now.
func (e *Engine) Lineup() Lineup { return e.setup.Load().lineup }

// Policy is the policy in use.
func (e *Engine) Policy() *policy.Policy { return e.setup.Load().policy }

// memories are the window states in use, each once.
func (e *Engine) memories() []*states.Cache {
	var all []*states.Cache
	for _, s := range e.setup.Load().seats() {
		if s.memory != nil && !slices.Contains(all, s.memory) {
			all = append(all, s.memory)
		}
	}
	return all
}

func (e *Engine) forget() {
	for _, m := range e.memories() {
		m.Forget()
	}
}

// remember brings facts into the memory, which may have them already.
func (e *Engine) remember(facts []vaglio.Fact) {
	for _, m := range e.memories() {
		m.Add(facts)
	}
}

// MemoryStats are those of all window states together.
func (e *Engine) MemoryStats() states.Stats {
	var sum states.Stats
	for _, m := range e.memories() {
		s := m.Stats()
		sum.Hits += s.Hits
		sum.Misses += s.Misses
		sum.Entries += s.Entries
		sum.Bytes += s.Bytes
	}
	return sum
}
