package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/linkdump"
)

// ErrNoRouter is wrapped when no router has advertised IPv6 on a link.
var ErrNoRouter = errors.New("no router advertises IPv6")

// ErrNoIPv6 is wrapped when the kernel has no IPv6.
var ErrNoIPv6 = errors.New("this kernel has no IPv6")

// routerPatience is how long a router may take where it is known that the link
// carries packets: it has to answer within 0.5 s (RFC 4861 section 10), and
// what is lost is sent again once.
const routerPatience = 5 * time.Second

// icmpFilter lets advertisements through alone (RFC 3542 section 3.2): bits
// that are set block a type.
func icmpFilter() []byte {
	f := make([]byte, 32)
	for i := range f {
		f[i] = 0xff
	}
	// Words of 32 bits in the machine's order; all that InetBoot runs on are
	// little-endian.
	f[typeAdvert/8] &^= 1 << (typeAdvert % 8)
	return f
}

// takeOver keeps the kernel from answering router advertisements itself: what
// they say is for the handoff, too. A kernel without IPv6 has no such file.
func (l link) takeOver() error {
	for _, name := range []string{"accept_ra", "autoconf"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+l.name+"/"+name, []byte("0"), 0o644)
		if errors.Is(err, os.ErrNotExist) {
			return ErrNoIPv6
		}
		if err != nil {
			return fmt.Errorf("IPv6 on %s: %w", l.name, err)
		}
	}
	return nil
}

// linkLocal waits for the link's own address, until it is known that nobody
// else on the link has it (RFC 4862 section 5.4).
func (l link) linkLocal(ctx context.Context) (netip.Addr, error) {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		addrs, err := linkdump.Addrs(l.handle(), netlink.FAMILY_V6)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list the addresses of %s: %w", l.name, err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok || !ip.IsLinkLocalUnicast() {
				continue
			}
			if a.Flags&unix.IFA_F_DADFAILED != 0 {
				return netip.Addr{}, fmt.Errorf("IPv6 on %s: another machine has its address %v", l.name, ip)
			}
			if a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return ip, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		}
	}
}

// solicit asks for a router and returns the first advertisement that is
// usable. It asks again in the rhythm of DHCP; when hurry is closed, the link is known
// to carry packets.
func (l link) solicit(ctx context.Context, hurry <-chan struct{}) (*advert, error) {
	if _, err := l.linkLocal(ctx); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, l.name),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
				unix.SetsockoptString(int(fd), unix.IPPROTO_ICMPV6, 1 /* ICMPV6_FILTER */, string(icmpFilter())),
				// The kernel takes part in this group by itself only as long as
				// it listens for routers.
				unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: allNodes.As16(), Interface: uint32(l.index)}),
			)
		})
		return errors.Join(cerr, err)
	}}
	pc, err := lc.ListenPacket(ctx, "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("look for a router on %s: %w", l.name, err)
	}
	conn, ok := pc.(*net.IPConn)
	if !ok {
		return nil, errors.Join(pc.Close(), fmt.Errorf("look for a router on %s: no raw socket", l.name))
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	adverts := make(chan *advert)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			a, err := readAdvert(conn)
			if err != nil {
				return // closed
			}
			if a == nil || !a.usable() {
				continue
			}
			select {
			case adverts <- a:
			case <-ended:
				return
			}
		}
	}()
	pauses := patience
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case a := <-adverts:
			return a, nil
		case <-hurry:
			hurry = nil
			pauses = []time.Duration{routerPatience / 2, routerPatience / 2}
			again.Reset(0)
		case <-again.C:
			if len(pauses) == 0 {
				return nil, fmt.Errorf("%w on %s", ErrNoRouter, l.name)
			}
			if err := l.askRouters(conn); err != nil {
				return nil, err
			}
			again.Reset(pauses[0])
			pauses = pauses[1:]
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// askRouters sends a router solicitation with the link's address (RFC 4861
// section 4.1).
func (l link) askRouters(conn *net.IPConn) error {
	m := append([]byte{typeSolicit, 0, 0, 0, 0, 0, 0, 0, 1, 1}, l.hw...)
	if _, err := conn.WriteTo(m, &net.IPAddr{IP: allRouters.AsSlice(), Zone: l.name}); err != nil {
		return fmt.Errorf("look for a router on %s: %w", l.name, err)
	}
	return nil
}

// readAdvert reads one message: nil if it is none of use, an error if the
// socket is closed.
func readAdvert(conn *net.IPConn) (*advert, error) {
	buf, oob := make([]byte, 4096), make([]byte, 128)
	n, o, flags, from, err := conn.ReadMsgIP(buf, oob)
	if err != nil {
		return nil, err
	}
	// Whoever is not on the link cannot send with 255 hops left (RFC 4861
	// section 6.1.2).
	if hops, ok := hopLimit(oob[:o]); flags&unix.MSG_TRUNC != 0 || !ok || hops != 255 || from == nil {
		return nil, nil
	}
	ip, ok := netip.AddrFromSlice(from.IP)
	if !ok {
		return nil, nil
	}
	a, err := parseAdvert(buf[:n], ip)
	if err != nil {
		return nil, nil // somebody else's mistake; another may come
	}
	return a, nil
}

func hopLimit(oob []byte) (int, bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(m.Data[0]), m.Data[1] == 0 && m.Data[2] == 0 && m.Data[3] == 0
		}
	}
	return 0, false
}
