package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// Options are what a network's clients are told beside their address. Empty
// fields are not sent.
type Options struct {
	Router []netip.Addr
	DNS    []netip.Addr
	NTP    []netip.Addr
	Domain string
	Search []string
	MTU    uint16
	Routes []Route // RFC 3442
	Lease  time.Duration
}

// Route is a classless static route.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Range is a pool of addresses of one subnet, from First to Last.
type Range struct {
	First, Last netip.Addr
	Subnet      netip.Prefix // zero: that of the interface it lies in
	Options     Options      // what differs from the server's
	Clients     Clients
	Kinds       []bootfile.Kind // whom it is for; empty: all
	File        string          // boot file of its clients, unless their settings name another; "" for the usual one
}

// Clients selects clients by whether they are known.
type Clients int

// Whom a pool is for.
const (
	AllClients Clients = iota
	KnownClients
	UnknownClients
)

const (
	// MaxAddresses bounds all pools of a server together, which are in memory.
	MaxAddresses = 1 << 20
	// DefaultLease is how long an address is a machine's if nobody says otherwise.
	DefaultLease = 12 * time.Hour
	minLease     = time.Minute
	maxLease     = 365 * 24 * time.Hour
)

// ParseRange reads "FIRST-LAST[/BITS][,KEY=VALUE...]". The keys are those of
// Set, and "clients=known|unknown", "for=KIND[+KIND...]" with the kinds of
// bootfile, and "file=NAME". BITS is needed where relays ask for other subnets
// than the interface's.
func ParseRange(s string) (Range, error) {
	fail := func(format string, args ...any) (Range, error) {
		return Range{}, fmt.Errorf("DHCP range %q: %s; want FIRST-LAST[/BITS][,KEY=VALUE...], such as 10.0.0.100-10.0.0.199,lease=2h", s, fmt.Sprintf(format, args...))
	}
	fields := strings.Split(s, ",")
	span, bits, hasBits := strings.Cut(fields[0], "/")
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return fail("no \"-\" between two addresses")
	}
	var r Range
	var err error
	if r.First, err = parse4(first); err != nil {
		return fail("%v", err)
	}
	if r.Last, err = parse4(last); err != nil {
		return fail("%v", err)
	}
	if r.Last.Less(r.First) {
		return fail("it ends before it begins")
	}
	if r.size() > MaxAddresses {
		return fail("more than %d addresses", MaxAddresses)
	}
	if hasBits {
		n, err := strconv.Atoi(bits)
		if err != nil || n < 1 || n > 30 {
			return fail("prefix length %q", bits)
		}
		r.Subnet = netip.PrefixFrom(r.First, n).Masked()
		if !r.Subnet.Contains(r.Last) {
			return fail("it reaches beyond %v", r.Subnet)
		}
	}
	for _, f := range fields[1:] {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return fail("%q has no value", f)
		}
		switch key {
		case "clients":
			switch value {
			case "known":
				r.Clients = KnownClients
			case "unknown":
				r.Clients = UnknownClients
			default:
				return fail("clients=%s; want known or unknown", value)
			}
		case "for":
			for k := range strings.SplitSeq(value, "+") {
				kind, ok := bootfile.ParseKind(k)
				if !ok {
					return fail("for=%s; want ordinary, bios, uefi, arm64, http, http-arm64 or ipxe", k)
				}
				r.Kinds = append(r.Kinds, kind)
			}
		case "file":
			if value == "" || len(value) > 255 {
				return fail("a boot file of %d bytes", len(value))
			}
			r.File = value
		default:
			if err := r.Options.Set(key, value); err != nil {
				return fail("%v", err)
			}
		}
	}
	return r, nil
}

// Set reads one option: router, dns, ntp (addresses with "+" between them),
// domain, search (names with "+" between them), mtu, route
// (PREFIX:GATEWAY, may be repeated), lease (a duration).
func (o *Options) Set(key, value string) error {
	addrs := func(to *[]netip.Addr) error {
		for s := range strings.SplitSeq(value, "+") {
			a, err := parse4(s)
			if err != nil {
				return fmt.Errorf("option %s: %w", key, err)
			}
			*to = append(*to, a)
		}
		if len(*to) > 16 {
			return fmt.Errorf("option %s: more than 16 addresses", key)
		}
		return nil
	}
	switch key {
	case "router":
		return addrs(&o.Router)
	case "dns":
		return addrs(&o.DNS)
	case "ntp":
		return addrs(&o.NTP)
	case "domain":
		if value == "" || hostName([]byte(value)) == "" {
			return fmt.Errorf("option domain: %q is no domain", value)
		}
		o.Domain = value
	case "search":
		for s := range strings.SplitSeq(value, "+") {
			if s == "" || hostName([]byte(s)) == "" || len(o.Search) == 8 {
				return fmt.Errorf("option search: %q is no list of at most 8 domains", value)
			}
			o.Search = append(o.Search, s)
		}
	case "mtu":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n < 68 { // RFC 2132, 5.1
			return fmt.Errorf("option mtu: %q is not from 68 to 65535", value)
		}
		o.MTU = uint16(n)
	case "route":
		to, via, ok := strings.Cut(value, ":")
		p, err := netip.ParsePrefix(to)
		gw, err2 := parse4(via)
		if !ok || err != nil || err2 != nil || !p.Addr().Is4() || len(o.Routes) == 16 {
			return fmt.Errorf("option route: %q is not like 10.2.0.0/16:10.1.0.1, at most 16 times", value)
		}
		o.Routes = append(o.Routes, Route{p.Masked(), gw})
	case "lease":
		d, err := time.ParseDuration(value)
		if err != nil || d < minLease || d > maxLease {
			return fmt.Errorf("option lease: %q is no duration from %v to %v", value, minLease, maxLease)
		}
		o.Lease = d
	default:
		return fmt.Errorf("option %q is not known: want router, dns, ntp, domain, search, mtu, route or lease", key)
	}
	return nil
}

func parse4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, fmt.Errorf("%q is no address of IPv4", s)
	}
	return a, nil
}

// Over returns o with the gaps filled from base.
func (o Options) Over(base Options) Options {
	if o.Router == nil {
		o.Router = base.Router
	}
	if o.DNS == nil {
		o.DNS = base.DNS
	}
	if o.NTP == nil {
		o.NTP = base.NTP
	}
	if o.Domain == "" {
		o.Domain = base.Domain
	}
	if o.Search == nil {
		o.Search = base.Search
	}
	if o.MTU == 0 {
		o.MTU = base.MTU
	}
	if o.Routes == nil {
		o.Routes = base.Routes
	}
	if o.Lease == 0 {
		o.Lease = base.Lease
	}
	return o
}

// encode writes the options into those of an answer.
func (o Options) encode(to dhcpv4.Options, subnet netip.Prefix) {
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-subnet.Bits()))
	to[dhcpv4.OptionSubnetMask.Code()] = mask[:]
	list := func(code dhcpv4.OptionCode, addrs []netip.Addr) {
		if len(addrs) == 0 {
			return
		}
		var b []byte
		for _, a := range addrs {
			b = append(b, a.AsSlice()...)
		}
		to[code.Code()] = b
	}
	list(dhcpv4.OptionRouter, o.Router)
	list(dhcpv4.OptionDomainNameServer, o.DNS)
	list(dhcpv4.OptionNTPServers, o.NTP)
	if o.Domain != "" {
		to[dhcpv4.OptionDomainName.Code()] = []byte(o.Domain)
	}
	if len(o.Search) > 0 {
		to[dhcpv4.OptionDNSDomainSearchList.Code()] = (&rfc1035label.Labels{Labels: slices.Clone(o.Search)}).ToBytes()
	}
	if o.MTU != 0 {
		to[dhcpv4.OptionInterfaceMTU.Code()] = binary.BigEndian.AppendUint16(nil, o.MTU)
	}
	if len(o.Routes) > 0 {
		// A client that reads these ignores the routers (RFC 3442), so that
		// they are in here, too.
		routes := o.Routes
		if len(o.Router) > 0 && !slices.ContainsFunc(routes, func(r Route) bool { return r.To.Bits() == 0 }) {
			routes = append(slices.Clone(routes), Route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), o.Router[0]})
		}
		var b []byte
		for _, r := range routes {
			to := r.To.Addr().As4()
			b = append(b, byte(r.To.Bits()))
			b = append(b, to[:(r.To.Bits()+7)/8]...)
			b = append(b, r.Via.AsSlice()...)
		}
		to[dhcpv4.OptionClasslessStaticRoute.Code()] = b
	}
}

func (r Range) size() int { return int(number(r.Last)) - int(number(r.First)) + 1 }

func (r Range) contains(a netip.Addr) bool {
	return a.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// serves tells whether the pool is for such a client.
func (r Range) serves(known bool, k bootfile.Kind) bool {
	if r.Clients == KnownClients && !known || r.Clients == UnknownClients && known {
		return false
	}
	return len(r.Kinds) == 0 || slices.Contains(r.Kinds, k)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
