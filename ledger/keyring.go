package ledger

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

const (
	keyHeldFor  = time.Second // what another process does to a key counts here after so long at most
	maxHeldKeys = 4096
)

// keyring holds keys in memory after they were looked up, for a second: a key opens many calls. What this process changes
// counts at once. The zero value is ready.
type keyring struct {
	mu      sync.RWMutex
	changes int // so many there were
	byHash  map[[sha256.Size]byte]heldKey
}

type heldKey struct {
	Key
	until time.Time
}

// find is also told the number of changes, which hold wants to know.
func (r *keyring) find(hash [sha256.Size]byte) (k Key, found bool, changes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	held, found := r.byHash[hash]
	return held.Key, found && time.Now().Before(held.until), r.changes
}

// hold keeps a key that was looked up after so many changes, unless there was another since.
func (r *keyring) hold(hash [sha256.Size]byte, k Key, changes int) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes != changes {
		return
	}
	if len(r.byHash) >= maxHeldKeys {
		maps.DeleteFunc(r.byHash, func(_ [sha256.Size]byte, held heldKey) bool { return !now.Before(held.until) })
	}
	if r.byHash == nil {
		r.byHash = map[[sha256.Size]byte]heldKey{}
	}
	if len(r.byHash) < maxHeldKeys {
		r.byHash[hash] = heldKey{k, now.Add(keyHeldFor)}
	}
}

// changed lets go of all: one of them is not what it was.
func (r *keyring) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	clear(r.byHash)
}
