package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

const (
	// maxPacket bounds a request: what fits into a frame of Ethernet.
	maxPacket = 1500
	// maxHops is RFC 1542's limit, 4.1.1.
	maxHops = 16
	// maxText bounds names and classes that go into logs and the database.
	maxText = 128
)

// Codes that the library has no constant for.
const (
	optUUID = 97  // RFC 4578, 2.3
	optIPXE = 175 // encapsulated options of iPXE
)

// Request is what a client wants.
type Request struct {
	Packet    *dhcpv4.DHCPv4
	Type      dhcpv4.MessageType
	MAC       string // as net.HardwareAddr writes it
	UUID      string // option 97 as firmware setup shows it, or ""
	HostName  string // option 12, printable, or ""
	Kind      bootfile.Kind
	Client    bootfile.Client
	Requested netip.Addr // option 50; zero if there is none
	Address   netip.Addr // ciaddr; zero if there is none
	Relay     netip.Addr // giaddr; zero if there is none
	ServerID  netip.Addr // option 54; zero if there is none
	Link      netip.Addr // subnet of the client: RFC 3527 sub-option, RFC 3011 option, or Relay
}

var errBOOTP = errors.New("no DHCP message type: BOOTP is not served")

// Parse reads a request of at most 1500 bytes. It fails for answers, for what
// is not DHCP over a network with addresses like Ethernet's, and for options
// that do not add up.
func Parse(b []byte) (*Request, error) {
	if len(b) > maxPacket {
		return nil, fmt.Errorf("packet of %d bytes; at most %d are read", len(b), maxPacket)
	}
	// Some firmware forgets the End option, which the library insists on.
	p, err := dhcpv4.FromBytes(append(bytes.Clone(b), dhcpv4.OptionEnd.Code()))
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	switch {
	case p.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, fmt.Errorf("operation %d is no request", p.OpCode)
	case p.HopCount > maxHops:
		return nil, fmt.Errorf("%d hops; at most %d are allowed", p.HopCount, maxHops)
	case len(p.ClientHWAddr) != 6 || (p.HWType != iana.HWTypeEthernet && p.HWType != iana.HWTypeIEEE802):
		return nil, fmt.Errorf("hardware type %d with an address of %d bytes; want Ethernet", p.HWType, len(p.ClientHWAddr))
	case allZero(p.ClientHWAddr):
		return nil, errors.New("hardware address of zeros")
	}
	if len(p.Options.Get(dhcpv4.OptionDHCPMessageType)) != 1 {
		return nil, errBOOTP
	}
	r := &Request{
		Packet:    p,
		Type:      p.MessageType(),
		MAC:       p.ClientHWAddr.String(),
		Requested: addrOption(p, dhcpv4.OptionRequestedIPAddress),
		ServerID:  addrOption(p, dhcpv4.OptionServerIdentifier),
		Address:   addrOf(p.ClientIPAddr),
		Relay:     addrOf(p.GatewayIPAddr),
	}
	r.Link = r.Relay
	if a := addrOption(p, dhcpv4.OptionSubnetSelection); a.IsValid() {
		r.Link = a
	}
	if rai := p.RelayAgentInfo(); rai != nil && r.Relay.IsValid() {
		if a, ok := netip.AddrFromSlice(rai.Get(dhcpv4.LinkSelectionSubOption)); ok && a.Is4() {
			r.Link = a
		}
	}
	r.HostName = hostName(p.Options.Get(dhcpv4.OptionHostName))
	r.UUID = uuid(p.Options[optUUID])
	r.Client = client(p)
	r.Kind = bootfile.Classify(r.Client)
	return r, nil
}

func client(p *dhcpv4.DHCPv4) bootfile.Client {
	c := bootfile.Client{
		Vendor: text(p.Options.Get(dhcpv4.OptionClassIdentifier)),
		User:   userClasses(p.Options.Get(dhcpv4.OptionUserClassInformation)),
	}
	arch := p.Options.Get(dhcpv4.OptionClientSystemArchitectureType)
	for len(arch) >= 2 && len(c.Arch) < 16 {
		c.Arch = append(c.Arch, binary.BigEndian.Uint16(arch))
		arch = arch[2:]
	}
	if b, ok := p.Options[optIPXE]; ok {
		c.IPXE = true
		feature := make(dhcpv4.Options)
		// iPXE lists each protocol that it has; one without any is left alone.
		if err := feature.FromBytes(b); err == nil && len(feature) > 0 {
			const http = 0x13
			_, has := feature[http]
			c.NoHTTP = !has
		}
	}
	return c
}

// userClasses reads option 77: a list of strings with lengths (RFC 3004), or
// the bare string that iPXE and others send.
func userClasses(b []byte) []string {
	var list []string
	rest := b
	for len(rest) > 0 && len(list) < 16 {
		n := int(rest[0])
		if n == 0 || n >= len(rest) {
			return []string{text(b)}
		}
		list, rest = append(list, text(rest[1:1+n])), rest[1+n:]
	}
	return list
}

// uuid reads option 97: type 0 and 16 bytes, of which SMBIOS has the first
// three fields in little-endian order.
func uuid(b []byte) string {
	if len(b) != 17 || b[0] != 0 || allZero(b[1:]) || !slices.ContainsFunc(b[1:], func(c byte) bool { return c != 0xff }) {
		return ""
	}
	u := b[1:]
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x",
		binary.LittleEndian.Uint32(u), binary.LittleEndian.Uint16(u[4:]), binary.LittleEndian.Uint16(u[6:]), binary.BigEndian.Uint16(u[8:]), u[10:16])
}

// text makes bytes from the network fit for logs: bounded, printable ASCII.
func text(b []byte) string {
	b = bytes.TrimRight(b[:min(len(b), maxText)], "\x00")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b))
}

// hostName accepts what RFC 1123 allows, and returns "" for anything else.
func hostName(b []byte) string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) > maxText {
		return ""
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return ""
		}
	}
	return string(b)
}

func addrOption(p *dhcpv4.DHCPv4, code dhcpv4.OptionCode) netip.Addr {
	return addrOf(p.Options.Get(code))
}

// addrOf returns the zero Addr for 0.0.0.0 and for what is no address of IPv4.
func addrOf(b []byte) netip.Addr {
	if len(b) != 4 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(b)
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func allZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}
