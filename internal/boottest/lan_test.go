package boottest

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestLAN boots on a network without any way out, whose own DHCP server and
// resolver are all there is, from a store that has only a name there; and it
// boots the older one of two versions that are published side by side.
func TestLAN(t *testing.T) {
	t.Parallel()
	bed, tarball := newBed(t)
	if err := bed.Imagetool(t.Context(), "push", tarball, "--name", "debian", "--version", "13-test", "--title", "Debian, newer", "--default"); err != nil {
		t.Fatal(err)
	}
	lan, err := vmtest.NewLAN(t.Context(), "192.168.77.1/24")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lan.Close(); err != nil {
			t.Error(err)
		}
	})
	forward(t, lan, "192.168.77.1:8080", bed)
	startDnsmasq(t, lan, "--address=/store.lan/192.168.77.1", "--dhcp-range=192.168.77.100,192.168.77.150,1h",
		"--dhcp-option=option:dns-server,192.168.77.1", "--dhcp-option=option:domain-search,lan")

	iso := filepath.Join(t.TempDir(), "lan.iso")
	if err := bed.Media(t.Context(), iso, "http://store.lan:8080", "--timeout=-1"); err != nil {
		t.Fatal(err)
	}
	pcap := filepath.Join(t.TempDir(), "pcap")
	vm := vmtest.StartT(t, vmtest.Config{CD: iso, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{LAN: lan, Model: "e1000", Capture: pcap}}})
	vm.ExpectT(t, 600, `inetboot: lease 192\.168\.77\.\d+/24 on eth0 from 192\.168\.77\.1`)
	vm.ExpectT(t, 600, `inetboot: asking http://store\.lan:8080`)
	vm.ExpectT(t, 600, `inetboot: menu ready`)
	vm.SendT(t, "1\r") // the order is that of publication: the older one is first
	vm.ExpectT(t, 600, `inetboot: starting debian-12\n`)
	sh := login(t, vm, 900)
	if got := sh.run(t, 300, "cat /etc/resolv.conf"); !strings.Contains(got, "nameserver 192.168.77.1") || strings.Count(got, "nameserver") != 1 {
		t.Errorf("resolv.conf = %q; want the LAN's resolver alone", got)
	}
	if got := sh.run(t, 300, "getent hosts store.lan"); !strings.Contains(got, "192.168.77.1") {
		t.Errorf("store.lan = %q; want 192.168.77.1", got)
	}
	if got := sh.run(t, 300, "cat /proc/cmdline"); !strings.Contains(got, "inetboot.boot=") {
		t.Errorf("command line = %q; want the mark of a boot by InetBoot", got)
	}
	// Something that the boot has not read yet: the daemon still finds the
	// store by its name.
	if got := sh.run(t, 300, "gcc --version | head -1"); !strings.Contains(got, "gcc") {
		t.Errorf("gcc --version = %q", got)
	}
	checkDHCP(t, pcap)
}

// forward makes the bed's server reachable on the LAN.
func forward(t *testing.T, lan *vmtest.LAN, address string, bed *testbed.Bed) {
	t.Helper()
	l, err := lan.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				up, err := net.Dial("tcp", strings.TrimPrefix(bed.URL, "http://"))
				if err != nil {
					return
				}
				defer up.Close()
				go func() { io.Copy(up, c); up.(*net.TCPConn).CloseWrite() }()
				io.Copy(c, up)
			}()
		}
	}()
}

// startDnsmasq starts a DHCP server and resolver on the LAN. It knows no other
// resolver.
func startDnsmasq(t *testing.T, lan *vmtest.LAN, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "dnsmasq"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := lan.Command(t.Context(), "dnsmasq", append([]string{"--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--interface=br0",
		"--bind-interfaces", "--dhcp-authoritative", "--log-dhcp", "--dhcp-leasefile=" + log.Name() + ".leases", "--user=root"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		cmd.Wait()
		log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("dnsmasq:\n%s", text)
			}
		}
	})
}
