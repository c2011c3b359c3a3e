package dhcp

import (
	"context"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	// declineTime is how long an address that a machine declined, or that
	// answered a probe, is left alone.
	declineTime = 10 * time.Minute
	// probeTime is for how long a probe's result holds.
	probeTime = time.Minute
	// maxProbes bounds the probes at once; more clients have to ask again.
	maxProbes = 1024
	// maxTries bounds the addresses that are probed for one request.
	maxTries = 8
	// spareLease is what a known machine gets while leases cannot be written. A
	// server that starts again has forgotten it, but finds the address in use when
	// it probes it.
	spareLease = 2 * time.Minute
	// otherServer stands for a machine that has its lease from another server.
	otherServer = "another server's"
)

func (e *Engine) full(ctx context.Context, r *Request, h Host, send func([]byte)) {
	n := e.network(r)
	if n == nil {
		e.c.Log.Debug("a request from a subnet without addresses", "mac", r.MAC, "link", r.Link.String())
		return
	}
	switch r.Type {
	case dhcpv4.MessageTypeDiscover:
		e.discover(ctx, n, r, h, send)
	case dhcpv4.MessageTypeRequest:
		e.request(ctx, n, r, h, send)
	case dhcpv4.MessageTypeRelease:
		e.release(n, r)
	case dhcpv4.MessageTypeDecline:
		e.decline(n, r)
	case dhcpv4.MessageTypeInform:
		if !r.Address.IsValid() {
			return
		}
		p := answer(r, dhcpv4.MessageTypeAck, e.c.Server)
		p.ClientIPAddr = r.Packet.ClientIPAddr
		setNetwork(p, r, e.options(n, r.Address), n.subnet)
		setBoot(p, r, e.file(r, h, poolFile(n, r.Address)), e.c.Server, false)
		send(encode(p, r))
	}
}

func (e *Engine) discover(ctx context.Context, n *network, r *Request, h Host, send func([]byte)) {
	e.mu.Lock()
	a, probe := e.hold(n, r, h)
	e.mu.Unlock()
	if !a.IsValid() {
		return
	}
	if !probe {
		e.offer(n, r, h, a, send)
		return
	}
	select {
	case e.probes <- struct{}{}:
	default:
		return // the client asks again
	}
	e.work.Go(func() {
		defer func() { <-e.probes }()
		for range maxTries {
			used := e.c.Probe(ctx, a, r.MAC)
			if ctx.Err() != nil {
				return
			}
			e.mu.Lock()
			x := n.entry(a, true)
			x.probed = e.c.Now()
			if used {
				e.c.Log.Warn("an address is in use by a machine that has no lease of it", "address", a.String())
				e.block(x)
				a, probe = e.hold(n, r, h)
			}
			e.mu.Unlock()
			if !used || a.IsValid() && !probe {
				e.offer(n, r, h, a, send)
				return
			}
			if !a.IsValid() {
				return
			}
		}
	})
}

// hold picks an address and holds it for the client; probe says that nobody
// has looked yet whether it is in use.
func (e *Engine) hold(n *network, r *Request, h Host) (a netip.Addr, probe bool) {
	now := e.c.Now()
	if a = e.pick(n, r, h, now); !a.IsValid() {
		return a, false
	}
	x := n.entry(a, true)
	x.offered, x.until = r.MAC, now.Add(offerTime)
	own := x.owner == r.MAC && x.expires.After(now)
	return a, e.c.Probe != nil && !own && now.Sub(x.probed) > probeTime
}

// block keeps everybody from an address for a while.
func (e *Engine) block(x *entry) {
	x.declined = e.c.Now().Add(declineTime)
	x.offered, x.until = "", time.Time{}
}

func (e *Engine) offer(n *network, r *Request, h Host, a netip.Addr, send func([]byte)) {
	p := e.lease(n, r, h, a, dhcpv4.MessageTypeOffer, e.options(n, a).Lease)
	e.c.Log.Debug("offered an address", "mac", r.MAC, "address", a.String(), "firmware", r.Kind.String())
	send(encode(p, r))
}

// lease makes an offer or acknowledgment.
func (e *Engine) lease(n *network, r *Request, h Host, a netip.Addr, t dhcpv4.MessageType, d time.Duration) *dhcpv4.DHCPv4 {
	p := answer(r, t, e.c.Server)
	p.YourIPAddr = a.AsSlice()
	if t == dhcpv4.MessageTypeAck {
		p.ClientIPAddr = r.Packet.ClientIPAddr
	}
	setNetwork(p, r, e.options(n, a), n.subnet)
	if h.Name != "" {
		p.Options[dhcpv4.OptionHostName.Code()] = []byte(h.Name)
	}
	setLease(p, d)
	setBoot(p, r, e.file(r, h, poolFile(n, a)), e.c.Server, false)
	return p
}

// request gives or extends a lease (RFC 2131, 4.3.2).
func (e *Engine) request(ctx context.Context, n *network, r *Request, h Host, send func([]byte)) {
	a, selecting := r.Requested, r.ServerID.IsValid()
	if !a.IsValid() {
		a = r.Address
	}
	if !a.IsValid() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.Now()
	if selecting && r.ServerID != e.c.Server {
		// It chose another server; what was held for it is free again.
		if _, at := n.at(a); at != nil && *at != nil && (*at).offered == r.MAC {
			(*at).offered, (*at).until = "", time.Time{}
		}
		for _, p := range n.pools {
			p.fullUntil = time.Time{}
		}
		e.unhold(n, r.MAC)
		return
	}
	x := n.entry(a, false)
	holds := x != nil && x.owner == r.MAC && !x.declined.After(now)
	held := x != nil && x.offered == r.MAC && x.until.After(now)
	ok := e.assignable(n, a, r, h) && x.free(r.MAC, now)
	if !selecting && !holds && h.Address != a {
		// It says that it has a lease, which this server does not know. Another
		// server may, so only machines that are listed here are told what is wrong
		// (G2: authoritative for these).
		if e.c.Store.Shared() {
			e.recall(ctx, n, r, h, a, send)
			return
		}
		if h.Known && !(ok && e.c.Parts > 1) {
			e.nak(r, "an address that it has no lease of", a, send)
		}
		return
	}
	if !ok || selecting && !holds && !held && h.Address != a && !e.mine(a) {
		if selecting || h.Known || holds {
			e.nak(r, "an address that it cannot have", a, send)
		}
		return
	}
	e.grant(n, r, h, a, send)
}

// unhold ends the offer to a machine, wherever it is.
func (e *Engine) unhold(n *network, mac string) {
	for _, p := range n.pools {
		if len(p.entries) > 4096 {
			continue // it ends by itself in half a minute
		}
		for _, x := range p.entries {
			if x != nil && x.offered == mac {
				x.offered, x.until = "", time.Time{}
			}
		}
	}
}

func (e *Engine) nak(r *Request, why string, a netip.Addr, send func([]byte)) {
	e.tell("refused "+why, "mac", r.MAC, "address", a.String())
	p := answer(r, dhcpv4.MessageTypeNak, e.c.Server)
	if r.Relay.IsValid() {
		p.SetBroadcast() // RFC 2131, 4.3.2: the client has no address that reaches it
	}
	send(encode(p, r))
}

// grant has the lease written, and acknowledges it when it is on the disk. The
// caller holds e.mu.
func (e *Engine) grant(n *network, r *Request, h Host, a netip.Addr, send func([]byte)) {
	now := e.c.Now()
	d := e.options(n, a).Lease
	x := n.entry(a, true)
	x.offered, x.until = r.MAC, now.Add(offerTime)
	l := Lease{Address: a, MAC: r.MAC, Name: r.HostName, Expires: now.Add(d), Changed: now}
	if h.Name != "" {
		l.Name = h.Name
	}
	ack := func(d time.Duration) {
		p := e.lease(n, r, h, a, dhcpv4.MessageTypeAck, d)
		e.tell("gave a lease", "mac", r.MAC, "address", a.String(), "for", d.String())
		send(encode(p, r))
	}
	e.writes.put(l, func(w written) {
		e.mu.Lock()
		switch w {
		case stored:
			e.remember(n, l)
			e.mu.Unlock()
			ack(d)
			return
		case taken:
			// Until it is known whose it is.
			x.offered, x.until = otherServer, e.c.Now().Add(offerTime)
			e.mu.Unlock()
			e.nak(r, "an address that another server has given away", a, send)
			return
		}
		// What is on the disk may be said again, and an address that nobody else can
		// get needs no disk.
		left := x.expires.Sub(now)
		own := x.owner == r.MAC
		if !own {
			left = 0
		}
		if h.Known {
			left = max(left, spareLease)
		}
		if h.Address == a {
			left = d
		}
		if left < minLease {
			e.mu.Unlock()
			e.c.Log.Warn("no lease: it cannot be written, and the machine is not known", "mac", r.MAC, "address", a.String())
			return
		}
		left = min(left, d)
		x.until = now.Add(left + offerTime)
		e.mu.Unlock()
		e.c.Log.Warn("answered from memory: leases cannot be written", "mac", r.MAC, "address", a.String(), "for", left.String())
		ack(left)
	})
}

// remember takes a lease that is on the disk into memory.
func (e *Engine) remember(n *network, l Lease) {
	x := n.entry(l.Address, true)
	if x.owner != "" && x.owner != l.MAC {
		delete(e.leased, holder{x.owner, n.subnet})
	}
	x.owner, x.name, x.expires, x.changed = l.MAC, l.Name, l.Expires, l.Changed
	if x.offered == l.MAC || l.Expires.After(e.c.Now()) {
		x.offered, x.until = "", time.Time{} // what was offered to another one would not be written
	}
	key := holder{l.MAC, n.subnet}
	if old, ok := e.leased[key]; ok && old != l.Address {
		if o := n.entry(old, false); o != nil && o.owner == l.MAC && o.expires.After(l.Expires) {
			return // an older lease of it, read back
		}
	}
	e.leased[key] = l.Address
}

// release ends a lease early.
func (e *Engine) release(n *network, r *Request) {
	if r.ServerID.IsValid() && r.ServerID != e.c.Server || !r.Address.IsValid() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.Now()
	x := n.entry(r.Address, false)
	if x == nil || x.owner != r.MAC {
		return
	}
	x.expires = now
	for _, p := range n.pools {
		p.fullUntil = time.Time{}
	}
	e.c.Log.Debug("a lease was released", "mac", r.MAC, "address", r.Address.String())
	e.writes.put(Lease{Address: r.Address, MAC: r.MAC, Name: x.name, Expires: now, Changed: now}, nil)
}

// decline takes an address out of use that a machine found in use.
func (e *Engine) decline(n *network, r *Request) {
	if r.ServerID != e.c.Server {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.Now()
	x := n.entry(r.Requested, false)
	// Only what it was given: nobody can take the pool out of use.
	if x == nil || !(x.owner == r.MAC && x.expires.After(now)) && !(x.offered == r.MAC && x.until.After(now)) {
		return
	}
	e.c.Log.Warn("an address was declined: another machine uses it", "mac", r.MAC, "address", r.Requested.String())
	e.block(x)
	if x.owner == r.MAC {
		x.expires = now
		e.writes.put(Lease{Address: r.Requested, MAC: r.MAC, Expires: now, Changed: now}, nil)
	}
}
