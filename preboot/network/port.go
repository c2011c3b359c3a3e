package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/inetboot/inetboot/internal/dhcp6"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
)

// lease4 is a DHCPv4 lease or, without lease, a static configuration.
type lease4 struct {
	lease  *nclient4.Lease
	config *Config
}

func (h *lease4) expired(now time.Time) bool {
	return now.After(h.lease.CreationTime.Add(time.Duration(h.config.Lease.Expire) * time.Second))
}

// lease6 is a DHCPv6 lease with what the server said beside it.
type lease6 struct {
	lease    *handoff.Lease6
	reply    *dhcpv6.Message
	obtained time.Time // monotonic, whatever is done to the clock
}

func (h *lease6) expired(now time.Time) bool {
	return now.After(h.obtained.Add(time.Duration(h.lease.Expire) * time.Second))
}

// port is a link in one attempt to connect. Two parts of it are at work at
// the same time, one for each family, and tell what they find by events.
type port struct {
	n      *Network
	setup  netconf.Setup
	base   link // the adapter
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
	old4   []*lease4 // of earlier attempts
	old6   *lease6

	more      chan struct{} // asks for a lease of another server
	leased    chan struct{} // closed by passes: packets are known to pass, as there is a lease
	passes    func()
	first     chan struct{} // closed when IPv4 has a lease or gave up
	addressed func()        // marks the moment
	others    atomic.Bool   // more than one DHCPv4 server has made an offer

	// Set before the first event.
	link   link  // what has the addresses: base, or a VLAN on it
	noIPv6 error // why there is no IPv6

	// For the goroutine that reads events.
	open     int  // parts at work
	idle4    bool // the IPv4 part waits for more
	v4       *lease4
	v6       *Config
	failures []error
}

func newPort(ctx context.Context, n *Network, base link) *port {
	p := &port{n: n, setup: n.setup, base: base, more: make(chan struct{}, 1), leased: make(chan struct{}), first: make(chan struct{}), open: 2}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.passes = sync.OnceFunc(func() { close(p.leased) })
	p.addressed = sync.OnceFunc(func() { n.o.Mark("dhcp") })
	return p
}

// fail notes what went wrong, once.
func (p *port) fail(err error) {
	if !slices.ContainsFunc(p.failures, func(e error) bool { return e.Error() == err.Error() }) {
		p.failures = append(p.failures, err)
	}
}

// event is what a part of a port has found.
type event struct {
	port   *port
	v4     *lease4
	v6     *Config
	say    string // for people
	err    error
	closed int  // parts that are done
	more   bool // the IPv4 part waits to be asked for another lease
}

// headStart is how long IPv6 waits for the lease of IPv4 where both are to be
// had.
const headStart = 2 * time.Second

// ErrNoAddress is wrapped when nobody says which address to use.
var ErrNoAddress = errors.New("no address")

// run works until both parts are done or the port's context ends.
func (p *port) run(emit func(event)) {
	if err := p.ready(); err != nil {
		emit(event{port: p, err: err, closed: 2})
		return
	}
	var parts sync.WaitGroup
	parts.Go(func() { p.part4(emit) })
	parts.Go(func() { p.part6(emit) })
	parts.Wait()
}

// ready raises the link and waits for its carrier.
func (p *port) ready() error {
	l, s := p.base, p.setup
	noIPv6 := l.takeOver() // before it is up, or the kernel would be first
	if err := l.up(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(p.ctx, p.n.o.Carrier)
	defer cancel()
	if err := l.waitCarrier(wait); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%w on %s (%v): is the cable in?", ErrNoCarrier, l.name, l.hw)
		}
		return err
	}
	p.n.carrier.Store(true)
	p.n.o.Mark("link")
	if s.VLAN != 0 {
		var err error
		if l, err = l.tagged(s.VLAN); err != nil {
			return err
		}
		noIPv6 = l.takeOver()
		if err := l.up(); err != nil {
			return err
		}
	}
	p.noIPv6, p.link = noIPv6, l
	return nil
}

// part4 gets IPv4 addresses.
func (p *port) part4(emit func(event)) {
	s := p.setup
	settled := sync.OnceFunc(func() { close(p.first) })
	defer settled()
	switch {
	case !s.Uses(netconf.IPv4):
		emit(event{port: p, closed: 1})
		return
	case len(s.Static(netconf.IPv4)) > 0:
		c := static(s, netconf.IPv4, p.link)
		emit(event{port: p, v4: &lease4{config: c}, say: fmt.Sprintf("address %v on %s, as configured", c.Addresses[0], p.link.name), closed: 1})
		return
	case s.NoDHCP:
		var err error
		if len(s.Addresses) == 0 {
			err = fmt.Errorf("%w for %s: DHCP is switched off, and none is given; say ip=ADDRESS::GATEWAY:NETMASK::%s:off", ErrNoAddress, p.link.name, p.link.name)
		}
		emit(event{port: p, err: err, closed: 1})
		return
	}
	// offer tells of a lease, and whether another one is wanted instead.
	offer := func(h *lease4, say string) bool {
		p.passes()
		settled()
		emit(event{port: p, v4: h, say: say, closed: 1, more: true})
		select {
		case <-p.more:
			return true
		case <-p.ctx.Done():
			return false
		}
	}
	known := false
	for _, h := range p.old4 {
		if h.expired(time.Now()) {
			continue
		}
		if known = true; !offer(h, "") {
			return
		}
	}
	if known {
		emit(event{port: p, err: errNoOther, closed: 1})
		return
	}
	p.n.o.Log(fmt.Sprintf("%s (%v) is up, asking for an address", p.link.name, p.link.hw))
	c, err := p.link.client4(&p.others)
	if err != nil {
		emit(event{port: p, err: err, closed: 1})
		return
	}
	defer c.close()
	for {
		lease, cfg, err := c.next(p.ctx)
		if err != nil {
			emit(event{port: p, err: err, closed: 1})
			return
		}
		p.addressed()
		h := &lease4{lease, cfg}
		p.n.remember4(p.base, h)
		if !offer(h, fmt.Sprintf("lease %v on %s from %v", cfg.Addresses[0], p.link.name, cfg.Server)) {
			return
		}
	}
}

// part6 gets IPv6 addresses.
func (p *port) part6(emit func(event)) {
	e := event{port: p, closed: 1}
	e.v6, e.say, e.err = p.config6()
	if p.setup.Family != netconf.IPv6 && (errors.Is(e.err, ErrNoRouter) || errors.Is(e.err, ErrNoIPv6)) {
		e.err = nil // as most networks are; IPv4 says what is wrong
	}
	if e.v6 != nil {
		wait := time.NewTimer(headStart)
		defer wait.Stop()
		select {
		case <-p.first:
		case <-wait.C:
		case <-p.ctx.Done():
		}
	}
	emit(e)
}

// config6 returns what IPv6 the link has and what to say about it, nil if none
// is wanted.
func (p *port) config6() (*Config, string, error) {
	s, l := p.setup, p.link
	if !s.Uses(netconf.IPv6) {
		return nil, "", nil
	}
	if p.noIPv6 != nil {
		return nil, "", fmt.Errorf("%s: %w", l.name, p.noIPv6)
	}
	if len(s.Static(netconf.IPv6)) > 0 {
		c, err := p.static6()
		if err != nil {
			return nil, "", err
		}
		return c, fmt.Sprintf("address %v on %s, as configured", c.Addresses[0], l.name), nil
	}
	a, err := l.solicit(p.ctx, p.leased)
	if err != nil {
		return nil, "", err
	}
	c := p.advertised(a)
	client := dhcp6.Client{Link: l.name, MAC: l.hw}
	var said []string
	switch {
	case s.NoDHCP:
	case a.managed:
		if err := p.leased6(client, c); err != nil {
			if len(c.Addresses) == 0 {
				return nil, "", err
			}
			said = append(said, err.Error())
		}
	case a.other && len(c.Nameservers) == 0:
		reply, err := client.Information(p.ctx)
		if err != nil {
			said = append(said, err.Error())
			break
		}
		addInformation(c, reply)
	}
	if len(c.Addresses) == 0 {
		return nil, "", fmt.Errorf("%w on %s: router %v leaves IPv6 addresses to DHCPv6, which is switched off", ErrNoAddress, l.name, a.router)
	}
	p.addressed()
	what := fmt.Sprintf("address %v on %s from router %v", c.Addresses[0], l.name, a.router)
	if c.Lease6 != nil {
		what = fmt.Sprintf("lease %v on %s from a DHCPv6 server, router %v", c.Lease6.Address, l.name, a.router)
	}
	return c, strings.Join(append(said, what), "; "), nil
}

func (p *port) advertised(a *advert) *Config {
	c := a.config(p.link.hw)
	c.Link, c.MAC = p.link.name, p.link.hw.String()
	return c
}

// static6 has what a person said; what was left out comes from a router, if
// there is one.
func (p *port) static6() (*Config, error) {
	c := static(p.setup, netconf.IPv6, p.link)
	if len(c.Routes) == 0 {
		now := make(chan struct{})
		close(now)
		a, err := p.link.solicit(p.ctx, now)
		if p.ctx.Err() != nil {
			return nil, p.ctx.Err()
		}
		if err == nil {
			found := p.advertised(a)
			c.Routes, c.Nameservers, c.Search, c.MTU = found.Routes, found.Nameservers, found.Search, found.MTU
		}
	}
	return c, nil
}

// leased6 adds a DHCPv6 lease to c, that of an earlier attempt if there is one.
func (p *port) leased6(client dhcp6.Client, c *Config) error {
	h := p.old6
	if h == nil || h.expired(time.Now()) {
		l, reply, err := client.Lease(p.ctx)
		if err != nil {
			return err
		}
		h = &lease6{l, reply, time.Now()}
		p.n.remember6(p.base, h)
	}
	// Which neighbours there are, routers say (RFC 5942 section 4).
	if len(c.Addresses) < maxAddresses {
		c.Addresses = append([]netip.Prefix{netip.PrefixFrom(h.lease.Address, 128)}, c.Addresses...)
		c.Lease6 = h.lease
	}
	addInformation(c, h.reply)
	return nil
}

// addInformation adds what a DHCPv6 server says beside addresses.
func addInformation(c *Config, m *dhcpv6.Message) {
	var servers []netip.Addr
	for _, ip := range m.Options.DNS() {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Is6() && usableServer(a) {
			servers = append(servers, a)
		}
	}
	c.Nameservers = union(c.Nameservers, servers)
	if l := m.Options.DomainSearchList(); l != nil {
		var names []string
		for _, n := range l.Labels {
			if n = validName(strings.TrimSuffix(n, ".")); n != "" {
				names = append(names, n)
			}
		}
		c.Search = union(c.Search, names)
	}
	var ntp []string
	for _, ip := range append(m.Options.NTPServers(), m.Options.SNTP()...) {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Is6() && usableServer(a) {
			ntp = append(ntp, a.String())
		}
	}
	c.NTP = union(c.NTP, ntp)
}
