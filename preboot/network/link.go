package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	all, err := netlink.LinkList()
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

// down removes the link's addresses and takes it down, which ends its
// driver's transfers: a device that still writes into memory would spoil the
// next kernel.
func (l link) down() error {
	return errors.Join(l.flush(), func() error {
		if err := netlink.LinkSetDown(l.handle()); err != nil && !errors.Is(err, syscall.ENODEV) {
			return fmt.Errorf("take %s down: %w", l.name, err)
		}
		return nil
	}())
}

// flush removes addresses; the kernel removes the routes with them.
func (l link) flush() error {
	addrs, err := netlink.AddrList(l.handle(), netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of %s: %w", l.name, err)
	}
	for _, a := range addrs {
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
func (l link) configure(c *Config, log func(string)) error {
	if c.MTU > 0 {
		if err := netlink.LinkSetMTU(l.handle(), c.MTU); err != nil {
			log(fmt.Sprintf("%s cannot use the MTU %d: %v", l.name, c.MTU, err))
		}
	}
	for _, p := range c.Addresses {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if err := netlink.AddrReplace(l.handle(), a); err != nil {
			return fmt.Errorf("give %s the address %v: %w", l.name, p, err)
		}
	}
	for _, r := range c.Routes {
		dst := &net.IPNet{IP: r.Destination.Addr().AsSlice(), Mask: net.CIDRMask(r.Destination.Bits(), r.Destination.Addr().BitLen())}
		route := &netlink.Route{LinkIndex: l.index, Dst: dst, Scope: netlink.SCOPE_LINK}
		if r.Gateway.IsValid() {
			route.Gw, route.Scope = r.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add the route to %v by %v: %w", r.Destination, r.Gateway, err)
		}
	}
	return nil
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
