// Package states keeps the window states of entities in memory, so that most decisions read no database: [Cache.View] hands
// out the states of a request's entities, reading cold ones through one shared query at a time ([Options.Read]), and
// [Cache.Add] brings what has happened since. A cached answer equals a fresh one once Add has had every fact.
package states

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"vaglio"
	"vaglio/features"
)

// Read visits the timelines of entities, each at most once, with all that is known of them by now, also what counts only later.
// The visitor keeps nothing of the facts. Entities without facts may be left out.
type Read func(ctx context.Context, entities []vaglio.Entity, visit func(vaglio.Entity, []vaglio.Fact)) error

// Options of a cache.
type Options struct {
	Catalogue *features.Catalogue
	Read      Read
	Bytes     int64 // about what the states may take
}

// Cache holds states by entity. Its methods may be called from any number of goroutines.
type Cache struct {
	catalogue *features.Catalogue
	loader    loader
	limit     int64 // bytes of a shard
	shards    [shardCount]shard
	hits      atomic.Int64
	misses    atomic.Int64
}

const shardCount = 64

// shard is an independent part of the cache, so that no lock is shared by all requests.
type shard struct {
	mu      sync.Mutex
	entries map[vaglio.Entity]*entry
	clock   []*entry // entries in the order of the eviction's hand
	hand    int
	bytes   int64
}

// entry is one entity's timeline. It is in the cache before its facts are read, so that nothing that comes in meanwhile
// is missed.
type entry struct {
	entity    vaglio.Entity
	shard     *shard
	used      atomic.Bool // since the hand passed
	accounted int64       // bytes by which the shard's total counts it; under the shard's lock
	loaded    chan struct{}

	mu        sync.Mutex
	err       error
	ready     bool
	meanwhile []vaglio.Fact   // that came in while the facts were being read
	state     *features.State // nil when no feature reads such a timeline
	facts     []vaglio.Fact   // of payments only: exposure and completion need them whole
	newest    vaglio.Instant  // when the last of the facts became known
}

// New makes an empty cache.
func New(o Options) *Cache {
	c := &Cache{catalogue: o.Catalogue, limit: max(1, o.Bytes/shardCount)}
	c.loader = loader{read: o.Read, running: make(chan struct{}, maxQueries)}
	for i := range c.shards {
		c.shards[i].entries = map[vaglio.Entity]*entry{}
	}
	return c
}

// Stats are totals since the cache was made, and its present size.
type Stats struct{ Hits, Misses, Entries, Bytes int64 }

// Stats reads the counters.
func (c *Cache) Stats() Stats {
	s := Stats{Hits: c.hits.Load(), Misses: c.misses.Load()}
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		s.Entries += int64(len(sh.entries))
		s.Bytes += sh.bytes
		sh.mu.Unlock()
	}
	return s
}

func (c *Cache) shardOf(e vaglio.Entity) *shard {
	return &c.shards[(xxhash.Sum64String(e.ID)^uint64(len(e.Kind)))%shardCount]
}

// View is what was known of some entities at a moment. It does not change.
type View struct{ timelines []Timeline }

// Timeline is what was known of one entity.
type Timeline struct {
	Entity vaglio.Entity
	State  *features.State // nil when no feature reads such a timeline
	Facts  []vaglio.Fact   // of payments only, in no order; shared: read only
}

// ErrAhead says that a state holds what is not known yet at the moment asked for: read that moment afresh.
var ErrAhead = errors.New("a state is ahead of the moment")

// View returns what is known of entities as of a moment that is now, together with facts that may be on their way to
// history: their keeper must have been asked for them before. It fails with the context's error or that of reading, and
// with [ErrAhead].
func (c *Cache) View(ctx context.Context, entities []vaglio.Entity, at vaglio.Instant, waiting []vaglio.Fact) (View, error) {
	entries := make([]*entry, len(entities))
	var cold []*entry
	for i, e := range entities {
		var isNew bool
		if entries[i], isNew = c.shardOf(e).entry(e); isNew {
			cold = append(cold, entries[i])
		}
	}
	c.hits.Add(int64(len(entities) - len(cold)))
	c.misses.Add(int64(len(cold)))
	if len(cold) > 0 {
		c.loader.load(c, cold)
	}
	v := View{make([]Timeline, len(entities))}
	for i, en := range entries {
		select {
		case <-en.loaded:
		case <-ctx.Done():
			return View{}, ctx.Err()
		}
		for j := range waiting {
			if waiting[j].Enters(en.entity) {
				c.add(en, &waiting[j])
			}
		}
		var err error
		if v.timelines[i], err = en.timeline(at); err != nil {
			return View{}, err
		}
	}
	return v, nil
}

func (en *entry) timeline(at vaglio.Instant) (Timeline, error) {
	en.mu.Lock()
	defer en.mu.Unlock()
	switch {
	case en.err != nil:
		return Timeline{}, en.err
	case en.newest > at:
		return Timeline{}, ErrAhead
	case en.state == nil:
		return Timeline{Entity: en.entity, Facts: en.facts}, nil
	default:
		return Timeline{en.entity, en.state.Snapshot(), en.facts}, nil
	}
}

// Timelines are in the order in which they were asked for.
func (v View) Timelines() []Timeline { return v.timelines }

// Add brings new facts to the states that are in memory or on their way. A fact may come more than once.
func (c *Cache) Add(facts []vaglio.Fact) {
	for i := range facts {
		for _, e := range facts[i].Timelines() {
			if en := c.shardOf(e).find(e); en != nil {
				c.add(en, &facts[i])
			}
		}
	}
}

func (c *Cache) add(en *entry, f *vaglio.Fact) {
	if size, grown := en.add(f); grown {
		en.shard.account(en, size, c.limit)
	}
}

// Forget empties the cache. Readings under way finish for those who wait, and are not kept.
func (c *Cache) Forget() {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		sh.entries, sh.clock, sh.hand, sh.bytes = map[vaglio.Entity]*entry{}, nil, 0, 0
		sh.mu.Unlock()
	}
}

// add returns the size in bytes, unless the fact was there.
func (en *entry) add(f *vaglio.Fact) (size int64, grown bool) {
	en.mu.Lock()
	defer en.mu.Unlock()
	if !en.ready {
		en.meanwhile = append(en.meanwhile, *f)
	} else if !en.take(f) {
		return 0, false
	}
	return en.size(), true
}

// take needs the entry's lock, and is false when the fact was there or no feature reads its kind. Views keep what they have:
// states are copied on writing, slices of facts only grow.
func (en *entry) take(f *vaglio.Fact) (grown bool) {
	if en.state != nil {
		grown = en.state.Add(f)
	}
	if en.entity.Kind == vaglio.EntityPayment && !en.has(f.ID) {
		en.facts, grown = append(en.facts, *f), true
	}
	en.newest = max(en.newest, f.KnownAt)
	return grown
}

func (en *entry) has(id string) bool {
	for i := range en.facts {
		if en.facts[i].ID == id {
			return true
		}
	}
	return false
}

const (
	entryBytes = 256  // an entry with its places in map and clock
	factBytes  = 1024 // with eight entities, a few attributes, and room to grow
)

// size needs the entry's lock.
func (en *entry) size() int64 {
	size := int64(entryBytes + (len(en.facts)+len(en.meanwhile))*factBytes)
	if en.state != nil {
		size += int64(en.state.Bytes())
	}
	return size
}

// fill takes what was read, and keeps nothing of its memory. Only the goroutine that reads calls it, before the entry is ready.
func (en *entry) fill(state *features.State, facts []vaglio.Fact) {
	en.mu.Lock()
	defer en.mu.Unlock()
	en.state = state
	for i := range facts {
		f := &facts[i]
		if en.entity.Kind == vaglio.EntityPayment {
			own := f.Clone()
			f = &own
		}
		en.take(f)
	}
}

// end ends a reading: with what came in meanwhile, or with its error.
func (en *entry) end(c *features.Catalogue, err error) (size int64) {
	en.mu.Lock()
	defer en.mu.Unlock()
	if en.state == nil {
		en.state = c.NewState(en.entity.Kind)
	}
	en.err, en.ready = err, true
	for i := range en.meanwhile {
		en.take(&en.meanwhile[i])
	}
	en.meanwhile = nil
	close(en.loaded)
	return en.size()
}

func (sh *shard) find(e vaglio.Entity) *entry {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.entries[e]
}

// entry finds an entity's entry or makes one that its caller must fill.
func (sh *shard) entry(e vaglio.Entity) (en *entry, isNew bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if en = sh.entries[e]; en != nil {
		en.used.Store(true)
		return en, false
	}
	en = &entry{entity: e, shard: sh, loaded: make(chan struct{})}
	sh.entries[e] = en
	sh.clock = append(sh.clock, en)
	return en, true
}

// account brings the shard's total up to an entry's size, and drops what was not used lately until the rest fits (the clock
// algorithm).
func (sh *shard) account(en *entry, size, limit int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.entries[en.entity] == en { // neither evicted nor forgotten
		sh.bytes += size - en.accounted
		en.accounted = size
	}
	for steps := 2 * len(sh.clock); sh.bytes > limit && steps > 0 && len(sh.clock) > 0; steps-- {
		sh.hand %= len(sh.clock)
		if en := sh.clock[sh.hand]; en.used.Swap(false) || !en.isLoaded() {
			sh.hand++
		} else {
			sh.drop(en, sh.hand)
		}
	}
}

// drop needs the shard's lock; place is the entry's in the clock.
func (sh *shard) drop(en *entry, place int) {
	delete(sh.entries, en.entity)
	last := len(sh.clock) - 1
	sh.clock[place], sh.clock[last] = sh.clock[last], nil
	sh.clock = sh.clock[:last]
	sh.bytes -= en.accounted
}

func (en *entry) isLoaded() bool {
	select {
	case <-en.loaded:
		return true
	default:
		return false
	}
}

// remove takes an entry that could not be read out again, so that the next request tries anew.
func (sh *shard) remove(en *entry) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.entries[en.entity] == en {
		sh.drop(en, slices.Index(sh.clock, en))
	}
}
