package dhcp

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"
)

// holder is a machine in a subnet: one that moves has a lease in each.
type holder struct {
	mac    string
	subnet netip.Prefix
}

// network is a subnet with its pools.
type network struct {
	subnet netip.Prefix
	pools  []*pool
	extra  map[netip.Addr]*entry // reserved addresses outside the pools
}

type pool struct {
	Range
	entries   []*entry // by address, nil where nobody has ever been
	fullUntil time.Time
}

// entry is the state of an address.
type entry struct {
	owner    string    // who has the lease, or had it last
	name     string    // that machine's host name
	expires  time.Time // end of the lease, as it is on the disk
	changed  time.Time // when that was written
	offered  string    // to whom
	until    time.Time // end of the offer
	declined time.Time // nobody gets it before
	probed   time.Time
}

const offerTime = 30 * time.Second

// free tells whether mac may have the address.
func (n *entry) free(mac string, now time.Time) bool {
	if n == nil {
		return true
	}
	return !n.declined.After(now) && (n.owner == mac || !n.expires.After(now)) && (n.offered == mac || !n.until.After(now))
}

func (n *entry) freeAt() time.Time {
	t := n.declined
	for _, u := range []time.Time{n.expires, n.until} {
		if u.After(t) {
			t = u
		}
	}
	return t
}

func newNetworks(c Config) ([]*network, error) {
	var list []*network
	total := 0
	for i, r := range c.Ranges {
		if !r.Subnet.IsValid() {
			r.Subnet = c.Subnet.Masked()
		}
		if !r.Subnet.Contains(r.First) || !r.Subnet.Contains(r.Last) {
			return nil, fmt.Errorf("DHCP range %v-%v is not within %v; where a relay asks for another subnet write it as %v-%v/BITS", r.First, r.Last, r.Subnet, r.First, r.Last)
		}
		for _, o := range c.Ranges[:i] {
			if !r.Last.Less(o.First) && !o.Last.Less(r.First) {
				return nil, fmt.Errorf("DHCP ranges %v-%v and %v-%v overlap", o.First, o.Last, r.First, r.Last)
			}
		}
		if total += r.size(); total > MaxAddresses {
			return nil, fmt.Errorf("the DHCP ranges have more than %d addresses together", MaxAddresses)
		}
		r.Options = r.Options.Over(c.Options)
		at := slices.IndexFunc(list, func(n *network) bool { return n.subnet == r.Subnet })
		if at < 0 {
			at, list = len(list), append(list, &network{subnet: r.Subnet, extra: map[netip.Addr]*entry{}})
		}
		list[at].pools = append(list[at].pools, &pool{Range: r, entries: make([]*entry, r.size())})
	}
	// Machines with addresses of their own need no range.
	own := c.Subnet.Masked()
	if !slices.ContainsFunc(list, func(n *network) bool { return n.subnet == own }) {
		list = append(list, &network{subnet: own, extra: map[netip.Addr]*entry{}})
	}
	return list, nil
}

// network returns the subnet that the client is in, nil if it is none of ours.
func (e *Engine) network(r *Request) *network {
	in := e.c.Server
	switch {
	case r.Link.IsValid():
		in = r.Link
	case r.Address.IsValid() && !e.c.Subnet.Contains(r.Address):
		in = r.Address // it renews from behind a router, without its relay
	}
	for _, n := range e.networks {
		if n.subnet.Contains(in) {
			return n
		}
	}
	return nil
}

// at returns the state of an address, and its pool; nil for one that is not of
// a pool.
func (n *network) at(a netip.Addr) (*pool, **entry) {
	for _, p := range n.pools {
		if p.contains(a) {
			return p, &p.entries[number(a)-number(p.First)]
		}
	}
	return nil, nil
}

// entry returns the state of an address, made if make is set.
func (n *network) entry(a netip.Addr, make bool) *entry {
	_, at := n.at(a)
	if at == nil {
		x := n.extra[a]
		if x == nil && make {
			x = &entry{}
			n.extra[a] = x
		}
		return x
	}
	if *at == nil && make {
		*at = &entry{}
	}
	return *at
}

// assignable tells whether the address is one that the client may have here, by
// the configuration alone.
func (e *Engine) assignable(n *network, a netip.Addr, r *Request, h Host) bool {
	if !a.IsValid() || a == e.c.Server || !n.subnet.Contains(a) || slices.Contains(e.options(n, a).Router, a) {
		return false
	}
	if h.Address.IsValid() && n.subnet.Contains(h.Address) {
		return a == h.Address
	}
	p, _ := n.at(a)
	if p == nil || !p.serves(h.Known, r.Kind) || isEdge(n.subnet, a) {
		return false
	}
	owner := e.c.Directory.Owner(a)
	return owner == "" || owner == r.MAC
}

// isEdge tells whether a is the subnet's own or its broadcast address.
func isEdge(s netip.Prefix, a netip.Addr) bool {
	host := number(a) & (1<<(32-s.Bits()) - 1)
	return host == 0 || host == 1<<(32-s.Bits())-1
}

// options returns what a client with the address is told.
func (e *Engine) options(n *network, a netip.Addr) Options {
	if p, _ := n.at(a); p != nil {
		return p.Options
	}
	if len(n.pools) > 0 {
		return n.pools[0].Options
	}
	return e.c.Options
}

// pick chooses an address to offer: the one reserved, the one that the client
// has or had, the one that it asks for, or a free one. skip says which turned
// out to be in use. It returns the zero Addr if there is none.
func (e *Engine) pick(n *network, r *Request, h Host, now time.Time) netip.Addr {
	may := func(a netip.Addr) bool {
		return e.assignable(n, a, r, h) && n.entry(a, false).free(r.MAC, now)
	}
	if h.Address.IsValid() && n.subnet.Contains(h.Address) {
		if may(h.Address) {
			return h.Address
		}
		e.c.Log.Warn("a reserved address is in use by another machine", "mac", r.MAC, "address", h.Address.String())
		h.Address = netip.Addr{} // better another one than none
	}
	if a := e.leased[holder{r.MAC, n.subnet}]; may(a) {
		return a
	}
	if r.Requested.IsValid() && may(r.Requested) && e.mine(r.Requested) {
		return r.Requested
	}
	for _, p := range n.pools {
		if a := e.search(n, p, r, h, now); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// mine tells whether new leases of the address are this server's part.
func (e *Engine) mine(a netip.Addr) bool {
	return int(number(a)%uint32(e.c.Parts)) == e.c.Part
}

// search begins where the machine's address says, so that it gets the same one
// even after its lease is forgotten, and prefers addresses nobody has had.
func (e *Engine) search(n *network, p *pool, r *Request, h Host, now time.Time) netip.Addr {
	if !p.serves(h.Known, r.Kind) || now.Before(p.fullUntil) {
		return netip.Addr{}
	}
	f := fnv.New32a()
	f.Write([]byte(r.MAC))
	start := int(f.Sum32() % uint32(len(p.entries)))
	var best netip.Addr
	var since, soonest time.Time
	for i := range p.entries {
		at := (start + i) % len(p.entries)
		a := address(number(p.First) + uint32(at))
		x := p.entries[at]
		if !e.mine(a) {
			continue
		}
		if !x.free(r.MAC, now) {
			if t := x.freeAt(); soonest.IsZero() || t.Before(soonest) {
				soonest = t
			}
			continue
		}
		if !e.assignable(n, a, r, h) {
			continue
		}
		if x == nil || x.owner == "" {
			return a
		}
		if !best.IsValid() || x.expires.Before(since) {
			best, since = a, x.expires
		}
	}
	if !best.IsValid() {
		// A full pool is not searched for every request of a flood.
		p.fullUntil = now.Add(time.Second)
		if soonest.After(now) && soonest.Before(p.fullUntil) {
			p.fullUntil = soonest
		}
		e.c.Log.Warn("no address is free", "range", fmt.Sprintf("%v-%v", p.First, p.Last), "mac", r.MAC)
	}
	return best
}

// poolFile returns the boot file that the pool of the address is configured with.
func poolFile(n *network, a netip.Addr) string {
	if p, _ := n.at(a); p != nil {
		return p.File
	}
	return ""
}
