package daemon

import (
	"net"
	"net/netip"

	"github.com/inetboot/inetboot/internal/handoff"
)

// address4 returns the first IPv4 address.
func address4(n handoff.Network) netip.Addr {
	for _, a := range n.Addresses {
		if a.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// resolvers returns the name servers as they can be asked by way of the link
// with an index.
func resolvers(n handoff.Network, index int) []netip.Addr {
	link, err := net.InterfaceByIndex(index)
	if err != nil {
		return n.Nameservers
	}
	return n.Resolvers(link.Name)
}
