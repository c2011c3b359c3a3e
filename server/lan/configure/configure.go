// Package configure writes configuration for programs beside the server: DHCP
// servers that are there already (ISC dhcpd, dnsmasq, Kea), so that they tell
// machines what to boot as the server's own DHCP would, nftables and systemd.
//
// What is written is text that a program with privileges reads. So values are
// taken only where they cannot be anything but a value in it: each format says
// which characters it refuses.
package configure

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// Site is what a DHCP server has to know of a LAN.
type Site struct {
	Interface string         // of the DHCP server; "" where the configuration does not name it
	Server    netip.Addr     // where TFTP is
	Files     bootfile.Files // boot files that there are
	Unknown   bool           // machines that are not known boot, too
	Lease     time.Duration  // where a network says nothing else
	Networks  []Network
	Hosts     []Host
}

// Network is a subnet.
type Network struct {
	Subnet  netip.Prefix
	Options Options
	Pools   []Pool
}

// Options are what clients of a network are told. Empty fields are left out.
type Options struct {
	Router []netip.Addr
	DNS    []netip.Addr
	NTP    []netip.Addr
	Domain string
	Search []string
	MTU    uint16
	Routes []Route
	Lease  time.Duration
}

// Route is a classless static route (RFC 3442).
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Clients selects machines by whether they are known.
type Clients int

// Whom a pool is for.
const (
	All Clients = iota
	Known
	Unknown
)

// Pool is a range of addresses of a network.
type Pool struct {
	First, Last netip.Addr
	Clients     Clients
	Kinds       []bootfile.Kind // empty: all
	File        string          // boot file of its machines; "": the usual one
	Options     Options         // where they differ from the network's
}

// Host is a machine that is known.
type Host struct {
	MAC     string     // six bytes with colons, lower case
	Name    string     // host name, or ""
	Address netip.Addr // its own, or the zero Addr
	File    string     // boot file in place of the usual one, or ""
	Local   bool       // no boot file
	Denied  bool       // no answer
	network int        // index of the one that its address is in, -1 for none
}

// Format is the format of a program's configuration.
type Format string

// The programs whose configuration is written.
const (
	ISC     Format = "isc"
	Dnsmasq Format = "dnsmasq"
	Kea     Format = "kea"
)

// Formats are all of them.
func Formats() []Format { return []Format{ISC, Dnsmasq, Kea} }

// settings is what bootfile chooses for a machine of a pool, or with a file of
// its own.
func settings(file string, local bool) bootfile.Settings {
	return bootfile.Settings{File: file, Local: local}
}

// Kinds are the kinds of firmware that get boot files, in the order in which
// rules are written: iPXE first, which says PXEClient, too.
func Kinds() []bootfile.Kind {
	return []bootfile.Kind{bootfile.IPXE, bootfile.HTTPUEFI, bootfile.HTTPARM64, bootfile.PXEUEFI, bootfile.PXEARM64, bootfile.PXEBIOS}
}

// firmware is architectures of option 93 that are one kind with the class
// PXEClient, and one with HTTPClient; the other may be Unsupported.
type firmware struct {
	name      string
	arch      []uint16
	pxe, http bootfile.Kind
}

// maxArch is the highest architecture that is asked for: those of IANA that
// PCs have are below.
const maxArch = 40

// firmwares groups the architectures as bootfile does, so that another DHCP
// server decides as ours would.
func firmwares() []firmware {
	var list []firmware
	for a := range uint16(maxArch) {
		f := firmware{
			pxe:  bootfile.Classify(bootfile.Client{Vendor: "PXEClient", Arch: []uint16{a}}),
			http: bootfile.Classify(bootfile.Client{Vendor: "HTTPClient", Arch: []uint16{a}}),
		}
		if f.pxe == bootfile.Unsupported && f.http == bootfile.Unsupported {
			continue
		}
		at := slices.IndexFunc(list, func(o firmware) bool { return o.pxe == f.pxe && o.http == f.http })
		if at < 0 {
			f.name = f.pxe.String()
			at, list = len(list), append(list, f)
		}
		list[at].arch = append(list[at].arch, a)
	}
	return list
}

// Validate checks what does not depend on the format, and sorts machines to
// networks. It returns warnings about what is left out.
func (s *Site) Validate() (warnings []string, err error) {
	if !s.Server.Is4() {
		return nil, fmt.Errorf("the server's address %v: want an IPv4 address", s.Server)
	}
	if s.Lease == 0 {
		s.Lease = 12 * time.Hour
	}
	for i := range s.Networks {
		n := &s.Networks[i]
		if !n.Subnet.Addr().Is4() || n.Subnet != n.Subnet.Masked() {
			return nil, fmt.Errorf("network %v: want an IPv4 network such as 192.168.1.0/24", n.Subnet)
		}
		if n.Options.Lease == 0 {
			n.Options.Lease = s.Lease
		}
		for _, p := range n.Pools {
			if !n.Subnet.Contains(p.First) || !n.Subnet.Contains(p.Last) || p.Last.Less(p.First) {
				return nil, fmt.Errorf("pool %v-%v is not within %v", p.First, p.Last, n.Subnet)
			}
			if err := fileOK(p.File); err != nil {
				return nil, fmt.Errorf("pool %v-%v: %w", p.First, p.Last, err)
			}
		}
		for _, o := range s.Networks[:i] {
			if o.Subnet.Overlaps(n.Subnet) {
				return nil, fmt.Errorf("networks %v and %v overlap", o.Subnet, n.Subnet)
			}
		}
		for _, d := range append(slices.Clone(n.Options.Search), n.Options.Domain) {
			if d != "" && !domainOK(d) {
				return nil, fmt.Errorf("domain %q: want letters, digits, - and dots", d)
			}
		}
	}
	if err := fileOK(s.Files.Base); err != nil {
		return nil, fmt.Errorf("URL of the boot files: %w", err)
	}
	if s.Interface != "" && !interfaceOK(s.Interface) {
		return nil, fmt.Errorf("interface %q: characters that are not taken into a configuration", s.Interface)
	}
	slices.SortFunc(s.Hosts, func(a, b Host) int { return strings.Compare(a.MAC, b.MAC) })
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if i > 0 && s.Hosts[i-1].MAC == h.MAC {
			return nil, fmt.Errorf("%s is there twice", h.MAC)
		}
		if !macOK(h.MAC) {
			return nil, fmt.Errorf("client %q: want a MAC address of six bytes", h.MAC)
		}
		if h.Name != "" && !domainOK(h.Name) {
			return nil, fmt.Errorf("%s: name %q: want letters, digits, - and dots", h.MAC, h.Name)
		}
		if err := fileOK(h.File); err != nil {
			return nil, fmt.Errorf("%s: %w", h.MAC, err)
		}
		h.network = -1
		if !h.Address.IsValid() {
			continue
		}
		h.network = slices.IndexFunc(s.Networks, func(n Network) bool { return n.Subnet.Contains(h.Address) })
		if h.network < 0 {
			warnings = append(warnings, fmt.Sprintf("%s: its address %v is in none of the networks and is left out", h.MAC, h.Address))
			h.Address = netip.Addr{}
		}
	}
	return warnings, nil
}

// fileOK checks the name or URL of a boot file. All characters that it takes
// stand for themselves in all formats, within quotes or without.
func fileOK(s string) error {
	if len(s) > 127 {
		return fmt.Errorf("boot file %q has more than the 127 bytes that DHCP has room for", s)
	}
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("/._-~:[]@%+=?&", rune(c)) {
			return fmt.Errorf("boot file %q: the character %q is not taken into a DHCP server's configuration", s, c)
		}
	}
	return nil
}

func domainOK(s string) bool {
	return len(s) <= 253 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, ".")
}

func interfaceOK(s string) bool {
	return len(s) <= 15 && s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@:") == "" && s[0] != '-'
}

func macOK(s string) bool {
	return len(s) == 17 && strings.Trim(s, "0123456789abcdef:") == "" && strings.Count(s, ":") == 5
}

func addrs(list []netip.Addr, sep string) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, sep)
}

func netmask(p netip.Prefix) string {
	m := uint32(0xffffffff) << (32 - p.Bits())
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

// routeBytes is the value of option 121 (RFC 3442), which needs the default
// route in it, as clients then ignore option 3.
func routeBytes(o *Options) []byte {
	routes := slices.Clone(o.Routes)
	if len(o.Router) > 0 {
		routes = append(routes, Route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), o.Router[0]})
	}
	var out []byte
	for _, r := range routes {
		to, via := r.To.Addr().As4(), r.Via.As4()
		out = append(out, byte(r.To.Bits()))
		out = append(out, to[:(r.To.Bits()+7)/8]...)
		out = append(out, via[:]...)
	}
	return out
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// less returns what p says other than n.
func (o Options) less(n Options) Options {
	if slices.Equal(o.Router, n.Router) && slices.Equal(o.Routes, n.Routes) {
		o.Router, o.Routes = nil, nil
	}
	if slices.Equal(o.DNS, n.DNS) {
		o.DNS = nil
	}
	if slices.Equal(o.NTP, n.NTP) {
		o.NTP = nil
	}
	if o.Domain == n.Domain {
		o.Domain = ""
	}
	if slices.Equal(o.Search, n.Search) {
		o.Search = nil
	}
	if o.MTU == n.MTU {
		o.MTU = 0
	}
	if o.Lease == n.Lease {
		o.Lease = 0
	}
	return o
}
