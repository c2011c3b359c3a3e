package network

import (
	"net/netip"
	"slices"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
)

// merge puts together what a link has of IPv4 and of IPv6 (either may be nil)
// and what a person said. IPv4 goes first.
func merge(v4, v6 *Config, s netconf.Setup, device string) *Config {
	if v4 == nil {
		v4, v6 = v6, nil
	}
	c := *v4
	if v6 != nil {
		c.Addresses = slices.Concat(v4.Addresses, v6.Addresses)
		c.Routes = slices.Concat(v4.Routes, v6.Routes)
		c.Nameservers = union(v4.Nameservers, v6.Nameservers)
		c.Search = union(v4.Search, v6.Search)
		c.NTP = union(v4.NTP, v6.NTP)
		c.Lease6 = v6.Lease6
		if c.MTU == 0 || v6.MTU != 0 && v6.MTU < c.MTU {
			c.MTU = v6.MTU
		}
	}
	c.Device, c.VLAN = device, s.VLAN
	c.NTP = union(s.NTP, c.NTP)
	if s.MTU != 0 {
		c.MTU = s.MTU
	}
	if s.Hostname != "" {
		c.Hostname = s.Hostname
	}
	return &c
}

// union returns a followed by what of b is not in it, within the bounds.
func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if len(out) < maxServers && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// static returns what a person said about one family.
func static(s netconf.Setup, family string, l link) *Config {
	c := &Config{Link: l.name}
	c.MAC, c.Addresses = l.hw.String(), s.Static(family)
	reachable := slices.Clone(c.Addresses)
	for _, g := range s.Gateways {
		if g.Is4() != (family == netconf.IPv4) {
			continue
		}
		if g.Is4() && !slices.ContainsFunc(reachable, func(p netip.Prefix) bool { return p.Contains(g) }) {
			c.Routes = append(c.Routes, handoff.Route{Destination: netip.PrefixFrom(g, 32)})
		}
		all := netip.IPv4Unspecified()
		if g.Is6() {
			all = netip.IPv6Unspecified()
		}
		c.Routes = append(c.Routes, handoff.Route{Destination: netip.PrefixFrom(all, 0), Gateway: g})
	}
	return c
}
