package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// startWhole is startSystemd for a whole system: all that it starts by itself,
// with this system's programs, and with Debian's DHCP servers as they come.
func startWhole() string {
	return strings.NewReplacer(
		"mkdir -p usr etc/systemd/system run proc sys dev tmp var/lib/systemd root work", `mkdir -p usr etc/systemd/system run proc sys dev tmp var/lib var/log var/tmp root work etc/default etc/init.d etc/dhcp etc/kea etc/dnsmasq.d
chmod 1777 tmp var/tmp; ln -s /run var/run; ln -s /run/lock var/lock
mount --bind "$1/lib" var/lib; mkdir -p var/lib/dhcp var/lib/misc`,
		"mount -t tmpfs -o mode=755 run run", "mount -t tmpfs -o mode=755 local usr/local\nmount -t tmpfs -o mode=755 run run",
		`cp "$1"/*.service etc/systemd/system/`, `for f in passwd group shadow gshadow login.defs protocols services netconfig nsswitch.conf ld.so.cache hosts alternatives \
  default/useradd default/isc-dhcp-server init.d/isc-dhcp-server dhcp/dhcpd.conf dhcp/dhcpd6.conf default/dnsmasq dnsmasq.conf init.d/dnsmasq kea/kea-dhcp4.conf; do
  [ ! -e /etc/$f ] || cp -a /etc/$f etc/$f; done
printf 'INTERFACESv4=""\nINTERFACESv6=""\n' >etc/default/isc-dhcp-server
printf '{ "Dhcp4": { "interfaces-config": { "interfaces": [ ] } } }' >etc/kea/kea-dhcp4.conf
sed -i /^inetboot:/d etc/passwd etc/group etc/shadow etc/gshadow; ln -s /proc/self/fd dev/fd`,
		"printf 'root:x:0:0::/root:/bin/sh\\ndaemon:x:1:1::/:/bin/sh\\n' > etc/passwd", "",
		"printf 'root:x:0:\\ndaemon:x:1:\\n' > etc/group", "",
		"--unit=over.service", "--unit=multi-user.target",
	).Replace(startSystemd)
}

// within runs a script in the system of a systemd.
func (s *systemd) within(t *testing.T, script string) (string, error) {
	t.Helper()
	pid := 0
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, _ := os.ReadFile(p)
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(s.pid) {
			if pid, err = strconv.Atoi(strings.Split(p, "/")[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pid == 0 {
		return "", errors.New("there is no systemd yet")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(pid), "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--root", "--wd", "sh", "-c", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// udhcpcSays has udhcpc tell what it got.
const udhcpcSays = `#!/bin/sh
[ "$1" != bound ] || echo "$ip $boot_file $siaddr"
`

// A whole system with a real systemd is set up by one command: what it starts
// runs, gives a machine its address, boot files and the catalog; a second run
// changes nothing. Then Debian's DHCP servers take over one after the other, as
// their packages run them, are configured anew, and keep what they had if they
// cannot take what is new. At last all is taken away.
func TestSetupOfSystem(t *testing.T) {
	t.Parallel()
	dir, work, _ := systemdFolder(t, "nsenter", "ip", "nft", "useradd", "udhcpc", "curl", "dhcpd", "kea-dhcp4", "/usr/share/dnsmasq/systemd-helper", "/etc/init.d/isc-dhcp-server")
	n := newNetwork(t)
	server, client := n.plug("server", "10.0.0.1/24"), n.plug("client", "")
	testMedia(t, filepath.Join(work, "media"))
	lib := filepath.Join(dir, "lib")
	storetest.New(t, filepath.Join(lib, "inetboot")).AddRoot(t, "debian", "12", "erofs", imagestest.NewRoot(t).Files()...)
	for _, d := range []string{lib, filepath.Join(lib, "inetboot")} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	says := filepath.Join(dir, "says")
	if err := os.WriteFile(says, []byte(udhcpcSays), 0o755); err != nil {
		t.Fatal(err)
	}
	sd := runSystemd(t, dir, program(t), startWhole(), 9*time.Minute, "ip", "netns", "exec", server)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		// It is "degraded" where this system has something that cannot start in a container.
		state, err := sd.within(t, "systemctl is-system-running")
		if state == "running" || state == "degraded" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the system does not come up: %s, %v\n%s", state, err, sd.out.String())
		}
	}
	do := func(script string, want ...string) {
		t.Helper()
		out, err := sd.within(t, script)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", script, w, out)
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	fails := func(script string, want ...string) {
		t.Helper()
		out, err := sd.within(t, script)
		for _, w := range want {
			if err == nil || !strings.Contains(out, w) {
				t.Errorf("%s: %v; want it to fail with %q:\n%s", script, err, w, out)
			}
		}
	}
	// As the PXE of a BIOS asks. An address may be one of several that begin so.
	lease := func(address string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", client, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "2", "-s", says,
			"-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-O", "bootfile")
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasPrefix(got, address) || !strings.HasSuffix(got, " pxelinux.0 10.0.0.1") {
			t.Errorf("a machine gets %q, %v; want %s, and pxelinux.0 from 10.0.0.1", got, err, address)
		}
	}
	fails("ip link set eth0 down; /work/server setup --yes; code=$?; ip link set eth0 up; exit $code", "no interface is up and has an IPv4 address")
	fails("/work/server configure systemd --lan eth0", "unknown user inetboot", "server setup")
	fails("/work/server configure isc --lan eth0 --arm64 ftp://x/y", "--arm64: URL")
	const set = "/work/server setup --yes --lan eth0 --media /work/media --nfs "

	do(set+"--dhcp full --dhcp-range 10.0.0.100-10.0.0.109", "done: make the user inetboot", "imagetool init --to http://10.0.0.1:8080")
	do("systemctl is-enabled inetboot && systemctl is-active inetboot", "enabled\nactive")
	do(set+"--dhcp full --dhcp-range 10.0.0.100-10.0.0.109", "all is as it should be")
	do("/work/server doctor --lan eth0", "machines can boot", "ok       root    NFS")
	lease("10.0.0.10")
	n.run("ip", "-n", client, "addr", "add", "10.0.0.200/24", "dev", "eth0")
	for url, want := range map[string]string{"tftp://10.0.0.1/pxelinux.0": "bios", "http://10.0.0.1:8080/boot/boot.ipxe": "#!ipxe\n", "http://10.0.0.1:8080/catalog/timestamp.json": `"timestamp"`} {
		if got := n.run("ip", "netns", "exec", client, "curl", "-sf", "--max-time", "60", url); !strings.Contains(got, want) {
			t.Errorf("%s: %q; want %q in it", url, got, want)
		}
	}
	n.run("ip", "-n", client, "addr", "flush", "dev", "eth0")

	for _, s := range []struct{ name, unit, file string }{
		{"isc", "isc-dhcp-server", "/etc/dhcp/dhcpd.conf"},
		{"dnsmasq", "dnsmasq", "/etc/dnsmasq.d/inetboot.conf"},
		{"kea", "kea-dhcp4-server", "/etc/kea/kea-dhcp4.conf"},
	} {
		with := set + "--dhcp-server " + s.name + " --dhcp-range 10.0.0."
		// As Debian has it, dhcpd does not start: no interface is named, and IPv6 has no configuration.
		if s.name == "isc" {
			fails("systemctl start "+s.unit, "failed")
		} else {
			do("systemctl start " + s.unit)
		}
		do(with+"110-10.0.0.110", s.unit, "done: ")
		do("systemctl is-active inetboot "+s.unit, "active\nactive")
		do(with+"110-10.0.0.110", "all is as it should be")
		lease("10.0.0.110")
		do("/work/server configure "+s.name+" --lan eth0 --dhcp-range 10.0.0.120-10.0.0.120", s.file+" is written", "reloaded by systemctl re", s.unit)
		lease("10.0.0.120")
		// Its own check has nothing against it, but its start has.
		refuse := fmt.Sprintf("mkdir -p /etc/systemd/system/%[1]s.service.d && printf '[Service]\\nExecStartPre=/bin/sh -c \"! grep -q 10.0.0.130 %[2]s || { echo not this one; exit 1; }\"\\n' >/etc/systemd/system/%[1]s.service.d/x.conf", s.unit, s.file)
		if s.name == "kea" { // systemd does not wait for it
			refuse = fmt.Sprintf("mkdir -p /etc/systemd/system/%[1]s.service.d && printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"! grep -q 10.0.0.130 %[2]s || { echo not this one; exit 1; }; exec kea-dhcp4 -c %[2]s\"\\n' >/etc/systemd/system/%[1]s.service.d/x.conf", s.unit, s.file)
		}
		do(refuse + "; systemctl daemon-reload")
		fails("/work/server configure "+s.name+" --lan eth0 --dhcp-range 10.0.0.130-10.0.0.130", "not this one", "the old "+s.file+" is there again and loaded")
		do("systemctl is-active "+s.unit+"; grep 10.0.0.120 "+s.file, "active\n")
		lease("10.0.0.120")
		do("rm -r /etc/systemd/system/" + s.unit + ".service.d; systemctl daemon-reload; systemctl stop " + s.unit)
	}

	// Options of the unit that do not work are taken back, and the service goes on.
	fails(set+"--dhcp off --token-file /nonexistent/token", "undone: ")
	do("systemctl is-active inetboot", "active")
	do("/work/server setup --remove --yes", "done: stop the service", "left alone: the user inetboot, the data in /var/lib/inetboot, /etc/dhcp/dhcpd.conf (before, it was dhcpd.conf~)")
	do("nft list tables; ls /etc/systemd/system /etc/inetboot; systemctl list-unit-files; test ! -e /usr/local/lib/inetboot && test -e /var/lib/inetboot/token")
	if out, err := sd.within(t, "nft list tables; ls /etc/systemd/system /etc/inetboot; ps ax; systemctl list-unit-files"); err != nil || strings.Contains(out, "inetboot.service") || strings.Contains(out, "nftables.conf") || strings.Contains(out, "table inet inetboot") || strings.Contains(out, "lib/inetboot/server") {
		t.Errorf("after the removal, %v:\n%s", err, out)
	}
	do("/work/server setup --remove", "there is nothing to remove")
	if _, err := os.Stat(filepath.Join(lib, "inetboot", "store", "catalog")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the removal has taken the store away")
	}
	if t.Failed() {
		t.Log(sd.out.String())
	}
}
