package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/inetboot/inetboot/internal/dhcp6"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/netconf"
)

// scenario is a network, what is said about it, and what comes of it.
type scenario struct {
	name   string
	serve  func(*testing.T, *lan) func() string // returns what the server has logged
	setup  netconf.Setup
	try    func(*testing.T, context.Context, *Config) error // nil: every link leads to the store
	check  func(*testing.T, *Network, *recorder)            // in the client's namespace, connected
	fails  error                                            // Connect's error
	server func(*testing.T, string)                         // sees the server's log
}

const (
	range4  = "--dhcp-range=10.77.0.50,10.77.0.60,1h"
	server6 = "fd77::1"
)

// ipv6 gives the server an address and makes it a router of IPv6.
func ipv6(t *testing.T, l *lan, args ...string) func() string {
	run(t, "ip", "-n", l.server, "addr", "add", server6+"/64", "dev", "srv0", "nodad")
	return l.dnsmasq(t, append([]string{"--enable-ra"}, args...)...)
}

// reaches tries to open a connection to something of the server's that
// listens: a refusal comes from the machine there.
func reaches(ctx context.Context, addr string) error {
	d := net.Dialer{Timeout: 3 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr, "9"))
	if err == nil {
		conn.Close()
	}
	if err == nil || strings.Contains(err.Error(), "connection refused") {
		return nil
	}
	return err
}

func hasAddress(c *Config, prefix string) bool {
	return slices.ContainsFunc(c.Addresses, func(p netip.Prefix) bool { return netip.MustParsePrefix(prefix).Contains(p.Addr()) })
}

// eventually waits for what comes behind a connection.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in 15 s", what)
		}
	}
}

var scenarios = []scenario{
	{
		name: "IPv6 alone, by router advertisements",
		serve: func(t *testing.T, l *lan) func() string {
			return ipv6(t, l, "--dhcp-range=fd77::,ra-only,64,1h", "--dhcp-option=option6:dns-server,["+server6+"]", "--dhcp-option=option6:domain-search,six.example", "--ra-param=srv0,mtu:1400,10")
		},
		try: func(_ *testing.T, ctx context.Context, _ *Config) error { return reaches(ctx, server6) },
		check: func(t *testing.T, n *Network, r *recorder) {
			c := n.Config()
			if !hasAddress(c, "fd77::/64") || c.Lease6 != nil || c.Lease != nil || c.MTU != 1400 || !slices.Equal(c.Nameservers, []netip.Addr{netip.MustParseAddr(server6)}) || !slices.Equal(c.Search, []string{"six.example"}) {
				t.Errorf("config %+v", c)
			}
			if len(c.Routes) != 1 || c.Routes[0].Destination.Bits() != 0 || !c.Routes[0].Gateway.IsLinkLocalUnicast() {
				t.Errorf("routes %v; want a default route by the router", c.Routes)
			}
		},
	},
	{
		name: "DHCPv6",
		serve: func(t *testing.T, l *lan) func() string {
			return ipv6(t, l, "--dhcp-range=fd77::50,fd77::60,64,1h", "--dhcp-option=option6:dns-server,["+server6+"]", "--dhcp-option=option6:ntp-server,["+server6+"]")
		},
		setup: netconf.Setup{Family: netconf.IPv6},
		try:   func(_ *testing.T, ctx context.Context, _ *Config) error { return reaches(ctx, server6) },
		check: func(t *testing.T, n *Network, r *recorder) {
			c := n.Config()
			if len(c.Addresses) == 0 || c.Addresses[0].Bits() != 128 || !hasAddress(c, "fd77::/120") || c.Lease6 == nil || c.Lease6.Address != c.Addresses[0].Addr() || c.Lease6.Expire != 3600 || c.Lease6.Renew != 1800 {
				t.Fatalf("config %+v, lease %+v", c, c.Lease6)
			}
			if !slices.Equal(c.NTP, []string{server6}) || !slices.Equal(c.Nameservers, []netip.Addr{netip.MustParseAddr(server6)}) {
				t.Errorf("time servers %v, name servers %v", c.NTP, c.Nameservers)
			}
			// The lease is renewed, by its server and then by any.
			client := dhcp6.Client{Link: "eth0", MAC: n.current.port.link.hw}
			for _, rebind := range []bool{false, true} {
				l, err := client.Renew(t.Context(), *c.Lease6, rebind)
				if err != nil || l.Address != c.Lease6.Address || l.ServerID != c.Lease6.ServerID || l.Expire != 3600 {
					t.Errorf("Renew(rebind %v) = %+v, %v", rebind, l, err)
				}
			}
			// As if it had been given for less.
			short := *c.Lease6
			short.Renew, short.Expire, short.Obtained = 1, 16, short.Obtained-1
			n.current.ended.Go(func() { n.renew6(n.current.port.ctx, n.current, short) })
			eventually(t, "renewal", func() bool { return n.Config().Lease6.Obtained > c.Lease6.Obtained })
			// A second attempt asks for no second lease.
			if err := n.Connect(t.Context(), func(ctx context.Context, c *Config) error { return reaches(ctx, server6) }); err != nil || n.Config().Lease6.Address != c.Lease6.Address {
				t.Errorf("Connect again = %v: %+v", err, n.Config())
			}
		},
		server: func(t *testing.T, log string) {
			if s, r, b := exchanges(log, "DHCPSOLICIT("), exchanges(log, "DHCPRENEW("), exchanges(log, "DHCPREBIND("); s != 1 || r != 2 || b != 1 {
				t.Errorf("the server saw %d SOLICIT, %d RENEW, %d REBIND; want 1, 2, 1", s, r, b)
			}
		},
	},
	{
		name: "stateless DHCPv6",
		serve: func(t *testing.T, l *lan) func() string {
			return ipv6(t, l, "--dhcp-range=fd77::,ra-stateless,64,1h", "--dhcp-option=option6:dns-server,["+server6+"]")
		},
		setup: netconf.Setup{Family: netconf.IPv6},
		check: func(t *testing.T, n *Network, r *recorder) {
			m, err := dhcp6.Client{Link: "eth0", MAC: n.current.port.link.hw}.Information(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var c Config
			addInformation(&c, m)
			if !slices.Equal(c.Nameservers, []netip.Addr{netip.MustParseAddr(server6)}) || !hasAddress(n.Config(), "fd77::/64") || n.Config().Lease6 != nil {
				t.Errorf("name servers %v, config %+v", c.Nameservers, n.Config())
			}
		},
	},
	{
		name: "IPv4 and IPv6 side by side",
		serve: func(t *testing.T, l *lan) func() string {
			return ipv6(t, l, range4, "--dhcp-range=fd77::50,fd77::60,64,1h", "--dhcp-option=option6:dns-server,["+server6+"]", "--dhcp-option=option:dns-server,10.77.0.1")
		},
		check: func(t *testing.T, n *Network, r *recorder) {
			eventually(t, "IPv6 beside IPv4", func() bool { return n.Config().Lease6 != nil })
			c := n.Config()
			if c.Lease == nil || !hasAddress(c, "10.77.0.0/24") || !hasAddress(c, "fd77::/64") || !c.Addresses[0].Addr().Is4() || len(c.Nameservers) != 2 {
				t.Errorf("config %+v", c)
			}
			// What is to be done differently counts from the next time on.
			n.Use(netconf.Setup{VLAN: 7})
			for _, a := range []string{"10.77.0.1", server6} {
				eventually(t, a, func() bool { return reaches(t.Context(), a) == nil }) // until duplicates have been looked for
			}
			// Nothing of it stays behind.
			if err := n.Down(); err != nil {
				t.Error(err)
			}
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil || len(addrs) != 0 {
				t.Errorf("after Down: %v, %v", addrs, err)
			}
		},
	},
	{
		name: "a store that IPv6 alone leads to",
		serve: func(t *testing.T, l *lan) func() string {
			return ipv6(t, l, range4, "--dhcp-range=fd77::,ra-only,64,1h")
		},
		try: func(_ *testing.T, ctx context.Context, c *Config) error {
			if !hasAddress(c, "fd77::/64") {
				return errors.New("no store here")
			}
			return reaches(ctx, server6)
		},
		check: func(t *testing.T, n *Network, r *recorder) {
			if c := n.Config(); c.Lease == nil || !hasAddress(c, "fd77::/64") {
				t.Errorf("config %+v", c)
			}
		},
	},
	{
		name: "a name with an IPv6 address that leads nowhere",
		serve: func(t *testing.T, l *lan) func() string {
			serveStore(t, l, "10.77.0.1:80")
			return ipv6(t, l, "--port=53", "--no-resolv", "--no-hosts", "--host-record=store.lan,10.77.0.1,fd99::1", range4, "--dhcp-range=fd77::,ra-only,64,1h")
		},
		check: func(t *testing.T, n *Network, r *recorder) {
			eventually(t, "IPv6 beside IPv4", func() bool { return hasAddress(n.Config(), "fd77::/64") })
			m, err := mirror.New([]string{"http://store.lan/"}, mirror.Options{Nameservers: n.Config().Resolvers("eth0"), Attempts: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			start := time.Now()
			resp, err := m.HTTP().Get("http://store.lan/x")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if took := time.Since(start); resp.StatusCode != http.StatusOK || took > 4500*time.Millisecond { // an address that leads nowhere is given up after 5 s
				t.Errorf("GET: %s after %v; want 200 soon", resp.Status, took)
			}
		},
	},
	{
		name:  "static IPv4",
		serve: func(t *testing.T, l *lan) func() string { return l.dnsmasq(t, range4) },
		setup: netconf.Setup{
			NoDHCP: true, Family: netconf.IPv4, MTU: 1300, Hostname: "pc7", NTP: []string{"10.77.0.3"},
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.9/24")}, Gateways: []netip.Addr{netip.MustParseAddr("10.77.0.1")},
		},
		try: func(_ *testing.T, ctx context.Context, _ *Config) error { return reaches(ctx, "10.77.0.1") },
		check: func(t *testing.T, n *Network, r *recorder) {
			c := n.Config()
			if c.Lease != nil || c.Addresses[0].String() != "10.77.0.9/24" || c.MTU != 1300 || c.Hostname != "pc7" || !slices.Equal(c.NTP, []string{"10.77.0.3"}) || len(c.Routes) != 1 {
				t.Errorf("config %+v", c)
			}
			l, err := netlink.LinkByName("eth0")
			if err != nil || l.Attrs().MTU != 1300 {
				t.Errorf("eth0: %+v, %v; want MTU 1300", l, err)
			}
			// Another address takes the place of the first.
			n.Use(netconf.Setup{NoDHCP: true, Family: netconf.IPv4, Addresses: []netip.Prefix{netip.MustParsePrefix("10.77.0.19/24")}})
			if err := n.Connect(t.Context(), func(ctx context.Context, _ *Config) error { return reaches(ctx, "10.77.0.1") }); err != nil {
				t.Error(err)
			}
			addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
			if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != "10.77.0.19/24" {
				t.Errorf("addresses %v, %v; want the second one alone", addrs, err)
			}
		},
		server: func(t *testing.T, log string) {
			if strings.Contains(log, "DHCPDISCOVER(") {
				t.Error("a static address has been asked for")
			}
		},
	},
	{
		name:  "static IPv6, a router that advertises",
		serve: func(t *testing.T, l *lan) func() string { return ipv6(t, l, "--dhcp-range=fd77::,ra-only,64,1h") },
		setup: netconf.Setup{Family: netconf.IPv6, Addresses: []netip.Prefix{netip.MustParsePrefix("fd77::9/64")}},
		try:   func(_ *testing.T, ctx context.Context, _ *Config) error { return reaches(ctx, server6) },
		check: func(t *testing.T, n *Network, r *recorder) {
			if c := n.Config(); len(c.Addresses) != 1 || c.Addresses[0].String() != "fd77::9/64" || len(c.Routes) != 1 {
				t.Errorf("config %+v; want the static address and the router's route", c)
			}
		},
	},
	{
		name:  "no DHCP and no address",
		serve: func(t *testing.T, l *lan) func() string { return l.dnsmasq(t, range4) },
		setup: netconf.Setup{NoDHCP: true, Family: netconf.IPv4},
		fails: ErrNoAddress,
		server: func(t *testing.T, log string) {
			if strings.Contains(log, "DHCPDISCOVER(") {
				t.Error("DHCP was asked in spite of nodhcp")
			}
		},
	},
	{
		name:  "another link's name",
		serve: func(t *testing.T, l *lan) func() string { return l.dnsmasq(t, range4) },
		setup: netconf.Setup{Link: "enp3s0"},
		fails: ErrNoLink,
	},
	{
		name: "two DHCP servers, one of which leads nowhere",
		serve: func(t *testing.T, l *lan) func() string {
			second := l.second(t)
			log := l.dnsmasqIn(t, second, "--interface=b0", "--dhcp-range=10.77.0.70,10.77.0.80,1h", "--dhcp-option=252,http://10.77.0.2:3128")
			first := l.dnsmasq(t, "--interface=br0", range4)
			return func() string { return first() + log() }
		},
		try: func() func(*testing.T, context.Context, *Config) error {
			var tried []netip.Addr
			return func(t *testing.T, _ context.Context, c *Config) error {
				tried = append(tried, c.Server)
				switch {
				case len(tried) == 1:
					return errors.New("no store here")
				case tried[0] == tried[1]:
					t.Errorf("the same server's lease was tried twice: %v", tried)
				}
				if (c.Server.String() == "10.77.0.2") != (c.Proxy == "http://10.77.0.2:3128") {
					t.Errorf("proxy %q of server %v", c.Proxy, c.Server)
				}
				return nil
			}
		}(),
		check: func(t *testing.T, n *Network, r *recorder) {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				t.Fatal(err)
			}
			addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
			if err != nil || len(addrs) != 1 || addrs[0].IP.String() != n.Config().Addresses[0].Addr().String() {
				t.Errorf("addresses %v, %v; want that of the second lease alone", addrs, err)
			}
		},
		server: func(t *testing.T, log string) {
			// Both see the one DISCOVER: no second one was needed.
			if d, a := exchanges(log, "DHCPDISCOVER("), exchanges(log, "DHCPACK("); d != 1 || strings.Count(log, "DHCPACK(") != 2 {
				t.Errorf("%d DISCOVER, %d ACK; want 1 and 2", d, a)
			}
		},
	},
	{
		name: "a link that is silent at first, and one that comes late",
		serve: func(t *testing.T, l *lan) func() string {
			// srv0 answers nothing; the second cable is put in by check's try.
			run(t, "ip", "-n", l.server, "link", "add", "late0", "type", "veth", "peer", "name", "srv9")
			run(t, "ip", "-n", l.server, "addr", "add", "10.77.9.1/24", "dev", "srv9")
			run(t, "ip", "-n", l.server, "link", "set", "srv9", "up")
			time.AfterFunc(2*time.Second, func() { run(t, "ip", "-n", l.server, "link", "set", "late0", "netns", l.client) })
			return l.dnsmasq(t, "--interface=srv9", "--dhcp-range=10.77.9.50,10.77.9.60,1h")
		},
		check: func(t *testing.T, n *Network, r *recorder) {
			if c := n.Config(); c.Link != "late0" || !hasAddress(c, "10.77.9.0/24") {
				t.Errorf("config %+v", c)
			}
		},
	},
	{
		name: "VLAN",
		serve: func(t *testing.T, l *lan) func() string {
			if err := exec.Command("ip", "-n", l.server, "link", "add", "link", "srv0", "name", "srv0.5", "type", "vlan", "id", "5").Run(); err != nil {
				t.Skip("this kernel has no VLANs")
			}
			run(t, "ip", "-n", l.server, "addr", "add", "10.75.0.1/24", "dev", "srv0.5")
			run(t, "ip", "-n", l.server, "link", "set", "srv0.5", "up")
			return l.dnsmasq(t, "--interface=srv0.5", "--dhcp-range=10.75.0.50,10.75.0.60,1h")
		},
		setup: netconf.Setup{VLAN: 5},
		try:   func(_ *testing.T, ctx context.Context, _ *Config) error { return reaches(ctx, "10.75.0.1") },
		check: func(t *testing.T, n *Network, r *recorder) {
			c := n.Config()
			if c.Link != "eth0.5" || c.Device != "eth0" || c.VLAN != 5 || !hasAddress(c, "10.75.0.0/24") {
				t.Errorf("config %+v", c)
			}
			if err := n.Down(); err != nil {
				t.Error(err)
			}
			if _, err := netlink.LinkByName("eth0.5"); err == nil || isUp(t, "eth0") {
				t.Error("after Down there still is eth0.5, or eth0 is up")
			}
		},
	},
}

// Each network leads to a store, or to a message that says why not.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(s.name), func(t *testing.T) {
			if os.Getenv(inside) == "" {
				l := newLAN(t, 1)
				log := s.serve(t, l)
				l.enter(t)
				if s.server != nil {
					s.server(t, log())
				}
				return
			}
			var r recorder
			o := r.options()
			o.Links = 300 * time.Millisecond
			n := New(o)
			n.Use(s.setup)
			err := n.Connect(t.Context(), func(ctx context.Context, c *Config) error {
				if s.try == nil {
					return nil
				}
				return s.try(t, ctx, c)
			})
			if !errors.Is(err, s.fails) {
				t.Fatalf("Connect = %v; want %v; log:\n%s", err, s.fails, r.text())
			}
			if s.check != nil {
				s.check(t, n, &r)
			}
			if t.Failed() {
				t.Logf("log:\n%s", r.text())
			}
			if err := n.Down(); err != nil {
				t.Error(err)
			}
		})
	}
}

// second makes a bridge of the server's end of the first cable, with another
// server on it that has 10.77.0.2 on its link b0.
func (l *lan) second(t *testing.T) (namespace string) {
	t.Helper()
	ns := fmt.Sprintf("ib-b-%d", os.Getpid())
	run(t, "ip", "netns", "add", ns)
	t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
	run(t, "ip", "-n", l.server, "link", "add", "br0", "type", "bridge")
	run(t, "ip", "-n", l.server, "link", "add", "b1", "type", "veth", "peer", "name", "b0", "netns", ns)
	run(t, "ip", "-n", l.server, "addr", "flush", "dev", "srv0")
	run(t, "ip", "-n", l.server, "addr", "add", "10.77.0.1/24", "dev", "br0")
	run(t, "ip", "-n", ns, "addr", "add", "10.77.0.2/24", "dev", "b0")
	run(t, "ip", "-n", ns, "link", "set", "b0", "up")
	for _, link := range []string{"srv0", "b1"} {
		run(t, "ip", "-n", l.server, "link", "set", link, "master", "br0", "up")
	}
	run(t, "ip", "-n", l.server, "link", "set", "br0", "up")
	return ns
}

const storeAddress = "INETBOOT_TEST_STORE"

// serveStore answers HTTP requests in the server's namespace.
func serveStore(t *testing.T, l *lan, addr string) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", l.server, os.Args[0], "-test.run=^TestServeStore$")
	cmd.Env = append(os.Environ(), storeAddress+"="+addr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// TestServeStore is the server of serveStore, and no test.
func TestServeStore(t *testing.T) {
	addr := os.Getenv(storeAddress)
	if addr == "" {
		t.Skip("a server for other tests")
	}
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }))
	t.Fatal(err)
}
