package simulate

import (
	"strconv"
)

// Ids carry nothing to learn from: a number of owner and sequence, scrambled. All begin with, or have after the kind's
// prefix, "sim_" and the tag of the config, which marks the history as synthetic and keeps two simulations apart.
type ids struct {
	tag string // "sim_k2qd4_"
	net uint64
	key uint64
}

const (
	ownerBits    = 24
	sequenceBits = 16
	idBits       = ownerBits + sequenceBits
	idMask       = 1<<idBits - 1
	// sharedOwner is the first owner that is no customer: rings, households, merchants, ….
	sharedOwner = 1 << (ownerBits - 1)
)

const base32 = "abcdefghijkmnpqrstuvwxyz23456789"

func newIDs(fingerprint uint64) ids {
	n := ids{net: mix64(fingerprint) & 0xffff, key: mix64(fingerprint+1) & idMask}
	b := append([]byte(nil), "sim_"...)
	for x, i := mix64(fingerprint+2), 0; i < 6; i++ {
		b = append(b, base32[x&31])
		x >>= 5
	}
	n.tag = string(append(b, '_'))
	return n
}

// scramble is a bijection of 40 bits: odd multiplications and xors with a right shift of at least half the width.
func (n ids) scramble(owner, sequence int) uint64 {
	x := (uint64(owner)<<sequenceBits | uint64(sequence)&(1<<sequenceBits-1)) ^ n.key
	x = x * 0x9e3779b97f4a7c15 & idMask
	x ^= x >> 20
	x = x * 0xd6e8feb86659fd93 & idMask
	return x ^ x>>20
}

// id is prefix, tag and the scrambled number, unique by prefix, owner (< 2^24) and sequence (< 2^16).
func (n ids) id(prefix string, owner, sequence int) string {
	b := make([]byte, 0, 32)
	b = append(b, prefix...)
	b = append(b, n.tag...)
	for x, i := n.scramble(owner, sequence), 0; i < idBits/5; i++ {
		b = append(b, base32[x&31])
		x >>= 5
	}
	return string(b)
}

// ip is an address in IPv6's documentation prefix (RFC 3849), so that it is nobody's.
func (n ids) ip(owner, sequence int) string {
	x := n.scramble(owner, sequence)
	b := append(make([]byte, 0, 36), "2001:db8:"...)
	b = strconv.AppendUint(b, n.net, 16)
	for shift := 32; shift >= 0; shift -= 16 {
		b = append(b, ':')
		b = strconv.AppendUint(b, x>>shift&0xffff, 16)
	}
	b = append(b, "::1"...)
	return string(b)
}

// instrument is an id whose prefix fits the rail.
func (n ids) instrument(rail string, owner, sequence int) string {
	switch rail {
	case "card":
		return n.id("card_", owner, sequence)
	case "wallet":
		return n.id("wallet_", owner, sequence)
	default:
		return n.id("iban_", owner, sequence)
	}
}
