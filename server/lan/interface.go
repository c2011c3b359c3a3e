package lan

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Interface is the link to the LAN.
type Interface struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
	IPv4  netip.Prefix   // its first address and the size of its network
	All   []netip.Prefix // all its addresses
}

// FindInterface looks an interface up. It has to be up and to have an IPv4
// address, which the clients are told.
func FindInterface(name string) (*Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		var have []string
		if all, lerr := net.Interfaces(); lerr == nil {
			for _, i := range all {
				have = append(have, i.Name)
			}
		}
		return nil, fmt.Errorf("--lan %s: %w: there are %s", name, err, strings.Join(have, ", "))
	}
	if ifi.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("--lan %s: the interface is down: ip link set %s up", name, name)
	}
	i := &Interface{Name: ifi.Name, Index: ifi.Index, MAC: ifi.HardwareAddr}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("--lan %s: %w", name, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		i.All = append(i.All, p)
		if p.Addr().Is4() && !i.IPv4.IsValid() {
			i.IPv4 = p
		}
	}
	if !i.IPv4.IsValid() {
		return nil, fmt.Errorf("--lan %s: the interface has no IPv4 address, which clients need: give it one, as by ip address add 192.168.1.2/24 dev %s", name, name)
	}
	return i, nil
}
