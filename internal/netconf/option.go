package netconf

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// AddIP reads the value of one ip= option into s, as the kernel understands it
// (Documentation/admin-guide/nfs/nfsroot.rst), with what dracut.cmdline(7)
// adds: IPv6 addresses in brackets, a prefix length in place of a mask, dhcp6
// and auto6, an MTU in place of the first name server.
//
//	ip=METHOD
//	ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:LINK:METHOD:DNS:DNS:NTP
//	ip=CLIENT:PEER:GATEWAY:PREFIX:HOSTNAME:LINK:METHOD:MTU
//
// It returns the name servers. Several options add up, so that IPv4 and IPv6
// addresses can both be given. Errors wrap ErrInvalid.
func (s *Setup) AddIP(value string) ([]netip.Addr, error) {
	bad := func(format string, args ...any) ([]netip.Addr, error) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	f, err := fields(value)
	if err != nil {
		return bad("%w", err)
	}
	if len(f) == 1 {
		if _, err := netip.ParseAddr(f[0]); err != nil {
			return nil, s.method(f[0])
		}
	}
	if len(f) > 10 {
		return bad("%d fields, at most 10 are known", len(f))
	}
	f = append(f, make([]string, 10-len(f))...)
	addrs := make([]netip.Addr, 10)
	for _, i := range []int{0, 2, 7, 8} {
		if f[i] == "" || i == 7 && isNumber(f[i]) {
			continue
		}
		if addrs[i], err = netip.ParseAddr(f[i]); err != nil {
			return bad("%q is no address", f[i])
		}
		if addrs[i].IsUnspecified() {
			addrs[i] = netip.Addr{} // the kernel's way to leave a field out
		}
	}
	if client := addrs[0]; client.IsValid() {
		bits, err := prefixLength(client, f[3])
		if err != nil {
			return bad("%w", err)
		}
		s.Addresses = append(s.Addresses, netip.PrefixFrom(client, bits))
	}
	if addrs[2].IsValid() {
		s.Gateways = append(s.Gateways, addrs[2])
	}
	if f[4] != "" {
		s.Hostname = f[4]
	}
	if f[5] != "" {
		s.Link = f[5]
	}
	if f[6] != "" {
		if err := s.method(f[6]); err != nil {
			return nil, err
		}
	}
	var servers []netip.Addr
	if isNumber(f[7]) {
		if s.MTU, err = strconv.Atoi(f[7]); err != nil {
			return bad("MTU %q", f[7])
		}
	}
	for _, a := range addrs[7:9] {
		if a.IsValid() {
			servers = append(servers, a)
		}
	}
	if f[9] != "" {
		s.NTP = append(s.NTP, f[9])
	}
	return servers, s.Check()
}

// method reads the kernel's autoconf field. BOOTP and RARP are no more; what
// asks for them gets DHCP.
func (s *Setup) method(m string) error {
	switch strings.ToLower(m) {
	case "dhcp", "on", "any", "both", "bootp", "rarp", "auto", "single-dhcp":
		s.NoDHCP = false
	case "off", "none", "static":
		s.NoDHCP = true
	case "dhcp4":
		s.NoDHCP, s.Family = false, IPv4
	case "dhcp6", "auto6", "either6":
		s.NoDHCP, s.Family = false, IPv6
	default:
		return fmt.Errorf("%w: %q is no way to an address; say dhcp, dhcp6, auto6, off, or CLIENT::GATEWAY:NETMASK:HOSTNAME:LINK:off", ErrInvalid, m)
	}
	return nil
}

// fields splits at colons outside of brackets, and takes the brackets off.
func fields(value string) ([]string, error) {
	var out []string
	for {
		if rest, ok := strings.CutPrefix(value, "["); ok {
			in, after, ok := strings.Cut(rest, "]")
			if !ok {
				return nil, fmt.Errorf("%q has no closing bracket", value)
			}
			out = append(out, in)
			if after == "" {
				return out, nil
			}
			if value, ok = strings.CutPrefix(after, ":"); !ok {
				return nil, fmt.Errorf("%q follows a bracket; want a colon", after)
			}
			continue
		}
		head, rest, more := strings.Cut(value, ":")
		out = append(out, head)
		if !more {
			return out, nil
		}
		value = rest
	}
}

// prefixLength reads a mask or a length. Without one it is as the kernel
// guesses it: the class of an IPv4 address, 64 for IPv6.
func prefixLength(a netip.Addr, mask string) (int, error) {
	switch {
	case mask == "" && a.Is4():
		ones, _ := net.IP(a.AsSlice()).DefaultMask().Size()
		return ones, nil
	case mask == "":
		return 64, nil
	case isNumber(mask):
		if n, err := strconv.Atoi(mask); err == nil && n >= 1 && n <= a.BitLen() {
			return n, nil
		}
		return 0, fmt.Errorf("%s is no length of a prefix of %v", mask, a)
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || !m.Is4() || !a.Is4() {
		return 0, fmt.Errorf("%q is no netmask for %v", mask, a)
	}
	ones, bits := net.IPMask(m.AsSlice()).Size()
	if bits == 0 || ones == 0 {
		return 0, fmt.Errorf("%q is no netmask", mask)
	}
	return ones, nil
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// SetVLAN reads the value of vlan=, which is ID, ID:LINK or, as in
// dracut.cmdline(7), NAME:LINK, where NAME ends with the id: vlan5, eth0.5,
// vlan0005. 0 and nothing switch off what was set before. Errors wrap
// ErrInvalid.
func (s *Setup) SetVLAN(value string) error {
	name, link, _ := strings.Cut(value, ":")
	digits := name[len(strings.TrimRight(name, "0123456789")):]
	id, err := strconv.Atoi(digits)
	if value == "" {
		id, err = 0, nil
	}
	if err != nil || id > MaxVLAN {
		return fmt.Errorf("%w: VLAN %q: want an id between 1 and %d, such as vlan=5 or vlan=5:eth0", ErrInvalid, value, MaxVLAN)
	}
	s.VLAN = id
	if link != "" {
		s.Link = link
	}
	return s.Check()
}
