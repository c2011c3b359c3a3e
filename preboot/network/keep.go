package network

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/inetboot/inetboot/internal/dhcp6"
	"github.com/inetboot/inetboot/internal/handoff"
)

// kept is the link in use.
type kept struct {
	port   *port
	config *Config // replaced, never changed
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// Config returns the configuration in use, with the lease as last renewed, or
// nil.
func (n *Network) Config() *Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == nil {
		return nil
	}
	return n.current.config
}

// keep goes on with one link and takes the others down.
func (n *Network) keep(a *attempt, p *port, c *Config, cancel context.CancelFunc) {
	for _, other := range a.order {
		if other == p {
			continue
		}
		other.cancel()
		other.ended.Wait()
		n.mu.Lock()
		delete(n.leases4, other.base.index)
		delete(n.leases6, other.base.index)
		n.mu.Unlock()
		if err := other.base.down(); err != nil {
			n.o.Log(err.Error())
		}
	}
	k := &kept{port: p, config: c, cancel: cancel}
	n.mu.Lock()
	n.current = k
	n.mu.Unlock()
	if v4 := p.v4; v4 != nil && v4.lease != nil {
		k.ended.Go(func() { n.renew4(p.ctx, k, v4) })
	}
	if c.Lease6 != nil {
		k.ended.Go(func() { n.renew6(p.ctx, k, *c.Lease6) })
	}
	k.ended.Go(func() { n.follow(a, k) })
}

// follow adds what comes late: IPv6 beside IPv4, or the other way round. It
// says nothing about it: somebody looks at the menu by now.
func (n *Network) follow(a *attempt, k *kept) {
	p := k.port
	for {
		select {
		case e := <-a.events:
			if e.port != p || !p.take(e) {
				continue
			}
			c := p.config()
			if err := n.configure(p.ctx, p.link, c); err != nil {
				if p.ctx.Err() == nil {
					n.o.Log(err.Error())
				}
				continue
			}
			n.update(k, func(now *Config) {
				// Leases may have been renewed meanwhile.
				if now.Lease != nil {
					c.Lease = now.Lease
				}
				if now.Lease6 != nil {
					c.Lease6 = now.Lease6
				}
				*now = *c
			})
			if e.v4 != nil && e.v4.lease != nil {
				k.ended.Go(func() { n.renew4(p.ctx, k, e.v4) })
			}
			if e.v6 != nil && e.v6.Lease6 != nil {
				k.ended.Go(func() { n.renew6(p.ctx, k, *e.v6.Lease6) })
			}
		case <-p.ctx.Done():
			return
		}
	}
}

// update replaces the configuration in use.
func (n *Network) update(k *kept, change func(*Config)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := *k.config
	change(&c)
	k.config = &c
}

// renew4 keeps a DHCPv4 lease for as long as a person looks at the menu.
func (n *Network) renew4(ctx context.Context, k *kept, h *lease4) {
	for h.config.Lease.Expire < infinite {
		l := h.config.Lease
		if !pause(ctx, h.lease.CreationTime, l.Renew, l.Expire) {
			return
		}
		lease, err := k.port.link.renew(ctx, h.lease)
		if err != nil {
			if ctx.Err() == nil {
				n.o.Log(err.Error())
			}
			continue
		}
		times := leaseTimes(lease.ACK, h.config.Server, k.port.link.clientID(), lease.CreationTime)
		c := *h.config
		c.Lease = times
		lease.ACK = h.lease.ACK // the answer may hold less than the first one
		h = &lease4{lease: lease, config: &c}
		n.remember4(k.port.base, h)
		n.update(k, func(c *Config) { c.Lease = times })
	}
}

// renew6 keeps a DHCPv6 lease likewise.
func (n *Network) renew6(ctx context.Context, k *kept, l handoff.Lease6) {
	client := dhcp6.Client{Link: k.port.link.name, MAC: k.port.link.hw}
	obtained := time.Now() // a moment ago, and monotonic
	for !dhcp6.Infinite(&l) {
		if !pause(ctx, obtained, l.Renew, l.Expire) {
			return
		}
		asked := time.Now()
		next, err := client.Renew(ctx, l, asked.Sub(obtained) > time.Duration(l.Rebind)*time.Second)
		if err != nil {
			if ctx.Err() == nil {
				n.o.Log(err.Error())
			}
			continue
		}
		l, obtained = *next, asked
		n.renewed6(k.port.base, next, asked)
		n.update(k, func(c *Config) { c.Lease6 = next })
	}
}

// pause waits until a lease is to be renewed, but not for nothing. It returns
// false when ctx has ended.
func pause(ctx context.Context, obtained time.Time, renew, expire int64) bool {
	next := obtained.Add(time.Duration(renew) * time.Second)
	wait := max(time.Until(next), time.Duration(max(1, expire/16))*time.Second)
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// remember4 notes a lease for later attempts: in place of an older one of the
// same server.
func (n *Network) remember4(base link, h *lease4) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*lease4
	for _, old := range n.leases4[base.index] {
		if old.config.Server != h.config.Server {
			all = append(all, old)
		}
	}
	n.leases4[base.index] = append(all, h)
}

func (n *Network) remember6(base link, h *lease6) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases6[base.index] = h
}

func (n *Network) renewed6(base link, l *handoff.Lease6, obtained time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.leases6[base.index]; old != nil {
		n.leases6[base.index] = &lease6{lease: l, reply: old.reply, obtained: obtained}
	}
}

// release ends renewing and returns what was in use, or nil; the leases stay
// for the next attempt.
func (n *Network) release() *kept {
	n.mu.Lock()
	k := n.current
	n.current = nil
	n.mu.Unlock()
	if k != nil {
		k.cancel()
		k.ended.Wait()
		k.port.ended.Wait()
	}
	return k
}

// clear takes back what was configured for a link: the next attempt may be told
// something else.
func (k *kept) clear() error {
	if err := k.port.link.flush(k.config.Routes); err != nil {
		return err
	}
	if k.port.link.index == k.port.base.index {
		return nil
	}
	if err := netlink.LinkDel(k.port.link.handle()); err != nil {
		return fmt.Errorf("remove %s: %w", k.port.link.name, err)
	}
	return nil
}
