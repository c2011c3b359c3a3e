package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/inetboot/inetboot/internal/nicdriver"
	"github.com/inetboot/inetboot/preboot/system"
)

// errDriver is wrapped when an image is not started because it would lose the
// network.
var errDriver = errors.New("the image's kernel has no driver for this machine's network adapter")

const driverAdvice = "it will not reach its store, unless the cache has all of it; use another adapter, or an image with a kernel that has the driver"

// confirmDriver asks before an image is started whose kernel lacks the driver
// of the link that this machine is connected over. It returns an error that
// wraps errDriver if the image is not to be started.
func (s *session) confirmDriver(ctx context.Context, p *plan) error {
	man := p.img.Manifest()
	c := s.net.Config()
	if p.offline || c == nil {
		return nil
	}
	driver := system.Driver(c.Device)
	if !slices.ContainsFunc(man.MissingDrivers, func(d string) bool { return nicdriver.Same(d, driver) }) {
		return nil
	}
	text := fmt.Sprintf("kernel %s of %s %s has no driver %s, which %s needs: %s", man.Kernel.Release, man.Name, man.Version, driver, c.Device, driverAdvice)
	return s.allTheSame(ctx, "no driver for the network", text, fmt.Errorf("%w: %s", errDriver, driver))
}
