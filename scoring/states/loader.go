package states

import (
	"context"
	"sync"
	"time"

	"vaglio"
)

// A cold reading waits for nobody while no query runs. While one runs, the entities asked for gather and go into the next
// together, at most maxPerQuery of them: under load one query serves many requests. They get a query beside it when they are
// enough for one, or when it takes longer than patience.
const (
	maxQueries   = 2
	maxPerQuery  = 256
	patience     = 50 * time.Millisecond
	queryTimeout = 10 * time.Second
)

// loader gathers cold entries into queries.
type loader struct {
	read    Read
	running chan struct{} // one token a query

	mu      sync.Mutex
	waiting []*entry
}

// load has the entries filled, sooner or later, by a goroutine of its own or one that is running.
func (l *loader) load(c *Cache, cold []*entry) {
	l.mu.Lock()
	l.waiting = append(l.waiting, cold...)
	n := len(l.waiting)
	l.mu.Unlock()
	if n < maxPerQuery && len(l.running) > 0 { // who runs takes them, at the latest before giving back the token
		time.AfterFunc(patience, func() { l.start(c) })
		return
	}
	l.start(c)
}

// start lets one more goroutine run, if there is work and a token.
func (l *loader) start(c *Cache) {
	if l.idle() {
		return
	}
	select {
	case l.running <- struct{}{}:
		go l.run(c)
	default: // those who run take them
	}
}

func (l *loader) run(c *Cache) {
	for {
		batch := l.next()
		if len(batch) == 0 {
			<-l.running
			// Someone may have come between the look and the giving back of the token.
			if l.idle() {
				return
			}
			select {
			case l.running <- struct{}{}:
				continue
			default:
				return
			}
		}
		l.fill(c, batch)
	}
}

func (l *loader) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0
}

func (l *loader) next() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), maxPerQuery)
	batch := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	return batch
}

// fill reads for all who wait: the context is the loader's own, since a requester that gives up must not fail the others.
func (l *loader) fill(c *Cache, batch []*entry) {
	entities := make([]vaglio.Entity, len(batch))
	waiting := make(map[vaglio.Entity][]*entry, len(batch)) // several of one entity, if the cache was emptied meanwhile
	for i, en := range batch {
		entities[i] = en.entity
		waiting[en.entity] = append(waiting[en.entity], en)
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	err := l.read(ctx, entities, func(entity vaglio.Entity, facts []vaglio.Fact) {
		for _, en := range waiting[entity] {
			en.fill(c.catalogue.NewState(entity.Kind), facts)
		}
	})
	for _, en := range batch {
		size := en.end(c.catalogue, err)
		if err != nil {
			en.shard.remove(en)
			continue
		}
		en.shard.account(en, size, c.limit)
	}
}
