package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/linkdump"
)

// pollTime is how often links are looked at. Polling costs nothing here and,
// unlike notifications, misses nothing.
const pollTime = 100 * time.Millisecond

// link is a network interface of the machine.
type link struct {
	name  string
	index int
	hw    net.HardwareAddr
}

// links returns the Ethernet links that have hardware, or what looks like it,
// behind them.
func links() ([]link, error) {
	all, err := linkdump.Links()
	if err != nil {
		return nil, fmt.Errorf("list the network links: %w", err)
	}
	var out []link
	for _, l := range all {
		a := l.Attrs()
		switch l.Type() {
		case "device", "veth":
		default:
			continue // bridges, VLANs, tunnels
		}
		if a.EncapType == "ether" && a.Flags&net.FlagLoopback == 0 && len(a.HardwareAddr) == 6 {
			out = append(out, link{name: a.Name, index: a.Index, hw: a.HardwareAddr})
		}
	}
	return out, nil
}

func (l link) handle() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: l.name, Index: l.index}}
}

func (l link) up() error {
	if err := netlink.LinkSetUp(l.handle()); err != nil {
		return fmt.Errorf("raise %s: %w", l.name, err)
	}
	return nil
}

// down removes the link's addresses and the tagged networks on it and takes it
// down, which removes routes and ends its driver's transfers: a device that still writes into
// memory would spoil the next kernel.
func (l link) down() error {
	err := l.flush(nil)
	all, e := linkdump.Links()
	if e != nil {
		err = errors.Join(err, fmt.Errorf("list the network links: %w", e))
	}
	for _, v := range all {
		if v.Type() == "vlan" && v.Attrs().ParentIndex == l.index {
			if e := netlink.LinkDel(v); e != nil {
				err = errors.Join(err, fmt.Errorf("remove %s: %w", v.Attrs().Name, e))
			}
		}
	}
	if e := netlink.LinkSetDown(l.handle()); e != nil && !errors.Is(e, syscall.ENODEV) {
		err = errors.Join(err, fmt.Errorf("take %s down: %w", l.name, e))
	}
	return err
}

// tagged returns the link to the network with a VLAN id on this one.
func (l link) tagged(id int) (link, error) {
	t := link{name: fmt.Sprintf("%s.%d", l.name, id), hw: l.hw}
	if len(t.name) >= unix.IFNAMSIZ {
		t.name = fmt.Sprintf("vlan%d", id)
	}
	if err := addVLAN(l.index, id, t.name); errors.Is(err, syscall.EOPNOTSUPP) {
		return t, fmt.Errorf("VLAN %d on %s: this kernel has no VLANs", id, l.name)
	} else if err != nil && !errors.Is(err, syscall.EEXIST) {
		return t, fmt.Errorf("VLAN %d on %s: %w", id, l.name, err)
	}
	made, err := netlink.LinkByName(t.name)
	if err != nil {
		return t, fmt.Errorf("VLAN %d on %s: %w", id, l.name, err)
	}
	t.index = made.Attrs().Index
	return t, nil
}

// addVLAN makes a link of type vlan (rtnetlink(7)). netlink.LinkAdd would do,
// but brings all other types of links into the medium, 8 kB.
func addVLAN(parent, id int, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(parent))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vlan"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(uint16(id)))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// flush removes addresses and routes: those of IPv4 go with the addresses.
func (l link) flush(routes []handoff.Route) error {
	for _, r := range routes {
		if r.Destination.Addr().Is4() {
			continue
		}
		if err := netlink.RouteDel(&netlink.Route{LinkIndex: l.index, Dst: ipNet(r.Destination), Gw: r.Gateway.AsSlice()}); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("remove the route to %v by %s: %w", r.Destination, l.name, err)
		}
	}
	addrs, err := linkdump.Addrs(l.handle(), netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", l.name, err)
	}
	for _, a := range addrs {
		if a.IP.To4() == nil && a.IP.IsLinkLocalUnicast() {
			continue // the kernel's own
		}
		if err := netlink.AddrDel(l.handle(), &a); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %v from %s: %w", a.IPNet, l.name, err)
		}
	}
	return nil
}

// waitCarrier waits until the link has a carrier and the kernel has begun to
// send on it: what is sent between the two is lost.
func (l link) waitCarrier(ctx context.Context) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		now, err := netlink.LinkByIndex(l.index)
		if err != nil {
			return fmt.Errorf("look at %s: %w", l.name, err)
		}
		const ready = unix.IFF_LOWER_UP | unix.IFF_RUNNING
		if now.Attrs().RawFlags&ready == ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// configure sets the link's address, routes and MTU. A kernel that refuses
// the MTU keeps its own, which is reported to log.
func (l link) configure(ctx context.Context, c *Config, log func(string)) error {
	if c.MTU > 0 {
		if err := netlink.LinkSetMTU(l.handle(), c.MTU); err != nil {
			log(fmt.Sprintf("%s cannot use the MTU %d: %v", l.name, c.MTU, err))
		}
	}
	wait := false // until addresses of IPv6 can be used
	for _, p := range c.Addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() && len(l.hw) == 6 && p.Addr() == interfaceAddress(p, l.hw) {
			a.Flags = unix.IFA_F_NODAD // looked for with the link-local address
		} else if p.Addr().Is6() {
			wait = true
		}
		if err := netlink.AddrReplace(l.handle(), a); err != nil {
			return fmt.Errorf("give %s the address %v: %w", l.name, p, err)
		}
	}
	if wait && c.Addresses[0].Addr().Is6() {
		if err := l.waitUsable(ctx); err != nil {
			return err
		}
	}
	// Gateways may lie behind on-link routes.
	for _, direct := range []bool{true, false} {
		for _, r := range c.Routes {
			if r.Gateway.IsValid() == direct {
				continue
			}
			route := &netlink.Route{LinkIndex: l.index, Dst: ipNet(r.Destination)}
			if !direct {
				route.Gw = r.Gateway.AsSlice()
				route.Flags = int(netlink.FLAG_ONLINK)
			} else if r.Destination.Addr().Is4() {
				route.Scope = netlink.SCOPE_LINK
			}
			if err := netlink.RouteReplace(route); err != nil {
				return fmt.Errorf("add the route to %v by %v: %w", r.Destination, r.Gateway, err)
			}
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// waitUsable waits until it is known that nobody else has the link's addresses
// (RFC 4862 section 5.4): about a second.
func (l link) waitUsable(ctx context.Context) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); ; {
		addrs, err := linkdump.Addrs(l.handle(), netlink.FAMILY_V6)
		if err != nil {
			return fmt.Errorf("list the addresses of %s: %w", l.name, err)
		}
		tentative := false
		for _, a := range addrs {
			if a.Flags&unix.IFA_F_DADFAILED != 0 {
				return fmt.Errorf("another machine on %s has the address %v", l.name, a.IP)
			}
			tentative = tentative || a.Flags&unix.IFA_F_TENTATIVE != 0
		}
		if !tentative || time.Now().After(end) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeResolvConf sets the machine's resolver, for search domains; servers
// are given to whoever asks names directly.
func writeResolvConf(path string, c *Config) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, []byte(c.ResolvConf()), 0o644); err != nil {
		return fmt.Errorf("set the name servers: %w", err)
	}
	return nil
}
