package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of DHCP (RFC 2131, 4.1) and of boot servers (PXE specification, 2.2.3).
const (
	ServerPort = 67
	ClientPort = 68
	PXEPort    = 4011
)

// ServiceOptions are what a Service is made of.
type ServiceOptions struct {
	Config
	Interface string
	Port      int           // of the server; 0 is 67. Clients are answered at the next one
	PXEPort   int           // of boot servers, for a proxy; 0 is 4011
	Wait      time.Duration // of a probe, with full DHCP; 0: addresses are not probed
}

// Service is DHCP on one interface.
type Service struct {
	o      ServiceOptions
	log    *slog.Logger
	probe  *prober
	engine *Engine
	conn   *net.UDPConn
	pxe    *net.UDPConn // nil with full DHCP
}

// NewService checks the options. Its sockets are opened by Open.
func NewService(o ServiceOptions) (*Service, error) {
	if o.Port == 0 {
		o.Port = ServerPort
	}
	if o.PXEPort == 0 {
		o.PXEPort = PXEPort
	}
	if o.Port < 1 || o.Port > 65534 || o.PXEPort < 1 || o.PXEPort > 65535 {
		return nil, fmt.Errorf("DHCP ports %d and %d: want from 1 to 65534", o.Port, o.PXEPort)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{o: o, log: o.Log}
	if o.Mode == Full && o.Wait > 0 {
		s.o.Probe = func(ctx context.Context, a netip.Addr, mac string) bool { return s.probe.probe(ctx, a, mac) }
	}
	var err error
	s.engine, err = New(s.o.Config)
	return s, err
}

// Name implements lan.Service.
func (s *Service) Name() string { return "DHCP" }

// Open implements lan.Service: it binds the ports to the interface, and reads
// the leases.
func (s *Service) Open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	ifi, err := net.InterfaceByName(s.o.Interface)
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", s.o.Interface, err)
	}
	if s.o.Probe != nil {
		if s.probe, err = openProber(ifi, s.o.Subnet, s.o.Wait); err != nil {
			return err
		}
	}
	if s.conn, err = listen(ctx, ifi.Name, s.o.Port); err != nil {
		return err
	}
	if s.o.Mode == Proxy {
		if s.pxe, err = listen(ctx, ifi.Name, s.o.PXEPort); err != nil {
			return err
		}
	}
	return s.engine.Load(ctx)
}

// listen binds a port on all addresses of one interface, so that broadcasts
// come in, and other servers on other interfaces are not disturbed.
func listen(ctx context.Context, ifname string, port int) (*net.UDPConn, error) {
	c := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.BindToDevice(int(fd), ifname))
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	p, err := c.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s, port %d: %w", ifname, port, err)
	}
	conn := p.(*net.UDPConn)
	// Many machines start at once when the power comes back. The kernel may allow
	// less, which is no error.
	_ = conn.SetReadBuffer(4 << 20)
	return conn, nil
}

// Run implements lan.Service.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	serve := func(c *net.UDPConn, pxe bool) {
		// An earlier Run left it so.
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			errs <- err
			return
		}
		wg.Go(func() {
			if err := s.serve(ctx, c, pxe); err != nil && ctx.Err() == nil {
				errs <- err
			}
		})
	}
	wg.Go(func() { s.engine.Run(ctx) })
	if s.probe != nil {
		go s.probe.run() // until Close
	}
	serve(s.conn, false)
	if s.pxe != nil {
		serve(s.pxe, true)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	cancel()
	for _, c := range []*net.UDPConn{s.conn, s.pxe} {
		if c != nil {
			err = errors.Join(err, c.SetReadDeadline(time.Unix(1, 0)))
		}
	}
	wg.Wait()
	return err
}

// Close implements lan.Service.
func (s *Service) Close() error {
	var errs []error
	for _, c := range []*net.UDPConn{s.conn, s.pxe} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if s.probe != nil {
		errs = append(errs, s.probe.close())
	}
	s.conn, s.pxe, s.probe = nil, nil, nil
	return errors.Join(errs...)
}

func (s *Service) serve(ctx context.Context, c *net.UDPConn, pxe bool) error {
	b := make([]byte, maxPacket+1)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.log.Debug("a DHCP packet cannot be received", "error", err)
			continue
		}
		r, err := Parse(b[:n])
		if err != nil {
			s.log.Debug("a DHCP packet is not understood", "from", from.String(), "error", err)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		s.engine.Handle(ctx, r, pxe, func(answer []byte) {
			to := s.target(r, from, pxe, answer)
			if _, err := c.WriteToUDPAddrPort(answer, to); err != nil {
				s.log.Warn("a DHCP answer cannot be sent", "to", to.String(), "mac", r.MAC, "error", err)
			}
		})
	}
}

// target says where an answer goes (RFC 2131, 4.1): to the relay, to the
// address that the client has, or to everybody.
func (s *Service) target(r *Request, from netip.AddrPort, pxe bool, answer []byte) netip.AddrPort {
	everybody := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), uint16(s.o.Port+1))
	switch {
	case r.Relay.IsValid():
		return netip.AddrPortFrom(r.Relay, uint16(s.o.Port))
	case pxe && !from.Addr().IsUnspecified():
		return from
	case isNAK(answer):
		return everybody
	case r.Address.IsValid():
		return netip.AddrPortFrom(r.Address, uint16(s.o.Port+1))
	}
	return everybody
}

// isNAK looks at an answer of ours: the message type is its first option.
func isNAK(b []byte) bool {
	const options = 240
	for o := options; o+2 < len(b) && b[o] != 255; o += 2 + int(b[o+1]) {
		if b[o] == 53 {
			return b[o+2] == 6
		}
	}
	return false
}
