package lease

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/inetboot/inetboot/internal/dhcp6"
	"github.com/inetboot/inetboot/internal/handoff"
)

// Renew6 asks the server of a DHCPv6 lease, or with rebind any server, to go on
// with it.
type Renew6 func(ctx context.Context, l handoff.Lease6, rebind bool) (*handoff.Lease6, error)

// Keeper6 keeps one DHCPv6 lease.
type Keeper6 struct {
	Lease  handoff.Lease6
	Renew  Renew6
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Renew6OnLink returns the Renew6 of a link that is up. The link is known by
// its index, because others may rename it.
func Renew6OnLink(index int) Renew6 {
	return func(ctx context.Context, l handoff.Lease6, rebind bool) (*handoff.Lease6, error) {
		link, err := net.InterfaceByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("DHCPv6: %w", err)
		}
		return dhcp6.Client{Link: link.Name, MAC: link.HardwareAddr}.Renew(ctx, l, rebind)
	}
}

// Run renews the lease until ctx ends, and returns ctx's error.
func (k *Keeper6) Run(ctx context.Context) error {
	l := k.Lease
	r := rhythm{protocol: "DHCPv6", address: l.Address, log: k.Logger, now: k.Now}
	return r.run(ctx, times{l.Obtained, l.Renew, l.Rebind, l.Expire}, func(ctx context.Context, rebind bool) (times, error) {
		next, err := k.Renew(ctx, l, rebind)
		if err != nil {
			return times{}, err
		}
		l = *next
		return times{l.Obtained, l.Renew, l.Rebind, l.Expire}, nil
	})
}
