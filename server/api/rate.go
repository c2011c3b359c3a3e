package api

import (
	"sync"
	"time"
)

// How many requests that need no token are taken: a hall of machines may boot
// at once, behind one address.
const (
	perAddress = 64  // at once after a pause
	overall    = 256 // the same, from all addresses
	refill     = 1   // more each second for an address
	refillAll  = 8   // more each second for all together
	atOnce     = 64  // under way; each has its body in memory
	atOnceEach = 16  // of these from one address
	addresses  = 4096
	retryAfter = time.Minute
)

// rate limits requests by address and in all. It remembers a bounded number
// of addresses. The zero value is ready to use.
type rate struct {
	times int // how many times as many requests from all addresses are taken; 0: once

	mu    sync.Mutex
	all   bucket
	known map[string]*bucket
}

// bucket is a token bucket, full at first.
type bucket struct {
	used   float64 // tokens
	at     time.Time
	active int
}

// drain gives back what time has given.
func (b *bucket) drain(now time.Time, perSecond float64) {
	if d := now.Sub(b.at); d > 0 {
		b.used = max(0, b.used-d.Seconds()*perSecond)
		b.at = now
	}
}

// begin tells whether one more request may be served. The caller calls end
// after it.
func (r *rate) begin(address string, now time.Time) (end func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := float64(max(r.times, 1))
	r.all.drain(now, refillAll*times)
	b := r.known[address]
	if b == nil {
		if len(r.known) >= addresses && !r.sweep(now) {
			return nil, false
		}
		if r.known == nil {
			r.known = make(map[string]*bucket)
		}
		b = &bucket{at: now}
		r.known[address] = b
	}
	b.drain(now, refill)
	if b.used+1 > perAddress || b.active >= atOnceEach || r.all.used+1 > overall*times || r.all.active >= atOnce {
		return nil, false
	}
	b.used++
	b.active++
	r.all.used++
	r.all.active++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		b.active--
		r.all.active--
	}, true
}

// sweep forgets addresses that would be as good as new, and tells whether
// there were any.
func (r *rate) sweep(now time.Time) bool {
	before := len(r.known)
	for a, b := range r.known {
		if b.drain(now, refill); b.used == 0 && b.active == 0 {
			delete(r.known, a)
		}
	}
	return len(r.known) < before
}
