package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// The tests below run in a network namespace of their own (the test program
// starts itself there) with cables to another one, in which dnsmasq gives out
// addresses.

const inside = "INETBOOT_TEST_NAMESPACE"

type lan struct{ client, server string }

// newLAN makes two namespaces with n cables between them: eth0 and so on here,
// srv0 and so on there, where srvN has the address 10.77.N.1/24.
func newLAN(t *testing.T, n int) *lan {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range []string{"ip", "dnsmasq"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	l := &lan{client: fmt.Sprintf("ib-c-%d", os.Getpid()), server: fmt.Sprintf("ib-s-%d", os.Getpid())}
	for _, ns := range []string{l.client, l.server} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
		run(t, "ip", "-n", ns, "link", "set", "lo", "up")
		if ns == l.server {
			// A router that looks for duplicates of itself first would be late.
			run(t, "ip", "netns", "exec", ns, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
		}
	}
	for i := range n {
		eth, srv := fmt.Sprint("eth", i), fmt.Sprint("srv", i)
		run(t, "ip", "-n", l.client, "link", "add", eth, "type", "veth", "peer", "name", srv, "netns", l.server)
		run(t, "ip", "-n", l.server, "addr", "add", fmt.Sprintf("10.77.%d.1/24", i), "dev", srv)
		run(t, "ip", "-n", l.server, "link", "set", srv, "up")
	}
	return l
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

// dnsmasq serves the cables and returns what it logs.
func (l *lan) dnsmasq(t *testing.T, args ...string) func() string {
	t.Helper()
	return l.dnsmasqIn(t, l.server, args...)
}

func (l *lan) dnsmasqIn(t *testing.T, namespace string, args ...string) func() string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--port=") }) {
		args = append(args, "--port=0") // no name server
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", namespace, "dnsmasq", "--no-daemon", "--conf-file=/dev/null",
		"--no-ping", "--log-dhcp", "--log-facility=" + log, "--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--dhcp-authoritative", "--bind-interfaces"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := func() string { b, _ := os.ReadFile(log); return string(b) }
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("dnsmasq:\n%s", read())
		}
	})
	for end := time.Now().Add(10 * time.Second); !strings.Contains(read(), "started,"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("dnsmasq does not start: %s", read())
		}
	}
	return read
}

// exchanges counts the transactions in which a message of the kind was sent. A
// cable that has just got its carrier may swallow the first packets, which are
// then sent again.
func exchanges(log, kind string) int {
	seen := map[string]bool{}
	for line := range strings.Lines(log) {
		if head, _, ok := strings.Cut(line, " "+kind); ok {
			seen[head[strings.LastIndexByte(head, ' ')+1:]] = true
		}
	}
	return len(seen)
}

// enter runs the test again in the client's namespace.
func (l *lan) enter(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", l.client, os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("in the namespace: %v", err)
	}
}

type recorder struct {
	mu    sync.Mutex
	lines []string
	marks []string
}

func (r *recorder) options() Options {
	return Options{
		Log:  func(s string) { r.mu.Lock(); defer r.mu.Unlock(); r.lines = append(r.lines, s) },
		Mark: func(s string) { r.mu.Lock(); defer r.mu.Unlock(); r.marks = append(r.marks, s) },
	}
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

func isUp(t *testing.T, name string) bool {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Flags&net.FlagUp != 0
}

// One exchange gives an address, routes and name servers, which stay until
// Down.
func TestConnectWithDnsmasq(t *testing.T) {
	if os.Getenv(inside) == "" {
		l := newLAN(t, 1)
		log := l.dnsmasq(t, "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-option=option:router,10.77.0.9",
			"--dhcp-option=121,192.0.2.0/24,10.77.0.1,0.0.0.0/0,10.77.0.1", "--dhcp-option=option:dns-server,10.77.0.1",
			"--dhcp-option=option:mtu,1400", "--domain=lan.example", "--dhcp-option=option:domain-search,a.example,b.example")
		l.enter(t)
		for kind, want := range map[string]int{"DHCPDISCOVER(": 1, "DHCPOFFER(": 1, "DHCPREQUEST(": 1, "DHCPACK(": 1, "DHCPRELEASE(": 0} {
			if got := exchanges(log(), kind); got != want {
				t.Errorf("the server saw %d of %s; want %d:\n%s", got, kind, want, log())
			}
		}
		return
	}
	var r recorder
	o := r.options()
	o.ResolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	n := New(o)
	var reached string
	err := n.Connect(t.Context(), func(ctx context.Context, c *Config) error {
		// A route by option 121 leads to the server's address.
		conn, err := net.Dial("udp4", "192.0.2.7:9")
		if err != nil {
			return err
		}
		defer conn.Close()
		reached = conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().String()
		return nil
	})
	if err != nil {
		t.Fatalf("Connect = %v; log:\n%s", err, r.text())
	}
	c := n.Config()
	addr := c.Addresses[0]
	if !netip.MustParsePrefix("10.77.0.0/24").Contains(addr.Addr()) || addr.Bits() != 24 || reached != addr.Addr().String() {
		t.Errorf("address %v, packets leave from %s", addr, reached)
	}
	if c.MTU != 1400 || c.Lease.Expire != 3600 || c.Lease.Server.String() != "10.77.0.1" || !slices.Equal(c.Search, []string{"a.example", "b.example"}) {
		t.Errorf("config = %+v, lease %+v", c, c.Lease)
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil || l.Attrs().MTU != 1400 {
		t.Errorf("eth0: %+v, %v; want MTU 1400", l, err)
	}
	routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Gw != nil && !r.Gw.Equal(net.IPv4(10, 77, 0, 1)) {
			t.Errorf("route %v; option 3 must not count beside option 121", r)
		}
	}
	if b, err := os.ReadFile(o.ResolvConf); err != nil || string(b) != "search a.example b.example\nnameserver 10.77.0.1\n" {
		t.Errorf("resolv.conf = %q, %v", b, err)
	}
	if want := fmt.Sprintf("lease %v on eth0 from 10.77.0.1", addr); !strings.Contains(r.text(), want) {
		t.Errorf("log:\n%s\nwant %q", r.text(), want)
	}
	if !slices.Equal(r.marks, []string{"link", "dhcp"}) {
		t.Errorf("marks %v", r.marks)
	}
	if err := n.Down(); err != nil {
		t.Error(err)
	}
	if addrs, err := netlink.AddrList(l, netlink.FAMILY_V4); err != nil || len(addrs) != 0 || isUp(t, "eth0") || n.Config() != nil {
		t.Errorf("after Down: addresses %v, %v, up %v, config %v", addrs, err, isUp(t, "eth0"), n.Config())
	}
}

// The first lease leads to no store; the second link's does. The first is
// taken down. A second attempt asks for no second lease.
func TestConnectTakesTheLinkWithTheStore(t *testing.T) {
	if os.Getenv(inside) == "" {
		l := newLAN(t, 3) // eth2 gets no answer
		log := l.dnsmasq(t, "--interface=srv0", "--interface=srv1", "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-range=10.77.1.50,10.77.1.60,1h")
		l.enter(t)
		if got := exchanges(log(), "DHCPDISCOVER("); got != 2 {
			t.Errorf("the server saw %d DISCOVER; want one for each of two links:\n%s", got, log())
		}
		return
	}
	var r recorder
	n := New(r.options())
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	tried := 0
	if err := n.Connect(ctx, func(context.Context, *Config) error {
		if tried++; tried == 2 {
			cancel(stop) // eth2 would be waited for
		}
		return errors.New("no store here")
	}); !errors.Is(err, context.Canceled) || tried != 2 {
		t.Fatalf("Connect = %v after %d links; log:\n%s", err, tried, r.text())
	}
	if err := n.Connect(t.Context(), func(_ context.Context, c *Config) error {
		if c.Link != "eth1" {
			return errors.New("no store here")
		}
		return nil
	}); err != nil {
		t.Fatalf("Connect = %v; log:\n%s", err, r.text())
	}
	if c := n.Config(); c.Link != "eth1" {
		t.Errorf("connected by %s", c.Link)
	}
	if isUp(t, "eth0") || !isUp(t, "eth1") || isUp(t, "eth2") {
		t.Errorf("up: eth0 %v, eth1 %v, eth2 %v; want eth1 alone", isUp(t, "eth0"), isUp(t, "eth1"), isUp(t, "eth2"))
	}
	if err := n.Down(); err != nil {
		t.Error(err)
	}
}

// There is no cable, and then no link; what nothing drives is named both times.
func TestConnectSaysWhatIsMissing(t *testing.T) {
	if os.Getenv(inside) == "" {
		l := newLAN(t, 1)
		run(t, "ip", "-n", l.server, "link", "set", "srv0", "down")
		l.enter(t)
		return
	}
	var r recorder
	o := r.options()
	o.Carrier = 300 * time.Millisecond
	const unknown = "network hardware without a driver: PCI 1011:0019"
	o.Hardware = func() string { return unknown }
	n := New(o)
	err := n.Connect(t.Context(), func(context.Context, *Config) error { return errors.New("never called") })
	if !errors.Is(err, ErrNoCarrier) || !strings.Contains(err.Error(), unknown) || !strings.Contains(r.text(), unknown) || !strings.Contains(r.text(), "eth0") || !strings.Contains(r.text(), "is the cable in?") {
		t.Errorf("Connect = %v; log:\n%s", err, r.text())
	}
	// No link at all.
	if err := netlink.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	o.Links = 300 * time.Millisecond
	if err := New(o).Connect(t.Context(), nil); !errors.Is(err, ErrNoLink) || !strings.Contains(err.Error(), unknown) {
		t.Errorf("Connect without links = %v; want ErrNoLink, and %q", err, unknown)
	}
}

// A lease is renewed while nobody looks. dnsmasq gives two minutes at least,
// so the time of renewal is set short here.
func TestRenew(t *testing.T) {
	if os.Getenv(inside) == "" {
		l := newLAN(t, 1)
		log := l.dnsmasq(t, "--dhcp-range=10.77.0.50,10.77.0.60,2m")
		l.enter(t)
		if d, r := exchanges(log(), "DHCPDISCOVER("), strings.Count(log(), "DHCPREQUEST("); d != 1 || r < 2 {
			t.Errorf("the server saw %d DISCOVER and %d REQUEST; want 1 and at least 2:\n%s", d, r, log())
		}
		return
	}
	var r recorder
	n := New(r.options())
	if err := n.Connect(t.Context(), func(context.Context, *Config) error { return nil }); err != nil {
		t.Fatal(err)
	}
	first := *n.Config()
	// As if it had been given for less.
	k := n.current
	h := *k.port.v4
	c, short := *h.config, *h.config.Lease
	short.Renew, short.Expire = 1, 16
	c.Lease = &short
	h.config = &c
	k.ended.Go(func() { n.renew4(k.port.ctx, k, &h) })
	for end := time.Now().Add(20 * time.Second); n.Config().Lease.Obtained <= first.Lease.Obtained; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the lease is not renewed; log:\n%s", r.text())
		}
	}
	if c := n.Config(); c.Addresses[0] != first.Addresses[0] || c.Lease.ClientID != first.Lease.ClientID || c.Lease.Obtained <= first.Lease.Obtained || c.Lease.Renew < 40 {
		t.Errorf("renewed: %+v, lease %+v; was %+v", c, c.Lease, first)
	}
	if err := n.Down(); err != nil {
		t.Error(err)
	}
}
