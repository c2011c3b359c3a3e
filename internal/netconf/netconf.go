// Package netconf is what people say about a machine's network: on the kernel
// command line, in the site file, in a form. What they do not say comes from
// the network itself.
package netconf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ErrInvalid is wrapped by every error about a Setup or an option.
var ErrInvalid = errors.New("invalid network settings")

// Values of Family.
const (
	Both = ""
	IPv4 = "ipv4"
	IPv6 = "ipv6"
)

// Bounds.
const (
	MinMTU  = 576  // RFC 791: what every IPv4 host has to take
	MaxMTU  = 9216 // what switches call jumbo frames
	MinMTU6 = 1280 // RFC 8200 section 5
	MaxVLAN = 4094 // IEEE 802.1Q; 0 and 4095 are reserved

	maxAddresses = 8
	maxServers   = 8
	maxLinkName  = 15 // IFNAMSIZ less the final zero
	maxName      = 253
)

// Setup is what somebody has said. The zero value leaves everything to the
// network: DHCP and router advertisements on every link.
type Setup struct {
	Link      string         `json:"link,omitempty"`      // name (eth0) or MAC address of the one link to use; "": all of them
	VLAN      int            `json:"vlan,omitempty"`      // IEEE 802.1Q id of the tagged network, 1 to 4094; 0: untagged
	MTU       int            `json:"mtu,omitempty"`       // bytes, MinMTU to MaxMTU; 0: as the network says
	Family    string         `json:"family,omitempty"`    // IPv4 or IPv6 alone; "": both
	NoDHCP    bool           `json:"nodhcp,omitempty"`    // no DHCP exchange is made; router advertisements count
	Addresses []netip.Prefix `json:"addresses,omitempty"` // static: no other addresses of the same family are asked for
	Gateways  []netip.Addr   `json:"gateways,omitempty"`  // default router, at most one of each family
	Hostname  string         `json:"hostname,omitempty"`
	NTP       []string       `json:"ntp,omitempty"` // time servers, names or addresses, before those of the network
}

// IsZero tells whether nothing has been said.
func (s Setup) IsZero() bool {
	return s.Link == "" && s.VLAN == 0 && s.MTU == 0 && s.Family == "" && !s.NoDHCP &&
		len(s.Addresses) == 0 && len(s.Gateways) == 0 && s.Hostname == "" && len(s.NTP) == 0
}

// Static returns the static addresses of one family.
func (s Setup) Static(family string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Addresses {
		if p.Addr().Is4() == (family == IPv4) {
			out = append(out, p)
		}
	}
	return out
}

// Uses tells whether a family is wanted.
func (s Setup) Uses(family string) bool { return s.Family == Both || s.Family == family }

// Check returns an error that wraps ErrInvalid if s says something impossible.
func (s Setup) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	if s.Link != "" && !validLink(s.Link) {
		return bad("%q is neither the name of a link, such as eth0, nor a MAC address", s.Link)
	}
	if s.VLAN < 0 || s.VLAN > MaxVLAN {
		return bad("VLAN %d is not between 1 and %d", s.VLAN, MaxVLAN)
	}
	if s.MTU != 0 && (s.MTU < MinMTU || s.MTU > MaxMTU) {
		return bad("MTU %d is not between %d and %d bytes", s.MTU, MinMTU, MaxMTU)
	}
	if !slices.Contains([]string{Both, IPv4, IPv6}, s.Family) {
		return bad("family %q is neither %s nor %s", s.Family, IPv4, IPv6)
	}
	if len(s.Addresses) > maxAddresses {
		return bad("%d addresses, at most %d are allowed", len(s.Addresses), maxAddresses)
	}
	for _, p := range s.Addresses {
		if a := p.Addr(); !p.IsValid() || !unicast(a) || a.Is4In6() || p.Bits() == 0 {
			return bad("%v is no address for a machine", p)
		}
	}
	seen := map[bool]bool{}
	for _, g := range s.Gateways {
		if !unicast(g) || g.Is4In6() || g.Zone() != "" {
			return bad("%v is no address for a gateway", g)
		}
		if seen[g.Is4()] {
			return bad("there is more than one gateway of a family")
		}
		seen[g.Is4()] = true
	}
	if s.Hostname != "" && !ValidName(s.Hostname) {
		return bad("%q is no host name", s.Hostname)
	}
	if len(s.NTP) > maxServers {
		return bad("%d time servers, at most %d are allowed", len(s.NTP), maxServers)
	}
	for _, n := range s.NTP {
		if _, err := netip.ParseAddr(n); err != nil && !ValidName(n) {
			return bad("time server %q is neither a name nor an address", n)
		}
	}
	return nil
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// validLink tells whether s can be a link's name (Linux, dev_valid_name) or a
// MAC address.
func validLink(s string) bool {
	if mac, err := net.ParseMAC(s); err == nil && len(mac) == 6 {
		return true
	}
	if len(s) > maxLinkName || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '/' || c == ':' {
			return false
		}
	}
	return true
}

// ValidName tells whether s can be a host's or domain's name (RFC 1123, with
// the underscore that is common all the same).
func ValidName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// Named tells whether a link with this name and MAC address is the one that
// Link names, or Link names none.
func (s Setup) Named(name string, mac net.HardwareAddr) bool {
	return s.Link == "" || s.Link == name || strings.EqualFold(s.Link, mac.String())
}
