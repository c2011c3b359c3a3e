package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
)

// errAdvert is wrapped when a router advertisement cannot be used.
var errAdvert = errors.New("malformed router advertisement")

// advert is a router advertisement (RFC 4861 section 4.2, RFC 4191, RFC 8106).
type advert struct {
	router   netip.Addr
	lifetime time.Duration // as a default router; 0: it is none
	managed  bool          // addresses by DHCPv6
	other    bool          // other things by DHCPv6
	mtu      int           // 0: not said
	prefixes []advertPrefix
	routes   []netip.Prefix // by way of the router
	servers  []netip.Addr
	search   []string
}

// advertPrefix is a prefix information option (RFC 4861 section 4.6.2).
type advertPrefix struct {
	netip.Prefix
	onLink bool
	auto   bool // addresses may be made of it (RFC 4862)
}

const (
	typeSolicit = 133
	typeAdvert  = 134
	advertSize  = 16 // bytes before the options
)

// Types of options.
const (
	optPrefix = 3
	optMTU    = 5
	optRoute  = 24 // RFC 4191
	optRDNSS  = 25 // RFC 8106
	optDNSSL  = 31 // RFC 8106
)

// parseAdvert reads an ICMPv6 message that came from a router. Its hop limit
// is the caller's to check.
func parseAdvert(b []byte, from netip.Addr) (*advert, error) {
	if len(b) < advertSize || b[0] != typeAdvert || b[1] != 0 {
		return nil, fmt.Errorf("%w: %d bytes", errAdvert, len(b))
	}
	from = from.WithZone("")
	if !from.Is6() || from.Is4In6() || !from.IsLinkLocalUnicast() {
		return nil, fmt.Errorf("%w: it comes from %v, no link-local address", errAdvert, from)
	}
	a := &advert{
		router: from, managed: b[5]&0x80 != 0, other: b[5]&0x40 != 0,
		lifetime: time.Duration(binary.BigEndian.Uint16(b[6:])) * time.Second,
	}
	for b = b[advertSize:]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return nil, fmt.Errorf("%w: an option is cut", errAdvert)
		}
		o := b[:int(b[1])*8]
		b = b[len(o):]
		a.option(o)
	}
	return a, nil
}

// option reads one option. One that makes no sense counts as one that is not
// known: it is passed over (RFC 4861 section 6.1.2).
func (a *advert) option(o []byte) {
	switch o[0] {
	case optPrefix:
		if len(o) != 32 || o[2] > 128 || binary.BigEndian.Uint32(o[4:]) == 0 { // valid lifetime
			return
		}
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:])), int(o[2])).Masked()
		if p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() || p.Addr().Is4In6() || len(a.prefixes) >= maxRoutes {
			return
		}
		// Addresses take interface identifiers of 64 bits (RFC 4291 appendix A).
		auto := o[3]&0x40 != 0 && p.Bits() == 64
		a.prefixes = append(a.prefixes, advertPrefix{Prefix: p, onLink: o[3]&0x80 != 0, auto: auto})
	case optMTU:
		if mtu := binary.BigEndian.Uint32(o[4:]); len(o) == 8 && mtu >= netconf.MinMTU6 && mtu <= netconf.MaxMTU {
			a.mtu = int(mtu)
		}
	case optRoute:
		if o[2] > 128 || binary.BigEndian.Uint32(o[4:]) == 0 || len(a.routes) >= maxRoutes {
			return
		}
		var ip [16]byte
		copy(ip[:], o[8:])
		if p := netip.PrefixFrom(netip.AddrFrom16(ip), int(o[2])); !p.Addr().Is4In6() {
			a.routes = append(a.routes, p.Masked())
		}
	case optRDNSS:
		if binary.BigEndian.Uint32(o[4:]) == 0 {
			return
		}
		for o = o[8:]; len(o) >= 16; o = o[16:] {
			if s := netip.AddrFrom16([16]byte(o)); usableServer(s) && len(a.servers) < maxServers {
				a.servers = append(a.servers, s)
			}
		}
	case optDNSSL:
		if binary.BigEndian.Uint32(o[4:]) == 0 {
			return
		}
		for _, n := range labels(o[8:]) {
			if len(a.search) < maxServers {
				a.search = append(a.search, n)
			}
		}
	}
}

func usableServer(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6()
}

// labels reads domain names (RFC 1035 section 3.1, without compression), which
// zero bytes fill up.
func labels(b []byte) []string {
	var out, name []string
	for len(b) > 0 {
		n := int(b[0])
		if b = b[1:]; n > len(b) || n > 63 {
			break
		}
		if n > 0 {
			name = append(name, string(b[:n]))
			b = b[n:]
			continue
		}
		if s := validName(strings.Join(name, ".")); s != "" {
			out = append(out, s)
		}
		name = nil
	}
	return out
}

// usable tells whether an advertisement helps to reach anything.
func (a *advert) usable() bool {
	return a.managed || slices.ContainsFunc(a.prefixes, func(p advertPrefix) bool { return p.auto })
}

// config makes the configuration that the advertisement leads to: an address
// from each prefix that allows it, routes, name servers.
func (a *advert) config(hw net.HardwareAddr) *Config {
	c := &Config{Server: a.router}
	c.MTU, c.Nameservers, c.Search = a.mtu, a.servers, a.search
	for _, p := range a.prefixes {
		if p.auto && len(c.Addresses) < maxAddresses {
			bits := p.Bits()
			if !p.onLink {
				bits = 128 // neighbours are reached by way of the router
			}
			c.Addresses = append(c.Addresses, netip.PrefixFrom(interfaceAddress(p.Prefix, hw), bits))
		} else if p.onLink {
			c.Routes = append(c.Routes, handoff.Route{Destination: p.Prefix})
		}
	}
	for _, r := range a.routes {
		c.Routes = append(c.Routes, handoff.Route{Destination: r, Gateway: a.router})
	}
	all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if a.lifetime > 0 && !slices.Contains(a.routes, all) {
		c.Routes = append(c.Routes, handoff.Route{Destination: all, Gateway: a.router})
	}
	return c
}

// interfaceAddress makes an address of a prefix of 64 bits and the modified
// EUI-64 of a MAC address (RFC 4291 appendix A), as the kernel does: its own
// link-local address has the same identifier, and was looked for on the link.
func interfaceAddress(p netip.Prefix, hw net.HardwareAddr) netip.Addr {
	b := p.Addr().As16()
	copy(b[8:], []byte{hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
	return netip.AddrFrom16(b)
}
