package netconf

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestAddIP(t *testing.T) {
	for _, tt := range []struct {
		values  []string
		want    Setup
		servers []netip.Addr
	}{
		{[]string{"dhcp"}, Setup{}, nil},
		{[]string{"on"}, Setup{}, nil},
		{[]string{"off"}, Setup{NoDHCP: true}, nil},
		{[]string{"auto6"}, Setup{Family: IPv6}, nil},
		{[]string{"dhcp6"}, Setup{Family: IPv6}, nil},
		{[]string{"::::::dhcp"}, Setup{}, nil},
		{[]string{":::::eth1:dhcp"}, Setup{Link: "eth1"}, nil},
		{[]string{"10.0.0.5"}, Setup{Addresses: prefixes("10.0.0.5/8")}, nil},
		{[]string{"192.0.2.5::192.0.2.1:255.255.255.0"}, Setup{Addresses: prefixes("192.0.2.5/24"), Gateways: addrs("192.0.2.1")}, nil},
		{[]string{"192.0.2.5:192.0.2.9:192.0.2.1:255.255.255.128:pc7:eth0:off:192.0.2.2:192.0.2.3:192.0.2.4"},
			Setup{Addresses: prefixes("192.0.2.5/25"), Gateways: addrs("192.0.2.1"), Hostname: "pc7", Link: "eth0", NoDHCP: true, NTP: []string{"192.0.2.4"}}, addrs("192.0.2.2", "192.0.2.3")},
		{[]string{"192.0.2.5::192.0.2.1:26::eth0:none:1400"}, Setup{Addresses: prefixes("192.0.2.5/26"), Gateways: addrs("192.0.2.1"), Link: "eth0", NoDHCP: true, MTU: 1400}, nil},
		{[]string{"192.0.2.5::0.0.0.0:24:::off:0.0.0.0"}, Setup{Addresses: prefixes("192.0.2.5/24"), NoDHCP: true}, nil},
		{[]string{"[2001:db8::5]"}, Setup{Addresses: prefixes("2001:db8::5/64")}, nil},
		{[]string{"[2001:db8::5]::[fe80::1]:48:pc7:eth0:off:[2001:db8::2]"},
			Setup{Addresses: prefixes("2001:db8::5/48"), Gateways: addrs("fe80::1"), Hostname: "pc7", Link: "eth0", NoDHCP: true}, addrs("2001:db8::2")},
		{[]string{"192.0.2.5::192.0.2.1:24::eth0:off", "[2001:db8::5]::[fe80::1]:64::eth0:off"},
			Setup{Addresses: prefixes("192.0.2.5/24", "2001:db8::5/64"), Gateways: addrs("192.0.2.1", "fe80::1"), Link: "eth0", NoDHCP: true}, nil},
	} {
		var got Setup
		var servers []netip.Addr
		for _, v := range tt.values {
			s, err := got.AddIP(v)
			if err != nil {
				t.Errorf("AddIP(%q) = %v", v, err)
			}
			servers = append(servers, s...)
		}
		if diff := cmp.Diff(tt.want, got, byValue); diff != "" {
			t.Errorf("AddIP(%q) (-want +got):\n%s", tt.values, diff)
		}
		if diff := cmp.Diff(tt.servers, servers, byValue); diff != "" {
			t.Errorf("AddIP(%q): name servers (-want +got):\n%s", tt.values, diff)
		}
	}
}

func TestAddIPRefuses(t *testing.T) {
	for _, v := range []string{
		"", "perhaps", "10.0.0.300::10.0.0.1:24", "10.0.0.5:::33", "10.0.0.5:::0", "10.0.0.5:::255.0.255.0", "10.0.0.5:::0.0.0.0", "[2001:db8::5]:::255.255.0.0",
		"[2001:db8::5", "[2001:db8::5]x", "224.0.0.1:::24", "127.0.0.1:::8", "10.0.0.5::router:24", "10.0.0.5:::24::et/h0", "10.0.0.5:::24:a b", "10.0.0.5:::24:::off:100",
		"10.0.0.5:::24:::maybe", "10.0.0.5:::24:::off:::-x", "1:2:3:4:5:6:7:8:9:10:11", "[fe80::1%eth0]::[fe80::2%eth0]",
	} {
		var s Setup
		if _, err := s.AddIP(v); !errors.Is(err, ErrInvalid) {
			t.Errorf("AddIP(%q) = %v, %+v; want ErrInvalid", v, err, s)
		}
	}
	s := Setup{Gateways: addrs("10.0.0.1")}
	if _, err := s.AddIP("10.0.0.5::10.0.0.2:24"); !errors.Is(err, ErrInvalid) {
		t.Errorf("AddIP of a second gateway = %v; want ErrInvalid", err)
	}
}

func TestSetVLAN(t *testing.T) {
	for v, want := range map[string]Setup{
		"5": {VLAN: 5}, "4094:eth1": {VLAN: 4094, Link: "eth1"}, "vlan0005:eth0": {VLAN: 5, Link: "eth0"}, "eth0.7:eth0": {VLAN: 7, Link: "eth0"},
		"9:52:54:00:01:02:03": {VLAN: 9, Link: "52:54:00:01:02:03"}, "": {}, "0": {},
	} {
		got := Setup{VLAN: 3}
		if err := got.SetVLAN(v); err != nil || !cmp.Equal(got, want, byValue) {
			t.Errorf("SetVLAN(%q) = %+v, %v; want %+v", v, got, err, want)
		}
	}
	for _, v := range []string{"x", "4095", "-1x", "99999999999999999999", "5:a/b", ":eth0"} {
		var s Setup
		if err := s.SetVLAN(v); !errors.Is(err, ErrInvalid) {
			t.Errorf("SetVLAN(%q) = %v, %+v; want ErrInvalid", v, err, s)
		}
	}
}

func TestNamed(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0xab, 2, 3}
	for link, want := range map[string]bool{"": true, "eth0": true, "eth1": false, "52:54:00:AB:02:03": true, "52-54-00-ab-02-03": false, "52:54:00:ab:02:04": false} {
		if got := (Setup{Link: link}).Named("eth0", mac); got != want {
			t.Errorf("Setup{Link: %q}.Named(eth0, %v) = %v; want %v", link, mac, got, want)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("192.0.2.5:192.0.2.9:192.0.2.1:255.255.255.128:pc7:eth0:off:192.0.2.2:192.0.2.3:192.0.2.4", "5:eth0")
	f.Add("[2001:db8::5]::[fe80::1]:48:pc7:eth0:off:[2001:db8::2]", "vlan0005:eth0")
	f.Add("dhcp", "")
	f.Add("192.0.2.5::192.0.2.1:26::eth0:none:1400", "eth0.7")
	f.Fuzz(func(t *testing.T, ip, vlan string) {
		var s Setup
		if _, err := s.AddIP(ip); err == nil {
			if err := s.Check(); err != nil {
				t.Errorf("AddIP(%q) takes what Check does not: %v", ip, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Errorf("AddIP(%q) = %v; want ErrInvalid", ip, err)
		}
		s = Setup{}
		if err := s.SetVLAN(vlan); err == nil {
			if err := s.Check(); err != nil {
				t.Errorf("SetVLAN(%q) takes what Check does not: %v", vlan, err)
			}
		}
	})
}
