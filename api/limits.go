package api

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"vaglio"
	"vaglio/ledger"
)

// maxBuckets bounds the keys whose rate is held at one time. Only keys that opened something have one.
const maxBuckets = 10_000

// limits hold the rate of each key on this replica: a bucket of as many calls as a second allows, at least one, that
// refills steadily. Safe for concurrent use; the zero value knows no limits but those stored with keys.
type limits struct {
	standard float64 // calls a second of keys without a limit of their own; 0: none
	mu       sync.Mutex
	buckets  map[string]bucket
}

// bucket is how many calls a key had left at a moment. Below 0 are those of a batch that took more than were there.
type bucket struct {
	left float64
	at   time.Time
}

// rate is calls a second, 0 without a limit.
func (l *limits) rate(k ledger.Key) float64 {
	if k.RateLimit != 0 {
		return max(k.RateLimit, 0) // below 0: this key has none
	}
	return l.standard
}

// take admits one call of a key, or tells when to come back.
func (l *limits) take(k ledger.Key, now time.Time) error {
	rate := l.rate(k)
	if rate == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.refilled(k.ID, rate, now)
	if b.left < 1 {
		return &problem{kind: RateLimited, detail: "this key has a limit of calls per second", retryAfter: int(math.Ceil((1 - b.left) / rate))}
	}
	b.left--
	l.buckets[k.ID] = b
	return nil
}

// charge takes further calls for one that was admitted; later ones wait for them.
func (l *limits) charge(k ledger.Key, calls int, now time.Time) {
	rate := l.rate(k)
	if rate == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.refilled(k.ID, rate, now)
	b.left -= float64(calls)
	l.buckets[k.ID] = b
}

// refilled is a key's bucket now. A clock that goes back refills nothing.
func (l *limits) refilled(id string, rate float64, now time.Time) bucket {
	full := max(rate, 1)
	b, known := l.buckets[id]
	if !known {
		l.makeRoom(now)
		return bucket{full, now}
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.left, b.at = min(full, b.left+passed.Seconds()*rate), now
	}
	return b
}

// makeRoom forgets keys when there are too many: those not seen for a minute, otherwise any.
func (l *limits) makeRoom(now time.Time) {
	if l.buckets == nil {
		l.buckets = map[string]bucket{}
	}
	if len(l.buckets) < maxBuckets {
		return
	}
	for id, b := range l.buckets {
		if now.Sub(b.at) > time.Minute {
			delete(l.buckets, id)
		}
	}
	for id := range l.buckets {
		if len(l.buckets) < maxBuckets {
			return
		}
		delete(l.buckets, id)
	}
}

// uses remember when keys were last used, until that is written. Safe for concurrent use.
type uses struct {
	mu   sync.Mutex
	last map[string]vaglio.Instant
}

// usePrecision is how exactly the last use of a key is known, and how often it is written at most.
const usePrecision = vaglio.Minute

func (u *uses) note(k ledger.Key, now vaglio.Instant) {
	if now < k.LastUsedAt+usePrecision {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]vaglio.Instant{}
	}
	if len(u.last) < maxBuckets {
		u.last[k.ID] = now
	}
}

func (u *uses) take() map[string]vaglio.Instant {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.last
	u.last = nil
	return last
}

// noteUses writes the last use of keys once a minute until ctx ends, and then once more.
func (s *Server) noteUses(ctx context.Context) {
	tick := time.NewTicker(time.Duration(usePrecision) * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-tick.C:
		}
		last := s.uses.take()
		if len(last) == 0 {
			continue
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := s.ledger.NoteKeyUses(bounded, last); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "the last use of keys is not written", slog.Any("error", err))
		}
		cancel()
	}
}
