// Package linkdump lists the kernel's links, addresses and routes whole, while
// they change.
package linkdump

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// tries is how often a list is asked for. A change of the network makes one
// attempt void; the pauses together last longer than any series of changes that
// a link's start brings.
const (
	tries = 20
	pause = 5 * time.Millisecond
)

// Links returns all links.
func Links() ([]netlink.Link, error) { return whole(netlink.LinkList) }

// Addrs returns the addresses of a link, or with nil of all, of one family or
// netlink.FAMILY_ALL.
func Addrs(l netlink.Link, family int) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
}

// Routes returns the routes by a link, or with nil by all, of one family or
// netlink.FAMILY_ALL.
func Routes(l netlink.Link, family int) ([]netlink.Route, error) {
	return whole(func() ([]netlink.Route, error) { return netlink.RouteList(l, family) })
}

// whole asks again when something changed while the kernel was telling
// (NLM_F_DUMP_INTR): what came then may lack things that were there all the time.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for n := 1; ; n++ {
		all, err := list()
		switch {
		case err == nil:
			return all, nil
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return nil, err
		case n == tries:
			return nil, fmt.Errorf("the network did not stand still in %d attempts: %w", tries, err)
		}
		time.Sleep(pause)
	}
}
