package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// DefaultProbe is how long an address is listened for before it is offered.
const DefaultProbe = 500 * time.Millisecond

// prober asks whether somebody uses an address: by ARP in the interface's own
// subnet (RFC 5227, 2.1.1), by ICMP echo beyond it.
type prober struct {
	ifi    *net.Interface
	subnet netip.Prefix
	wait   time.Duration
	arp    *os.File // packet socket
	echo   *icmp.PacketConn

	mu      sync.Mutex
	waiting map[netip.Addr]chan net.HardwareAddr // who waits; nil addresses come from echoes
}

// openProber needs CAP_NET_RAW, which is not needed later.
func openProber(ifi *net.Interface, subnet netip.Prefix, wait time.Duration) (*prober, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(bigEndian(unix.ETH_P_ARP)))
	if err != nil {
		return nil, fmt.Errorf("open a socket for ARP: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: ifi.Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind a socket for ARP to %s: %w", ifi.Name, err), unix.Close(fd))
	}
	p := &prober{ifi: ifi, subnet: subnet.Masked(), wait: wait, arp: os.NewFile(uintptr(fd), "arp"), waiting: map[netip.Addr]chan net.HardwareAddr{}}
	if p.echo, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket for ICMP: %w", err), p.arp.Close())
	}
	return p, nil
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

func (p *prober) close() error { return errors.Join(p.arp.Close(), p.echo.Close()) }

// run takes answers until the sockets are closed.
func (p *prober) run() {
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1500)
		for {
			n, err := p.arp.Read(b)
			if err != nil {
				if errors.Is(err, unix.ENETDOWN) {
					continue // told once for each time that the link goes down
				}
				return
			}
			if mac, addr, ok := parseARP(b[:n]); ok {
				p.found(addr, mac)
			}
		}
	})
	wg.Go(func() {
		b := make([]byte, 1500)
		for {
			n, from, err := p.echo.ReadFrom(b)
			if err != nil {
				return
			}
			m, err := icmp.ParseMessage(1, b[:n])
			if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
				continue
			}
			if ip, ok := from.(*net.IPAddr); ok {
				if a, ok := netip.AddrFromSlice(ip.IP.To4()); ok {
					p.found(a, nil)
				}
			}
		}
	})
	wg.Wait()
}

// parseARP returns the sender of an ARP packet for IPv4 over Ethernet.
func parseARP(b []byte) (net.HardwareAddr, netip.Addr, bool) {
	if len(b) < 28 || binary.BigEndian.Uint16(b) != 1 || binary.BigEndian.Uint16(b[2:]) != 0x0800 || b[4] != 6 || b[5] != 4 {
		return nil, netip.Addr{}, false
	}
	return net.HardwareAddr(append([]byte(nil), b[8:14]...)), netip.AddrFrom4([4]byte(b[14:18])), true
}

func (p *prober) found(a netip.Addr, mac net.HardwareAddr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.waiting[a]; ch != nil {
		select {
		case ch <- mac:
		default:
		}
	}
}

// probe tells whether another machine than mac uses the address.
func (p *prober) probe(ctx context.Context, a netip.Addr, mac string) bool {
	ch := make(chan net.HardwareAddr, 4)
	p.mu.Lock()
	if p.waiting[a] != nil {
		p.mu.Unlock()
		return false // the client asked twice; its first request waits for the answer
	}
	p.waiting[a] = ch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, a)
		p.mu.Unlock()
	}()
	end := time.NewTimer(p.wait)
	defer end.Stop()
	again := time.NewTicker(max(p.wait/2, time.Millisecond)) // a packet may get lost
	defer again.Stop()
	p.ask(a)
	for {
		select {
		case who := <-ch:
			if who.String() != mac {
				return true
			}
		case <-again.C:
			p.ask(a)
		case <-end.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// ask sends a probe. What cannot be sent finds nobody.
func (p *prober) ask(a netip.Addr) {
	if !p.subnet.Contains(a) {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("is it free?")}}
		if b, err := m.Marshal(nil); err == nil {
			_, _ = p.echo.WriteTo(b, &net.IPAddr{IP: a.AsSlice()})
		}
		return
	}
	b := make([]byte, 28)
	copy(b, []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[8:], p.ifi.HardwareAddr)
	copy(b[24:], a.AsSlice())
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: p.ifi.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	c, err := p.arp.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Write(func(fd uintptr) bool {
		return !errors.Is(unix.Sendto(int(fd), b, 0, to), unix.EAGAIN)
	})
}
