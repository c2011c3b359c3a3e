// Package lease keeps leases that another program obtained, of DHCPv4 (RFC 2131
// section 4.4.5) and DHCPv6 (RFC 8415 section 18.2.4): at T1 the server is asked,
// from T2 on any server, for as long as the machine runs.
//
// Whatever servers answer, the address stays: the root filesystem is reached
// by way of it. A lease that could not be renewed is logged, and asked for
// again.
package lease

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/internal/handoff"
)

// Exchange sends a request, to server or as a broadcast if server is not
// valid, and returns the answer to it. It returns an error after some seconds
// without an answer.
type Exchange func(ctx context.Context, request *dhcpv4.DHCPv4, server netip.Addr) (*dhcpv4.DHCPv4, error)

// Keeper keeps one lease.
type Keeper struct {
	MAC      net.HardwareAddr
	Address  netip.Addr
	Lease    handoff.Lease
	Exchange Exchange
	Logger   *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// New returns the Keeper for a network as it was handed over, or nil if there
// is nothing to keep.
func New(n handoff.Network, exchange Exchange, log *slog.Logger) (*Keeper, error) {
	if n.Lease == nil {
		return nil, nil
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	for _, a := range n.Addresses {
		if a.Addr().Is4() {
			return &Keeper{MAC: mac, Address: a.Addr(), Lease: *n.Lease, Exchange: exchange, Logger: log}, nil
		}
	}
	return nil, errors.New("lease: the network has a DHCPv4 lease but no IPv4 address")
}

// Run renews the lease until ctx ends, and returns ctx's error.
func (k *Keeper) Run(ctx context.Context) error {
	l := k.Lease
	r := rhythm{protocol: "DHCP", address: k.Address, log: k.Logger, now: k.Now}
	return r.run(ctx, times{l.Obtained, l.Renew, l.Rebind, l.Expire}, func(ctx context.Context, rebind bool) (times, error) {
		to := l.Server
		if rebind {
			to = netip.Addr{}
		}
		ack, err := k.renew(ctx, to)
		if err != nil {
			return times{}, err
		}
		l = k.times(ack, l)
		return times{l.Obtained, l.Renew, l.Rebind, l.Expire}, nil
	})
}

// errRefused says that a server answered, but not with this lease.
var errRefused = errors.New("the server does not extend the lease")

func (k *Keeper) renew(ctx context.Context, server netip.Addr) (*dhcpv4.DHCPv4, error) {
	req, err := k.request()
	if err != nil {
		return nil, err
	}
	ack, err := k.Exchange(ctx, req, server)
	if err != nil {
		return nil, err
	}
	switch got, ok := netip.AddrFromSlice(ack.YourIPAddr.To4()); {
	case ack.MessageType() != dhcpv4.MessageTypeAck:
		return nil, fmt.Errorf("%w: it answers %v %s", errRefused, ack.MessageType(), ack.Message())
	case !ok || got != k.Address:
		return nil, fmt.Errorf("%w: it offers %v instead", errRefused, ack.YourIPAddr)
	}
	return ack, nil
}

// request returns the DHCPREQUEST of a client in state RENEWING or REBINDING:
// ciaddr filled in, neither server identifier nor requested address (RFC 2131
// section 4.3.2).
func (k *Keeper) request() (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.New(
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithHwAddr(k.MAC),
		dhcpv4.WithClientIP(k.Address.AsSlice()),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer),
	)
	if err != nil {
		return nil, fmt.Errorf("make a DHCP request: %w", err)
	}
	if k.Lease.ClientID != "" {
		id, err := hex.DecodeString(k.Lease.ClientID)
		if err != nil {
			return nil, fmt.Errorf("client id of the lease: %w", err)
		}
		m.UpdateOption(dhcpv4.OptClientIdentifier(id))
	}
	return m, nil
}

// times returns the lease that an acknowledgement grants.
func (k *Keeper) times(ack *dhcpv4.DHCPv4, old handoff.Lease) handoff.Lease {
	l := old
	if d := ack.IPAddressLeaseTime(0); d >= 2*time.Second {
		l.Expire = int64(d / time.Second)
		// Defaults of RFC 2131 section 4.4.5.
		l.Renew, l.Rebind = l.Expire/2, l.Expire*7/8
		if t2 := int64(ack.IPAddressRebindingTime(0) / time.Second); t2 > 0 && t2 <= l.Expire {
			l.Rebind = t2
		}
		if t1 := int64(ack.IPAddressRenewalTime(0) / time.Second); t1 > 0 && t1 <= l.Rebind {
			l.Renew = t1
		}
		l.Renew = max(min(l.Renew, l.Rebind), 1)
	}
	if s, ok := netip.AddrFromSlice(ack.ServerIdentifier().To4()); ok {
		l.Server = s
	}
	return l
}
