// Package network gets a machine onto its network: every Ethernet link is
// raised at once, each asks for a DHCPv4 lease (RFC 2131) and for a router of
// IPv6 (RFC 4861), or has what a person said, and the first one over which the
// store can be reached is kept.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/syslog"
)

// Config is how one link is to be used, whoever said so.
type Config struct {
	handoff.Network
	Link   string          // the link's name here, such as eth0 or, tagged, eth0.5
	Device string          // the name of the adapter below it, such as eth0
	Server netip.Addr      // the DHCP server or router; invalid for a static configuration
	NTP    []string        // time servers of the network, names or addresses
	Syslog syslog.Receiver // log server of the network (DHCP option 7); the zero value: it names none
	Proxy  string          // HTTP proxy of the network, http://host:port; "": it names none
}

// ErrLease is wrapped when a lease cannot be used.
var ErrLease = errors.New("unusable lease")

// Bounds for what a server may tell.
const (
	minMTU       = 576 // RFC 791: what every host has to take
	maxRoutes    = 64
	maxServers   = 8
	maxAddresses = 8
	infinite     = 1<<32 - 1 // RFC 2131 section 3.3
)

// FromLease turns the acknowledgement of a lease into a Config. hw is the
// link's address, id the client identifier that was sent, obtained the time of
// the acknowledgement.
func FromLease(ack *dhcpv4.DHCPv4, link string, hw net.HardwareAddr, id []byte, obtained time.Time) (*Config, error) {
	bad := func(format string, args ...any) (*Config, error) {
		return nil, fmt.Errorf("%w on %s: %w", ErrLease, link, fmt.Errorf(format, args...))
	}
	addr, ok := addr4(ack.YourIPAddr)
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return bad("the address %v", ack.YourIPAddr)
	}
	server, ok := addr4(ack.ServerIdentifier())
	if !ok {
		return bad("no server identifier (option 54)")
	}
	mask := ack.SubnetMask()
	if mask == nil {
		mask = net.IP(addr.AsSlice()).DefaultMask() // RFC 950, for servers that say nothing
	}
	ones, bits := mask.Size()
	if bits != 32 || ones == 0 {
		return bad("the subnet mask %v", net.IP(mask))
	}
	c := &Config{Link: link, Device: link, Server: server, Proxy: proxyOf(ack.Options.Get(optionProxy)), Network: handoff.Network{
		MAC:       hw.String(),
		Addresses: []netip.Prefix{netip.PrefixFrom(addr, ones)},
		Hostname:  validName(ack.HostName()),
		Lease:     leaseTimes(ack, server, id, obtained),
	}}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= minMTU {
		c.MTU = int(mtu)
	}
	for _, ip := range ack.DNS() {
		if a, ok := addr4(ip); ok && !a.IsUnspecified() && len(c.Nameservers) < maxServers {
			c.Nameservers = append(c.Nameservers, a)
		}
	}
	if l := ack.DomainSearch(); l != nil { // option 119, RFC 3397
		for _, n := range l.Labels {
			if n = validName(strings.TrimSuffix(n, ".")); n != "" && len(c.Search) < maxServers {
				c.Search = append(c.Search, n)
			}
		}
	}
	if n := validName(strings.TrimSuffix(ack.DomainName(), ".")); n != "" && len(c.Search) == 0 {
		c.Search = []string{n}
	}
	for _, ip := range ack.NTPServers() {
		if a, ok := addr4(ip); ok && !a.IsUnspecified() && len(c.NTP) < maxServers {
			c.NTP = append(c.NTP, a.String())
		}
	}
	for _, ip := range dhcpv4.GetIPs(dhcpv4.OptionLogServer, ack.Options) {
		if a, ok := addr4(ip); ok && !a.IsUnspecified() && !a.IsMulticast() {
			c.Syslog = syslog.UDP(a)
			break
		}
	}
	c.Routes = routes(ack, c.Addresses[0])
	return c, nil
}

// optionProxy is what networks tell about proxies with: its value is the URL
// of a program for browsers (WPAD). Where it is no more than
// http://host:port, it names the proxy itself.
const optionProxy = dhcpv4.GenericOptionCode(252)

// proxyOf returns the proxy that option 252 names, or "".
func proxyOf(option []byte) string {
	s := strings.Trim(string(option), "\x00\r\n\t ")
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.User != nil || u.Path != "" && u.Path != "/" || site.CheckURL(s) != nil {
		return ""
	}
	return "http://" + u.Host
}

// routes returns the routes of option 121 or, only where there is none of
// these, the first router of option 3 (RFC 3442). A gateway outside of the
// subnet is preceded by a route to itself.
func routes(ack *dhcpv4.DHCPv4, subnet netip.Prefix) []handoff.Route {
	var out []handoff.Route
	reachable := []netip.Prefix{subnet}
	add := func(dst netip.Prefix, gw netip.Addr) {
		if gw.IsValid() && !slices.ContainsFunc(reachable, func(p netip.Prefix) bool { return p.Contains(gw) }) {
			host := netip.PrefixFrom(gw, 32)
			out = append(out, handoff.Route{Destination: host})
			reachable = append(reachable, host)
		}
		out = append(out, handoff.Route{Destination: dst, Gateway: gw})
		if !gw.IsValid() {
			reachable = append(reachable, dst)
		}
	}
	classless := ack.ClasslessStaticRoute()
	// On-link routes first: gateways may lie behind them.
	for _, onLink := range []bool{true, false} {
		for _, r := range classless {
			gw, ok := addr4(r.Router)
			if !ok || r.Dest == nil || gw.IsUnspecified() != onLink || len(out) >= maxRoutes {
				continue
			}
			dst, ok := addr4(r.Dest.IP)
			ones, bits := r.Dest.Mask.Size()
			if !ok || bits != 32 {
				continue
			}
			if onLink {
				gw = netip.Addr{}
			}
			add(netip.PrefixFrom(dst, ones).Masked(), gw)
		}
	}
	if len(classless) == 0 {
		for _, ip := range ack.Router() {
			if gw, ok := addr4(ip); ok && !gw.IsUnspecified() {
				add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gw)
				break
			}
		}
	}
	return out
}

// leaseTimes fills in what the server leaves out (RFC 2131 section 4.4.5) and
// puts what contradicts itself in order.
func leaseTimes(ack *dhcpv4.DHCPv4, server netip.Addr, id []byte, obtained time.Time) *handoff.Lease {
	seconds := func(code dhcpv4.OptionCode) int64 {
		b := ack.Options.Get(code)
		if len(b) != 4 {
			return 0
		}
		return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
	}
	l := &handoff.Lease{
		Server: server, ClientID: fmt.Sprintf("%x", id), Obtained: obtained.Unix(),
		Renew:  seconds(dhcpv4.OptionRenewTimeValue),
		Rebind: seconds(dhcpv4.OptionRebindingTimeValue),
		Expire: seconds(dhcpv4.OptionIPAddressLeaseTime),
	}
	if l.Expire == 0 {
		l.Expire = infinite // a server that sets no time, as BOOTP does
	}
	l.Expire = max(l.Expire, 8)
	if l.Rebind <= 0 || l.Rebind >= l.Expire {
		l.Rebind = l.Expire * 7 / 8
	}
	if l.Renew <= 0 || l.Renew >= l.Rebind {
		l.Renew = min(l.Expire/2, l.Rebind)
	}
	return l
}

func addr4(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	return a, ok && a.Is4()
}

// validName returns s if it can be a host's or domain's name (RFC 1123), or
// "": it comes from whoever answers first, and is shown and written to files.
func validName(s string) string {
	if !netconf.ValidName(s) {
		return ""
	}
	return s
}

// validText returns what can be shown of what a server says.
func validText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s[:min(len(s), 200)])
}

// ResolvConf returns c's resolvers as a resolv.conf(5).
func (c *Config) ResolvConf() string {
	var b strings.Builder
	if len(c.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.Search, " "))
	}
	for _, n := range c.Resolvers(c.Link) {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	return b.String()
}
