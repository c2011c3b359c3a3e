// Package tftp serves files by TFTP, read-only: RFC 1350 with the options
// blksize (RFC 2348), timeout and tsize (RFC 2349) and windowsize (RFC 7440),
// and rollover as tftp-hpa has it, in the modes octet and netascii.
//
// Anybody on the network can send requests, from forged addresses, too. So a
// server has a bounded number of transfers, of one client and altogether, each
// with bounded memory, and those whose client never answered go first. Each
// transfer has a port of its own, connected to its client, so that other
// senders' packets do not reach it.
package tftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Port is TFTP's.
const Port = 69

// Options of a Server. FS and Addrs have to be given.
type Options struct {
	// FS is what clients may read. Files are opened by their name in it, which
	// is all that a client can say, so its bounds are the client's.
	FS fs.FS
	// Addrs are where requests are taken. From an unspecified address answers
	// leave with the address that the client asked.
	Addrs []netip.AddrPort
	// Interface restricts requests to those that come in by this one; "": any.
	Interface string

	Sessions     int           // most transfers at once; 0: 512
	HostSessions int           // most of one client address; 0: 64
	Patience     time.Duration // how long a client may be silent; 0: 30 s

	Log *slog.Logger // nil: none
}

// Server is a TFTP server.
type Server struct {
	o        Options
	sessions *sessions
	log      *slog.Logger

	listeners []*listener
	quick     chan struct{} // as many as there are quickSockets
	looking   atomic.Bool   // one of these looks for a packet

	refused atomic.Int64 // requests for which there was no room, not yet logged
	logged  atomic.Int64 // when that was logged, as Unix time
}

// listener is a socket for requests.
type listener struct {
	conn *net.UDPConn
	addr netip.Addr
	v4   *ipv4.PacketConn // of an unspecified address
	v6   *ipv6.PacketConn // likewise
}

// New returns a server that is not open yet.
func New(o Options) *Server {
	o.Sessions = cmp.Or(o.Sessions, 512)
	o.HostSessions = cmp.Or(o.HostSessions, 64)
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	s := &Server{o: o, sessions: newSessions(o.Sessions, o.HostSessions), quick: make(chan struct{}, maxQuick), log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Name returns what logs call this service.
func (s *Server) Name() string { return "TFTP" }

// Open binds the ports of requests, which below 1024 needs CAP_NET_BIND_SERVICE.
// Nothing later needs any privilege.
func (s *Server) Open(ctx context.Context) error {
	for _, a := range s.o.Addrs {
		l, err := listen(ctx, a, s.o.Interface)
		if err != nil {
			return errors.Join(fmt.Errorf("listen for TFTP on %v: %w", a, err), s.Close())
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

func listen(ctx context.Context, a netip.AddrPort, device string) (*listener, error) {
	network := "udp6"
	if a.Addr().Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if device == "" {
			return nil
		}
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); cerr != nil {
			return cerr
		}
		if err != nil {
			return fmt.Errorf("bind to the interface %s: %w", device, err)
		}
		return nil
	}}
	pc, err := lc.ListenPacket(ctx, network, a.String())
	if err != nil {
		return nil, err
	}
	l := &listener{conn: pc.(*net.UDPConn), addr: a.Addr()}
	if a.Addr().IsUnspecified() {
		if a.Addr().Is4() {
			l.v4 = ipv4.NewPacketConn(l.conn)
			err = l.v4.SetControlMessage(ipv4.FlagDst, true)
		} else {
			l.v6 = ipv6.NewPacketConn(l.conn)
			err = l.v6.SetControlMessage(ipv6.FlagDst, true)
		}
		if err != nil {
			return nil, errors.Join(err, l.conn.Close())
		}
	}
	return l, nil
}

// Addrs returns where the server listens, once it is open.
func (s *Server) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range s.listeners {
		out = append(out, l.conn.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	return out
}

// Run serves until ctx ends; then transfers are cut off.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.sessions.open()
	var wg sync.WaitGroup
	errs := make([]error, len(s.listeners))
	for i, l := range s.listeners {
		wg.Go(func() {
			defer cancel()
			if errs[i] = l.conn.SetReadDeadline(time.Time{}); errs[i] == nil {
				errs[i] = s.take(ctx, l)
			}
		})
	}
	<-ctx.Done()
	for _, l := range s.listeners {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
	wg.Wait()
	s.sessions.close()
	return errors.Join(errs...)
}

// Close closes the ports of requests.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.conn.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// take reads requests.
func (s *Server) take(ctx context.Context, l *listener) error {
	buf := make([]byte, maxRequest+1)
	for {
		n, local, peer, err := l.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("read TFTP requests: %w", err)
		case err != nil: // of one packet, such as an ICMP error of an earlier one
			s.log.Debug("tftp request not read", "error", err)
			continue
		}
		if peer.Port() == 0 || peer.Addr().IsMulticast() {
			continue
		}
		s.request(ctx, local, peer, buf[:n])
	}
}

// read reads one datagram, and which of this machine's addresses it was for.
func (l *listener) read(buf []byte) (n int, local netip.Addr, peer netip.AddrPort, err error) {
	var from net.Addr
	local = l.addr
	switch {
	case l.v4 != nil:
		var cm *ipv4.ControlMessage
		if n, cm, from, err = l.v4.ReadFrom(buf); cm != nil {
			local, _ = netip.AddrFromSlice(cm.Dst)
		}
	case l.v6 != nil:
		var cm *ipv6.ControlMessage
		if n, cm, from, err = l.v6.ReadFrom(buf); cm != nil {
			local, _ = netip.AddrFromSlice(cm.Dst)
		}
	default:
		n, peer, err = l.conn.ReadFromUDPAddrPort(buf)
		return n, local, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), err
	}
	if err != nil {
		return 0, local, peer, err
	}
	peer = from.(*net.UDPAddr).AddrPort()
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	// What came by broadcast is answered from the address that the route has.
	if local = local.Unmap(); local.Is4() && !isOwn(local) || local.IsMulticast() {
		local = netip.Addr{}
	}
	if local.IsLinkLocalUnicast() && local.Is6() {
		local = local.WithZone(peer.Addr().Zone())
	}
	return n, local, peer, nil
}

// isOwn tells whether an IPv4 address can be one of a host, not of all.
func isOwn(a netip.Addr) bool {
	return a.IsValid() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// request starts a transfer, if there is room for it.
func (s *Server) request(ctx context.Context, local netip.Addr, peer netip.AddrPort, data []byte) {
	r, err := parseRequest(data)
	if errors.Is(err, errIgnore) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	session, v := s.sessions.admit(peer, data, cancel)
	if v != admitted {
		cancel()
		if v == hostBusy || v == allBusy {
			s.busy(peer, v)
		}
		return
	}
	go func() {
		defer s.sessions.finished(session)
		defer cancel()
		s.serve(ctx, local, peer, session, r, err)
	}()
}

// busy logs that there is no room, at most every ten seconds.
func (s *Server) busy(peer netip.AddrPort, v verdict) {
	s.refused.Add(1)
	now, before := time.Now().Unix(), s.logged.Load()
	if now-before < 10 || !s.logged.CompareAndSwap(before, now) {
		return
	}
	s.log.Warn("too many transfers by TFTP", "requests_dropped", s.refused.Swap(0), "client", peer.Addr().String(), "of_this_client", v == hostBusy)
}

// serve answers one request; problem is what is wrong with it.
func (s *Server) serve(ctx context.Context, local netip.Addr, peer netip.AddrPort, session *session, r *request, problem error) {
	log := s.log.With("client", peer.Addr().String())
	conn, err := s.dial(local, peer)
	if err != nil {
		log.Warn("tftp", "error", err)
		return
	}
	defer conn.Close()
	refuse := func(err error) {
		var no *refusal
		if !errors.As(err, &no) {
			no = &refusal{codeUndefined, "the file cannot be read"}
		}
		_, _ = conn.Write(errorPacket(no))
	}
	if problem != nil {
		log.Debug("tftp request refused", "error", problem)
		refuse(problem)
		return
	}
	log = log.With("file", r.name)
	file, size, err := open(s.o.FS, r.name)
	if err != nil {
		log.Debug("tftp request refused", "error", err) // pxelinux asks for a dozen names
		refuse(err)
		return
	}
	defer file.Close()
	t := transfer{conn: conn, file: file, patience: s.o.Patience, answered: func() { s.sessions.answered(session) }}
	if r.ascii {
		t.file, size = &netascii{r: file}, -1 // how long it becomes is seen at its end
	}
	t.terms = negotiate(r.options, size)
	if q, ok := conn.(*quickSocket); ok && t.window > 1 {
		q.look.turn = nil // a window is under way while the thread wakes up
	}
	began := time.Now()
	err = t.run(ctx)
	log = log.With("bytes", t.total, "seconds", time.Since(began).Seconds(), "blksize", t.block, "windowsize", t.window, "repeated", t.again)
	var told *refusal
	switch {
	case err == nil:
		log.Info("tftp")
	case errors.As(err, &told):
		// Firmware asks for the size first, and then says that it has enough.
		log.Debug("tftp transfer ended by the client", "answer", told.String())
	case errors.Is(err, errSilent) && t.final > 0 && t.base >= t.final-int64(t.window):
		log.Info("tftp", "last_acknowledgement", "missing")
	case ctx.Err() != nil:
		log.Debug("tftp transfer cut off")
	case errors.Is(err, syscall.ECONNREFUSED):
		log.Debug("tftp client is gone")
	default:
		log.Info("tftp transfer failed", "error", err)
		if !errors.Is(err, errSilent) {
			refuse(err)
		}
	}
}

// dial opens a transfer's own socket.
func (s *Server) dial(local netip.Addr, peer netip.AddrPort) (socket, error) {
	if peer.Addr().Is4() && (!local.IsValid() || local.Is4()) {
		select {
		case s.quick <- struct{}{}:
			conn, err := dialQuick(local, peer, &s.looking, func() { <-s.quick })
			if err == nil {
				return conn, nil
			}
			return nil, fmt.Errorf("open a port for a transfer: %w", err)
		default:
		}
	}
	return dial(local, peer)
}

// dial opens a socket of the runtime's poller, which costs no thread.
func dial(local netip.Addr, peer netip.AddrPort) (socket, error) {
	var from *net.UDPAddr
	if local.IsValid() && !local.IsUnspecified() {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return nil, fmt.Errorf("open a port for a transfer: %w", err)
	}
	if peer.Addr().Is4() {
		// Large blocks may be fragmented on the way: firmware behind a router that
		// filters ICMP would never get one.
		raw, err := conn.SyscallConn()
		if err == nil {
			cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			})
			err = errors.Join(err, cerr)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("allow fragments: %w", err), conn.Close())
		}
	}
	return conn, nil
}

// open opens a regular file and says how many bytes it has.
func open(fsys fs.FS, name string) (io.ReadCloser, int64, error) {
	f, err := fsys.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return nil, 0, &refusal{codeNotFound, "no such file"}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid):
		return nil, 0, &refusal{codeAccess, "this file is not for clients"}
	case err != nil:
		return nil, 0, fmt.Errorf("open: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open: %w", err), f.Close())
	}
	if !fi.Mode().IsRegular() {
		_ = f.Close()
		return nil, 0, &refusal{codeNotFound, "not a file"}
	}
	return f, fi.Size(), nil
}
