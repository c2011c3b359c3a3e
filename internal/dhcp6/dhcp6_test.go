package dhcp6

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/inetboot/inetboot/internal/handoff"
)

var (
	client  = Client{Link: "eth0", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}}
	server  = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	now     = time.Unix(1_700_000_000, 0)
	byValue = cmpopts.EquateComparable(netip.Addr{})
)

// reply is an answer as it comes over the wire.
func reply(t testing.TB, t1, t2, preferred, valid time.Duration, addr string, more ...dhcpv6.Modifier) *dhcpv6.Message {
	t.Helper()
	ia := &dhcpv6.OptIANA{IaId: client.iaid(), T1: t1, T2: t2}
	if addr != "" {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(addr), PreferredLifetime: preferred, ValidLifetime: valid})
	}
	m, err := dhcpv6.NewMessage(append([]dhcpv6.Modifier{dhcpv6.WithClientID(client.clientID()), dhcpv6.WithServerID(server), dhcpv6.WithOption(ia)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = dhcpv6.MessageTypeReply
	if m, err = dhcpv6.MessageFromBytes(m.ToBytes()); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLease(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name                  string
		m                     *dhcpv6.Message
		renew, rebind, expire int64
	}{
		{"times of the server", reply(t, 100*s, 200*s, 300*s, 400*s, "2001:db8::7"), 100, 200, 400},
		{"times left to the client", reply(t, 0, 0, 1000*s, 2000*s, "2001:db8::7"), 500, 800, 2000},
		{"times that contradict each other", reply(t, 900*s, 5000*s, 1000*s, 2000*s, "2001:db8::7"), 500, 800, 2000},
		{"no preferred lifetime", reply(t, 0, 0, 0, 2000*s, "2001:db8::7"), 1000, 1600, 2000},
		{"a moment", reply(t, 0, 0, s, s, "2001:db8::7"), 1, 2, 8},
		{"for ever", reply(t, infinite*s, infinite*s, infinite*s, infinite*s, "2001:db8::7"), infinite, infinite, infinite},
	} {
		want := &handoff.Lease6{
			Address: netip.MustParseAddr("2001:db8::7"), ServerID: "00030001020000000001", ClientID: "00030001525400010203", IAID: 0x00010203,
			Obtained: now.Unix(), Renew: tt.renew, Rebind: tt.rebind, Expire: tt.expire,
		}
		got, err := lease(tt.m, now)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(want, got, byValue); diff != "" {
			t.Errorf("%s: lease differs (-want +got):\n%s", tt.name, diff)
		}
	}
	noServer := reply(t, 0, 0, s, s, "2001:db8::7")
	noServer.Options.Del(dhcpv6.OptionServerID)
	for name, m := range map[string]*dhcpv6.Message{
		"no address":    reply(t, 0, 0, 0, 0, ""),
		"multicast":     reply(t, 0, 0, s, s, "ff02::1"),
		"link-local":    reply(t, 0, 0, s, s, "fe80::7"),
		"loopback":      reply(t, 0, 0, s, s, "::1"),
		"it has ended":  reply(t, 0, 0, 0, 0, "2001:db8::7"),
		"no server":     noServer,
		"status of all": reply(t, 0, 0, s, s, "2001:db8::7", dhcpv6.WithOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})),
	} {
		if got, err := lease(m, now); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: lease = %+v, %v; want ErrRefused", name, got, err)
		}
	}
}

// A renewal names its server, a rebinding none (RFC 8415 sections 18.2.4 and
// 18.2.5).
func TestRenewal(t *testing.T) {
	l := handoff.Lease6{Address: netip.MustParseAddr("2001:db8::7"), ServerID: "00030001020000000001", ClientID: "00030001525400010203", IAID: 0x00010203}
	for rebind, want := range map[bool]dhcpv6.MessageType{false: dhcpv6.MessageTypeRenew, true: dhcpv6.MessageTypeRebind} {
		m, err := renewal(l, rebind)
		if err != nil {
			t.Fatal(err)
		}
		if m, err = dhcpv6.MessageFromBytes(m.ToBytes()); err != nil {
			t.Fatal(err)
		}
		ia := m.Options.OneIANA()
		if m.Type() != want || (m.Options.ServerID() == nil) != rebind || ia == nil || binary.BigEndian.Uint32(ia.IaId[:]) != l.IAID || ia.Options.OneAddress().IPv6Addr.String() != "2001:db8::7" {
			t.Errorf("renewal(rebind %v) = %s", rebind, m.Summary())
		}
	}
	l.ServerID = "x"
	if _, err := renewal(l, false); err == nil {
		t.Error("renewal with a DUID that is none: no error")
	}
}

func FuzzLease(f *testing.F) {
	f.Add(reply(f, 100*time.Second, 200*time.Second, 300*time.Second, 400*time.Second, "2001:db8::7").ToBytes())
	f.Add(reply(f, 0, 0, 0, 0, "").ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv6.MessageFromBytes(b)
		if err != nil {
			return
		}
		l, err := lease(m, now)
		if err != nil {
			return
		}
		h := handoff.Handoff{Format: handoff.Format, Mirrors: []string{"http://x"}, Network: handoff.Network{
			MAC: client.MAC.String(), Addresses: []netip.Prefix{netip.PrefixFrom(l.Address, 128)}, Lease6: l,
		}}
		if err := h.Check(); err == nil || err.Error() != "invalid handoff: root has 0 files, want 1 to 16" {
			t.Errorf("a lease that the target cannot read: %v: %+v", err, l)
		}
	})
}
