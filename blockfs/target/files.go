package target

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/apply"
	"github.com/inetboot/inetboot/blockfs/inroot"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/handoff"
)

// writeFiles writes what the image's own programs have to know.
func (b *booter) writeFiles(link netlink.Link, pid int) error {
	n := b.h.Network
	if link != nil {
		n.Nameservers = n.Resolvers(link.Attrs().Name)
	}
	for name, content := range runFiles(n, link, pid) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return &failure{"write " + name, err, "the machine may have too little memory"}
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return &failure{"write " + name, err, "the machine may have too little memory"}
		}
	}
	if err := writeVariables(clientsettings.File, b.h.Variables); err != nil {
		b.log.Warn("the settings of this machine are not in "+clientsettings.File, "error", err)
	}
	if err := writeResolvConf(newRoot, n); err != nil {
		b.log.Warn("the image gets no resolver configuration", "error", err)
	}
	name, err := writeHostname(newRoot, b.h.Network.Hostname)
	if err != nil {
		b.log.Warn("the image gets no host name", "error", err)
	}
	b.setHostname(name)
	return nil
}

func (b *booter) setHostname(name string) {
	if name == "" {
		return
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		b.log.Warn("the machine gets no host name", "name", name, "error", err)
	}
}

// ownState is as what ifupdown believes the link to be set up.
const ownState = "inetboot"

// runFiles returns the files below /run that keep the image's programs from
// taking the network down or killing the daemon. Without a link the network is
// the image's own business.
func runFiles(n handoff.Network, link netlink.Link, pid int) map[string]string {
	const omit = "/run/sendsigs.omit.d/inetboot"
	if link == nil {
		return map[string]string{omit: strconv.Itoa(pid) + "\n"}
	}
	name := link.Attrs().Name
	var dns, domains strings.Builder
	for _, a := range n.Nameservers {
		fmt.Fprintf(&dns, "DNS=%v\n", a)
	}
	if len(n.Search) > 0 {
		fmt.Fprintf(&domains, "Domains=%s\n", strings.Join(n.Search, " "))
	}
	// A tagged network has the address of the link below it, which is to be left
	// alone, too.
	types, below := "ether", ""
	if n.VLAN != 0 {
		types = "ether vlan"
		below, _ = strings.CutSuffix(name, fmt.Sprintf(".%d", n.VLAN))
		if below == name {
			below = ""
		}
	}
	routers := ""
	if slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		routers = "IPv6AcceptRA=no\n" // or there would be a second DHCPv6 client
	}
	note := "# The root filesystem comes over this link: it was set up before the system\n# started, and has to stay as it is.\n"
	files := map[string]string{
		// systemd.network(5): sorted before all others, so it wins.
		"/run/systemd/network/00-inetboot.network": note +
			"[Match]\nMACAddress=" + n.MAC + "\nType=" + types + "\n\n" +
			"[Network]\nDHCP=no\nKeepConfiguration=yes\n" + routers + dns.String() + domains.String(),
		"/run/NetworkManager/conf.d/00-inetboot.conf": note +
			"[device-inetboot]\nmatch-device=mac:" + n.MAC + "\nmanaged=0\n",
		// A link that is up keeps its name, or these files would be about
		// another one (systemd.link(5)).
		"/run/systemd/network/00-inetboot.link": note +
			"[Match]\nMACAddress=" + n.MAC + "\nType=" + types + "\n\n" +
			"[Link]\nNamePolicy=keep\nAlternativeNamesPolicy=database onboard slot path mac\nMACAddressPolicy=none\n",
		// ifup(8) does nothing for an interface that it believes to be up, and
		// ifdown(8), as in `ifdown -a` when the machine goes down, nothing for
		// one that was set up as what interfaces(5) does not have. Since version
		// 0.8 each interface has a file of its own.
		"/run/network/ifstate":         "lo=lo\n" + name + "=" + ownState + "\n",
		"/run/network/ifstate." + name: ownState + "\n",
		omit:                           strconv.Itoa(pid) + "\n",
	}
	if below != "" {
		files["/run/network/ifstate"] += below + "=" + ownState + "\n"
		files["/run/network/ifstate."+below] = ownState + "\n"
	}
	return files
}

// resolvConf returns what resolv.conf(5) should say, "" if nothing is known.
func resolvConf(n handoff.Network) string {
	if len(n.Nameservers) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# Written at boot, from the network's settings.\n")
	for i, a := range n.Nameservers {
		if i == 3 {
			break // MAXNS
		}
		fmt.Fprintf(&b, "nameserver %v\n", a)
	}
	if len(n.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(n.Search, " "))
	}
	return b.String()
}

// writeResolvConf writes the image's /etc/resolv.conf if nothing else will and
// the image brings none of use.
func writeResolvConf(root string, n handoff.Network) error {
	text := resolvConf(n)
	if text == "" {
		return nil
	}
	name := filepath.Join(root, "etc/resolv.conf")
	if target, err := os.Readlink(name); err == nil {
		if strings.Contains(target, "run/systemd/resolve/") && exists(root, "/usr/lib/systemd/systemd-resolved", "/lib/systemd/systemd-resolved") {
			return nil // it learns the servers from systemd-networkd's file
		}
		// Below /run nothing is there yet, whatever the link says.
		if real, err := inroot.Resolve(root, "/etc/resolv.conf"); err == nil && hasNameserver(filepath.Join(root, real)) {
			return nil
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	} else if hasNameserver(name) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

func exists(root string, names ...string) bool {
	for _, n := range names {
		if _, err := inroot.Resolve(root, n); err == nil {
			return true
		}
	}
	return false
}

func hasNameserver(name string) bool {
	b, err := readSmall(name)
	if err != nil {
		return false
	}
	for line := range strings.Lines(b) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			return true
		}
	}
	return false
}

// readSmall reads the beginning of a regular file.
func readSmall(name string) (string, error) {
	st, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(f, 64<<10)); err != nil {
		return "", err
	}
	return b.String(), nil
}

// writeHostname writes the image's /etc/hostname if it has none of its own. It
// returns the name that the machine should have, "" if the image decides.
func writeHostname(root, name string) (string, error) {
	if name == "" || !apply.ValidHostname(name) {
		return "", nil
	}
	file := filepath.Join(root, "etc/hostname")
	have, err := readSmall(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", nil // a link or a folder: the image's own idea
	}
	for line := range strings.Lines(have) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line != "localhost" && line != "localhost.localdomain" {
			return "", nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	return name, os.WriteFile(file, []byte(name+"\n"), 0o644)
}
