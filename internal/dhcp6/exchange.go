package dhcp6

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"
)

// A message is sent again after 1, 2, 4 and 4 s (RFC 8415 section 15, with a
// shorter end: somebody is waiting).
var waits = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second}

const (
	clientPort = 546
	serverPort = 547
	maxMessage = 4096 // bytes; longer ones are cut, and then malformed
)

// allServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415 section 7.1).
var allServers = netip.MustParseAddr("ff02::1:2")

// exchange sends a message to all servers, again and again, until an answer to
// it is accepted.
func (c Client) exchange(ctx context.Context, m *dhcpv6.Message, accept func(*dhcpv6.Message) bool) (*dhcpv6.Message, error) {
	local, err := c.linkLocal()
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := lc.ListenPacket(ctx, "udp6", netip.AddrPortFrom(local.WithZone(c.Link), clientPort).String())
	if err != nil {
		return nil, fmt.Errorf("open a socket for DHCPv6: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(allServers.WithZone(c.Link), serverPort))
	buf := make([]byte, maxMessage)
	for _, wait := range waits {
		if _, err := conn.WriteTo(m.ToBytes(), to); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("DHCPv6 on %s: %w", c.Link, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, err
		}
		for {
			n, _, err := conn.ReadFrom(buf)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					break // and send again
				}
				return nil, fmt.Errorf("DHCPv6 on %s: %w", c.Link, err)
			}
			got, err := dhcpv6.MessageFromBytes(slices.Clone(buf[:n]))
			if err == nil && got.TransactionID == m.TransactionID && accept(got) {
				return got, nil
			}
		}
	}
	return nil, fmt.Errorf("%w on %s", ErrNoAnswer, c.Link)
}

func (c Client) linkLocal() (netip.Addr, error) {
	link, err := net.InterfaceByName(c.Link)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("DHCPv6: %w", err)
	}
	addrs, err := link.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("DHCPv6 on %s: %w", c.Link, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Is6() && !ip.Is4In6() && ip.IsLinkLocalUnicast() {
				return ip, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("DHCPv6 on %s: it has no link-local address", c.Link)
}
