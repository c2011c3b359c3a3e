package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// A network without IPv4, on a machine whose clock says 2001. QEMU's own
// router advertises fec0::/64, in which it is fec0::2.
func TestIPv6Alone(t *testing.T) {
	b := newBed(t, -1)
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: b}}
	srv.Start()
	t.Cleanup(srv.Close)
	url := fmt.Sprintf("http://[fec0::2]:%d", ln.Addr().(*net.TCPAddr).Port)
	vm := b.start(t, &site.Site{URLs: []string{url}, Entry: "tiny-1"}, vmtest.Config{
		Name: "ipv6", NICs: []vmtest.NIC{},
		Args: []string{"-rtc", "base=2001-01-01T00:00:00", "-netdev", "user,id=six,ipv4=off,ipv6=on", "-device", "virtio-net-pci,netdev=six,romfile=,mac=52:54:00:12:34:56"},
	})
	vm.ExpectT(t, patience, `inetboot: the clock said 2001-01-01 \d\d:\d\d UTC, before this medium was made`)
	vm.ExpectT(t, patience, `inetboot: address fec0::5054:ff:fe12:3456/64 on eth0 from router fe80::2\n`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	_, h := expectTarget(t, vm)
	n := h.Network
	if n.Lease != nil || n.Lease6 != nil || !slices.Equal(n.Addresses, []netip.Prefix{netip.MustParsePrefix("fec0::5054:ff:fe12:3456/64")}) ||
		len(n.Routes) != 1 || n.Routes[0].Gateway != netip.MustParseAddr("fe80::2") {
		t.Errorf("handoff's network = %+v", n)
	}
}

// A tagged network with addresses by hand, and a store that nobody but the
// proxy can reach: its name has no address.
func TestVLANAndProxyAlone(t *testing.T) {
	b := newBed(t, -1)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		asked = append(asked, r.URL.Host)
		b.mu.Unlock()
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	address := strings.Replace(proxy.URL, "127.0.0.1", "10.0.2.2", 1)
	trunk, err := vmtest.NewTrunk(5)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	vm := b.start(t, &site.Site{URLs: []string{"http://store.example"}, Network: netconf.Setup{VLAN: 4}}, vmtest.Config{
		Name: "vlan", NICs: []vmtest.NIC{}, Append: "vlan=5:eth0 ip=10.0.2.9::10.0.2.2:24:pc7:eth0:off:10.0.2.3 inetboot.mtu=1400 http_proxy=" + address + " inetboot.entry=tiny-1",
		Args: trunk.Args("52:54:00:12:34:56"),
	})
	vm.ExpectT(t, patience, `inetboot: address 10\.0\.2\.9/24 on eth0\.5, as configured\n`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	_, h := expectTarget(t, vm)
	n := h.Network
	if n.VLAN != 5 || n.MTU != 1400 || n.MAC != "52:54:00:12:34:56" || n.Hostname != "pc7" || n.Lease != nil || n.Addresses[0] != netip.MustParsePrefix("10.0.2.9/24") ||
		!slices.Equal(n.Nameservers, []netip.Addr{netip.MustParseAddr("10.0.2.3")}) || h.Proxy != address {
		t.Errorf("handoff: network %+v, proxy %q", n, h.Proxy)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(asked) == 0 || slices.ContainsFunc(asked, func(h string) bool { return h != "store.example" }) {
		t.Errorf("the proxy was asked for %v; want store.example", asked)
	}
}

// A clock that says 2050 makes each catalog look expired. The network's DHCP
// server names a time server, which knows better; its proxy, which it names
// too, leads nowhere and is left out.
func TestClockOfTheFuture(t *testing.T) {
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Skip(err)
	}
	b := newBed(t, -1)
	lan, err := vmtest.NewLAN(t.Context(), "10.88.0.1/24")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { lan.Close() })
	ln, err := lan.Listen("tcp", "10.88.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: b}
	go web.Serve(ln)
	t.Cleanup(func() { web.Close() })
	serveTime(t, lan)
	dir := t.TempDir()
	dhcp := lan.Command(t.Context(), "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--bind-interfaces", "--interface=br0",
		"--dhcp-range=10.88.0.50,10.88.0.60,1h", "--dhcp-option=42,10.88.0.1", "--dhcp-option=252,http://10.88.0.1:3128", "--dhcp-leasefile="+filepath.Join(dir, "leases"))
	dhcp.Stdout, dhcp.Stderr = io.Discard, io.Discard
	if err := dhcp.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dhcp.Process.Kill(); dhcp.Wait() })

	vm := b.start(t, &site.Site{URLs: []string{"http://10.88.0.1"}, Entry: "tiny-1"}, vmtest.Config{
		Name: "clock", NICs: []vmtest.NIC{{LAN: lan}}, Args: []string{"-rtc", "base=2050-01-01T00:00:00"},
	})
	vm.ExpectT(t, patience, `inetboot: lease 10\.88\.0\.\d+/24 on eth0 from 10\.88\.0\.1\n`)
	vm.ExpectT(t, patience, `inetboot: the network names the proxy http://10\.88\.0\.1:3128\n`)
	vm.ExpectT(t, patience, `inetboot: refused: catalog: .*expired.*this machine's clock says 2050-01-01`)
	vm.ExpectT(t, patience, `inetboot: the clock said 2050-01-01 \d\d:\d\d UTC, time server 10\.88\.0\.1 says `+time.Now().UTC().Format("2006")+`-.*: it is set\n`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	if _, h := expectTarget(t, vm); h.Proxy != "" || h.Network.Lease == nil {
		t.Errorf("handoff: proxy %q, lease %+v", h.Proxy, h.Network.Lease)
	}
}

// serveTime is a time server (RFC 4330) on the LAN.
func serveTime(t *testing.T, lan *vmtest.LAN) {
	t.Helper()
	conn, err := lan.ListenPacket("udp", net.JoinHostPort(lan.Host.String(), "123"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			a := make([]byte, 48)
			a[0], a[1] = 4<<3|4, 1
			copy(a[24:32], buf[40:48])
			binary.BigEndian.PutUint32(a[40:], uint32(time.Now().Unix()+2208988800))
			if _, err := conn.WriteTo(a, from); err != nil && !strings.Contains(err.Error(), "closed") {
				t.Log(err)
			}
		}
	}()
}
