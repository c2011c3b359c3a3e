// Package dhcp6 is the client's side of DHCPv6 (RFC 8415), for the boot medium
// that asks for a lease and the target that renews it.
package dhcp6

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/inetboot/inetboot/internal/handoff"
)

// ErrNoAnswer is wrapped when no server has answered.
var ErrNoAnswer = errors.New("no DHCPv6 server answers")

// ErrRefused is wrapped when a server has answered, but gives no address.
var ErrRefused = errors.New("the DHCPv6 server gives no address")

const infinite = 1<<32 - 1 // RFC 8415 section 7.7

// Client asks on one link.
type Client struct {
	Link string // its name; the link is up and has a link-local address that is no longer tentative
	MAC  net.HardwareAddr
}

// clientID identifies a machine the same way in every boot, medium and target:
// by its address (DUID-LL, RFC 8415 section 11.4).
func (c Client) clientID() dhcpv6.DUID {
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: c.MAC}
}

func (c Client) iaid() [4]byte {
	var id [4]byte
	copy(id[:], c.MAC[max(0, len(c.MAC)-4):])
	return id
}

// wanted are the options that servers are asked for.
func wanted(m dhcpv6.DHCPv6) {
	dhcpv6.WithRequestedOptions(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionNTPServer, dhcpv6.OptionSNTPServerList)(m)
}

// Lease asks for an address: Solicit, Advertise, Request and Reply, or with a
// server that allows it (rapid commit) Solicit and Reply.
func (c Client) Lease(ctx context.Context) (*handoff.Lease6, *dhcpv6.Message, error) {
	solicit, err := dhcpv6.NewSolicit(c.MAC, dhcpv6.WithClientID(c.clientID()), dhcpv6.WithIAID(c.iaid()), dhcpv6.WithRapidCommit, wanted)
	if err != nil {
		return nil, nil, fmt.Errorf("make a DHCPv6 request: %w", err)
	}
	var refused error
	reply, err := c.exchange(ctx, solicit, func(m *dhcpv6.Message) bool {
		if m.Type() != dhcpv6.MessageTypeAdvertise && (m.Type() != dhcpv6.MessageTypeReply || m.GetOneOption(dhcpv6.OptionRapidCommit) == nil) {
			return false
		}
		// A server without addresses says so, and another may have some.
		if _, err := address(m); err != nil {
			refused = err
			return false
		}
		return m.Options.ServerID() != nil
	})
	if err != nil {
		return nil, nil, errors.Join(refused, err)
	}
	if reply.Type() == dhcpv6.MessageTypeAdvertise {
		request, err := dhcpv6.NewRequestFromAdvertise(reply, wanted)
		if err != nil {
			return nil, nil, fmt.Errorf("make a DHCPv6 request: %w", err)
		}
		if reply, err = c.exchange(ctx, request, isReply); err != nil {
			return nil, nil, err
		}
	}
	l, err := lease(reply, time.Now())
	return l, reply, err
}

// Information asks for name servers alone.
func (c Client) Information(ctx context.Context) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage(dhcpv6.WithClientID(c.clientID()), wanted)
	if err != nil {
		return nil, fmt.Errorf("make a DHCPv6 request: %w", err)
	}
	m.MessageType = dhcpv6.MessageTypeInformationRequest
	m.AddOption(dhcpv6.OptElapsedTime(0))
	return c.exchange(ctx, m, isReply)
}

// Renew asks the server of a lease to go on with it, or with rebind any
// server. The address stays.
func (c Client) Renew(ctx context.Context, old handoff.Lease6, rebind bool) (*handoff.Lease6, error) {
	m, err := renewal(old, rebind)
	if err != nil {
		return nil, err
	}
	reply, err := c.exchange(ctx, m, isReply)
	if err != nil {
		return nil, err
	}
	l, err := lease(reply, time.Now())
	if err != nil {
		return nil, err
	}
	if l.Address != old.Address {
		return nil, fmt.Errorf("%w: it offers %v instead of %v", ErrRefused, l.Address, old.Address)
	}
	return l, nil
}

func renewal(l handoff.Lease6, rebind bool) (*dhcpv6.Message, error) {
	client, err := duid(l.ClientID)
	if err != nil {
		return nil, err
	}
	ia := &dhcpv6.OptIANA{Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptIAAddress{IPv6Addr: l.Address.AsSlice()}}}}
	binary.BigEndian.PutUint32(ia.IaId[:], l.IAID)
	m, err := dhcpv6.NewMessage(dhcpv6.WithClientID(client), dhcpv6.WithOption(ia), wanted)
	if err != nil {
		return nil, fmt.Errorf("make a DHCPv6 request: %w", err)
	}
	m.AddOption(dhcpv6.OptElapsedTime(0))
	m.MessageType = dhcpv6.MessageTypeRebind
	if !rebind {
		server, err := duid(l.ServerID)
		if err != nil {
			return nil, err
		}
		m.MessageType = dhcpv6.MessageTypeRenew
		m.AddOption(dhcpv6.OptServerID(server))
	}
	return m, nil
}

func duid(s string) (dhcpv6.DUID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("DHCPv6 lease: DUID %q: %w", s, err)
	}
	d, err := dhcpv6.DUIDFromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("DHCPv6 lease: DUID %q: %w", s, err)
	}
	return d, nil
}

func isReply(m *dhcpv6.Message) bool { return m.Type() == dhcpv6.MessageTypeReply }

// address returns the first address that a message gives.
func address(m *dhcpv6.Message) (*dhcpv6.OptIAAddress, error) {
	refuse := func(s *dhcpv6.OptStatusCode) error {
		if s != nil && s.StatusCode != iana.StatusSuccess {
			return fmt.Errorf("%w: it says %v %q", ErrRefused, s.StatusCode, s.StatusMessage)
		}
		return nil
	}
	if err := refuse(m.Options.Status()); err != nil {
		return nil, err
	}
	ia := m.Options.OneIANA()
	if ia == nil {
		return nil, ErrRefused
	}
	if err := refuse(ia.Options.Status()); err != nil {
		return nil, err
	}
	for _, a := range ia.Options.Addresses() {
		ip, ok := netip.AddrFromSlice(a.IPv6Addr)
		if ok && ip.Is6() && !ip.Is4In6() && !ip.IsMulticast() && !ip.IsUnspecified() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && a.ValidLifetime > 0 {
			return a, nil
		}
	}
	return nil, ErrRefused
}

// lease turns a Reply into a lease, with the times that the server leaves to
// the client (RFC 8415 section 14.2).
func lease(m *dhcpv6.Message, obtained time.Time) (*handoff.Lease6, error) {
	a, err := address(m)
	if err != nil {
		return nil, err
	}
	server, client := m.Options.ServerID(), m.Options.ClientID()
	if server == nil || client == nil {
		return nil, fmt.Errorf("%w: its answer names no server or client", ErrRefused)
	}
	ia := m.Options.OneIANA()
	ip, _ := netip.AddrFromSlice(a.IPv6Addr)
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	l := &handoff.Lease6{
		Address: ip, ServerID: hex.EncodeToString(server.ToBytes()), ClientID: hex.EncodeToString(client.ToBytes()),
		IAID: binary.BigEndian.Uint32(ia.IaId[:]), Obtained: obtained.Unix(),
		Renew: seconds(ia.T1), Rebind: seconds(ia.T2), Expire: max(seconds(a.ValidLifetime), 8),
	}
	preferred := seconds(a.PreferredLifetime)
	if preferred <= 0 || preferred > l.Expire {
		preferred = l.Expire
	}
	if l.Rebind <= 0 || l.Rebind > l.Expire {
		l.Rebind = max(preferred*4/5, 2)
	}
	if l.Renew <= 0 || l.Renew > l.Rebind {
		l.Renew = max(min(preferred/2, l.Rebind), 1)
	}
	return l, nil
}

// Infinite tells whether a lease never ends.
func Infinite(l *handoff.Lease6) bool { return l.Expire >= infinite }
