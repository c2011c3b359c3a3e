package daemon

import (
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
