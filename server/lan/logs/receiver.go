// Package logs receives what machines log by syslog, over UDP (RFC 5426) and
// TCP (RFC 6587), in the forms of RFC 5424 and RFC 3164, and keeps it in a file
// for each client, by its MAC address. No client can fill the disk, crowd out
// another one's log, or take all connections: each has its share.
package logs

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/syslog"
)

// Options of a Receiver. Dir has to be given.
type Options struct {
	Dir      string           // folder of the logs
	UDP, TCP []netip.AddrPort // where messages are taken
	Limits   Limits

	Connections     int           // most at once; 0: 512
	HostConnections int           // most of one address; 0: 8
	Idle            time.Duration // after which a silent connection is closed; 0: 12 h

	Log *slog.Logger // nil: none
}

// flushPause is how long a line waits for being written at most.
const flushPause = 200 * time.Millisecond

// Receiver is a syslog receiver.
type Receiver struct {
	o     Options
	log   *slog.Logger
	names neighbours
	store *store
	udp   []*net.UDPConn
	tcp   []*net.TCPListener

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	hosts map[netip.Addr]int
}

// New returns a receiver that is not open yet.
func New(o Options) *Receiver {
	o.Connections = cmp.Or(o.Connections, 512)
	o.HostConnections = cmp.Or(o.HostConnections, 8)
	o.Idle = cmp.Or(o.Idle, 12*time.Hour)
	r := &Receiver{o: o, log: o.Log, conns: map[net.Conn]struct{}{}, hosts: map[netip.Addr]int{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	return r
}

// Name returns what logs call this service.
func (r *Receiver) Name() string { return "syslog" }

// Open binds the ports, which below 1024 needs CAP_NET_BIND_SERVICE, and makes
// the folder. Nothing later needs a privilege.
func (r *Receiver) Open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.store, err = openStore(r.o.Dir, r.o.Limits, r.log); err != nil {
		return err
	}
	var lc net.ListenConfig
	for _, a := range r.o.UDP {
		c, err := lc.ListenPacket(ctx, "udp", a.String())
		if err != nil {
			return fmt.Errorf("listen for syslog: %w", err)
		}
		u := c.(*net.UDPConn)
		r.udp = append(r.udp, u)
		_ = u.SetReadBuffer(1 << 20) // machines log much in their first second; less will do
	}
	for _, a := range r.o.TCP {
		l, err := lc.Listen(ctx, "tcp", a.String())
		if err != nil {
			return fmt.Errorf("listen for syslog: %w", err)
		}
		r.tcp = append(r.tcp, l.(*net.TCPListener))
	}
	return nil
}

// Addrs returns where UDP and TCP are taken, once the receiver is open.
func (r *Receiver) Addrs() (udp, tcp []netip.AddrPort) {
	for _, c := range r.udp {
		udp = append(udp, c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	for _, l := range r.tcp {
		tcp = append(tcp, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return udp, tcp
}

// Run takes messages until ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(r.udp)+len(r.tcp))
	for _, c := range r.udp {
		wg.Go(func() {
			defer cancel()
			errs <- r.datagrams(ctx, c)
		})
	}
	for _, l := range r.tcp {
		wg.Go(func() {
			defer cancel()
			errs <- r.accept(ctx, l, &wg)
		})
	}
	tick := time.NewTicker(flushPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			r.store.flush()
		case <-ctx.Done():
		}
	}
	for _, c := range r.udp {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
	for _, l := range r.tcp {
		_ = l.SetDeadline(time.Unix(1, 0))
	}
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	wg.Wait()
	r.store.flush()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Close closes the ports and the files.
func (r *Receiver) Close() error {
	var errs []error
	for _, c := range r.udp {
		errs = append(errs, c.Close())
	}
	for _, l := range r.tcp {
		errs = append(errs, l.Close())
	}
	r.udp, r.tcp = nil, nil
	if r.store != nil {
		errs = append(errs, r.store.close())
		r.store = nil
	}
	return errors.Join(errs...)
}

func (r *Receiver) datagrams(ctx context.Context, c *net.UDPConn) error {
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read syslog messages: %w", err)
	}
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("read syslog messages: %w", err)
		case err != nil || n == 0:
			continue
		}
		r.take(from.Addr(), buf[:n])
	}
}

func (r *Receiver) take(from netip.Addr, data []byte) {
	r.store.take(r.names.client(from), data, from.Unmap().String())
}

func (r *Receiver) accept(ctx context.Context, l *net.TCPListener, wg *sync.WaitGroup) error {
	if err := l.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("accept syslog connections: %w", err)
	}
	for {
		c, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept syslog connections: %w", err)
		case err != nil: // out of descriptors, or gone again
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !r.admit(ctx, c, from) {
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer r.leave(c, from)
			if err := r.stream(ctx, c, from); err != nil && ctx.Err() == nil {
				r.log.Debug("syslog connection ended", "client", from.String(), "error", err)
			}
		})
	}
}

// admit makes room for a connection, if there is any.
func (r *Receiver) admit(ctx context.Context, c net.Conn, from netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil || len(r.conns) >= r.o.Connections || r.hosts[from] >= r.o.HostConnections {
		return false
	}
	r.conns[c] = struct{}{}
	r.hosts[from]++
	return true
}

func (r *Receiver) leave(c net.Conn, from netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = c.Close()
	delete(r.conns, c)
	if r.hosts[from]--; r.hosts[from] == 0 {
		delete(r.hosts, from)
	}
}

// stream reads one connection to its end.
func (r *Receiver) stream(ctx context.Context, c net.Conn, from netip.Addr) error {
	in := bufio.NewReaderSize(c, 16<<10)
	buf := make([]byte, 0, syslog.MaxReceived)
	for ctx.Err() == nil {
		if in.Buffered() == 0 {
			if err := c.SetReadDeadline(time.Now().Add(r.o.Idle)); err != nil {
				return err
			}
		}
		m, err := readFrame(in, buf)
		if err != nil {
			return err
		}
		if len(m) > 0 {
			r.take(from, m)
		}
	}
	return nil
}
