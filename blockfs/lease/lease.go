// Package lease keeps a DHCPv4 lease that another program obtained (RFC 2131
// section 4.4.5): at T1 the server is asked by unicast, from T2 on any server
// by broadcast, for as long as the machine runs.
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

// minRetry is how long to wait for an answer before the message is repeated
// (RFC 2131 section 4.4.5: half of the remaining time, at least 60 s).
const minRetry = 60 * time.Second

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
	now := k.Now
	if now == nil {
		now = time.Now
	}
	l := k.Lease
	// The time since the lease was obtained is taken from the clock once. From
	// here on time is monotonic, whatever is done to the clock.
	start := now()
	if age := start.Unix() - l.Obtained; age > 0 && age <= l.Expire {
		start = start.Add(-time.Duration(age) * time.Second)
	} else if age != 0 {
		start = start.Add(-time.Duration(l.Renew) * time.Second) // the clock was set: ask at once
	}
	server := l.Server
	overdue := false
	for {
		t1 := start.Add(time.Duration(l.Renew) * time.Second)
		t2 := start.Add(time.Duration(l.Rebind) * time.Second)
		end := start.Add(time.Duration(l.Expire) * time.Second)
		if err := sleep(ctx, t1.Sub(now())); err != nil {
			return err
		}
		for {
			at := now()
			to, until := server, t2
			if !at.Before(t2) {
				to, until = netip.Addr{}, end
			}
			ack, err := k.renew(ctx, to)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				l, server = k.times(ack, l)
				start = at // when the request was sent, RFC 2131 section 4.4.1
				if overdue {
					k.Logger.Info("the DHCP lease is renewed at last", "address", k.Address, "server", server)
				} else {
					k.Logger.Debug("DHCP lease renewed", "address", k.Address, "server", server)
				}
				overdue = false
				break
			}
			if at = now(); !at.Before(end) && !overdue {
				overdue = true
				k.Logger.Warn("the DHCP lease has expired and could not be renewed: the address stays in use, because the root filesystem needs it",
					"address", k.Address, "error", err)
			}
			if err := sleep(ctx, max(until.Sub(at)/2, minRetry)); err != nil {
				return err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
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
func (k *Keeper) times(ack *dhcpv4.DHCPv4, old handoff.Lease) (handoff.Lease, netip.Addr) {
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
	return l, l.Server
}
