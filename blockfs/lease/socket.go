package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// answerTime is how long to wait for an answer.
const answerTime = 10 * time.Second

// OnLink returns the Exchange of a link that is up and has its address. The
// link is known by its index, because others may rename it.
func OnLink(index int, address netip.Addr) Exchange {
	return func(ctx context.Context, req *dhcpv4.DHCPv4, server netip.Addr) (*dhcpv4.DHCPv4, error) {
		link, err := net.InterfaceByIndex(index)
		if err != nil {
			return nil, fmt.Errorf("DHCP: %w", err)
		}
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) {
				err = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
					unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, link.Name),
				)
			})
			return errors.Join(cerr, err)
		}}
		// A broadcast answer does not reach a socket that is bound to an address.
		conn, err := lc.ListenPacket(ctx, "udp4", "0.0.0.0:68")
		if err != nil {
			return nil, fmt.Errorf("DHCP on %s: %w", link.Name, err)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		to := netip.AddrPortFrom(server, 67)
		if !server.IsValid() {
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 67)
		}
		if _, err := conn.WriteTo(req.ToBytes(), net.UDPAddrFromAddrPort(to)); err != nil {
			return nil, fmt.Errorf("DHCP on %s from %v: %w", link.Name, address, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			return nil, err
		}
		buf := make([]byte, 4096)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return nil, fmt.Errorf("DHCP on %s: no answer from %v: %w", link.Name, to.Addr(), err)
			}
			m, err := dhcpv4.FromBytes(buf[:n])
			if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != req.TransactionID {
				continue
			}
			return m, nil
		}
	}
}
