package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/nic"
	"github.com/inetboot/inetboot/internal/linkdump"
)

// network raises the link that preboot used, with the same settings. It waits
// for the link and for its cable, and says so. A boot without a network has no
// link: nil.
func (b *booter) network(ctx context.Context) (netlink.Link, error) {
	// The interface's own loopback first: programs expect it.
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			b.log.Warn("loopback stays down", "error", err)
		}
	}
	if err := b.mods.Load("af_packet"); err != nil {
		b.log.Debug("no packet sockets", "error", err)
	}
	if b.h.Offline {
		b.say("started without a network: what is not in the cache has to wait until the system brings one up")
		return nil, nil
	}
	mac, err := net.ParseMAC(b.h.Network.MAC)
	if err != nil {
		return nil, &failure{"set up the network", err, "use a newer boot medium"}
	}
	link, err := b.findLink(ctx, mac)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(b.h.Network.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		if err := b.mods.Load("ipv6"); err != nil {
			b.log.Debug("no module ipv6", "error", err) // most kernels have it built in
		}
	}
	if b.h.Network.VLAN != 0 {
		if link, err = b.vlan(ctx, link); err != nil {
			return nil, err
		}
	}
	if err := nic.Configure(link, b.h.Network); err != nil {
		return nil, &failure{"set up " + link.Attrs().Name, err, "check the settings of the network, or try again"}
	}
	if err := b.waitCarrier(ctx, link); err != nil {
		return nil, err
	}
	kind := "static"
	if b.h.Network.Lease != nil || b.h.Network.Lease6 != nil {
		kind = "lease kept"
	}
	b.say("network %s up %v (%s)", link.Attrs().Name, b.h.Network.Addresses[0], kind)
	return link, nil
}

// vlan raises a link and returns the one to the tagged network on it.
func (b *booter) vlan(ctx context.Context, base netlink.Link) (netlink.Link, error) {
	if err := b.mods.Load("8021q"); err != nil {
		b.log.Debug("no module 8021q", "error", err)
	}
	if err := netlink.LinkSetUp(base); err != nil {
		return nil, &failure{"raise " + base.Attrs().Name, err, "check the network device, or try again"}
	}
	if err := b.waitCarrier(ctx, base); err != nil {
		return nil, err
	}
	link, err := nic.VLAN(base, b.h.Network.VLAN)
	if err != nil {
		return nil, &failure{"set up " + base.Attrs().Name, err, "the image's kernel or initramfs may lack the module 8021q: build the image anew with it"}
	}
	return link, nil
}

// findLink loads drivers until there is a link with the address.
func (b *booter) findLink(ctx context.Context, mac net.HardwareAddr) (netlink.Link, error) {
	started := time.Now()
	said := false
	seen := map[string]bool{}
	for {
		b.loadDrivers("/sys/bus", networkDirs, seen)
		links, err := linkdump.Links()
		if err != nil {
			return nil, &failure{"list network links", err, "the kernel of this image lacks something basic; build the image anew"}
		}
		if l := pickLink(links, mac); l != nil {
			return l, nil
		}
		if !said && time.Since(started) > 5*time.Second {
			said = true
			var have []string
			for _, l := range links {
				have = append(have, fmt.Sprintf("%s %v", l.Attrs().Name, l.Attrs().HardwareAddr))
			}
			b.log.Error("no network link has the address that was booted over: waiting for it; the image's kernel or initramfs may lack its driver",
				"mac", mac, "links", strings.Join(have, ", "))
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// pickLink returns the device with the address, not a VLAN or bridge on it.
func pickLink(links []netlink.Link, mac net.HardwareAddr) netlink.Link {
	for _, l := range links {
		if l.Type() == "device" && bytes.Equal(l.Attrs().HardwareAddr, mac) {
			return l
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// networkDirs and storageDirs are the parts of a kernel that these devices and
// the buses on the way to them need; drivers for other devices are the image's
// business.
var (
	networkDirs = []string{"drivers/net/", "drivers/virtio/", "drivers/usb/", "drivers/hv/", "drivers/xen/", "drivers/pci/", "drivers/pcmcia/", "net/"}
	storageDirs = []string{"drivers/ata/", "drivers/scsi/", "drivers/nvme/", "drivers/block/", "drivers/mmc/", "drivers/virtio/", "drivers/usb/", "drivers/hv/", "drivers/xen/", "drivers/pci/"}
)

// loadDrivers loads what the devices that are there ask for, as far as it lies
// in one of dirs. seen holds the modaliases that it has been through.
func (b *booter) loadDrivers(bus string, dirs []string, seen map[string]bool) {
	names, err := filepath.Glob(filepath.Join(bus, "*/devices/*/modalias"))
	if err != nil {
		return
	}
	for _, name := range names {
		alias, err := os.ReadFile(name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				b.log.Debug("modalias", "error", err)
			}
			continue
		}
		if seen[string(alias)] {
			continue
		}
		seen[string(alias)] = true
		for _, m := range b.mods.Tree.Match(string(alias)) {
			file, err := b.mods.Tree.File(m)
			if err != nil || !wantedDriver(file, dirs) {
				continue
			}
			if err := b.mods.Load(m); err != nil {
				b.log.Debug("driver", "error", err)
			}
		}
	}
}

func wantedDriver(file string, dirs []string) bool {
	_, rest, ok := strings.Cut("/"+file, "/kernel/")
	if !ok {
		return file != "" // updates/, extra/: put there on purpose
	}
	for _, d := range dirs {
		if strings.HasPrefix(rest, d) {
			return true
		}
	}
	return false
}

// waitCarrier waits until the cable is in and the other side answers.
func (b *booter) waitCarrier(ctx context.Context, link netlink.Link) error {
	started := time.Now()
	for said := false; ; {
		l, err := netlink.LinkByIndex(link.Attrs().Index)
		if err != nil {
			return &failure{"look at " + link.Attrs().Name, err, "the network device has gone; check it and try again"}
		}
		// Drivers that do not report a state say unknown.
		if s := l.Attrs().OperState; s == netlink.OperUp || s == netlink.OperUnknown || l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
			return nil
		}
		if !said && time.Since(started) > 5*time.Second {
			said = true
			b.log.Warn("the link is down: waiting for it; check the cable and the switch", "link", l.Attrs().Name)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
