package dhcp

import (
	"context"
	"net/netip"
	"time"
)

const (
	followPeriod  = 2 * time.Second
	followOverlap = 30 * time.Second // how far the clocks of two servers may differ
)

// Load reads the leases that there are.
func (e *Engine) Load(ctx context.Context) error {
	if e.c.Store == nil {
		return nil
	}
	return e.c.Store.Load(ctx, time.Time{}, e.learn)
}

// learn takes a lease from the store into memory.
func (e *Engine) learn(l Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		if !n.subnet.Contains(l.Address) {
			continue
		}
		if x := n.entry(l.Address, false); x != nil && l.Changed.Before(x.changed) {
			return // read before this server wrote it
		}
		// What lies outside the pools is kept only while it is a lease.
		if p, _ := n.at(l.Address); p == nil && !l.Expires.After(e.c.Now()) {
			return
		}
		e.remember(n, l)
		return
	}
}

// follow reads what other servers write, where they share the store.
func (e *Engine) follow(ctx context.Context) {
	if !e.c.Store.Shared() {
		return
	}
	tick := time.NewTicker(followPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c, cancel := context.WithTimeout(ctx, writeTimeout)
		err := e.c.Store.Load(c, e.c.Now().Add(-followOverlap), e.learn)
		cancel()
		if err != nil && ctx.Err() == nil {
			e.c.Log.Warn("the leases of other servers cannot be read", "error", err)
		}
	}
}

// recall looks for a lease that another server may have given. The caller
// holds e.mu.
func (e *Engine) recall(ctx context.Context, n *network, r *Request, h Host, a netip.Addr, send func([]byte)) {
	select {
	case e.probes <- struct{}{}:
	default:
		return
	}
	e.work.Go(func() {
		defer func() { <-e.probes }()
		c, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		l, err := e.c.Store.Get(c, a)
		if err != nil {
			e.c.Log.Warn("a lease of another server cannot be read", "mac", r.MAC, "address", a.String(), "error", err)
			return
		}
		if l.MAC == r.MAC {
			e.learn(l)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		switch {
		case l.MAC == r.MAC && e.assignable(n, a, r, h) && n.entry(a, false).free(r.MAC, e.c.Now()):
			e.grant(n, r, h, a, send)
		case h.Known:
			e.nak(r, "an address that it has no lease of", a, send)
		}
	})
}
