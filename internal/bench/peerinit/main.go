// Command peerinit is the init of the machines that boot as ours do, but from
// another kind of root: a squashfs on a network block device, a folder over
// NFS, or a squashfs that is downloaded first. It does what such an initramfs
// has to do, and nothing else: modules, the link with a fixed address, the
// root, an overlay in memory, and the system's own init.
//
// Options on the kernel's command line:
//
//	peer.root=nbd|nfs|squashfs
//	peer.server=HOST:PORT
//	peer.connections=N  of nbd
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/module"
)

func main() {
	err := run()
	fmt.Fprintln(os.Stderr, "peerinit:", err)
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

const (
	lower   = "/lower"
	upper   = "/upper"
	newRoot = "/newroot"
)

// The address that QEMU's user networking would lease.
const address, gateway = "10.0.2.15/24", "10.0.2.2"

func run() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}} {
		if err := mount(m[0], m[1], m[0], 0, ""); err != nil {
			return err
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	options := map[string]string{}
	for o := range strings.FieldsSeq(string(line)) {
		k, v, _ := strings.Cut(o, "=")
		options[k] = v
	}
	mods, err := module.NewLoader("/")
	if err != nil {
		return err
	}
	kind := options["peer.root"]
	needs := map[string][]string{"nbd": {"nbd", "squashfs"}, "nfs": {"nfs", "nfsv4"}, "squashfs": {"loop", "squashfs"}}[kind]
	for _, m := range append([]string{"virtio_pci", "virtio_net", "overlay"}, needs...) {
		if err := mods.Load(m); err != nil {
			return fmt.Errorf("module %s: %w", m, err)
		}
	}
	mac, err := network()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	root := map[string]func(map[string]string) error{"nbd": nbdRoot, "nfs": nfsRoot, "squashfs": squashfsRoot}[kind]
	if root == nil {
		return fmt.Errorf("peer.root=%s is not known", kind)
	}
	if err := root(options); err != nil {
		return fmt.Errorf("root of kind %s: %w", kind, err)
	}
	if err := overlay(); err != nil {
		return err
	}
	// The link stays as it is: the root comes over it.
	if err := os.MkdirAll("/run/systemd/network", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("/run/systemd/network/00-peer.network", []byte("[Match]\nMACAddress="+mac+"\nType=ether\n\n[Network]\nDHCP=no\nKeepConfiguration=yes\n"), 0o644); err != nil {
		return err
	}
	return leave()
}

func mount(source, dir, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
	}
	return nil
}

// network raises the first Ethernet link and returns its MAC address.
func network() (string, error) {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			return "", err
		}
		for _, l := range links {
			if l.Attrs().EncapType != "ether" {
				continue
			}
			a, err := netlink.ParseAddr(address)
			if err != nil {
				return "", err
			}
			if err := errors.Join(netlink.LinkSetUp(l), netlink.AddrReplace(l, a),
				netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway)})); err != nil {
				return "", err
			}
			return l.Attrs().HardwareAddr.String(), nil
		}
		if time.Now().After(deadline) {
			return "", errors.New("no Ethernet link has appeared")
		}
	}
}

func overlay() error {
	if err := mount("tmpfs", upper, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, d), 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", newRoot, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, upper, upper))
}

// leave makes the new root the root and starts its init.
func leave() error {
	for _, d := range []string{"proc", "sys", "dev", "run"} {
		if err := unix.Mount("/"+d, filepath.Join(newRoot, d), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", d, err)
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	return fmt.Errorf("start the system's init: %w", unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"TERM=linux"}))
}
