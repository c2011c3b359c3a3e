package network

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inetboot/inetboot/internal/handoff"
)

var (
	router  = netip.MustParseAddr("fe80::1")
	byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, advertPrefix{})
)

// ra builds a router advertisement with a lifetime of half an hour.
func ra(flags byte, options ...[]byte) []byte {
	b := []byte{typeAdvert, 0, 0, 0, 64, flags, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, o := range options {
		b = append(b, o...)
	}
	return b
}

func option(kind byte, body ...byte) []byte {
	for len(body)%8 != 6 {
		body = append(body, 0)
	}
	return append([]byte{kind, byte((len(body) + 2) / 8)}, body...)
}

func prefixOption(prefix string, flags byte, valid uint32) []byte {
	p := netip.MustParsePrefix(prefix)
	body := []byte{byte(p.Bits()), flags}
	body = binary.BigEndian.AppendUint32(body, valid)
	body = binary.BigEndian.AppendUint32(body, valid)
	body = append(body, 0, 0, 0, 0)
	return option(optPrefix, append(body, p.Addr().AsSlice()...)...)
}

func rdnss(lifetime uint32, addrs ...string) []byte {
	body := binary.BigEndian.AppendUint32([]byte{0, 0}, lifetime)
	for _, a := range addrs {
		body = append(body, netip.MustParseAddr(a).AsSlice()...)
	}
	return option(optRDNSS, body...)
}

func dnssl(names ...byte) []byte {
	return option(optDNSSL, append([]byte{0, 0, 0, 0, 1, 0}, names...)...)
}

func routeOption(prefix string, lifetime uint32) []byte {
	p := netip.MustParsePrefix(prefix)
	body := binary.BigEndian.AppendUint32([]byte{byte(p.Bits()), 0}, lifetime)
	return option(optRoute, append(body, p.Addr().AsSlice()...)...)
}

const onLinkAuto = 0xc0

// seeds are advertisements as they come, and what they say.
var seeds = []struct {
	name string
	b    []byte
	want advert
}{
	{"a router alone", ra(0), advert{router: router, lifetime: 30 * time.Minute}},
	{
		"everything",
		ra(0x40, option(1, 0x52, 0x54, 0, 1, 2, 3), option(optMTU, 0, 0, 0, 0, 5, 0x78), prefixOption("2001:db8:1::/64", onLinkAuto, 3600), prefixOption("2001:db8:2::/64", 0x40, 3600),
			prefixOption("2001:db8:3::/48", 0x80, 3600), rdnss(600, "2001:db8::53", "fe80::53"), dnssl(7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 3, 'o', 'r', 'g', 0, 3, 'l', 'a', 'n', 0), routeOption("2001:db8:9::/48", 600)),
		advert{
			router: router, lifetime: 30 * time.Minute, other: true, mtu: 1400,
			prefixes: []advertPrefix{
				{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), onLink: true, auto: true},
				{Prefix: netip.MustParsePrefix("2001:db8:2::/64"), auto: true},
				{Prefix: netip.MustParsePrefix("2001:db8:3::/48"), onLink: true},
			},
			routes:  []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")},
			servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::53")},
			search:  []string{"example.org", "lan"},
		},
	},
	{
		"what has ended, or makes no sense",
		ra(0x80, prefixOption("2001:db8:1::/64", onLinkAuto, 0), prefixOption("fe80::/64", onLinkAuto, 3600), prefixOption("2001:db8:4::/65", 0x40, 3600), rdnss(0, "2001:db8::53"), rdnss(600, "::", "ff02::1"),
			option(optMTU, 0, 0, 0, 0, 0, 99), option(optMTU, 0, 0, 0xff, 0xff, 0xff, 0xff), dnssl(3, 'a', 0x1b, 'b', 0, 63, 'x'), routeOption("2001:db8:9::/48", 0), option(200, 1)),
		advert{router: router, lifetime: 30 * time.Minute, managed: true, prefixes: []advertPrefix{{Prefix: netip.MustParsePrefix("2001:db8:4::/65")}}},
	},
}

func TestParseAdvert(t *testing.T) {
	for _, tt := range seeds {
		got, err := parseAdvert(tt.b, router.WithZone("eth0"))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, *got, cmp.AllowUnexported(advert{}, advertPrefix{}), byValue); diff != "" {
			t.Errorf("%s: parseAdvert differs (-want +got):\n%s", tt.name, diff)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": ra(0)[:15], "a solicitation": {typeSolicit, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "a code": append([]byte{typeAdvert, 1}, ra(0)[2:]...),
		"an empty option": ra(0, []byte{3, 0, 0, 0, 0, 0, 0, 0}), "a cut option": ra(0, prefixOption("2001:db8::/64", 0, 1)[:24]), "a stump": ra(0, []byte{3}),
	} {
		if got, err := parseAdvert(b, router); !errors.Is(err, errAdvert) {
			t.Errorf("%s: parseAdvert = %+v, %v; want errAdvert", name, got, err)
		}
	}
	if got, err := parseAdvert(ra(0), netip.MustParseAddr("2001:db8::1")); !errors.Is(err, errAdvert) {
		t.Errorf("from no link-local address: parseAdvert = %+v, %v; want errAdvert", got, err)
	}
}

func TestAdvertConfig(t *testing.T) {
	a, err := parseAdvert(seeds[1].b, router)
	if err != nil {
		t.Fatal(err)
	}
	c := a.config(hw)
	want := handoff.Network{
		MTU: 1400, Nameservers: a.servers, Search: a.search,
		// Neighbours of the second prefix are reached by way of the router.
		Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8:1:0:5054:ff:fe01:203/64"), netip.MustParsePrefix("2001:db8:2:0:5054:ff:fe01:203/128")},
		Routes: []handoff.Route{
			{Destination: netip.MustParsePrefix("2001:db8:3::/48")},
			{Destination: netip.MustParsePrefix("2001:db8:9::/48"), Gateway: router},
			{Destination: netip.MustParsePrefix("::/0"), Gateway: router},
		},
	}
	if diff := cmp.Diff(want, c.Network, byValue); diff != "" {
		t.Errorf("config differs (-want +got):\n%s", diff)
	}
}

func FuzzParseAdvert(f *testing.F) {
	for _, s := range seeds {
		f.Add(s.b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAdvert(b, router)
		if err != nil {
			return
		}
		c := a.config(hw)
		c.MAC = hw.String()
		if len(c.Addresses) == 0 {
			return
		}
		h := handoff.Handoff{Format: handoff.Format, Mirrors: []string{"http://x"}, Network: c.Network}
		if err := h.Check(); err == nil || err.Error() != "invalid handoff: root has 0 files, want 1 to 16" {
			t.Errorf("an advertisement that the target cannot use: %v: %+v", err, c)
		}
		if len(c.Addresses) > maxAddresses || len(c.Routes) > 2*maxRoutes+1 || len(c.Nameservers) > maxServers || len(c.Search) > maxServers {
			t.Errorf("%d addresses, %d routes, %d name servers, %d domains", len(c.Addresses), len(c.Routes), len(c.Nameservers), len(c.Search))
		}
	})
}

// While spanning tree keeps a port shut for up to 50 s, and with the carrier
// there, no more than 10 s pass in silence.
func TestPatience(t *testing.T) {
	sum := time.Duration(0)
	for _, d := range patience {
		if sum += d; d > 10*time.Second {
			t.Errorf("a pause of %v", d)
		}
	}
	if last := sum - patience[len(patience)-1]; last < 50*time.Second {
		t.Errorf("the last question is asked after %v; want 50 s or more", last)
	}
}

func TestProxyOf(t *testing.T) {
	for option, want := range map[string]string{
		"http://proxy.example:3128": "http://proxy.example:3128", "http://10.0.0.1:8080/": "http://10.0.0.1:8080", "http://10.0.0.1:8080\x00": "http://10.0.0.1:8080",
		"http://wpad.example/wpad.dat": "", "http://wpad.example:80/wpad.dat": "", "http://wpad.example": "", "\n": "", "": "", "http://u:p@h:1": "", "https://h:1": "", "http://h:1/?a": "", "h:1": "", "http://a b:1": "",
	} {
		if got := proxyOf([]byte(option)); got != want {
			t.Errorf("proxyOf(%q) = %q; want %q", option, got, want)
		}
	}
}
