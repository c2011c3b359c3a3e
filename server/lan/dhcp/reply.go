package dhcp

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// Sub-options of option 43 in PXE (specification 2.1, table 2-1).
const (
	pxeDiscoveryControl = 6
	pxeBootItem         = 71
	pxeLoadOffered      = 8 // bit 3: load the offered file, without a menu or a search for boot servers
)

// ipxeNoProxy is a sub-option of iPXE's: it need not wait for proxies.
const ipxeNoProxy = 176

// answer begins an answer of the type to r. What relays and clients need to
// recognize it is copied.
func answer(r *Request, t dhcpv4.MessageType, server netip.Addr) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        r.Packet.HWType,
		TransactionID: r.Packet.TransactionID,
		Flags:         r.Packet.Flags,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: r.Packet.GatewayIPAddr,
		ClientHWAddr:  r.Packet.ClientHWAddr,
		Options: dhcpv4.Options{
			dhcpv4.OptionDHCPMessageType.Code():  {byte(t)},
			dhcpv4.OptionServerIdentifier.Code(): server.AsSlice(),
		},
	}
	for _, c := range []dhcpv4.OptionCode{dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier} { // RFC 3046, RFC 6842
		if b := r.Packet.Options.Get(c); b != nil {
			p.Options[c.Code()] = b
		}
	}
	return p
}

// setBoot tells the client what to load; file is what bootfile.Choose returned.
// proxy says that the address comes from another server: the class has to be
// there then, and is the only reason for which firmware looks at the answer.
func setBoot(p *dhcpv4.DHCPv4, r *Request, file string, server netip.Addr, proxy bool) {
	if file == "" {
		return
	}
	p.ServerIPAddr = server.AsSlice()
	p.ServerHostName = server.String()
	if len(file) < 128 {
		p.BootFileName = file
	}
	wanted := r.Packet.Options.Get(dhcpv4.OptionParameterRequestList)
	wants := func(c dhcpv4.OptionCode) bool { return slices.Contains(wanted, c.Code()) }
	if len(file) >= 128 || wants(dhcpv4.OptionBootfileName) {
		p.Options[dhcpv4.OptionBootfileName.Code()] = []byte(file)
	}
	if wants(dhcpv4.OptionTFTPServerName) && !r.Kind.HTTP() {
		p.Options[dhcpv4.OptionTFTPServerName.Code()] = []byte(server.String())
	}
	// Echoed only to who sent it: there are clients without it.
	if b, ok := r.Packet.Options[optUUID]; ok {
		p.Options[optUUID] = b
	}
	switch {
	case r.Kind == bootfile.HTTPUEFI || r.Kind == bootfile.HTTPARM64:
		// Without the class UEFI takes the answer for one that is not about HTTP.
		p.Options[dhcpv4.OptionClassIdentifier.Code()] = []byte("HTTPClient")
		p.Options[dhcpv4.OptionBootfileName.Code()] = []byte(file)
	case proxy:
		p.Options[dhcpv4.OptionClassIdentifier.Code()] = []byte("PXEClient")
		// UEFI that reads option 43 and finds no menu in it gives up; without it, it
		// asks once more at port 4011.
		if r.Kind == bootfile.PXEBIOS || r.Kind == bootfile.IPXE {
			p.Options[dhcpv4.OptionVendorSpecificInformation.Code()] = []byte{pxeDiscoveryControl, 1, pxeLoadOffered, 255}
		}
	case r.Kind == bootfile.IPXE && r.Client.IPXE:
		p.Options[optIPXE] = []byte{ipxeNoProxy, 1, 1}
	}
}

// setBootItem answers a search for a boot server (PXE specification, 2.4.5)
// with the item that was asked for.
func setBootItem(p *dhcpv4.DHCPv4, r *Request) {
	vendor := make(dhcpv4.Options)
	if err := vendor.FromBytes(r.Packet.Options.Get(dhcpv4.OptionVendorSpecificInformation)); err != nil {
		return
	}
	if item := vendor[pxeBootItem]; len(item) == 4 {
		p.Options[dhcpv4.OptionVendorSpecificInformation.Code()] = append(append([]byte{pxeBootItem, 4}, item...), 255)
	}
}

// setNetwork writes what clients are told of the network.
func setNetwork(p *dhcpv4.DHCPv4, r *Request, o Options, subnet netip.Prefix) {
	o.encode(p.Options, subnet)
	wanted := r.Packet.Options.Get(dhcpv4.OptionParameterRequestList)
	if len(wanted) == 0 {
		return
	}
	for _, c := range []dhcpv4.OptionCode{dhcpv4.OptionNTPServers, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionClasslessStaticRoute} {
		if !slices.Contains(wanted, c.Code()) {
			delete(p.Options, c.Code())
		}
	}
}

// setLease writes the times of a lease.
func setLease(p *dhcpv4.DHCPv4, d time.Duration) {
	set := func(c dhcpv4.OptionCode, d time.Duration) { p.Options.Update(dhcpv4.OptGeneric(c, seconds(d))) }
	set(dhcpv4.OptionIPAddressLeaseTime, d)
	set(dhcpv4.OptionRenewTimeValue, d/2)
	set(dhcpv4.OptionRebindingTimeValue, d*7/8)
}

func seconds(d time.Duration) []byte { return dhcpv4.Duration(d).ToBytes() }

// encode returns the packet, without options that can be done without if it
// would be larger than the client takes.
func encode(p *dhcpv4.DHCPv4, r *Request) []byte {
	limit := 576 // RFC 2131, 2
	if b := r.Packet.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(b) == 2 {
		limit = max(limit, min(int(b[0])<<8|int(b[1]), 1500))
	}
	const headers = 20 + 8
	b := p.ToBytes()
	for _, c := range []dhcpv4.OptionCode{dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionNTPServers, dhcpv4.OptionTFTPServerName, dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionClasslessStaticRoute} {
		if len(b)+headers <= limit {
			break
		}
		delete(p.Options, c.Code())
		b = p.ToBytes()
	}
	return b
}
