package configure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lan is a switch in a network namespace, with the DHCP server and its machines
// plugged in.
type lan struct {
	t    *testing.T
	name string
}

func newLAN(t *testing.T, need ...string) *lan {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range append([]string{"ip"}, need...) {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	l := &lan{t, fmt.Sprintf("ib-c%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	l.namespace(l.name)
	l.run("ip", "-n", l.name, "link", "add", "br0", "type", "bridge")
	l.run("ip", "-n", l.name, "link", "set", "br0", "up")
	return l
}

func (l *lan) run(args ...string) {
	l.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		l.t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (l *lan) namespace(ns string) {
	l.run("ip", "netns", "add", ns)
	l.t.Cleanup(func() { l.run("ip", "netns", "del", ns) })
	l.run("ip", "-n", ns, "link", "set", "lo", "up")
}

// plug makes a machine with the interface eth0 and its namespace.
func (l *lan) plug(machine, mac, addr string) string {
	ns := l.name + "-" + machine
	l.namespace(ns)
	l.run("ip", "-n", ns, "link", "add", "eth0", "address", mac, "type", "veth", "peer", "name", "p"+machine, "netns", l.name)
	l.run("ip", "-n", l.name, "link", "set", "p"+machine, "master", "br0", "up")
	if addr != "" {
		l.run("ip", "-n", ns, "addr", "add", addr, "dev", "eth0")
	}
	l.run("ip", "-n", ns, "link", "set", "eth0", "up")
	return ns
}

type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *locked) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (w *locked) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// start runs a server as long as the test.
func (l *lan) start(ns string, args ...string) *locked {
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	cmd.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+l.t.TempDir(), "KEA_LOCKFILE_DIR=none")
	out := &locked{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

// ask runs udhcpc as firmware of a kind, and returns what it was told.
func (l *lan) ask(ns string, attempts int, args ...string) map[string]string {
	l.t.Helper()
	dir := l.t.TempDir()
	out := filepath.Join(dir, "env")
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n[ $1 != bound ] || env >"+out+"\n"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 40*time.Second)
	defer cancel()
	args = append([]string{"netns", "exec", ns, "busybox", "udhcpc", "-f", "-q", "-n", "-t", fmt.Sprint(attempts), "-T", "1", "-A", "1", "-i", "eth0", "-s", script}, args...)
	said, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	b, rerr := os.ReadFile(out)
	if rerr != nil {
		if attempts > 2 {
			l.t.Errorf("%q: no lease: %v: %s", args, err, said)
		}
		return nil
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		m[k] = v
	}
	return m
}

// Each server, with the file that is written for it, tells machines what to boot
// as the server's own DHCP does.
func TestPrograms(t *testing.T) {
	for _, f := range Formats() {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			need(t, f)
			l := newLAN(t, "busybox")
			dir := t.TempDir()
			file := filepath.Join(dir, "conf")
			leases := filepath.Join(dir, "leases")
			text := render(t, f, site(f)).Text
			text = strings.ReplaceAll(text, "/var/lib/kea/kea-leases4.csv", leases)
			if f == ISC {
				text = "ping-check off;\n" + text
				if err := os.WriteFile(leases, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			server := l.plug("server", "52:54:00:00:00:f0", "10.0.0.1/24")
			args := map[Format][]string{
				ISC:     {"dhcpd", "-4", "-d", "-f", "-user", "root", "-group", "root", "-cf", file, "-lf", leases, "-pf", filepath.Join(dir, "pid"), "eth0"},
				Dnsmasq: {"dnsmasq", "--no-daemon", "--conf-file=" + file, "--port=0", "--no-ping", "--user=root", "--log-dhcp", "--dhcp-leasefile=" + leases, "--bind-interfaces", "--interface=eth0"},
				Kea:     {"kea-dhcp4", "-c", file},
			}[f]
			said := l.start(server, args...)
			t.Cleanup(func() {
				if t.Failed() {
					text := said.String()
					t.Log(text[max(0, len(text)-4000):])
				}
			})
			const class, arch = "-V", "-x"
			bios := []string{class, "PXEClient:Arch:00000:UNDI:002001", arch, "0x5d:0000"}
			uefi := []string{class, "PXEClient:Arch:00007:UNDI:003016", arch, "0x5d:0007"}
			uefi9 := []string{class, "PXEClient:Arch:00009:UNDI:003016", arch, "0x5d:0009"}
			arm := []string{class, "PXEClient:Arch:00011:UNDI:003016", arch, "0x5d:000b"}
			http := []string{class, "HTTPClient:Arch:00016:UNDI:003016", arch, "0x5d:0010", "-O", "60"}
			ipxe := []string{class, "PXEClient:Arch:00007:UNDI:003016", arch, "0x5d:0007", arch, "0x4d:69505845"}
			special := "special.efi"
			if f == Kea {
				special = "inetboot.efi"
			}
			base := "http://10.0.0.1:8080/boot/"
			for i, c := range []struct {
				mac     string
				args    []string
				file    string
				address string // prefix of it
				silent  bool   // no answer
			}{
				{"52:54:00:00:00:a1", bios, "pxelinux.0", "10.0.0.15", false},
				{"52:54:00:00:00:a2", []string{class, "PXEClient"}, "pxelinux.0", "10.0.0.15", false},
				{"52:54:00:00:00:a3", uefi, "inetboot.efi", "10.0.0.15", false},
				{"52:54:00:00:00:a4", uefi9, "inetboot.efi", "10.0.0.15", false},
				{"52:54:00:00:00:a5", []string{class, "PXEClient:Arch:00007:UNDI:003016"}, "inetboot.efi", "10.0.0.15", false},
				{"52:54:00:00:00:a6", arm, "inetboot-arm64.efi", "10.0.0.16", false},
				{"52:54:00:00:00:a7", http, base + "inetboot.efi", "10.0.0.15", false},
				{"52:54:00:00:00:a8", ipxe, base + "boot.ipxe", "10.0.0.15", false},
				{"52:54:00:00:00:a9", nil, "", "10.0.0.16", false},
				{"52:54:00:00:00:01", bios, "pxelinux.0", "10.0.0.51", false},
				{"52:54:00:00:00:02", bios, "own/boot.efi", "10.0.0.14", false},
				{"52:54:00:00:00:02", http, base + "own/boot.efi", "10.0.0.14", false},
				{"52:54:00:00:00:02", ipxe, base + "boot.ipxe", "10.0.0.14", false},
				{"52:54:00:00:00:03", bios, "", "10.0.0.14", false},
				{"52:54:00:00:00:05", uefi, special, "10.0.0.13", false},
				{"52:54:00:00:00:04", bios, "", "", true},
			} {
				attempts := 20
				if c.silent {
					attempts = 2
				}
				ns := l.plug(fmt.Sprint("m", i), c.mac, "")
				m := l.ask(ns, attempts, c.args...)
				if c.silent {
					if m != nil {
						t.Errorf("%s is answered: %v", c.mac, m)
					}
					continue
				}
				got := m["boot_file"]
				if got == "" {
					got = m["bootfile"]
				}
				if got != c.file || !strings.HasPrefix(m["ip"], c.address) {
					t.Errorf("%s as %q: boot file %q, address %s; want %q and one of %s…", c.mac, c.args, got, m["ip"], c.file, c.address)
				}
				if c.file != "" && !strings.Contains(c.file, "://") && m["siaddr"] != "10.0.0.1" {
					t.Errorf("%s as %q: the server of the file is %q", c.mac, c.args, m["siaddr"])
				}
				if i == 0 && (m["router"] != "10.0.0.254" || m["dns"] != "10.0.0.5 10.0.0.6" || m["domain"] != "lan.example" || m["lease"] != "3600") {
					t.Errorf("options: %v", m)
				}
				// A machine of another kind may come with the same address.
				l.run("ip", "netns", "exec", ns, "ip", "link", "set", "eth0", "down")
			}
		})
	}
}
