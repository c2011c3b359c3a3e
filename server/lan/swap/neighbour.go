package swap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotOnLAN is wrapped when an address belongs to no neighbour.
var ErrNotOnLAN = errors.New("not a machine of this LAN")

// Neighbour returns the MAC address that the kernel sends to when it sends to
// an address: what a client has answered ARP with, and not what it says. It is
// known while there is a connection. Errors wrap ErrNotOnLAN.
func Neighbour(_ context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	list, err := netlink.NeighList(0, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("look for the neighbour %s: %w", addr, err)
	}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == addr.WithZone("") && len(n.HardwareAddr) > 0 && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
			return n.HardwareAddr, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotOnLAN, addr)
}
