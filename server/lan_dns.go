package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/dhcp"
	"github.com/inetboot/inetboot/server/lan/dns"
)

// defaultDomain is the domain of machines if nobody names one: ICANN has set it
// aside for private use (resolution 2024.07.29.06).
const defaultDomain = "internal"

// dnsOptions are the options of DNS.
type dnsOptions struct {
	on       bool
	port     int
	domain   string
	forward  []string
	networks []string
}

func (o *dnsOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.on, "dns", false, "with --lan: answer questions for the names of machines, and pass all others on; with --dhcp full machines are told to ask here")
	f.IntVar(&o.port, "dns-port", dns.Port, "port of DNS, UDP and TCP")
	f.StringVar(&o.domain, "dns-domain", "", "domain of the machines' names (default that of --dhcp-option domain=, else "+defaultDomain+")")
	f.StringArrayVar(&o.forward, "dns-forward", nil, "resolver that is asked for other names, ADDRESS[:PORT]; may be repeated; none: nobody is (default those of "+dns.ResolvConf+")")
	f.StringArrayVar(&o.networks, "dns-network", nil, "one more network, such as 10.9.0.0/24, whose machines may ask beside the LAN's and those of DHCP; may be repeated")
}

// domainOf is the domain of the machines' names.
func (o *dnsOptions) domainOf(told string) string {
	return strings.ToLower(strings.TrimSuffix(cmp.Or(o.domain, told, defaultDomain), "."))
}

// newDNS makes the DNS service.
func newDNS(ctx context.Context, o *options, p *lanParts) (lan.Service, error) {
	d := &o.lan.dns
	if !d.on {
		return nil, nil
	}
	if err := checkPort("--dns-port", d.port, 1); err != nil {
		return nil, err
	}
	ranges, told, err := o.lan.dhcp.parse()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this server: %w", err)
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	if dns.CheckName(host) != nil {
		host = "inetboot"
	}
	c := dns.Options{Domain: d.domainOf(told.Domain), Server: host, Log: p.log}
	for _, a := range p.iface.All {
		c.Networks = append(c.Networks, a.Masked())
		if !a.Addr().IsLinkLocalUnicast() {
			c.Listen = append(c.Listen, netip.AddrPortFrom(a.Addr(), uint16(d.port)))
		}
	}
	for _, r := range ranges {
		if r.Subnet.IsValid() {
			c.Networks = append(c.Networks, r.Subnet)
		}
	}
	for _, s := range d.networks {
		n, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--dns-network %q: want a network such as 10.9.0.0/24", s)
		}
		c.Networks = append(c.Networks, n.Masked())
	}
	if c.Resolvers, err = d.resolvers(c.Listen); err != nil {
		return nil, err
	}
	names := &machineNames{server: host, domain: c.Domain, clients: p.clients}
	for _, a := range c.Listen {
		names.own = append(names.own, a.Addr())
	}
	if o.lan.dhcp.mode == "full" {
		if names.leases, err = p.openLeases(ctx, o); err != nil {
			return nil, err
		}
	}
	c.Names = names
	return dns.New(c)
}

// resolvers returns who is asked for other names; nil: nobody.
func (o *dnsOptions) resolvers(own []netip.AddrPort) (*dns.Resolvers, error) {
	self := func(a netip.AddrPort) bool { return slices.Contains(own, a) }
	if len(o.forward) == 0 {
		return dns.ResolversOf(dns.ResolvConf, self), nil
	}
	var list []netip.AddrPort
	for _, s := range o.forward {
		if s == "none" && len(o.forward) == 1 {
			return nil, nil
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			var addr netip.Addr
			if addr, err = netip.ParseAddr(s); err == nil {
				a = netip.AddrPortFrom(addr, dns.Port)
			}
		}
		if err != nil || a.Port() == 0 {
			return nil, fmt.Errorf("--dns-forward %q: want an address such as 9.9.9.9, 127.0.0.1:5353 or [2001:db8::1]:53, or none", s)
		}
		if self(a) {
			return nil, fmt.Errorf("--dns-forward %s: that is this server", s)
		}
		list = append(list, a)
	}
	return dns.NewResolvers(list), nil
}

// machineNames are the names of this server, of the machines whose settings
// have an address, and of those that have a lease. The ones before count more:
// what a machine calls itself gives it nobody's name.
type machineNames struct {
	server  string
	domain  string
	own     []netip.Addr
	clients *clients.Clients
	leases  *dhcp.Leases // nil: DHCP is somebody else's

	mu    sync.Mutex
	book  *clients.Book // that the maps were made from
	known map[string][]netip.Addr
	named map[netip.Addr]string
}

var _ dns.Names = (*machineNames)(nil)

// bare returns a name without the domain, in lower case; ok is false for one
// that is in another domain, or is none.
func (n *machineNames) bare(name string) (string, bool) {
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), "."+n.domain)
	return name, dns.CheckName(name) == nil
}

// settings returns what is set: addresses by name, which are empty for machines
// that get any, and the names of addresses.
func (n *machineNames) settings() (map[string][]netip.Addr, map[netip.Addr]string) {
	book := n.clients.Book()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.book == book {
		return n.known, n.named
	}
	n.book, n.known, n.named = book, make(map[string][]netip.Addr), make(map[netip.Addr]string)
	file, stored := book.Sections()
	for _, list := range [][]clients.Section{stored, file} {
		for i := range list {
			n.take(&list[i])
		}
	}
	return n.known, n.named
}

func (n *machineNames) take(s *clients.Section) {
	if s.Kind != clients.Client {
		return
	}
	name, ok := s.Get("name")
	if !ok {
		if _, mac := clients.ParseMAC(s.Name); mac || clients.IsUUID(s.Name) {
			return
		}
		name = s.Name
	}
	name, ok = n.bare(name)
	if !ok || name == n.server {
		return // a pattern, say
	}
	text, _ := s.Get("address")
	a, err := netip.ParseAddr(text)
	if err != nil {
		if n.known[name] == nil {
			n.known[name] = []netip.Addr{}
		}
		return
	}
	n.known[name] = append(n.known[name], a)
	if n.named[a] == "" {
		n.named[a] = name
	}
}

// Addresses implements dns.Names.
func (n *machineNames) Addresses(ctx context.Context, name string) ([]netip.Addr, bool, error) {
	if name == n.server {
		return n.own, true, nil
	}
	known, _ := n.settings()
	set, ok := known[name]
	if len(set) > 0 || n.leases == nil {
		return set, ok, nil
	}
	list, err := n.leases.Named(ctx, name, name+"."+n.domain, time.Now())
	if err != nil {
		return nil, false, err
	}
	// The newest one, if two machines call themselves the same.
	for _, l := range list {
		if n.holds(ctx, &l, name) {
			return []netip.Addr{l.Address}, true, nil
		}
	}
	return nil, ok, nil
}

// holds tells whether the machine that has a lease has the name, too: it is not
// the name of a machine with settings, or it is that machine.
func (n *machineNames) holds(ctx context.Context, l *dhcp.Lease, name string) bool {
	known, named := n.settings()
	if at := named[l.Address]; at != "" && at != name {
		return false
	}
	set, ok := known[name]
	if !ok || len(set) > 0 {
		return !ok
	}
	s, err := n.clients.Lookup(ctx, clients.Identity{MAC: l.MAC, Host: strings.ToLower(l.Name)})
	if err != nil || !s.Known {
		return false
	}
	its, ok := n.bare(cmp.Or(s.Name, l.Name))
	return ok && its == name
}

// Name implements dns.Names.
func (n *machineNames) Name(ctx context.Context, a netip.Addr) (string, error) {
	if slices.Contains(n.own, a) {
		return n.server, nil
	}
	_, named := n.settings()
	if name := named[a]; name != "" || n.leases == nil {
		return name, nil
	}
	l, err := n.leases.Get(ctx, a)
	if err != nil || !l.Expires.After(time.Now()) {
		return "", err
	}
	name, ok := n.bare(l.Name)
	if !ok || name == n.server || !n.holds(ctx, &l, name) {
		return "", nil
	}
	return name, nil
}
