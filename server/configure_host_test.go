package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/site"
)

// mediaFolderFor writes files as the media have them.
func testMedia(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"inetboot.efi": append([]byte("MZ efi"), site.EmptySlot()...), "vmlinuz": []byte("kernel"), "initramfs.xz": []byte("initramfs"), "pxelinux.0": []byte("bios"), "ldlinux.c32": []byte("module")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// armProgram is what a program of UEFI for arm64 begins with.
func armProgram() []byte {
	b := make([]byte, 512)
	copy(b, "MZ")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00\x64\xaa")
	return append(b, "the rest"...)
}

// scan returns the ports of 10.0.0.1 that are open, as seen from a namespace:
// all low ports of TCP, of UDP some hundreds, as refusals of those are rationed,
// and of the high ports some, with all that anybody in these tests listens at.
func (n *network) scan(ns string) []string {
	n.t.Helper()
	open := []string{}
	try := func(kind, port int) (bool, error) {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		defer unix.Close(fd)
		wait := unix.Timeval{Usec: 50e3}
		if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)); err != nil {
			return false, err
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 0, 0, 1}, Port: port}); err != nil {
			return false, nil
		}
		if kind == unix.SOCK_STREAM {
			return true, nil
		}
		for range 8 { // nobody says that it is closed
			if _, err := unix.Write(fd, []byte{0}); err != nil {
				return false, nil
			}
			if _, err := unix.Read(fd, make([]byte, 1)); err != nil && !errors.Is(err, unix.EAGAIN) {
				return false, nil
			}
		}
		return true, nil
	}
	n.inside(ns, func() error {
		listed := []int{2049, 4011, 8080, 9998, 9999, 10809, 33333}
		for port := 1; port < 65536; port++ {
			if port > 1100 && port%101 != 0 && !slices.Contains(listed, port) {
				continue
			}
			if ok, err := try(unix.SOCK_STREAM, port); err != nil {
				return err
			} else if ok {
				open = append(open, fmt.Sprint("tcp ", port))
			}
			if port > 130 && (port < 510 || port > 605) && !slices.Contains(listed, port) {
				continue
			}
			if ok, err := try(unix.SOCK_DGRAM, port); err != nil {
				return err
			} else if ok {
				open = append(open, fmt.Sprint("udp ", port))
			}
		}
		return nil
	})
	slices.Sort(open)
	return open
}

// The rules open the ports that the server has, as seen from another machine,
// and close what somebody else listens at.
func TestConfigureNftables(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "nft")
	server, client := n.plug("server", "10.0.0.1/24"), n.plug("client", "10.0.0.2/24")
	n.run("ip", "netns", "exec", server, "sh", "-c", "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit")
	data := serverData(t)
	media := filepath.Join(filepath.Dir(data), "media")
	testMedia(t, media)
	args := []string{"--media", media, "--nfs", "--nbd", "--listen", ":8080"}
	bin := program(t)
	n.serve(server, bin, data, args...)
	var extra []interface{ Close() error }
	n.inside(server, func() error {
		l, err := net.Listen("tcp4", ":9999")
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp4", ":9998")
		extra = append(extra, l, u)
		return err
	})
	defer func() {
		for _, c := range extra {
			c.Close()
		}
	}()
	want := []string{"tcp 10809", "tcp 111", "tcp 2049", "tcp 514", "tcp 601", "tcp 8080", "udp 111", "udp 4011", "udp 514", "udp 67", "udp 69"}
	others := append(slices.Clone(want), "tcp 9999", "udp 9998")
	slices.Sort(others)
	if d := cmp.Diff(others, n.scan(client)); d != "" {
		t.Errorf("before: %s", d)
	}
	rules := filepath.Join(t.TempDir(), "rules")
	configure := func(more ...string) error {
		cmd := exec.Command("ip", append(append([]string{"netns", "exec", server, bin, "configure", "nftables", "--lan", "eth0", "-o", rules, "--reload", "nft -f " + rules}, args...), more...)...)
		cmd.Env = append(os.Environ(), "SSH_CONNECTION=10.0.0.2 4000 10.0.0.1 22")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := configure(); err == nil || !strings.Contains(err.Error(), "--allow 22/tcp") {
		t.Errorf("rules that shut out ssh: %v", err)
	}
	for range 2 {
		if err := configure("--allow", "22/tcp"); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, n.scan(client)); d != "" {
			t.Errorf("with the rules: %s", d)
		}
		args = append(args, "--verbose") // no other rules come of it
	}
	if err := configure("--allow", "22/tcp", "--allow", "9999/tcp"); err != nil {
		t.Fatal(err)
	}
	if got := n.run("ip", "netns", "exec", client, "bash", "-c", "exec 3<>/dev/tcp/10.0.0.1/9999 && echo open"); got != "open\n" {
		t.Errorf("a port that is allowed: %q", got)
	}
	// What goes out has its answers: TFTP's come from another port.
	if got := n.run("ip", "netns", "exec", client, "curl", "-s", "--max-time", "20", "tftp://10.0.0.1/vmlinuz"); got != "kernel" {
		t.Errorf("TFTP through the rules: %q", got)
	}
	for _, bad := range [][]string{{"--allow", "22"}, {"--allow", "0/tcp"}, {"--allow", "22/icmp"}} {
		if err := configure(bad...); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// probeUnit looks at what is served in the sandbox of systemd, and with what rights.
const probeUnit = `[Unit]
DefaultDependencies=no
Requires=inetboot.service
After=inetboot.service
[Service]
Type=oneshot
StandardOutput=file:/work/result
StandardError=file:/work/result
ExecStart=/bin/sh -xc 'curl -sf http://10.0.0.1:8080/healthz; curl -s tftp://10.0.0.1/vmlinuz; showmount -e 10.0.0.1; nbdinfo --list nbd://10.0.0.1; \
  logger -d -n 10.0.0.1 -p user.info marked; sleep 1; grep -rh marked /var/lib/inetboot/logs; \
  for p in /proc/[0-9]*; do if [ "$(cat $p/comm)" = server ]; then grep -E "Uid|Cap|NoNew|Seccomp:" $p/status; ls -ld /proc/1/root/var/lib/inetboot; fi; done; nft list table inet inetboot'
`

// Under a real systemd, the unit starts the server as another user than root, in
// a sandbox in which all that is configured works.
func TestConfigureSystemd(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"unshare", "systemd-analyze", "/lib/systemd/systemd", "curl", "showmount", "nbdinfo", "logger", "nft", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	for _, d := range []string{dir, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testMedia(t, filepath.Join(work, "media"))
	bin := program(t)
	unit := filepath.Join(dir, "inetboot.service")
	var out bytes.Buffer
	args := []string{"configure", "systemd", "--lan", "eth0", "--media", filepath.Join(work, "media"), "--nfs", "--nbd", "--swap", "--data", "/var/lib/inetboot",
		"--dhcp", "full", "--dhcp-range", "10.0.0.100-10.0.0.199,router=10.0.0.254", "--firewall", "/etc/inetboot/nftables.conf", "--program", bin, "-o", unit, "--no-reload"}
	if err := run(t.Context(), args, &out, &out); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if err := run(t.Context(), args, &out, &out); err != nil || !strings.Contains(out.String(), "is unchanged") {
		t.Errorf("again: %v: %s", err, out.String())
	}
	if said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("exposure of more than 2.0: %v: %s", err, said)
	}
	if err := run(t.Context(), append(args, "--program", "/nonexistent/server"), &out, &out); err == nil || !strings.Contains(err.Error(), "refused by its own check") {
		t.Errorf("a program that is not there: %v", err)
	}
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// In the machine of the test the paths are others.
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(bin), []byte("/work/server")), []byte(work), []byte("/work"))
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("inetboot.service", strings.Replace(string(text), "[Unit]\n", "[Unit]\nDefaultDependencies=no\n", 1)+"\n[Service]\nStandardOutput=null\nStandardError=file:/work/log\n")
	write("probe.service", probeUnit)
	write("over.service", strings.NewReplacer("first.service again.service", "probe.service").Replace(services["over"]))
	out.Reset()
	if err := run(t.Context(), []string{"configure", "nftables", "--lan", "eth0", "--nfs", "--nbd", "--dhcp", "full", "-o", "-"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	write("nftables.conf", out.String())
	script := strings.Replace(startSystemd, "mount --make-rshared .", `mkdir etc/inetboot; cp "$1/nftables.conf" etc/inetboot; mkdir -p var/tmp; cp /etc/protocols /etc/services /etc/netconfig etc/
echo 'inetboot:x:990:990::/:/bin/sh' >>etc/passwd; echo 'inetboot:x:990:' >>etc/group
ip link set lo up; ip link add eth0 type veth peer name peer0; ip link set peer0 up; ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up
mount --make-rshared .`, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `echo 0 >"$4/cgroup.procs"; exec unshare --mount --pid --net --fork --cgroup --ipc --uts --kill-child sh -c "$1" sh "$2" "$3"`,
		"sh", script, dir, bin, cgroup(t))
	var said output
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	read := func(name string) string { b, _ := os.ReadFile(filepath.Join(work, name)); return string(b) }
	for end := time.Now().Add(80 * time.Second); ; {
		if _, err := os.Stat(filepath.Join(work, "over")); err == nil {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
			if time.Now().Before(end) {
				continue
			}
		case err := <-ended:
			t.Fatalf("systemd ended: %v: %s\n%s\n%s", err, said.String(), read("log"), read("result"))
		}
		t.Fatalf("not over: %s\n%s\n%s", said.String(), read("log"), read("result"))
	}
	cancel()
	<-ended
	got := read("result")
	for _, want := range []string{"kernel", "Export list for 10.0.0.1", "marked", "Uid:\t990\t990", "NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000002400", "tcp dport 10809 accept"} {
		if !strings.Contains(got, want) {
			t.Errorf("in the sandbox: no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s\n%s", got, read("log"), said.String())
	}
}
