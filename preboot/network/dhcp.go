package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// A DISCOVER is repeated after 4, 8, 16 and 32 s (RFC 2131 section 4.1): a
// switch with spanning tree forwards nothing for its first 30 s, and some
// servers look for 3 s whether an address is in use before they offer it.
const (
	firstTimeout = 4 * time.Second
	tries        = 4
)

// ErrNoLease is wrapped when no DHCP server gave a lease.
var ErrNoLease = errors.New("no lease")

// clientID identifies a link as firmware and most clients do, so that it
// keeps its address: hardware type 1 and the address (RFC 2132 section 9.14).
func (l link) clientID() []byte { return append([]byte{1}, l.hw...) }

func (l link) modifiers() []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(l.clientID())),
		dhcpv4.WithOption(dhcpv4.OptParameterRequestList(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers,
			dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue,
			dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionDNSDomainSearchList,
		)),
	}
}

// lease asks for a lease: one DISCOVER, OFFER, REQUEST and ACK where nothing
// is lost.
func (l link) lease(ctx context.Context) (*nclient4.Lease, *Config, error) {
	var lease *nclient4.Lease
	err := l.withClient(func(c *nclient4.Client) (err error) {
		lease, err = c.Request(ctx, l.modifiers()...)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if errors.Is(err, nclient4.ErrNoResponse) {
			return nil, nil, fmt.Errorf("%w on %s: no DHCP server answers", ErrNoLease, l.name)
		}
		return nil, nil, fmt.Errorf("%w on %s: %w", ErrNoLease, l.name, err)
	}
	c, err := FromLease(lease.ACK, l.name, l.hw, l.clientID(), lease.CreationTime)
	return lease, c, err
}

// renew asks the server to go on with a lease. What the server leaves out of
// its answer stays as it was.
func (l link) renew(ctx context.Context, old *nclient4.Lease) (*nclient4.Lease, error) {
	var lease *nclient4.Lease
	err := l.withClient(func(c *nclient4.Client) (err error) {
		lease, err = c.Renew(ctx, old, l.modifiers()...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("renew the lease of %s: %w", l.name, err)
	}
	return lease, nil
}

func (l link) withClient(f func(*nclient4.Client) error) error {
	c, err := nclient4.New(l.name, nclient4.WithHWAddr(l.hw), nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(tries))
	if err != nil {
		return fmt.Errorf("open a socket for DHCP: %w", err)
	}
	defer c.Close()
	return f(c)
}
