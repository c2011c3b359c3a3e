package nic

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/handoff"
)

var testNetwork = handoff.Network{
	MAC:       "52:54:00:12:34:56",
	Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("2001:db8::15/64"), netip.MustParsePrefix("fe80::1/64")},
	Routes: []handoff.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.9.1")},
		{Destination: netip.MustParsePrefix("10.9.9.1/32")},
		{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::2")},
	},
	Nameservers: []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("2001:db8::3")},
	Search:      []string{"example.org", "example.com"},
	Hostname:    "client7",
}

func TestConversions(t *testing.T) {
	var got []string
	for _, a := range addresses(testNetwork) {
		got = append(got, a.IPNet.String())
	}
	for _, r := range routes(7, testNetwork) {
		s := r.Dst.String()
		if r.Gw != nil {
			s += " via " + r.Gw.String()
		}
		if r.LinkIndex != 7 {
			t.Errorf("route %s is on link %d; want 7", s, r.LinkIndex)
		}
		got = append(got, s)
	}
	want := []string{"10.0.2.15/24", "2001:db8::15/64", "10.9.9.1/32", "0.0.0.0/0 via 10.9.9.1", "::/0 via fe80::2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses and routes (-want +got):\n%s", diff)
	}
}

// TestKeeper takes a link down in every way, in a network of its own.
func TestKeeper(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network of its own needs root")
	}
	runtime.LockOSThread() // and the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nic0"}, PeerName: "peer0"}); err != nil {
		t.Skip(err)
	}
	find := func() netlink.Link {
		l, err := netlink.LinkByName("nic0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	peer, err := netlink.LinkByName("peer0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(peer); err != nil {
		t.Fatal(err)
	}
	n := handoff.Network{
		MAC: find().Attrs().HardwareAddr.String(), MTU: 1400, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")},
		Routes: []handoff.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.2.2")}, {Destination: netip.MustParsePrefix("10.9.0.0/16")}},
	}
	if err := Configure(find(), n); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	k := NewKeeper(find().Attrs().Index, n, slog.New(slog.NewTextHandler(&log, nil)))
	look := func() string {
		log.Reset()
		k.last = time.Time{}
		k.Look()
		return log.String()
	}
	if said := look(); said != "" {
		t.Fatalf("Look() at a link as it was handed over says %q", said)
	}
	address := addresses(n)[0]
	for _, tt := range []struct {
		name    string
		do      func() error
		missing string
	}{
		{"down", func() error { return netlink.LinkSetDown(find()) }, "up"},
		{"address", func() error { return netlink.AddrDel(find(), address) }, "10.0.2.15/24"},
		{"route", func() error { return netlink.RouteDel(routes(find().Attrs().Index, n)[1]) }, "route to 0.0.0.0/0"},
	} {
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if said := look(); !strings.Contains(said, "it is set up again") || !strings.Contains(said, tt.missing) {
			t.Errorf("%s: Look() says %q; want %s", tt.name, said, tt.missing)
		}
		if wrong := k.wrong(find()); len(wrong) > 0 {
			t.Errorf("%s: afterwards the link lacks %v", tt.name, wrong)
		}
	}
	// Not too often.
	if err := netlink.LinkSetDown(find()); err != nil {
		t.Fatal(err)
	}
	k.last = time.Now()
	log.Reset()
	k.Look()
	if log.Len() > 0 {
		t.Errorf("two looks within a second: %s", log.String())
	}
	look()

	// Somebody has moved the address to another link: that is theirs to do.
	if err := netlink.AddrDel(find(), address); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(peer, addresses(n)[0]); err != nil {
		t.Fatal(err)
	}
	for _, r := range routes(peer.Attrs().Index, n) {
		if err := netlink.RouteReplace(r); err != nil {
			t.Fatal(err)
		}
	}
	if said := look(); said != "" {
		t.Errorf("Look() after the address was moved says %q; want nothing", said)
	}
	var none *Keeper
	none.Look()
	none.Watch()()
}
