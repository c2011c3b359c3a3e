package network

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/syslog"
)

var (
	hw       = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	obtained = time.Unix(1_700_000_000, 5)
)

func ack(t *testing.T, addr string, o ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.ParseIP(addr)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 2))),
	}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	// As it would come over the wire.
	m, err = dhcpv4.FromBytes(m.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func opt(o dhcpv4.Option) dhcpv4.Modifier { return dhcpv4.WithOption(o) }

func generic(code uint8, b ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), b)
}

func subnet(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

func TestFromLease(t *testing.T) {
	mask := opt(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)))
	router := opt(dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 9)))
	addr := netip.MustParseAddr
	pfx := netip.MustParsePrefix
	server := addr("10.0.0.2")
	lease := func(renew, rebind, expire int64) *handoff.Lease {
		return &handoff.Lease{Server: server, ClientID: "01525400010203", Obtained: obtained.Unix(), Renew: renew, Rebind: rebind, Expire: expire}
	}
	hour := opt(dhcpv4.OptIPAddressLeaseTime(time.Hour))
	for _, tt := range []struct {
		name string
		ack  *dhcpv4.DHCPv4
		want handoff.Network
	}{
		{
			"everything",
			ack(t, "10.0.0.77", mask, router, hour,
				generic(58, 0, 0, 4, 0), generic(59, 0, 0, 8, 0), generic(26, 5, 120),
				opt(dhcpv4.OptDNS(net.IPv4(10, 0, 0, 3), net.IPv4(10, 0, 0, 4))), opt(dhcpv4.OptDomainName("example.org")), opt(dhcpv4.OptHostName("pc-7"))),
			handoff.Network{
				Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, MTU: 1400, Hostname: "pc-7", Search: []string{"example.org"},
				Nameservers: []netip.Addr{addr("10.0.0.3"), addr("10.0.0.4")},
				Routes:      []handoff.Route{{Destination: pfx("0.0.0.0/0"), Gateway: addr("10.0.0.1")}},
				Lease:       lease(1024, 2048, 3600),
			},
		},
		{
			"option 121 beats option 3",
			ack(t, "10.0.0.77", mask, router, hour, opt(dhcpv4.OptClasslessStaticRoute(
				&dhcpv4.Route{Dest: subnet("0.0.0.0/0"), Router: net.IPv4(10, 0, 0, 8)},
				&dhcpv4.Route{Dest: subnet("10.9.0.0/16"), Router: net.IPv4zero},
				&dhcpv4.Route{Dest: subnet("10.8.0.0/16"), Router: net.IPv4(10, 9, 0, 1)},
			))),
			handoff.Network{
				Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, Lease: lease(1800, 3150, 3600),
				Routes: []handoff.Route{
					{Destination: pfx("10.9.0.0/16")},
					{Destination: pfx("0.0.0.0/0"), Gateway: addr("10.0.0.8")},
					{Destination: pfx("10.8.0.0/16"), Gateway: addr("10.9.0.1")},
				},
			},
		},
		{
			"a gateway outside of the subnet",
			ack(t, "10.0.0.77", opt(dhcpv4.OptSubnetMask(net.CIDRMask(32, 32))), opt(dhcpv4.OptRouter(net.IPv4(192, 0, 2, 1))), hour),
			handoff.Network{
				Addresses: []netip.Prefix{pfx("10.0.0.77/32")}, Lease: lease(1800, 3150, 3600),
				Routes: []handoff.Route{{Destination: pfx("192.0.2.1/32")}, {Destination: pfx("0.0.0.0/0"), Gateway: addr("192.0.2.1")}},
			},
		},
		{
			"no mask, no times",
			ack(t, "192.168.5.6"),
			handoff.Network{Addresses: []netip.Prefix{pfx("192.168.5.6/24")}, Lease: lease(2147483647, 3758096383, 4294967295)},
		},
		{
			"infinite lease",
			ack(t, "10.0.0.77", mask, generic(51, 255, 255, 255, 255)),
			handoff.Network{Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, Lease: lease(2147483647, 3758096383, 4294967295)},
		},
		{
			"times that contradict each other",
			ack(t, "10.0.0.77", mask, hour, generic(58, 0, 1, 0, 0), generic(59, 0, 0, 0, 1)),
			handoff.Network{Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, Lease: lease(1, 1, 3600)},
		},
		{
			"names that are no names, an MTU that is too small",
			ack(t, "10.0.0.77", mask, hour, opt(dhcpv4.OptHostName("a\x1b[2Jb")), opt(dhcpv4.OptDomainName("x\nnameserver 6.6.6.6")), generic(26, 0, 68)),
			handoff.Network{Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, Lease: lease(1800, 3150, 3600)},
		},
		{
			"search list",
			ack(t, "10.0.0.77", mask, hour, opt(dhcpv4.OptDomainName("example.org")), opt(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"a.example", "b.example"}}))),
			handoff.Network{Addresses: []netip.Prefix{pfx("10.0.0.77/24")}, Search: []string{"a.example", "b.example"}, Lease: lease(1800, 3150, 3600)},
		},
	} {
		tt.want.MAC = hw.String()
		got, err := FromLease(tt.ack, "eth7", hw, link{hw: hw}.clientID(), obtained)
		if err != nil {
			t.Errorf("%s: FromLease = %v", tt.name, err)
			continue
		}
		if got.Link != "eth7" || got.Server != server {
			t.Errorf("%s: FromLease is for %s by %v; want eth7 by %v", tt.name, got.Link, got.Server, server)
		}
		if diff := cmp.Diff(tt.want, got.Network, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: FromLease differs (-want +got):\n%s", tt.name, diff)
		}
		// Whatever a server says, the target has to be able to read it.
		h := handoff.Handoff{Format: handoff.Format, Mirrors: []string{"http://x"}, Network: got.Network}
		if err := h.Check(); err != nil && !errors.Is(err, handoff.ErrInvalid) {
			t.Error(err)
		} else if err == nil || err.Error() != "invalid handoff: root has 0 files, want 1 to 16" {
			t.Errorf("%s: as a handoff: %v", tt.name, err)
		}
	}
}

func TestFromLeaseRefuses(t *testing.T) {
	noServer := ack(t, "10.0.0.1")
	delete(noServer.Options, 54)
	for name, m := range map[string]*dhcpv4.DHCPv4{
		"no address":         ack(t, "0.0.0.0"),
		"multicast":          ack(t, "224.0.0.1"),
		"loopback":           ack(t, "127.0.0.1"),
		"no server":          noServer,
		"mask with holes":    ack(t, "10.0.0.1", generic(1, 255, 0, 255, 0)),
		"mask of everything": ack(t, "10.0.0.1", generic(1, 0, 0, 0, 0)),
	} {
		if c, err := FromLease(m, "eth0", hw, nil, obtained); !errors.Is(err, ErrLease) {
			t.Errorf("%s: FromLease = %+v, %v; want ErrLease", name, c, err)
		}
	}
}

func FuzzFromLease(f *testing.F) {
	m, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)),
		opt(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 2))), opt(dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1))), opt(dhcpv4.OptDomainName("x")),
		opt(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: subnet("10.9.0.0/16"), Router: net.IPv4zero})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		c, err := FromLease(m, "eth0", hw, []byte{1}, obtained)
		if err != nil {
			return
		}
		h := handoff.Handoff{Format: handoff.Format, Mirrors: []string{"http://x"}, Network: c.Network}
		if err := h.Check(); err == nil || err.Error() != "invalid handoff: root has 0 files, want 1 to 16" {
			t.Errorf("a lease that the target cannot read: %v: %+v", err, c)
		}
	})
}

func TestLogServer(t *testing.T) {
	servers := opt(dhcpv4.Option{Code: dhcpv4.OptionLogServer, Value: dhcpv4.IPs{net.IPv4zero, net.IPv4(10, 0, 0, 4), net.IPv4(10, 0, 0, 5)}})
	for _, tt := range []struct {
		ack  *dhcpv4.DHCPv4
		want syslog.Receiver
	}{
		{ack(t, "10.0.0.7"), syslog.Receiver{}},
		{ack(t, "10.0.0.7", servers), syslog.Receiver{Network: "udp", Host: "10.0.0.4", Port: 514}},
		{ack(t, "10.0.0.7", generic(7, 10, 0)), syslog.Receiver{}},
	} {
		c, err := FromLease(tt.ack, "eth0", hw, nil, obtained)
		if err != nil || c.Syslog != tt.want {
			t.Errorf("log server of %v = %v, %v; want %v", tt.ack.Options, c.Syslog, err, tt.want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	c := Config{Network: handoff.Network{Search: []string{"a.b", "c"}, Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	if got, want := c.ResolvConf(), "search a.b c\nnameserver 10.0.0.1\n"; got != want {
		t.Errorf("ResolvConf = %q; want %q", got, want)
	}
}
