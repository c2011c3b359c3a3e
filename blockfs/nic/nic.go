// Package nic sets up the network link that a machine's root comes over, as
// it was handed over, and sets it up again when something on the machine has
// taken it down while reads of the root wait for it.
package nic

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/linkdump"
)

// VLAN makes the link to a tagged network (IEEE 802.1Q) on a link that is up,
// or returns the one that there is.
func VLAN(base netlink.Link, id int) (netlink.Link, error) {
	name := fmt.Sprintf("%s.%d", base.Attrs().Name, id)
	if len(name) >= unix.IFNAMSIZ {
		name = fmt.Sprintf("vlan%d", id)
	}
	v := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: base.Attrs().Index}, VlanId: id}
	if err := netlink.LinkAdd(v); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("VLAN %d: %w", id, err)
	}
	return netlink.LinkByName(name)
}

// parent returns the link below a tagged network, or nil.
func parent(l netlink.Link) netlink.Link {
	if l.Type() != "vlan" {
		return nil
	}
	p, err := netlink.LinkByIndex(l.Attrs().ParentIndex)
	if err != nil {
		return nil
	}
	return p
}

// Configure gives the link its MTU, addresses and routes, and raises it.
func Configure(l netlink.Link, n handoff.Network) error {
	if p := parent(l); p != nil {
		if err := netlink.LinkSetUp(p); err != nil {
			return fmt.Errorf("raise %s: %w", p.Attrs().Name, err)
		}
	}
	if n.MTU != 0 && n.MTU != l.Attrs().MTU {
		if err := netlink.LinkSetMTU(l, n.MTU); err != nil {
			return fmt.Errorf("MTU %d: %w", n.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("raise: %w", err)
	}
	for _, a := range addresses(n) {
		if err := netlink.AddrReplace(l, a); err != nil {
			return fmt.Errorf("address %v: %w", a.IPNet, err)
		}
	}
	for _, r := range routes(l.Attrs().Index, n) {
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("route to %v: %w", r.Dst, err)
		}
	}
	return nil
}

// addresses converts the addresses. Those of IPv6 were in use a second ago, so
// duplicates are not looked for.
func addresses(n handoff.Network) []*netlink.Addr {
	var out []*netlink.Addr
	for _, p := range n.Addresses {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			if p.Addr().IsLinkLocalUnicast() {
				continue // the kernel makes its own
			}
			a.Flags = unix.IFA_F_NODAD
		}
		out = append(out, a)
	}
	return out
}

// routes converts the routes: those without a gateway first, because the
// others may need them.
func routes(index int, n handoff.Network) []*netlink.Route {
	var direct, via []*netlink.Route
	for _, r := range n.Routes {
		d := r.Destination.Masked()
		nr := &netlink.Route{LinkIndex: index, Dst: &net.IPNet{IP: d.Addr().AsSlice(), Mask: net.CIDRMask(d.Bits(), d.Addr().BitLen())}}
		if !r.Gateway.IsValid() {
			nr.Scope = netlink.SCOPE_LINK
			if d.Addr().Is6() {
				nr.Scope = netlink.SCOPE_UNIVERSE
			}
			direct = append(direct, nr)
			continue
		}
		nr.Gw = r.Gateway.AsSlice()
		// A gateway need not be in an on-link network (RFC 3442, /32 leases).
		nr.Flags = int(netlink.FLAG_ONLINK)
		via = append(via, nr)
	}
	return append(direct, via...)
}

// patience is how long a fetch may take before the link is looked at, and how
// long there is at least between two looks.
const patience = time.Second

// Keeper keeps a link as it was handed over. It acts only while something is
// fetched in vain: whoever puts the link into a bridge, or the machine into
// another network, and does it so that the store can be reached, is left alone.
type Keeper struct {
	index int
	net   handoff.Network
	log   *slog.Logger

	mu   sync.Mutex
	last time.Time // look
}

// NewKeeper returns a Keeper for the link with the given index. A Keeper that
// is nil does nothing.
func NewKeeper(index int, n handoff.Network, log *slog.Logger) *Keeper {
	return &Keeper{index: index, net: n, log: log}
}

// Watch looks at the link while a fetch goes on, if it takes long. done ends
// it.
func (k *Keeper) Watch() (done func()) {
	if k == nil {
		return func() {}
	}
	var mu sync.Mutex
	var t *time.Timer
	ended := false
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(patience, func() {
		k.Look()
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			t.Reset(patience)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
		t.Stop()
	}
}

// Look puts right what is wrong with the link, and says so.
func (k *Keeper) Look() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.last) < patience {
		return
	}
	k.last = time.Now()
	l, err := netlink.LinkByIndex(k.index)
	if err != nil {
		k.log.Debug("the link is not there", "error", err)
		return
	}
	wrong := k.wrong(l)
	if len(wrong) == 0 {
		return
	}
	if err := Configure(l, k.net); err != nil {
		k.log.Error("the root comes over a link that has been changed, and it cannot be set up again", "link", l.Attrs().Name, "missing", strings.Join(wrong, ", "), "error", err)
		return
	}
	k.log.Error("the root comes over a link that has been changed: it is set up again", "link", l.Attrs().Name, "missing", strings.Join(wrong, ", "))
}

// wrong says what the link lacks.
func (k *Keeper) wrong(l netlink.Link) []string {
	var out []string
	if p := parent(l); l.Attrs().Flags&net.FlagUp == 0 || p != nil && p.Attrs().Flags&net.FlagUp == 0 {
		out = append(out, "up")
	}
	if l.Attrs().MasterIndex != 0 {
		return out // addresses and routes are those of a bridge or bond
	}
	// Whichever link has it: a VLAN on this one, perhaps.
	have, err := linkdump.Addrs(nil, netlink.FAMILY_ALL)
	if err != nil {
		return out
	}
	for _, a := range addresses(k.net) {
		if !slices.ContainsFunc(have, func(h netlink.Addr) bool { return h.IP.Equal(a.IP) }) {
			out = append(out, a.IPNet.String())
		}
	}
	table, err := linkdump.Routes(nil, netlink.FAMILY_ALL)
	if err != nil {
		return out
	}
	for _, r := range routes(k.index, k.net) {
		if !slices.ContainsFunc(table, func(h netlink.Route) bool { return sameNet(h.Dst, r.Dst) }) {
			out = append(out, "route to "+r.Dst.String())
		}
	}
	return out
}

// sameNet tells whether two destinations are the same; nil is the default
// route of either family.
func sameNet(have, want *net.IPNet) bool {
	ones, _ := want.Mask.Size()
	if have == nil {
		return ones == 0
	}
	h, _ := have.Mask.Size()
	return h == ones && have.IP.Equal(want.IP)
}
